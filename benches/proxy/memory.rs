//! W5: what idle tunnels hold, what they cost, and what is left of them.

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cost::{self, Kernel};
use crate::load::{AT_ONCE, Meter, Through, short};
use crate::origin::Service;
use crate::peers::{Kind, Peer};
use crate::workloads::{Load, name_for};

/// Idle tunnels at a time.
const TUNNELS: u64 = 9_000;
/// Each tunnel has carried its bytes by then, and each that closed is gone.
const SETTLE: Duration = Duration::from_secs(1);
/// How long they are watched while they do nothing.
const WATCHED: Duration = Duration::from_secs(3);

/// What was found of one proxy.
pub(crate) struct Memory {
    pub(crate) name: String,
    /// Bytes of a tunnel, resident in the process.
    pub(crate) resident: f64,
    /// Bytes of a tunnel, in the kernel.
    pub(crate) kernel: f64,
    /// CPU while all were idle, in microseconds a second.
    pub(crate) idle_micros: f64,
    /// Resident bytes after all have closed, more than at the start.
    pub(crate) left: f64,
}

/// Each in a fresh process: what was freed before would be used again unseen.
pub(crate) async fn measure(rivals: &[Kind], folder: &Path) -> Vec<Memory> {
    let mut found = Vec::new();
    for kind in rivals.iter().filter(|kind| kind.serves(Service::Short)) {
        let peer = kind.start(&folder.join(format!("memory-{}", found.len())));
        found.push(one(&peer).await);
        eprint!(".");
    }
    found
}

async fn one(peer: &Peer) -> Memory {
    let through = peer.through(name_for(peer.kind, Load::Tunnels(TUNNELS)));
    // What is made once is made by then.
    drop(open(through, 64).await);
    tokio::time::sleep(SETTLE).await;
    let (resident, kernel) = (cost::resident(peer.pid()), Kernel::now());
    let tunnels = open(through, TUNNELS).await;
    tokio::time::sleep(SETTLE).await;
    let (full, kernel_full) = (cost::resident(peer.pid()), Kernel::now());
    let mut meter = Meter::new(peer.pid());
    meter.begin();
    tokio::time::sleep(WATCHED).await;
    meter.end().await;
    drop(tunnels);
    tokio::time::sleep(SETTLE).await;
    let grown = |before: u64, after: u64| after as f64 - before as f64;
    let each = |before: u64, after: u64| grown(before, after) / TUNNELS as f64;
    Memory {
        name: peer.name.clone(),
        resident: each(resident, full),
        kernel: each(kernel.shared, kernel_full.shared) / 2.0 + each(kernel.own, kernel_full.own),
        idle_micros: meter.seconds() * 1e6 / WATCHED.as_secs_f64(),
        left: grown(resident, cost::resident(peer.pid())),
    }
}

/// So many tunnels that have carried their bytes and stay.
async fn open(through: Through, all: u64) -> Vec<TcpStream> {
    let (mut tunnels, mut opening) = (Vec::new(), JoinSet::new());
    for n in 0..all {
        if opening.len() as u64 >= AT_ONCE {
            tunnels.extend(opening.join_next().await.expect("there are some").ok());
        }
        opening.spawn(short::one(through, n));
    }
    tunnels.extend(opening.join_all().await);
    tunnels
}
