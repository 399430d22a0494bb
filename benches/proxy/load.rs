//! The clients: what they ask for, of whom, and under which name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cost;
use crate::origin::Service;
use crate::peers::SECRET;

#[path = "load/bulk.rs"]
pub(crate) mod bulk;
#[path = "load/open.rs"]
pub(crate) mod open;
#[path = "load/plain.rs"]
pub(crate) mod plain;
#[path = "load/short.rs"]
pub(crate) mod short;

/// Clients at a time, of short tunnels and of plain requests.
pub(crate) const AT_ONCE: u64 = 16;
/// What is left over from a load is over by then.
const SETTLE: Duration = Duration::from_millis(50);

/// Whom a client asks for what.
#[derive(Clone, Copy)]
pub(crate) struct Through {
    /// The proxy's listener for each service; of a real proxy they are one.
    pub(crate) proxy: [SocketAddr; 4],
    pub(crate) origin: [SocketAddr; 4],
    /// Whether it is told where to go. A relay to one backend is not.
    pub(crate) told: bool,
    pub(crate) name: Name,
}

/// The username of the `n`-th tunnel or request.
pub(crate) type Name = fn(u64) -> String;

/// The CPU of a proxy while it is under load.
pub(crate) struct Meter {
    pid: u32,
    before: Duration,
    spent: Duration,
}

impl Meter {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid, before: Duration::ZERO, spent: Duration::ZERO }
    }

    /// Everything is set up; from here on it counts.
    pub(crate) fn begin(&mut self) {
        self.before = cost::cpu(self.pid);
    }

    pub(crate) async fn end(&mut self) {
        tokio::time::sleep(SETTLE).await;
        self.spent = cost::cpu(self.pid).saturating_sub(self.before);
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.spent.as_secs_f64()
    }
}

impl Through {
    pub(crate) fn origin(&self, service: Service) -> SocketAddr {
        self.origin[service as usize]
    }

    pub(crate) async fn connect(&self, service: Service) -> TcpStream {
        let stream = TcpStream::connect(self.proxy[service as usize]).await.expect("the proxy accepts");
        stream.set_nodelay(true).expect("it is connected");
        stream
    }

    /// A tunnel to a service, through a relay of its own where it is not told.
    pub(crate) async fn tunnel(&self, service: Service, n: u64) -> TcpStream {
        let mut stream = self.connect(service).await;
        if !self.told {
            return stream;
        }
        let (target, credential) = (self.origin(service), credential(&(self.name)(n)));
        let head = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: bench/1\r\n{credential}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("the proxy reads");
        let mut bytes = Vec::with_capacity(1024);
        while !bytes.ends_with(b"\r\n\r\n") {
            let read = stream.read_buf(&mut bytes).await.expect("the proxy answers");
            assert!(read > 0, "the proxy broke off: {}", String::from_utf8_lossy(&bytes));
        }
        assert!(bytes.get(8..12) == Some(b" 200"), "{}", String::from_utf8_lossy(&bytes));
        stream
    }

    /// So many tunnels to one service.
    pub(crate) async fn tunnels(&self, service: Service, all: u64) -> Vec<TcpStream> {
        let (mut open, mut opening) = (Vec::new(), JoinSet::new());
        for n in 0..all {
            if opening.len() as u64 >= AT_ONCE {
                open.extend(opening.join_next().await.expect("there are some").ok());
            }
            let this = *self;
            opening.spawn(async move { this.tunnel(service, n).await });
        }
        open.extend(opening.join_all().await);
        open
    }
}

/// Runs `unit` for 0 to `all`, so many at a time; each of those hands on what
/// it keeps from one unit to the next.
async fn each<K: Default + Send + 'static, F: Future<Output = K> + Send>(
    all: u64,
    at_once: u64,
    unit: impl Fn(u64, K) -> F + Clone + Send + 'static,
) {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..at_once.min(all) {
        let (next, unit) = (next.clone(), unit.clone());
        clients.spawn(async move {
            let mut kept = K::default();
            while let Some(n) = Some(next.fetch_add(1, Relaxed)).filter(|n| *n < all) {
                kept = unit(n, kept).await;
            }
        });
    }
    clients.join_all().await;
}

pub(crate) fn credential(user: &str) -> String {
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{SECRET}"));
    format!("Proxy-Authorization: Basic {both}")
}
