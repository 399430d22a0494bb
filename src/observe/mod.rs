//! Logs, access records, counts and events.
//!
//! Owns: how they are written, and that nothing a client sends can forge one.
//! Must not know: what a request means.

pub(crate) mod access;
pub(crate) mod events;
pub(crate) mod exposition;
pub(crate) mod instruments;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod process;
