//! What a store shares with other gateways beside pins.
//!
//! Owns: the questions about all gateways together: room, users' bytes, what
//! the sharing has made necessary. One that nobody shares has an answer to
//! each that costs nothing.
//! Must not know: how they are asked.

use super::{Demand, Handle, Moved, Placed, Reserved, Store, StoreFault, Tallied};
use crate::core::pin::{ExitName, Pin};
use crate::core::session::SessionKey;

impl Store {
    /// Whether other gateways use it as well.
    pub fn is_shared(&self) -> bool {
        matches!(*self.0, Handle::Shared(_))
    }

    /// Reserves what a move to this exit takes of it on all gateways: room, and
    /// an address of a prefix. `None`: other gateways' pins fill it. Costs
    /// nothing where there is no limit and no prefix, or no other gateway.
    pub async fn reserve(
        &self,
        key: SessionKey,
        proposal: &Pin,
        demand: &Demand,
    ) -> Result<Option<Reserved>, StoreFault> {
        match &*self.0 {
            Handle::Local(_) => Ok(Some(Reserved::nothing(key))),
            Handle::Shared(shared) => shared.reserve(key, proposal, demand).await,
        }
    }

    /// As [`Store::claim`], if there is room for it on all gateways together; what this
    /// gateway itself knows of that is the caller's to look at.
    pub async fn place(&self, key: SessionKey, proposal: Pin, demand: &Demand) -> Result<Placed, StoreFault> {
        match &*self.0 {
            Handle::Local(local) => local.claim(key, proposal).await.map(Placed::Pinned),
            Handle::Shared(shared) => shared.place(key, proposal, demand).await,
        }
    }

    /// How many pins each of these exits holds on all gateways; `None`: only
    /// this gateway's count, or it cannot be said.
    pub async fn counts(&self, exits: &[ExitName]) -> Option<Vec<u32>> {
        match &*self.0 {
            Handle::Local(_) => None,
            Handle::Shared(shared) => shared.counts(exits).await,
        }
    }

    /// What these users have moved on a day on all gateways, this one's part
    /// being told. `None`: there is no other gateway, or it cannot be said.
    pub(crate) async fn add_bytes(&self, day: u64, moved: &[Moved]) -> Option<Vec<u64>> {
        match &*self.0 {
            Handle::Local(_) => None,
            Handle::Shared(shared) => shared.add_bytes(day, moved).await,
        }
    }

    /// What the shared store has made necessary so far; `None`: it is none.
    pub(crate) fn tally(&self) -> Option<Tallied> {
        match &*self.0 {
            Handle::Local(_) => None,
            Handle::Shared(shared) => Some(shared.tally.read()),
        }
    }
}
