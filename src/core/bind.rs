//! Where a socket listens.
//!
//! Owns: [`Bind`] and how it is written.
//! Must not know: how it is bound.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a Unix socket's path is written behind.
const UNIX: &str = "unix:";

/// The longest path of a Unix socket, in bytes: what fits into an address
/// with the NUL behind it (unix(7)).
pub const MAX_PATH: usize = 107;

/// An address, or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Bind {
    /// Address and port.
    Tcp(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

/// What is no address with a port and no `unix:` with a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address and a port, or \"unix:\" and a path of at most {MAX_PATH} bytes")]
pub struct NoBind;

impl Bind {
    /// The address, where it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => Some(*socket),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this host's programs can come here.
    pub fn is_local(&self) -> bool {
        self.tcp().is_none_or(|socket| socket.ip().to_canonical().is_loopback())
    }
}

impl From<SocketAddr> for Bind {
    fn from(socket: SocketAddr) -> Self {
        Self::Tcp(socket)
    }
}

impl FromStr for Bind {
    type Err = NoBind;

    fn from_str(text: &str) -> Result<Self, NoBind> {
        match text.strip_prefix(UNIX) {
            Some(path) if (1..=MAX_PATH).contains(&path.len()) && !path.contains('\0') => {
                Ok(Self::Unix(path.into()))
            }
            Some(_) => Err(NoBind),
            None => text.parse().map(Self::Tcp).map_err(|_| NoBind),
        }
    }
}

impl TryFrom<String> for Bind {
    type Error = NoBind;

    fn try_from(text: String) -> Result<Self, NoBind> {
        text.parse()
    }
}

impl From<Bind> for String {
    fn from(bind: Bind) -> Self {
        bind.to_string()
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(socket) => write!(f, "{socket}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_a_path_is_written_as_it_is_read() {
        #[track_caller]
        fn check(text: &str, local: Option<bool>) {
            let read = text.parse::<Bind>();
            assert_eq!(read.as_ref().ok().map(Bind::is_local), local, "{text:?}");
            if let Ok(bind) = read {
                assert_eq!(bind.to_string(), text);
                assert_eq!(Bind::try_from(String::from(bind.clone())), Ok(bind));
            }
        }
        check("127.0.0.1:8080", Some(true));
        check("[::ffff:127.0.0.1]:8080", Some(true));
        check("0.0.0.0:8080", Some(false));
        check("[::]:8080", Some(false));
        check("unix:/run/moorgate.sock", Some(true));
        check("unix:here", Some(true));
        check(&format!("unix:{}", "x".repeat(MAX_PATH)), Some(true));
        check(&format!("unix:{}", "x".repeat(MAX_PATH + 1)), None);
        for wrong in ["unix:", "unix:a\0b", "/run/moorgate.sock", "127.0.0.1", ":8080", ""] {
            check(wrong, None);
        }
    }
}
