//! A gateway that runs: its store, its pools in force, its clients.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moorgate::clock::ManualClock;
use moorgate::core::pin::{ExitName, Pin};
use moorgate::core::pool::Pools;
use moorgate::core::time::Timestamp;
use moorgate::state::{Exits, InForce, Switches};
use rand::RngExt;
use rand::rngs::StdRng;

use super::aftermath::Left;
use super::disk::{Content, Receipt, Time};
use super::history::History;
use super::life::Who;
use super::mistake::Mistake;
use super::request::Request;
use super::stage::{Link, Stage};
use super::store::Store;
use super::wish::Wish;

/// Client connections.
pub const CLIENTS: usize = 6;
/// The disk has what was written so long after.
pub const SYNC_MS: Time = 50;
/// The writer is never longer behind.
const WRITER_MS: Time = 600;
/// The store is looked after so often.
const TICK_MS: Time = 250;

/// A client connection.
#[derive(Default)]
pub struct Client {
    pub kept: Vec<Link>,
    pub request: Option<Request>,
    pub last: Option<Wish>,
}

/// A gateway that runs.
pub struct Gateway {
    pub store: Store,
    pub in_force: InForce,
    pub clock: Arc<ManualClock>,
    pub clients: Vec<Client>,
    pub refuses_since: Option<Time>,
    exits: Arc<Exits>,
    /// Ends that are not written yet, and whose they are.
    ending: Vec<(usize, Receipt)>,
    next_tick: Time,
}

impl Gateway {
    /// Starts on what a disk holds.
    pub fn start(
        content: Content,
        wall: Timestamp,
        pools: Pools,
        now: Time,
        mistake: Option<Mistake>,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(wall));
        let exits = Arc::new(Exits::default());
        let store = Store::open(content, clock.clone(), exits.clone(), mistake);
        let in_force = InForce::new(pools, exits.clone(), Switches::default(), store.now());
        Self {
            store,
            in_force,
            clock,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            refuses_since: None,
            exits,
            ending: Vec::new(),
            next_tick: now + TICK_MS,
        }
    }

    /// The live pins.
    pub fn left(&self) -> Vec<Left> {
        let now = self.store.now();
        let left = |pin: Pin| Left { left_ms: pin.ends().as_ms() - now.as_ms(), pin };
        self.store.live().into_iter().map(|(_, held)| left(held.pin)).collect()
    }

    /// What a client's request works with, and where it waits.
    pub fn stage<'a>(
        &'a mut self,
        client: usize,
        history: &'a mut History,
        rng: &'a mut StdRng,
        mistake: Option<Mistake>,
    ) -> (&'a mut Option<Request>, Stage<'a>) {
        let (at, Client { kept, request, .. }) = (history.now, &mut self.clients[client]);
        let (store, in_force) = (&mut self.store, &self.in_force);
        (request, Stage { store, in_force, history, kept, rng, at, mistake })
    }

    /// Time passes, at most to where one of the gateway's own threads is due
    /// again and again.
    pub fn pass(&mut self, mut ms: Time, history: &mut History) {
        while ms > 0 {
            let now = history.now;
            let some = ms.min(self.next_tick - now);
            let disk = self.store.disk();
            if disk.waits_since().is_some_and(|since| since + WRITER_MS < now + some) {
                disk.commit(usize::MAX, now);
            }
            if disk.unsynced_since().is_some_and(|since| since + SYNC_MS < now + some) {
                disk.sync();
            }
            self.clock.advance(Duration::from_millis(some));
            history.now += some;
            ms -= some;
            if history.now == self.next_tick {
                self.store.keep(history.now);
                self.next_tick += TICK_MS;
            }
        }
    }

    /// Somebody ends a session.
    pub fn end(&mut self, history: &mut History, rng: &mut StdRng) {
        let live = self.store.live();
        if live.is_empty() {
            return;
        }
        let (key, _) = &live[rng.random_range(0..live.len())];
        if let Ok(Some((pin, receipt))) = self.store.end(*key, history.now) {
            history.tell(|| format!("{} is ended", Who::of(&pin)));
            history.count("ended on demand");
            self.ending.extend(history.ending(&Who::of(&pin)).map(|life| (life, receipt)));
        }
    }

    /// The disk is full, or it is not any more.
    pub fn refuse_or_recover(&mut self, history: &mut History) {
        if self.refuses_since.take().is_some() {
            history.tell(|| "the disk takes pins again".to_owned());
            return self.store.recover();
        }
        history.tell(|| "the disk refuses".to_owned());
        history.count("the disk refused");
        self.refuses_since = Some(history.now);
        self.store.refuse();
        history.refused(&self.left());
    }

    /// Tells of ends that are written by now.
    pub fn tell_ends(&mut self, history: &mut History) {
        let store = &self.store;
        self.ending.retain(|(life, receipt)| {
            let written = store.ended(*receipt);
            if written == Some(true) {
                history.ended(*life);
            }
            written.is_none()
        });
    }

    /// What holds at every instant: the map is in order, and each exit counts
    /// the pins that it holds.
    pub fn check<'a>(&self, exits: impl Iterator<Item = &'a ExitName>, history: &mut History) {
        self.store.pins().check_invariants();
        let mut on = BTreeMap::<ExitName, u32>::new();
        for (_, held) in self.store.pins().iter() {
            *on.entry(held.pin.exit).or_default() += 1;
        }
        for name in exits {
            let requests = self.clients.iter().filter_map(|client| client.request.as_ref());
            let reserved: u32 = requests.map(|request| request.reserves(name)).sum();
            let (counted, is) = (self.exits.state(name).pins(), on.remove(name).unwrap_or(0) + reserved);
            if counted != is {
                history.broken(|| format!("{name} holds {is} pins, and {counted} are counted"));
            }
        }
    }
}
