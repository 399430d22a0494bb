//! The pins of one shard: what is pinned, and what ends next.
//!
//! Owns: [`Pins`], the map and its queue of what is due; every rule of who
//! wins a claim, what a move keeps, when a use is worth a record and what an
//! answer says of its session.
//! Must not know: clocks (`now` is an argument), disks, other shards, whether
//! an exit works.

mod due;
mod glance;
mod intern;
mod slot;
#[cfg(test)]
mod tests;

use hashbrown::HashTable;

use self::due::Due;
pub use self::glance::Glance;
use self::slot::{Names, Slot, Slots};
use super::pin::{News, Pin};
use super::session::SessionKey;
use super::time::Timestamp;

/// The pins of one shard. Single-threaded.
#[derive(Debug)]
pub struct Pins {
    slots: Slots,
    names: Names,
    table: HashTable<u32>,
    due: Due,
    seed: u64,
}

/// A live pin, and what is known of it beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The pin.
    pub pin: Pin,
    /// What the next success will say.
    pub news: News,
    /// The number of its last record ([`Pins::wrote`]).
    pub record: u64,
}

/// How a claim ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The proposal is the pin now.
    Won {
        /// An ended pin of the same key that nobody had swept yet.
        ended: Option<Pin>,
    },
    /// Another pin lives.
    Lost(Held),
}

/// How a move, or an extension, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repinned {
    /// The pin was changed.
    Moved {
        /// As it is now.
        now: Held,
        /// As it was.
        before: Held,
    },
    /// It is not what the caller saw; this is what it is.
    Lost(Held),
    /// No pin lives.
    Gone,
}

/// Whether a move needs that no success was answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// It is allowed anyhow.
    Anyhow,
    /// Only a pin that no client has seen may be moved.
    Fresh,
}

impl Pins {
    /// An empty shard. `seed` keeps clients from choosing session names that
    /// meet in one place of the table.
    pub fn new(seed: u64) -> Self {
        Self {
            slots: Slots::default(),
            names: Names::new(),
            table: HashTable::new(),
            due: Due::default(),
            seed,
        }
    }

    /// How many pins there are, ended ones that were not swept yet included.
    pub fn len(&self) -> usize {
        self.slots.len() as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key's live pin.
    pub fn get(&self, key: SessionKey, now: Timestamp) -> Option<Held> {
        let slot = &self.slots[self.find(key)?];
        slot.lives(now).then(|| self.held(slot))
    }

    /// The key's live pin, used now. `true`: the use moved its end and must
    /// be written; at most once a second.
    pub fn touch(&mut self, key: SessionKey, now: Timestamp) -> Option<(Held, bool)> {
        let at = self.find(key)?;
        let slot = &mut self.slots[at];
        if !slot.lives(now) {
            return None;
        }
        let write = slot.touch(now);
        Some((self.held(&self.slots[at]), write))
    }

    /// Makes `proposal` the key's pin unless one lives.
    pub fn claim(&mut self, key: SessionKey, proposal: &Pin, now: Timestamp) -> Claimed {
        let ended = match self.find(key) {
            Some(at) if self.slots[at].lives(now) => return Claimed::Lost(self.held(&self.slots[at])),
            Some(at) => Some(self.remove(at)),
            None => None,
        };
        self.insert(key, proposal, 0, News::New);
        Claimed::Won { ended }
    }

    /// Moves the key's pin to `proposal`'s exit if its version is still
    /// `seen`. The session, when it was made, when it ends and its idle time
    /// stay. A pin that no success was answered for stays new.
    pub fn repin(
        &mut self,
        key: SessionKey,
        seen: u64,
        only: Only,
        proposal: &Pin,
        now: Timestamp,
    ) -> Repinned {
        let Some(at) = self.find(key).filter(|&at| self.slots[at].lives(now)) else {
            return Repinned::Gone;
        };
        let before = self.held(&self.slots[at]);
        let fresh = before.news == News::New;
        if before.pin.version != seen || (only == Only::Fresh && !fresh) {
            return Repinned::Lost(before);
        }
        let pin = before.pin.moved(proposal, !fresh);
        let news = if fresh { News::New } else { News::Moved };
        self.replace(at, &pin, before.record, news);
        Repinned::Moved { now: Held { pin, news, record: before.record }, before }
    }

    /// Makes the key's pin last until `expires` at least, if its version is
    /// still `seen`; at most until 168 h after it was made. It is never made
    /// shorter, and stays the version it is: nothing of its exit changes.
    pub fn extend(&mut self, key: SessionKey, seen: u64, expires: Timestamp, now: Timestamp) -> Repinned {
        let Some(at) = self.find(key).filter(|&at| self.slots[at].lives(now)) else {
            return Repinned::Gone;
        };
        let before = self.held(&self.slots[at]);
        if before.pin.version != seen {
            return Repinned::Lost(before);
        }
        let pin = before.pin.lasting(expires);
        self.replace(at, &pin, before.record, before.news);
        Repinned::Moved { now: Held { pin, ..before.clone() }, before }
    }

    /// Ends the key's pin now.
    pub fn end(&mut self, key: SessionKey, now: Timestamp) -> Option<Held> {
        let at = self.find(key).filter(|&at| self.slots[at].lives(now))?;
        let held = self.held(&self.slots[at]);
        self.remove(at);
        Some(held)
    }

    /// A success is about to be answered through this version of the pin:
    /// what to say. `None`: the pin was moved or ended meanwhile.
    pub fn announce(&mut self, key: SessionKey, version: u64) -> Option<News> {
        let at = self.find(key).filter(|&at| self.slots[at].version == version)?;
        Some(std::mem::replace(&mut self.slots[at].news, News::Held))
    }

    /// The pin's last record has this number.
    pub fn wrote(&mut self, key: SessionKey, record: u64) {
        if let Some(at) = self.find(key) {
            self.slots[at].record = record;
        }
    }

    /// Makes the key's pin what is given, and returns what it was: to load a
    /// pin, or to undo what the disk refused.
    pub fn set(&mut self, key: SessionKey, to: Option<&Held>) -> Option<Held> {
        let at = self.find(key);
        let was = at.map(|at| self.held(&self.slots[at]));
        match (at, to) {
            (Some(at), Some(to)) => self.replace(at, &to.pin, to.record, to.news),
            (Some(at), None) => drop(self.remove(at)),
            (None, Some(to)) => self.insert(key, &to.pin, to.record, to.news),
            (None, None) => {}
        }
        was
    }

    /// When the next pin may have to be swept.
    pub fn next_due(&self) -> Option<Timestamp> {
        Some(self.due.first()?.0)
    }

    /// Takes out what has ended, lazily and in the order of ends; bound it
    /// with `take`.
    pub fn sweep(&mut self, now: Timestamp) -> impl Iterator<Item = (SessionKey, Pin)> {
        std::iter::from_fn(move || {
            loop {
                let (when, at) = self.due.first().filter(|(when, _)| *when <= now)?;
                let ends = self.slots[at].ends();
                if ends <= now {
                    return Some((self.slots[at].key, self.remove(at)));
                }
                // It was used since it was queued.
                debug_assert!(ends > when);
                self.due.change(0, ends, &mut self.slots);
            }
        })
    }

    /// All pins, in no order, ended ones that were not swept included.
    pub fn iter(&self) -> impl Iterator<Item = (SessionKey, Held)> {
        self.slots.iter().map(|slot| (slot.key, self.held(slot)))
    }

    /// Panics unless map, queue and names agree. For tests.
    pub fn check_invariants(&self) {
        assert_eq!(self.len(), self.table.len());
        assert_eq!(self.len(), self.due.len());
        assert_eq!(self.len(), self.names.users.users());
        assert_eq!(self.len(), self.names.exits.users());
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            assert_eq!(self.find(slot.key), Some(at), "each key leads to its slot");
            let (when, who) = self.due.at(slot.place as usize);
            assert_eq!(who, at, "each slot knows its place in the queue");
            assert!(when <= slot.ends(), "no pin is swept late");
            let parent = (slot.place as usize).saturating_sub(1) / 2;
            assert!(self.due.at(parent).0 <= when, "the queue is in order");
        }
    }

