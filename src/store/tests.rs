//! The store on real files.

mod crash;
mod damage;
mod handover;
mod refusal;

use std::sync::Mutex;

use super::*;
use crate::clock::ManualClock;
use crate::core::pin::{ExitName, Variant};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_that_come_together_agree_and_one_has_won() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    for n in 0..50 {
        let session = format!("s{n}");
        let tasks: Vec<_> = (0..16)
            .map(|m| {
                let (store, pin) = (store.clone(), bench.pin(&session, &format!("exit{m}")));
                tokio::spawn(async move {
                    let claim = store.claim(pin.key(), pin).await.unwrap();
                    claim.receipt.settled().await.unwrap();
                    let news = store.announce(claim.pin.key(), claim.pin.version).await;
                    (claim.won, claim.pin, news)
                })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.unwrap());
        }
        assert_eq!(all.iter().filter(|(won, ..)| *won).count(), 1);
        assert_eq!(all.iter().filter(|(.., news)| *news == Some(News::New)).count(), 1);
        assert!(all.iter().all(|(_, pin, _)| *pin == all[0].1));
    }
}

#[tokio::test]
async fn a_loser_and_a_holder_wait_for_the_winners_record() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let first = store.claim(bench.pin("a", "one").key(), bench.pin("a", "one")).await.unwrap();
    let loser = store.claim(first.pin.key(), bench.pin("a", "two")).await.unwrap();
    let holder = store.hold(first.pin.key()).await.unwrap().unwrap();
    assert!(first.won && !loser.won && !holder.won && loser.fresh && holder.fresh);
    // Whoever is told that it is written can rely on it for all of them.
    loser.receipt.settled().await.unwrap();
    assert!(first.receipt.is_settled() && holder.receipt.is_settled());
    assert!(store.hold(first.pin.key()).await.unwrap().unwrap().receipt.is_settled());
}

#[tokio::test]
async fn a_pin_ends_on_time_and_its_end_is_told() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let a = claim(&store, bench.pin("a", "one")).await;
    bench.pass(9_999);
    assert!(store.hold(a.key()).await.unwrap().is_some());
    store.sweep().await;
    assert_eq!((store.len(), bench.ear.heard()), (1, vec![]));
    bench.pass(1);
    assert!(store.hold(a.key()).await.unwrap().is_none());
    store.sweep().await;
    assert_eq!((store.len(), bench.ear.heard()), (0, vec!["left a one 10000 Ended".to_owned()]));
    store.close().await;
    let (store, report) = bench.open();
    assert_eq!(report, OpenReport::default(), "it is gone from the disk as well");
    // A new claim before the sweep is told the old one's end, too.
    claim(&store, bench.pin("a", "one")).await;
    bench.pass(10_500);
    claim(&store, bench.pin("a", "two")).await;
    assert_eq!((store.len(), bench.ear.heard()), (1, vec!["left a one 20000 Ended".to_owned()]));
}

#[tokio::test]
async fn what_ends_while_the_gateway_is_down_is_gone_and_time_counts() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let a = claim(&store, bench.pin("a", "one")).await;
    bench.pass(5000);
    let b = claim(&store, bench.pin("b", "one")).await;
    store.close().await;
    bench.pass(5000);
    let (store, report) = bench.open();
    assert_eq!((report.pins, report.ended, report.damage), (1, 1, vec![]));
    assert_eq!((store.peek(a.key()), store.peek(b.key())), (None, Some(b)));
}

#[tokio::test]
async fn a_use_moves_an_idle_end_and_is_written() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let idle = Pin { idle: crate::core::time::Ttl::from_secs(3), ..bench.pin("a", "one") };
    let a = claim(&store, idle).await;
    bench.pass(2500);
    let used = store.hold(a.key()).await.unwrap().unwrap();
    used.receipt.settled().await.unwrap();
    assert_eq!(used.pin.ends().as_ms(), START + 6000, "from the use rounded up");
    store.close().await;
    bench.pass(3499);
    let (store, _) = bench.open();
    assert_eq!(store.peek(a.key()).map(|pin| pin.used), Some(used.pin.used));
    bench.pass(1);
    assert_eq!(store.peek(a.key()), None);
}

