//! Where a client wants to go.
//!
//! Owns: [`Target`] and [`Host`], read from an authority.
//! Must not know: whether it may be reached.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A name or a literal address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// In lower case, without a trailing dot.
    Name(Arc<str>),
    /// A literal address, IPv6 without its brackets.
    Ip(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

/// Host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}
