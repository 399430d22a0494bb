use proptest::prelude::*;

use super::*;

fn client(text: &str) -> Source {
    Source::Client(text.parse().unwrap())
}

/// A header of version 2.
fn v2_of(what: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&START_V2[..], &[what, family], &length, rest].concat()
}

const V4: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

#[test]
fn version_1_is_one_line() {
    #[track_caller]
    fn check(line: &str, expected: Source) {
        let bytes = format!("{line}\r\nGET");
        assert_eq!(read(bytes.as_bytes()), Ok(Some((expected, line.len() + 2))), "{line}");
    }
    check("PROXY TCP4 203.0.113.7 10.0.0.1 56324 443", client("203.0.113.7:56324"));
    check("PROXY TCP4 203.0.113.7 10.0.0.1 0 443", client("203.0.113.7:0"));
    check("PROXY TCP6 2001:db8::7 ::1 65535 443", client("[2001:db8::7]:65535"));
    check("PROXY UNKNOWN", Source::Peer);
    check("PROXY UNKNOWN whatever 1 2", Source::Peer);
}

#[test]
fn version_1_is_strict() {
    #[track_caller]
    fn check(line: &[u8], expected: Misfit) {
        assert_eq!(read(line), Err(expected), "{:?}", String::from_utf8_lossy(line));
    }
    let words = Misfit::Malformed("it has not six words, the second being TCP4 or TCP6");
    let address = Misfit::Malformed("an address or a port is unreadable");
    let text = Misfit::Malformed("its line is no text, or ends without CR");
    check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", words);
    check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", words);
    check(b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", words);
    check(b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", words);
    check(b"PROXY \r\n", words);
    for wrong in [
        "1.2.3 5.6.7.8 1 2",
        "::1 5.6.7.8 1 2",
        "1.2.3.4 ::1 1 2",
        "1.2.3.4 5.6.7.8 65536 2",
        "1.2.3.4 5.6.7.8 01 2",
        "1.2.3.4 5.6.7.8 +1 2",
        "1.2.3.4 5.6.7.8 1 ",
    ] {
        check(format!("PROXY TCP4 {wrong}\r\n").as_bytes(), address);
    }
    check(b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", address);
    check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", text);
    check(b"PROXY UNKNOWN \xff\r\n", text);
    check(&[b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 93]].concat(), Misfit::TooLong);
    assert!(read(&[b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 91], b"\r\n".to_vec()].concat()).is_ok());
}

#[test]
fn anything_else_is_missing_at_its_first_byte() {
    for other in
        [&b"GET / HTTP/1.1"[..], b"\x05\x01\x00", b"\x16\x03\x01", b"PRI * HTTP/2.0", b"\r\n\r\nX", b"Q"]
    {
        assert_eq!(read(other), Err(Misfit::Missing), "{other:?}");
    }
}

#[test]
fn version_2_names_the_client_or_nobody() {
    #[track_caller]
    fn check(what: u8, family: u8, rest: &[u8], expected: Source) {
        let header = v2_of(what, family, rest);
        let longer = [&header[..], b"GET"].concat();
        assert_eq!(read(&longer), Ok(Some((expected, header.len()))));
        assert!((0..header.len()).all(|short| read(&header[..short]) == Ok(None)));
    }
    check(0x21, 0x11, &V4, client("203.0.113.7:8080"));
    let mut six = [0; 36];
    six[..2].copy_from_slice(&[0x20, 1]);
    six[15] = 7;
    six[33] = 9;
    check(0x21, 0x21, &six, client("[2001::7]:9"));
    check(0x21, 0x31, &[0; 216], Source::Peer);
    check(0x21, 0x00, &[], Source::Peer);
    check(0x20, 0x00, &[], Source::Peer);
    check(0x20, 0x11, &V4, Source::Peer);
    // Extensions are passed over.
    check(0x21, 0x11, &[&V4[..], &[4, 0, 2, 9, 9], &[0xea, 0, 0]].concat(), client("203.0.113.7:8080"));
}

#[test]
fn version_2_is_strict() {
    #[track_caller]
    fn check(what: u8, family: u8, rest: &[u8]) {
        assert!(matches!(read(&v2_of(what, family, rest)), Err(Misfit::Malformed(_))));
    }
    check(0x11, 0x11, &V4);
    check(0x22, 0x11, &V4);
    check(0x21, 0x12, &V4);
    check(0x21, 0x41, &V4);
    check(0x21, 0x11, &V4[..11]);
    check(0x21, 0x21, &[0; 35]);
    check(0x21, 0x31, &[0; 215]);
    check(0x21, 0x11, &[&V4[..], &[4, 0]].concat());
    check(0x21, 0x11, &[&V4[..], &[4, 0, 2, 9]].concat());
    let mut long = v2_of(0x20, 0, &[]);
    long[14..16].copy_from_slice(&4097u16.to_be_bytes());
    assert_eq!(read(&long), Err(Misfit::TooLong), "told before it is there");
}

#[test]
fn a_checksum_must_be_right() {
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283, "RFC 3720's");
    let zeroed = v2_of(0x21, 0x11, &[&V4[..], &[3, 0, 4, 0, 0, 0, 0]].concat());
    let crc = crc32c(zeroed.iter().copied()).to_be_bytes();
    let mut right = zeroed.clone();
    right[31..35].copy_from_slice(&crc);
    assert_eq!(read(&right), Ok(Some((client("203.0.113.7:8080"), 35))));
    assert_eq!(read(&zeroed), Err(Misfit::Checksum));
    let mut damaged = right;
    damaged[16] ^= 1;
    assert_eq!(read(&damaged), Err(Misfit::Checksum));
    assert_eq!(read(&v2_of(0x21, 0x11, &[&V4[..], &[3, 0, 1, 0]].concat())), Err(Misfit::Checksum));
}

proptest! {
    #[test]
    fn a_part_is_never_read_as_a_whole(rest in proptest::collection::vec(any::<u8>(), 0..120), start in 0usize..3) {
        let start: &[u8] = [&b"PROXY TCP4 1.2.3.4 5.6.7.8 "[..], &START_V2[..], b"PROXY UNKNOWN"][start];
        let bytes = [start, &rest].concat();
        if let Ok(Some((_, taken))) = read(&bytes) {
            prop_assert_eq!(read(&bytes[..taken]), read(&bytes));
            prop_assert!((0..taken).all(|short| read(&bytes[..short]) == Ok(None)));
        }
    }
}
