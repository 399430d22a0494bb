//! Requests as text, and the short way to one answer.
//!
//! Owns: how a request to the gateway is written.
//! Must not know: the gateway's process.

use std::fmt::Display;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::client::{Answer, Client};

/// The secret of every user that a test does not give another; no log may
/// ever show it.
pub const PASSWORD: &str = "geheim-Zq7";

/// The credential's field, with its line end.
pub fn basic(username: &str) -> String {
    basic_as(username, PASSWORD)
}

/// The same with a secret.
pub fn basic_as(username: &str, password: &str) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{username}:{password}")))
}

/// `GET` in absolute-form, with more fields (each with its line end).
pub fn get(url: &str, fields: &str) -> String {
    request("GET", url, fields)
}

/// A request without a body in absolute-form.
pub fn request(method: &str, url: &str, fields: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    format!("{method} {url} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

/// `CONNECT`, with more fields (each with its line end).
pub fn connect(target: impl Display, fields: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n")
}

/// The short ways, on a connection of their own.
pub trait Ask {
    /// Where the gateway listens.
    fn listens(&self) -> SocketAddr;

    /// A new connection.
    #[track_caller]
    fn client(&self) -> Client {
        Client::open(self.listens())
    }

    /// One `GET` as this username.
    #[track_caller]
    fn get(&self, username: &str, url: &str) -> Answer {
        self.get_with(username, "", url)
    }

    /// One `GET` with more fields.
    #[track_caller]
    fn get_with(&self, username: &str, fields: &str, url: &str) -> Answer {
        self.client().send(get(url, &format!("{}{fields}", basic(username)))).answer("GET")
    }

    /// One `CONNECT`, and the connection behind its answer.
    #[track_caller]
    fn connect(&self, username: &str, target: impl Display) -> (Client, Answer) {
        let mut client = self.client();
        let answer = client.send(connect(target, &basic(username))).answer("CONNECT");
        (client, answer)
    }

    /// One `CONNECT` that succeeds.
    #[track_caller]
    fn tunnel(&self, username: &str, target: impl Display) -> (Client, Answer) {
        let (client, answer) = self.connect(username, target);
        (client, answer.ok())
    }

    /// What an origin that answers with the peer's address sees of a tunnel.
    #[track_caller]
    fn seen_through_tunnel(&self, username: &str, target: SocketAddr) -> (String, Answer) {
        let (mut client, answer) = self.tunnel(username, target);
        let seen = client.send(format!("GET /ip HTTP/1.1\r\nHost: {target}\r\n\r\n")).answer("GET").ok();
        (seen.text(), answer)
    }
}

impl Ask for SocketAddr {
    fn listens(&self) -> SocketAddr {
        *self
    }
}
