//! A target whose far end the test itself holds.
//!
//! Owns: a listening socket, and what comes out of it.
//! Must not know: what is said on a connection.

use std::fmt;
use std::net::{SocketAddr, TcpListener};

use super::{Client, PATIENCE, eventually};

/// A listening socket on loopback.
pub struct Target {
    listener: TcpListener,
    /// Where it is.
    pub address: SocketAddr,
}

impl Target {
    /// On a free port of 127.0.0.1.
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("an option");
        let address = listener.local_addr().expect("an address");
        Self { listener, address }
    }

    /// The far end of the next connection.
    #[track_caller]
    pub fn accept(&self) -> Client {
        let stream = eventually("a connection to the target", PATIENCE, || self.listener.accept().ok()).0;
        stream.set_nonblocking(false).expect("an option");
        Client::over(stream).expect("options")
    }

    /// The same, and the head that came on it.
    #[track_caller]
    pub fn accept_head(&self) -> (Client, String) {
        let mut far = self.accept();
        let mut head = String::new();
        while let Some(line) = far.line() {
            head += &line;
            head += "\r\n";
            if line.is_empty() {
                break;
            }
        }
        (far, head)
    }

    /// A URL here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}
