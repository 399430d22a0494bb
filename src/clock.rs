//! The gateway's time.
//!
//! Owns: [`Clock`], the one door to the system's clocks, and a clock that
//! tests turn by hand.
//! Must not know: what the time is for. Timeouts use `tokio::time`.
//!
//! Gateway time is the wall clock, read once at start, plus a monotonic clock
//! (which counts suspension, too). A wall clock that is stepped while the
//! gateway runs therefore ends no session early and stretches none.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::core::time::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Gateway time: never steps.
    fn now(&self) -> Timestamp;

    /// What the wall clock says at this moment, steps and all.
    fn wall(&self) -> Timestamp;

    /// Makes gateway time the wall clock's reading at start less `offset_ms`:
    /// the steps that an earlier run of the gateway saw and wrote down. To be
    /// called once, before anything has been told the time.
    fn restore(&self, offset_ms: i64);
}

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    /// The wall clock when this clock was made, since the Unix epoch.
    wall_at_start: Duration,
    /// The monotonic clock at the same moment.
    monotonic_at_start: Duration,
    offset_ms: AtomicI64,
}

impl SystemClock {
    /// Starts gateway time at what the wall clock says.
    pub fn new() -> Self {
        Self { wall_at_start: wall(), monotonic_at_start: monotonic(), offset_ms: AtomicI64::new(0) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let run = monotonic().saturating_sub(self.monotonic_at_start);
        shift(millis(self.wall_at_start + run), self.offset_ms.load(Relaxed))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_ms(millis(wall()))
    }

    fn restore(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Relaxed);
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    gateway_ms: AtomicU64,
    wall_ms: AtomicU64,
}

impl ManualClock {
    /// Both gateway time and the wall clock say `at`.
    pub fn new(at: Timestamp) -> Self {
        Self { gateway_ms: AtomicU64::new(at.as_ms()), wall_ms: AtomicU64::new(at.as_ms()) }
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) {
        self.gateway_ms.fetch_add(millis(by), Relaxed);
        self.wall_ms.fetch_add(millis(by), Relaxed);
    }

    /// Someone sets the wall clock; no time passes.
    pub fn set_wall(&self, to: Timestamp) {
        self.wall_ms.store(to.as_ms(), Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.gateway_ms.load(Relaxed))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_ms(self.wall_ms.load(Relaxed))
    }

    fn restore(&self, offset_ms: i64) {
        self.gateway_ms.store(shift(self.wall_ms.load(Relaxed), offset_ms).as_ms(), Relaxed);
    }
}

/// `ms` less `offset_ms`, which may be negative.
fn shift(ms: u64, offset_ms: i64) -> Timestamp {
    let shifted = if offset_ms < 0 {
        ms.saturating_add(offset_ms.unsigned_abs())
    } else {
        ms.saturating_sub(offset_ms.unsigned_abs())
    };
    Timestamp::from_ms(shifted)
}

/// The system's monotonic clock, in microseconds: what a service manager
/// compares with its own reading of it.
pub(crate) fn monotonic_us() -> u64 {
    let reading = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
    u64::try_from(reading.as_micros()).unwrap_or(u64::MAX)
}

/// How long the process has kept processors busy.
pub(crate) fn process_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Since the Unix epoch; a wall clock before it counts as the epoch.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Since boot, suspension included: a session's hour passes while the machine
/// sleeps.
fn monotonic() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const ID: ClockId = ClockId::Boottime;
    // Elsewhere, where the system has no such clock, this one may stand still
    // during suspension.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const ID: ClockId = ClockId::Monotonic;
    Duration::try_from(clock_gettime(ID)).unwrap_or_default()
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    #[test]
    fn system_time_runs_from_the_wall_clock_and_never_backwards() {
        let clock = SystemClock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second);
        assert!(clock.wall().as_ms().abs_diff(first.as_ms()) < 60_000);
    }

    #[test]
    fn the_steps_of_an_earlier_run_are_reckoned_with() {
        // That run saw the wall clock put forward by an hour.
        let clock = SystemClock::new();
        clock.restore(3_600_000);
        let behind = clock.wall().since(clock.now());
        assert!(behind > Duration::from_secs(3500) && behind < Duration::from_secs(3700), "{behind:?}");

        let clock = SystemClock::new();
        clock.restore(-3_600_000);
        assert!(clock.now().since(clock.wall()) > Duration::from_secs(3500));
    }

    #[test]
    fn a_manual_clock_moves_only_when_told_to() {
        let clock = ManualClock::new(NOON);
        clock.advance(Duration::from_secs(5));
        assert_eq!((clock.now(), clock.wall()), (NOON.plus(Duration::from_secs(5)), clock.now()));
        clock.set_wall(NOON.plus(Duration::from_secs(3605)));
        assert_eq!(clock.now(), NOON.plus(Duration::from_secs(5)));
        let offset = clock.wall().as_ms() - clock.now().as_ms();
        let later = ManualClock::new(clock.wall());
        later.restore(i64::try_from(offset).unwrap());
        assert_eq!(later.now(), clock.now());
    }

    #[test]
    fn shifts_stay_within_what_a_timestamp_holds() {
        assert_eq!(shift(5, 10), Timestamp::from_ms(0));
        assert_eq!(shift(5, i64::MIN).as_ms(), 5 + (1 << 63));
        assert_eq!(shift(u64::MAX, -1), Timestamp::from_ms(u64::MAX));
    }
}
