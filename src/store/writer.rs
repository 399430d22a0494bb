//! The two threads of the disk: one writes, where no task does it itself; one
//! syncs.
//!
//! Owns: what a change is on disk, batches, and coming back when a disk that
//! refused takes writes again.
//! Must not know: who waits for what.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::disk::{Change, Disk, Job, Next};
use super::engine::{Engine, EngineError, Op, Space};
use super::folder::Folder;
use super::local::Local;
use super::pen::Taken;
use super::record::{Fact, Record};
use super::{Damage, Durability};
use crate::core::pin::Pin;
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

/// At most so many changes are one batch, so that the first of them do not
/// wait for too many others.
const BATCH: usize = 1024;
/// A task writes at most so many.
const AT_ONCE: usize = 16;
/// The sync thread begins so long after a write; with the sync itself that
/// stays within the 50 ms that may be lost with the power.
const SYNC_AFTER: Duration = Duration::from_millis(20);
/// A disk that refused is tried again so often.
const RETRY: Duration = Duration::from_millis(500);
/// Records of what is over anyway are removed so often.
const TIDY: Duration = Duration::from_secs(1800);
/// Between two batches of removals that nobody waits for.
const BREATH: Duration = Duration::from_millis(1);

/// Starts the two threads. `stale`: keys of pins that had ended when they
/// were read, to be removed by and by.
pub(super) fn start(
    local: &Arc<Local>,
    folder: Arc<Folder>,
    engine: Engine,
    stale: Vec<SessionKey>,
) -> io::Result<()> {
    let Some(disk) = local.disk() else { return Ok(()) };
    *disk.pen.take() = Some(engine);
    let writer = Writer { local: local.clone(), folder: folder.clone(), stale, tidied: Timestamp::default() };
    let write = thread::Builder::new().name("pins-write".to_owned()).spawn(move || writer.run())?;
    let local = local.clone();
    let sync = move || {
        if let Some(disk) = local.disk() {
            keep_synced(disk, &folder);
        }
    };
    let sync = thread::Builder::new().name("pins-sync".to_owned()).spawn(sync)?;
    disk.runs_in([write, sync]);
    Ok(())
}

/// The sync thread.
fn keep_synced(disk: &Disk, folder: &Folder) {
    while disk.wait_for_unsynced() {
        thread::sleep(SYNC_AFTER);
        let written = disk.written();
        // With `fsync` the writer has done it.
        let synced = match disk.durability {
            Durability::Journal => {
                disk.pen.syncs(true);
                let synced = folder.sync_journal();
                disk.pen.syncs(false);
                synced
            }
            Durability::Fsync => Ok(()),
        };
        match synced {
            // Only a hint for the next start: a failure costs nothing.
            Ok(()) => drop(folder.mark(written)),
            Err(e) => {
                tracing::error!(error = %e, "the disk could not keep what was written to it");
                disk.sync_failed();
            }
        }
        disk.synced(written);
    }
}

/// The writer thread.
struct Writer {
    local: Arc<Local>,
    folder: Arc<Folder>,
    stale: Vec<SessionKey>,
    /// When what is over was removed last.
    tidied: Timestamp,
}

/// Tells those who wait when the writer is gone, also if it fell over its own
/// feet: nobody must wait for it then.
struct Gone<'a>(&'a Disk);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.writer_gone();
    }
}

impl Writer {
    fn run(mut self) {
        let local = self.local.clone();
        let Some(disk) = local.disk() else { return };
        let _gone = Gone(disk);
        loop {
            match disk.next(if self.stale.is_empty() { TIDY } else { BREATH }) {
                Next::Write => self.write(disk),
                Next::Refused(jobs) => self.refuse(disk, &mut disk.pen.take(), jobs, false),
                Next::Idle => self.remove_stale(disk),
                Next::SyncFailed => self.refuse(disk, &mut disk.pen.take(), Vec::new(), true),
                Next::LetGo if self.let_go(disk) => {}
                // What another process has is not to be touched.
                Next::LetGo => return,
                Next::Close => break,
            }
            if self.local.now().since(self.tidied) > TIDY {
                self.tidied = self.local.now();
                self.tidy(disk);
            }
        }
        // Dropping the engine syncs its journal.
        *disk.pen.take() = None;
        drop(self.folder.mark(disk.written()));
    }

