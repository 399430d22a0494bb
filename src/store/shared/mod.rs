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
mod keeper;
mod link;
mod list;
mod names;
pub(super) mod rooms;
mod script;
mod value;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use self::chores::{Chore, Chores};
use self::keeper::Keeper;
use self::link::{Link, Trouble};
use self::names::Names;
use self::script::Reply;
use super::disk::locked;
use super::{Claim, Left, PinObserver, Receipt, StoreFault};
use crate::clock::Clock;
use crate::core::pin::{News, Pin};
use crate::core::pins::Only;
use crate::core::session::SessionKey;
use crate::core::shared::{Address, Announce, Changed, Entry, Fact, Known, LEASE, Told};
use crate::core::time::{Timestamp, Ttl};

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

    /// The key's pin, known here or not.
    pub(super) async fn find(&self, key: SessionKey) -> Result<Option<Claim>, StoreFault> {
        if let Some(claim) = self.look(key) {
            return Ok(Some(claim));
        }
        // Replies that are overtaken by what happens meanwhile are few.
        for _ in 0..MOST_OVERTAKEN {
            let keys: [&[u8]; 1] = [&self.names.pin(key)];
            match self.link.run(&script::LOOK, &keys, &self.head(key).args(&[])).await {
                Ok((reply, told)) if reply.code == 1 => {
                    if let Some(claim) = self.met(key, &reply, told)? {
                        return Ok(Some(claim));
                    }
                }
                Ok(_) => return Ok(None),
                Err(Trouble::Away) if self.when_away == WhenAway::Local => return Ok(None),
                Err(trouble) => return Err(trouble.into()),
            }
        }
        Err(StoreFault::Away)
    }

    pub(super) async fn claim(&self, key: SessionKey, mut proposal: Pin) -> Result<Claim, StoreFault> {
        proposal.version = rand::random();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let wait = match self.try_claim(key, &proposal).await {
                Ok(claim) => return Ok(claim),
                Err(Put::Off(wait)) => wait,
                Err(Put::Trouble(Trouble::Away)) if self.when_away == WhenAway::Local => {
                    return Ok(self.claim_alone(key, proposal));
                }
                // No new pin then; but perhaps there is one.
                Err(Put::Trouble(trouble)) => return self.look(key).ok_or_else(|| trouble.into()),
            };
            let now = Instant::now();
            if now + wait > deadline {
                return Err(StoreFault::Away);
            }
            sleep(wait).await;
        }
    }

    async fn try_claim(&self, key: SessionKey, proposal: &Pin) -> Result<Claim, Put> {
        let ttl_ms = proposal.expires.since(proposal.made).as_millis().to_string();
        let idle_s = proposal.idle.map_or(0, |idle| idle.as_secs()).to_string();
        let (body, version, era) = (value::body(proposal), proposal.version.to_le_bytes(), self.keeper.era());
        let (pin, era_key) = (self.names.pin(key), self.names.era());
        // The keys of a cluster's step lie in one slot.
        let keys: &[&[u8]] = if self.names.is_cluster { &[&pin] } else { &[&pin, era_key] };
        let arguments: [&[u8]; 5] = [&version, ttl_ms.as_bytes(), idle_s.as_bytes(), &body, &era];
        let asked = self.link.run(&script::CLAIM, keys, &self.head(key).args(&arguments)).await;
        let (reply, told) = asked.map_err(Put::Trouble)?;
        match reply.code {
            1 => {
                let made = proposal.clone().made_at(Timestamp::from_ms(reply.at_ms()));
                self.won(key, &Entry::made(made, self.me), told).ok_or(Put::Off(Duration::ZERO))
            }
            0 => self.met(key, &reply, told).map_err(Put::Trouble)?.ok_or(Put::Off(Duration::ZERO)),
            -1 => {
                self.enter(false).await.map_err(Put::Trouble)?;
                Err(Put::Off(Duration::ZERO))
            }
            _ => {
                let wait = reply.value.as_deref().and_then(|ms| std::str::from_utf8(ms).ok()?.parse().ok());
                Err(Put::Off(Duration::from_millis(wait.unwrap_or(100).clamp(1, 500))))
            }
        }
    }

    pub(super) async fn repin(
        &self,
        key: SessionKey,
        seen: u64,
        only: Only,
        mut proposal: Pin,
    ) -> Result<Option<Claim>, StoreFault> {
        proposal.version = rand::random();
        let (body, version) = (value::body(&proposal), proposal.version.to_le_bytes());
        let only_fresh: &[u8] = if only == Only::Fresh { b"1" } else { b"0" };
        let seen_bytes = seen.to_le_bytes();
        let arguments: [&[u8]; 4] = [&seen_bytes, only_fresh, &version, &body];
        let keys: [&[u8]; 1] = [&self.names.pin(key)];
        match self.link.run(&script::REPIN, &keys, &self.head(key).args(&arguments)).await {
            Ok((reply, told)) => match reply.code {
                1 => match self.moved(key, &reply, told)? {
                    Some(claim) => Ok(Some(claim)),
                    None => self.find(key).await,
                },
                0 => match self.met(key, &reply, told)? {
                    Some(claim) => Ok(Some(claim)),
                    None => self.find(key).await,
                },
                _ => {
                    self.settle(self.with(key, |known| known.lose(key, told)));
                    Ok(None)
                }
            },
            Err(Trouble::Away) if self.when_away == WhenAway::Local => {
                Ok(self.repin_alone(key, seen, only, &proposal))
            }
            // No move then; but perhaps there was one already.
            Err(trouble) => {
                let now = self.look(key).filter(|claim| claim.pin.version != seen);
                now.map(Some).ok_or_else(|| trouble.into())
            }
        }
    }

    pub(super) async fn extend(
        &self,
        key: SessionKey,
        seen: u64,
        expires: Timestamp,
    ) -> Result<Option<Claim>, StoreFault> {
        let until = self.link.store_time(expires).as_ms().to_string();
        let longest = Ttl::MAX.as_duration().as_millis().to_string();
        let seen = seen.to_le_bytes();
        let arguments: [&[u8]; 3] = [&seen, until.as_bytes(), longest.as_bytes()];
        let keys: [&[u8]; 1] = [&self.names.pin(key)];
        let asked = self.link.run(&script::EXTEND, &keys, &self.head(key).args(&arguments)).await;
        let (reply, told) = asked?;
        if reply.code == 2 {
            self.settle(self.with(key, |known| known.lose(key, told)));
            return Ok(None);
        }
        let won = reply.code == 1;
        if won {
            self.occupy(key, &self.read(&reply)?.pin);
        }
        match self.met(key, &reply, told)? {
            Some(met) => Ok(Some(Claim { won, ..met })),
            None => self.find(key).await,
        }
    }

    pub(super) async fn end(&self, key: SessionKey) -> Result<Option<Pin>, StoreFault> {
        let asked = self.link.run(&script::END, &[&self.names.pin(key)], &self.head(key).args(&[])).await;
        let (reply, told) = asked?;
        let changed = self.with(key, |known| known.lose(key, told));
        let counted = changed.left.is_some();
        self.settle(changed);
        if reply.code != 1 {
            return Ok(None);
        }
        let entry = self.read(&reply)?;
        self.vacate(key, &entry.pin, true);
        let pin = self.to_gateway(entry.pin);
        if !counted {
            tracing::debug!(session = pin.session.as_str(), "a session of another gateway was ended");
        }
        Ok(Some(pin))
    }

    pub(super) async fn announce(&self, key: SessionKey, version: u64) -> Option<News> {
        let (now, away) = (self.now(), self.link.is_away());
        match self.with(key, |known| known.announce(key, version, now, away)) {
            Announce::Say { news, tell } => {
                if tell {
                    self.chores.push(Chore::Say { key, version });
                }
                Some(news)
            }
            Announce::Gone => None,
            Announce::Ask => {
                let keys: [&[u8]; 1] = [&self.names.pin(key)];
                let bytes = version.to_le_bytes();
                match self.link.run(&script::SAY, &keys, &self.head(key).args(&[&bytes])).await {
                    Ok((Reply { code: -1, .. }, _)) => None,
                    Ok((reply, _)) => {
                        self.with(key, |known| known.said(key, version));
                        Some(match reply.code {
                            1 => News::New,
                            2 => News::Moved,
                            _ => News::Held,
                        })
                    }
                    Err(_) => Some(News::Held),
                }
            }
        }
    }

    /// Waits until it is known whether another node, which made this pin and
    /// dials its exit as well, will choose another one; the pin as it is then.
    pub(super) async fn resolve(&self, key: SessionKey, version: u64) {
        let deadline = Instant::now() + LEASE + Duration::from_millis(100);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.now();
            let fact = self.with(key, |known| known.get(key, now, 0));
            if !fact.is_some_and(|fact| fact.contested && fact.pin.version == version) {
                return;
            }
            let soon = Instant::now() + Duration::from_millis(50);
            if Instant::now() >= deadline {
                return;
            }
            // A message, or the lease's end, whichever is first.
            let _ = timeout_at(soon, changed).await;
        }
    }

    /// Asks whether what this node knows of a pin is so, and tells the store
    /// of it if it knows of none. The pin as it is.
    async fn restore(&self, key: SessionKey) -> Result<Option<Claim>, Trouble> {
        let Some((mine, base)) = self.with(key, |known| known.tell(key, self.me)) else { return Ok(None) };
        let (bytes, base) = (value::encode(&mine), base.map(u64::to_le_bytes));
        let base: &[u8] = base.as_ref().map_or(&[], |base| base);
        let keys: [&[u8]; 1] = [&self.names.pin(key)];
        let (reply, told) =
            self.link.run(&script::RESTORE, &keys, &self.head(key).args(&[&bytes, base])).await?;
        self.restored(key, &mine, &reply, told)
    }

    fn restored(
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
                self.occupy(key, &mine.pin);
            }
            1 | 2 => {
                let entry = self.read(reply)?;
                self.settle(self.with(key, |known| known.learn(key, &entry, self.me, told)));
            }
            _ => self.settle(self.with(key, |known| known.lose(key, told))),
        }
        Ok(self.with(key, |known| known.get(key, now, told.epoch)).map(|fact| self.shown(fact, false)))
    }

    fn claim_alone(&self, key: SessionKey, proposal: Pin) -> Claim {
        let now = self.now();
        let proposal = proposal.made_at(now);
        let (won, fact, changed) = self.with(key, |known| known.claim_alone(key, &proposal, now));
        self.settle(changed);
        if won {
            self.note_alone(&proposal, "made");
        }
        self.shown(fact, won)
    }

    fn repin_alone(&self, key: SessionKey, seen: u64, only: Only, proposal: &Pin) -> Option<Claim> {
        let now = self.now();
        let done = self.with(key, |known| known.repin_alone(key, seen, only, proposal, now));
        let (won, fact, changed) = done?;
        self.settle(changed);
        if won {
            self.note_alone(proposal, "moved");
        }
        Some(self.shown(fact, won))
    }

    fn note_alone(&self, pin: &Pin, what: &str) {
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
    fn won(&self, key: SessionKey, entry: &Entry, told: Told) -> Option<Claim> {
        let changed = self.with(key, |known| known.learn(key, entry, self.me, told));
        if changed.overtaken {
            return None;
        }
        let known = changed.came.is_none();
        // What was known of the key had ended, or the store had not known it.
        self.settle(Changed { came: None, ended: true, ..changed });
        self.occupy(key, &entry.pin);
        Some(self.mine(entry, known))
    }

    /// This node has moved the pin; as [`Shared::won`].
    fn moved(&self, key: SessionKey, reply: &Reply, told: Told) -> Result<Option<Claim>, Trouble> {
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
    fn mine(&self, entry: &Entry, known: bool) -> Claim {
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
    fn met(&self, key: SessionKey, reply: &Reply, told: Told) -> Result<Option<Claim>, Trouble> {
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
        });
        Ok(Some(self.shown(fact, false)))
    }

    fn read(&self, reply: &Reply) -> Result<Entry, Trouble> {
        let entry = reply.value.as_deref().and_then(value::decode);
        entry.ok_or_else(|| {
            tracing::error!("the shared store holds a pin that this gateway cannot read");
            Trouble::Refused
        })
    }

    /// Tells those who count what became of pins.
    fn settle(&self, changed: Changed) {
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

/// Why a claim is not decided.
enum Put {
    Off(Duration),
    Trouble(Trouble),
}

impl From<Trouble> for StoreFault {
    fn from(_: Trouble) -> Self {
        Self::Away
    }
}
