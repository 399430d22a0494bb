//! What a shared store costs beside a file: claims and held look-ups, time and
//! CPU of the gateway and of the store, round trips, memory for each pin, and
//! how soon another gateway knows of a move.
//! `cargo bench --bench shared [-- PINS]`; needs Debian's `redis-server`.
//!
//! Figures, no judgement: they go to `docs/shared-store.md`.
#![expect(clippy::expect_used, reason = "a bench may stop where it cannot go on")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use moorgate::clock::{Clock, SystemClock};
use moorgate::core::pin::{ExitName, Pin, Variant};
use moorgate::core::pins::Only;
use moorgate::core::session::{Filter, SessionId};
use moorgate::core::shared::Address;
use moorgate::core::time::Timestamp;
use moorgate::store::{Durability, Left, PinObserver, Store, StoreConfig, WhenAway};
use rustix::time::{ClockId, clock_gettime};

#[path = "../tests/it/harness/redis.rs"]
mod redis;

use self::redis::Redis;

const PINS: usize = 1_000_000;
/// Claims one at a time, of which each is measured.
const ALONE: usize = 20_000;
const HOLDS: usize = 2_000_000;
const MOVES: usize = 2000;

struct Deaf;

impl PinObserver for Deaf {
    fn loaded(&self, _: &Pin) {}
    fn left(&self, _: &Pin, _: Timestamp, _: Left) {}
}

