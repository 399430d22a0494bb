//! Live counters and snapshots.
//!
//! Owns: the pools in force ([`InForce`], one pointer that a reload swaps),
//! what is known of each exit while the gateway runs ([`Exits`], by name, so
//! that it outlives reloads), rotations' positions; bandwidth and bytes that
//! connections share ([`pacer`], [`Usage`]).
//! Must not know: I/O, files, where pins are kept, what a request is.
//!
//! A request loads one [`Snapshot`] and keeps to it.

mod board;
mod cooling;
mod exits;
mod hold;
mod lanes;
mod learned;
mod listeners;
mod no_exit;
pub mod pacer;
mod pools;
mod reports;
mod room;
mod siblings;
mod sight;
mod switches;
mod tally;
mod usage;
mod wanted;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arc_swap::ArcSwap;

pub use cooling::Cooled;
pub use exits::{After, Attempt, ConnectionGuard, ExitState, LastFailure};
pub use no_exit::NoExit;
pub use pools::{LivePool, Pick};
pub use room::Room;
pub use switches::{Switch, Switches};
pub use tally::{Dials, Latency};
pub use usage::{Allowance, Usage};
pub use wanted::{NewPin, Unpinned};

use crate::core::exit::Mode;
use crate::core::pin::{ExitName, Pin};
use crate::core::pool::{Pool, Pools};
use crate::core::time::Timestamp;

/// The registry is in so many parts, so that to go through it holds up
/// nobody for long.
const SHARDS: usize = 64;

/// Every exit that is in a pool or that something still counts on, for who
/// knows but its name: the store's pins, and pools that come into force. A
/// request has its exits' states in its snapshot, and asks here for none.
pub struct Exits([Shard; SHARDS], RandomState);

type Shard = RwLock<HashMap<ExitName, Arc<ExitState>>>;

impl Default for Exits {
    fn default() -> Self {
        Self(std::array::from_fn(|_| RwLock::default()), RandomState::new())
    }
}

impl Exits {
    /// The state of an exit; of one never heard of, a fresh one.
    pub fn state(&self, name: &ExitName) -> Arc<ExitState> {
        let shard = self.shard(name);
        if let Some(known) = shard.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return known.clone();
        }
        let mut exits = shard.write().unwrap_or_else(PoisonError::into_inner);
        exits.entry(name.clone()).or_insert_with(|| Arc::new(ExitState::new())).clone()
    }

    /// The address that origins saw of an exit, for as long as pins are on it;
    /// also of one that is in no pool any more.
    pub fn address(&self, name: &ExitName) -> Option<IpAddr> {
        self.shard(name).read().unwrap_or_else(PoisonError::into_inner).get(name)?.address()
    }

    fn shard(&self, name: &ExitName) -> &Shard {
        &self.0[usize::try_from(self.1.hash_one(name)).unwrap_or(0) % SHARDS]
    }

    /// The store holds this pin, from before a restart or by another node.
    /// Pins that this node makes or moves come in by [`Room::commit`].
    pub fn loaded(&self, pin: &Pin) {
        self.state(&pin.exit).loaded(pin);
    }

    /// The pin holds its exit no more. `ended`: when it ended, from when on
    /// its room rests; `None`: it was moved, or never came to be.
    pub fn left(&self, pin: &Pin, ended: Option<Timestamp>) {
        self.state(&pin.exit).left(pin, ended);
    }

    /// The pin holds its exit until another instant than before.
    pub fn extended(&self, before: &Pin, now: &Pin) {
        self.state(&now.exit).sessions.extended(before, now);
    }

    /// Room on an exit rests until an instant: a pin that ended before a
    /// restart had `reuse_after`.
    pub fn rested(&self, exit: &ExitName, until: Timestamp) {
        self.state(exit).sessions.rested(until);
    }

    /// An exit holds so many pins on all gateways of a shared store.
    pub fn counted(&self, exit: &ExitName, total: u32) {
        self.state(exit).counted(total);
    }

    /// Forgets exits that are in no pool and that nothing counts on.
    fn prune(&self, now: Timestamp) {
        for shard in &self.0 {
            let mut exits = shard.write().unwrap_or_else(PoisonError::into_inner);
            exits.retain(|_, state| Arc::strong_count(state) > 1 || state.is_needed(now));
        }
    }
}

/// The pools in force.
pub struct InForce {
    snapshot: ArcSwap<Snapshot>,
    exits: Arc<Exits>,
    /// What the operator has switched.
    switches: ArcSwap<Switches>,
    /// Held while other pools come into force, so that they do so one after
    /// the other.
    changing: Mutex<()>,
}

