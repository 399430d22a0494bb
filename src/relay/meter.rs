//! Counting what moves.
//!
//! Owns: [`Counts`], which may be read while a relay or a pump runs.
//! Must not know: who asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes that one direction has handed to its receiving side.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Adds to them.
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Relaxed);
    }
}

/// Both directions of a client's connection.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// From the client to the upstream side.
    pub(crate) up: Count,
    /// From the upstream side to the client.
    pub(crate) down: Count,
}

impl Counts {
    /// Both together, as a sign of life.
    pub(crate) fn total(&self) -> u64 {
        self.up.bytes().wrapping_add(self.down.bytes())
    }
}
