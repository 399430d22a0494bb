//! Users' limits as time passes.
//!
//! Owns: when what a user has used up ends what it has open, and when the
//! bytes of the day are kept.
//! Must not know: what a limit is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::Inner;
use super::state::log_damage;
use crate::admit::limits::tabs::Tabs;
use crate::core::time::Timestamp;
use crate::store::days::{DayBytes, Days};

/// How often is looked, and so how much of a day SIGKILL takes.
const TICK: Duration = Duration::from_secs(1);

/// Of all time, the disk gets at most one part of so many.
const DISK_SHARE: u32 = 20;

/// Keeps the bytes of the day in the state folder, while that is ours.
pub(super) struct DayKeeper {
    /// `None`: in memory alone.
    days: Option<Mutex<Days>>,
    /// The folder is another process's.
    away: AtomicBool,
    /// The disk did not take it.
    refused: AtomicBool,
}

impl DayKeeper {
    /// Tells the users' tabs what was kept of the day.
    pub(super) fn open(folder: Option<&Path>, tabs: &Tabs, now: Timestamp) -> Self {
        let days = folder.map(|folder| {
            let (days, damage) = Days::open(folder);
            if let Some(damage) = &damage {
                log_damage(damage);
            }
            tabs.add(days.kept(), now);
            Mutex::new(days)
        });
        Self { days, away: AtomicBool::new(false), refused: AtomicBool::new(false) }
    }

    /// `last`: and then no more.
    fn keep(&self, moved: DayBytes, last: bool) {
        let Some(days) = &self.days else { return };
        let mut days = days.lock().unwrap_or_else(PoisonError::into_inner);
        if self.away.load(Relaxed) {
            return;
        }
        let kept = days.keep(moved);
        if self.refused.swap(kept.is_err(), Relaxed) != kept.is_err() {
            match kept {
                Err(error) => tracing::error!(%error, "the bytes that users move cannot be kept"),
                Ok(()) => tracing::info!("the bytes that users move are kept again"),
            }
        }
        self.away.store(last, Relaxed);
    }
}

impl Inner {
    /// Looks at every user's limits, and keeps the bytes of the day; never
    /// ends.
    pub(super) async fn mind_limits(self: Arc<Self>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.shared.users.tick();
            let start = Instant::now();
            self.keep_day().await;
            sleep(start.elapsed() * DISK_SHARE).await;
        }
    }

    /// Keeps the bytes of the day.
    pub(super) async fn keep_day(&self) {
        self.keep(false).await;
    }

    /// Keeps the bytes of the day one last time: the folder goes to another
    /// process, which reckons from there.
    pub(super) async fn let_day_go(&self) {
        self.keep(true).await;
    }

    /// The folder is ours again.
    pub(super) fn take_day_back(&self) {
        self.day.away.store(false, Relaxed);
    }

    async fn keep(&self, last: bool) {
        let (day, moved) = (self.day.clone(), self.shared.users.moved());
        // Without a runtime there is nobody left to tell.
        let _ = tokio::task::spawn_blocking(move || day.keep(moved, last)).await;
    }
}
