//! Live counters and snapshots.
//!
//! Owns: the pools in force ([`InForce`], one pointer that a reload swaps),
//! what is known of each exit while the gateway runs ([`Exits`], by name, so
//! that it outlives reloads), rotations' positions.
//! Must not know: I/O, files, where pins are kept, what a request is.
//!
//! A request loads one [`Snapshot`] and keeps to it.

mod exits;
mod hold;
mod lanes;
mod no_exit;
mod pools;
mod room;
mod sight;
mod switches;
mod tally;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arc_swap::ArcSwap;

pub use exits::{After, Attempt, ConnectionGuard, ExitState, LastFailure};
pub use no_exit::NoExit;
pub use pools::{LivePool, NewPin, Pick, Unpinned};
pub use room::Room;
pub use switches::{Switch, Switches};
pub use tally::{Dials, Latency};

use crate::core::exit::Mode;
use crate::core::pin::{ExitName, Pin};
use crate::core::pool::{Pool, Pools};
use crate::core::time::Timestamp;

/// Every exit that is in a pool or that something still counts on.
#[derive(Default)]
pub struct Exits(RwLock<HashMap<ExitName, Arc<ExitState>>>);

impl Exits {
    /// The state of an exit; of one never heard of, a fresh one.
    pub fn state(&self, name: &ExitName) -> Arc<ExitState> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return known.clone();
        }
        let mut exits = self.0.write().unwrap_or_else(PoisonError::into_inner);
        exits.entry(name.clone()).or_insert_with(|| Arc::new(ExitState::new())).clone()
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

    /// Forgets exits that are in no pool and that nothing counts on.
    fn prune(&self, now: Timestamp) {
        let mut exits = self.0.write().unwrap_or_else(PoisonError::into_inner);
        exits.retain(|_, state| Arc::strong_count(state) > 1 || state.is_needed(now));
    }
}

/// The pools in force.
pub struct InForce {
    snapshot: ArcSwap<Snapshot>,
    exits: Arc<Exits>,
    /// What the operator has switched. Held while other pools come into
    /// force, so that they do so one after the other.
    switches: Mutex<Switches>,
}

impl InForce {
    /// Puts the first pools into force, with what the operator had switched
    /// before. Their exits count as long known.
    pub fn new(pools: Pools, exits: Arc<Exits>, switches: Switches, now: Timestamp) -> Self {
        let in_force = Self { snapshot: ArcSwap::default(), exits, switches: Mutex::new(switches) };
        in_force.replace(pools, now);
        in_force
    }

    /// Puts other pools into force at once, for requests to come. Exits of
    /// the same name go on as they are, and as they are switched unless the
    /// file says otherwise than before; rotations of a pool whose exits are
    /// the same go on where they were.
    pub fn replace(&self, pools: Pools, now: Timestamp) {
        let mut switches = self.switching();
        switches.settle(&pools);
        self.put(switches.applied(&pools), now);
    }

    /// Switches an exit; `None`: back to what its file says. `false`: there
    /// is no such exit.
    pub fn switch(&self, name: &ExitName, to: Option<Mode>, now: Timestamp) -> bool {
        let mut switches = self.switching();
        let snapshot = self.snapshot.load_full();
        let Some(pool) = snapshot.pools.pool(&name.pool) else { return false };
        let Some((at, exit)) = pool.position(&name.id).and_then(|at| Some((at, pool.exits.get(at)?))) else {
            return false;
        };
        let mode = switches.set(name, exit.mode, to);
        if mode != exit.mode {
            let switched = Arc::new(pool.with_modes([(at, mode)]));
            let with = |pool: &Arc<Pool>| if pool.name == name.pool { &switched } else { pool }.clone();
            self.put(Pools::new(snapshot.pools.iter().map(with).collect()), now);
        }
        true
    }

    /// What the operator has switched.
    pub fn switches(&self) -> Switches {
        self.switching().clone()
    }

    /// What the operator has switched an exit to, where it is another state
    /// than its file's.
    pub fn switch_of(&self, name: &ExitName) -> Option<Switch> {
        self.switching().get(name)
    }

    fn switching(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, pools: Pools, now: Timestamp) {
        let before = self.snapshot.load_full();
        let live = |pool: &Arc<Pool>| {
            let predecessor = before.by_name.get(&pool.name).map(|live| &**live);
            Arc::new(LivePool::new(pool.clone(), predecessor, |name| self.exits.state(name), now))
        };
        let by_name = pools.iter().map(|pool| (pool.name.clone(), live(pool))).collect();
        self.snapshot.store(Arc::new(Snapshot { pools, by_name }));
        drop(before);
        self.exits.prune(now);
    }

    /// What is in force now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
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
