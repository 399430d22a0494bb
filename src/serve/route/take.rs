//! The room that a pin takes on an exit.
//!
//! Owns: that it is reserved on all gateways before the pin is proposed, and
//! settled once the store has decided.
//! Must not know: which exit a session should have.

use super::{Leg, Route};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::pin::Pin;
use crate::state::{NewPin, NoExit, Pick};
use crate::store::{Claim, Reserved};

/// So many exits, or addresses of a prefix, are tried that other gateways have
/// taken.
const MOST_FULL: u32 = 8;

/// An exit for a pin, with room on it.
pub(super) struct Taken {
    pub(super) pick: Pick,
    pub(super) proposal: Pin,
    pub(super) reserved: Reserved,
}

impl Route<'_> {
    /// Reserves on all gateways what a pin takes of an exit that was placed;
    /// another exit, where other gateways have filled it since its pins were
    /// counted, or another address.
    pub(super) async fn take(
        &self,
        mut placed: Result<Pick, NoExit>,
        ask: &NewPin<'_>,
    ) -> Result<Result<Taken, NoExit>, Fault> {
        let mut not = ask.not.to_vec();
        for left in (0..MOST_FULL).rev() {
            let pick = match placed {
                Ok(pick) => pick,
                Err(none) => return Ok(Err(none)),
            };
            let (key, proposal) = (self.session.key, self.proposal(&pick));
            let by_address = pick.variant.address().is_some();
            if let Some(reserved) = self.shared.store.reserve(key, &proposal, pick.exit.max_sessions).await? {
                return Ok(Ok(Taken { pick, proposal, reserved }));
            }
            if by_address && left == 0 && pick.exit.max_sessions == 0 {
                // A prefix whose addresses are all taken gives a used one.
                return Ok(Ok(Taken { pick, proposal, reserved: Reserved::nothing(key) }));
            }
            if !by_address || left < MOST_FULL / 2 && pick.exit.max_sessions > 0 {
                not.push(pick.exit.name.clone());
            }
            drop(pick);
            placed = self.pool.place(&NewPin { not: &not, ..*ask }, self.now(), &mut rand::rng());
        }
        Err(Fault::new(Code::NoExit, "other gateways have taken the room of every exit that was tried"))
    }
}

/// A claim whose room is settled.
pub(super) struct Adopted(Claim);

/// The winner's room counts from now on; a loser's is given back with its
/// pick.
pub(super) fn adopt(claim: Claim, pick: &mut Pick, reserved: Reserved) -> Adopted {
    if claim.won {
        reserved.keep();
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