#[tokio::test]
async fn an_exit_rests_over_a_restart() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let rests = |session, exit| Pin { rest_s: 60, ..bench.pin(session, exit) };
    let ended = claim(&store, rests("ended", "one")).await;
    claim(&store, rests("swept", "two")).await;
    claim(&store, rests("down", "three")).await;
    let again = claim(&store, rests("again", "four")).await;
    bench.pass(1000);
    store.end(ended.key()).await.unwrap();
    bench.pass(9000);
    // This one is swept by a claim of its own key.
    claim(&store, Pin { rest_s: 0, ..bench.pin("again", "four") }).await;
    drop(again);
    store.close().await;
    bench.pass(1000);
    for _ in 0..2 {
        bench.ear.heard();
        let (store, _) = bench.open();
        let mut heard = bench.ear.heard();
        heard.sort();
        let rested = ["rested four 70000", "rested one 61000", "rested three 70000", "rested two 70000"];
        assert_eq!(heard[1..], rested, "told once each, at every start");
        store.close().await;
    }
    bench.pass(50_000);
    bench.ear.heard();
    let (store, _) = bench.open();
    let mut heard = bench.ear.heard();
    heard.sort();
    assert_eq!(heard.len(), 3, "{heard:?}");
    store.close().await;
    bench.pass(9000);
    let (store, _) = bench.open();
    assert_eq!(bench.ear.heard(), [] as [&str; 0]);
    store.close().await;
}

#[tokio::test]
async fn a_step_of_the_wall_clock_is_reckoned_with_after_a_restart() {
    for step in [3_600_000, -3_600_000_i64] {
        let mut bench = Bench::new();
        let (store, _) = bench.open();
        let a = claim(&store, bench.pin("a", "one")).await;
        bench.pass(1000);
        let wall = Timestamp::from_ms(bench.clock.wall().as_ms().saturating_add_signed(step));
        bench.clock.set_wall(wall);
        store.note_clock();
        store.close().await;
        // The gateway is away for 2 s, and starts with the stepped clock.
        bench.clock = Arc::new(ManualClock::new(wall.plus(Duration::from_secs(2))));
        let (store, report) = bench.open();
        assert_eq!(report.pins, 1);
        assert_eq!(bench.clock.now().as_ms(), START + 3000);
        assert_eq!(store.peek(a.key()), Some(a));
        bench.pass(7000);
        store.sweep().await;
        store.close().await;
        // No pin is left, so nothing depends on the old reckoning.
        bench.clock = Arc::new(ManualClock::new(bench.clock.wall()));
        let (store, _) = bench.open();
        assert_eq!(bench.clock.now(), bench.clock.wall());
        store.close().await;
    }
}

#[tokio::test]
async fn small_drift_is_not_worth_a_record() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    claim(&store, bench.pin("a", "one")).await;
    bench.clock.set_wall(Timestamp::from_ms(START + 100));
    store.note_clock();
    store.close().await;
    let clock = Arc::new(ManualClock::new(Timestamp::from_ms(START)));
    let (_store, _) = Store::open(bench.config(), clock.clone(), bench.ear.clone()).unwrap();
    assert_eq!(clock.now().as_ms(), START);
}

#[tokio::test]
async fn a_pin_from_the_future_has_at_most_its_ttl_left() {
    let mut bench = Bench::new();
    let (store, _) = bench.open();
    let a = claim(&store, bench.pin("a", "one")).await;
    store.close().await;
    // Someone sets the clock back by a day while the gateway is down.
    bench.clock = Arc::new(ManualClock::new(Timestamp::from_ms(START - 86_400_000)));
    let (store, _) = bench.open();
    let back = store.peek(a.key()).unwrap();
    assert_eq!(back.expires, bench.clock.now().plus(Duration::from_secs(10)));
    store.close().await;
    bench.pass(4000);
    let (store, _) = bench.open();
    assert_eq!(store.peek(a.key()), Some(back), "and no more at the next start");
}

#[tokio::test]
async fn a_folder_has_one_gateway() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let error = bench.try_open().unwrap_err();
    assert!(matches!(&error, StoreError::InUse(folder) if folder == bench.folder.path()));
    assert!(error.to_string().contains("in use by another gateway"), "{error}");
    store.close().await;
    bench.open();
}

#[tokio::test]
async fn a_file_in_the_folders_place_is_said_so() {
    let bench = Bench::new();
    let file = bench.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let config = StoreConfig { folder: Some(file), durability: Durability::Journal };
    let error = Store::open(config, bench.clock.clone(), bench.ear.clone()).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
}

#[tokio::test]
async fn memory_alone_keeps_the_same_rules() {
    let bench = Bench::new();
    let (store, _) = Store::open(StoreConfig::default(), bench.clock.clone(), bench.ear.clone()).unwrap();
    let a = claim(&store, bench.pin("a", "one")).await;
    let lost = store.claim(a.key(), bench.pin("a", "two")).await.unwrap();
    assert!(!lost.won && lost.pin == a);
    let moved = store.repin(a.key(), a.version, Only::Fresh, bench.pin("a", "two")).await.unwrap().unwrap();
    assert!(moved.won && moved.fresh && moved.pin.moves == 0);
    let late = store.repin(a.key(), a.version, Only::Anyhow, bench.pin("a", "three")).await.unwrap().unwrap();
    assert!(!late.won && late.pin == moved.pin, "another has moved it");
    assert_eq!(store.announce(a.key(), a.version).await, None);
    assert_eq!(store.announce(a.key(), moved.pin.version).await, Some(News::New));
    assert_eq!(store.end(a.key()).await.unwrap(), Some(moved.pin.clone()));
    let gone = store.repin(a.key(), moved.pin.version, Only::Anyhow, bench.pin("a", "four")).await.unwrap();
    assert!(gone.is_none(), "no pin lives");
    assert_eq!(bench.ear.heard(), ["left a one 0 Moved", "left a two 0 Ended"].map(str::to_owned));
    store.close().await;
}

