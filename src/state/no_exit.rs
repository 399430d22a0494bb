//! Why no exit could be had.
//!
//! Owns: [`NoExit`]: what stood against each exit, and when to come back.
//! Must not know: how an answer is written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::time::Ttl;

/// When to come back where nothing says better: connections end any time.
const SOON: Duration = Duration::from_secs(1);

/// When to come back where only an operator can help.
const LATER: Duration = Duration::from_secs(30);

/// No exit of the pool can be used: how many were passed over for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoExit {
    /// What was asked of the pool, for the sentence.
    pub(super) asked: String,
    /// The ttl that was asked for.
    pub(super) ttl: Option<Ttl>,
    /// Exits that match, whatever their state.
    pub(super) matching: usize,
    /// Of those, taken out of use by the operator.
    pub(super) inactive: usize,
    /// Tried by this request already.
    pub(super) tried: usize,
    /// Holding an address no longer than less than the ttl.
    pub(super) short: usize,
    /// Ejected after failures.
    pub(super) ejected: usize,
    /// Without room for another pin.
    pub(super) full: usize,
    /// Carrying as many connections as they may.
    pub(super) busy: usize,
    /// One that another request tries after its ejection.
    pub(super) on_trial: Option<Arc<str>>,
    /// When the first may be usable again, if that is known.
    pub(super) retry_after: Option<Duration>,
}

impl NoExit {
    /// Whether exits that this request has tried in vain are all that stood
    /// against it: what the last of them said tells the client more.
    pub fn all_tried(&self) -> bool {
        self.tried > 0 && self.tried + self.inactive == self.matching
    }

    /// An exit that another request tries after its ejection: when that is
    /// over there may be one, and now there is none.
    pub fn on_trial(&self) -> Option<Arc<str>> {
        self.on_trial.clone()
    }

    /// Whether a pin that ends may make room for this one.
    pub fn lacks_room(&self) -> bool {
        self.full > 0
    }

    /// When to come back.
    pub fn retry_after(&self) -> Duration {
        let by_hand = self.busy == 0 && self.tried == 0;
        self.retry_after.unwrap_or(if by_hand { LATER } else { SOON })
    }

    /// What stood against the exits, most telling first.
    fn reasons(&self) -> Vec<String> {
        let ttl = self.ttl.unwrap_or(Ttl::MAX);
        [
            (self.full, "without room for another session".to_owned()),
            (self.ejected, "ejected after failures".to_owned()),
            (self.short, format!("with a max_ttl below {ttl}: ask for a shorter ttl")),
            (self.busy, "at max_connections".to_owned()),
            (self.tried, "failed for this request".to_owned()),
            (self.inactive, "set to drain or off".to_owned()),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}

impl fmt::Display for NoExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.matching == 0 {
            return write!(f, "there is no exit of {}", self.asked);
        }
        let reasons = self.reasons();
        if reasons.is_empty() {
            return write!(f, "no exit of {} was free a moment ago: try again", self.asked);
        }
        write!(f, "no exit of {} can be used now: {}", self.asked, reasons.join(", "))
    }
}

impl From<NoExit> for Fault {
    fn from(none: NoExit) -> Self {
        Self::new(Code::NoExit, none.to_string()).retry_after(none.retry_after())
    }
}
