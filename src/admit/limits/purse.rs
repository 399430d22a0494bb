//! One set of limits in force.
//!
//! Owns: what is bound by rate and bandwidth together, and the end that its
//! connections are told.
//! Must not know: what is counted over the whole user.
//!
//! A user has one of its own. Each different set of limits that its tokens
//! bring has one more, which binds over and above.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::ending::{Cut, Ending};
use super::rate::Pace;
use crate::core::limits::UserLimits;
use crate::state::pacer::Pacer;

/// Limits, and what is left of them.
pub(super) struct Purse {
    limits: ArcSwap<UserLimits>,
    pub(super) pace: Pace,
    pub(super) up: Arc<Pacer>,
    pub(super) down: Arc<Pacer>,
    ending: Mutex<Arc<Ending>>,
}

impl Purse {
    /// With these limits.
    pub(super) fn new(limits: UserLimits) -> Self {
        let purse = Self {
            limits: ArcSwap::default(),
            pace: Pace::default(),
            up: Pacer::new(0),
            down: Pacer::new(0),
            ending: Mutex::default(),
        };
        purse.set(limits);
        purse
    }

    /// Other limits, also for what is open.
    pub(super) fn set(&self, limits: UserLimits) {
        let rate = |bytes: Option<NonZeroU64>| bytes.map_or(0, NonZeroU64::get);
        self.pace.set(limits.rate);
        self.up.set_rate(rate(limits.bandwidth.up));
        self.down.set_rate(rate(limits.bandwidth.down));
        self.limits.store(Arc::new(limits));
    }

    pub(super) fn limits(&self) -> UserLimits {
        **self.limits.load()
    }

    /// The end of a connection that begins now.
    pub(super) fn ending(&self) -> Arc<Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends all that is open. What begins from now on is not meant.
    pub(super) fn cut(&self, why: Cut) {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for it: nobody need be told.
        if Arc::strong_count(&ending) > 1 {
            std::mem::take(&mut *ending).tell(why);
        }
    }
}
