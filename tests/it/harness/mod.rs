//! What every test stands on.
//!
//! Owns: the gateway as a process, its peers, and the bounds of waiting.
//! Must not know: what a single test is about.

pub mod browser;
pub mod client;
pub mod cut;
pub mod gateway;
pub mod heir;
pub mod http2;
pub mod load;
pub mod log;
pub mod measure;
pub mod names;
pub mod namespace;
pub mod operator;
pub mod origin;
pub mod programs;
pub mod recorder;
pub mod redis;
pub mod request;
pub mod setup;
pub mod socks;
pub mod target;
pub mod tls;
pub mod upstream;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub use client::{Answer, Client};
pub use gateway::Gateway;
pub use heir::Heir;
pub use origin::Origin;
pub use request::{PASSWORD, basic};
pub use setup::Setup;
pub use target::Target;
pub use upstream::{Mood, Upstream};

/// The longest that any test waits for anything. Far above what is promised,
/// for the machine may be busy; a promise about time is asserted by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where the peers live. Tests themselves are plain blocking code.
pub static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
});

/// A loopback address that no other peer has. With an address of its own a
/// peer may close its port and come back to it.
pub fn own_address() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let pid = std::process::id();
    let process = (pid % 64) as u8;
    IpAddr::V4(Ipv4Addr::new(127, 64 + process, (pid / 64 % 64) as u8 * 4 + high % 4, low))
}

/// Asks again and again until `poll` says something; fails after `within`.
/// For what cannot be awaited: another program's state.
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
