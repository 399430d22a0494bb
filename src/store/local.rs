//! The map in memory, with a disk behind it or none.
//!
//! Owns: the shards and their locks; what is handed to the disk under them,
//! and what is undone when the disk refuses it.
//! Must not know: files.
//!
//! Locks: a shard, then the queue; nothing else is nested, and none is held
//! across an await.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use super::disk::{Change, Disk, Room, locked};
use super::gate::Gate;
use super::{Claim, Left, PinObserver, Receipt, StoreFault};
use crate::clock::Clock;
use crate::core::pin::{News, Pin};
use crate::core::pins::{Claimed, Held, Pins};
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

/// A power of two.
pub(super) const SHARDS: usize = 64;
/// At most so many pins are swept under one lock.
const SWEEP: u32 = 1000;
/// A wall clock that is farther off than was written down is written down.
const CLOCK_SLACK_MS: u64 = 100;

/// All pins of this gateway.
pub(super) struct Local {
    pub(super) shards: Shards,
    pub(super) len: AtomicUsize,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn PinObserver>,
    disk: Option<Disk>,
    gate: Gate,
    /// How far the wall clock is ahead, as written down.
    pub(super) noted_ms: AtomicI64,
    this: Weak<Self>,
}

/// The map, in pieces with a lock each.
pub(super) struct Shards(Box<[Mutex<Pins>]>);

impl Shards {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::new(Pins::new(rand::random()))).collect())
    }

    /// The shard of a key.
    pub(super) fn of(&self, key: SessionKey) -> MutexGuard<'_, Pins> {
        self.at(shard_of(key))
    }

    /// The shard with this number.
    pub(super) fn at(&self, number: usize) -> MutexGuard<'_, Pins> {
        locked(&self.0[number])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = MutexGuard<'_, Pins>> {
        self.0.iter().map(locked)
    }
}

