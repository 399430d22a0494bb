//! Bytes to HTTP/1 messages and back, without I/O.
//!
//! Owns: the grammar, framing and rewriting of HTTP/1 for a proxy.
//! Must not know: sockets, time, users, pools.
//!
//! A request goes through [`head::parse_request`], [`framing::request`] and
//! [`forward::request`]; its answer through [`head::parse_response`],
//! [`framing::response`] and [`forward::response`]. What is ambiguous to any
//! reader is a [`head::Violation`] to this one, so that two readers of one
//! message never disagree about where it ends.

pub mod answer;
pub mod chunked;
pub mod fields;
pub mod forward;
pub mod framing;
pub mod head;
pub mod mirror;
mod scan;