    fn held(&self, slot: &Slot) -> Held {
        Held { pin: slot.unpack(&self.names), news: slot.news, record: slot.record }
    }

    fn find(&self, key: SessionKey) -> Option<u32> {
        let slots = &self.slots;
        self.table.find(hash(self.seed, key), |&at| slots[at].key == key).copied()
    }

    fn insert(&mut self, key: SessionKey, pin: &Pin, record: u64, news: News) {
        let slot = Slot::pack(key, pin, record, news, &mut self.names);
        let ends = slot.ends();
        let at = self.slots.push(slot);
        self.due.push(ends, at, &mut self.slots);
        let (slots, seed) = (&self.slots, self.seed);
        self.table.insert_unique(hash(seed, key), at, |&at| hash(seed, slots[at].key));
    }

    fn replace(&mut self, at: u32, pin: &Pin, record: u64, news: News) {
        let key = self.slots[at].key;
        let slot = Slot::pack(key, pin, record, news, &mut self.names);
        let ends = slot.ends();
        let place = self.slots[at].place;
        let old = std::mem::replace(&mut self.slots[at], slot);
        old.release(&mut self.names);
        self.slots[at].place = place;
        self.due.change(place as usize, ends, &mut self.slots);
    }

    fn remove(&mut self, at: u32) -> Pin {
        let (key, place) = (self.slots[at].key, self.slots[at].place);
        self.due.remove(place as usize, &mut self.slots);
        let hashed = hash(self.seed, key);
        if let Ok(entry) = self.table.find_entry(hashed, |&other| other == at) {
            entry.remove();
        }
        let slot = self.slots.swap_remove(at);
        let moved = self.slots.len();
        if moved != at {
            // The last slot has this number now.
            let (key, place) = (self.slots[at].key, self.slots[at].place);
            self.due.rename(place as usize, at);
            if let Some(number) = self.table.find_mut(hash(self.seed, key), |&other| other == moved) {
                *number = at;
            }
        }
        if self.table.len() < self.table.capacity() / 4 {
            let (slots, seed) = (&self.slots, self.seed);
            self.table.shrink_to(slots.len() as usize * 2, |&at| hash(seed, slots[at].key));
        }
        let pin = slot.unpack(&self.names);
        slot.release(&mut self.names);
        pin
    }
}

/// The key is a digest, so its bits are spread; the seed is for those who
/// compute a million digests to find some that meet.
fn hash(seed: u64, key: SessionKey) -> u64 {
    let mixed = (key.bits() ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}
