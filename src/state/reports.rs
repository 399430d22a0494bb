//! Reports of clients about a pool's exits.
//!
//! Owns: what of an exit a report keeps from its target, and what a choice for
//! a target has to leave out.
//! Must not know: who reported, how what cools is kept (`cooling` does).

use std::sync::Arc;

use super::cooling::{Cool, Cooled};
use super::pools::LivePool;
use crate::core::exit::Via;
use crate::core::pin::Variant;
use crate::core::target::Target;
use crate::core::time::Timestamp;
use crate::observe::instruments::Reports;

impl LivePool {
    /// What is kept from the target. An exit that the client names is its own
    /// choice.
    pub(super) fn cool(
        &self,
        target: Option<&Target>,
        named: Option<&str>,
        now: Timestamp,
    ) -> Option<Arc<Cool>> {
        target.filter(|_| named.is_none()).and_then(|target| self.cooling.of(|| Some(target.site()), now))
    }

    /// From now on the exit of this id is kept from the target's site for the
    /// pool's `cooldown`; of a prefix only that address, of a template
    /// nothing, for its next session leaves by another address anyhow. Until
    /// when; `None`: nothing is kept from anywhere.
    pub fn report(&self, id: &str, variant: &Variant, target: &Target, now: Timestamp) -> Option<Timestamp> {
        let (exit, _) = self.exit(id).filter(|_| !self.pool.cooldown.is_zero())?;
        let address = match &exit.via {
            Via::Prefix(_) => Some(variant.address()?),
            via if via.is_template() => return None,
            _ => None,
        };
        let until = now.plus(self.pool.cooldown);
        self.cooling.report(&target.site(), &exit.name.id, address, until, now);
        Some(until)
    }

    /// Whether a variant of an exit is not kept from the target.
    pub fn is_good(&self, variant: &Variant, target: &Target, now: Timestamp) -> bool {
        let Some(address) = variant.address() else { return true };
        let cool = self.cooling.of(|| Some(target.site()), now);
        cool.is_none_or(|cool| !cool.has_address(address, now))
    }

    /// What clients have reported of its exits, for counting.
    pub(crate) fn reports(&self) -> &Reports {
        &self.cooling.reports
    }

    /// All that is kept from somewhere.
    pub fn cooled(&self, now: Timestamp) -> Vec<Cooled> {
        self.cooling.list(now)
    }

    /// The exit of this id is kept from nowhere any more.
    pub fn forget_reports(&self, id: &str) {
        self.cooling.forget(id);
    }
}
