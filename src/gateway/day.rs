//! Users' limits as time passes.
//!
//! Owns: when what a user has used up ends what it has open, and when the
//! bytes of the day are kept.
//! Must not know: what a limit is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Inner, folder, log_damage};
use crate::admit::limits::tabs::Tabs;
use crate::config::Config;
use crate::core::time::Timestamp;
use crate::store::days::Days;

/// How often is looked, and so how much of a day SIGKILL takes.
const TICK: Duration = Duration::from_secs(1);

/// Of all time, the disk gets at most one part of so many.
const DISK_SHARE: u32 = 20;

/// What was kept of the day, told to the users' tabs, and where to keep it.
pub(super) fn open(config: &Config, tabs: &Tabs, now: Timestamp) -> Option<Mutex<Days>> {
    let (days, damage) = Days::open(folder(config)?);
    if let Some(damage) = &damage {
        log_damage(damage);
    }
    tabs.add(days.kept(), now);
    Some(Mutex::new(days))
}

impl Inner {
    /// Looks at every user's limits, and keeps the bytes of the day; never
    /// ends.
    pub(super) async fn keep_days(self: Arc<Self>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = false;
        loop {
            tick.tick().await;
            self.shared.users.tick();
            let start = Instant::now();
            let kept = self.keep_day().await;
            if refused != kept.is_err() {
                refused = kept.is_err();
                match kept {
                    Err(error) => tracing::error!(%error, "the bytes that users move cannot be kept"),
                    Ok(()) => tracing::info!("the bytes that users move are kept again"),
                }
            }
            sleep(start.elapsed() * DISK_SHARE).await;
        }
    }

    /// Keeps the bytes of the day.
    pub(super) async fn keep_day(&self) -> std::io::Result<()> {
        let Some(days) = self.days.clone() else { return Ok(()) };
        let moved = self.shared.users.moved();
        let keep = move || days.lock().unwrap_or_else(PoisonError::into_inner).keep(moved);
        tokio::task::spawn_blocking(keep).await.unwrap_or(Ok(()))
    }
}
