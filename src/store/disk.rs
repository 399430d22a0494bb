//! Between the map and the disk.
//!
//! Owns: the queue of changes and their numbers, and whether the disk takes
//! any.
//! Must not know: what is pinned, how it is written ([`super::writer`]).
//!
//! A change gets the next number under the lock of the queue, taken inside
//! the lock of the pin's shard, so the disk's order is the map's. The writer
//! commits what waits as one batch and raises the mark ([`super::epoch`]) to
//! the batch's last number. When the disk refuses, all that is not written is
//! undone, newest first, and nothing new is taken until it comes round.

mod leave;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use self::leave::Leave;
use super::epoch::{self, Epoch, Outcome, Receipt};
use super::local::Local;
use super::{Durability, StoreFault};
use crate::core::pin::Pin;
use crate::core::pins::Held;
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

/// At most so many changes wait; then claims wait.
const QUEUE: usize = 16 * 1024;

/// What has changed in the map.
#[derive(Debug)]
pub(super) enum Change {
    /// A pin was made; it replaced one that had ended.
    Made { key: SessionKey, pin: Box<Pin>, ended: Option<Box<Pin>> },
    /// A pin was moved; before, it was this.
    Moved { key: SessionKey, pin: Box<Pin>, before: Box<Held> },
    /// A pin lasts longer; before, it was this.
    Extended { key: SessionKey, pin: Box<Pin>, before: Box<Held> },
    /// A pin was used; its last record before has this number.
    Used { key: SessionKey, pin: Box<Pin>, before: u64 },
    /// A pin was ended on demand.
    Ended { key: SessionKey, at: Timestamp, before: Box<Held> },
    /// A pin's time was over.
    Expired { key: SessionKey, pin: Box<Pin> },
    /// The wall clock is ahead of the gateway's by so many ms.
    Clock(i64),
}

/// A change with its number.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) change: Change,
}

/// The disk, seen from the map.
#[derive(Debug)]
pub(super) struct Disk {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// One permit for each change that may wait.
    room: Semaphore,
    epoch: ArcSwap<Epoch>,
    /// Set under the lock of the queue.
    refusing: AtomicBool,
    sync: Mutex<Sync>,
    sync_wake: Condvar,
    pub(super) durability: Durability,
    closed: Notify,
    away: Notify,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Queue {
    jobs: Vec<Job>,
    next: u64,
    closing: bool,
    closed: bool,
    sync_failed: bool,
    leave: Leave,
}

/// How far the sync thread is behind the writer.
#[derive(Debug)]
struct Sync {
    written: u64,
    synced: u64,
    closing: bool,
}

/// A permit to put changes into the queue.
pub(super) struct Room<'a>(SemaphorePermit<'a>);

/// For the map.
impl Disk {
    /// A disk whose records go up to `last`.
    pub(super) fn new(durability: Durability, last: u64) -> Self {
        let jobs = Vec::new();
        let queue = Queue {
            jobs,
            next: last + 1,
            closing: false,
            closed: false,
            sync_failed: false,
            leave: Leave::Here,
        };
        Self {
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            room: Semaphore::new(QUEUE),
            epoch: ArcSwap::new(Epoch::new(last)),
            refusing: AtomicBool::new(false),
            sync: Mutex::new(Sync { written: last, synced: last, closing: false }),
            sync_wake: Condvar::new(),
            durability,
            closed: Notify::new(),
            away: Notify::new(),
            threads: Mutex::new(Vec::new()),
        }
    }

    /// Room for a change, when the queue has it; a fault while the disk
    /// refuses.
    pub(super) async fn room(&self) -> Result<Room<'_>, StoreFault> {
        if self.is_refusing() {
            return Err(StoreFault::Refused);
        }
        let room = timeout(epoch::PATIENCE, self.room.acquire()).await;
        room.map_err(|_hangs| StoreFault::Refused)?.map(Room).map_err(|_closed| StoreFault::Refused)
    }

    /// Room for `changes` if the queue has it now.
    pub(super) fn room_now(&self, changes: u32) -> Option<Room<'_>> {
        if self.is_refusing() { None } else { self.room.try_acquire_many(changes).ok().map(Room) }
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    /// How many changes wait to be written, and how many to be synced.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let unwritten = QUEUE.saturating_sub(self.room.available_permits());
        let sync = locked(&self.sync);
        (unwritten as u64, sync.written.saturating_sub(sync.synced))
    }

    /// Hands a change to the writer and numbers it. To be called under the
    /// lock of the pin's shard.
    pub(super) fn push(&self, change: Change, room: &mut Room<'_>) -> Result<u64, StoreFault> {
        let mut queue = locked(&self.queue);
        if self.is_refusing() || queue.closing {
            return Err(StoreFault::Refused);
        }
        // The writer gives it back.
        room.0.split(1).ok_or(StoreFault::Refused)?.forget();
        let number = queue.take_number();
        queue.jobs.push(Job { number, change });
        drop(queue);
        self.wake.notify_one();
        Ok(number)
    }

    /// A receipt for record `number`; `None` if it is written. To be called
    /// under the lock of the pin's shard, so that the epoch is the record's.
    pub(super) fn receipt(
        &self,
        local: &Weak<Local>,
        key: SessionKey,
        version: Option<u64>,
        number: u64,
    ) -> Option<Receipt> {
        Receipt::new(&self.epoch.load(), number, key, version, local)
    }

    /// Lets the threads finish what waits, and end.
    pub(super) fn begin_close(&self) {
        locked(&self.queue).closing = true;
        self.wake.notify_one();
        self.room.close();
    }

    /// Waits until they have.
    pub(super) async fn closed(&self) {
        loop {
            let mut closed = std::pin::pin!(self.closed.notified());
            closed.as_mut().enable();
            if locked(&self.queue).closed {
                break;
            }
            closed.await;
        }
        for thread in locked(&self.threads).drain(..) {
            // It is past its last statement but one. How it ended was told.
            let _ = thread.join();
        }
    }
}

