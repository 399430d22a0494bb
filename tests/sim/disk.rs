//! A model of the disk behind the map: a queue, what the kernel has, what the
//! disk has.
//!
//! It keeps the promises of `store/disk.rs` and breaks off where that may:
//! records become durable in the order of their numbers; the written mark
//! rises after the kernel has them; a kill may come between the two.

use std::collections::{BTreeMap, VecDeque};

use moorgate::core::pin::Pin;
use moorgate::core::pins::Held;
use moorgate::core::session::SessionKey;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// True time in ms since the simulation began.
pub type Time = u64;

/// What has changed in the map.
#[derive(Clone, Debug)]
pub enum Change {
    Made { key: SessionKey, pin: Pin },
    Moved { key: SessionKey, pin: Pin, before: Held },
    Used { key: SessionKey, pin: Pin, before: u64 },
    Ended { key: SessionKey, before: Held },
    Expired { key: SessionKey },
    Clock(i64),
}

/// What is on a disk.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Each pin with the number of its record.
    pub pins: BTreeMap<SessionKey, (u64, Pin)>,
    /// How far the wall clock was ahead of the gateway's.
    pub clock_ms: i64,
    /// The last number.
    pub last: u64,
}

impl Content {
    fn apply(&mut self, job: &Job) {
        self.last = job.number;
        match &job.change {
            Change::Made { key, pin } | Change::Moved { key, pin, .. } | Change::Used { key, pin, .. } => {
                self.pins.insert(*key, (job.number, pin.clone()));
            }
            Change::Ended { key, .. } | Change::Expired { key } => drop(self.pins.remove(key)),
            Change::Clock(offset_ms) => self.clock_ms = *offset_ms,
        }
    }
}

#[derive(Clone, Debug)]
struct Job {
    number: u64,
    at: Time,
    change: Change,
}

/// Tells when a record is written.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    epoch: usize,
    number: u64,
}

/// How a gateway dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// SIGKILL: the kernel keeps what it has.
    Kill,
    /// Loss of power: what was not synced may be gone, the newest first.
    Power,
}

/// The disk of one gateway while it runs.
pub struct Disk {
    queue: VecDeque<Job>,
    next: u64,
    /// The written mark of each time without refusals; all but the last have
    /// failed.
    marks: Vec<u64>,
    refuses: bool,
    /// What the kernel has.
    written: Content,
    /// With the kernel, not yet with the disk.
    unsynced: VecDeque<Job>,
    synced: Content,
}

impl Disk {
    /// A disk as a start finds it.
    pub fn open(synced: Content) -> Self {
        let last = synced.last;
        let (queue, unsynced) = Default::default();
        let written = synced.clone();
        Self { queue, next: last + 1, marks: vec![last], refuses: false, written, unsynced, synced }
    }

    pub fn refuses(&self) -> bool {
        self.refuses
    }

    /// Hands a change to the writer. `None`: the disk refuses.
    pub fn push(&mut self, change: Change, at: Time) -> Option<u64> {
        if self.refuses {
            return None;
        }
        self.queue.push_back(Job { number: self.next, at, change });
        self.next += 1;
        Some(self.next - 1)
    }

    /// For the record of this number.
    pub fn receipt(&self, number: u64) -> Receipt {
        Receipt { epoch: self.marks.len() - 1, number }
    }

    /// Whether the record is written; `None`: not known yet.
    pub fn written(&self, receipt: Receipt) -> Option<bool> {
        match self.marks[receipt.epoch] >= receipt.number {
            true => Some(true),
            false => (receipt.epoch + 1 < self.marks.len()).then_some(false),
        }
    }

    /// What a kill would leave of a key's pin at this moment.
    pub fn left_by_kill(&self, key: SessionKey) -> Option<&Pin> {
        self.written.pins.get(&key).map(|(_, pin)| pin)
    }

    /// When the oldest change that waits was handed over.
    pub fn waits_since(&self) -> Option<Time> {
        self.queue.front().map(|job| job.at)
    }

    /// When the oldest write that is not synced was made.
    pub fn unsynced_since(&self) -> Option<Time> {
        self.unsynced.front().map(|job| job.at)
    }

    /// The writer commits a batch of so many.
    pub fn commit(&mut self, batch: usize, now: Time) {
        for job in self.queue.drain(..batch.min(self.queue.len())) {
            self.marks.last_mut().into_iter().for_each(|mark| *mark = job.number);
            self.written.apply(&job);
            self.unsynced.push_back(Job { at: now, ..job });
        }
    }

    /// The disk keeps what was written.
    pub fn sync(&mut self) {
        self.unsynced.drain(..).for_each(|job| self.synced.apply(&job));
    }

    /// The disk refuses; what waits comes back, newest first, to be undone.
    pub fn refuse(&mut self) -> impl Iterator<Item = Change> + use<> {
        self.refuses = true;
        self.marks.push(self.next - 1);
        std::mem::take(&mut self.queue).into_iter().rev().map(|job| job.change)
    }

    /// The disk takes records again, beginning with what the map says.
    /// Where `same` does not find a record to be the pin's last, it is written
    /// again.
    pub fn recover(
        &mut self,
        map: impl Iterator<Item = (SessionKey, Held)>,
        clock_ms: i64,
        same: impl Fn(&(u64, Pin), &Held) -> bool,
    ) {
        self.sync();
        let mut on_disk = std::mem::take(&mut self.synced.pins);
        for (key, held) in map {
            let there = on_disk.remove(&key).filter(|record| same(record, &held));
            let record = there.unwrap_or_else(|| (self.take_number(), held.pin));
            self.synced.pins.insert(key, record);
        }
        self.synced.clock_ms = clock_ms;
        self.synced.last = self.next - 1;
        self.written = self.synced.clone();
        self.marks.last_mut().into_iter().for_each(|mark| *mark = self.next - 1);
        self.refuses = false;
    }

    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// What a death leaves: all that it must, and any part of what lies
    /// behind.
    pub fn die(mut self, death: Death, rng: &mut StdRng) -> Content {
        let some = |rng: &mut StdRng, all: usize| if rng.random() { all } else { rng.random_range(0..=all) };
        match death {
            // A batch may be with the kernel before the mark says so.
            Death::Kill => self.commit(some(rng, self.queue.len()), 0),
            Death::Power => {
                let kept = some(rng, self.unsynced.len());
                self.unsynced.truncate(kept);
            }
        }
        self.sync();
        self.synced
    }
}

/// Draws one of several with these weights.
pub fn draw<T: Copy>(rng: &mut impl Rng, choices: &[(u32, T)]) -> T {
    let mut at = rng.random_range(0..choices.iter().map(|(weight, _)| weight).sum());
    for (weight, choice) in choices {
        match at.checked_sub(*weight) {
            Some(rest) => at = rest,
            None => return *choice,
        }
    }
    unreachable!("the draw is below the sum of the weights")
}
