//! What an exit has done so far.
//!
//! Owns: counts of dials and bytes, and how long connections have taken of
//! late ([`Latency`]). Written by every request: relaxed atomics, no lock, and
//! no memory for an exit that was never dialled.
//! Must not know: health, what counts as the exit's fault.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::observe::instruments::Flow;

/// Counts of one exit, since the gateway started.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) worked: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) target_failed: AtomicU64,
    pub(super) ejections: AtomicU64,
    pub(super) probes_worked: AtomicU64,
    pub(super) probes_failed: AtomicU64,
    pub(super) flow: Arc<Flow>,
    latency: OnceLock<Box<Recent>>,
}

/// What became of an exit's dials for clients, and of its probes, since the
/// gateway started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dials {
    /// The target was reached.
    pub worked: u64,
    /// By the exit's own fault, it was not.
    pub failed: u64,
    /// By the target's fault, it was not.
    pub target_failed: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// Probes that were answered.
    pub probes_worked: u64,
    /// Probes that failed by the exit's own fault.
    pub probes_failed: u64,
    /// Bytes from clients.
    pub up: u64,
    /// Bytes to clients.
    pub down: u64,
}

/// How long connecting through an exit has taken of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Half took no longer.
    pub p50: Duration,
    /// Nine of ten took no longer.
    pub p90: Duration,
    /// Ninety-nine of a hundred took no longer.
    pub p99: Duration,
}

impl Tally {
    pub(super) fn dials(&self) -> Dials {
        Dials {
            worked: self.worked.load(Relaxed),
            failed: self.failed.load(Relaxed),
            target_failed: self.target_failed.load(Relaxed),
            ejections: self.ejections.load(Relaxed),
            probes_worked: self.probes_worked.load(Relaxed),
            probes_failed: self.probes_failed.load(Relaxed),
            up: self.flow.up.get(),
            down: self.flow.down.get(),
        }
    }

    pub(super) fn took(&self, time: Duration) {
        self.latency.get_or_init(Box::default).record(time);
    }

    /// `None`: it was never connected.
    pub(super) fn latency(&self) -> Option<Latency> {
        self.latency.get().map(|recent| recent.latency())
    }
}

/// A bucket for each quarter of a power of two, from 64 µs to about 2 min.
const BUCKETS: usize = 84;
/// The first bucket ends here, in powers of two of µs.
const FIRST: u32 = 6;
/// After so many times all counts are halved: the older half of what is known
/// then weighs as much as the newest 4096.
const HALVED: u32 = 8192;

/// A log-linear histogram that forgets: within 10 % of the truth, in 340
/// bytes.
#[derive(Debug)]
struct Recent {
    buckets: [AtomicU32; BUCKETS],
    count: AtomicU32,
}

impl Default for Recent {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU32::new(0)), count: AtomicU32::new(0) }
    }
}

impl Recent {
    fn record(&self, time: Duration) {
        self.buckets[bucket(time)].fetch_add(1, Relaxed);
        if self.count.fetch_add(1, Relaxed) + 1 == HALVED {
            // What is counted meanwhile may be lost: a few of thousands.
            let halve = |bucket: &AtomicU32| {
                let half = bucket.load(Relaxed) / 2;
                bucket.store(half, Relaxed);
                half
            };
            self.count.store(self.buckets.iter().map(halve).sum(), Relaxed);
        }
    }

    fn latency(&self) -> Latency {
        let counts: [u32; BUCKETS] = std::array::from_fn(|at| self.buckets[at].load(Relaxed));
        let all: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let at = |percent: u64| {
            let rank = (all * percent).div_ceil(100).max(1);
            let mut below = 0;
            let found = counts.iter().position(|count| {
                below += u64::from(*count);
                below >= rank
            });
            middle(found.unwrap_or(0))
        };
        Latency { p50: at(50), p90: at(90), p99: at(99) }
    }
}

fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let octave = micros.max(1).ilog2();
    if octave < FIRST {
        return 0;
    }
    let quarter = (micros >> (octave - 2)) & 3;
    let at = (octave - FIRST) as usize * 4 + quarter as usize;
    at.min(BUCKETS - 1)
}

/// The middle of a bucket.
fn middle(at: usize) -> Duration {
    let octave = at / 4 + FIRST as usize;
    let from = (4 + at as u64 % 4) << (octave - 2);
    Duration::from_micros(from + (1 << (octave - 3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_within_a_tenth_of_what_falls_into_it() {
        for micros in (64..100_000_000_u64).step_by(7919).chain([64, 79, 80, 127, 128]) {
            let off = middle(bucket(Duration::from_micros(micros))).as_micros() as f64 / micros as f64;
            assert!((0.89..1.13).contains(&off), "{micros}: {off}");
        }
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn percentiles_follow_what_happens_and_forget() {
        let tally = Tally::default();
        assert_eq!(tally.latency(), None);
        let near = |latency: Duration, ms: u64| {
            let off = latency.as_secs_f64() * 1000.0 / ms as f64;
            assert!((0.87..1.15).contains(&off), "{latency:?} is not {ms} ms");
        };
        for n in 0..1000 {
            tally.took(Duration::from_millis(if n % 20 == 0 { 400 } else { 10 }));
        }
        let latency = tally.latency().unwrap();
        near(latency.p50, 10);
        near(latency.p90, 10);
        near(latency.p99, 400);
        (0..100_000).for_each(|_| tally.took(Duration::from_millis(80)));
        near(tally.latency().unwrap().p50, 80);
    }
}
