//! Instants and lengths of time as plain numbers.
//!
//! Owns: [`Timestamp`], [`Ttl`] and the one reading of a written duration.
//! Must not know: any clock. `now` is always an argument.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Milliseconds since the Unix epoch, on the gateway's own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// This instant and `by` more.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// A session's length in whole seconds, 1 s to 168 h (SPEC: promise 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(NonZeroU32);

impl Ttl {
    /// 1 s.
    pub const MIN: Self = Self(NonZeroU32::MIN);
    /// 168 h: the longest a session can be asked to last.
    pub const MAX: Self = match NonZeroU32::new(168 * 3600) {
        Some(s) => Self(s),
        None => Self::MIN,
    };

    /// Whole seconds; `None` outside 1 s to 168 h.
    pub fn from_secs(secs: u64) -> Option<Self> {
        let secs = NonZeroU32::new(u32::try_from(secs).ok()?)?;
        (secs <= Self::MAX.0).then_some(Self(secs))
    }

    /// A part of a second counts as a whole one, so that nothing ends early;
    /// `None` outside 1 s to 168 h.
    pub fn from_duration(d: Duration) -> Option<Self> {
        if d < Duration::from_secs(1) {
            return None;
        }
        Self::from_secs(d.as_secs().checked_add(u64::from(d.subsec_nanos() > 0))?)
    }

    /// Whole seconds.
    pub const fn as_secs(self) -> u32 {
        self.0.get()
    }

    /// As a [`Duration`].
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0.get() as u64)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.as_duration()).to_string().replace(' ', ""))
    }
}

/// Why a written duration was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number with a unit.
    #[error("a duration is a number with a unit, such as 90s, 10m, 1h30m, 24h or 7d")]
    Malformed,
    /// Well-formed, and too large to hold.
    #[error("the duration is too large")]
    TooLarge,
}

/// Reads `90s`, `10m`, `1h30m`, `24h`, `7d`: humantime's way of writing,
/// without spaces and never without a unit.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let bare = text.bytes().all(|b| b.is_ascii_digit());
    if text.is_empty() || bare || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(DurationError::Malformed);
    }
    humantime::parse_duration(text).map_err(|e| match e {
        humantime::DurationError::NumberOverflow => DurationError::TooLarge,
        _ => DurationError::Malformed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<u64, DurationError>) {
        assert_eq!(parse_duration(text).map(|d| d.as_millis() as u64), expected, "{text}");
    }

    #[test]
    fn durations_need_a_unit_and_no_spaces() {
        check("90s", Ok(90_000));
        check("1h30m", Ok(5_400_000));
        check("7d", Ok(604_800_000));
        check("500ms", Ok(500));
        check("0s", Ok(0));
        check("10", Err(DurationError::Malformed));
        check("0", Err(DurationError::Malformed));
        check("", Err(DurationError::Malformed));
        check("1h 30m", Err(DurationError::Malformed));
        check("-5m", Err(DurationError::Malformed));
        check("m", Err(DurationError::Malformed));
        check("1.5h", Err(DurationError::Malformed));
        check("99999999999999999999999h", Err(DurationError::TooLarge));
        check("99999999999999999y", Err(DurationError::TooLarge));
    }

    #[test]
    fn a_ttl_is_one_second_to_a_week() {
        assert_eq!(Ttl::from_secs(0), None);
        assert_eq!(Ttl::from_secs(604_800), Some(Ttl::MAX));
        assert_eq!(Ttl::from_secs(604_801), None);
        assert_eq!(Ttl::from_duration(Duration::from_millis(999)), None);
        assert_eq!(Ttl::from_duration(Duration::from_millis(1001)), Ttl::from_secs(2));
        assert_eq!(Ttl::from_duration(Duration::from_millis(604_800_001)), None);
        assert_eq!(Ttl::MAX.to_string(), "7days");
    }
}
