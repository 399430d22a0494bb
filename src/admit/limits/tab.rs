//! What a user uses.
//!
//! Owns: [`Tab`]: a user's requests, connections, sessions and bytes, counted
//! from one reload to the next, and [`Admission`], the guard of one request.
//! Must not know: who the user is, what a request asks for.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::day::{Day, Today};
use super::ending::{Cut, Ending};
use super::purse::Purse;
use super::seats::{Full, Seats};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::limits::UserLimits;
use crate::core::time::Timestamp;
use crate::state::{Allowance, Usage};

/// The most sets of limits that a user's tokens may bring at a time; beyond,
/// the one that is used by least is begun anew.
const MOST_PURSES: usize = 64;

/// Above its limit of connections a user waits so long for one to end.
const GRACE: Duration = Duration::from_millis(20);

/// What one user uses, and its limits.
pub(crate) struct Tab {
    /// Its sessions.
    pub(crate) seats: Arc<Seats>,
    connections: AtomicU32,
    usage: Arc<Usage>,
    today: Mutex<Today>,
    own: Arc<Purse>,
    granted: Mutex<Vec<Arc<Purse>>>,
    /// One of the three below.
    standing: AtomicU8,
}

/// Nobody knows the user but its token, or its pins of a time when it was
/// configured.
const GUEST: u8 = 0;
/// The user is configured.
const CONFIGURED: u8 = 1;
/// There is no such user any more.
const REMOVED: u8 = 2;

/// A request that was let in: it counts until this is dropped.
#[must_use]
pub(crate) struct Admission {
    tab: Arc<Tab>,
    granted: Option<Arc<Purse>>,
    ending: Arc<Ending>,
    /// Live sessions at most.
    pub(crate) sessions: Option<NonZeroU32>,
}

/// What a user uses at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InUse {
    /// Its limits, without those of tokens.
    pub(crate) limits: UserLimits,
    /// Tunnels and plain requests under way.
    pub(crate) connections: u32,
    /// Live pins, and claims under way.
    pub(crate) sessions: u32,
    /// Bytes of the UTC day, both directions.
    pub(crate) bytes_today: u64,
    /// Bytes from its clients since the start.
    pub(crate) up: u64,
    /// Bytes to its clients since the start.
    pub(crate) down: u64,
}

impl InUse {
    /// Whether it uses anything, or did today.
    pub(crate) fn is_any(&self) -> bool {
        self.connections > 0 || self.sessions > 0 || self.bytes_today > 0
    }
}

impl fmt::Debug for Tab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tab").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl Default for Tab {
    fn default() -> Self {
        Self {
            seats: Arc::default(),
            connections: AtomicU32::new(0),
            usage: Arc::default(),
            today: Mutex::default(),
            own: Arc::new(Purse::new(UserLimits::default())),
            granted: Mutex::default(),
            standing: AtomicU8::new(GUEST),
        }
    }
}

impl Tab {
    /// The user is there, with these limits; what it has used stays used.
    pub(super) fn configure(&self, limits: UserLimits) {
        self.standing.store(CONFIGURED, Relaxed);
        self.own.set(limits);
        self.today().limit(&self.usage, limits.bytes_per_day);
    }

    /// The user is not configured, or no more. What it has open ends, unless
    /// it is a guest of any name and such are let in.
    pub(super) fn not_configured(&self, any_user: bool) {
        let before = self.standing.swap(if any_user { GUEST } else { REMOVED }, Relaxed);
        if before == CONFIGURED {
            self.own.set(UserLimits::default());
            self.today().limit(&self.usage, None);
        }
        if before == CONFIGURED || !any_user {
            self.cut(Cut::UserRemoved);
        }
    }

