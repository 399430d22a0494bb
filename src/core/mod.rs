//! The rules of the gateway as plain functions over plain data.
//!
//! Owns: grammar, keys, pins, pools, selection, health, policy, codes.
//! Must not know: tokio, sockets, files, clocks, global randomness, logging,
//! atomics. `now` and chance come in as arguments.

pub mod address;
pub mod ask;
pub mod bind;
pub mod code;
pub mod exit;
pub mod failover;
pub mod fault;
pub mod health;
pub mod limits;
pub mod pin;
pub mod pins;
pub mod policy;
pub mod pool;
pub mod prefix;
pub mod probe;
pub mod secret;
pub mod select;
pub mod session;
pub mod shared;
pub mod target;
pub mod template;
pub mod time;
pub mod typo;
pub mod username;
