//! Why no exit could be had.
//!
//! Owns: [`NoExit`]: what stood against how many exits, and when to come back.
//! Must not know: how an answer is written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::time::{Timestamp, Ttl};

/// When to come back where nothing says better: connections end any time.
const SOON: Duration = Duration::from_secs(1);

/// When to come back where only an operator can help.
const LATER: Duration = Duration::from_secs(30);

/// For how long what was found is told to others.
const FRESH: Duration = Duration::from_millis(250);

/// What stands against one exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Taken out of use by the operator.
    Inactive,
    /// It holds an address no longer than less than the ttl.
    Short,
    /// Without room for another pin, until an instant if that is known.
    Full(Option<Timestamp>),
    /// After failures; its id where another request tries it.
    Ejected(Timestamp, Option<Arc<str>>),
    /// Reported as no good for the target, and kept from it until then.
    Cooling(Timestamp),
    /// It carries as many connections as it may.
    Busy,
    /// Nothing, any more.
    Free,
}

/// How many exits were passed over for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    inactive: usize,
    /// Tried by this request already.
    tried: usize,
    short: usize,
    ejected: usize,
    cooling: usize,
    full: usize,
    busy: usize,
    free: usize,
    /// One that another request tries after its ejection.
    on_trial: Option<Arc<str>>,
    /// When the first of the ejected, cooling and full may be usable again, if
    /// that is known.
    first: Option<Timestamp>,
}

impl Tally {
    /// One exit more.
    pub(super) fn count(&mut self, standing: &Standing) {
        *self.of(standing) += 1;
        if let Standing::Full(Some(at)) | Standing::Ejected(at, _) | Standing::Cooling(at) = standing {
            self.first = Some(self.first.map_or(*at, |first| first.min(*at)));
        }
        if let Standing::Ejected(_, Some(id)) = standing {
            self.on_trial = Some(id.clone());
        }
    }

    /// One exit more, which this request has tried.
    pub(super) fn count_tried(&mut self, standing: &Standing) {
        match standing {
            Standing::Inactive => self.inactive += 1,
            _ => self.tried += 1,
        }
    }

    /// These, counted before, were tried by this request.
    pub(super) fn tried(mut self, those: impl Iterator<Item = Standing>) -> Self {
        for standing in those.filter(|standing| *standing != Standing::Inactive) {
            let counted = self.of(&standing);
            *counted = counted.saturating_sub(1);
            self.tried += 1;
        }
        self
    }

    fn of(&mut self, standing: &Standing) -> &mut usize {
        match standing {
            Standing::Inactive => &mut self.inactive,
            Standing::Short => &mut self.short,
            Standing::Full(_) => &mut self.full,
            Standing::Ejected(..) => &mut self.ejected,
            Standing::Cooling(_) => &mut self.cooling,
            Standing::Busy => &mut self.busy,
            Standing::Free => &mut self.free,
        }
    }
}

/// What was found of many exits, which is not looked for again at once.
pub(super) struct Surveyed {
    tally: Tally,
    at: Timestamp,
}

impl Surveyed {
    pub(super) fn new(tally: Tally, at: Timestamp) -> Self {
        Self { tally, at }
    }

    /// It, as long as it is fresh.
    pub(super) fn tally_at(&self, now: Timestamp) -> Option<&Tally> {
        (self.at <= now && now.since(self.at) < FRESH).then_some(&self.tally)
    }
}

/// No exit of the pool can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoExit {
    /// What was asked of the pool, for the sentence.
    pub(super) asked: String,
    /// The ttl that was asked for.
    pub(super) ttl: Option<Ttl>,
    /// Exits that match, whatever their state.
    pub(super) matching: usize,
    /// Of those, what stood against them.
    pub(super) tally: Box<Tally>,
    pub(super) now: Timestamp,
}

impl NoExit {
    /// Whether exits that this request has tried in vain are all that stood
    /// against it: what the last of them said tells the client more.
    pub fn all_tried(&self) -> bool {
        self.tally.tried > 0 && self.tally.tried + self.tally.inactive == self.matching
    }

    /// An exit that another request tries after its ejection: when that is
    /// over there may be one, and now there is none.
    pub fn on_trial(&self) -> Option<Arc<str>> {
        self.tally.on_trial.clone()
    }

    /// Whether a pin that ends may make room for this one.
    pub fn lacks_room(&self) -> bool {
        self.tally.full > 0
    }

    /// When to come back.
    pub fn retry_after(&self) -> Duration {
        let Tally { busy, free, tried, first, .. } = &*self.tally;
        match first {
            _ if busy + free > 0 => Duration::ZERO,
            Some(first) => first.since(self.now),
            None if *tried > 0 => SOON,
            None => LATER,
        }
    }

    /// What stood against the exits, most telling first.
    fn reasons(&self) -> Vec<String> {
        let ttl = self.ttl.unwrap_or(Ttl::MAX);
        [
            (self.tally.full, "without room for another session".to_owned()),
            (self.tally.ejected, "ejected after failures".to_owned()),
            (self.tally.cooling, "reported as no good for this target".to_owned()),
            (self.tally.short, format!("with a max_ttl below {ttl}: ask for a shorter ttl")),
            (self.tally.busy, "at max_connections".to_owned()),
            (self.tally.tried, "failed for this request".to_owned()),
            (self.tally.inactive, "set to drain or off".to_owned()),
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
