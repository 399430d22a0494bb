//! Pins in a store that several gateways share: Redis or Valkey.
//!
//! Owns: what a node does with each question of a request: go by what it
//! knows ([`Known`]), ask the store, or, while that is out of reach, refuse
//! or decide alone. What the store does is [`crate::core::shared::Cell`]'s to
//! say and the scripts' to do.
//! Must not know: exits' health, clients.
//!
//! Every step is one script over the key of one session. What changes a pin
//! that other nodes may know is told on a channel by the same script, so that
//! a node that hears the channel need not ask (`docs/shared-store.md`).

mod chores;
pub(super) mod days;
mod facts;
mod keeper;
mod link;
mod list;
mod names;
pub(super) mod rooms;
mod script;
mod steps;
mod value;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use self::chores::{Chore, Chores};
use self::keeper::Keeper;
use self::link::Link;
use self::names::Names;
use super::disk::locked;
use super::{Claim, Left, PinObserver, Receipt, StoreFault};
use crate::clock::Clock;
use crate::core::pin::Pin;
use crate::core::session::{SessionKey, UserName};
use crate::core::shared::{Address, Fact, Known};
use crate::core::time::Timestamp;

/// A power of two.
const SHARDS: usize = 64;
/// A claim that has to wait until the nodes have told a store what it lost
/// waits so long at most.
const PATIENCE: Duration = Duration::from_millis(1500);

/// So often a reply may be overtaken.
const MOST_OVERTAKEN: u32 = 8;

/// What is done with sessions that this node does not know while the store is
/// out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenAway {
    /// They are refused.
    #[default]
    Refuse,
    /// This node decides alone, and tells the store later.
    Local,
}

/// What happened, for metrics.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Pins made or moved without the store.
    pub(super) alone: AtomicU64,
    /// Pins that had to give way to the store's.
    pub(super) conflicts: AtomicU64,
    /// Pins that the store had lost, and has again.
    pub(super) written_back: AtomicU64,
    /// Times that the store went out of reach.
    pub(super) outages: AtomicU64,
}

/// [`Tally`] at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallied {
    /// Pins made or moved without the store.
    pub(crate) alone: u64,
    /// Pins that had to give way to the store's.
    pub(crate) conflicts: u64,
    /// Pins that the store had lost, and has again.
    pub(crate) written_back: u64,
    /// Times that the store went out of reach.
    pub(crate) outages: u64,
}

impl Tally {
    pub(super) fn read(&self) -> Tallied {
        Tallied {
            alone: self.alone.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            written_back: self.written_back.load(Relaxed),
            outages: self.outages.load(Relaxed),
        }
    }
}

