//! The store on real files.

use std::sync::Mutex;

use super::*;
use crate::clock::ManualClock;
use crate::core::session::{Filter, SessionId};

const START: u64 = 1_700_000_000_000;

/// Writes down what it hears.
#[derive(Default)]
struct Ear(Mutex<Vec<String>>);

impl Ear {
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn hear(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

impl PinObserver for Ear {
    fn loaded(&self, pin: &Pin) {
        self.hear(format!("loaded {} {}", pin.session, pin.exit.id));
    }

    fn left(&self, pin: &Pin, at: Timestamp, why: Left) {
        self.hear(format!("left {} {} {} {why:?}", pin.session, pin.exit.id, at.as_ms() - START));
    }

    fn rested(&self, exit: &ExitName, _: &Variant, until: Timestamp) {
        self.hear(format!("rested {} {}", exit.id, until.as_ms() - START));
    }
}

/// A state folder and what stands around it.
struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    ear: Arc<Ear>,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(Timestamp::from_ms(START))),
            ear: Arc::default(),
        }
    }

    fn config(&self) -> StoreConfig {
        StoreConfig { folder: Some(self.folder.path().to_owned()), durability: Durability::Journal }
    }

    fn try_open(&self) -> Result<(Store, OpenReport), StoreError> {
        Store::open(self.config(), self.clock.clone(), self.ear.clone())
    }

    fn open(&self) -> (Store, OpenReport) {
        self.try_open().unwrap()
    }

    fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    /// A proposal for a session of 10 s.
    fn pin(&self, session: &str, exit: &str) -> Pin {
        let now = self.clock.now();
        Pin {
            user: "acme".into(),
            session: SessionId::new(session).unwrap(),
            filter: Filter::default(),
            exit: ExitName { pool: "us".into(), id: exit.into() },
            variant: Variant::None,
            via: 1,
            made: now,
            expires: now.plus(Duration::from_secs(10)),
            idle: None,
            used: now,
            rest_s: 0,
            moves: 0,
            same_address: false,
            version: 0,
        }
    }
}

async fn claim(store: &Store, pin: Pin) -> Pin {
    let claim = store.claim(pin.key(), pin).await.unwrap();
    claim.receipt.settled().await.unwrap();
    claim.pin
}

#[tokio::test]
async fn a_pin_outlives_its_gateway() {
    let bench = Bench::new();
    let (store, report) = bench.open();
    assert_eq!(report, OpenReport::default());
    let a = claim(&store, bench.pin("a", "one")).await;
    let b = claim(&store, bench.pin("b", "two")).await;
    let moved =
        store.repin(b.key(), b.version, Only::Anyhow, bench.pin("b", "three")).await.unwrap().unwrap();
    moved.receipt.settled().await.unwrap();
    let c = claim(&store, bench.pin("c", "one")).await;
    assert_eq!(store.end(c.key()).await.unwrap(), Some(c.clone()));
    store.close().await;
    assert!(store.claim(c.key(), c.clone()).await.is_err(), "it is closed");

    bench.ear.heard();
    let (store, report) = bench.open();
    assert_eq!(report, OpenReport { pins: 2, ..OpenReport::default() });
    assert_eq!(store.peek(a.key()), Some(a));
    assert_eq!(store.peek(b.key()), Some(moved.pin));
    assert_eq!(store.peek(c.key()), None);
    let mut heard = bench.ear.heard();
    heard.sort();
    assert_eq!(heard, ["loaded a one", "loaded b three"]);
}

#[tokio::test]
async fn the_future_of_each_call_may_cross_threads() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let bench = Bench::new();
    let (store, _) = bench.open();
    let pin = bench.pin("a", "one");
    drop(send(store.hold(pin.key())));
    drop(send(store.claim(pin.key(), pin.clone())));
    drop(send(store.repin(pin.key(), 1, Only::Anyhow, pin.clone())));
    drop(send(store.end(pin.key())));
    drop(send(store.keep()));
    drop(send(store.close()));
}
