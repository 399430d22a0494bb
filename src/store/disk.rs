//! Between the map and the disk.
//!
//! Owns: the queue of changes, their numbers, the written mark that receipts
//! wait for, and the two threads: one writes, one syncs.
//! Must not know: what is pinned; undoing and rewriting is asked of `local`.
//!
//! Numbers and the mark: a change gets the next number under the lock of the
//! queue, taken inside the lock of the pin's shard, so the disk's order is
//! the map's. The writer commits what waits as one batch and raises the mark
//! to the batch's last number. A receipt is "mark >= my number".
//!
//! Epochs: when the disk refuses, everything not written is undone, newest
//! first, and the epoch ends: whoever still waits in it has failed. The next
//! epoch begins with a mark that covers all that is in the map then.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::engine::{Engine, EngineError, Folder, Op, Space};
use super::local::Local;
use super::record::{Fact, Record};
use super::{Durability, StoreFault};
use crate::core::pin::Pin;
use crate::core::pins::Held;
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

/// At most so many changes wait; then claims wait.
const QUEUE: usize = 16 * 1024;
/// At most so many changes are one batch, so that the first of them do not
/// wait for too many others.
const BATCH: usize = 1024;
/// The sync thread begins so long after a write; with the sync itself that
/// stays within the 50 ms that may be lost with the power.
const SYNC_AFTER: Duration = Duration::from_millis(20);
/// A disk that refused is tried again so often.
const RETRY: Duration = Duration::from_millis(500);
/// Records of what is over anyway are removed so often.
const TIDY: Duration = Duration::from_secs(1800);
/// Between two batches of removals that nobody waits for.
const BREATH: Duration = Duration::from_millis(1);

/// What has changed in the map.
#[derive(Debug)]
pub(super) enum Change {
    /// A pin was made; it replaced one that had ended.
    Made { key: SessionKey, pin: Box<Pin>, ended: Option<Box<Pin>> },
    /// A pin was moved; before, it was this.
    Moved { key: SessionKey, pin: Box<Pin>, before: Box<Held> },
    /// A pin was used; its last record before has this number.
    Used { key: SessionKey, pin: Box<Pin>, before: u64 },
    /// A pin was ended on demand.
    Ended { key: SessionKey, at: Timestamp, before: Box<Held> },
    /// A pin's time was over.
    Expired { key: SessionKey, pin: Box<Pin> },
    /// The wall clock is ahead of the gateway's by so many ms.
    Clock(i64),
}

#[derive(Debug)]
struct Job {
    number: u64,
    change: Change,
}

/// The disk, seen from the map.
#[derive(Debug)]
pub(super) struct Disk {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// One permit for each change that may wait.
    room: Semaphore,
    epoch: ArcSwap<Epoch>,
    refusing: AtomicBool,
    sync: Mutex<Sync>,
    sync_wake: Condvar,
    durability: Durability,
    closed: Notify,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Queue {
    jobs: Vec<Job>,
    next: u64,
    closing: bool,
    closed: bool,
    sync_failed: bool,
}

#[derive(Debug, Default)]
struct Sync {
    /// The number of the last record written; synced up to the other.
    written: u64,
    synced: u64,
    closing: bool,
}

/// A time without refusals.
#[derive(Debug)]
struct Epoch {
    mark: AtomicU64,
    failed: AtomicBool,
    news: Notify,
}

impl Epoch {
    fn new(mark: u64) -> Arc<Self> {
        Arc::new(Self { mark: AtomicU64::new(mark), failed: AtomicBool::new(false), news: Notify::new() })
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.news.notify_waiters();
    }

    fn raise(&self, mark: u64) {
        self.mark.store(mark, Ordering::Release);
        self.news.notify_waiters();
    }

    /// `None`: not known yet.
    fn written(&self, number: u64) -> Option<bool> {
        // In this order: the mark does not move after the failure.
        let failed = self.failed.load(Ordering::Acquire);
        match self.mark.load(Ordering::Acquire) >= number {
            true => Some(true),
            false => failed.then_some(false),
        }
    }

    async fn wait(&self, number: u64) -> bool {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(written) = self.written(number) {
                return written;
            }
            news.await;
        }
    }
}

/// A receipt for a pin whose last record was not written yet when it was
/// looked at.
#[derive(Clone, Debug)]
pub(super) struct Receipt {
    epoch: Arc<Epoch>,
    number: u64,
    key: SessionKey,
    /// 0: an end, which no pin in the map can prove.
    version: u64,
    local: Weak<Local>,
}

