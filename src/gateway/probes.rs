//! Probing exits on their own schedule.
//!
//! Owns: whose turn it is, how many probes are under way, and that what they
//! find reaches the exits' health and addresses.
//! Must not know: how a probe is made, what its outcome does to an exit.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Inner;
use crate::core::fault::Blame;
use crate::core::pin::ExitName;
use crate::core::probe::{Probe, Witness, next_turn};
use crate::core::time::Timestamp;
use crate::observe::events::Event;
use crate::serve;
use crate::state::{LivePool, Pick, Snapshot};

/// So many probes are under way at a time, at most; the others wait.
const AT_ONCE: usize = 512;
/// How often it is looked whether the pools have changed.
const LOOK: Duration = Duration::from_secs(1);

/// Whose turn comes when.
#[derive(Default)]
struct Plan {
    /// Where an exit's place in the period comes from: another one on each
    /// gateway, or all of them would probe it at once.
    places: RandomState,
    snapshot: Arc<Snapshot>,
    pools: Vec<Probed>,
    /// When, and which exit of which pool.
    turns: BinaryHeap<Reverse<(Timestamp, u32, u32)>>,
}

/// A pool whose exits are probed.
#[derive(Clone)]
struct Probed {
    pool: Arc<LivePool>,
    probe: Arc<Probe>,
    witness: Arc<Mutex<Witness>>,
}

impl Plan {
    /// Places are kept: a reload brings nobody's turn nearer.
    fn of(snapshot: Arc<Snapshot>, places: RandomState, now: Timestamp) -> Self {
        let mut plan = Self { places, snapshot: snapshot.clone(), ..Self::default() };
        let mut rng = rand::rng();
        for pool in snapshot.pools().iter() {
            let (Some(probe), Some(live)) = (&pool.probe, snapshot.pool(&pool.name)) else { continue };
            let at = u32::try_from(plan.pools.len()).unwrap_or(u32::MAX);
            for (place, exit) in (0u32..).zip(&*pool.exits) {
                let turn = next_turn(plan.places.hash_one(&exit.name), probe.every, now, &mut rng);
                plan.turns.push(Reverse((turn, at, place)));
            }
            let (pool, probe) = (live.clone(), probe.clone());
            plan.pools.push(Probed { pool, probe, witness: Arc::default() });
        }
        plan
    }

    /// How long nothing is to be done.
    fn rest(&self, now: Timestamp) -> Duration {
        self.turns.peek().map_or(LOOK, |Reverse((when, ..))| when.since(now).min(LOOK))
    }

    /// An exit whose turn it is, and its pool.
    fn next(&mut self, now: Timestamp) -> Option<(Probed, u32)> {
        let Reverse((_, at, place)) = self.turns.pop_if_due(now)?;
        let probed = self.pools.get(at as usize)?.clone();
        let exit = probed.pool.pool.exits.get(place as usize)?;
        let own = self.places.hash_one(&exit.name);
        let turn = next_turn(own, probed.probe.every, now, &mut rand::rng());
        self.turns.push(Reverse((turn, at, place)));
        Some((probed, place))
    }
}

/// A queue whose first may not be due.
trait Due {
    fn pop_if_due(&mut self, now: Timestamp) -> Option<Reverse<(Timestamp, u32, u32)>>;
}

impl Due for BinaryHeap<Reverse<(Timestamp, u32, u32)>> {
    fn pop_if_due(&mut self, now: Timestamp) -> Option<Reverse<(Timestamp, u32, u32)>> {
        if self.peek().is_some_and(|Reverse((when, ..))| *when <= now) { self.pop() } else { None }
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hash = DefaultHasher::new();
    what.hash(&mut hash);
    hash.finish()
}

impl Inner {
    /// Probes whichever exits are to be probed until another process serves.
    pub(super) async fn probe_exits(self: Arc<Self>) {
        let (room, drain) = (Arc::new(Semaphore::new(AT_ONCE)), &self.shared.drain);
        let mut plan = Plan::default();
        loop {
            let snapshot = self.shared.state.snapshot();
            if !Arc::ptr_eq(&snapshot, &plan.snapshot) {
                plan = Plan::of(snapshot, plan.places, self.shared.clock.now());
            }
            tokio::select! {
                biased;
                () = drain.begun() => return,
                () = drain.handed_over() => return,
                () = tokio::time::sleep(plan.rest(self.shared.clock.now())) => {}
            }
            while let Some((probed, place)) = plan.next(self.shared.clock.now()) {
                // One that has to wait is late, and its next turn is not.
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                if let Some(pick) = probed.pool.probe(place, self.shared.clock.now(), &mut rand::rng()) {
                    tokio::spawn(self.clone().probe_one(probed, pick, permit));
                }
            }
        }
    }

