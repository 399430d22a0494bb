//! Every user's tab.
//!
//! Owns: [`Tabs`], by the user's name, so that it outlives reloads; what the
//! store tells of pins.
//! Must not know: secrets, requests.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::day::Day;
use super::tab::{InUse, Tab};
use crate::core::limits::UserLimits;
use crate::core::pin::Pin;
use crate::core::session::UserName;
use crate::core::time::Timestamp;
use crate::store::days::DayBytes;

/// The tabs of all users that there are, or that still use something.
#[derive(Default)]
pub(crate) struct Tabs(RwLock<HashMap<UserName, Arc<Tab>>>);

impl Tabs {
    /// The tab of a user; of one never heard of, an empty one.
    pub(crate) fn of(&self, user: &UserName) -> Arc<Tab> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(user) {
            return known.clone();
        }
        let mut tabs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tabs.entry(user.clone()).or_default().clone()
    }

    /// These are the configured users now, with their limits. Connections of
    /// others end; but where tokens of any user are let in, users that never
    /// were configured stay.
    pub(crate) fn configure<'l>(
        &self,
        users: impl Iterator<Item = (&'l UserName, UserLimits)>,
        any_user: bool,
    ) {
        let mut others: HashMap<_, _> = self.all().into_iter().collect();
        for (user, limits) in users {
            others.remove(user);
            self.of(user).configure(limits);
        }
        others.values().for_each(|tab| tab.not_configured(any_user));
    }

    /// A pin lives: from before a restart, or again.
    pub(crate) fn loaded(&self, pin: &Pin) {
        self.of(&pin.user).seats.loaded(pin);
    }

    /// A pin has ended, or never came to be. (One that moves is still its
    /// user's.)
    pub(crate) fn ended(&self, pin: &Pin) {
        self.of(&pin.user).seats.ended(pin);
    }

    /// A pin lives longer.
    pub(crate) fn extended(&self, before: &Pin, now: &Pin) {
        self.of(&now.user).seats.extended(before, now);
    }

    /// Bytes of a day that this process has not counted itself: from before
    /// its start, of other gateways, or moved by the process that it has
    /// replaced.
    pub(crate) fn add(&self, moved: &DayBytes, now: Timestamp) {
        for (user, bytes) in &moved.users {
            self.of(user).add(Day(moved.day), *bytes, now);
        }
    }

    /// What was moved on the day of `now`, to be kept.
    pub(crate) fn moved(&self, now: Timestamp) -> DayBytes {
        let moved = self.in_use(now).into_iter().filter(|(_, used)| used.bytes_today > 0);
        DayBytes { day: Day::of(now).0, users: moved.map(|(user, used)| (user, used.bytes_today)).collect() }
    }

    /// The same of every user, also of those that have moved nothing.
    pub(crate) fn day(&self, now: Timestamp) -> DayBytes {
        let users = self.in_use(now).into_iter().map(|(user, used)| (user, used.bytes_today));
        DayBytes { day: Day::of(now).0, users: users.collect() }
    }

    /// What each user uses.
    pub(crate) fn in_use(&self, now: Timestamp) -> Vec<(UserName, InUse)> {
        self.all().into_iter().map(|(user, tab)| (user, tab.in_use(now))).collect()
    }

    /// Ends what is to be ended by now; to be called every second or so.
    pub(crate) fn tick(&self, now: Timestamp) {
        self.all().iter().for_each(|(_, tab)| tab.tick(now));
    }

    /// Forgets those who use nothing and are not configured; to be called
    /// every minute or so.
    pub(crate) fn sweep(&self, now: Timestamp) {
        let mut tabs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tabs.retain(|_, tab| Arc::strong_count(tab) > 1 || tab.in_use(now).is_any());
    }

    fn all(&self) -> Vec<(UserName, Arc<Tab>)> {
        let tabs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tabs.iter().map(|(user, tab)| (user.clone(), tab.clone())).collect()
    }
}
