//! What a client, or a balancer before it, says ahead of all HTTP.
//!
//! Owns: bytes to messages and back, without I/O: SOCKS5 and the PROXY
//! protocol.
//! Must not know: sockets, users, what is made of a message.

pub mod proxy_header;
pub mod socks5;

/// What came of looking at the bytes that are there: a message and how many
/// of them it took, or nothing as long as it is not whole.
pub type Read<T, E> = Result<Option<(T, usize)>, E>;
