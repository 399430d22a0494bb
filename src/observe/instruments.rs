//! What is counted for the gateway as a whole.
//!
//! Owns: the counters and timers that requests, sessions and reloads leave
//! their marks on: relaxed atomics held by whoever counts, no look-up and no
//! lock.
//! Must not know: in which words they are told, who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::access::Kind;
use super::events::Events;
use crate::core::code::Code;

/// How many codes there are.
const CODES: usize = Code::COUNT;

/// Counts, goes on from zero at each start.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// How many so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Bytes that move, counted while they do.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// From clients.
    pub(crate) up: Counter,
    /// To clients.
    pub(crate) down: Counter,
}

/// The upper ends of a timer's buckets, in µs; what is longer has none.
pub(crate) const ENDS_US: [u64; 16] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    600_000_000,
    3_600_000_000,
];

/// A histogram of times.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    buckets: [Counter; ENDS_US.len() + 1],
    sum_us: Counter,
}

impl Timer {
    /// Something took this long.
    pub(crate) fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[ENDS_US.partition_point(|end| *end < micros)].one();
        self.sum_us.add(micros);
    }

    /// How many fell into each bucket, the last being all that is longer.
    pub(crate) fn counts(&self) -> [u64; ENDS_US.len() + 1] {
        std::array::from_fn(|at| self.buckets[at].get())
    }

    /// All times together, in seconds.
    pub(crate) fn sum(&self) -> f64 {
        self.sum_us.get() as f64 / 1e6
    }
}

/// Why a session was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MoveReason {
    /// Its exit was gone, off or ejected, or its token lost.
    ExitDown,
    /// Its exit could not be dialled before any success was answered.
    FirstDial,
    /// Its exit's `via` is another one.
    ExitChanged,
    /// The address behind its exit was another one.
    AddressChanged,
    /// The operator, or its owner, asked for it.
    Asked,
    /// Its owner reported that its exit is no good for a target.
    Reported,
}

impl MoveReason {
    /// Every reason.
    pub(crate) const ALL: [Self; 6] = [
        Self::ExitDown,
        Self::FirstDial,
        Self::ExitChanged,
        Self::AddressChanged,
        Self::Asked,
        Self::Reported,
    ];

    /// The word in events and metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ExitDown => "exit_down",
            Self::FirstDial => "first_dial",
            Self::ExitChanged => "exit_changed",
            Self::AddressChanged => "address_changed",
            Self::Asked => "asked",
            Self::Reported => "reported",
        }
    }
}

/// What a client holds against an exit, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportReason {
    /// The target refused it: 401, 403, a ban.
    Blocked,
    /// The target asked for proof of being human.
    Captcha,
    /// The target said that it was too much: 429.
    RateLimited,
    /// It was too slow, or nothing came.
    Slow,
    /// Something else, or nothing was said.
    Other,
}

impl ReportReason {
    /// Every reason.
    pub(crate) const ALL: [Self; 5] =
        [Self::Blocked, Self::Captcha, Self::RateLimited, Self::Slow, Self::Other];

    /// The word in events and metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Captcha => "captcha",
            Self::RateLimited => "rate_limited",
            Self::Slow => "slow",
            Self::Other => "other",
        }
    }

    /// What a client's own words come to.
    pub(crate) fn of(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        if has(&["captcha", "challenge", "human"]) {
            Self::Captcha
        } else if has(&["429", "rate", "throttl", "too many"]) {
            Self::RateLimited
        } else if has(&["block", "ban", "forbid", "denied", "403", "401"]) {
            Self::Blocked
        } else if has(&["slow", "time", "504"]) {
            Self::Slow
        } else {
            Self::Other
        }
    }
}

/// Reports about the exits of a pool, by reason.
#[derive(Debug, Default)]
pub(crate) struct Reports([Counter; ReportReason::ALL.len()]);

impl Reports {
    /// One more.
    pub(crate) fn one(&self, reason: ReportReason) {
        self.0[reason as usize].one();
    }

    /// How many so far.
    pub(crate) fn get(&self, reason: ReportReason) -> u64 {
        self.0[reason as usize].get()
    }
}

