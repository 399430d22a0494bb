//! A PROXY header: what is taken can be written again, and no part passes for
//! a whole.

use std::net::{IpAddr, SocketAddr};

use moorgate::handshake::proxy_header::{Misfit, Source, read};

/// The bytes are the beginning of a connection.
pub fn check(data: &[u8]) {
    match read(data) {
        Ok(Some((source, taken))) => {
            assert!(taken <= data.len() && taken <= 16 + 4096);
            assert_eq!(read(&data[..taken]), Ok(Some((source, taken))), "what follows does not count");
            assert!((0..taken).all(|short| read(&data[..short]) == Ok(None)), "a part is no whole");
            if let Source::Client(client) = source {
                again(client);
            }
            if data[0] == b'P' {
                line(&data[..taken], source);
            }
        }
        Ok(None) => assert!((0..data.len()).all(|short| read(&data[..short]) == Ok(None))),
        Err(misfit) => {
            let more = read(&[data, b"\r\n"].concat());
            assert!(more.is_err(), "more mends nothing of {misfit:?}");
        }
    }
}

/// The client in both versions, as a balancer writes it.
fn again(client: SocketAddr) {
    let (family, kind) = if client.is_ipv4() { ("TCP4", 0x11) } else { ("TCP6", 0x21) };
    let text = format!("PROXY {family} {} {} {} 1\r\n", client.ip(), client.ip(), client.port());
    assert_eq!(read(text.as_bytes()), Ok(Some((Source::Client(client), text.len()))));
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    bytes.push(kind);
    let ip = match client.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(u16::try_from(ip.len() * 2 + 4).unwrap().to_be_bytes());
    bytes.extend([&ip[..], &ip, &client.port().to_be_bytes(), &[0, 1]].concat());
    assert_eq!(read(&bytes), Ok(Some((Source::Client(client), bytes.len()))));
    let damaged = [&bytes[..14], &[0, 1], &bytes[16..17]].concat();
    assert!(matches!(read(&damaged), Err(Misfit::Malformed(_))));
}

/// A line of version 1 is text, six words or UNKNOWN, and no longer than 107.
fn line(header: &[u8], source: Source) {
    let text = std::str::from_utf8(header).expect("text");
    assert!(text.len() <= 107 && text.ends_with("\r\n"));
    let words: Vec<_> = text.trim_end_matches("\r\n").split(' ').collect();
    match source {
        Source::Peer => assert_eq!(words[1], "UNKNOWN"),
        Source::Client(client) => {
            assert_eq!((words.len(), words[4]), (6, &*client.port().to_string()));
            assert_eq!(words[2].parse(), Ok(client.ip()));
        }
    }
}
