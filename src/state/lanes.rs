//! Rotations under way.
//!
//! Owns: for each set of filters the deck of exits that meet it and the
//! rotation's position, from one change of the pool's exits to the next.
//! Must not know: whether an exit can be used.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rand::{Rng, RngExt};

use crate::core::pool::Pool;
use crate::core::select::Deck;
use crate::core::session::Filter;
use crate::core::time::Timestamp;

/// The most sets of filters that a pool keeps in mind, and the most exits in
/// all their decks; beyond, the one that was unused for longest is forgotten,
/// and its rotation starts anew.
const MAX_LANES: usize = 1024;
const MAX_MEMBERS: usize = 4_000_000;

/// The rotations of one pool.
#[derive(Default)]
pub(super) struct Lanes {
    /// Without a filter.
    all: OnceLock<Arc<Lane>>,
    filtered: RwLock<HashMap<Filter, Arc<Lane>>>,
}

/// One rotation.
pub(super) struct Lane {
    /// The exits, as long as nobody changes the pool.
    pub(super) deck: Deck,
    next: AtomicU64,
    /// When it was used last, in ms.
    used: AtomicU64,
}

impl Lane {
    /// Starts anywhere in the round, so that a pool that changes often does
    /// not keep to its first exits.
    fn new(pool: &Pool, filter: &Filter, rng: &mut impl Rng) -> Arc<Self> {
        let deck = Deck::new(pool, filter);
        let start = rng.random_range(0..deck.round().max(1));
        Arc::new(Self { deck, next: AtomicU64::new(start), used: AtomicU64::new(0) })
    }

    /// The next position, handed out once.
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }
}

impl Lanes {
    /// The rotation under this filter. One without exits is not kept: names
    /// of nothing must not push out what is in use.
    pub(super) fn of(&self, pool: &Pool, filter: &Filter, now: Timestamp, rng: &mut impl Rng) -> Arc<Lane> {
        if filter.is_empty() {
            return self.all.get_or_init(|| Lane::new(pool, filter, rng)).clone();
        }
        if let Some(lane) = self.filtered.read().unwrap_or_else(PoisonError::into_inner).get(filter) {
            lane.used.store(now.as_ms(), Relaxed);
            return lane.clone();
        }
        let made = Lane::new(pool, filter, rng);
        if made.deck.is_empty() {
            return made;
        }
        made.used.store(now.as_ms(), Relaxed);
        let mut lanes = self.filtered.write().unwrap_or_else(PoisonError::into_inner);
        // Another request may have been faster: one position for all.
        let lane = lanes.entry(filter.clone()).or_insert(made).clone();
        while lanes.len() > 1 && (lanes.len() > MAX_LANES || members(&lanes) > MAX_MEMBERS) {
            let others = lanes.iter().filter(|(key, _)| *key != filter);
            let oldest = others.min_by_key(|(_, lane)| lane.used.load(Relaxed)).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            lanes.remove(&oldest);
        }
        lane
    }
}

fn members(lanes: &HashMap<Filter, Arc<Lane>>) -> usize {
    lanes.values().map(|lane| lane.deck.len()).sum()
}