    async fn probe_one(self: Arc<Self>, probed: Probed, pick: Pick, _room: OwnedSemaphorePermit) {
        let Probed { pool, probe, witness } = probed;
        let Pick { exit, variant, attempt, connection, .. } = pick;
        // It is only made where a client's would have fitted, and then takes
        // up no client's place.
        drop(connection);
        let asked = self.shared.dialer.probe(&probe, &exit, &variant, &pool.pool.timeouts).await;
        let (now, this) = (self.shared.clock.now(), hash(&exit.name));
        let mut witness = witness.lock().unwrap_or_else(PoisonError::into_inner);
        match asked {
            Ok(address) => {
                witness.answered(this, now);
                if let Some(address) = address
                    && let Some(was) = attempt.learn(&exit, address, now)
                {
                    self.tell_address(&exit.name, was, address, attempt.pins());
                }
                serve::tell_change(&self.shared, &exit, attempt.succeeded(now), None);
            }
            // Dropped, the attempt counts for nothing.
            Err(failed)
                if matches!(failed.blame, Blame::Target | Blame::Silence)
                    && !witness.speaks_against(this, probe.every, now) => {}
            Err(failed) => {
                let blame = if failed.blame == Blame::Token { Blame::Token } else { Blame::Exit };
                let after = attempt.failed(blame, &failed.fault, &probe.url.target, now);
                serve::tell_change(&self.shared, &exit, after, Some(&failed.fault));
            }
        }
    }

    fn tell_address(&self, exit: &ExitName, was: IpAddr, is: IpAddr, sessions: u32) {
        let ExitName { pool, id } = exit;
        tracing::warn!(pool = &**pool, exit = &**id, %was, %is, sessions, "same exit, new address");
        let instruments = &self.shared.instruments;
        instruments.address_changes.one();
        let (pool, exit) = (pool.clone(), id.clone());
        instruments.events.tell(|| Event::ExitReaddressed { pool, exit, was, is, sessions });
    }
}

#[cfg(test)]
mod tests {
    use crate::core::exit::{Exit, Labels, Mode, Via};
    use crate::core::pool::{DialTimeouts, Pool, Pools};
    use crate::core::probe::ProbeUrl;
    use crate::state::{Exits, InForce, Switches};

    use super::*;

    const EVERY: Duration = Duration::from_secs(30);

    fn pools(exits: u32) -> Pools {
        let exit = |n: u32| {
            Arc::new(Exit {
                name: ExitName { pool: "p".into(), id: format!("e{n}").into() },
                via: Via::Direct,
                weight: 1,
                labels: Labels::default(),
                address: None,
                max_sessions: 0,
                max_connections: 0,
                max_ttl: None,
                mode: Mode::Active,
                fault_status: Arc::default(),
                digest: n,
            })
        };
        let second = Duration::from_secs(1);
        let timeouts = DialTimeouts { dns: second, connect: second, handshake: second, response: second };
        let mut pool = Pool::new("p", (0..exits).map(exit).collect(), Arc::default(), timeouts);
        let url = ProbeUrl::parse("http://probe.example/").unwrap();
        pool.probe = Some(Arc::new(Probe { url, every: EVERY, timeout: second }));
        Pools::new(vec![Arc::new(pool)])
    }

    #[test]
    fn a_hundred_thousand_exits_have_a_turn_each_in_a_period_and_no_rush() {
        const EXITS: u32 = 100_000;
        let start = Timestamp::from_ms(1_800_000_000_000);
        let in_force = InForce::new(pools(EXITS), Arc::new(Exits::default()), Switches::default(), start);
        let mut plan = Plan::of(in_force.snapshot(), RandomState::new(), start);
        assert!(plan.next(start).is_none(), "nobody's turn is at once");
        let mut turns = vec![0; EXITS as usize];
        for s in 1..=90 {
            let now = start.plus(Duration::from_secs(s));
            let mut at_once = 0;
            while let Some((_, place)) = plan.next(now) {
                turns[place as usize] += 1;
                at_once += 1;
            }
            // The first turns come late as the others do, with none before.
            assert!(s <= 3 || (2000..5000).contains(&at_once), "{at_once} in second {s}");
        }
        // Three periods; what is late by up to 3 s may be so into the fourth.
        assert!(turns.iter().all(|turns| (2..=3).contains(turns)));
        assert!(turns.iter().filter(|turns| **turns == 3).count() > 90_000);
        assert!(plan.rest(start.plus(EVERY * 3)) <= LOOK);
    }

    #[test]
    fn without_probes_nothing_is_planned() {
        let mut plan = Plan::default();
        assert!(plan.next(Timestamp::from_ms(u64::MAX)).is_none());
        assert_eq!(plan.rest(Timestamp::from_ms(0)), LOOK);
    }
}
