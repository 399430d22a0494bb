//! What one node knows of the pins in a shared store.
//!
//! Owns: [`Known`]: which pins this node has seen, how sure it may be of
//! them, and what it may say of them without asking.
//! Must not know: how the store is asked, or reached.
//!
//! A pin is *sure* while every message that the store sent since the pin was
//! learned has been heard; that time is an *epoch*. A message lost, or maybe
//! lost, ends the epoch, and then each pin is asked about once before it is
//! used. Replies and messages overtake each other: each says when the store
//! sent it ([`Told`]), and what is older than the last that was heard of a key
//! makes its pin unsure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::OWN_LEASE;
use super::cell::{Entry, NOBODY, Telling};
use super::fact::{ALONE, ASK, BITS, CONTESTED, Fact, UNTOLD, fact};
use crate::core::pin::{News, Pin};
use crate::core::pins::{Claimed, Held, Only, Pins, Repinned};
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

/// So much of what the store said last is remembered, for so long: a reply is
/// under way no longer. Beyond, a store whose clock was set back is believed.
const LATELY: usize = 1024;
const LATELY_FOR: Duration = Duration::from_secs(2);

/// The pins that one node has seen, of one shard. Single-threaded.
#[derive(Debug)]
pub struct Known {
    pins: Pins,
    /// The version that the store had of pins moved alone.
    bases: HashMap<SessionKey, u64>,
    lately: VecDeque<Heard>,
}

/// What the store said last.
#[derive(Debug)]
struct Heard {
    key: SessionKey,
    /// Of the pin; `None`: there is none.
    version: Option<u64>,
    told: Told,
}

/// When the store said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The epoch in which it was asked, or in which its message came.
    pub epoch: u64,
    /// The store's time, in µs.
    pub at_us: u64,
    /// When it was heard, by the node's own clock.
    pub here: Timestamp,
}

/// A message of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The pin was moved, extended or seen, and is so now.
    Is(Box<Entry>),
    /// The pin was ended.
    Ended,
}

/// What a node may say at a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// This. `tell`: the store should hear of it.
    Say {
        /// What to say.
        news: News,
        /// Whether the store is to be told.
        tell: bool,
    },
    /// What the store says.
    Ask,
    /// The pin is another one by now.
    Gone,
}

/// What became of the pins that a node counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Changed {
    /// It is not so any more.
    pub left: Option<Pin>,
    /// `left` has ended, rather than moved.
    pub ended: bool,
    /// It is so now.
    pub came: Option<Pin>,
    /// `left` was what this node had decided, and the store has decided
    /// otherwise.
    pub gave_way: bool,
    /// Nothing was learned: something that the store said later was heard
    /// before.
    pub overtaken: bool,
}

impl Known {
    /// Nothing is known. `seed` as for [`Pins::new`].
    pub fn new(seed: u64) -> Self {
        Self { pins: Pins::new(seed), bases: HashMap::new(), lately: VecDeque::new() }
    }

    /// How many pins are known.
    pub fn len(&self) -> usize {
        self.pins.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty()
    }

    /// The key's pin, if one is known to live.
    pub fn get(&self, key: SessionKey, now: Timestamp, epoch: u64) -> Option<Fact> {
        self.pins.get(key, now).map(|held| fact(held, epoch, now))
    }

    /// The same, used now. The second: the store should hear of the use.
    pub fn touch(&mut self, key: SessionKey, now: Timestamp, epoch: u64) -> Option<(Fact, bool)> {
        let (held, moved) = self.pins.touch(key, now)?;
        Some((fact(held, epoch, now), moved))
    }

    /// All known pins, ended ones that were not swept among them.
    pub fn iter(&self) -> impl Iterator<Item = (SessionKey, Fact)> {
        self.pins.iter().map(|(key, held)| (key, fact(held, 0, Timestamp::default())))
    }

    /// The store has this pin, it said in reply to a question. Where this node
    /// went by another pin, which it had made or moved alone or which the
    /// store had lost, the store's counts, and the next success says `moved`.
    pub fn learn(&mut self, key: SessionKey, entry: &Entry, me: u64, told: Told) -> Changed {
        let version = entry.pin.version;
        if !self.hears(key, Some(version), told) {
            return Changed { overtaken: true, ..self.doubt(key) };
        }
        let epoch = told.epoch;
        let known = self.pins.get(key, Timestamp::default());
        let same = known.as_ref().filter(|known| known.pin.version == version);
        let gives_way = same.is_none() && known.as_ref().is_some_and(|known| contradicts(known, entry));
        let mut news = same.map_or(News::Held, |known| known.news);
        if gives_way {
            news = News::Moved;
        }
        // Another question of this node's may be under way that replaces it.
        let mut bits = same.filter(|_| news == News::New).map_or(0, |known| known.record & ASK);
        if entry.unsaid && news == News::Held {
            match same {
                // Said, and the store has not heard of it yet, or no more.
                Some(known) if known.record & ASK == 0 => bits |= UNTOLD,
                None if entry.owner == me && !entry.moved => news = News::New,
                _ => bits |= ASK,
            }
        }
        if entry.unseen && entry.owner != me {
            bits |= ASK | CONTESTED;
        }
        // What the node has seen of uses stays.
        let used = same.map_or(entry.pin.used, |known| known.pin.used.max(entry.pin.used));
        let pin = Pin { used, ..entry.pin.clone() };
        self.bases.remove(&key);
        Changed { gave_way: gives_way, ..self.put(key, pin, news, epoch << BITS | bits) }
    }

