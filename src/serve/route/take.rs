//! The room that a pin takes on an exit.
//!
//! Owns: that it is taken on all gateways together: with the pin, or, where a
//! pin moves, before; and what is done where other gateways have filled an
//! exit since its pins were counted.
//! Must not know: which exit a session should have.

use super::{Leg, Route};
use crate::core::code::Code;
use crate::core::exit::Via;
use crate::core::fault::Fault;
use crate::core::pin::{ExitName, Pin};
use crate::core::prefix::Addresses;
use crate::state::{NewPin, NoExit, Pick};
use crate::store::{Claim, Demand, Reserved};

/// So many exits are tried that other gateways have filled. Each is known to
/// be full then, until it is counted again.
pub(super) const MOST_FULL: u32 = 32;

/// An exit for a pin that moves, with room on it.
pub(super) struct Taken {
    pub(super) pick: Pick,
    pub(super) proposal: Pin,
    pub(super) reserved: Reserved,
}

impl Route<'_> {
    /// Reserves on all gateways what a pin takes of an exit that was placed;
    /// of another one, where other gateways have filled it.
    pub(super) async fn take(
        &self,
        mut placed: Result<Pick, NoExit>,
        ask: &NewPin<'_>,
    ) -> Result<Result<Taken, NoExit>, Fault> {
        let mut not = ask.not.to_vec();
        for _ in 0..MOST_FULL {
            let mut pick = match placed {
                Ok(pick) => pick,
                Err(none) => return Ok(Err(none)),
            };
            let (key, mut proposal) = (self.session.key, self.proposal(&pick));
            let demand = demand(&pick, ask.siblings_only);
            if let Some(reserved) = self.shared.store.reserve(key, &proposal, &demand).await? {
                if let Some(address) = reserved.address() {
                    pick.give(address);
                    proposal.variant = pick.variant.clone();
                }
                return Ok(Ok(Taken { pick, proposal, reserved }));
            }
            self.filled(pick, &mut not);
            placed = self.pool.place(&NewPin { not: &not, ..*ask }, self.now(), &mut rand::rng());
        }
        Err(all_filled())
    }

    /// Other gateways have filled the exit: it counts as full here as well.
    pub(super) fn filled(&self, pick: Pick, not: &mut Vec<ExitName>) {
        let exit = pick.exit.clone();
        // Its own room is no pin's.
        drop(pick);
        if let Some((_, live)) = self.pool.exit(&exit.name.id)
            && exit.max_sessions > 0
        {
            live.counted(exit.max_sessions);
        }
        not.push(exit.name.clone());
    }
}

/// What a pin on this exit takes on all gateways. `exactly`: another address
/// of a prefix will not do.
pub(super) fn demand(pick: &Pick, exactly: bool) -> Demand {
    let addresses = match pick.exit.via {
        Via::Prefix(net) if !exactly => Some(Addresses::of(net)),
        _ => None,
    };
    Demand { exit_most: pick.exit.max_sessions, addresses, user_most: None }
}

/// Every exit that was tried is full.
pub(super) fn all_filled() -> Fault {
    Fault::new(Code::NoExit, "other gateways have taken the room of every exit that was tried")
}

/// A claim whose room is settled.
pub(super) struct Adopted(Claim);

/// The winner's room counts from now on; a loser's is given back with its
/// pick.
pub(super) fn adopt(claim: Claim, pick: &mut Pick, reserved: Reserved) -> Adopted {
    if claim.won {
        reserved.keep();
        if let Some(address) = claim.pin.variant.address() {
            pick.give(address);
        }
        if let Some(room) = pick.room.take() {
            room.commit(&claim.pin);
        }
    }
    Adopted(claim)
}

impl Adopted {
    pub(super) fn then_use(self, pick: Pick) -> Leg {
        let pick = self.0.won.then_some(pick);
        Leg { claim: self.0, pick }
    }
}
