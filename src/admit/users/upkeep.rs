//! Users as time passes, and what they use.
//!
//! Owns: what is forgotten and ended in time, the bytes of the day, the list of
//! what is in use.
//! Must not know: how a caller is proven.

use super::{Used, Users};
use crate::store::days::DayBytes;

impl Users {
    /// Forgets what no longer counts; to be called every minute or so.
    pub(crate) fn sweep(&self) {
        self.throttle.sweep();
        self.verifier.sweep();
        self.tabs.sweep(self.clock.now());
        if let Some(tokens) = &self.accounts.load().tokens {
            tokens.sweep(self.clock.wall());
        }
    }

    /// Ends what is to be ended by now; to be called every second or so.
    pub(crate) fn tick(&self) {
        self.tabs.tick(self.clock.now());
    }

    /// Users have moved this as well, as another process or gateway has counted.
    pub(crate) fn add(&self, moved: &DayBytes) {
        self.tabs.add(moved, self.clock.now());
    }

    /// What users have moved today, to be kept.
    pub(crate) fn moved(&self) -> DayBytes {
        self.tabs.moved(self.clock.now())
    }

    /// What every user has moved today.
    pub(crate) fn day(&self) -> DayBytes {
        self.tabs.day(self.clock.now())
    }

    /// Every user, by name: those that are configured, and others that use
    /// something.
    pub(crate) fn usage(&self) -> Vec<Used> {
        let accounts = self.accounts.load();
        let used = |(name, in_use)| {
            let account = accounts.by_name.get(&name).map(|user| user.account.clone());
            Used { name, account, in_use }
        };
        let mut all: Vec<_> = self.tabs.in_use(self.clock.now()).into_iter().map(used).collect();
        all.retain(|used| used.account.is_some() || used.in_use.is_any());
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
