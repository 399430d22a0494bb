//! What is done when the disk refuses.
//!
//! Owns: taking back what was not written, and bringing a database that came
//! back in line with the map.
//! Must not know: why it refused, when it comes back.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use super::Left;
use super::disk::Change;
use super::engine::{Engine, EngineError, Op, Space};
use super::local::Local;
use super::record::{Fact, Record};
use crate::core::pin::Pin;
use crate::core::pins::Held;
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

impl Local {
    /// The disk did not take this change, nor any after it: those were undone
    /// before, so the map is as it was right after it.
    pub(super) fn undo(&self, change: Change) {
        match change {
            Change::Made { key, pin, .. } => {
                if self.swap(key, pin.version, |_| None) {
                    self.len.fetch_sub(1, Relaxed);
                    self.observer().left(&pin, self.now(), Left::Undone);
                }
            }
            Change::Moved { key, pin, before } => {
                // Its uses since stay uses.
                let back = |now: Held| {
                    let pin = Pin { used: now.pin.used, ..before.pin.clone() };
                    Some(Held { pin, news: before.news, record: before.record })
                };
                if self.swap(key, pin.version, back) {
                    self.observer().left(&pin, self.now(), Left::Undone);
                    self.observer().loaded(&before.pin);
                }
            }
            Change::Extended { key, pin, before } => {
                let back = |now: Held| {
                    let pin = Pin { expires: before.pin.expires, ..now.pin };
                    Some(Held { pin, news: now.news, record: before.record })
                };
                if self.swap(key, pin.version, back) {
                    self.observer().extended(&pin, &before.pin);
                }
            }
            Change::Used { key, pin, before } => {
                let mut shard = self.shards.of(key);
                if shard.get(key, Timestamp::default()).is_some_and(|held| held.pin.version == pin.version) {
                    shard.wrote(key, before);
                }
            }
            Change::Ended { key, before, .. } => {
                self.shards.of(key).set(key, Some(&before));
                self.len.fetch_add(1, Relaxed);
                self.observer().loaded(&before.pin);
            }
            Change::Expired { .. } | Change::Clock(_) => {}
        }
    }

    /// Makes another of the key's pin, or none, if it has this version.
    fn swap(&self, key: SessionKey, version: u64, to: impl FnOnce(Held) -> Option<Held>) -> bool {
        let mut shard = self.shards.of(key);
        let is = shard.get(key, Timestamp::default()).filter(|held| held.pin.version == version);
        let same = is.is_some();
        if let Some(held) = is {
            let to = to(held);
            shard.set(key, to.as_ref());
        }
        same
    }

    /// Makes the database say what the map says: after the disk refused, or
    /// (`all`) may have lost what it had taken. Nothing is queued meanwhile.
    pub(super) fn rewrite(&self, engine: &Engine, all: bool) -> Result<(), EngineError> {
        let Some(disk) = self.disk() else { return Ok(()) };
        let mut on_disk = HashMap::new();
        engine.each(Space::Pins, |_, bytes| {
            if let Ok(Record { number, fact: Fact::Pin(key, pin) }) = Record::decode(bytes) {
                on_disk.insert(key, (number, pin.ends(), pin.expires));
            }
        })?;
        for shard in self.shards.iter() {
            let mut facts = Vec::new();
            for (key, held) in shard.iter() {
                // Uses while the disk refused have no record.
                let same = |(number, ends, _)| number == held.record && ends == held.pin.ends();
                let there = on_disk.remove(&key).is_some_and(same);
                if all || !there {
                    facts.push(Fact::Pin(key, Box::new(held.pin)));
                }
            }
            drop(shard);
            for facts in facts.chunks(1024) {
                let record = |fact: &Fact| Record { number: disk.take_number(), fact: fact.clone() };
                engine.commit(facts.iter().map(|fact| Op::put(&record(fact))), false)?;
            }
        }
        // What the map does not have was refused, or is over. The latter is
        // left to the next start, which knows whether its exit rests.
        let now = self.now();
        for (key, (_, ends, until)) in on_disk {
            if ends > now {
                let ended = Record { number: disk.take_number(), fact: Fact::Ended { key, until } };
                engine.commit([Op::unpin(key), Op::put(&ended)].into_iter(), false)?;
            }
        }
        let offset_ms = self.offset_ms();
        let clock = Record { number: disk.take_number(), fact: Fact::Clock(offset_ms) };
        engine.commit([Op::put(&clock)].into_iter(), false)?;
        self.noted_ms.store(offset_ms, Relaxed);
        Ok(())
    }
}
