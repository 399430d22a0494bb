//! What pins cost: time and memory of claims, holds and a restart, with a
//! million pins on disk. `cargo bench --bench pins [-- PINS]`.
//!
//! Figures, no judgement: they go to `docs/`.
#![expect(clippy::expect_used, reason = "a bench may stop where it cannot go on")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use moorgate::clock::{Clock, SystemClock};
use moorgate::core::pin::{ExitName, Pin, Variant};
use moorgate::core::session::{Filter, SessionId, SessionKey};
use moorgate::core::time::Timestamp;
use moorgate::store::{Durability, Left, PinObserver, Store, StoreConfig};
use rustix::time::{ClockId, clock_gettime};

const PINS: usize = 1_000_000;
const LIFE: Duration = Duration::from_secs(24 * 3600);

struct Deaf;

impl PinObserver for Deaf {
    fn loaded(&self, _: &Pin) {}
    fn left(&self, _: &Pin, _: Timestamp, _: Left) {}
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match (args.next().as_deref(), args.next(), args.next()) {
        (Some("memory"), Some(pins), _) => in_memory(number(&pins)),
        (Some("make"), Some(pins), Some(folder)) => make(Path::new(&folder), number(&pins)),
        (Some("restart"), Some(_), Some(folder)) => restart(Path::new(&folder)),
        (pins, ..) => whole(pins.map_or(PINS, number)),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number of pins")
}

/// Each part in a process of its own, so that nothing of another is in its
/// memory.
fn whole(pins: usize) {
    println!("{pins} pins of 2 users through 100 exits, session ids of 12 characters; {} CPUs", cpus());
    let folder = std::env::temp_dir().join(format!("moorgate-bench-{}", std::process::id()));
    for part in ["memory", "make", "restart"] {
        let mut program = Command::new(std::env::current_exe().expect("this program"));
        let status = program.args([part, &pins.to_string()]).arg(&folder).status();
        assert!(status.expect("a second process").success());
    }
    std::fs::remove_dir_all(&folder).expect("the bench's own folder");
}

fn in_memory(pins: usize) {
    let before = resident();
    let (store, _) = open(None);
    let claims = measure(1, pins, |n| claim(&store, n));
    report("claim in memory, one at a time", &claims, pins);
    bytes_each("resident without a disk, since before", resident() - before, pins);
}

fn make(folder: &Path, pins: usize) {
    let (store, _) = open(Some(folder.to_owned()));
    let alone = (pins / 20).min(50_000);
    let claims = measure(1, alone, |n| claim(&store, n));
    report("claim on disk, one at a time, each awaited", &claims, alone);
    let rest = pins - alone;
    let claims = measure(64, rest, |n| claim(&store, alone + n));
    report("claim on disk, 64 at a time, each awaited", &claims, rest);
    bytes_each("resident after that, all in", resident(), pins);
    bytes_each("size on disk", size(folder), pins);
    holds(&store, pins);
    runtime().block_on(store.close());
}

fn restart(folder: &Path) {
    let start = Cost::now();
    let (store, pins) = open(Some(folder.to_owned()));
    let cost = start.passed();
    println!("restart with {pins} pins: wall {:.2} s, CPU {:.2} s", cost.wall, cost.cpu);
    bytes_each("resident after a restart, all in", resident(), pins);
    holds(&store, pins);
    runtime().block_on(store.close());
}

/// Look-ups of sessions all over the map, and of a few that stay in the
/// processor's cache.
fn holds(store: &Store, pins: usize) {
    let keys: Vec<_> = (0..pins).map(|n| key(n * 7919 % pins)).collect();
    for (what, keys) in [("any", &keys[..]), ("one of 1000", &keys[..pins.min(1000)])] {
        for threads in [1, 2] {
            let rounds = 2_000_000;
            let cost = measure_on(threads, threads, rounds, |n| {
                let key = keys[n % keys.len()];
                async move {
                    let claim = store.hold(key).await.expect("no fault").expect("a live pin");
                    claim.receipt.settled().await.expect("written");
                }
            });
            report(&format!("hold of {what}, {threads} thread(s)"), &cost, rounds);
        }
    }
}

async fn claim(store: &Store, n: usize) {
    let pin = pin(n);
    let claim = store.claim(key(n), pin).await.expect("room on the disk");
    claim.receipt.settled().await.expect("room on the disk");
}

fn open(folder: Option<PathBuf>) -> (Store, usize) {
    let config = StoreConfig { folder, durability: Durability::Journal };
    let (store, report) =
        Store::open(config, Arc::new(SystemClock::new()), Arc::new(Deaf)).expect("a folder to write to");
    assert_eq!(report.damage, []);
    (store, report.pins)
}

/// A session id of 12 characters; keys are spread as digests are, and cheaper.
fn key(n: usize) -> SessionKey {
    let a = (n as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(b ^ (b >> 32)).to_le_bytes());
    bytes[8..].copy_from_slice(&a.swap_bytes().to_le_bytes());
    SessionKey::from_bytes(bytes)
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
        expires: now.plus(LIFE),
        idle: None,
        used: now,
        rest_s: 0,
        moves: 0,
        same_address: false,
        version: 0,
    }
}