/// All that is counted.
#[derive(Debug)]
pub(crate) struct Instruments {
    /// By kind, and within it by code: first those without a failure of ours.
    requests: [[Counter; CODES + 1]; 3],
    /// Bytes of bodies and tunnels.
    pub(crate) flow: Arc<Flow>,
    /// From a request's head to the connection to its target.
    pub(crate) connect: Timer,
    /// From a plain request's head to its answer's first byte.
    pub(crate) first_byte: Timer,
    /// Whole tunnels.
    pub(crate) tunnels: Timer,
    /// Pins that were made.
    pub(crate) claims_won: Counter,
    /// Proposals that met a pin made a moment before.
    pub(crate) claims_lost: Counter,
    moves: [Counter; MoveReason::ALL.len()],
    /// Pins whose time was over or that were ended.
    pub(crate) ended: Counter,
    /// Exits taken out of use.
    pub(crate) ejections: Counter,
    /// Addresses behind exits that probes have seen change.
    pub(crate) address_changes: Counter,
    /// Reloads whose result is in force.
    pub(crate) reloads: Counter,
    /// Reloads that changed nothing, for something was wrong.
    pub(crate) reloads_failed: Counter,
    /// Damage found in the state folder.
    pub(crate) damage: Counter,
    /// Told to whoever listens.
    pub(crate) events: Arc<Events>,
}

impl Default for Instruments {
    fn default() -> Self {
        Self {
            requests: std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())),
            flow: Arc::default(),
            connect: Timer::default(),
            first_byte: Timer::default(),
            tunnels: Timer::default(),
            claims_won: Counter::default(),
            claims_lost: Counter::default(),
            moves: Default::default(),
            ended: Counter::default(),
            ejections: Counter::default(),
            address_changes: Counter::default(),
            reloads: Counter::default(),
            reloads_failed: Counter::default(),
            damage: Counter::default(),
            events: Arc::default(),
        }
    }
}

impl Instruments {
    /// A request is over.
    pub(crate) fn request(&self, kind: Kind, code: Option<Code>) {
        self.requests[kind as usize][code.map_or(0, |code| code as usize + 1)].one();
    }

    /// How many requests of a kind ended by this code.
    pub(crate) fn requests(&self, kind: Kind, code: Option<Code>) -> u64 {
        self.requests[kind as usize][code.map_or(0, |code| code as usize + 1)].get()
    }

    /// How many requests of any kind ended by this code.
    pub(crate) fn failures(&self, code: Code) -> u64 {
        Kind::ALL.into_iter().map(|kind| self.requests(kind, Some(code))).sum()
    }

    /// How many requests there were, and how many of them failed by a code of
    /// ours.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let sum = |counters: &[Counter]| counters.iter().map(Counter::get).sum::<u64>();
        let all = self.requests.iter().map(|kind| sum(kind)).sum();
        (all, self.requests.iter().map(|[_, failed @ ..]| sum(failed)).sum())
    }

    /// A session was moved.
    pub(crate) fn moved(&self, reason: MoveReason) {
        self.moves[reason as usize].one();
    }

    /// How many sessions were moved for a reason.
    pub(crate) fn moves(&self, reason: MoveReason) -> u64 {
        self.moves[reason as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_bucket_that_ends_behind_them() {
        let timer = Timer::default();
        for micros in [0, 1_000, 1_001, 3_600_000_000, 3_600_000_001] {
            timer.record(Duration::from_micros(micros));
        }
        let counts = timer.counts();
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (2, 1, 1, 1));
        assert!((timer.sum() - 7_200.002_002).abs() < 1e-6);
    }

    #[test]
    fn a_reason_is_one_of_few() {
        let check = |text, expected| assert_eq!(ReportReason::of(text), expected, "{text}");
        check("blocked", ReportReason::Blocked);
        check("HTTP 403", ReportReason::Blocked);
        check("403 with a CAPTCHA", ReportReason::Captcha);
        check("429", ReportReason::RateLimited);
        check("rate_limited", ReportReason::RateLimited);
        check("timeout", ReportReason::Slow);
        check("", ReportReason::Other);
        for reason in ReportReason::ALL {
            check(reason.word(), reason);
        }
    }

    #[test]
    fn requests_are_counted_by_kind_and_code() {
        let instruments = Instruments::default();
        instruments.request(Kind::Tunnel, None);
        instruments.request(Kind::Tunnel, Some(Code::ExitTimeout));
        instruments.request(Kind::Refused, Some(Code::BadRequest));
        assert_eq!(instruments.requests(Kind::Tunnel, Some(Code::ExitTimeout)), 1);
        assert_eq!(instruments.requests(Kind::Forward, None), 0);
        assert_eq!(instruments.totals(), (3, 2));
    }
}
