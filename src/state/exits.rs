//! What is known of each exit while the gateway runs.
//!
//! Owns: [`ExitState`] (pins, connections, health, addresses given out) and
//! its guards: [`Attempt`], [`ConnectionGuard`], and `room`'s
//! [`Room`](super::room::Room). Each gives back on drop what it took.
//! Must not know: pools' choices, I/O. Limits and rules are told by
//! `pools` when they come into force.
//!
//! What a choice looks at are atomics; a healthy exit costs a few loads and
//! no lock. The mutexes are held for a few steps and never two at a time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;
use tokio::sync::Notify;

use super::room::Sessions;
use super::tally::{Dials, Latency, Tally};
use crate::core::code::Code;
use crate::core::exit::{Exit, Via};
use crate::core::fault::{Blame, Fault};
use crate::core::health::{Change, Health, Outcome, Pass, TokenFailures};
use crate::core::pin::Variant;
use crate::core::pool::HealthPolicy;
use crate::core::prefix::{Addresses, InUse};
use crate::core::target::Target;
use crate::core::time::Timestamp;

/// In [`ExitState::closed_until`]: in use.
const OPEN: u64 = 0;
/// In [`ExitState::closed_until`]: a trial is under way.
const ON_TRIAL: u64 = u64::MAX;

/// The least part of its weight that an exit has from the start.
const LEAST_RAMP: f64 = 0.001;

/// The live side of one exit, the same object for as long as anything needs
/// it, whatever pools come and go.
pub struct ExitState {
    /// [`OPEN`], [`ON_TRIAL`], or the end of its ejection in ms: what
    /// `health` says, to be read without its lock.
    closed_until: AtomicU64,
    /// Whether a success would change nothing in `health`.
    spotless: AtomicBool,
    connections: AtomicU32,
    max_connections: AtomicU32,
    /// When it came or came back, in ms; 0: long ago.
    since: AtomicU64,
    health: Mutex<Checked>,
    trial_over: Notify,
    pub(super) sessions: Sessions,
    pub(super) addresses: Mutex<InUse>,
    tally: Tally,
}

/// What the last dial that failed by the exit's fault said.
#[derive(Clone, Debug)]
pub struct LastFailure {
    /// Its code.
    pub code: Code,
    /// The sentence that went with it.
    pub detail: Arc<str>,
    /// When it was.
    pub at: Timestamp,
}

#[derive(Default)]
struct Checked {
    health: Health,
    tokens: TokenFailures,
    policy: HealthPolicy,
    /// Of the exit that all this was learned about.
    digest: Option<u32>,
    /// What the last failed dial said.
    last_failure: Option<LastFailure>,
}

impl ExitState {
    /// An exit that nothing is known of.
    pub(super) fn new() -> Self {
        Self {
            closed_until: AtomicU64::new(OPEN),
            spotless: AtomicBool::new(true),
            connections: AtomicU32::new(0),
            max_connections: AtomicU32::new(0),
            since: AtomicU64::new(0),
            health: Mutex::default(),
            trial_over: Notify::new(),
            sessions: Sessions::default(),
            addresses: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// Comes into force with these settings. Another `via` is another exit as
    /// far as its health goes; so is one that may not be ejected any more.
    pub(super) fn configure(&self, exit: &Exit, policy: HealthPolicy, arrived: Option<Timestamp>) {
        self.max_connections.store(exit.max_connections, Relaxed);
        self.sessions.limit(exit.max_sessions);
        if let Some(now) = arrived {
            self.since.store(now.as_ms(), Relaxed);
        }
        let addresses = match exit.via {
            Via::Prefix(net) => Some(Addresses::of(net)),
            _ => None,
        };
        locked(&self.addresses).reshape(addresses);
        let mut checked = locked(&self.health);
        if checked.digest.is_some_and(|before| before != exit.digest) || policy.eject_after == 0 {
            checked.health.reset();
            checked.tokens = TokenFailures::default();
        }
        checked.policy = policy;
        checked.digest = Some(exit.digest);
        self.publish(&checked);
    }

    /// Whether anything but the registry and pools still counts on it.
    pub(super) fn is_needed(&self, now: Timestamp) -> bool {
        self.connections.load(Relaxed) > 0 || self.sessions.are_any(now)
    }

    /// How many connections it carries.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// How many pins it holds, promised ones among them.
    pub fn pins(&self) -> u32 {
        self.sessions.pins()
    }

    /// Until when it is ejected, where it is. A time in the past: the next
    /// request tries it. While one does: in a second.
    pub fn ejected_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.closed_until.load(Acquire) {
            OPEN => None,
            ON_TRIAL => Some(now.plus(Duration::from_secs(1))),
            until => Some(Timestamp::from_ms(until)),
        }
    }

    /// Whether [`ExitState::attempt`] would be let through.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let until = self.closed_until.load(Acquire);
        until == OPEN || until <= now.as_ms()
    }

    /// Whether one more connection fits.
    pub fn has_connection(&self) -> bool {
        let max = self.max_connections.load(Relaxed);
        max == 0 || self.connections.load(Relaxed) < max
    }

