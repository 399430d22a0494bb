//! Pins that are changed: moved, made to last.
//!
//! Owns: what of a change is done under the shard's lock, and what waits for
//! the disk.
//! Must not know: why a pin is changed.

use super::disk::Change;
use super::local::Local;
use super::{Claim, Left, StoreFault};
use crate::core::pin::Pin;
use crate::core::pins::{Only, Repinned};
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

impl Local {
    pub(super) async fn repin(
        &self,
        key: SessionKey,
        seen: u64,
        only: Only,
        mut proposal: Pin,
    ) -> Result<Option<Claim>, StoreFault> {
        proposal.version = rand::random();
        let mut room = match self.room().await {
            Ok(room) => room,
            Err(StoreFault::HandedOver) => return Err(StoreFault::HandedOver),
            // No move then; but perhaps there was one already.
            Err(fault) => {
                return self.look(key).filter(|claim| claim.pin.version != seen).map(Some).ok_or(fault);
            }
        };
        let at = self.now();
        let mut shard = self.shards.of(key);
        let (mut now, before) = match shard.repin(key, seen, only, &proposal, at) {
            Repinned::Moved { now, before } => (now, before),
            Repinned::Lost(held) => return Ok(Some(self.shown(key, held, false))),
            Repinned::Gone => return Ok(None),
        };
        let change =
            || Change::Moved { key, pin: Box::new(now.pin.clone()), before: Box::new(before.clone()) };
        match self.push(change, &mut room) {
            Ok(number) => now.record = number,
            Err(fault) => {
                shard.set(key, Some(&before));
                return Err(fault);
            }
        }
        shard.wrote(key, now.record);
        let claim = self.shown(key, now, true);
        drop(shard);
        self.see_to();
        self.observer().left(&before.pin, at, Left::Moved);
        Ok(Some(claim))
    }

    pub(super) async fn extend(
        &self,
        key: SessionKey,
        seen: u64,
        expires: Timestamp,
    ) -> Result<Option<Claim>, StoreFault> {
        let mut room = self.room().await?;
        let (claim, before, receipt) = {
            let mut shard = self.shards.of(key);
            let (mut now, before) = match shard.extend(key, seen, expires, self.now()) {
                Repinned::Moved { now, before } => (now, before),
                Repinned::Lost(held) => return Ok(Some(self.shown(key, held, false))),
                Repinned::Gone => return Ok(None),
            };
            let change =
                || Change::Extended { key, pin: Box::new(now.pin.clone()), before: Box::new(before.clone()) };
            match self.push(change, &mut room) {
                Ok(number) => now.record = number,
                Err(fault) => {
                    shard.set(key, Some(&before));
                    return Err(fault);
                }
            }
            shard.wrote(key, now.record);
            // That the pin is there proves nothing: it was there before.
            let receipt = self.receipt(key, None, now.record);
            (self.shown(key, now, true), before, receipt)
        };
        drop(room);
        self.see_to();
        self.observer().extended(&before.pin, &claim.pin);
        receipt.settled().await?;
        Ok(Some(claim))
    }
}
