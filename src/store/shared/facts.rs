//! What a node learns, and what it decides alone.
//!
//! Owns: from a reply to what is known, and who counts what came and went;
//! telling the store what this node knows; pins without the store.
//! Must not know: which question a request asked.

use std::sync::atomic::Ordering::Relaxed;

use super::link::Trouble;
use super::script::{self, Reply};
use super::{Shared, value};
use crate::core::pin::Pin;
use crate::core::pins::Only;
use crate::core::session::SessionKey;
use crate::core::shared::{Changed, Entry, Fact, Told};
use crate::store::{Claim, Left, Receipt};

impl Shared {
    /// Asks whether what this node knows of a pin is so, and tells the store
    /// of it if it knows of none. The pin as it is.
    pub(super) async fn restore(&self, key: SessionKey) -> Result<Option<Claim>, Trouble> {
        let Some(mine) = self.with(key, |known| known.tell(key, self.me)) else { return Ok(None) };
        let own = value::telling(&mine);
        let keys: [&[u8]; 1] = [&self.names.pin(key)];
        let own: Vec<&[u8]> = own.iter().map(Vec::as_slice).collect();
        let (reply, told) = self.link.run(&script::RESTORE, &keys, &self.head(key).args(&own)).await?;
        if reply.code == 0 {
            self.occupy(key, &mine.entry.pin);
        }
        self.restored(key, &mine.entry, &reply, told)
    }

    /// What came of telling a pin. Where the store has it again, its room is the
    /// caller's to tell.
    pub(super) fn restored(
        &self,
        key: SessionKey,
        mine: &Entry,
        reply: &Reply,
        told: Told,
    ) -> Result<Option<Claim>, Trouble> {
        let now = self.now();
        match reply.code {
            0 => {
                self.tally.written_back.fetch_add(1, Relaxed);
                self.with(key, |known| known.told(key, mine.pin.version, told));
            }
            1 | 2 => {
                let entry = self.read(reply)?;
                self.settle(self.with(key, |known| known.learn(key, &entry, self.me, told)));
            }
            _ => self.settle(self.with(key, |known| known.lose(key, told))),
        }
        Ok(self.with(key, |known| known.get(key, now, told.epoch)).map(|fact| self.shown(fact, false)))
    }

    pub(super) fn claim_alone(&self, key: SessionKey, proposal: Pin) -> Claim {
        let now = self.now();
        let proposal = proposal.made_at(now);
        let (won, fact, changed) = self.with(key, |known| known.claim_alone(key, &proposal, now));
        self.settle(changed);
        if won {
            self.note_alone(&proposal, "made");
        }
        self.shown(fact, won)
    }

    pub(super) fn repin_alone(
        &self,
        key: SessionKey,
        seen: u64,
        only: Only,
        proposal: &Pin,
    ) -> Option<Claim> {
        let now = self.now();
        let done = self.with(key, |known| known.repin_alone(key, seen, only, proposal, now));
        let (won, fact, changed) = done?;
        self.settle(changed);
        if won {
            self.note_alone(proposal, "moved");
        }
        Some(self.shown(fact, won))
    }

    pub(super) fn note_alone(&self, pin: &Pin, what: &str) {
        self.tally.alone.fetch_add(1, Relaxed);
        let (pool, exit, session) = (&*pin.exit.pool, &*pin.exit.id, pin.session.as_str());
        tracing::warn!(
            code = "store_local",
            pool,
            exit,
            session,
            "store_local: a pin was {what} without the store"
        );
    }

    /// This node has made the pin. Its room is the caller's to count. `None`:
    /// it is another one by now.
    pub(super) fn won(&self, key: SessionKey, entry: &Entry, told: Told) -> Option<Claim> {
        let changed = self.with(key, |known| known.learn(key, entry, self.me, told));
        if changed.overtaken {
            return None;
        }
        let known = changed.came.is_none();
        // What was known of the key had ended, or the store had not known it.
        self.settle(Changed { came: None, ended: true, ..changed });
        if self.names.is_cluster {
            // One server has counted it in the same step.
            self.occupy(key, &entry.pin);
        }
        Some(self.mine(entry, known))
    }

    /// This node has moved the pin; as [`Shared::won`].
    pub(super) fn moved(&self, key: SessionKey, reply: &Reply, told: Told) -> Result<Option<Claim>, Trouble> {
        let entry = self.read(reply)?;
        let changed = self.with(key, |known| known.learn(key, &entry, self.me, told));
        if let Some(left) = &changed.left {
            self.vacate(key, left, false);
        }
        if changed.overtaken {
            return Ok(None);
        }
        let known = changed.came.is_none();
        self.settle(Changed { came: None, ..changed });
        self.occupy(key, &entry.pin);
        Ok(Some(self.mine(&entry, known)))
    }

    /// As its maker or mover gets it, who counts it as well. `known`: it was
    /// counted already, since another request met it first.
    pub(super) fn mine(&self, entry: &Entry, known: bool) -> Claim {
        if known {
            self.observer.left(&self.to_gateway(entry.pin.clone()), self.clock.now(), Left::Undone);
        }
        Claim {
            pin: self.to_gateway(entry.pin.clone()),
            won: true,
            fresh: entry.unseen,
            contested: false,
            receipt: Receipt(None),
        }
    }

    /// The store has a pin that this node may not have known. `None`: it had,
    /// and something else was heard since.
    pub(super) fn met(&self, key: SessionKey, reply: &Reply, told: Told) -> Result<Option<Claim>, Trouble> {
        let (entry, now) = (self.read(reply)?, self.now());
        let changed = self.with(key, |known| known.learn(key, &entry, self.me, told));
        let overtaken = changed.overtaken;
        self.settle(changed);
        let fact = self.with(key, |known| known.get(key, now, told.epoch));
        if overtaken && fact.is_none() {
            return Ok(None);
        }
        // By this node's reckoning it may have ended a moment ago.
        let fact = fact.unwrap_or(Fact {
            pin: entry.pin,
            sure: false,
            fresh: false,
            contested: false,
            alone: false,
            untold: false,
        });
        Ok(Some(self.shown(fact, false)))
    }

    pub(super) fn read(&self, reply: &Reply) -> Result<Entry, Trouble> {
        let entry = reply.value.as_deref().and_then(value::decode);
        entry.ok_or_else(|| {
            tracing::error!("the shared store holds a pin that this gateway cannot read");
            Trouble::Refused
        })
    }

    /// Tells those who count what became of pins.
    pub(super) fn settle(&self, changed: Changed) {
        if let (true, Some(ours), Some(theirs)) = (changed.gave_way, &changed.left, &changed.came) {
            self.tally.conflicts.fetch_add(1, Relaxed);
            tracing::warn!(
                code = "store_conflict",
                pool = &*theirs.exit.pool,
                session = theirs.session.as_str(),
                ours = &*ours.exit.id,
                theirs = &*theirs.exit.id,
                "store_conflict: the shared store has another pin of a session than this gateway, and that one counts"
            );
        }
        if let Some(left) = changed.left {
            let now = self.clock.now();
            let left = self.to_gateway(left);
            let (at, why) = match changed.ended {
                true => (now.min(left.ends()), Left::Ended),
                false => (now, Left::Moved),
            };
            self.observer.left(&left, at, why);
        }
        if let Some(came) = changed.came {
            self.observer.loaded(&self.to_gateway(came));
        }
    }
}