impl Receipt {
    pub(super) fn is_written(&self) -> bool {
        self.epoch.written(self.number) == Some(true)
    }

    /// A refused record need not have been the pin's only one: what is in the
    /// map after all was undone is on disk.
    pub(super) async fn settled(&self) -> Result<(), StoreFault> {
        if self.epoch.wait(self.number).await {
            return Ok(());
        }
        let pin = self.local.upgrade().and_then(|local| local.peek(self.key));
        match pin.is_some_and(|pin| pin.version == self.version) {
            true => Ok(()),
            false => Err(StoreFault),
        }
    }
}

/// A permit to put changes into the queue.
pub(super) struct Room<'a>(SemaphorePermit<'a>);

impl Disk {
    /// A disk whose records go up to `last`; nothing runs yet.
    pub(super) fn new(durability: Durability, last: u64) -> Self {
        Self {
            queue: Mutex::new(Queue {
                jobs: Vec::new(),
                next: last + 1,
                closing: false,
                closed: false,
                sync_failed: false,
            }),
            wake: Condvar::new(),
            room: Semaphore::new(QUEUE),
            epoch: ArcSwap::new(Epoch::new(last)),
            refusing: AtomicBool::new(false),
            sync: Mutex::new(Sync { written: last, synced: last, closing: false }),
            sync_wake: Condvar::new(),
            durability,
            closed: Notify::new(),
            threads: Mutex::new(Vec::new()),
        }
    }

    /// Starts the two threads.
    pub(super) fn start(
        &self,
        local: &Arc<Local>,
        folder: Arc<Folder>,
        engine: Engine,
        stale: Vec<SessionKey>,
    ) -> io::Result<()> {
        let writer = Writer {
            local: local.clone(),
            folder: folder.clone(),
            engine: Some(engine),
            stale,
            tidied: Timestamp::default(),
        };
        let write = thread::Builder::new().name("pins-write".to_owned()).spawn(move || writer.run())?;
        let local = local.clone();
        let sync = thread::Builder::new().name("pins-sync".to_owned()).spawn(move || {
            if let Some(disk) = local.disk() {
                disk.keep_synced(&folder);
            }
        })?;
        locked(&self.threads).extend([write, sync]);
        Ok(())
    }

    /// Room for `changes`, when the queue has it.
    pub(super) async fn room(&self, changes: u32) -> Result<Room<'_>, StoreFault> {
        if self.is_refusing() {
            return Err(StoreFault);
        }
        self.room.acquire_many(changes).await.map(Room).map_err(|_closed| StoreFault)
    }

    /// Room for `changes` if the queue has it now.
    pub(super) fn room_now(&self, changes: u32) -> Option<Room<'_>> {
        if self.is_refusing() { None } else { self.room.try_acquire_many(changes).ok().map(Room) }
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    /// Hands a change to the writer and numbers it. To be called under the
    /// lock of the pin's shard.
    pub(super) fn push(&self, change: Change, room: &mut Room<'_>) -> Result<u64, StoreFault> {
        let mut queue = locked(&self.queue);
        if self.is_refusing() || queue.closing {
            return Err(StoreFault);
        }
        // The writer gives it back.
        room.0.split(1).ok_or(StoreFault)?.forget();
        let number = queue.next;
        queue.next += 1;
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
        version: u64,
        number: u64,
    ) -> Option<Receipt> {
        let epoch = self.epoch.load();
        if epoch.written(number) == Some(true) {
            return None;
        }
        Some(Receipt { epoch: epoch.clone(), number, key, version, local: local.clone() })
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
            // They are past their last statement but one.
            let _ = thread.join();
        }
    }

    /// The sync thread.
    fn keep_synced(&self, folder: &Folder) {
        loop {
            let mut sync = locked(&self.sync);
            while sync.written == sync.synced && !sync.closing {
                sync = self.sync_wake.wait(sync).unwrap_or_else(PoisonError::into_inner);
            }
            if sync.closing {
                return;
            }
            drop(sync);
            thread::sleep(SYNC_AFTER);
            let written = locked(&self.sync).written;
            match folder.sync_journal() {
                Ok(()) => {
                    let _ = folder.mark(written);
                    locked(&self.sync).synced = written;
                }
                Err(e) => {
                    tracing::error!(error = %e, "the disk could not keep what was written to it");
                    locked(&self.queue).sync_failed = true;
                    self.wake.notify_one();
                    locked(&self.sync).synced = written;
                }
            }
        }
    }
}

