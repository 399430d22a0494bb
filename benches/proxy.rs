//! What a tunnel and a plain request cost, beside other proxies.
//!
//!     cargo bench --bench proxy                 # about a minute
//!     cargo bench --bench proxy -- --write      # and into docs/performance.md
//!     cargo bench --bench proxy -- --rounds 20 --only moorgate
//!     cargo bench --bench proxy -- --calls      # the system calls of a tunnel, by strace
//!
//! The real binary runs with a live session beside Squid and tinyproxy, where
//! they are installed, all over loopback: an origin and the clients are in
//! this process. What is measured is the CPU time, user and system, of the
//! proxy's own processes. Rounds are interleaved, so that what else the
//! machine does falls on all alike; the figures are medians, and ratios are
//! medians of each round's ratio. Nothing is asserted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::time::Duration;

use crate::cost::Kernel;
use crate::load::{Name, Through};
use crate::peers::{Kind, Peer, USER};
use crate::report::{Cell, Column, Report};

#[path = "proxy/calls.rs"]
mod calls;
#[path = "proxy/cost.rs"]
mod cost;
#[path = "proxy/load.rs"]
mod load;
#[path = "proxy/origin.rs"]
mod origin;
#[path = "proxy/peers.rs"]
mod peers;
#[path = "proxy/report.rs"]
mod report;

/// What is left over from a load is over by then.
const SETTLE: Duration = Duration::from_millis(50);
/// Idle tunnels at a time.
const IDLE: u64 = 2_000;

/// A kind of load.
struct Workload {
    what: &'static str,
    units: u64,
    kind: Load,
    name: Name,
    /// Whether it means anything to a proxy without sessions.
    for_all: bool,
}

#[derive(Clone, Copy)]
enum Load {
    Tunnels,
    Requests,
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        what: "CONNECT tunnel, live session",
        units: 800,
        kind: Load::Tunnels,
        name: live,
        for_all: true,
    },
    Workload { what: "… without a session", units: 800, kind: Load::Tunnels, name: none, for_all: false },
    Workload { what: "… a new session each", units: 800, kind: Load::Tunnels, name: fresh, for_all: false },
    Workload {
        what: "plain GET of 1 kB, keep-alive",
        units: 4_000,
        kind: Load::Requests,
        name: live,
        for_all: true,
    },
];

impl Workload {
    /// How many are run in a round. tinyproxy writes a head in pieces, and so
    /// each of its clients waits for delayed acknowledgements.
    fn units(&self, peer: &Peer) -> u64 {
        if peer.kind == Kind::Tinyproxy { self.units / 8 } else { self.units }
    }
}

/// Always the same session.
fn live(_: u64) -> String {
    format!("{USER}-session-cart42-ttl-1h")
}

fn none(_: u64) -> String {
    USER.to_owned()
}

fn fresh(_: u64) -> String {
    format!("{USER}-session-{:016x}-ttl-1h", rand::random::<u64>())
}

struct Options {
    rounds: usize,
    write: bool,
    calls: bool,
    only: Option<String>,
}

impl Options {
    /// None where this is run for another reason than to measure.
    fn read() -> Option<Self> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        // Cargo says so when it runs benchmarks, and not when it runs tests.
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let value = |flag: &str| {
            let at = arguments.iter().position(|argument| argument == flag)?;
            arguments.get(at + 1).cloned()
        };
        let rounds = value("--rounds").map_or(9, |rounds| rounds.parse().expect("--rounds takes a number"));
        let (write, calls) = (has("--write"), has("--calls"));
        has("--bench").then(|| Self { rounds, write, calls, only: value("--only") })
    }

    fn wants(&self, kind: Kind) -> bool {
        match self.only.as_deref() {
            None => true,
            Some("moorgate") => kind == Kind::Moorgate,
            Some(other) => kind.name().is_some_and(|name| name.to_lowercase().starts_with(other)),
        }
    }
}

fn main() {
    let Some(options) = Options::read() else { return };
    cost::raise_descriptor_limit();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().expect("a runtime").block_on(run(&options));
}

