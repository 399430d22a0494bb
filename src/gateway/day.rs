//! Users' limits as time passes.
//!
//! Owns: when what a user has used up ends what it has open, and when the
//! bytes of the day are kept, or told other gateways.
//! Must not know: what a limit is.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::Inner;
use super::state::log_damage;
use crate::admit::limits::tabs::Tabs;
use crate::core::session::UserName;
use crate::core::time::Timestamp;
use crate::store::Moved;
use crate::store::days::{DayBytes, Days};

/// How often is looked, and so how much of a day SIGKILL takes.
const TICK: Duration = Duration::from_secs(1);

/// Of all time, the disk gets at most one part of so many.
const DISK_SHARE: u32 = 20;

/// Of so many users the bytes are told other gateways each time, and theirs
/// learned; of more, each comes round later.
const MOST_SHARED: usize = 4096;
/// So many by one question.
const AT_ONCE: usize = 256;

/// Keeps the bytes of the day in the state folder, while that is ours.
pub(super) struct DayKeeper {
    /// `None`: in memory alone.
    days: Option<Mutex<Days>>,
    /// The folder is another process's.
    away: AtomicBool,
    /// The disk did not take it.
    refused: AtomicBool,
    agreed: tokio::sync::Mutex<Agreed>,
}

/// What all gateways have moved on a day, as last heard.
#[derive(Default)]
struct Agreed {
    day: u64,
    bytes: HashMap<UserName, u64>,
    /// Behind whom to go on.
    next: Option<UserName>,
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
        Self {
            days,
            away: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            agreed: Default::default(),
        }
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

impl Agreed {
    /// Goes on to the users whose turn it is.
    fn turn(&mut self, mut now: DayBytes) -> Vec<Moved> {
        if self.day != now.day {
            *self = Self { day: now.day, ..Self::default() };
        }
        now.users.sort();
        let next = self.next.take();
        let from = next.map_or(0, |next| now.users.partition_point(|(user, _)| *user <= next));
        let to = now.users.len().min(from + MOST_SHARED);
        self.next = now.users.get(to).and_then(|_| now.users.get(to - 1)).map(|(user, _)| user.clone());
        let moved = |(user, known): &(UserName, u64)| {
            let told = self.bytes.get(user).copied().unwrap_or(0);
            Moved { user: user.clone(), more: known.saturating_sub(told), known: *known }
        };
        now.users[from..to].iter().map(moved).collect()
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
            self.share_day().await;
            let start = Instant::now();
            self.keep_day().await;
            sleep(start.elapsed() * DISK_SHARE).await;
        }
    }

    /// Tells other gateways on a shared store what users have moved here, and
    /// counts what they have moved there.
    pub(super) async fn share_day(&self) {
        if !self.shared.store.is_shared() {
            return;
        }
        let mut agreed = self.day.agreed.lock().await;
        for moved in agreed.turn(self.shared.users.day()).chunks(AT_ONCE) {
            let day = agreed.day;
            // Out of reach: it is told later.
            let Some(totals) = self.shared.store.add_bytes(day, moved).await else { return };
            for (moved, total) in moved.iter().zip(totals) {
                let elsewhere = total.saturating_sub(moved.known);
                self.shared.users.add(&DayBytes { day, users: vec![(moved.user.clone(), elsewhere)] });
                agreed.bytes.insert(moved.user.clone(), total);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: u64, users: &[(&str, u64)]) -> DayBytes {
        DayBytes { day, users: users.iter().map(|(user, bytes)| ((*user).into(), *bytes)).collect() }
    }

    #[test]
    fn what_was_moved_since_is_told() {
        let mut agreed = Agreed::default();
        let told = |moved: Vec<Moved>| -> Vec<(String, u64, u64)> {
            moved.into_iter().map(|one| (one.user.to_string(), one.more, one.known)).collect()
        };
        assert_eq!(
            told(agreed.turn(day(9, &[("b", 5), ("a", 0)]))),
            [("a".into(), 0, 0), ("b".into(), 5, 5)]
        );
        agreed.bytes.insert("b".into(), 20);
        assert_eq!(told(agreed.turn(day(9, &[("b", 27)]))), [("b".into(), 7, 27)]);
        assert_eq!(told(agreed.turn(day(10, &[("b", 3)]))), [("b".into(), 3, 3)], "another day");
    }

    #[test]
    fn of_many_users_each_comes_round() {
        let users: Vec<_> = (0..MOST_SHARED + 10).map(|n| (format!("u{n:05}").as_str().into(), 1)).collect();
        let now = || DayBytes { day: 1, users: users.clone() };
        let mut agreed = Agreed::default();
        assert_eq!(agreed.turn(now()).len(), MOST_SHARED);
        let rest = agreed.turn(now());
        assert_eq!((rest.len(), rest[0].user.to_string()), (10, format!("u{MOST_SHARED:05}")));
        assert_eq!(agreed.turn(now()).len(), MOST_SHARED);
    }
}
