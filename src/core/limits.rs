//! What a user may use up.
//!
//! Owns: [`UserLimits`] as meant, and which of two is the narrower.
//! Must not know: what has been used up.

use std::num::{NonZeroU32, NonZeroU64};

/// Bounds of what one user uses; `None`: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UserLimits {
    /// How fast requests may follow each other.
    pub rate: Option<Rate>,
    /// Tunnels and plain requests under way at once.
    pub connections: Option<NonZeroU32>,
    /// Live pins.
    pub sessions: Option<NonZeroU32>,
    /// Bytes of a UTC day, both directions together.
    pub bytes_per_day: Option<NonZeroU64>,
    /// Bytes a second, shared by all that the user has open.
    pub bandwidth: Bandwidth,
}

/// How fast requests may follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Requests a second in the long run.
    pub per_second: NonZeroU32,
    /// So many at once after a pause.
    pub burst: NonZeroU32,
}

/// Bytes a second in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bandwidth {
    /// From the clients.
    pub up: Option<NonZeroU64>,
    /// To the clients.
    pub down: Option<NonZeroU64>,
}

impl UserLimits {
    /// Whether nothing is limited.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// Of each limit the narrower.
    #[must_use]
    pub fn narrower(self, other: Self) -> Self {
        Self {
            rate: match (self.rate, other.rate) {
                (Some(a), Some(b)) => {
                    Some(Rate { per_second: a.per_second.min(b.per_second), burst: a.burst.min(b.burst) })
                }
                (a, b) => a.or(b),
            },
            connections: least(self.connections, other.connections),
            sessions: least(self.sessions, other.sessions),
            bytes_per_day: least(self.bytes_per_day, other.bytes_per_day),
            bandwidth: Bandwidth {
                up: least(self.bandwidth.up, other.bandwidth.up),
                down: least(self.bandwidth.down, other.bandwidth.down),
            },
        }
    }
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_limits_the_narrower_counts_and_none_is_the_widest() {
        let rate = |per_second, burst| {
            let count = |n| NonZeroU32::new(n).unwrap();
            Some(Rate { per_second: count(per_second), burst: count(burst) })
        };
        let one = UserLimits {
            rate: rate(5, 50),
            connections: NonZeroU32::new(9),
            bandwidth: Bandwidth { up: NonZeroU64::new(7), down: None },
            ..UserLimits::default()
        };
        let other = UserLimits {
            rate: rate(10, 20),
            sessions: NonZeroU32::new(3),
            bandwidth: Bandwidth { up: NonZeroU64::new(8), down: NonZeroU64::new(1) },
            ..UserLimits::default()
        };
        let both = one.narrower(other);
        assert_eq!(both, other.narrower(one));
        assert_eq!(both.rate, rate(5, 20));
        assert_eq!((both.connections, both.sessions), (NonZeroU32::new(9), NonZeroU32::new(3)));
        assert_eq!(both.bandwidth, Bandwidth { up: NonZeroU64::new(7), down: NonZeroU64::new(1) });
        assert_eq!(one.narrower(UserLimits::default()), one);
        assert!(UserLimits::default().are_none() && !both.are_none());
    }
}
