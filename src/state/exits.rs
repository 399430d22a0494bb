//! What is known of each exit while the gateway runs.
//!
//! Owns: [`ExitState`] (pins, connections, health, addresses given out); below
//! it `attempt` has its guards [`Attempt`] and [`ConnectionGuard`], and `room`
//! has [`Room`](super::room::Room). Each gives back on drop what it took.
//! Must not know: pools' choices, I/O. Limits and rules are told by
//! `pools` when they come into force.
//!
//! What a choice looks at are atomics; a healthy exit costs a few loads and
//! no lock. The mutexes are held for a few steps, and behind one of them at
//! most the listeners' is taken.

mod attempt;

use std::net::IpAddr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;
use tokio::sync::Notify;

pub use self::attempt::{After, Attempt, ConnectionGuard};
use super::lanes::{Lane, Need};
use super::learned::Learned;
use super::listeners::Listeners;
use super::room::Sessions;
use super::tally::{Dials, Latency, Tally};
use crate::core::code::Code;
use crate::core::exit::{Exit, Via};
use crate::core::health::{Health, TokenFailures};
use crate::core::pool::HealthPolicy;
use crate::core::prefix::{Addresses, InUse};
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
    /// Lanes that found it closed.
    listeners: Listeners,
    /// The low half of the last address that an unpinned request got.
    last_address: AtomicU64,
    pub(super) sessions: Sessions,
    pub(super) addresses: Mutex<InUse>,
    pub(super) learned: Learned,
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
    /// What origins see, for pins that are left when it goes.
    address: Option<IpAddr>,
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
            listeners: Listeners::default(),
            last_address: AtomicU64::new(0),
            sessions: Sessions::default(),
            addresses: Mutex::default(),
            learned: Learned::default(),
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
        if checked.digest.is_some_and(|before| before != exit.digest) {
            self.learned.forget();
        }
        if checked.digest.is_some_and(|before| before != exit.digest) || policy.eject_after == 0 {
            checked.health.reset();
            checked.tokens = TokenFailures::default();
        }
        checked.policy = policy;
        checked.digest = Some(exit.digest);
        checked.address = exit.address;
        self.publish(&checked);
        drop(checked);
        self.opened();
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

    /// What keeps every such request from using it: until an instant, or
    /// until something else happens first that [`ExitState::opened`] tells.
    /// `None`: nothing does.
    pub(super) fn closed(&self, need: Need, now: Timestamp) -> Option<Option<Timestamp>> {
        let ejected = match self.closed_until.load(Acquire) {
            OPEN => None,
            ON_TRIAL => return Some(None),
            until => Some(Timestamp::from_ms(until)).filter(|until| *until > now),
        };
        let full = need != Need::Request && !self.sessions.has_room(now);
        if !self.has_connection() || (full && self.sessions.rests_until().is_none()) {
            return Some(None);
        }
        let rests = self.sessions.rests_until().filter(|_| full);
        ejected.max(rests).map(Some)
    }

    /// This lane is to hear when it opens.
    pub(super) fn tell(&self, lane: &Arc<Lane>, exit: u32) {
        self.listeners.add(lane, exit);
    }

    /// Something that stood against it does so no more: to be called after
    /// every change that may open it.
    pub(super) fn opened(&self) {
        self.listeners.tell();
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

    /// The address that origins see or, once it is in no pool, saw.
    pub(super) fn address(&self) -> Option<IpAddr> {
        locked(&self.health).address.or_else(|| self.learned.address())
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

    /// An address for a request without a session: another one than the last,
    /// where there is another.
    pub(super) fn next_address(&self, addresses: &Addresses, rng: &mut impl Rng) -> IpAddr {
        let place = addresses.draw(rng);
        let half = |place: u128| (place & u128::from(u64::MAX)) as u64;
        // Never 0, which is none.
        let mark = |place: u128| half(place).wrapping_add(1).max(1);
        if self.last_address.swap(mark(place), Relaxed) != mark(place) {
            return addresses.nth(place);
        }
        let next = (place + 1) % addresses.count();
        self.last_address.store(mark(next), Relaxed);
        addresses.nth(next)
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
        if before != closed_until {
            self.opened();
        }
        self.spotless.store(checked.health.is_spotless() && checked.tokens.is_empty(), Release);
    }
}

/// Locks; what a panic left behind is plain counts that are still in order.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
