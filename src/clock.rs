//! Time.
//!
//! Owns: the only look at the system's clocks.
//! Must not know: what time is asked for.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::core::time::Timestamp;

/// Gateway time and wall time.
pub trait Clock: Send + Sync {
    /// Gateway time: the wall clock as it was at start, and what has passed
    /// since. Steps of the wall clock do not reach it.
    fn now(&self) -> Timestamp;
    /// The wall clock.
    fn wall(&self) -> Timestamp;
    /// Gateway time is the wall's less `offset_ms` from here on. Once, at start.
    fn restore(&self, offset_ms: i64);
}

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start_ms: AtomicU64,
    boot: Duration,
}

impl SystemClock {
    /// Reads the wall clock once.
    pub fn new() -> Self {
        Self { start_ms: AtomicU64::new(wall_ms()), boot: since_boot() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.start_ms.load(Relaxed)).plus(since_boot().saturating_sub(self.boot))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_ms(wall_ms())
    }

    fn restore(&self, offset_ms: i64) {
        let passed = since_boot().saturating_sub(self.boot).as_millis() as u64;
        let now = wall_ms().saturating_add_signed(offset_ms.saturating_neg());
        self.start_ms.store(now.saturating_sub(passed), Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that may")]
fn wall_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_millis() as u64)
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A clock that stands still until it is turned.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ms: AtomicU64,
    offset_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `wall`.
    pub fn new(wall: Timestamp) -> Self {
        Self { wall_ms: AtomicU64::new(wall.as_ms()), offset_ms: AtomicI64::new(0) }
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) {
        self.wall_ms.fetch_add(by.as_millis() as u64, Relaxed);
    }

    /// Someone sets the wall clock.
    pub fn step(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms as u64, Relaxed);
        self.offset_ms.fetch_add(by_ms, Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let wall = self.wall_ms.load(Relaxed);
        Timestamp::from_ms(wall.saturating_add_signed(self.offset_ms.load(Relaxed).saturating_neg()))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_ms(self.wall_ms.load(Relaxed))
    }

    fn restore(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Relaxed);
    }
}