/// The writer thread.
struct Writer {
    local: Arc<Local>,
    folder: Arc<Folder>,
    engine: Option<Engine>,
    /// Keys of pins that had ended at start, to be removed by and by.
    stale: Vec<SessionKey>,
    /// When what is over was removed last.
    tidied: Timestamp,
}

/// Tells those who wait when the writer is gone, also if it fell over its own
/// feet: then nothing is written any more, and nobody must wait for it.
struct Fallen<'a>(&'a Disk);

impl Drop for Fallen<'_> {
    fn drop(&mut self) {
        let mut queue = locked(&self.0.queue);
        queue.closing = true;
        queue.closed = true;
        drop(queue);
        self.0.room.close();
        self.0.epoch.load().fail();
        locked(&self.0.sync).closing = true;
        self.0.sync_wake.notify_one();
        self.0.closed.notify_waiters();
    }
}

/// What the writer does next.
enum Next {
    Write(Vec<Job>),
    Idle,
    SyncFailed,
    Close,
}

impl Writer {
    fn run(mut self) {
        let local = self.local.clone();
        let Some(disk) = local.disk() else { return };
        let _fallen = Fallen(disk);
        loop {
            match disk.next(if self.stale.is_empty() { TIDY } else { BREATH }) {
                Next::Write(jobs) => self.write(disk, jobs),
                Next::Idle => self.remove_stale(),
                Next::SyncFailed => self.refuse(disk, Vec::new(), true),
                Next::Close => break,
            }
            if self.local.now().since(self.tidied) > TIDY {
                self.tidied = self.local.now();
                self.tidy();
            }
        }
        // Dropping the engine syncs its journal.
        self.engine = None;
        // Only a hint for the next start: a failure costs nothing.
        let _ = self.folder.mark(locked(&disk.sync).written);
    }

    fn write(&mut self, disk: &Disk, mut jobs: Vec<Job>) {
        let Some(engine) = &self.engine else { return self.refuse(disk, jobs, false) };
        while !jobs.is_empty() {
            let rest = jobs.split_off(jobs.len().min(BATCH));
            let batch = std::mem::replace(&mut jobs, rest);
            let written = engine.commit(ops(&batch).into_iter(), disk.durability == Durability::Fsync);
            if let Err(e) = written {
                tracing::error!(error = %e, "the disk refuses pins; new sessions fail until it takes them");
                let failed = batch.into_iter().chain(jobs).collect();
                return self.refuse(disk, failed, false);
            }
            let last = batch.last().map_or(0, |job| job.number);
            disk.epoch.load().raise(last);
            disk.room.add_permits(batch.len());
            locked(&disk.sync).written = last;
            disk.sync_wake.notify_one();
        }
    }

    /// Undoes what was not written, and comes back when the disk writes again.
    fn refuse(&mut self, disk: &Disk, mut failed: Vec<Job>, all_in_doubt: bool) {
        let next = {
            let mut queue = locked(&disk.queue);
            disk.refusing.store(true, Ordering::Release);
            failed.append(&mut queue.jobs);
            queue.sync_failed = false;
            queue.next
        };
        disk.room.add_permits(failed.len());
        for job in failed.into_iter().rev() {
            self.local.undo(job.change);
        }
        disk.epoch.swap(Epoch::new(next - 1)).fail();
        while !locked(&disk.queue).closing {
            // All handles go before the files are opened again.
            self.engine = None;
            let tried = self.folder.try_writing().map_err(EngineError::Io);
            match tried.and_then(|()| self.reopen(disk, all_in_doubt)) {
                Ok(engine) => {
                    self.engine = Some(engine);
                    disk.refusing.store(false, Ordering::Release);
                    tracing::info!("the disk takes pins again");
                    return;
                }
                Err(e) => tracing::debug!(error = %e, "the disk still refuses pins"),
            }
            let queue = locked(&disk.queue);
            let waited = disk.wake.wait_timeout_while(queue, RETRY, |queue| !queue.closing);
            drop(waited);
        }
    }

    /// Opens the database again and makes it say what the map says.
    fn reopen(&self, disk: &Disk, all_in_doubt: bool) -> Result<Engine, EngineError> {
        let opened = self.folder.open(|engine, _| self.local.rewrite(engine, all_in_doubt))?;
        // An unfinished write is no news here: it is why we are here.
        for damage in &opened.findings.damage {
            tracing::error!(file = %damage.file.display(), lost = damage.lost, "state_damaged");
            self.local.observer().damaged(damage);
        }
        let engine = opened.engine;
        let last = locked(&disk.queue).next - 1;
        engine.commit([Op::put(&Record { number: last, fact: Fact::Last })].into_iter(), true)?;
        disk.epoch.load().raise(last);
        let mut sync = locked(&disk.sync);
        sync.written = last;
        sync.synced = last;
        Ok(engine)
    }