#[tokio::test]
async fn with_fsync_a_receipt_settles_as_well() {
    let bench = Bench::new();
    let config = StoreConfig { durability: Durability::Fsync, ..bench.config() };
    let (store, _) = Store::open(config, bench.clock.clone(), bench.ear.clone()).unwrap();
    let a = claim(&store, bench.pin("a", "one")).await;
    store.close().await;
    assert_eq!(bench.open().0.peek(a.key()), Some(a));
}

#[tokio::test]
async fn changes_of_one_session_within_a_batch_keep_their_order() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let mut left = Vec::new();
    // Nothing is awaited, so that the writer finds many at once.
    for n in 0..400 {
        let session = format!("s{n}");
        let pin = bench.pin(&session, "one");
        let mut is = store.claim(pin.key(), pin.clone()).await.unwrap().pin;
        for exit in 0..n % 4 {
            let to = bench.pin(&session, &format!("exit{exit}"));
            is = store.repin(pin.key(), is.version, Only::Anyhow, to).await.unwrap().unwrap().pin;
        }
        if n % 3 == 0 {
            tokio::select! { biased; _ = store.end(pin.key()) => {}, () = std::future::ready(()) => {} }
            assert_eq!(store.peek(pin.key()), None);
            if n % 2 == 0 {
                is = store.claim(pin.key(), bench.pin(&session, "two")).await.unwrap().pin;
            }
        }
        left.push((pin.key(), (n % 3 != 0 || n % 2 == 0).then_some(is)));
    }
    store.close().await;
    let (store, _) = bench.open();
    for (key, is) in left {
        assert_eq!(store.peek(key), is);
    }
}

#[tokio::test]
async fn a_pin_is_made_to_last_and_keeps_all_else() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let pin = store.claim(bench.pin("a", "one").key(), bench.pin("a", "one")).await.unwrap().pin;
    let until = |s| pin.made.plus(Duration::from_secs(s));
    bench.pass(5000);
    let longer = store.extend(pin.key(), pin.version, until(60)).await.unwrap().unwrap();
    assert!(longer.won);
    assert_eq!(longer.pin, Pin { expires: until(60), ..pin.clone() });
    let shorter = store.extend(pin.key(), pin.version, until(20)).await.unwrap().unwrap();
    assert_eq!(shorter.pin.expires, until(60), "never shorter");
    let late = store.extend(pin.key(), pin.version + 1, until(90)).await.unwrap().unwrap();
    assert!(!late.won && late.pin.expires == until(60), "it is not what was seen");
    assert_eq!(
        store.announce(pin.key(), pin.version).await,
        Some(News::New),
        "its answers go on as they were"
    );
    bench.pass(50_000);
    store.close().await;
    drop(store);
    let (store, _) = bench.open();
    assert_eq!(store.peek(pin.key()).unwrap().expires, until(60));
    let week = store.extend(pin.key(), pin.version, until(1 << 30)).await.unwrap().unwrap();
    assert_eq!(week.pin.expires, until(168 * 3600));
    bench.pass(168 * 3600 * 1000);
    assert!(store.extend(pin.key(), pin.version, until(1 << 30)).await.unwrap().is_none());
}

#[tokio::test]
async fn pages_meet_every_pin_that_stays_once() {
    let bench = Bench::new();
    let config = StoreConfig::default();
    let (store, _) = Store::open(config, bench.clock.clone(), bench.ear.clone()).unwrap();
    for n in 0..500 {
        let pin = bench.pin(&format!("s{n}"), if n % 2 == 0 { "even" } else { "odd" });
        let _ = store.claim(pin.key(), pin).await.unwrap();
    }
    for most in [1, 7, 500, 501] {
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page = store.page(after, most, |glance| &*glance.exit().id == "odd").await;
            assert!(page.pins.len() == most || !page.more);
            seen.extend(page.pins.iter().map(|(key, pin)| {
                assert_eq!(*key, pin.key());
                pin.session.to_string()
            }));
            // An even one goes, another comes, and the last one shown goes.
            if let Some((last, pin)) = page.pins.last() {
                store.end(*last).await.unwrap();
                let _ = store.claim(*last, pin.clone()).await.unwrap();
                after = Some(*last);
            }
            if !page.more {
                break;
            }
        }
        seen.sort();
        let mut expected: Vec<_> = (0..500).filter(|n| n % 2 == 1).map(|n| format!("s{n}")).collect();
        expected.sort();
        assert_eq!(seen, expected, "{most} at a time");
    }
}
