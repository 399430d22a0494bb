//! Bytes of a UTC day.
//!
//! Owns: what a user has moved today, before this start and since, and the
//! end of its quota.
//! Must not know: where the number is kept.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::core::time::Timestamp;
use crate::state::Usage;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// A day since the epoch, of gateway time (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(pub(crate) u64);

impl Day {
    /// The day of an instant.
    pub(crate) fn of(now: Timestamp) -> Self {
        Self(now.as_ms() / DAY_MS)
    }

    /// How long until the next one.
    pub(crate) fn left(now: Timestamp) -> Duration {
        Duration::from_millis(DAY_MS - now.as_ms() % DAY_MS)
    }
}

/// What was moved on a day.
#[derive(Debug, Default)]
pub(super) struct Today {
    day: Day,
    /// What the usage's total was when the day began; less than 0 where some
    /// of the day was before this start, or is another node's.
    began: i128,
    most: Option<NonZeroU64>,
}

impl Today {
    /// Goes on to the day of `now` if that is a later one. (Gateway time does
    /// not step back.)
    pub(super) fn turn(&mut self, usage: &Usage, now: Timestamp) {
        let day = Day::of(now);
        if day > self.day {
            self.day = day;
            self.began = usage.total().into();
            self.set_end(usage);
        }
    }

    /// So many bytes of a day were moved in all, as others know: before this
    /// start. What this one has counted of the day comes on top.
    pub(super) fn add(&mut self, usage: &Usage, day: Day, bytes: u64) {
        if day == self.day {
            self.began -= i128::from(bytes);
            self.set_end(usage);
        }
    }

    /// At most so many a day.
    pub(super) fn limit(&mut self, usage: &Usage, most: Option<NonZeroU64>) {
        self.most = most;
        self.set_end(usage);
    }

    /// Bytes of the day so far.
    pub(super) fn bytes(&self, usage: &Usage) -> u64 {
        u64::try_from(i128::from(usage.total()) - self.began).unwrap_or(0)
    }

    fn set_end(&self, usage: &Usage) {
        let end = self.most.map(|most| {
            let end = self.began + i128::from(most.get());
            // `u64::MAX` means that there is none.
            u64::try_from(end.max(0)).unwrap_or(u64::MAX).min(u64::MAX - 1)
        });
        usage.end_at(end.unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u64, ms: u64) -> Timestamp {
        Timestamp::from_ms(day * DAY_MS + ms)
    }

    #[test]
    fn a_quota_is_a_days_and_goes_on_after_a_restart() {
        let (usage, mut today) = (Usage::default(), Today::default());
        today.turn(&usage, at(9, 5));
        today.limit(&usage, NonZeroU64::new(100));
        usage.add_up(10);
        today.add(&usage, Day(9), 70);
        assert_eq!((today.bytes(&usage), usage.left()), (80, 20));
        today.add(&usage, Day(8), 70);
        assert_eq!(today.bytes(&usage), 80, "of the day before");
        usage.add_down(25);
        assert_eq!((today.bytes(&usage), usage.left()), (105, 0));
        today.limit(&usage, NonZeroU64::new(200));
        assert_eq!(usage.left(), 95, "another limit, the same count");
        today.limit(&usage, None);
        assert_eq!((today.bytes(&usage), usage.left()), (105, u64::MAX));
        today.limit(&usage, NonZeroU64::new(100));
        today.turn(&usage, at(9, DAY_MS - 1));
        assert_eq!(usage.left(), 0);
        today.turn(&usage, at(10, 0));
        assert_eq!((today.bytes(&usage), usage.left()), (0, 100));
        assert_eq!(Day::left(at(10, 0)), Duration::from_secs(24 * 3600));
        assert_eq!(Day::left(at(10, DAY_MS - 1)), Duration::from_millis(1));
    }

    #[test]
    fn a_quota_that_was_used_up_before_the_start_is_used_up() {
        let (usage, mut today) = (Usage::default(), Today::default());
        today.turn(&usage, at(9, 5));
        today.limit(&usage, NonZeroU64::new(100));
        today.add(&usage, Day(9), 150);
        assert_eq!((today.bytes(&usage), usage.left()), (150, 0));
        today.limit(&usage, NonZeroU64::new(u64::MAX));
        assert!(usage.left() > 1 << 63 && usage.left() < u64::MAX);
    }
}
