//! W7: how long a tunnel takes in all, at half of what a proxy can carry; and
//! how long while Moorgate reads a great many pools again.

use std::path::Path;
use std::time::Duration;

use crate::load::{Meter, Through, open, short};
use crate::options::Options;
use crate::origin::Service;
use crate::peers::{Kind, Peer, Setup};
use crate::samples::{Samples, median};
use crate::workloads::{Load, name_for};

/// Tunnels that show what a proxy can carry.
const SATURATING: u64 = 2_000;
/// What a quick run has for this.
const SHARE: Duration = Duration::from_secs(70);
/// How long the open loop runs in each round.
const PERIOD: Duration = Duration::from_millis(1_500);

/// What was found of each proxy.
pub(crate) struct Latency {
    pub(crate) kinds: Vec<(Kind, String)>,
    /// Rows [`P99`] and [`RATE`].
    pub(crate) samples: Samples,
}

/// Microseconds.
pub(crate) const P99: &str = "p99";
/// Tunnels a second at which it was measured.
pub(crate) const RATE: &str = "rate";

pub(crate) async fn measure(options: &Options, rivals: &[Kind], folder: &Path) -> Latency {
    let start = |(at, kind): (usize, &Kind)| kind.start(&folder.join(format!("latency-{at}")));
    let rivals = rivals.iter().filter(|kind| kind.serves(Service::Short));
    let peers: Vec<Peer> = rivals.enumerate().map(start).collect();
    let mut samples = Samples::default();
    // The first round only warms up.
    for round in options.rounds(SHARE / 2) {
        for peer in &peers {
            let rate = open::saturation(through(peer), SATURATING).await / 2.0;
            if round > 0 {
                samples.push(RATE, peer.kind, rate);
            }
        }
    }
    for _ in options.rounds(SHARE / 2).skip(1) {
        for peer in &peers {
            let rate = samples.median(RATE, peer.kind).expect("it was measured");
            let took = open::run(through(peer), rate, PERIOD).await;
            samples.push(P99, peer.kind, open::p99(&took));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        eprint!(".");
    }
    let kinds = peers.iter().map(|peer| (peer.kind, peer.name.clone())).collect();
    Latency { kinds, samples }
}

fn through(peer: &Peer) -> Through {
    peer.through(name_for(peer.kind, Load::Tunnels(0)))
}

/// How long a reload may take to be seen.
const WINDOW: Duration = Duration::from_secs(3);

/// What a reload of [`Setup::Large`] does to the clients of another pool.
pub(crate) struct Reload {
    /// p99 of the tunnels in windows with and without a reload, in microseconds.
    pub(crate) with: f64,
    pub(crate) without: f64,
    pub(crate) ratio: f64,
    /// From the signal to the log line, in milliseconds.
    pub(crate) took_ms: f64,
    /// CPU that it costs, in milliseconds.
    pub(crate) cpu_ms: f64,
}

pub(crate) async fn reload(options: &Options, folder: &Path) -> Reload {
    let peer = Kind::Moorgate(Setup::Large).start(&folder.join("reload"));
    let through = through(&peer);
    let mut meter = Meter::new(peer.pid());
    short::run(through, SATURATING, &mut meter).await;
    // A tenth of what it can carry: a pause is to be seen, not a crowd.
    let rate = open::saturation(through, SATURATING).await / 10.0;
    let (mut with, mut without, mut ratios, mut took, mut cpu) = (vec![], vec![], vec![], vec![], vec![]);
    for turn in 1..=options.rounds {
        peer.prepare_reload(turn);
        meter.begin();
        let calm = open::p99(&open::run(through, rate, WINDOW).await);
        meter.end().await;
        let usual = meter.seconds();
        let lines = |peer: &Peer| peer.log().matches("pools reloaded").count();
        let before = lines(&peer);
        meter.begin();
        let seen = async {
            let begun = tokio::time::Instant::now();
            peer.reload();
            while lines(&peer) == before && begun.elapsed() < WINDOW {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            begun.elapsed()
        };
        let (tunnels, reloaded) = tokio::join!(open::run(through, rate, WINDOW), seen);
        meter.end().await;
        // Only those that began while it went on.
        let during: Vec<_> = tunnels.into_iter().filter(|tunnel| tunnel.due <= reloaded).collect();
        with.push(open::p99(&during));
        without.push(calm);
        ratios.push(open::p99(&during) / calm);
        took.push(reloaded.as_secs_f64() * 1e3);
        cpu.push((meter.seconds() - usual) * 1e3);
        eprint!(".");
    }
    let middle = |figures| median(figures).unwrap_or(f64::NAN);
    Reload {
        with: middle(with),
        without: middle(without),
        ratio: middle(ratios),
        took_ms: middle(took),
        cpu_ms: middle(cpu),
    }
}
