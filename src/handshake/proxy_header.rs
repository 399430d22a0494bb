//! The PROXY protocol, versions 1 and 2: what a balancer says of the client
//! that it connects for.
//!
//! Owns: one header out of the first bytes of a connection.
//! Must not know: who may send one.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. The
//! destination that it names and all but one of version 2's extensions are
//! passed over: a checksum that is there must be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::Read;

/// The longest header of version 1, with the end of its line.
const MOST_V1: usize = 107;
/// The longest that is taken of version 2 behind its first 16 bytes: its
/// format has room for 64 KiB, and what balancers send is far below this.
const MOST_V2: usize = 4096;

const START_V1: &[u8] = b"PROXY ";
const START_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Up to and with the length.
const FIXED_V2: usize = 16;
/// The extension that holds a checksum of the header.
const CHECKSUM: u8 = 3;

/// Whom a connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Whoever has opened it: the balancer itself, which looks whether we
    /// are well, or somebody of whom it knows no address.
    Peer,
    /// This client.
    Client(SocketAddr),
}

/// Why something is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It does not begin like one.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// It is longer than it may be.
    #[error("the PROXY header is too long")]
    TooLong,
    /// It breaks the grammar.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    /// It was damaged on its way.
    #[error("the PROXY header's checksum is wrong")]
    Checksum,
}

/// Reads a header of either version.
///
/// # Errors
/// It is none.
pub fn read(bytes: &[u8]) -> Read<Source, Misfit> {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(a, b)| a == b);
    match bytes.first() {
        None => Ok(None),
        Some(b'P') if begins(START_V1) => v1(bytes),
        Some(b'\r') if begins(START_V2) => v2(bytes),
        Some(_) => Err(Misfit::Missing),
    }
}

fn v1(bytes: &[u8]) -> Read<Source, Misfit> {
    let within = &bytes[..bytes.len().min(MOST_V1)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if within.len() == MOST_V1 { Err(Misfit::TooLong) } else { Ok(None) };
    };
    let line = within[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let line = line.ok_or(Misfit::Malformed("its line is no text, or ends without CR"))?;
    let words: Vec<_> = line.split(' ').collect();
    let source = match *words {
        [_, "TCP4", from, to, from_port, to_port] => ends::<Ipv4Addr>([from, to], [from_port, to_port]),
        [_, "TCP6", from, to, from_port, to_port] => ends::<Ipv6Addr>([from, to], [from_port, to_port]),
        // Whatever follows.
        [_, "UNKNOWN", ..] => return Ok(Some((Source::Peer, end + 1))),
        _ => return Err(Misfit::Malformed("it has not six words, the second being TCP4 or TCP6")),
    };
    let (ip, port) = source.ok_or(Misfit::Malformed("an address or a port is unreadable"))?;
    Ok(Some((Source::Client(SocketAddr::new(ip, port)), end + 1)))
}

/// The first of two ends; the second must be right, too.
fn ends<T: FromStr + Into<IpAddr>>([from, to]: [&str; 2], ports: [&str; 2]) -> Option<(IpAddr, u16)> {
    let [from, _] = [from.parse::<T>().ok()?, to.parse::<T>().ok()?];
    let [port, _] = [port(ports[0])?, port(ports[1])?];
    Some((from.into(), port))
}

fn port(word: &str) -> Option<u16> {
    let plain = word == "0" || !word.starts_with(['0', '+']);
    word.parse().ok().filter(|_| plain)
}

fn v2(bytes: &[u8]) -> Read<Source, Misfit> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_V2>() else { return Ok(None) };
    let [.., what, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MOST_V2 {
        return Err(Misfit::TooLong);
    }
    let Some(rest) = rest.get(..length) else { return Ok(None) };
    let taken = FIXED_V2 + length;
    let (source, addresses) = match (what, family) {
        // The balancer's own connection: nothing else of it counts.
        (0x20, _) => return Ok(Some((Source::Peer, taken))),
        (0x21, 0x11) => source(rest, 12, |from: [u8; 4]| Ipv4Addr::from(from).into(), 8)?,
        (0x21, 0x21) => source(rest, 36, |from: [u8; 16]| Ipv6Addr::from(from).into(), 32)?,
        (0x21, 0x31) => (Source::Peer, 216),
        (0x21, 0x00) => (Source::Peer, 0),
        (0x20..=0x2f, _) => {
            return Err(Misfit::Malformed("it is for no stream of bytes, or says something new"));
        }
        _ => return Err(Misfit::Malformed("its version is not 2")),
    };
    let extensions = rest.get(addresses..).ok_or(Misfit::Malformed("it is too short for its addresses"))?;
    extended(&bytes[..taken], extensions)?;
    Ok(Some((source, taken)))
}

/// The first of two addresses, and its port, which stands at `port_at`; how
/// many bytes all of that takes.
fn source<const N: usize>(
    bytes: &[u8],
    takes: usize,
    ip: impl FnOnce([u8; N]) -> IpAddr,
    port_at: usize,
) -> Result<(Source, usize), Misfit> {
    let from = bytes.first_chunk::<N>();
    let port = bytes.get(port_at..takes).and_then(|ports| ports.first_chunk::<2>());
    match from.zip(port) {
        Some((from, port)) => {
            Ok((Source::Client(SocketAddr::new(ip(*from), u16::from_be_bytes(*port))), takes))
        }
        None => Err(Misfit::Malformed("it is too short for its addresses")),
    }
}

/// Looks for a checksum among the extensions: type, length, value.
fn extended(header: &[u8], mut rest: &[u8]) -> Result<(), Misfit> {
    const BROKEN: Misfit = Misfit::Malformed("an extension is longer than the header");
    while let [kind, rest_of @ ..] = rest {
        let (length, after) = rest_of.split_first_chunk::<2>().ok_or(BROKEN)?;
        let (value, after) =
            after.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(BROKEN)?;
        if *kind == CHECKSUM {
            let stated: [u8; 4] = value.try_into().map_err(|_| Misfit::Checksum)?;
            let at = header.len() - after.len() - value.len();
            let zeroed = header.iter().enumerate();
            let zeroed = zeroed.map(|(n, byte)| if (at..at + 4).contains(&n) { 0 } else { *byte });
            if crc32c(zeroed) != u32::from_be_bytes(stated) {
                return Err(Misfit::Checksum);
            }
        }
        rest = after;
    }
    Ok(())
}

/// Castagnoli's. A bit at a time: hardly any balancer sends one, and then of
/// some hundred bytes.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests;
