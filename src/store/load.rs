//! From the files to the map, at start.
//!
//! Owns: which records count, what had ended meanwhile, where the clock goes
//! on, and the report.
//! Must not know: how pins change later.

use std::collections::HashMap;
use std::sync::Arc;

use super::disk::Disk;
use super::engine::{Engine, EngineError, Op, Space};
use super::folder::Folder;
use super::journal::Findings;
use super::local::{Local, Shards};
use super::record::{Fact, Record, Unreadable};
use super::writer::{self, rest};
use super::{Damage, OpenReport, PinObserver, StoreConfig, StoreError};
use crate::clock::Clock;
use crate::core::pin::{ExitName, News, Pin, Variant};
use crate::core::pins::Held;
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

/// Opens what the configuration says.
pub(super) fn open(
    config: StoreConfig,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn PinObserver>,
) -> Result<(Arc<Local>, OpenReport), StoreError> {
    let Some(path) = config.folder else {
        let local = Local::new(Shards::new(), None, 0, clock, observer);
        return Ok((local, OpenReport::default()));
    };
    let folder = Folder::lock(&path)?;
    let wall = clock.wall();
    let opened = folder.open(|engine, findings| Loaded::read(engine, findings, wall));
    let mut opened = opened.map_err(|e| failed(&folder, e))?;
    let mut loaded = opened.value;
    let mut damage = std::mem::take(&mut opened.findings.damage);
    damage.append(&mut opened.findings.torn);
    loaded.count_lost(&folder, &mut damage);
    let engine = opened.engine;
    for repairs in loaded.repairs.chunks(1024) {
        engine.commit(repairs.iter().cloned(), false).map_err(|e| failed(&folder, e))?;
    }
    if loaded.offset_ms != 0 {
        clock.restore(loaded.offset_ms);
    }
    for shard in loaded.shards.iter() {
        shard.iter().for_each(|(_, held)| observer.loaded(&held.pin));
    }
    for (exit, variant, until) in loaded.rests.values() {
        observer.rested(exit, variant, *until);
    }
    let disk = Disk::new(config.durability, loaded.last);
    let local = Local::new(loaded.shards, Some(disk), loaded.offset_ms, clock, observer);
    let report = OpenReport { pins: local.len(), ended: loaded.stale.len(), damage };
    let started = writer::start(&local, Arc::new(folder), engine, loaded.stale);
    started.map_err(|source| StoreError::Io { path, source })?;
    Ok((local, report))
}

fn failed(folder: &Folder, e: EngineError) -> StoreError {
    let path = folder.path().to_owned();
    match e {
        EngineError::Io(source) => StoreError::Io { path, source },
        e => StoreError::Database { path, why: e.to_string() },
    }
}

/// What was read.
struct Loaded {
    shards: Shards,
    /// The highest number of a record that was found.
    last: u64,
    /// The wall clock is ahead of the gateway's by so much.
    offset_ms: i64,
    /// Pins that had ended, to be removed from the disk.
    stale: Vec<SessionKey>,
    /// By the pin that ended: its key and version.
    rests: HashMap<(SessionKey, u64), (ExitName, Variant, Timestamp)>,
    /// What the disk should say and does not.
    repairs: Vec<Op>,
    garbled: usize,
    newer: usize,
}

impl Loaded {
    fn read(engine: &Engine, findings: &Findings, wall: Timestamp) -> Result<Self, EngineError> {
        let mut loaded = Self {
            shards: Shards::new(),
            last: findings.last,
            offset_ms: 0,
            stale: Vec::new(),
            rests: HashMap::new(),
            repairs: Vec::new(),
            garbled: 0,
            newer: 0,
        };
        loaded.read_meta(engine)?;
        // The gateway's clock as it will be.
        let now = Timestamp::from_ms(wall.as_ms().saturating_add_signed(loaded.offset_ms.saturating_neg()));
        engine.each(Space::Pins, |place, bytes| match Record::decode(bytes) {
            Ok(Record { number, fact: Fact::Pin(key, pin) }) if place.ends_with(key.as_bytes()) => {
                loaded.pin(key, *pin, number, now);
            }
            record => loaded.note_unread(&record),
        })?;
        loaded.read_rests(engine, now)?;
        if loaded.offset_ms != 0 && loaded.rests.is_empty() && loaded.shards.iter().all(|s| s.is_empty()) {
            // Nothing depends on the old reckoning: begin anew.
            loaded.offset_ms = 0;
            loaded.last += 1;
            loaded.repairs.push(Op::put(&Record { number: loaded.last, fact: Fact::Clock(0) }));
        }
        Ok(loaded)
    }

    fn read_meta(&mut self, engine: &Engine) -> Result<(), EngineError> {
        engine.each(Space::Meta, |_, bytes| match Record::decode(bytes) {
            Ok(record) => {
                self.last = self.last.max(record.number);
                if let Fact::Clock(offset_ms) = record.fact {
                    self.offset_ms = offset_ms;
                }
            }
            record => self.note_unread(&record),
        })
    }

    fn read_rests(&mut self, engine: &Engine, now: Timestamp) -> Result<(), EngineError> {
        engine.each(Space::Rests, |_, bytes| match Record::decode(bytes) {
            Ok(Record { number, fact }) => {
                self.last = self.last.max(number);
                self.rest(fact, now);
            }
            record => self.note_unread(&record),
        })?;
        engine.each(Space::Ended, |_, bytes| {
            self.last = self.last.max(Record::number_of(bytes).unwrap_or(0));
        })
    }

    /// A pin that counts.
    fn pin(&mut self, key: SessionKey, mut pin: Pin, number: u64, now: Timestamp) {
        self.last = self.last.max(number);
        if let Some(later) = pin.taken_up(now) {
            pin = later;
            self.repairs.push(Op::put(&Record { number, fact: Fact::Pin(key, Box::new(pin.clone())) }));
        }
        if pin.lives(now) {
            let held = Held { pin, news: News::Held, record: number };
            self.shards.of(key).set(key, Some(&held));
            return;
        }
        self.stale.push(key);
        if let Some(fact) = rest(key, &pin, pin.ends()) {
            self.repairs.push(Op::put(&Record { number, fact: fact.clone() }));
            self.rest(fact, now);
        }
    }

    fn rest(&mut self, fact: Fact, now: Timestamp) {
        if let Fact::Rest { key, version, exit, variant, until } = fact
            && until > now
        {
            self.rests.insert((key, version), (exit, variant, until));
        }
    }

    fn note_unread(&mut self, record: &Result<Record, Unreadable>) {
        match record {
            Err(Unreadable::Newer) => self.newer += 1,
            Err(Unreadable::Garbled) | Ok(_) => self.garbled += 1,
        }
    }

    /// What is missing, in words.
    fn count_lost(&mut self, folder: &Folder, damage: &mut Vec<Damage>) {
        let mut add = |lost| damage.push(Damage { file: folder.database(), lost });
        if self.garbled > 0 {
            add(format!("{} records that are not what was written", self.garbled));
        }
        if self.newer > 0 {
            add(format!("{} records of a later version of Moorgate, left as they are", self.newer));
        }
        match folder.marked() {
            Ok(marked) if marked > self.last => {
                add(format!("the last {} records that were written", marked - self.last));
                self.last = marked;
                self.repairs.push(Op::put(&Record { number: marked, fact: Fact::Last }));
            }
            Ok(_) => {}
            Err(unread) => damage.push(unread),
        }
    }
}
