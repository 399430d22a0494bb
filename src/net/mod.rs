//! Sockets, TLS, names and socket options.
pub(crate) mod race;
pub(crate) mod resolve;
pub(crate) mod sockopt;
