//! What must hold for any bytes: one module a target, each with a `check`
//! that panics where it does not.
//!
//! Owns: the properties, and the other readers that ours are compared with.
//! Must not know: where the bytes come from. A fuzzer makes them up
//! (`fuzz_targets/`); `tests/vectors` replays those that were kept.

pub mod chunked;
pub mod framing;
pub mod head;
pub mod pool_file;
pub mod proxy_header;
pub mod socks5;
pub mod target;
pub mod username;

mod book;
mod peer;
mod reader;
