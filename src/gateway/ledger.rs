//! What the store does, for those who keep counts.
//!
//! Owns: who hears of a pin: its exit's count and its user's.
//! Must not know: what they count for.

use std::sync::Arc;

use super::log_damage;
use crate::admit::limits::tabs::Tabs;
use crate::core::pin::{ExitName, Pin, Variant};
use crate::core::time::Timestamp;
use crate::state::Exits;
use crate::store::{Damage, Left, PinObserver};

/// Tells the counts of exits and users what the store does.
pub(super) struct Ledger(pub(super) Arc<Exits>, pub(super) Arc<Tabs>);

impl PinObserver for Ledger {
    fn loaded(&self, pin: &Pin) {
        self.0.loaded(pin);
        self.1.loaded(pin);
    }

    fn left(&self, pin: &Pin, at: Timestamp, why: Left) {
        self.0.left(pin, (why == Left::Ended).then_some(at));
        if why != Left::Moved {
            self.1.ended(pin);
        }
    }

    fn rested(&self, exit: &ExitName, _: &Variant, until: Timestamp) {
        self.0.rested(exit, until);
    }

    fn damaged(&self, damage: &Damage) {
        log_damage(damage);
    }
}
