//! What is under way through an exit.
//!
//! Owns: [`Attempt`] (a dial) and [`ConnectionGuard`], and what their ends
//! change in the exit.
//! Must not know: what is dialled, what goes through a connection.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use super::{ExitState, LastFailure, OPEN, locked};
use crate::core::fault::{Blame, Fault};
use crate::core::health::{Change, Outcome, Pass};
use crate::core::pin::Variant;
use crate::core::target::Target;
use crate::core::time::Timestamp;
use crate::observe::instruments::Flow;

impl ExitState {
    /// Begins a dial. `None`: it is ejected, or on trial by another request.
    pub fn attempt(self: &Arc<Self>, variant: &Variant, now: Timestamp) -> Option<Attempt> {
        let pass = if self.closed_until.load(Acquire) == OPEN {
            Pass::Free
        } else {
            let mut checked = locked(&self.health);
            let pass = checked.health.enter(now)?;
            self.publish(&checked);
            pass
        };
        let token = match variant {
            Variant::Token(token) => Some(token.clone()),
            _ => None,
        };
        Some(Attempt { live: self.clone(), pass: Some(pass), token, probe: false })
    }

    /// One connection more. `None`: it carries as many as it may.
    pub fn connect(self: &Arc<Self>) -> Option<ConnectionGuard> {
        let max = self.max_connections.load(Relaxed);
        let fits = |carried: u32| (max == 0 || carried < max).then(|| carried.saturating_add(1));
        self.connections.fetch_update(Relaxed, Relaxed, fits).ok()?;
        Some(ConnectionGuard { live: self.clone() })
    }
}

/// A dial through an exit that is to be told the outcome of. Dropped without
/// one it counts for nothing, and a trial is free for another request.
#[must_use]
pub struct Attempt {
    pub(in crate::state) live: Arc<ExitState>,
    /// Gone once the outcome was told.
    pass: Option<Pass>,
    token: Option<Arc<str>>,
    /// Nobody's request: it is counted by itself.
    probe: bool,
}

/// Where an outcome leaves the exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// Until when the exit is ejected, by this outcome or another's.
    pub ejected_until: Option<Timestamp>,
    /// What this outcome changed: to be logged and counted, once.
    pub change: Option<Change>,
    /// The token is lost: its pin is to get a new one.
    pub token_lost: bool,
}

impl Attempt {
    /// It is a probe's.
    pub(in crate::state) fn of_probe(mut self) -> Self {
        self.probe = true;
        self
    }

    /// The exit was connected: how long that took.
    pub fn took(&self, time: Duration) {
        self.live.tally.took(time);
    }

    /// The target was reached: ends every count.
    pub fn succeeded(mut self, now: Timestamp) -> After {
        let tally = &self.live.tally;
        let worked = if self.probe { &tally.probes_worked } else { &tally.worked };
        worked.fetch_add(1, Relaxed);
        if self.pass == Some(Pass::Free) && self.live.spotless.load(Acquire) {
            self.pass = None;
            return After::default();
        }
        if let Some(token) = &self.token {
            locked(&self.live.health).tokens.worked(token);
        }
        self.report(Outcome::Succeeded, now)
    }

    /// The dial failed, by whose doing the caller knows. `target` is what was
    /// dialled.
    pub fn failed(mut self, blame: Blame, fault: &Fault, target: &Target, now: Timestamp) -> After {
        if blame == Blame::Full {
            // It tells nothing of how the exit is: as if it had not been tried.
            let ejected_until = locked(&self.live.health).health.ejected_until();
            return After { ejected_until, ..After::default() };
        }
        if blame == Blame::Target {
            self.live.tally.target_failed.fetch_add(1, Relaxed);
        } else {
            let tally = &self.live.tally;
            let failed = if self.probe { &tally.probes_failed } else { &tally.failed };
            failed.fetch_add(1, Relaxed);
            let last = LastFailure { code: fault.code(), detail: fault.detail().into(), at: now };
            locked(&self.live.health).last_failure = Some(last);
        }
        match blame {
            Blame::Target | Blame::Full => self.report(Outcome::TargetFailed, now),
            Blame::Exit => self.report(Outcome::ExitFailed, now),
            Blame::Silence => {
                let mut hash = DefaultHasher::new();
                target.hash(&mut hash);
                self.report(Outcome::Silent(hash.finish()), now)
            }
            Blame::Token => self.token_failed(now),
        }
    }

    /// A vendor's gateway answered, so the exit is well; it refused this
    /// session of its own.
    fn token_failed(&mut self, now: Timestamp) -> After {
        let token_lost = self.token.as_ref().is_some_and(|token| {
            let checked = &mut *locked(&self.live.health);
            checked.tokens.failed(token, &checked.policy)
        });
        After { token_lost, ..self.report(Outcome::TargetFailed, now) }
    }

    fn report(&mut self, outcome: Outcome, now: Timestamp) -> After {
        let mut checked = locked(&self.live.health);
        let policy = checked.policy;
        let change = self.pass.take().and_then(|pass| checked.health.report(pass, outcome, &policy, now));
        match change {
            Some(Change::Returned) => self.live.since.store(now.as_ms(), Relaxed),
            Some(Change::Ejected) => drop(self.live.tally.ejections.fetch_add(1, Relaxed)),
            None => {}
        }
        self.live.publish(&checked);
        After { ejected_until: checked.health.ejected_until(), change, token_lost: false }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(pass @ Pass::Trial(_)) = self.pass.take() {
            let mut checked = locked(&self.live.health);
            checked.health.give_back(&pass);
            self.live.publish(&checked);
        }
    }
}

/// A connection that an exit carries.
#[must_use]
pub struct ConnectionGuard {
    live: Arc<ExitState>,
}

impl ConnectionGuard {
    /// Where the exit's bytes are counted.
    pub(crate) fn flow(&self) -> Arc<Flow> {
        self.live.tally.flow.clone()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.live.connections.fetch_sub(1, Relaxed);
        if self.live.max_connections.load(Relaxed) > 0 {
            self.live.opened();
        }
    }
}