    /// Removes some of the pins that had ended at start. If the disk refuses,
    /// it will refuse the next pin, and be told of there.
    fn remove_stale(&mut self) {
        let Some(engine) = &self.engine else { return };
        let some = self.stale.split_off(self.stale.len().saturating_sub(BATCH));
        // A key that is in the map again has a new record, or will have one
        // when this thread comes to it.
        let gone = some.into_iter().filter(|key| !self.local.has(*key));
        let _ = engine.commit(gone.map(|key| Op::unpin(key)), false);
    }

    /// Removes records of what is over anyway.
    fn tidy(&self) {
        let Some(engine) = &self.engine else { return };
        let now = self.local.now();
        let mut over = Vec::new();
        for space in [Space::Ended, Space::Rests] {
            let looked = engine.each(space, |place, record| {
                let fact = Record::decode(record).map(|record| record.fact);
                let Ok(Fact::Ended { until, .. } | Fact::Rest { until, .. }) = fact else { return };
                if until <= now {
                    over.push(Op::remove(place.to_vec()));
                }
            });
            if looked.is_err() {
                return; // the next start sees to it
            }
        }
        for ops in over.chunks(BATCH) {
            let _ = engine.commit(ops.iter().cloned(), false);
        }
    }
}

impl Disk {
    /// Takes the number for a record that is not queued.
    pub(super) fn take_number(&self) -> u64 {
        let mut queue = locked(&self.queue);
        queue.next += 1;
        queue.next - 1
    }

    fn next(&self, patience: Duration) -> Next {
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
            let (held, waited) =
                self.wake.wait_timeout(queue, patience).unwrap_or_else(PoisonError::into_inner);
            queue = held;
            if waited.timed_out() && queue.jobs.is_empty() {
                return Next::Idle;
            }
        }
    }
}

/// What a batch changes: the last change of each place, for the engine gives
/// a batch one sequence number and so cannot tell two changes apart.
fn ops(batch: &[Job]) -> Vec<Op> {
    let mut all = Vec::with_capacity(batch.len() + 1);
    for job in batch {
        job.ops(&mut all);
    }
    if let Some(last) = batch.last().filter(|_| all.iter().any(|op| op.record.is_none())) {
        all.push(Op::put(&Record { number: last.number, fact: Fact::Last }));
    }
    let mut seen = HashSet::with_capacity(all.len());
    let mut kept: Vec<_> = all.iter().rev().map(|op| seen.insert(&op.place)).collect();
    kept.reverse();
    let mut kept = kept.into_iter();
    all.retain(|_| kept.next() == Some(true));
    all
}

impl Job {
    fn ops(&self, to: &mut Vec<Op>) {
        let number = self.number;
        let put = |fact| Op::put(&Record { number, fact });
        match &self.change {
            Change::Made { key, pin, ended } => {
                to.push(Op::pin(number, *key, pin));
                let rest = ended.as_ref().and_then(|ended| rest(*key, ended, ended.ends()));
                to.extend(rest.map(put));
            }
            Change::Moved { key, pin, .. } | Change::Used { key, pin, .. } => {
                to.push(Op::pin(number, *key, pin));
            }
            Change::Ended { key, at, before } => {
                to.push(put(Fact::Ended { key: *key, until: before.pin.expires }));
                to.extend(rest(*key, &before.pin, *at).map(put));
                to.push(Op::unpin(*key));
            }
            Change::Expired { key, pin } => {
                to.extend(rest(*key, pin, pin.ends()).map(put));
                to.push(Op::unpin(*key));
            }
            Change::Clock(offset_ms) => to.push(put(Fact::Clock(*offset_ms))),
        }
    }
}

/// What is to be remembered of a pin that ended at `at`.
pub(super) fn rest(key: SessionKey, pin: &Pin, at: Timestamp) -> Option<Fact> {
    (pin.rest_s > 0).then(|| Fact::Rest {
        key,
        version: pin.version,
        exit: pin.exit.clone(),
        variant: pin.variant.clone(),
        until: at.plus(Duration::from_secs(u64::from(pin.rest_s))),
    })
}

/// A panic under one of these locks leaves nothing half done that matters
/// more than going on.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
