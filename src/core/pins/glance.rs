//! Pins as a search sees them.
//!
//! Owns: [`Glance`], and going over a shard in parts.
//! Must not know: what is searched for, other shards, locks.

use super::Pins;
use super::slot::{Names, Slot};
use crate::core::pin::ExitName;
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

/// A live pin to look at: nothing of it is copied.
#[derive(Debug)]
pub struct Glance<'a> {
    slot: &'a Slot,
    names: &'a Names,
}

impl Glance<'_> {
    /// The session's key.
    pub fn key(&self) -> SessionKey {
        self.slot.key
    }

    /// Whose session it is.
    pub fn user(&self) -> &str {
        self.slot.user(self.names)
    }

    /// Through which exit it leaves.
    pub fn exit(&self) -> &ExitName {
        self.slot.exit(self.names)
    }

    /// The session's name.
    pub fn session(&self) -> &str {
        self.slot.session()
    }
}

impl Pins {
    /// Shows live pins, at most `most` places of the map from `below`
    /// downwards, and returns from where to go on; 0: that was all.
    ///
    /// Begun with `u32::MAX` and gone on with to 0, it shows every pin that
    /// lives all the while, whatever else is done to the map between two
    /// calls: a pin only ever changes its place to a lower one. One that does
    /// may be shown twice.
    pub fn glance(&self, below: u32, most: u32, now: Timestamp, mut f: impl FnMut(&Glance<'_>)) -> u32 {
        let below = below.min(self.slots.len());
        let to = below.saturating_sub(most);
        for at in (to..below).rev() {
            let slot = &self.slots[at];
            if slot.lives(now) {
                f(&Glance { slot, names: &self.names });
            }
        }
        to
    }
}
