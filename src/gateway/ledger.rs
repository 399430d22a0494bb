//! What the store does, told to those who count.
//!
//! Owns: who hears of it: the exits' counts, the gateway's, and whoever
//! listens.
//! Must not know: why a pin comes or goes.

use std::sync::Arc;

use crate::core::pin::{ExitName, Pin, Variant};
use crate::core::time::Timestamp;
use crate::observe::events::{self, Event};
use crate::observe::instruments::Instruments;
use crate::state::Exits;
use crate::store::{Damage, Left, PinObserver};

/// Tells the exits' counts, and whoever listens, what the store does.
pub(super) struct Ledger {
    pub(super) exits: Arc<Exits>,
    pub(super) instruments: Arc<Instruments>,
}

impl PinObserver for Ledger {
    fn loaded(&self, pin: &Pin) {
        self.exits.loaded(pin);
    }

    fn left(&self, pin: &Pin, at: Timestamp, why: Left) {
        self.exits.left(pin, (why == Left::Ended).then_some(at));
        if why == Left::Ended {
            self.instruments.ended.one();
            self.instruments.events.tell(|| Event::SessionEnded(events::Session::of(pin)));
        }
    }

    fn extended(&self, before: &Pin, now: &Pin) {
        self.exits.extended(before, now);
    }

    fn rested(&self, exit: &ExitName, _: &Variant, until: Timestamp) {
        self.exits.rested(exit, until);
    }

    fn damaged(&self, damage: &Damage) {
        log_damage(damage);
        self.instruments.damage.one();
    }
}

/// Says what of the state was lost.
pub(super) fn log_damage(damage: &Damage) {
    tracing::error!(
        code = "state_damaged",
        file = %damage.file.display(),
        lost = damage.lost.as_str(),
        "state_damaged"
    );
}
