//! W1 in other circumstances, each beside what it is compared with.

use std::path::Path;

use crate::load::{Name, Through};
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

const USUAL: &str = "a live session among few";
const UPSTREAM_LIMIT: &str = "limit, through an upstream HTTP proxy";
const TUNNELS: u64 = 1_000;

pub(crate) const VARIANTS: [Variant; 8] = [
    Variant { what: USUAL, to: USUAL, kind: Kind::Moorgate(Setup::Usual), name: live, goal: None },
    Variant { what: "no session", to: USUAL, kind: Kind::Moorgate(Setup::Usual), name: none, goal: None },
    Variant {
        what: "a new session each",
        to: USUAL,
        kind: Kind::Moorgate(Setup::Usual),
        name: fresh,
        goal: None,
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

/// Microseconds of CPU for each tunnel, in interleaved rounds.
pub(crate) async fn measure(options: &Options, folder: &Path) -> Samples {
    let mut peers: Vec<Peer> = Vec::new();
    for variant in &VARIANTS {
        if peers.iter().all(|peer| peer.kind != variant.kind) {
            peers.push(variant.kind.start(&folder.join(format!("variant-{}", peers.len()))));
        }
    }
    let mut samples = Samples::default();
    // The first round only warms up.
    for round in 0..=options.rounds {
        for variant in &VARIANTS {
            let peer = peers.iter().find(|peer| peer.kind == variant.kind).expect("it was started");
            let through: Through = peer.through(variant.name);
            let figure = Load::Tunnels(TUNNELS).run(through, peer.pid()).await;
            if round > 0 {
                samples.push(variant.what, variant.kind, figure);
            }
        }
        eprint!(".");
    }
    samples
}
