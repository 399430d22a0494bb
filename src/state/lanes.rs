//! Choices under way.
//!
//! Owns: for each set of filters the exits that meet it ([`Matching`]), and
//! for each need a [`Lane`]: the deck of those that could serve it, which of
//! them are open, and the rotation's position; from one change of the pool's
//! exits to the next.
//! Must not know: whether an exit can be used, and why not.
//!
//! To find a lane takes no lock. An exit that a choice met in vain is closed
//! in that lane, and the lane left with the exit to be told when it may be
//! used again; where that is only a matter of time, the lane wakes it itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use rand::{Rng, RngExt};

use super::board::Board;
use super::exits::{ExitState, locked};
use super::no_exit::Surveyed;
use crate::core::exit::{Exit, Mode};
use crate::core::pool::{Placement, Pool};
use crate::core::select::{Deck, LabelIndex, Turns};
use crate::core::session::Filter;
use crate::core::time::{Timestamp, Ttl};

/// The most sets of filters that a pool keeps in mind, and the most exits in
/// all of them; beyond, the one that was unused for longest is forgotten, and
/// its rotation starts anew.
const MAX_MATCHINGS: usize = 1024;
const MAX_MEMBERS: usize = 4_000_000;

/// The most steps of `max_ttl` that sessions are told apart by. In a pool
/// with more, some exits that are too short are met, and passed over.
const MAX_STEPS: usize = 8;

/// No such instant, in ms.
const NEVER: u64 = u64::MAX;

/// What the exit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// One request.
    Request,
    /// A pin of this length.
    Session(Ttl),
}

/// The lanes of one pool.
pub(super) struct Lanes {
    exits: Arc<[Arc<Exit>]>,
    placement: Placement,
    labels: OnceLock<LabelIndex>,
    /// The steps of `max_ttl`, ascending.
    steps: Vec<Ttl>,
    /// Without a filter.
    all: OnceLock<Arc<Matching>>,
    filtered: ArcSwap<HashMap<Filter, Arc<Matching>>>,
    /// Held by who changes `filtered`.
    changing: Mutex<()>,
}

/// The exits that meet a filter.
pub(super) struct Matching {
    /// Places, whatever their mode.
    pub(super) places: Vec<u32>,
    request: OnceLock<Arc<Lane>>,
    /// By how many of the steps of `max_ttl` are too short.
    sessions: Box<[OnceLock<Arc<Lane>>]>,
    /// When it was used last, in ms.
    used: AtomicU64,
}

/// The exits that a choice is made from.
pub(super) struct Lane {
    /// As long as nobody changes the pool.
    pub(super) deck: Arc<Deck>,
    pub(super) board: Board,
    next: AtomicU64,
    asleep: Mutex<Asleep>,
    /// When the first of those asleep wakes, in ms, or [`NEVER`].
    wakes: AtomicU64,
    /// What was last found to stand against its exits.
    pub(super) surveyed: Mutex<Option<Surveyed>>,
}

/// Closed exits that time alone opens.
#[derive(Default)]
struct Asleep {
    /// In ms, with the exit.
    by_time: BTreeSet<(u64, u32)>,
    /// Of each exit, once.
    by_exit: HashMap<u32, u64>,
}

impl Lanes {
    pub(super) fn new(pool: &Pool) -> Self {
        let mut steps: Vec<_> = pool.exits.iter().filter_map(|exit| exit.max_ttl).collect();
        steps.sort_unstable();
        steps.dedup();
        let every = steps.len().div_ceil(MAX_STEPS).max(1);
        Self {
            exits: pool.exits.clone(),
            placement: pool.placement,
            labels: OnceLock::new(),
            steps: steps.into_iter().step_by(every).collect(),
            all: OnceLock::new(),
            filtered: ArcSwap::default(),
            changing: Mutex::default(),
        }
    }

    /// Makes what the first request would have to wait for.
    pub(super) fn warm(&self, rng: &mut impl Rng) {
        let all = self.all();
        let _ = self.lane(all, Need::Request, rng);
        let _ = self.lane(all, Need::Session(Ttl::MIN), rng);
        self.labels();
    }

    /// The exits that meet a filter.
    pub(super) fn matching(&self, filter: &Filter, now: Timestamp) -> Arc<Matching> {
        if filter.is_empty() {
            return self.all().clone();
        }
        let known = self.filtered.load();
        if let Some(found) = known.get(filter).or_else(|| known.get(&self.labels().canonical(filter))) {
            found.used.store(now.as_ms(), Relaxed);
            return found.clone();
        }
        drop(known);
        let filter = self.labels().canonical(filter);
        let made = Arc::new(self.of(self.labels().matching(&self.exits, &filter)));
        made.used.store(now.as_ms(), Relaxed);
        // Names of nothing must not push out what is in use.
        if made.places.is_empty() { made } else { self.keep(filter, made) }
    }

    fn all(&self) -> &Arc<Matching> {
        let every = || (0..u32::try_from(self.exits.len()).unwrap_or(u32::MAX)).collect();
        self.all.get_or_init(|| Arc::new(self.of(every())))
    }

    pub(super) fn labels(&self) -> &LabelIndex {
        self.labels.get_or_init(|| LabelIndex::new(&self.exits))
    }

    fn of(&self, places: Vec<u32>) -> Matching {
        let sessions = (0..=self.steps.len()).map(|_| OnceLock::new()).collect();
        Matching { places, request: OnceLock::new(), sessions, used: AtomicU64::new(0) }
    }