async fn run(options: &Options) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (installed, missing): (Vec<_>, Vec<_>) = Kind::ALL
        .into_iter()
        .filter(|kind| options.wants(*kind))
        .map(|kind| (kind, kind.name()))
        .partition(|(_, name)| name.is_some());
    let kinds: Vec<_> = installed.into_iter().filter_map(|(kind, name)| Some((kind, name?))).collect();
    if missing.iter().any(|(kind, _)| *kind == Kind::Squid) {
        println!("squid is not installed: left out");
    }
    if missing.iter().any(|(kind, _)| *kind == Kind::Tinyproxy) {
        println!("tinyproxy is not installed: left out");
    }
    let start = |(at, (kind, name)): (usize, &(Kind, String)), round: &str| {
        kind.start(name, &folder.path().join(format!("{round}-{at}")))
    };
    if options.calls {
        let peer = start((0, &kinds[0]), "calls");
        let through = Through { proxy: peer.address, origin: origin::start().await };
        return calls::show(&peer, through, name_for(&peer, live), fresh).await;
    }

    let peers: Vec<_> = kinds.iter().enumerate().map(|kind| start(kind, "cpu")).collect();
    let mut columns = cpu(&peers, options.rounds).await;
    drop(peers);
    // In fresh processes: what was freed before would be used again unseen.
    for (column, kind) in columns.iter_mut().zip(kinds.iter().enumerate()) {
        let peer = start(kind, "memory");
        if peer.kind != Kind::Logging {
            column.memory = Some(memory(&peer).await);
        }
    }
    let report = Report { rows: WORKLOADS.iter().map(|workload| workload.what).collect(), columns };
    println!("\n{}", report.table());
    if options.write {
        report.write(options.rounds);
    }
}

/// CPU for each unit of each workload, in interleaved rounds.
async fn cpu(peers: &[Peer], rounds: usize) -> Vec<Column> {
    let mut columns: Vec<_> = peers.iter().map(|peer| Column::new(&peer.name, WORKLOADS.len())).collect();
    let mut throughs = Vec::new();
    for peer in peers {
        throughs.push(Through { proxy: peer.address, origin: origin::start().await });
    }
    // The first round only warms up.
    for round in 0..=rounds {
        for (row, workload) in WORKLOADS.iter().enumerate() {
            for (at, peer) in peers.iter().enumerate() {
                if !workload.for_all && !peer.kind.is_moorgate() {
                    continue;
                }
                let before = cost::cpu(peer.pid());
                let (name, units) = (name_for(peer, workload.name), workload.units(peer));
                match workload.kind {
                    Load::Tunnels => load::tunnels(throughs[at], units, name).await,
                    Load::Requests => load::requests(throughs[at], units, name).await,
                }
                tokio::time::sleep(SETTLE).await;
                let spent = cost::cpu(peer.pid()).saturating_sub(before);
                if round > 0 {
                    columns[at].cells[row].push(spent.as_secs_f64() * 1e6 / units as f64);
                }
            }
        }
    }
    columns
}

/// Other proxies know users, but no sessions.
fn name_for(peer: &Peer, name: Name) -> Name {
    if peer.kind.is_moorgate() { name } else { none }
}

/// Resident memory and the kernel's part of an idle tunnel, in bytes.
async fn memory(peer: &Peer) -> (f64, f64) {
    let through = Through { proxy: peer.address, origin: origin::start().await };
    let name = name_for(peer, live);
    load::tunnels(through, 64, name).await;
    tokio::time::sleep(SETTLE).await;
    let (resident, kernel) = (cost::resident(peer.pid()), Kernel::now());
    let open = load::idle_tunnels(through, IDLE, name).await;
    tokio::time::sleep(SETTLE).await;
    let now = (cost::resident(peer.pid()), Kernel::now());
    let grown = |before: u64, after: u64| (after as f64 - before as f64) / IDLE as f64;
    drop(open);
    let kernel = grown(kernel.shared, now.1.shared) / 2.0 + grown(kernel.own, now.1.own);
    (grown(resident, now.0), kernel)
}

/// Middle of a row of samples; not a number without any.
fn median(samples: &Cell) -> f64 {
    let mut sorted = samples.clone();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
