//! As much of a message's head as the limit has to know.

use std::net::SocketAddr;

use memchr::{memchr, memmem};

/// What a head says.
pub(crate) struct Head {
    pub(crate) connect: bool,
    /// A request's, if it is numeric.
    pub(crate) target: Option<SocketAddr>,
    /// Where the body begins.
    pub(crate) end: usize,
    /// Bytes of the body.
    pub(crate) body: u64,
}

/// None where the head is not whole.
pub(crate) fn read(bytes: &[u8]) -> Option<Head> {
    let end = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let connect = bytes.starts_with(b"CONNECT ");
    let (target, body) = if connect {
        let rest = &bytes[b"CONNECT ".len()..];
        (address(&rest[..memchr(b' ', rest)?]), 0)
    } else {
        (authority(bytes).and_then(|(from, to)| address(&bytes[from..to])), content_length(&bytes[..end]))
    };
    Some(Head { connect, target, end, body })
}

/// Hands out the message without `http://authority` in its request line; an
/// answer, which has none, as it is.
pub(crate) fn origin_form(bytes: &[u8], mut part: impl FnMut(&[u8])) {
    match authority(bytes) {
        Some((from, to)) => {
            part(&bytes[..from - b"http://".len()]);
            part(&bytes[to..]);
        }
        None => part(bytes),
    }
}

/// Where the authority of an absolute-form request line stands.
fn authority(bytes: &[u8]) -> Option<(usize, usize)> {
    let from = memchr(b' ', bytes)? + 1;
    let rest = bytes[from..].strip_prefix(b"http://")?;
    let from = from + b"http://".len();
    Some((from, from + memchr(b'/', rest)?))
}

fn address(text: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn content_length(head: &[u8]) -> u64 {
    const NAME: &[u8] = b"content-length:";
    let mut rest = head;
    while let Some(at) = memchr(b'\n', rest) {
        rest = &rest[at + 1..];
        if rest.len() > NAME.len() && rest[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let digits =
                rest[NAME.len()..].trim_ascii_start().iter().take_while(|byte| byte.is_ascii_digit());
            return digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        }
    }
    0
}