    /// There is no pin of this key.
    pub fn forget(&mut self, key: SessionKey) -> Changed {
        self.bases.remove(&key);
        let left = self.pins.set(key, None).map(|held| held.pin);
        Changed { ended: left.is_some(), left, ..Changed::default() }
    }

    /// The store has no pin of this key, it said in reply to a question.
    pub fn lose(&mut self, key: SessionKey, told: Told) -> Changed {
        match self.hears(key, None, told) {
            true => self.forget(key),
            false => self.doubt(key),
        }
    }

    /// A message of the store. One that was sent before the last that was
    /// heard of this key came a long way around, or the store's clock was set
    /// back: then the pin is to be asked about.
    pub fn hear(&mut self, key: SessionKey, notice: &Notice, me: u64, told: Told) -> Changed {
        let version = match notice {
            Notice::Is(entry) => Some(entry.pin.version),
            Notice::Ended => None,
        };
        let Some(known) = self.pins.get(key, Timestamp::default()) else {
            self.hears(key, version, told);
            return Changed::default();
        };
        let of_key = |heard: &&Heard| heard.key == key && heard.is_of_now(told);
        if self.lately.iter().rev().find(of_key).is_some_and(|heard| heard.told.at_us >= told.at_us) {
            let same = version == Some(known.pin.version);
            return if same { Changed::default() } else { self.doubt(key) };
        }
        match notice {
            Notice::Ended => {
                self.hears(key, version, told);
                self.forget(key)
            }
            Notice::Is(entry) => {
                let changed = self.learn(key, entry, me, told);
                // A pin that was unsure stays so: what else was missed?
                if known.record >> BITS != told.epoch {
                    let _ = self.doubt(key);
                }
                changed
            }
        }
    }

    /// Makes or keeps a pin without the store.
    pub fn claim_alone(&mut self, key: SessionKey, proposal: &Pin, now: Timestamp) -> (bool, Fact, Changed) {
        match self.pins.claim(key, proposal, now) {
            Claimed::Lost(held) => (false, fact(held, 0, now), Changed::default()),
            Claimed::Won { ended } => {
                self.pins.wrote(key, ALONE);
                self.bases.remove(&key);
                let held = Held { pin: proposal.clone(), news: News::New, record: ALONE };
                let changed = Changed { ended: ended.is_some(), left: ended, ..Changed::default() };
                (true, fact(held, 0, now), changed)
            }
        }
    }

    /// Moves a pin without the store. `None`: none is known to live.
    pub fn repin_alone(
        &mut self,
        key: SessionKey,
        seen: u64,
        only: Only,
        proposal: &Pin,
        now: Timestamp,
    ) -> Option<(bool, Fact, Changed)> {
        match self.pins.repin(key, seen, only, proposal, now) {
            Repinned::Gone => None,
            Repinned::Lost(held) => Some((false, fact(held, 0, now), Changed::default())),
            Repinned::Moved { now: is, before } => {
                if before.record & ALONE == 0 {
                    self.bases.insert(key, before.pin.version);
                }
                self.pins.wrote(key, ALONE);
                let held = Held { record: ALONE, ..is };
                let changed = Changed { left: Some(before.pin), ..Changed::default() };
                Some((true, fact(held, 0, now), changed))
            }
        }
    }

    /// What this node has to tell the store of a pin.
    pub fn tell(&self, key: SessionKey, me: u64) -> Option<Telling> {
        let held = self.pins.get(key, Timestamp::default())?;
        let (mine, alone) = (held.news != News::Held, held.record & ALONE != 0);
        let entry = Entry {
            owner: if mine { me } else { NOBODY },
            unseen: held.news == News::New || held.record & CONTESTED != 0,
            unsaid: mine || held.record & ASK != 0,
            // A move that counts owes `moved`, whoever made it.
            moved: held.news == News::Moved || held.news == News::Held && held.pin.moves > 0,
            contested: false,
            pin: held.pin,
        };
        Some(Telling { entry, base: self.bases.get(&key).copied(), alone })
    }

    /// The store has taken what it was told.
    pub fn told(&mut self, key: SessionKey, version: u64, told: Told) {
        self.hears(key, Some(version), told);
        let known = self.pins.get(key, Timestamp::default());
        if let Some(held) = known.filter(|held| held.pin.version == version) {
            self.pins.wrote(key, told.epoch << BITS | (held.record & (ASK | CONTESTED)));
            self.bases.remove(&key);
        }
    }

