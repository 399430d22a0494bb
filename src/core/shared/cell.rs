//! What the store keeps under a session's key, and what each step does to it.
//!
//! Owns: [`Cell`] and its steps. Each is atomic at the store, where a script
//! does the same (`store/shared/lua`); a test runs both side by side.
//! Must not know: what a node remembers.

use super::LEASE;
use crate::core::pin::{News, Pin};
use crate::core::pins::Only;
use crate::core::time::{Timestamp, Ttl};

/// The owner of a pin that a node tells and has not made.
pub(super) const NOBODY: u64 = 0;

/// A pin as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The pin, in the store's time.
    pub pin: Pin,
    /// The node that made or moved it last.
    pub owner: u64,
    /// The store knows of no success that was answered since it was made.
    pub unseen: bool,
    /// The `new` or `moved` that is owed to the first success was not said.
    pub unsaid: bool,
    /// What is owed is `moved`.
    pub moved: bool,
    /// Another node than the owner met it unseen, and hears of its fate.
    pub contested: bool,
}

impl Entry {
    /// A pin that this node makes.
    pub fn made(pin: Pin, owner: u64) -> Self {
        Self { pin, owner, unseen: true, unsaid: true, moved: false, contested: false }
    }

    /// Whether only its owner may take it for a pin that nobody has seen.
    pub fn is_leased_from(&self, me: u64, now: Timestamp) -> bool {
        self.unseen && self.owner != me && now < self.pin.made.plus(LEASE)
    }

    /// What the next success has to say of it.
    pub fn owed(&self) -> Option<News> {
        self.unsaid.then_some(if self.moved { News::Moved } else { News::New })
    }
}

/// What may stand under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A pin.
    Pin(Entry),
    /// A pin was ended before its time, which is over at `until`: a node that
    /// missed it does not bring it back.
    Ended {
        /// When no node can hold it for a live pin any more.
        until: Timestamp,
    },
}

/// What stands under one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    stored: Option<Stored>,
    /// When the key goes. Never sooner than it would have: what follows a pin
    /// that was ended bars, for as long as that would have lived, whoever
    /// missed its end.
    goes: Timestamp,
}

/// How a claim ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// What was proposed is the pin.
    Won(Entry),
    /// Another pin lives.
    Lost(Entry),
}

/// How a move ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is so now.
    Done(Entry),
    /// It is not what the mover saw.
    Lost(Entry),
    /// No pin lives.
    Gone,
}

/// What a node tells of a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// The pin, and what was said of it.
    pub entry: Entry,
    /// The version that the node moved it away from while it could not reach
    /// the store.
    pub base: Option<u64>,
    /// The node has made or moved it without the store.
    pub alone: bool,
}

/// What came of a node's telling what it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The store knew of no pin, or of an older one, and has this one now.
    Written(Entry),
    /// The store has that pin.
    Same(Entry),
    /// The store has another pin, and that one counts.
    Other(Entry),
    /// The pin was ended.
    Ended,
}

impl Cell {
    /// What stands under the key.
    pub fn stored(&self, now: Timestamp) -> Option<&Stored> {
        self.stored.as_ref().filter(|_| now < self.goes)
    }

    /// The live pin.
    pub fn live(&self, now: Timestamp) -> Option<&Entry> {
        match &self.stored {
            Some(Stored::Pin(entry)) if entry.pin.lives(now) => Some(entry),
            _ => None,
        }
    }

    fn live_mut(&mut self, now: Timestamp) -> Option<&mut Entry> {
        match &mut self.stored {
            Some(Stored::Pin(entry)) if entry.pin.lives(now) => Some(entry),
            _ => None,
        }
    }

    /// Keeps the key for as long as its live pin.
    fn keep(&mut self, now: Timestamp) {
        if let Some(ends) = self.live(now).map(|entry| entry.pin.ends()) {
            self.goes = self.goes.max(ends);
        }
    }

    fn put(&mut self, entry: Entry, now: Timestamp) {
        if now >= self.goes {
            self.goes = Timestamp::default();
        }
        self.goes = self.goes.max(entry.pin.ends());
        self.stored = Some(Stored::Pin(entry));
    }

    /// Whether a pin made then ended before something else was here.
    fn bars(&self, made: Timestamp, now: Timestamp) -> bool {
        match self.stored(now) {
            Some(Stored::Ended { until }) => now < *until,
            Some(Stored::Pin(entry)) => !entry.pin.lives(now) && made < entry.pin.made,
            None => false,
        }
    }

    /// The live pin, for a node that may not know it yet.
    pub fn look(&mut self, me: u64, now: Timestamp) -> Option<Entry> {
        let entry = self.live_mut(now)?;
        entry.contested |= entry.is_leased_from(me, now);
        Some(entry.clone())
    }