/// What the writer does next.
pub(super) enum Next {
    /// Write these.
    Write(Vec<Job>),
    /// Nothing came for as long as it was patient.
    Idle,
    /// What was written may be lost: the disk failed to sync.
    SyncFailed,
    /// Let go of the files: everything is written.
    LetGo,
    /// End.
    Close,
}

/// For the writer.
impl Disk {
    /// These are to be joined when all is closed.
    pub(super) fn runs_in(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) {
        locked(&self.threads).extend(threads);
    }

    /// Waits for something to do.
    pub(super) fn next(&self, patience: Duration) -> Next {
        let mut queue = locked(&self.queue);
        loop {
            if queue.sync_failed {
                return Next::SyncFailed;
            }
            if !queue.jobs.is_empty() {
                return Next::Write(std::mem::take(&mut queue.jobs));
            }
            if queue.closing {
                return Next::Close;
            }
            if queue.leave != Leave::Here {
                return Next::LetGo;
            }
            let waited = self.wake.wait_timeout(queue, patience);
            let (held, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = held;
            if waited.timed_out() && queue.jobs.is_empty() {
                return Next::Idle;
            }
        }
    }

    /// So many jobs, up to this number, are written.
    pub(super) fn wrote(&self, jobs: usize, last: u64) {
        self.epoch.load().raise(last);
        self.room.add_permits(jobs);
        locked(&self.sync).written = last;
        self.sync_wake.notify_all();
    }

    /// Takes no more changes. Returns those that are to be undone: `failed`
    /// and all that wait behind them.
    pub(super) fn refuse(&self, mut failed: Vec<Job>) -> Vec<Job> {
        let mut queue = locked(&self.queue);
        self.refusing.store(true, Ordering::Release);
        failed.append(&mut queue.jobs);
        drop(queue);
        self.room.add_permits(failed.len());
        failed
    }

    /// They are undone: whoever waits for them has failed.
    pub(super) fn undone(&self) {
        self.epoch.swap(Epoch::new(self.last_number())).end(Outcome::Undone);
    }

    /// Waits before the disk is tried again; `false` if that is not wanted
    /// any more.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let queue = locked(&self.queue);
        let waited = self.wake.wait_timeout_while(queue, time, |queue| !queue.closing);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !queue.closing
    }

    /// The disk has all that the map has, and takes changes again.
    pub(super) fn resume(&self) {
        let mut queue = locked(&self.queue);
        let last = queue.next - 1;
        queue.sync_failed = false;
        self.epoch.load().raise(last);
        let mut sync = locked(&self.sync);
        (sync.written, sync.synced) = (last, last);
        self.refusing.store(false, Ordering::Release);
    }

    /// Takes the number for a record that is not queued.
    pub(super) fn take_number(&self) -> u64 {
        locked(&self.queue).take_number()
    }

    /// The last number that was taken.
    pub(super) fn last_number(&self) -> u64 {
        locked(&self.queue).next - 1
    }

    /// The writer is gone, and nothing is written any more.
    pub(super) fn writer_gone(&self) {
        self.begin_close();
        self.epoch.load().end(Outcome::Lost);
        locked(&self.sync).closing = true;
        self.sync_wake.notify_all();
        locked(&self.queue).closed = true;
        self.closed.notify_waiters();
        self.away.notify_waiters();
    }
}

/// For the sync thread.
impl Disk {
    /// Waits until something is written that is not synced; `false` at the
    /// end.
    pub(super) fn wait_for_unsynced(&self) -> bool {
        let sync = locked(&self.sync);
        let waited = self.sync_wake.wait_while(sync, |sync| sync.written == sync.synced && !sync.closing);
        !waited.unwrap_or_else(PoisonError::into_inner).closing
    }

    /// The number of the last record that was written.
    pub(super) fn written(&self) -> u64 {
        locked(&self.sync).written
    }

    /// Records up to this number are synced, or will not be.
    pub(super) fn synced(&self, number: u64) {
        let mut sync = locked(&self.sync);
        sync.synced = sync.synced.max(number);
        drop(sync);
        self.sync_wake.notify_all();
    }

    /// What was written may not be on the disk.
    pub(super) fn sync_failed(&self) {
        locked(&self.queue).sync_failed = true;
        self.wake.notify_one();
    }
}

impl Queue {
    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

/// A panic under one of these locks leaves nothing half done that matters
/// more than going on.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