    /// Another request may have been faster: one position for all.
    fn keep(&self, filter: Filter, made: Arc<Matching>) -> Arc<Matching> {
        let _changing = locked(&self.changing);
        let mut filtered = HashMap::clone(&self.filtered.load());
        let kept = filtered.entry(filter.clone()).or_insert(made).clone();
        let mut members: usize = filtered.values().map(|matching| matching.members()).sum();
        while filtered.len() > 1 && (filtered.len() > MAX_MATCHINGS || members > MAX_MEMBERS) {
            let others = filtered.iter().filter(|(key, _)| **key != filter);
            let oldest = others.min_by_key(|(_, matching)| matching.used.load(Relaxed));
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            members -= filtered.remove(&oldest).map_or(0, |matching| matching.members());
        }
        self.filtered.store(Arc::new(filtered));
        kept
    }

    /// The lane of the exits that meet a filter and could serve a need.
    pub(super) fn lane<'m>(&self, matching: &'m Matching, need: Need, rng: &mut impl Rng) -> &'m Arc<Lane> {
        let short = match need {
            Need::Request => return matching.request.get_or_init(|| self.make(matching, 0, rng)),
            Need::Session(ttl) => self.steps.partition_point(|most| *most < ttl),
        };
        matching.sessions[short].get_or_init(|| self.make(matching, short, rng))
    }

    /// Of the exits that hold an address for longer than so many steps.
    fn make(&self, matching: &Matching, short: usize, rng: &mut impl Rng) -> Arc<Lane> {
        let least = short.checked_sub(1).map(|last| self.steps[last]);
        let shared = [Some(&matching.request), matching.sessions.first()].into_iter().flatten();
        let shared = shared.filter_map(OnceLock::get).find(|_| short == 0);
        Lane::new(
            shared.map_or_else(
                || {
                    let fits = |place: &u32| {
                        self.exits.get(*place as usize).is_some_and(|exit| {
                            let long = exit.max_ttl.is_none() || exit.max_ttl > least;
                            exit.mode == Mode::Active && long
                        })
                    };
                    let places = matching.places.iter().copied().filter(fits);
                    Arc::new(Deck::new(&self.exits, places, self.placement))
                },
                |lane| lane.deck.clone(),
            ),
            rng,
        )
    }
}

impl Matching {
    /// What it takes in memory, in exits: they are in each lane.
    fn members(&self) -> usize {
        self.places.len() * (1 + self.sessions.len())
    }
}

impl Lane {
    /// Starts anywhere in the round, so that a pool that changes often does
    /// not keep to its first exits.
    fn new(deck: Arc<Deck>, rng: &mut impl Rng) -> Arc<Self> {
        let start = rng.random_range(0..deck.round().max(1));
        Arc::new(Self {
            board: Board::new(&deck),
            deck,
            next: AtomicU64::new(start),
            asleep: Mutex::default(),
            wakes: AtomicU64::new(NEVER),
            surveyed: Mutex::default(),
        })
    }

    /// A lane of the same exits, all open, for those to whom some of them are
    /// no good for a while; its turns go on from where these are.
    pub(super) fn beside(&self) -> Arc<Self> {
        Arc::new(Self {
            board: Board::new(&self.deck),
            deck: self.deck.clone(),
            next: AtomicU64::new(self.next.load(Relaxed)),
            asleep: Mutex::default(),
            wakes: AtomicU64::new(NEVER),
            surveyed: Mutex::default(),
        })
    }

    /// The exit is closed until it opens, or until an instant, should that
    /// come first.
    pub(super) fn close(
        self: &Arc<Self>,
        exit: u32,
        live: &ExitState,
        closed: impl Fn() -> Option<Option<Timestamp>>,
    ) {
        if closed().is_none() {
            return;
        }
        self.board.set(&self.deck, exit, false);
        live.tell(self, exit);
        // Whoever opens it from here on tells; it may have opened before.
        match closed() {
            None => self.open(exit),
            Some(None) => {}
            Some(Some(until)) => self.sleep(exit, until.as_ms()),
        }
    }

    /// The exit may be usable again.
    pub(super) fn open(&self, exit: u32) {
        self.board.set(&self.deck, exit, true);
    }

    fn sleep(&self, exit: u32, until: u64) {
        let asleep = &mut *locked(&self.asleep);
        // Woken too early, it goes to sleep again.
        if asleep.by_exit.get(&exit).is_some_and(|known| *known <= until) {
            return;
        }
        if let Some(later) = asleep.by_exit.insert(exit, until) {
            asleep.by_time.remove(&(later, exit));
        }
        asleep.by_time.insert((until, exit));
        self.publish(asleep);
    }

    /// Opens what time has opened.
    pub(super) fn wake(&self, now: Timestamp) {
        if self.wakes.load(Acquire) > now.as_ms() {
            return;
        }
        let asleep = &mut *locked(&self.asleep);
        while let Some((until, exit)) = asleep.by_time.first().copied().filter(|(at, _)| *at <= now.as_ms()) {
            asleep.by_time.remove(&(until, exit));
            asleep.by_exit.remove(&exit);
            self.open(exit);
        }
        self.publish(asleep);
    }

    fn publish(&self, asleep: &Asleep) {
        self.wakes.store(asleep.by_time.first().map_or(NEVER, |(at, _)| *at), Release);
    }
}

impl Turns for Lane {
    fn next(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    fn skip_to(&self, position: u64) {
        self.next.fetch_max(position, Relaxed);
    }
}