    /// How much of its weight counts yet, 0.001 to 1. An exit that waits for
    /// its trial has all of it, for else it might never be tried.
    pub fn ramp(&self, now: Timestamp, slow_start: Duration) -> f64 {
        let since = self.since.load(Relaxed);
        if since == 0 || slow_start.is_zero() || self.closed_until.load(Relaxed) != OPEN {
            return 1.0;
        }
        let age = now.since(Timestamp::from_ms(since));
        (age.as_secs_f64() / slow_start.as_secs_f64()).clamp(LEAST_RAMP, 1.0)
    }

    /// Whether a request tries it after an ejection.
    pub fn is_on_trial(&self) -> bool {
        self.closed_until.load(Acquire) == ON_TRIAL
    }

    /// Ready when none does.
    pub(super) async fn trial_over(&self) {
        let mut over = std::pin::pin!(self.trial_over.notified());
        // From here on no end of a trial is missed.
        over.as_mut().enable();
        if self.is_on_trial() {
            over.await;
        }
    }

    /// What the last failed dial said.
    pub fn last_failure(&self) -> Option<LastFailure> {
        locked(&self.health).last_failure.clone()
    }

    /// What became of its dials.
    pub fn dials(&self) -> Dials {
        self.tally.dials()
    }

    /// How long connecting has taken of late; `None`: it never did.
    pub fn latency(&self) -> Option<Latency> {
        self.tally.latency()
    }

    /// Forgets its failures: its operator says that it works.
    pub fn reset(&self) {
        let mut checked = locked(&self.health);
        checked.health.reset();
        checked.tokens = TokenFailures::default();
        checked.last_failure = None;
        self.publish(&checked);
    }

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
        Some(Attempt { live: self.clone(), pass: Some(pass), token })
    }

    /// One connection more. `None`: it carries as many as it may.
    pub fn connect(self: &Arc<Self>) -> Option<ConnectionGuard> {
        let max = self.max_connections.load(Relaxed);
        let fits = |carried: u32| (max == 0 || carried < max).then(|| carried.saturating_add(1));
        self.connections.fetch_update(Relaxed, Relaxed, fits).ok()?;
        Some(ConnectionGuard { live: self.clone() })
    }

    /// An address for a request without a session, where it has a prefix.
    pub(super) fn next_address(&self, rng: &mut impl Rng) -> Option<std::net::IpAddr> {
        locked(&self.addresses).next(rng)
    }

    /// Makes what `health` says readable without its lock.
    fn publish(&self, checked: &Checked) {
        let closed_until = match checked.health.ejected_until() {
            None => OPEN,
            Some(_) if checked.health.on_trial() => ON_TRIAL,
            // 0 and MAX mean other things, and neither is a time of ours.
            Some(until) => until.as_ms().clamp(OPEN + 1, ON_TRIAL - 1),
        };
        let before = self.closed_until.swap(closed_until, AcqRel);
        if before == ON_TRIAL && closed_until != ON_TRIAL {
            self.trial_over.notify_waiters();
        }
        self.spotless.store(checked.health.is_spotless() && checked.tokens.is_empty(), Release);
    }
}

/// A dial through an exit that is to be told the outcome of. Dropped without
/// one it counts for nothing, and a trial is free for another request.
#[must_use]
pub struct Attempt {
    live: Arc<ExitState>,
    /// Gone once the outcome was told.
    pass: Option<Pass>,
    token: Option<Arc<str>>,
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
    /// The exit was connected: how long that took.
    pub fn took(&self, time: Duration) {
        self.live.tally.took(time);
    }

    /// The target was reached: ends every count.
    pub fn succeeded(mut self, now: Timestamp) -> After {
        self.live.tally.worked.fetch_add(1, Relaxed);
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
        if blame == Blame::Target {
            self.live.tally.target_failed.fetch_add(1, Relaxed);
        } else {
            self.live.tally.failed.fetch_add(1, Relaxed);
            let last = LastFailure { code: fault.code(), detail: fault.detail().into(), at: now };
            locked(&self.live.health).last_failure = Some(last);
        }
        match blame {
            Blame::Target => self.report(Outcome::TargetFailed, now),
            Blame::Exit => self.report(Outcome::ExitFailed, now),
            Blame::Silence => {
                let mut hash = DefaultHasher::new();
                target.hash(&mut hash);
                self.report(Outcome::Silent(hash.finish()), now)
            }
            Blame::Token => self.token_failed(now),
            // It tells nothing of how the exit is: as if it had not been tried.
            Blame::Full => {
                let ejected_until = locked(&self.live.health).health.ejected_until();
                After { ejected_until, change: None, token_lost: false }
            }
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
    /// So many bytes went through it, from the client and to it.
    pub fn moved(&self, up: u64, down: u64) {
        self.live.tally.up.fetch_add(up, Relaxed);
        self.live.tally.down.fetch_add(down, Relaxed);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.live.connections.fetch_sub(1, Relaxed);
    }
}

/// Locks; what a panic left behind is plain counts that are still in order.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
