//! W5: what idle tunnels hold, what they cost, and what is left of them.

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::kernel::Account;
use crate::load::{AT_ONCE, Meter, Through, short};
use crate::origin::Service;
use crate::peers::{Kind, Peer};
use crate::workloads::{Load, name_for};

/// Idle tunnels at a time.
const TUNNELS: u64 = 9_000;
/// Each tunnel has carried its bytes by then, and each that closed is gone.
const SETTLE: Duration = Duration::from_secs(1);
/// How long they are watched while they do nothing.
const WATCHED: Duration = Duration::from_secs(1);

/// What was found of one proxy.
pub(crate) struct Memory {
    pub(crate) name: String,
    /// Bytes of a tunnel, resident in the process.
    pub(crate) resident: f64,
    /// Bytes of a tunnel, in the kernel.
    pub(crate) kernel: f64,
    /// Whether the kernel's part is as the kernel counts it, and no estimate.
    pub(crate) exact: bool,
    /// CPU while there was no tunnel, and while all were idle, in microseconds
    /// a second.
    pub(crate) idle: (f64, f64),
    /// Resident bytes after all have closed, more than at the start.
    pub(crate) left: f64,
}

/// Each in a fresh process: what was freed before would be used again unseen.
pub(crate) async fn measure(rivals: &[Kind], folder: &Path) -> Vec<Memory> {
    let mut found = Vec::new();
    for kind in rivals.iter().filter(|kind| kind.serves(Service::Short)) {
        let mut peer = kind.start(&folder.join(format!("memory-{}", found.len())));
        let account = Account::open(peer.pid());
        found.push(one(&peer, &account).await);
        peer.stop();
        eprint!(".");
    }
    found
}

async fn one(peer: &Peer, account: &Account) -> Memory {
    let through = peer.through(name_for(peer.kind, Load::Tunnels(TUNNELS)));
    // What is made once is made by then.
    drop(open(through, 64).await);
    tokio::time::sleep(SETTLE).await;
    let nothing = watch(peer).await;
    let before = account.now();
    let tunnels = open(through, TUNNELS).await;
    tokio::time::sleep(SETTLE).await;
    let full = account.now();
    let all = watch(peer).await;
    drop(tunnels);
    tokio::time::sleep(SETTLE).await;
    Memory {
        name: peer.name.clone(),
        resident: full.resident_since(before) / TUNNELS as f64,
        kernel: full.kernel_since(before) / TUNNELS as f64,
        exact: account.is_exact(),
        idle: (nothing, all),
        left: account.now().resident_since(before),
    }
}

/// CPU of a proxy that has nothing to do, in microseconds a second.
async fn watch(peer: &Peer) -> f64 {
    let mut meter = Meter::new(peer.pid());
    meter.begin();
    tokio::time::sleep(WATCHED).await;
    meter.end().await;
    meter.seconds() * 1e6 / WATCHED.as_secs_f64()
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