    fn write(&self, disk: &Disk) {
        let mut pen = disk.pen.take();
        // A task may have been quicker.
        let mut jobs = disk.queued(usize::MAX).unwrap_or_default();
        while !jobs.is_empty() {
            let rest = jobs.split_off(jobs.len().min(BATCH));
            let batch = std::mem::replace(&mut jobs, rest);
            let written = match &*pen {
                Some(engine) => commit(disk, engine, batch),
                None => Err(batch),
            };
            if let Err(batch) = written {
                let failed = batch.into_iter().chain(jobs).collect();
                return self.refuse(disk, &mut pen, failed, false);
            }
        }
    }

    /// Leaves the files to another process; `false`: for good.
    fn let_go(&self, disk: &Disk) -> bool {
        disk.wait_synced();
        // Dropping the engine syncs its journal.
        *disk.pen.take() = None;
        drop(self.folder.mark(disk.written()));
        self.folder.unlock();
        if !disk.stay_away() {
            return false;
        }
        let locked = self.folder.relock().map_err(EngineError::Io);
        let mut pen = disk.pen.take();
        match locked.and_then(|()| self.reopen(disk, false)) {
            Ok(engine) => {
                *pen = Some(engine);
                disk.resume();
                disk.here_again();
                self.local.opened_again();
            }
            Err(e) => {
                tracing::error!(error = %e, "the state folder cannot be taken back; new sessions fail");
                drop(disk.refuse(Vec::new()));
                disk.here_again();
                self.local.opened_again();
                self.refuse(disk, &mut pen, Vec::new(), true);
            }
        }
        true
    }

    /// Undoes what was not written, newest first, and comes back when the
    /// disk writes again.
    fn refuse(&self, disk: &Disk, pen: &mut Option<Engine>, failed: Vec<Job>, all_in_doubt: bool) {
        for job in disk.refuse(failed).into_iter().rev() {
            self.local.undo(job.change);
        }
        disk.undone();
        loop {
            // All handles go before the files are opened again.
            *pen = None;
            let tried = self.folder.relock().and_then(|()| self.folder.try_writing());
            match tried.map_err(EngineError::Io).and_then(|()| self.reopen(disk, all_in_doubt)) {
                Ok(engine) => {
                    *pen = Some(engine);
                    disk.resume();
                    tracing::info!("the disk takes pins again");
                    return;
                }
                Err(e) => tracing::debug!(error = %e, "the disk still refuses pins"),
            }
            if !disk.pause(RETRY) {
                return;
            }
        }
    }

    /// Opens the database again and makes it say what the map says.
    fn reopen(&self, disk: &Disk, all_in_doubt: bool) -> Result<Engine, EngineError> {
        let opened = self.folder.open(|engine, _| self.local.rewrite(engine, all_in_doubt))?;
        // An unfinished write is no news here: it is why we are here.
        for damage in &opened.findings.damage {
            let Damage { file, lost } = damage;
            tracing::error!(file = %file.display(), lost, "state_damaged");
            self.local.observer().damaged(damage);
        }
        let last = Record { number: disk.last_number(), fact: Fact::Last };
        opened.engine.commit([Op::put(&last)].into_iter(), true)?;
        Ok(opened.engine)
    }

    /// Removes some of the pins that had ended at start. If the disk refuses,
    /// it will refuse the next pin, and be told of there.
    fn remove_stale(&mut self, disk: &Disk) {
        let pen = disk.pen.take();
        let Some(engine) = &*pen else { return };
        let some = self.stale.split_off(self.stale.len().saturating_sub(BATCH));
        // A key that is in the map again has a new record, or will have one
        // when this thread comes to it.
        let gone = some.into_iter().filter(|key| !self.local.has(*key));
        let _ = engine.commit(gone.map(Op::unpin), false);
    }