struct Cost {
    wall: f64,
    cpu: f64,
}

impl Cost {
    fn now() -> Self {
        let seconds = |id| Duration::try_from(clock_gettime(id)).expect("after boot").as_secs_f64();
        Self { wall: seconds(ClockId::Monotonic), cpu: seconds(ClockId::ProcessCPUTime) }
    }

    fn passed(&self) -> Self {
        let now = Self::now();
        Self { wall: now.wall - self.wall, cpu: now.cpu - self.cpu }
    }
}

fn measure<F: Future<Output = ()>>(
    tasks: usize,
    rounds: usize,
    f: impl Fn(usize) -> F + Send + Sync,
) -> Cost {
    measure_on(cpus(), tasks, rounds, f)
}

/// `rounds` calls by so many tasks on so many threads.
fn measure_on<F: Future<Output = ()>>(
    threads: usize,
    tasks: usize,
    rounds: usize,
    f: impl Fn(usize) -> F + Send + Sync,
) -> Cost {
    let next = AtomicUsize::new(0);
    let turn = || {
        let n = next.fetch_add(1, Relaxed);
        (n < rounds).then(|| f(n))
    };
    let start = Cost::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let turn = &turn;
            let tasks = tasks / threads + usize::from(thread < tasks % threads);
            scope.spawn(move || {
                let all = (0..tasks).map(|_| async {
                    while let Some(call) = turn() {
                        call.await;
                    }
                });
                runtime().block_on(join_all(all.collect()));
            });
        }
    });
    start.passed()
}

/// Polls all until all are done, those that were woken and those that were
/// not: cheap enough for 64.
async fn join_all<F: Future<Output = ()>>(tasks: Vec<F>) {
    let mut tasks: Vec<_> = tasks.into_iter().map(|task| Some(Box::pin(task))).collect();
    std::future::poll_fn(|cx| {
        for task in &mut tasks {
            if task.as_mut().is_some_and(|task| task.as_mut().poll(cx).is_ready()) {
                *task = None;
            }
        }
        match tasks.iter().all(Option::is_none) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn report(what: &str, cost: &Cost, rounds: usize) {
    let micros = |seconds: f64| seconds * 1e6 / rounds as f64;
    println!("{what}: wall {:.3} us, CPU {:.3} us each", micros(cost.wall), micros(cost.cpu));
}

fn bytes_each(what: &str, bytes: usize, pins: usize) {
    println!("{what}: {} MiB, {} bytes a pin", bytes >> 20, bytes / pins.max(1));
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// What a folder takes on disk, in bytes.
fn size(folder: &Path) -> usize {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.blocks() as usize * 512,
            Err(_) => 0,
        })
        .sum()
}