impl InForce {
    /// Puts the first pools into force, with what the operator had switched
    /// before. Their exits count as long known.
    pub fn new(pools: Pools, exits: Arc<Exits>, switches: Switches, now: Timestamp) -> Self {
        let switches = ArcSwap::from_pointee(switches);
        let in_force = Self { snapshot: ArcSwap::default(), exits, switches, changing: Mutex::default() };
        in_force.replace(pools, now).end(now);
        in_force
    }

    /// Puts other pools into force at once, for requests to come. Exits of
    /// the same name go on as they are, and as they are switched unless the
    /// file says otherwise than before; rotations of a pool whose exits are
    /// the same go on where they were.
    ///
    /// This takes a while in a large pool, so it is not for a thread that
    /// serves requests, nor is what is left: pools that are no more in force,
    /// to be given to [`Retired::end`].
    pub fn replace(&self, pools: Pools, now: Timestamp) -> Retired {
        let _one_at_a_time = self.change();
        let mut switches = self.switches().as_ref().clone();
        switches.settle(&pools);
        let pools = switches.applied(&pools);
        self.switches.store(Arc::new(switches));
        self.put(pools, now)
    }

    /// Switches an exit; `None`: back to what its file says. `false`: there
    /// is no such exit. As [`InForce::replace`], it may take a while.
    pub fn switch(&self, name: &ExitName, to: Option<Mode>, now: Timestamp) -> bool {
        let _one_at_a_time = self.change();
        let mut switches = self.switches().as_ref().clone();
        let snapshot = self.snapshot.load_full();
        let Some(pool) = snapshot.pools.pool(&name.pool) else { return false };
        let Some((at, exit)) = pool.position(&name.id).and_then(|at| Some((at, pool.exits.get(at)?))) else {
            return false;
        };
        let mode = switches.set(name, exit.mode, to);
        self.switches.store(Arc::new(switches));
        if mode != exit.mode {
            let switched = Arc::new(pool.with_modes([(at, mode)]));
            let with = |pool: &Arc<Pool>| if pool.name == name.pool { &switched } else { pool }.clone();
            self.put(Pools::new(snapshot.pools.iter().map(with).collect()), now).end(now);
        }
        true
    }

    /// What the operator has switched.
    pub fn switches(&self) -> Arc<Switches> {
        self.switches.load_full()
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, pools: Pools, now: Timestamp) -> Retired {
        let before = self.snapshot.load_full();
        let pools = pools.sharing(&before.pools);
        let live = |pool: &Arc<Pool>| {
            let predecessor = before.by_name.get(&pool.name);
            if let Some(same) = predecessor.filter(|known| Arc::ptr_eq(&known.pool, pool)) {
                return same.clone();
            }
            let predecessor = predecessor.map(|live| &**live);
            let live = LivePool::new(pool.clone(), predecessor, |name| self.exits.state(name), now);
            live.warm(&mut rand::rng());
            Arc::new(live)
        };
        let by_name = pools.iter().map(|pool| (pool.name.clone(), live(pool))).collect();
        self.snapshot.store(Arc::new(Snapshot { pools, by_name }));
        Retired { before, exits: self.exits.clone() }
    }

    /// The address that origins saw of an exit; also of one that is in no
    /// pool any more, while it has pins.
    pub fn address(&self, exit: &ExitName) -> Option<IpAddr> {
        self.exits.address(exit)
    }

    /// What is in force now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

/// Pools that are no more in force. Requests that began with them may go on
/// by them for a while.
#[must_use]
pub struct Retired {
    before: Arc<Snapshot>,
    exits: Arc<Exits>,
}

impl Retired {
    /// Whether some request still goes by them: then it would be the last of
    /// those that tidied up.
    pub fn are_in_use(&self) -> bool {
        Arc::strong_count(&self.before) > 1
    }

    /// Forgets them, and exits that are in no pool and that nothing counts
    /// on.
    pub fn end(self, now: Timestamp) {
        drop(self.before);
        self.exits.prune(now);
    }
}

/// The pools as they were in force at one instant.
#[derive(Default)]
pub struct Snapshot {
    pools: Pools,
    by_name: HashMap<Arc<str>, Arc<LivePool>>,
}

impl Snapshot {
    /// As configured.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// The pool of exactly this name.
    pub fn pool(&self, name: &str) -> Option<&Arc<LivePool>> {
        self.by_name.get(name)
    }
}

#[cfg(test)]
mod tests;