    /// Removes records of what is over anyway.
    fn tidy(&self, disk: &Disk) {
        let pen = disk.pen.take();
        let Some(engine) = &*pen else { return };
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

/// Sees to it that what a task has pushed is written: at once, by the task
/// itself, where that takes no time; else by the writer's thread. To be called
/// without locks.
pub(super) fn see_to(disk: &Disk) {
    match disk.pen.take_now() {
        Taken::ByAnother => return,
        Taken::Pen(pen) => write_now(disk, pen.as_ref()),
        Taken::Not => {}
    }
    // Also what came while the pen was held.
    if disk.has_queued() {
        disk.wake_writer();
    }
}

fn write_now(disk: &Disk, engine: Option<&Engine>) {
    let Some(engine) = engine.filter(|engine| engine.is_calm()) else { return };
    let Some(batch) = disk.queued(AT_ONCE).filter(|batch| !batch.is_empty()) else { return };
    let begun = Instant::now();
    match commit(disk, engine, batch) {
        Ok(()) => disk.pen.took(begun.elapsed()),
        Err(refused) => disk.hand_over(refused),
    }
}

/// Writes a batch; gives it back if the disk refuses it. For whoever holds
/// the pen.
fn commit(disk: &Disk, engine: &Engine, batch: Vec<Job>) -> Result<(), Vec<Job>> {
    match engine.commit(ops(&batch).into_iter(), disk.durability == Durability::Fsync) {
        Ok(()) => {
            disk.wrote(batch.len(), batch.last().map_or(0, |job| job.number));
            Ok(())
        }
        Err(e) => {
            tracing::error!(error = %e, "the disk refuses pins; new sessions fail until it takes them");
            Err(batch)
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
    if batch.len() > 1 {
        let mut seen = HashSet::with_capacity(all.len());
        let mut latest: Vec<_> = all.iter().rev().map(|op| seen.insert(&op.place)).collect();
        all.retain(|_| latest.pop() == Some(true));
    }
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
            Change::Moved { key, pin, .. }
            | Change::Extended { key, pin, .. }
            | Change::Used { key, pin, .. } => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pin::{ExitName, News, Variant};
    use crate::core::pins::Held;
    use crate::core::session::{Filter, SessionId};

    fn pin(version: u64) -> Box<Pin> {
        Box::new(Pin {
            user: "acme".into(),
            session: SessionId::new("a").unwrap(),
            filter: Filter::default(),
            exit: ExitName { pool: "us".into(), id: "one".into() },
            variant: Variant::None,
            via: 1,
            made: Timestamp::from_ms(1000),
            expires: Timestamp::from_ms(9000),
            idle: None,
            used: Timestamp::from_ms(1000),
            rest_s: 0,
            moves: 0,
            same_address: false,
            version,
        })
    }

    #[test]
    fn of_one_place_a_batch_has_the_last_change_alone() {
        let key = pin(1).key();
        let before = || Box::new(Held { pin: *pin(1), news: News::New, record: 1 });
        let made = |version| Change::Made { key, pin: pin(version), ended: None };
        let ended = || Change::Ended { key, at: Timestamp::default(), before: before() };
        let moved = || Change::Moved { key, pin: pin(2), before: before() };
        let last = |changes: Vec<Change>| {
            let jobs = (1..).zip(changes).map(|(number, change)| Job { number, change });
            let ops = ops(&jobs.collect::<Vec<_>>());
            let mut of_key = ops.into_iter().filter(|op| op.place.first() == Some(&b'p'));
            let only = of_key.next().unwrap();
            assert!(of_key.next().is_none());
            only.record.map(|record| Record::number_of(&record).unwrap())
        };
        assert_eq!(last(vec![made(1)]), Some(1));
        assert_eq!(last(vec![made(1), moved()]), Some(2));
        assert_eq!(last(vec![made(1), moved(), ended()]), None);
        assert_eq!(last(vec![made(1), moved(), ended(), made(3)]), Some(4));
    }
}