    /// A success through this version of the pin is about to be answered.
    /// `away`: the store cannot be asked.
    pub fn announce(&mut self, key: SessionKey, version: u64, now: Timestamp, away: bool) -> Announce {
        let known = self.pins.get(key, Timestamp::default());
        let Some(held) = known.filter(|held| held.pin.version == version) else { return Announce::Gone };
        let alone = held.record & ALONE != 0;
        let leased = now < held.pin.made.plus(OWN_LEASE);
        let asks = match held.news {
            News::Held => held.record & ASK != 0,
            // Others may have said it by now, or it may be another pin.
            News::New => !alone && (!leased || held.record & ASK != 0),
            // The store has to know that it is seen.
            News::Moved => !alone && held.record & CONTESTED != 0,
        };
        if asks && !away {
            return Announce::Ask;
        }
        if asks {
            // Whose the first success is, remains to be asked; it is seen.
            let record = held.record & !CONTESTED | ASK;
            self.pins.set(key, Some(&Held { news: News::Held, record, ..held }));
            return Announce::Say { news: News::Held, tell: false };
        }
        let news = held.news;
        self.said(key, version, news);
        let tell = news == News::New && !alone;
        if tell {
            self.pins.wrote(key, held.record & !(ASK | CONTESTED) | UNTOLD);
        }
        Announce::Say { news, tell }
    }

    /// The store is asked to replace this version, which nobody has seen, by
    /// another. Until it has answered, a success through it asks.
    pub fn replacing(&mut self, key: SessionKey, version: u64) {
        let known = self.pins.get(key, Timestamp::default());
        if let Some(held) = known.filter(|held| held.pin.version == version) {
            self.pins.wrote(key, held.record | ASK);
        }
    }

    /// The store has heard that `new` was said of this version.
    pub fn heard_of(&mut self, key: SessionKey, version: u64) {
        let known = self.pins.get(key, Timestamp::default());
        if let Some(held) = known.filter(|held| held.pin.version == version) {
            self.pins.wrote(key, held.record & !UNTOLD);
        }
    }

    /// What was owed is said: what the store says, or, where that owes nothing,
    /// that the session was moved, if this node's pin gave way to it.
    pub fn said(&mut self, key: SessionKey, version: u64, store_says: News) -> News {
        let known = self.pins.get(key, Timestamp::default());
        let Some(held) = known.filter(|held| held.pin.version == version) else { return store_says };
        let record = held.record & !(ASK | CONTESTED);
        let news = if held.news == News::Moved { News::Moved } else { News::Held };
        self.pins.set(key, Some(&Held { news: News::Held, record, ..held }));
        if store_says == News::Held { news } else { store_says }
    }

    /// Takes out what has ended, as [`Pins::sweep`].
    pub fn sweep(&mut self, now: Timestamp) -> impl Iterator<Item = (SessionKey, Pin)> {
        let bases = &mut self.bases;
        self.pins.sweep(now).inspect(|(key, _)| {
            bases.remove(key);
        })
    }

    /// Panics unless everything agrees. For tests.
    pub fn check_invariants(&self) {
        self.pins.check_invariants();
    }

    /// What is known of the key is to be asked about; nothing else changes.
    fn doubt(&mut self, key: SessionKey) -> Changed {
        if let Some(held) = self.pins.get(key, Timestamp::default()) {
            self.pins.wrote(key, held.record & ((1 << BITS) - 1));
        }
        Changed::default()
    }

    fn put(&mut self, key: SessionKey, pin: Pin, news: News, record: u64) -> Changed {
        let held = Held { pin, news, record };
        let before = self.pins.set(key, Some(&held)).map(|held| held.pin);
        match before {
            Some(before) if before.version == held.pin.version => Changed::default(),
            left => Changed { left, came: Some(held.pin), ..Changed::default() },
        }
    }

    /// Remembers what the store said of a key. `false`: something else was
    /// heard that it said later, so this is over.
    fn hears(&mut self, key: SessionKey, version: Option<u64>, told: Told) -> bool {
        let later = |heard: &Heard| {
            let later = heard.told.at_us > told.at_us && heard.is_of_now(told);
            heard.key == key && later && heard.version != version
        };
        if self.lately.iter().any(later) {
            return false;
        }
        if self.lately.len() == LATELY {
            self.lately.pop_front();
        }
        self.lately.push_back(Heard { key, version, told });
        true
    }
}

impl Heard {
    fn is_of_now(&self, told: Told) -> bool {
        self.told.epoch == told.epoch && told.here.since(self.told.here) <= LATELY_FOR
    }
}

/// Whether what is known and what the store has cannot both have been so.
fn contradicts(known: &Held, entry: &Entry) -> bool {
    let other = known.pin.made != entry.pin.made && entry.pin.made < known.pin.ends();
    other || known.record & ALONE != 0
}
