//! What a node knows of one pin.
//!
//! Owns: [`Fact`], and the bits that a pin's record carries beside it.
//! Must not know: how a node comes to know it.

use super::LEASE;
use crate::core::pin::{News, Pin};
use crate::core::pins::Held;
use crate::core::time::Timestamp;

/// The next success asks the store what it says.
pub(super) const ASK: u64 = 1;
/// Another node made it, and it was seen by nobody when this one met it.
pub(super) const CONTESTED: u64 = 2;
/// This node made or moved it without the store.
pub(super) const ALONE: u64 = 4;
/// `new` was said, and the store need not have heard of it.
pub(super) const UNTOLD: u64 = 8;
pub(super) const BITS: u32 = 4;

/// A pin as a node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The pin, in the store's time.
    pub pin: Pin,
    /// It need not be asked about.
    pub sure: bool,
    /// No success was answered yet, and this node may choose another exit.
    pub fresh: bool,
    /// Another node may yet choose another exit for it.
    pub contested: bool,
    /// It was made or moved without the store.
    pub alone: bool,
    /// The store need not have heard what was said of it.
    pub untold: bool,
}

/// What is known of a pin in this epoch, at this instant.
pub(super) fn fact(held: Held, epoch: u64, now: Timestamp) -> Fact {
    // Beyond the lease of the node that made it, whoever comes may do it.
    let others = held.record & CONTESTED != 0;
    let leased = now < held.pin.made.plus(LEASE);
    Fact {
        sure: held.record >> BITS == epoch && held.record & ALONE == 0,
        fresh: held.news == News::New || others && !leased,
        contested: others && leased,
        alone: held.record & ALONE != 0,
        untold: held.record & UNTOLD != 0,
        pin: held.pin,
    }
}
