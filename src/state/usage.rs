//! What somebody's connections have moved, and may move.
//!
//! Owns: [`Usage`], bytes counted over many connections with an end that may
//! be set to them; [`Allowance`], what one connection is bound by.
//! Must not know: who it is, when a day begins.
//!
//! To wire it up: one `Usage` for each user, kept across reloads. A quota is
//! set as the total at which it is used up: `usage.end_at(usage.total() +
//! left_today)`, again when a day begins. Whoever wants to admit a request
//! asks [`Usage::left`]; relays and bodies ask it themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::pacer::Pacer;

/// Bytes that were moved for somebody. They only grow.
#[derive(Debug)]
pub struct Usage {
    up: AtomicU64,
    down: AtomicU64,
    end: AtomicU64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { up: AtomicU64::new(0), down: AtomicU64::new(0), end: AtomicU64::new(u64::MAX) }
    }
}

impl Usage {
    /// Bytes from clients that upstream sides have taken.
    pub fn up(&self) -> u64 {
        self.up.load(Relaxed)
    }

    /// Bytes from upstream sides that clients have taken.
    pub fn down(&self) -> u64 {
        self.down.load(Relaxed)
    }

    /// Both together.
    pub fn total(&self) -> u64 {
        self.up().saturating_add(self.down())
    }

    /// Counts bytes up.
    pub fn add_up(&self, bytes: u64) {
        self.up.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes down.
    pub fn add_down(&self, bytes: u64) {
        self.down.fetch_add(bytes, Relaxed);
    }

    /// Nothing more is to be moved once the total has come to this;
    /// `u64::MAX`: no end.
    pub fn end_at(&self, total: u64) {
        self.end.store(total, Relaxed);
    }

    /// How many bytes are left. What many move at the same time may go over
    /// it by what each had begun to move: at most one read.
    pub fn left(&self) -> u64 {
        match self.end.load(Relaxed) {
            u64::MAX => u64::MAX,
            end => end.saturating_sub(self.total()),
        }
    }
}

/// What a connection is bound by, and what it counts towards.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    /// Counts what it moves; its end ends it.
    pub usage: Option<Arc<Usage>>,
    /// The bandwidths that it shares from the client: each of them binds.
    pub up: [Option<Arc<Pacer>>; 2],
    /// Those that it shares to the client.
    pub down: [Option<Arc<Pacer>>; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_count_towards_the_end() {
        let usage = Usage::default();
        assert_eq!(usage.left(), u64::MAX);
        usage.add_up(5);
        usage.end_at(20);
        usage.add_down(7);
        assert_eq!((usage.up(), usage.down(), usage.total(), usage.left()), (5, 7, 12, 8));
        usage.add_up(10);
        assert_eq!(usage.left(), 0);
        usage.end_at(usage.total() + 3);
        assert_eq!(usage.left(), 3);
    }
}
