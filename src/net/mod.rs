//! Sockets, TLS, names and socket options.
//!
//! Owns: everything that touches a socket; the rest of the gateway sees
//! [`wire::Wire`].
//! Must not know: HTTP, users, pins.

pub(crate) mod channel;
pub(crate) mod handover;
pub(crate) mod inherit;
pub(crate) mod listen;
pub(crate) mod race;
pub(crate) mod resolve;
pub(crate) mod route;
pub(crate) mod sockopt;
pub(crate) mod systemd;
pub(crate) mod tls;
pub(crate) mod tls_server;
pub(crate) mod wire;