    /// Lets a request in, under the user's limits and those that its token
    /// brings.
    ///
    /// # Errors
    /// `rate_limited`, `quota_exceeded`, `too_many_connections`.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        granted: Option<&UserLimits>,
        now: Timestamp,
    ) -> Result<Admission, Fault> {
        let granted = granted.filter(|limits| !limits.are_none()).map(|limits| self.purse(limits));
        let mut limits = self.own.limits();
        self.own.pace.take().map_err(too_fast)?;
        if let Some(purse) = &granted {
            purse.pace.take().map_err(too_fast)?;
            limits = limits.narrower(purse.limits());
        }
        if self.is_used_up(limits.bytes_per_day, now) {
            return Err(used_up(now));
        }
        let most = limits.connections.map_or(u32::MAX, NonZeroU32::get);
        if !self.connect(most) {
            // One may be at its end: its client has all of the answer already.
            sleep(GRACE).await;
            if !self.connect(most) {
                let detail =
                    format!("the user has {most} tunnels and requests open, its most: end some first");
                return Err(Fault::new(Code::TooManyConnections, detail));
            }
        }
        let ending = granted.as_ref().unwrap_or(&self.own).ending();
        Ok(Admission { tab: self.clone(), granted, ending, sessions: limits.sessions })
    }

    /// Counts one more of at most so many; whether it may.
    fn connect(&self, most: u32) -> bool {
        let one_more = |open: u32| (open < most).then_some(open + 1);
        self.connections.fetch_update(AcqRel, Acquire, one_more).is_ok()
    }

    /// The purse of limits that a token brings: one for all that bring these.
    fn purse(&self, limits: &UserLimits) -> Arc<Purse> {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = granted.iter().find(|purse| purse.limits() == *limits) {
            return known.clone();
        }
        if granted.len() >= MOST_PURSES {
            let least = granted.iter().enumerate().min_by_key(|(_, purse)| Arc::strong_count(purse));
            let place = least.map_or(0, |(place, _)| place);
            granted.remove(place);
        }
        let purse = Arc::new(Purse::new(*limits));
        granted.push(purse.clone());
        purse
    }

    fn is_used_up(&self, most: Option<NonZeroU64>, now: Timestamp) -> bool {
        let mut today = self.today();
        today.turn(&self.usage, now);
        most.is_some_and(|most| today.bytes(&self.usage) >= most.get())
    }

    /// Ends what is to be ended by now; to be called every second or so.
    pub(super) fn tick(&self, now: Timestamp) {
        if self.standing.load(Relaxed) == REMOVED {
            // Whoever was let in by the users of a moment ago.
            self.cut(Cut::UserRemoved);
        }
        if self.is_used_up(self.own.limits().bytes_per_day, now) {
            return self.cut(Cut::Quota);
        }
        for purse in self.purses() {
            if self.is_used_up(purse.limits().bytes_per_day, now) {
                purse.cut(Cut::Quota);
            }
        }
    }

    fn cut(&self, why: Cut) {
        self.own.cut(why);
        self.purses().iter().for_each(|purse| purse.cut(why));
    }

    fn purses(&self) -> Vec<Arc<Purse>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// So many bytes of a day were moved as others know: before this start.
    pub(super) fn add(&self, day: Day, bytes: u64, now: Timestamp) {
        let mut today = self.today();
        today.turn(&self.usage, now);
        today.add(&self.usage, day, bytes);
    }

    /// What it uses now.
    pub(super) fn in_use(&self, now: Timestamp) -> InUse {
        let mut today = self.today();
        today.turn(&self.usage, now);
        InUse {
            limits: self.own.limits(),
            connections: self.connections.load(Relaxed),
            sessions: self.seats.taken(),
            bytes_today: today.bytes(&self.usage),
            up: self.usage.up(),
            down: self.usage.down(),
        }
    }

    fn today(&self) -> MutexGuard<'_, Today> {
        self.today.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Whose it is.
    pub(crate) fn tab(&self) -> &Arc<Tab> {
        &self.tab
    }

    /// Lets another request in on what was let in already: one more by rate,
    /// not by connections.
    ///
    /// # Errors
    /// `rate_limited`, `quota_exceeded`.
    pub(crate) fn again(&self, now: Timestamp) -> Result<(), Fault> {
        let own = &self.tab.own;
        let purses = std::iter::once(own).chain(&self.granted);
        for purse in purses {
            purse.pace.take().map_err(too_fast)?;
            if self.tab.is_used_up(purse.limits().bytes_per_day, now) {
                return Err(used_up(now));
            }
        }
        Ok(())
    }

    /// What the user uses now, and its limits with those of its token.
    pub(crate) fn in_use(&self, now: Timestamp) -> InUse {
        let mut in_use = self.tab.in_use(now);
        if let Some(purse) = &self.granted {
            in_use.limits = in_use.limits.narrower(purse.limits());
        }
        in_use
    }

    /// What its connection is bound by and counts towards.
    pub(crate) fn allowance(&self) -> Allowance {
        let granted = self.granted.as_ref();
        let (own, usage) = (&self.tab.own, Some(self.tab.usage.clone()));
        Allowance {
            usage,
            up: [Some(own.up.clone()), granted.map(|purse| purse.up.clone())],
            down: [Some(own.down.clone()), granted.map(|purse| purse.down.clone())],
        }
    }

    /// Does the work unless it is to end before; then it is dropped where it
    /// stands.
    pub(crate) fn unless_cut<F: Future>(
        &self,
        work: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<F::Output, Cut>> {
        self.ending.or(work)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.tab.connections.fetch_sub(1, AcqRel);
    }
}

fn too_fast(wait: Duration) -> Fault {
    let detail = "more requests than the user may make in this time: slow down";
    Fault::new(Code::RateLimited, detail).retry_after(wait)
}

/// The user has moved as much as it may today.
pub(crate) fn used_up(now: Timestamp) -> Fault {
    let detail = "the user has moved as many bytes as it may in a day (UTC): come back tomorrow";
    Fault::new(Code::QuotaExceeded, detail).retry_after(Day::left(now))
}

/// The user has as many sessions as it may.
pub(crate) fn too_many_sessions(full: Full) -> Fault {
    let detail = "the user has as many sessions as it may: end one, or wait for one to end";
    Fault::new(Code::TooManySessions, detail).retry_after(full.wait)
}

#[cfg(test)]
mod tests;