/// One node's side of a shared store.
pub(super) struct Shared {
    /// This node, in this life.
    me: u64,
    names: Names,
    when_away: WhenAway,
    shards: Box<[Mutex<Known>]>,
    len: AtomicUsize,
    link: Link,
    chores: Chores,
    index: tokio::sync::Mutex<list::Index>,
    keeper: Keeper,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn PinObserver>,
    /// A pin was changed elsewhere.
    changed: Notify,
    /// Users whose sessions are counted at the store.
    limited: Mutex<HashSet<UserName>>,
    pub(super) tally: Tally,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("names", &self.names).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        address: Address,
        when_away: WhenAway,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn PinObserver>,
    ) -> Arc<Self> {
        Arc::new(Self {
            me: rand::random(),
            names: Names::new(&address),
            when_away,
            shards: (0..SHARDS).map(|_| Mutex::new(Known::new(rand::random()))).collect(),
            len: AtomicUsize::new(0),
            link: Link::new(clock.clone()),
            chores: Chores::new(),
            index: tokio::sync::Mutex::default(),
            keeper: Keeper::new(address),
            clock,
            observer,
            changed: Notify::new(),
            limited: Mutex::default(),
            tally: Tally::default(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    pub(super) fn is_away(&self) -> bool {
        self.link.is_away()
    }

    pub(super) fn peek(&self, key: SessionKey) -> Option<Pin> {
        let now = self.now();
        let fact = self.with(key, |known| known.get(key, now, 0))?;
        Some(self.to_gateway(fact.pin))
    }

    pub(super) fn look(&self, key: SessionKey) -> Option<Claim> {
        let now = self.now();
        let fact = self.with(key, |known| known.get(key, now, 0))?;
        Some(self.shown(fact, false))
    }

    /// Every known pin.
    pub(super) fn each(&self, mut f: impl FnMut(&Pin)) {
        self.all_known().into_iter().map(|(_, pin)| self.to_gateway(pin)).for_each(|pin| f(&pin));
    }

    /// Every known pin, in the store's time.
    fn all_known(&self) -> Vec<(SessionKey, Pin)> {
        let now = self.now();
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let known = locked(shard);
            all.extend(known.iter().map(|(key, fact)| (key, fact.pin)).filter(|(_, pin)| pin.lives(now)));
        }
        all
    }

    /// `None` may mean that this node does not know yet: the claim will tell,
    /// or [`Shared::find`].
    pub(super) async fn hold(&self, key: SessionKey) -> Result<Option<Claim>, StoreFault> {
        let (gateway, epoch) = (self.clock.now(), self.link.epoch());
        let now = self.link.store_time(gateway);
        let Some((fact, used)) = self.with(key, |known| known.touch(key, now, epoch)) else {
            return match self.link.is_away() && self.when_away == WhenAway::Refuse {
                true => Err(StoreFault::Away),
                false => Ok(None),
            };
        };
        let sure = fact.sure && self.link.is_trusted(gateway);
        if !sure && !self.link.is_away() {
            return match self.restore(key).await {
                Ok(found) => Ok(found),
                // What this node has seen goes on to its end.
                Err(_) => Ok(Some(self.shown(fact, false))),
            };
        }
        if used {
            self.chores.push(Chore::Touch { key, version: fact.pin.version, used: fact.pin.used });
            self.occupy(key, &fact.pin);
        }
        Ok(Some(self.shown(fact, false)))
    }

    /// As a request gets it.
    fn shown(&self, fact: Fact, won: bool) -> Claim {
        Claim {
            fresh: fact.fresh,
            contested: fact.contested,
            pin: self.to_gateway(fact.pin),
            won,
            receipt: Receipt(None),
        }
    }

    pub(super) fn sweep(&self) {
        let (now, gateway) = (self.now(), self.clock.now());
        for shard in &self.shards {
            let mut known = locked(shard);
            let ended: Vec<_> = known.sweep(now).map(|(_, pin)| pin).collect();
            drop(known);
            self.len.fetch_sub(ended.len(), Relaxed);
            for pin in ended {
                let pin = self.to_gateway(pin);
                self.observer.left(&pin, pin.ends().min(gateway), Left::Ended);
            }
        }
    }

    /// The shard of a key, locked for as long as `f` takes.
    fn with<T>(&self, key: SessionKey, f: impl FnOnce(&mut Known) -> T) -> T {
        let [.., last] = *key.as_bytes();
        let mut known = locked(&self.shards[usize::from(last) % SHARDS]);
        let before = known.len();
        let done = f(&mut known);
        let after = known.len();
        if after > before {
            self.len.fetch_add(after - before, Relaxed);
        } else if after < before {
            self.len.fetch_sub(before - after, Relaxed);
        }
        done
    }

    /// The store's time, as this node reckons it.
    fn now(&self) -> Timestamp {
        self.link.store_time(self.clock.now())
    }

    fn to_gateway(&self, pin: Pin) -> Pin {
        let of = |at| self.link.gateway_time(at);
        Pin { made: of(pin.made), expires: of(pin.expires), used: of(pin.used), ..pin }
    }

    fn head(&self, key: SessionKey) -> names::Head<'_> {
        self.names.head(self.me, key)
    }
}
