//! How fast requests may follow each other.
//!
//! Owns: one limiter, and that another rate takes over what the last one had
//! left.
//! Must not know: whose requests they are.

use std::num::NonZeroU32;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::core::limits::Rate;

/// A rate that may be changed while requests come.
#[derive(Default)]
pub(super) struct Pace(ArcSwapOption<Limiter>);

struct Limiter {
    rate: Rate,
    bucket: RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>,
}

impl Pace {
    /// From now on this rate. What the one before had left is left, as far as
    /// the new one has room for it: a reload gives nothing away.
    pub(super) fn set(&self, rate: Option<Rate>) {
        let before = self.0.load_full();
        if before.as_ref().map(|limiter| limiter.rate) == rate {
            return;
        }
        self.0.store(rate.map(|rate| {
            let limiter = Limiter::new(rate);
            if let Some(before) = before {
                limiter.spend(rate.burst.get().saturating_sub(before.left()));
            }
            limiter.into()
        }));
    }

    /// Counts a request.
    ///
    /// # Errors
    /// How long until there may be another.
    pub(super) fn take(&self) -> Result<(), Duration> {
        match &*self.0.load() {
            None => Ok(()),
            Some(limiter) => limiter.take(),
        }
    }
}

impl Limiter {
    fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self { rate, bucket: RateLimiter::direct(quota).with_middleware() }
    }

    fn take(&self) -> Result<(), Duration> {
        let taken = self.bucket.check().map(drop);
        taken.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }

    /// How many requests there might be now. Asking costs one.
    fn left(&self) -> u32 {
        self.bucket.check().map_or(0, |state| state.remaining_burst_capacity().saturating_add(1))
    }

    fn spend(&self, requests: u32) {
        if let Some(requests) = NonZeroU32::new(requests) {
            // No more than the burst, so the limiter has them.
            let _ = self.bucket.check_n(requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Option<Rate> {
        let count = |n| NonZeroU32::new(n).unwrap();
        Some(Rate { per_second: count(per_second), burst: count(burst) })
    }

    /// How many pass at once; the rates are so low that none grows back.
    fn passed(pace: &Pace) -> usize {
        (0..100).take_while(|_| pace.take().is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_one_waits_its_share_of_a_second() {
        let pace = Pace::default();
        assert_eq!(passed(&pace), 100, "no rate");
        pace.set(rate(1, 7));
        assert_eq!(passed(&pace), 7);
        let wait = pace.take().unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        pace.set(None);
        assert_eq!(passed(&pace), 100);
    }

    #[test]
    fn another_rate_gives_nothing_away() {
        let pace = Pace::default();
        pace.set(rate(1, 10));
        (0..4).for_each(|_| pace.take().unwrap());
        pace.set(rate(1, 10));
        pace.set(rate(2, 20));
        assert_eq!(passed(&pace), 6, "what was left");
        pace.set(rate(1, 5));
        assert_eq!(passed(&pace), 0);
        pace.set(None);
        pace.set(rate(1, 5));
        assert_eq!(passed(&pace), 5, "without a rate nothing is counted");
    }
}
