//! What a SOCKS5 client says: read as with a pencil, and no part for a whole.

use moorgate::core::target::{Host, Target};
use moorgate::handshake::socks5::{self, Method, Misfit};

/// The first byte says which message the others are.
pub fn check(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 3 {
        0 => greeting(bytes),
        1 => login(bytes),
        _ => request(bytes),
    }
}

fn greeting(bytes: &[u8]) {
    parts(bytes, |bytes| socks5::greeting(bytes).map(|read| read.map(|(_, taken)| taken)));
    let Ok(Some((greeting, taken))) = socks5::greeting(bytes) else { return };
    assert_eq!((bytes[0], taken), (5, 2 + usize::from(bytes[1])));
    for method in [Method::None, Method::Login] {
        assert_eq!(greeting.offers(method), bytes[2..taken].contains(&(method as u8)));
    }
}

fn login(bytes: &[u8]) {
    parts(bytes, |bytes| socks5::login(bytes).map(|read| read.map(|(_, taken)| taken)));
    let Ok(Some((login, taken))) = socks5::login(bytes) else { return };
    let counted = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()], text].concat();
    let again = [vec![1], counted(login.username), counted(login.password)].concat();
    assert_eq!(again, bytes[..taken], "written again, it is the same");
}

fn request(bytes: &[u8]) {
    parts(bytes, |bytes| socks5::request(bytes).map(|read| read.map(|(_, taken)| taken)));
    let Ok(Some((request, taken))) = socks5::request(bytes) else { return };
    assert_eq!(request.connect, bytes[1] == 1);
    let length = match bytes[3] {
        1 => 4,
        4 => 16,
        3 => 1 + usize::from(bytes[4]),
        other => panic!("no address has the type {other}"),
    };
    assert_eq!(taken, 4 + length + 2);
    let port = u16::from_be_bytes([bytes[taken - 2], bytes[taken - 1]]);
    let Ok(target) = request.target else { return };
    assert_eq!(target.port, port);
    assert_ne!(port, 0);
    // The same target as over HTTP, in whatever spelling.
    assert_eq!(Target::parse(&target.to_string()).as_ref(), Ok(&target));
    match (&target.host, bytes[3]) {
        (Host::Ip(ip), 1 | 4) => assert_eq!(ip.to_string(), address(&bytes[4..4 + length])),
        (_, 3) => {}
        other => panic!("an address became {other:?}"),
    }
}

fn address(bytes: &[u8]) -> String {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => std::net::Ipv4Addr::from(v4).to_string(),
        Err(_) => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).to_string(),
    }
}

/// What is whole is so at exactly its length, and unknown before.
fn parts(bytes: &[u8], read: impl Fn(&[u8]) -> Result<Option<usize>, Misfit>) {
    match read(bytes) {
        Ok(Some(taken)) => {
            assert!(taken <= 513 && taken <= bytes.len());
            assert_eq!(read(&bytes[..taken]), Ok(Some(taken)));
            assert!((0..taken).all(|short| read(&bytes[..short]) == Ok(None)), "a part is no whole");
        }
        Ok(None) => assert!((0..bytes.len()).all(|short| read(&bytes[..short]) == Ok(None))),
        Err(misfit) => assert_eq!(read(&[bytes, b"more"].concat()), Err(misfit), "more mends nothing"),
    }
}