fn main() {
    let pins = std::env::args().skip(1).find(|arg| arg != "--bench");
    let pins = pins.map_or(PINS, |pins| pins.parse().expect("a number of pins"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(whole(pins));
}

async fn whole(pins: usize) {
    println!("| | file | Redis on the same host |");
    println!("|---|---|---|");
    let folder = tempfile::tempdir().expect("a folder");
    let config = StoreConfig { folder: Some(folder.path().to_owned()), durability: Durability::Journal };
    let file = Store::open(config, Arc::new(SystemClock::new()), Arc::new(Deaf)).expect("a store").0;
    let redis = Redis::start();
    let (shared, other) = (connect(&redis).await, connect(&redis).await);
    // A store's first moments are for those who know what it lost.
    claim(&shared, usize::MAX).await;

    let (a, _) = alone(&file, 0, &redis).await;
    let (b, server) = alone(&shared, 0, &redis).await;
    row("a new session, one at a time: p50", format!("{:.0} µs", a.p(0.5)), format!("{:.0} µs", b.p(0.5)));
    row("… p99", format!("{:.0} µs", a.p(0.99)), format!("{:.0} µs", b.p(0.99)));
    row("… CPU of the gateway", format!("{:.1} µs", a.cpu), format!("{:.1} µs", b.cpu));
    row("… CPU of the store", "".into(), format!("{:.1} µs", server));

    let before = used_memory(&redis);
    let rest = pins.saturating_sub(ALONE).max(1);
    let (wall_a, cpu_a) = many(&file, ALONE, rest).await;
    let cpu_store = store_cpu(&redis);
    let (wall_b, cpu_b) = many(&shared, ALONE, rest).await;
    let cpu_store = (store_cpu(&redis) - cpu_store) * 1e6 / rest as f64;
    row("new sessions, 64 at a time: a second", rate(rest, wall_a), rate(rest, wall_b));
    row("… CPU of the gateway", each(cpu_a, rest), each(cpu_b, rest));
    row("… CPU of the store", "".into(), format!("{cpu_store:.1} µs"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let bytes = (used_memory(&redis) - before) / rest as f64;
    row("memory of the store for each pin", "".into(), format!("{bytes:.0} bytes"));

    let calls = commands(&redis);
    let holds_a = holds(&file, pins).await;
    let holds_b = holds(&shared, pins).await;
    row("a held session: CPU", each(holds_a, HOLDS), each(holds_b, HOLDS));
    row("… ratio", "1".into(), format!("{:.2}", holds_b / holds_a));
    let calls = commands(&redis) - calls;
    row("… questions to the store while 2,000,000 were held", "".into(), format!("{calls}"));

    let heard = moves(&shared, &other).await;
    row("a move is known on another gateway: p50", "".into(), format!("{:.0} µs", heard.p(0.5)));
    row("… p99", "".into(), format!("{:.0} µs", heard.p(0.99)));
    file.close().await;
}

fn row(what: &str, file: String, shared: String) {
    println!("| {what} | {file} | {shared} |");
}

fn each(seconds: f64, rounds: usize) -> String {
    format!("{:.3} µs", seconds * 1e6 / rounds as f64)
}

fn rate(rounds: usize, seconds: f64) -> String {
    format!("{:.0}", rounds as f64 / seconds)
}

async fn connect(redis: &Redis) -> Store {
    let address = Address::parse(&redis.url()).expect("a URL");
    let clock = Arc::new(SystemClock::new());
    let (store, connected) = Store::connect(address, WhenAway::Refuse, clock, Arc::new(Deaf)).await;
    connected.expect("a connection");
    let kept = store.clone();
    tokio::spawn(async move { kept.keep().await });
    store
}

/// Sorted times, in µs, and the CPU of this process for each.
struct Times {
    sorted: Vec<f64>,
    cpu: f64,
}

impl Times {
    fn p(&self, part: f64) -> f64 {
        self.sorted[((self.sorted.len() - 1) as f64 * part) as usize]
    }
}

async fn times<F: Future<Output = ()>>(rounds: usize, f: impl Fn(usize) -> F) -> Times {
    let (mut sorted, begun) = (Vec::with_capacity(rounds), cpu());
    for n in 0..rounds {
        let start = wall();
        f(n).await;
        sorted.push((wall() - start) * 1e6);
    }
    let cpu = (cpu() - begun) * 1e6 / rounds as f64;
    sorted.sort_by(f64::total_cmp);
    Times { sorted, cpu }
}

/// Claims one at a time; and the CPU of the store for each, in µs.
async fn alone(store: &Store, from: usize, redis: &Redis) -> (Times, f64) {
    let begun = store_cpu(redis);
    let times = times(ALONE, |n| claim(store, from + n)).await;
    (times, (store_cpu(redis) - begun) * 1e6 / ALONE as f64)
}

/// Claims 64 at a time: wall and CPU seconds.
async fn many(store: &Store, from: usize, rounds: usize) -> (f64, f64) {
    let next = Arc::new(AtomicUsize::new(0));
    let (begun_wall, begun) = (wall(), cpu());
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (store, next) = (store.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Relaxed);
                    if n >= rounds {
                        return;
                    }
                    claim(&store, from + n).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    (wall() - begun_wall, cpu() - begun)
}

/// Look-ups all over the map: CPU seconds.
async fn holds(store: &Store, pins: usize) -> f64 {
    let some = pins.min(100_000);
    let keys: Vec<_> = (0..some).map(|n| pin(n * 7919 % pins).key()).collect();
    let begun = cpu();
    for n in 0..HOLDS {
        let claim = store.hold(keys[n % some]).await.expect("no fault").expect("a live pin");
        claim.receipt.settled().await.expect("written");
    }
    cpu() - begun
}

/// How long until a move on one gateway is known on another, from when it is
/// known on the first.
async fn moves(one: &Store, other: &Store) -> Times {
    for n in 0..MOVES {
        other.find(pin(n).key()).await.expect("no fault").expect("a live pin");
    }
    times(MOVES, |n| async move {
        let key = pin(n).key();
        let seen = other.peek(key).expect("a live pin").version;
        let mut to = pin(n);
        to.exit.id = "198.51.100.200".into();
        let moved = one.repin(key, seen, Only::Anyhow, to).await.expect("no fault").expect("a live pin");
        assert!(moved.won);
        while other.peek(key).is_none_or(|pin| pin.version == seen) {
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn claim(store: &Store, n: usize) {
    let pin = pin(n);
    let claim = store.claim(pin.key(), pin).await.expect("a store");
    claim.receipt.settled().await.expect("a store");
    store.announce(claim.pin.key(), claim.pin.version).await;
}

fn pin(n: usize) -> Pin {
    let now = SystemClock::new().now();
    Pin {
        user: ["acme-crawler", "beta"][n % 2].into(),
        session: SessionId::new(&format!("s{n:011}")).expect("printable"),
        filter: Filter::default(),
        exit: ExitName { pool: "us".into(), id: format!("198.51.100.{}", n % 100).as_str().into() },
        variant: Variant::None,
        via: 0x5eed,
        made: now,
        expires: now.plus(Duration::from_secs(24 * 3600)),
        idle: None,
        used: now,
        rest_s: 0,
        moves: 0,
        same_address: false,
        version: 0,
    }
}

fn seconds(clock: ClockId) -> f64 {
    Duration::try_from(clock_gettime(clock)).expect("after boot").as_secs_f64()
}

fn wall() -> f64 {
    seconds(ClockId::Monotonic)
}

/// Of this process.
fn cpu() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn info(redis: &Redis, section: &str, key: &str) -> f64 {
    let text: String = redis.ask(&["INFO", section]);
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or("0");
    value.trim().parse().expect("a number")
}

fn store_cpu(redis: &Redis) -> f64 {
    info(redis, "cpu", "used_cpu_sys") + info(redis, "cpu", "used_cpu_user")
}

fn used_memory(redis: &Redis) -> f64 {
    info(redis, "memory", "used_memory")
}

/// Scripts that the store has run.
fn commands(redis: &Redis) -> u64 {
    let text: String = redis.ask(&["INFO", "commandstats"]);
    let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap_or("0,");
    line.split(',').next().unwrap_or("0").parse().expect("a number")
}
