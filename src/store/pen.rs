//! Who writes: the task that made the change, where that takes no longer than
//! waking the writer's thread would, and that thread otherwise.
//!
//! Owns: [`Pen`]: whoever holds it writes, and nobody else; [`Haste`]: whether
//! the disk is quick enough for a task to write to it.
//! Must not know: what is written, what becomes of what the disk refuses.
//!
//! A write to the journal is a copy into the kernel's memory and takes a few
//! microseconds, less than two threads that wake each other. But a disk under
//! load can hold it up for seconds, and a task that waits for it holds up all
//! tunnels of its thread. So a task writes only while nothing is known that
//! could hold it up (no sync under way, no buffer about to be flushed), and
//! after a slow write none does for a long while.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use tokio::time::Instant;

use super::disk::locked;
use super::engine::Engine;

/// A write that took longer was held up, and not only by other threads that
/// wanted the CPU, too.
const SLOW: Duration = Duration::from_millis(10);
/// For how long no task writes after that, at first; twice as long each time
/// that it happens again soon, up to the longest.
const REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// The engine, for one at a time; there is none while the disk refuses.
#[derive(Debug)]
pub(super) struct Pen {
    engine: Mutex<Option<Engine>>,
    haste: Haste,
}

impl Pen {
    /// Without an engine yet. `tasks`: whether tasks may write at all.
    pub(super) fn new(tasks: bool) -> Self {
        Self { engine: Mutex::new(None), haste: Haste::new(tasks) }
    }

    /// For the writer's thread, which may wait.
    pub(super) fn take(&self) -> MutexGuard<'_, Option<Engine>> {
        locked(&self.engine)
    }

    /// For a task, which may not.
    pub(super) fn take_now(&self) -> Taken<'_> {
        if !self.haste.may() {
            return Taken::Not;
        }
        match self.engine.try_lock() {
            Ok(pen) => Taken::Pen(pen),
            Err(TryLockError::Poisoned(poisoned)) => Taken::Pen(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Taken::ByAnother,
        }
    }

    /// A sync begins or ends: what is written meanwhile may have to wait.
    pub(super) fn syncs(&self, now: bool) {
        self.haste.syncing.store(now, Relaxed);
    }

    /// A task's write took so long.
    pub(super) fn took(&self, time: Duration) {
        self.haste.took(time);
    }
}

/// Whether a task may write now.
pub(super) enum Taken<'a> {
    /// It may.
    Pen(MutexGuard<'a, Option<Engine>>),
    /// Another does, and looks for more when it has put the pen down.
    ByAnother,
    /// It may not.
    Not,
}

/// Whether the disk is quick.
#[derive(Debug)]
struct Haste {
    since: Instant,
    syncing: AtomicBool,
    /// No task writes before this, in ms after `since`.
    not_before_ms: AtomicU64,
    /// The next rest, in ms.
    rest_ms: AtomicU64,
}

impl Haste {
    fn new(tasks: bool) -> Self {
        Self {
            since: Instant::now(),
            syncing: AtomicBool::new(false),
            not_before_ms: AtomicU64::new(if tasks { 0 } else { u64::MAX }),
            rest_ms: AtomicU64::new(ms(REST)),
        }
    }

    fn may(&self) -> bool {
        !self.syncing.load(Relaxed)
            && match self.not_before_ms.load(Relaxed) {
                0 => true,
                not_before => not_before <= ms(self.since.elapsed()),
            }
    }

    fn took(&self, time: Duration) {
        if time <= SLOW {
            return;
        }
        let now = ms(self.since.elapsed());
        let soon = now < self.not_before_ms.load(Relaxed) + ms(LONGEST_REST);
        let rest = if soon { self.rest_ms.load(Relaxed) } else { ms(REST) };
        self.rest_ms.store((rest * 2).min(ms(LONGEST_REST)), Relaxed);
        self.not_before_ms.store(now + rest, Relaxed);
        tracing::debug!(?time, "a slow write: the writer's thread writes alone for a while");
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_slow_write_tasks_rest_longer_each_time() {
        let haste = Haste::new(true);
        haste.took(SLOW);
        assert!(haste.may());
        for rest in [REST, 2 * REST, 4 * REST] {
            haste.took(SLOW * 2);
            assert!(!haste.may());
            tokio::time::advance(rest - Duration::from_millis(1)).await;
            assert!(!haste.may());
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(haste.may());
        }
        for _ in 0..20 {
            haste.took(SLOW * 2);
        }
        tokio::time::advance(LONGEST_REST).await;
        assert!(haste.may());
        tokio::time::advance(LONGEST_REST).await;
        haste.took(SLOW * 2);
        tokio::time::advance(REST).await;
        assert!(haste.may(), "it was long ago");
    }

    #[test]
    fn no_task_writes_during_a_sync_or_where_none_may() {
        let pen = Pen::new(true);
        assert!(matches!(pen.take_now(), Taken::Pen(_)));
        pen.syncs(true);
        assert!(matches!(pen.take_now(), Taken::Not));
        pen.syncs(false);
        let held = pen.take();
        assert!(matches!(pen.take_now(), Taken::ByAnother));
        drop(held);
        assert!(matches!(Pen::new(false).take_now(), Taken::Not));
    }
}