    /// Makes `pin` the pin unless one lives.
    pub fn claim(&mut self, me: u64, pin: Pin, now: Timestamp) -> Claimed {
        if let Some(entry) = self.look(me, now) {
            return Claimed::Lost(entry);
        }
        let entry = Entry::made(pin.made_at(now), me);
        self.put(entry.clone(), now);
        Claimed::Won(entry)
    }

    /// Moves the pin to `proposal`'s exit if its version is still `seen`. One
    /// that nobody has seen stays new.
    pub fn repin(&mut self, me: u64, seen: u64, only: Only, proposal: &Pin, now: Timestamp) -> Moved {
        let Some(entry) = self.live_mut(now) else { return Moved::Gone };
        let fresh = entry.unseen && !entry.is_leased_from(me, now);
        if entry.pin.version != seen || (only == Only::Fresh && !fresh) {
            return Moved::Lost(entry.clone());
        }
        entry.pin = entry.pin.moved(proposal, !fresh);
        entry.owner = me;
        (entry.unseen, entry.unsaid, entry.moved, entry.contested) = (fresh, true, !fresh, false);
        Moved::Done(entry.clone())
    }

    /// A success through this version is about to be answered: what it says.
    /// `None`: the pin is another one by now. The second: another node waits
    /// to hear of it.
    pub fn say(&mut self, me: u64, version: u64, now: Timestamp) -> Option<(News, bool)> {
        let entry = self.live_mut(now).filter(|entry| entry.pin.version == version)?;
        let takes = entry.moved || entry.owner == me || now >= entry.pin.made.plus(LEASE);
        let news = entry.owed().filter(|_| takes).unwrap_or(News::Held);
        let heard = std::mem::take(&mut entry.contested);
        entry.unseen = false;
        if takes {
            (entry.unsaid, entry.moved) = (false, false);
        }
        Some((news, heard))
    }

    /// The pin was used then.
    pub fn touch(&mut self, version: u64, used: Timestamp, now: Timestamp) {
        if let Some(entry) = self.live_mut(now).filter(|entry| entry.pin.version == version) {
            entry.pin.used = entry.pin.used.max(used);
        }
        self.keep(now);
    }

    /// The pin lasts until then at least if its version is still `seen`, but
    /// never longer than a session may.
    pub fn extend(&mut self, seen: u64, expires: Timestamp, now: Timestamp) -> Moved {
        let Some(entry) = self.live_mut(now) else { return Moved::Gone };
        if entry.pin.version != seen {
            return Moved::Lost(entry.clone());
        }
        let longest = entry.pin.made.plus(Ttl::MAX.as_duration());
        entry.pin.expires = entry.pin.expires.max(expires.min(longest));
        let done = Moved::Done(entry.clone());
        self.keep(now);
        done
    }

    /// Ends the pin.
    pub fn end(&mut self, now: Timestamp) -> Option<Entry> {
        let entry = self.live(now)?.clone();
        self.goes = self.goes.max(entry.pin.expires);
        self.stored = Some(Stored::Ended { until: self.goes });
        Some(entry)
    }

    /// What a node knows of the pin: for the store to say whether it is still
    /// so, or to have it again after it lost it.
    pub fn restore(&mut self, telling: Telling, now: Timestamp) -> Restored {
        let Telling { entry: mut mine, base, alone } = telling;
        if self.bars(mine.pin.made, now) {
            return Restored::Ended;
        }
        if let Some(entry) = self.live_mut(now) {
            if entry.pin.version == mine.pin.version {
                entry.pin.used = entry.pin.used.max(mine.pin.used);
                // What was said and seen, the store may have missed.
                entry.unseen &= mine.unseen;
                entry.unsaid &= mine.unsaid;
                let same = Restored::Same(entry.clone());
                self.keep(now);
                return same;
            }
            // Of one life the pin that was moved more often is the later one; of
            // two that the store has made, the one made later: the other had
            // ended by then, and a node that missed it told it first after a
            // loss.
            let older = match entry.pin.made == mine.pin.made {
                true => entry.pin.moves < mine.pin.moves,
                false => !alone && entry.pin.made < mine.pin.made,
            };
            if base != Some(entry.pin.version) && !older {
                return Restored::Other(entry.clone());
            }
        }
        if !mine.pin.lives(now) {
            return Restored::Ended;
        }
        // Others may have shown it, of which the store would have known.
        mine.unseen &= mine.owner != NOBODY && now < mine.pin.made.plus(LEASE);
        self.put(mine.clone(), now);
        Restored::Written(mine)
    }
}
