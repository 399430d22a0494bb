//! Stores of several nodes over a real Redis, and the scripts held against
//! their meaning in `core/shared/cell.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::SystemClock;
use crate::core::pin::{ExitName, News, Variant};
use crate::core::pins::Only;
use crate::core::session::{Filter, SessionId};
use crate::core::shared::{Entry, Told};
use crate::core::time::Ttl;
use crate::store::Store;

mod against;
mod nodes;
#[path = "../../../tests/it/harness/redis.rs"]
mod redis;
mod rooms;

use self::redis::Redis;

/// Counts pins.
#[derive(Default)]
struct Ear {
    came: AtomicU64,
    left: AtomicU64,
}

impl PinObserver for Ear {
    fn loaded(&self, _: &Pin) {
        self.came.fetch_add(1, Ordering::Relaxed);
    }

    fn left(&self, _: &Pin, _: Timestamp, _: Left) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }
}

/// A node.
struct Node {
    store: Store,
    ear: Arc<Ear>,
    keeping: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl std::ops::Deref for Node {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Node {
    async fn at(url: &str, when_away: WhenAway) -> Self {
        let ear = Arc::new(Ear::default());
        let address = Address::parse(url).unwrap();
        let (store, connected) =
            Store::connect(address, when_away, Arc::new(SystemClock::new()), ear.clone()).await;
        connected.unwrap_or_else(|error| panic!("{url}: {error}"));
        let kept = store.clone();
        let keeping = tokio::spawn(async move { kept.keep().await });
        Self { store, ear, keeping }
    }

    fn shared(&self) -> &Arc<Shared> {
        match &*self.store.0 {
            crate::store::Handle::Shared(shared) => shared,
            crate::store::Handle::Local(_) => panic!("a shared store"),
        }
    }

    /// Waits until the store is or is not out of reach.
    async fn until_away(&self, away: bool) {
        until("the store is away or back", || self.store.is_refusing() == away).await;
    }

    async fn made(&self, session: &str, exit: &str) -> Claim {
        let pin = pin(session, exit);
        self.claim(pin.key(), pin).await.unwrap()
    }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn pin(session: &str, exit: &str) -> Pin {
    Pin {
        user: "acme".into(),
        session: SessionId::new(session).unwrap(),
        filter: Filter::default(),
        exit: ExitName { pool: "p".into(), id: exit.into() },
        variant: Variant::None,
        via: 7,
        made: Timestamp::from_ms(1000),
        expires: Timestamp::from_ms(61_000),
        idle: None,
        used: Timestamp::from_ms(1000),
        rest_s: 0,
        moves: 0,
        same_address: false,
        version: 0,
    }
}

fn idle(seconds: u64) -> Option<Ttl> {
    Ttl::from_secs(seconds)
}
