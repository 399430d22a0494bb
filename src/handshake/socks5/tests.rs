use proptest::prelude::*;

use super::*;
use crate::core::code::Code;

#[test]
fn a_greeting_lists_methods() {
    let (read, taken) = greeting(b"\x05\x02\x00\x02rest").unwrap().unwrap();
    assert_eq!(taken, 4);
    assert!(read.offers(Method::None) && read.offers(Method::Login) && !read.offers(Method::Nothing));
    let (none, taken) = greeting(b"\x05\x00").unwrap().unwrap();
    assert!(taken == 2 && !none.offers(Method::None));
    for part in [&b""[..], b"\x05", b"\x05\x02", b"\x05\x02\x00"] {
        assert_eq!(greeting(part), Ok(None), "{part:?}");
    }
    for wrong in [&b"\x04\x01"[..], b"G", b"\x16\x03\x01"] {
        assert_eq!(greeting(wrong), Err(Misfit::Version), "{wrong:?}");
    }
    assert_eq!((chosen(Method::Login), chosen(Method::Nothing)), ([5, 2], [5, 255]));
}

#[test]
fn a_login_has_a_name_and_a_secret() {
    let read =
        |bytes| login(bytes).map(|read| read.map(|(login, taken)| (login.username, login.password, taken)));
    assert_eq!(read(b"\x01\x03abc\x02xyz"), Ok(Some((&b"abc"[..], &b"xy"[..], 8))));
    assert_eq!(read(b"\x01\x00\x00"), Ok(Some((&b""[..], &b""[..], 3))));
    let long = [&[1, 255][..], &[b'u'; 255], &[255], &[b'p'; 255]].concat();
    assert_eq!(read(&long), Ok(Some((&[b'u'; 255][..], &[b'p'; 255][..], 513))));
    assert_eq!(read(&long[..512]), Ok(None));
    assert_eq!(read(b"\x05\x01a\x01b"), Err(Misfit::Version));
    assert_eq!((judged(true), judged(false)), ([1, 0], [1, 1]));
}

#[test]
fn a_request_names_a_target() {
    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let (request, taken) = request(bytes).unwrap().unwrap();
        assert!(request.connect);
        assert_eq!((request.target.unwrap().to_string(), taken), (expected.to_owned(), bytes.len()));
        assert_eq!(super::request(&bytes[..bytes.len() - 1]), Ok(None));
    }
    check(b"\x05\x01\x00\x01\xcb\x00\x71\x07\x01\xbb", "203.0.113.7:443");
    check(b"\x05\x01\x00\x03\x0bExample.COM\x00\x50", "example.com:80");
    check(b"\x05\x01\x00\x03\x07\x31.2.3.4\x00\x50", "1.2.3.4:80");
    check(b"\x05\x01\x00\x03\x03::1\x00\x50", "[::1]:80");
    let mut six = b"\x05\x01\xff\x04".to_vec();
    six.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1f, 0x90]);
    check(&six, "[2001:db8::1]:8080");
}

#[test]
fn what_is_no_target_is_told_as_such() {
    #[track_caller]
    fn check(bytes: &[u8]) {
        let (request, taken) = request(bytes).unwrap().unwrap();
        assert_eq!((request.target.unwrap_err().code(), taken), (Code::BadTarget, bytes.len()));
    }
    check(b"\x05\x01\x00\x01\xcb\x00\x71\x07\x00\x00");
    check(b"\x05\x01\x00\x03\x00\x00\x50");
    check(b"\x05\x01\x00\x03\x05127.1\x00\x50");
    check(b"\x05\x01\x00\x03\x03a\xffb\x00\x50");
    check(b"\x05\x01\x00\x03\x03a@b\x00\x50");
    check(b"\x05\x01\x00\x03\x08a\r\nHost:\x00\x50");
}

#[test]
fn other_commands_and_types_are_told_apart() {
    for command in [0, 2, 3, 9] {
        let (request, _) = request(&[5, command, 0, 1, 1, 2, 3, 4, 0, 80]).unwrap().unwrap();
        assert!(!request.connect);
    }
    for kind in [0, 2, 5, 255] {
        assert_eq!(request(&[5, 1, 0, kind]), Err(Misfit::AddressType));
    }
    assert_eq!(request(&[4, 1, 0, 1]), Err(Misfit::Version));
    assert_eq!(replied(reply::COMMAND), [5, 7, 0, 1, 0, 0, 0, 0, 0, 0]);
}

proptest! {
    /// However the bytes are cut, the same is read of them.
    #[test]
    fn a_part_is_never_read_as_a_whole(bytes in proptest::collection::vec(any::<u8>(), 0..64), version in 0u8..6) {
        let bytes = [&[version][..], &bytes].concat();
        prop_assert!(holds(&bytes, |bytes| greeting(bytes).map(|read| read.map(|(_, taken)| taken))));
        prop_assert!(holds(&bytes, |bytes| login(bytes).map(|read| read.map(|(_, taken)| taken))));
        prop_assert!(holds(&bytes, |bytes| request(bytes).map(|read| read.map(|(_, taken)| taken))));
    }
}

/// What is whole is whole at exactly its length, and before that unknown.
fn holds(bytes: &[u8], read: impl Fn(&[u8]) -> Result<Option<usize>, Misfit>) -> bool {
    match read(bytes) {
        Ok(Some(taken)) => {
            taken <= 513
                && read(&bytes[..taken]) == Ok(Some(taken))
                && (0..taken).all(|short| read(&bytes[..short]) == Ok(None))
        }
        Ok(None) => (0..bytes.len()).all(|short| read(&bytes[..short]) == Ok(None)),
        Err(_) => true,
    }
}
