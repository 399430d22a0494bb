//! SOCKS5 from the server's side (RFC 1928), with its login (RFC 1929).
//!
//! Owns: the client's three messages, and what is answered to each.
//! Must not know: who is let in, where to.
//!
//! Every message says its own length early on and has at most 513 bytes, so
//! nothing has to be bounded by its reader.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Read;
use crate::core::fault::Fault;
use crate::core::target::{Host, Target};

/// What every message but the login begins with.
pub const VERSION: u8 = 5;
/// What a client of SOCKS4 begins with.
pub const VERSION_4: u8 = 4;
/// The login has a version of its own.
const LOGIN_VERSION: u8 = 1;

/// Refuses a request of SOCKS4: "rejected or failed".
pub const REFUSES_4: [u8; 8] = [0, 91, 0, 0, 0, 0, 0, 0];

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// Not at all.
    None = 0,
    /// By name and secret.
    Login = 2,
    /// In no way that both know.
    Nothing = 0xff,
}

/// Why something is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It begins with another version.
    #[error("a SOCKS5 message begins with another version")]
    Version,
    /// An address of a type that does not exist: where it ends nobody knows.
    #[error("the SOCKS5 request has an address of an unknown type")]
    AddressType,
}

/// The client's first message: the ways in which it can prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting<'a>(&'a [u8]);

impl Greeting<'_> {
    /// Whether the client knows this one.
    pub fn offers(&self, method: Method) -> bool {
        self.0.contains(&(method as u8))
    }
}

/// Reads a greeting.
///
/// # Errors
/// It is of another version.
pub fn greeting(bytes: &[u8]) -> Read<Greeting<'_>, Misfit> {
    version(bytes, VERSION)?;
    let mut rest = Rest(bytes);
    Ok(rest.skip(1).and_then(|()| rest.counted()).map(|methods| (Greeting(methods), rest.read_of(bytes))))
}

/// The answer to a greeting.
pub fn chosen(method: Method) -> [u8; 2] {
    [VERSION, method as u8]
}

/// Name and secret, each of 0 to 255 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    /// The name, with its parameters.
    pub username: &'a [u8],
    /// The secret.
    pub password: &'a [u8],
}

/// Reads a login.
///
/// # Errors
/// It is of another version.
pub fn login(bytes: &[u8]) -> Read<Login<'_>, Misfit> {
    version(bytes, LOGIN_VERSION)?;
    let mut rest = Rest(bytes);
    let read =
        rest.skip(1).and_then(|()| Some(Login { username: rest.counted()?, password: rest.counted()? }));
    Ok(read.map(|login| (login, rest.read_of(bytes))))
}

/// The answer to a login.
pub fn judged(is_let_in: bool) -> [u8; 2] {
    [LOGIN_VERSION, u8::from(!is_let_in)]
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// CONNECT, rather than BIND, UDP ASSOCIATE or something unknown.
    pub connect: bool,
    /// Where to; or why that is no target.
    pub target: Result<Target, Fault>,
}

/// Reads a request. Its reserved byte may be anything.
///
/// # Errors
/// It is of another version, or its address is of an unknown type.
pub fn request(bytes: &[u8]) -> Read<Request, Misfit> {
    version(bytes, VERSION)?;
    let &[_, command, _, kind, ref address @ ..] = bytes else { return Ok(None) };
    let mut rest = Rest(address);
    let host = match kind {
        1 => rest.take().map(|ip: [u8; 4]| Ok(Host::Ip(IpAddr::V4(Ipv4Addr::from(ip))))),
        4 => rest.take().map(|ip: [u8; 16]| Ok(Host::Ip(IpAddr::V6(Ipv6Addr::from(ip))))),
        3 => rest.counted().map(named),
        _ => return Err(Misfit::AddressType),
    };
    let read = host.zip(rest.take().map(u16::from_be_bytes)).map(|(host, port)| Request {
        connect: command == 1,
        target: host.and_then(|host| Target::of(host, port)),
    });
    Ok(read.map(|request| (request, rest.read_of(bytes))))
}

fn named(bytes: &[u8]) -> Result<Host, Fault> {
    // What is not UTF-8 is no name either, and is refused as one.
    Host::parse(&String::from_utf8_lossy(bytes))
}

/// Answers to a request that do not come from a failure's code.
pub mod reply {
    /// It stands.
    pub const GRANTED: u8 = 0;
    /// Something is wrong.
    pub const FAILED: u8 = 1;
    /// Neither BIND nor UDP ASSOCIATE.
    pub const COMMAND: u8 = 7;
    /// An address of an unknown type.
    pub const ADDRESS_TYPE: u8 = 8;
}

/// The answer to a request. By which address the target is reached is not
/// told here (SPEC §4 has no field for it): it is all zeros.
pub fn replied(code: u8) -> [u8; 10] {
    [VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

fn version(bytes: &[u8], wanted: u8) -> Result<(), Misfit> {
    match bytes.first() {
        Some(version) if *version != wanted => Err(Misfit::Version),
        _ => Ok(()),
    }
}

/// What is still to be read; `None`: not there yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// A byte that says how many follow.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let (count, rest) = self.0.split_first()?;
        let (counted, rest) = rest.split_at_checked(usize::from(*count))?;
        self.0 = rest;
        Some(counted)
    }

    /// How many bytes were read; `whole` has the rest at its end.
    fn read_of(&self, whole: &[u8]) -> usize {
        whole.len() - self.0.len()
    }
}

#[cfg(test)]
mod tests;
