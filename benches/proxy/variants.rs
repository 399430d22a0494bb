//! W1 in other circumstances, each beside what it is compared with.

use std::path::Path;
use std::time::Duration;

use crate::cost;
use crate::load::{Name, plain};
use crate::options::Options;
use crate::peers::{Kind, Peer, Setup, USER};
use crate::samples::Samples;
use crate::workloads::{Load, live, none};

/// A proxy, how it is set up, and who its clients are.
pub(crate) struct Variant {
    /// What it is, in the table; unique.
    pub(crate) what: &'static str,
    /// What it is compared with.
    pub(crate) to: &'static str,
    pub(crate) kind: Kind,
    name: Name,
    /// What it may cost, to that.
    pub(crate) goal: Option<f64>,
}

pub(crate) const USUAL: &str = "a live session among few";
pub(crate) const FRESH: &str = "a new session each";
const FREE: &str = "no session";
const UPSTREAM_LIMIT: &str = "limit, through an upstream HTTP proxy";
const TUNNELS: u64 = 1_000;
/// Live sessions of the row that has many.
const SESSIONS: u64 = 100_000;

/// What a quick run has for this.
const SHARE: Duration = Duration::from_secs(35);

pub(crate) const VARIANTS: [Variant; 9] = [
    Variant { what: USUAL, to: USUAL, kind: Kind::Moorgate(Setup::Usual), name: live, goal: None },
    Variant { what: FREE, to: USUAL, kind: Kind::Moorgate(Setup::Usual), name: none, goal: None },
    Variant { what: FRESH, to: USUAL, kind: Kind::Moorgate(Setup::Usual), name: fresh, goal: None },
    Variant {
        what: "100,000 live sessions",
        to: FREE,
        kind: Kind::Moorgate(Setup::Full),
        name: filled,
        goal: Some(1.02),
    },
    Variant {
        what: "access log on",
        to: USUAL,
        kind: Kind::Moorgate(Setup::Logging),
        name: live,
        goal: Some(1.06),
    },
    Variant {
        what: "argon2 secret",
        to: USUAL,
        kind: Kind::Moorgate(Setup::Argon2),
        name: live,
        goal: Some(1.01),
    },
    Variant {
        what: "64 source addresses",
        to: USUAL,
        kind: Kind::Moorgate(Setup::Addresses),
        name: live,
        goal: Some(1.04),
    },
    Variant { what: UPSTREAM_LIMIT, to: UPSTREAM_LIMIT, kind: Kind::LimitUpstream, name: none, goal: None },
    Variant {
        what: "through an upstream HTTP proxy",
        to: UPSTREAM_LIMIT,
        kind: Kind::Moorgate(Setup::Upstream),
        name: live,
        goal: Some(1.10),
    },
];

fn fresh(_: u64) -> String {
    format!("{USER}-session-{:016x}-ttl-1h", rand::random::<u64>())
}

/// One of many live sessions, in no order that a cache would like.
fn filled(n: u64) -> String {
    format!("{USER}-session-{:08}-ttl-1h", n * 7_919 % SESSIONS)
}

/// What was found.
pub(crate) struct Variants {
    /// Microseconds of CPU for each tunnel.
    pub(crate) samples: Samples,
    /// Bytes that a live session holds in the process.
    pub(crate) pin_bytes: f64,
}

/// In interleaved rounds.
pub(crate) async fn measure(options: &Options, folder: &Path) -> Variants {
    let mut peers: Vec<Peer> = Vec::new();
    for variant in &VARIANTS {
        if peers.iter().all(|peer| peer.kind != variant.kind) {
            peers.push(variant.kind.start(&folder.join(format!("variant-{}", peers.len()))));
        }
    }
    let of = |kind: Kind| peers.iter().find(|peer| peer.kind == kind).expect("it was started");
    let pin_bytes = fill(of(Kind::Moorgate(Setup::Full))).await;
    let mut samples = Samples::default();
    // The first round only warms up.
    for round in options.rounds(SHARE) {
        for variant in &VARIANTS {
            let peer = of(variant.kind);
            let figure = Load::Tunnels(TUNNELS).run(peer.through(variant.name), peer.pid()).await;
            if round > 0 {
                samples.push(variant.what, variant.kind, figure);
            }
        }
        eprint!(".");
    }
    Variants { samples, pin_bytes }
}

/// Makes the many sessions; what each holds.
async fn fill(peer: &Peer) -> f64 {
    let get = |all| Load::Plain(plain::Request::Get(1), all);
    // What is made once is made by then.
    get(2_000).run(peer.through(none), peer.pid()).await;
    let before = cost::resident(peer.pid());
    get(SESSIONS).run(peer.through(filled), peer.pid()).await;
    (cost::resident(peer.pid()) as f64 - before as f64) / SESSIONS as f64
}