/// The number of a key's shard. By bits that the shard's own table does not
/// use.
pub(super) fn shard_of(key: SessionKey) -> usize {
    let [.., last] = *key.as_bytes();
    usize::from(last) % SHARDS
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("len", &self.len).field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl Local {
    pub(super) fn new(
        shards: Shards,
        disk: Option<Disk>,
        noted_ms: i64,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn PinObserver>,
    ) -> Arc<Self> {
        let len = AtomicUsize::new(shards.iter().map(|shard| shard.len()).sum());
        let noted_ms = AtomicI64::new(noted_ms);
        Arc::new_cyclic(|this| Self {
            shards,
            len,
            clock,
            observer,
            disk,
            gate: Gate::new(),
            noted_ms,
            this: this.clone(),
        })
    }

    pub(super) fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    pub(super) fn observer(&self) -> &dyn PinObserver {
        &*self.observer
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.disk.as_ref().is_some_and(Disk::is_refusing)
    }

    pub(super) fn has(&self, key: SessionKey) -> bool {
        self.shards.of(key).get(key, Timestamp::default()).is_some()
    }

    pub(super) fn peek(&self, key: SessionKey) -> Option<Pin> {
        Some(self.shards.of(key).get(key, self.now())?.pin)
    }

    pub(super) fn look(&self, key: SessionKey) -> Option<Claim> {
        let shard = self.shards.of(key);
        let held = shard.get(key, self.now())?;
        Some(self.shown(key, held, false))
    }

    pub(super) fn each(&self, mut f: impl FnMut(&Pin)) {
        let now = self.now();
        for shard in self.shards.iter() {
            let live: Vec<_> = shard.iter().map(|(_, held)| held.pin).filter(|pin| pin.lives(now)).collect();
            drop(shard);
            live.iter().for_each(&mut f);
        }
    }

    pub(super) fn announce(&self, key: SessionKey, version: u64) -> Option<News> {
        self.shards.of(key).announce(key, version)
    }

    pub(super) async fn hold(&self, key: SessionKey) -> Result<Option<Claim>, StoreFault> {
        self.gate.check()?;
        let Some(live) = self.look(key) else { return Ok(None) };
        if live.pin.idle.is_none() {
            return Ok(Some(live));
        }
        // A use of this one may have to be written. If it cannot be, the pin
        // is held all the same.
        let mut room = match self.room().await {
            Err(StoreFault::HandedOver) => return Err(StoreFault::HandedOver),
            room => room.ok().flatten(),
        };
        let mut shard = self.shards.of(key);
        let Some((mut held, moved)) = shard.touch(key, self.now()) else { return Ok(None) };
        if let (true, Some(disk), Some(room)) = (moved, &self.disk, &mut room) {
            let change = Change::Used { key, pin: Box::new(held.pin.clone()), before: held.record };
            if let Ok(number) = disk.push(change, room) {
                held.record = number;
                shard.wrote(key, number);
            }
        }
        Ok(Some(self.shown(key, held, false)))
    }

    pub(super) async fn claim(&self, key: SessionKey, mut proposal: Pin) -> Result<Claim, StoreFault> {
        proposal.version = rand::random();
        let mut room = match self.room().await {
            Ok(room) => room,
            Err(StoreFault::HandedOver) => return Err(StoreFault::HandedOver),
            // No new pin then; but perhaps there is one.
            Err(fault) => return self.look(key).ok_or(fault),
        };
        let now = self.now();
        let proposal = proposal.made_at(now);
        let mut shard = self.shards.of(key);
        let ended = match shard.claim(key, &proposal, now) {
            Claimed::Lost(held) => return Ok(self.shown(key, held, false)),
            Claimed::Won { ended } => ended,
        };
        let change =
            || Change::Made { key, pin: Box::new(proposal.clone()), ended: ended.clone().map(Box::new) };
        let pushed = self.push(change, &mut room);
        match pushed {
            Ok(number) => shard.wrote(key, number),
            Err(_) => drop(shard.set(key, None)),
        }
        let claim = pushed.map(|record| {
            let held = Held { pin: proposal, news: News::New, record };
            self.shown(key, held, true)
        });
        drop(shard);
        if claim.is_ok() {
            self.len.fetch_add(1, Relaxed);
        }
        if let Some(ended) = ended {
            self.len.fetch_sub(1, Relaxed);
            self.observer.left(&ended, ended.ends(), Left::Ended);
        }
        claim
    }

    pub(super) async fn end(&self, key: SessionKey) -> Result<Option<Pin>, StoreFault> {
        let mut room = self.room().await?;
        let at = self.now();
        let (before, receipt) = {
            let mut shard = self.shards.of(key);
            let Some(before) = shard.end(key, at) else { return Ok(None) };
            let change = || Change::Ended { key, at, before: Box::new(before.clone()) };
            match self.push(change, &mut room) {
                // What proves an end is its record alone.
                Ok(number) => (before, self.receipt(key, None, number)),
                Err(fault) => {
                    shard.set(key, Some(&before));
                    return Err(fault);
                }
            }
        };
        drop(room);
        self.len.fetch_sub(1, Relaxed);
        self.observer.left(&before.pin, at, Left::Ended);
        receipt.settled().await?;
        Ok(Some(before.pin))
    }

    pub(super) async fn sweep(&self) {
        for at in 0..SHARDS {
            while self.sweep_some(at) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether there may be more. A disk that is behind is not waited for:
    /// what it is not told of ends at the next start.
    fn sweep_some(&self, at: usize) -> bool {
        let now = self.now();
        let mut shard = locked(&self.shards.0[at]);
        if shard.next_due().is_none_or(|due| due > now) {
            return false;
        }
        let mut room = self.disk.as_ref().and_then(|disk| disk.room_now(SWEEP));
        let mut ended = Vec::new();
        for (key, pin) in shard.sweep(now).take(SWEEP as usize) {
            if let (Some(disk), Some(room)) = (&self.disk, &mut room) {
                let _ = disk.push(Change::Expired { key, pin: Box::new(pin.clone()) }, room);
            }
            ended.push(pin);
        }
        drop(shard);
        self.len.fetch_sub(ended.len(), Relaxed);
        ended.iter().for_each(|pin| self.observer.left(pin, pin.ends(), Left::Ended));
        ended.len() == SWEEP as usize
    }

    pub(super) fn note_clock(&self) {
        let offset_ms = self.offset_ms();
        if offset_ms.abs_diff(self.noted_ms.load(Relaxed)) <= CLOCK_SLACK_MS {
            return;
        }
        let Some(disk) = &self.disk else { return };
        let Some(mut room) = disk.room_now(1) else { return };
        if disk.push(Change::Clock(offset_ms), &mut room).is_ok() {
            self.noted_ms.store(offset_ms, Relaxed);
        }
    }

    pub(super) fn begin_close(&self) {
        if let Some(disk) = &self.disk {
            disk.begin_close();
        }
    }

    pub(super) async fn close(&self) {
        if let Some(disk) = &self.disk {
            disk.begin_close();
            disk.closed().await;
        }
    }

    /// How far the wall clock is ahead of the gateway's.
    pub(super) fn offset_ms(&self) -> i64 {
        self.clock.wall().as_ms().wrapping_sub(self.clock.now().as_ms()) as i64
    }

    pub(super) async fn room(&self) -> Result<Option<Room<'_>>, StoreFault> {
        loop {
            self.gate.pass().await?;
            let Some(disk) = &self.disk else { return Ok(None) };
            tokio::select! {
                biased;
                room = disk.room() => return room.map(Some),
                // Room is not to be had until the gate is open again.
                () = self.gate.no_longer_open() => {}
            }
        }
    }

    /// Leaves the state to another process, for good or until
    /// [`Local::take_back`]. What is in the map stays readable; changes wait.
    pub(super) async fn let_go(&self) -> Result<(), StoreFault> {
        self.note_clock();
        self.gate.shut();
        let Some(disk) = &self.disk else { return Ok(()) };
        let gone = disk.let_go().await;
        if gone.is_err() {
            self.gate.open();
        }
        gone
    }

    /// The other process has not taken it: changes are taken again as soon as
    /// the files are.
    pub(super) fn take_back(&self) {
        match &self.disk {
            Some(disk) => disk.take_back(),
            None => self.gate.open(),
        }
    }

    /// Changes need not wait for the files any longer.
    pub(super) fn opened_again(&self) {
        self.gate.open();
    }

    /// The other process has it for good: changes are to be asked of it.
    pub(super) fn hand_over(&self) {
        self.gate.hand_over();
    }

    /// Hands a change to the disk, if there is one. Under the shard's lock.
    pub(super) fn push(
        &self,
        change: impl FnOnce() -> Change,
        room: &mut Option<Room<'_>>,
    ) -> Result<u64, StoreFault> {
        match (&self.disk, room) {
            (Some(disk), Some(room)) => disk.push(change(), room),
            _ => Ok(0),
        }
    }

    /// As a request gets it. Under the shard's lock.
    pub(super) fn shown(&self, key: SessionKey, held: Held, won: bool) -> Claim {
        let receipt = self.receipt(key, Some(held.pin.version), held.record);
        Claim { fresh: held.news == News::New, contested: false, won, receipt, pin: held.pin }
    }

    pub(super) fn receipt(&self, key: SessionKey, version: Option<u64>, number: u64) -> Receipt {
        Receipt(self.disk.as_ref().and_then(|disk| disk.receipt(&self.this, key, version, number)))
    }
}
