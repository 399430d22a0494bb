//! Users' limits as time passes.
//!
//! Owns: when what a user has used up ends what it has open, and when the
//! bytes of the day are kept, or told: in the state folder or, once that is
//! another process's, by telling that process; and to other gateways.
//! Must not know: what a limit is.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::Inner;
use super::state::log_damage;
use crate::admit::limits::tabs::Tabs;
use crate::core::session::UserName;
use crate::core::time::Timestamp;
use crate::net::channel::Channel;
use crate::net::handover::ToNew;
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
/// So many users are told of in one message.
const TOLD: usize = 1000;

/// Keeps the bytes of the day in the state folder, while that is ours.
pub(super) struct DayKeeper {
    /// `None`: in memory alone.
    days: Option<Mutex<Days>>,
    /// What another process reckons from, since the folder is its own.
    gone: Mutex<Option<DayBytes>>,
    /// That process, once it serves.
    heir: OnceLock<Arc<Channel>>,
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
            gone: Mutex::default(),
            heir: OnceLock::new(),
            refused: AtomicBool::new(false),
            agreed: Default::default(),
        }
    }

    /// The process that has the folder serves: from now on it is told.
    pub(super) fn tell_from_now_on(&self, heir: Arc<Channel>) {
        let _once = self.heir.set(heir);
    }

    /// `last`: and then no more. What is to be told instead, where the folder
    /// is another process's.
    fn keep(&self, moved: DayBytes, last: bool) -> Option<DayBytes> {
        let mut gone = locked(&self.gone);
        if let Some(told) = &mut *gone {
            // Before it serves it may still turn out that it never will.
            self.heir.get()?;
            return Some(since(std::mem::replace(told, moved.clone()), moved));
        }
        *gone = last.then(|| moved.clone());
        let kept = self.days.as_ref().map_or(Ok(()), |days| locked(days).keep(moved));
        if self.refused.swap(kept.is_err(), Relaxed) != kept.is_err() {
            match kept {
                Err(error) => tracing::error!(%error, "the bytes that users move cannot be kept"),
                Ok(()) => tracing::info!("the bytes that users move are kept again"),
            }
        }
        None
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

/// What was moved between two countings.
fn since(before: DayBytes, now: DayBytes) -> DayBytes {
    // A day that has begun meanwhile begins with nothing.
    let of_today = if before.day == now.day { before.users } else { Vec::new() };
    let before: HashMap<UserName, u64> = of_today.into_iter().collect();
    let more = |(user, bytes): (UserName, u64)| {
        let more = bytes.saturating_sub(before.get(&user).copied().unwrap_or(0));
        (more > 0).then_some((user, more))
    };
    DayBytes { day: now.day, users: now.users.into_iter().filter_map(more).collect() }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Keeps the bytes of the day, or tells them to the process that does.
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
        *locked(&self.day.gone) = None;
    }

    async fn keep(&self, last: bool) {
        let (day, moved) = (self.day.clone(), self.shared.users.moved());
        // Without a runtime there is nobody left to tell.
        let kept = tokio::task::spawn_blocking(move || day.keep(moved, last)).await;
        let (Ok(Some(untold)), Some(heir)) = (kept, self.day.heir.get()) else { return };
        if self.shared.store.is_shared() {
            return; // it is told by way of the store
        }
        for users in untold.users.chunks(TOLD) {
            let message = ToNew::Moved { day: untold.day, users: users.to_vec() };
            // If it is gone, or stuck, there is nobody who counts on.
            let _ = timeout(TICK, heir.send(&message, b"", &[])).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: u64, users: &[(&str, u64)]) -> DayBytes {
        DayBytes { day, users: users.iter().map(|(user, bytes)| ((*user).into(), *bytes)).collect() }
    }

    #[test]
    fn each_byte_is_told_once() {
        let check = |before: DayBytes, now: DayBytes, expected: DayBytes| {
            assert_eq!(since(before, now), expected);
        };
        check(day(9, &[("a", 5)]), day(9, &[("a", 7), ("b", 1)]), day(9, &[("a", 2), ("b", 1)]));
        check(day(9, &[("a", 5), ("b", 1)]), day(9, &[("a", 5)]), day(9, &[]));
        check(day(9, &[("a", 5)]), day(10, &[("a", 3)]), day(10, &[("a", 3)]));
    }

    #[test]
    fn nothing_is_told_before_somebody_hears_it() {
        let keeper = DayKeeper::open(None, &Tabs::default(), Timestamp::from_ms(0));
        assert_eq!(keeper.keep(day(9, &[("a", 5)]), true), None);
        assert_eq!(keeper.keep(day(9, &[("a", 6)]), false), None);
        assert_eq!(*locked(&keeper.gone), Some(day(9, &[("a", 5)])), "what the other begins with");
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
