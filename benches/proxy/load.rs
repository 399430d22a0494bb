//! The clients: tunnels and plain requests, so many at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base64::Engine as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::origin::{BODY, DOWN, UP};
use crate::peers::SECRET;

/// Clients at a time.
const AT_ONCE: u64 = 8;

/// Whom a client asks for what.
#[derive(Clone, Copy)]
pub(crate) struct Through {
    pub(crate) proxy: SocketAddr,
    pub(crate) origin: SocketAddr,
}

/// The username of the `n`-th tunnel or request.
pub(crate) type Name = fn(u64) -> String;

/// Runs `all` tunnels, one after the other for each client: connect, CONNECT,
/// 500 bytes up, 5 kB down, close.
pub(crate) async fn tunnels(through: Through, all: u64, name: Name) {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE.min(all) {
        let next = next.clone();
        clients.spawn(async move {
            while let Some(n) = Some(next.fetch_add(1, Relaxed)).filter(|n| *n < all) {
                drop(tunnel(through, &name(n)).await);
            }
        });
    }
    clients.join_all().await;
}

/// Opens `all` tunnels, uses each once and leaves it open.
pub(crate) async fn idle_tunnels(through: Through, all: u64, name: Name) -> Vec<TcpStream> {
    let (mut open, mut clients) = (Vec::new(), JoinSet::new());
    for n in 0..all {
        if clients.len() >= 64 {
            open.extend(clients.join_next().await.expect("there are some").ok());
        }
        clients.spawn(async move { tunnel(through, &name(n)).await });
    }
    open.extend(clients.join_all().await);
    open
}

/// A tunnel that has carried its bytes.
async fn tunnel(Through { proxy, origin }: Through, user: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy accepts");
    stream.set_nodelay(true).expect("it is connected");
    let credential = credential(user);
    let head =
        format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\nUser-Agent: bench/1\r\n{credential}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("the proxy reads");
    let mut bytes = Vec::with_capacity(DOWN);
    while !bytes.ends_with(b"\r\n\r\n") {
        let read = stream.read_buf(&mut bytes).await.expect("the proxy answers");
        assert!(read > 0, "the proxy broke off: {}", String::from_utf8_lossy(&bytes));
    }
    assert!(bytes.get(8..12) == Some(b" 200"), "{}", String::from_utf8_lossy(&bytes));
    stream.write_all(&[b'u'; UP]).await.expect("the tunnel takes");
    bytes.clear();
    while bytes.len() < DOWN {
        assert!(stream.read_buf(&mut bytes).await.expect("the tunnel gives") > 0, "the tunnel broke off");
    }
    stream
}

/// Runs `all` plain requests, each client on one connection for as long as
/// the proxy keeps it.
pub(crate) async fn requests(through: Through, all: u64, name: Name) {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE.min(all) {
        let next = next.clone();
        clients.spawn(async move {
            let mut kept = None;
            while let Some(n) = Some(next.fetch_add(1, Relaxed)).filter(|n| *n < all) {
                kept = request(through, kept, &name(n)).await;
            }
        });
    }
    clients.join_all().await;
}

/// One request; the connection, if it may carry another.
async fn request(through: Through, kept: Option<TcpStream>, user: &str) -> Option<TcpStream> {
    // One that was kept may be closed without a word.
    if let Some(stream) = kept
        && let Ok(next) = exchange(through, stream, user).await
    {
        return next;
    }
    let stream = TcpStream::connect(through.proxy).await.expect("the proxy accepts");
    stream.set_nodelay(true).expect("it is connected");
    exchange(through, stream, user).await.expect("the proxy answers")
}

async fn exchange(
    Through { origin, .. }: Through,
    mut stream: TcpStream,
    user: &str,
) -> io::Result<Option<TcpStream>> {
    let credential = credential(user);
    let head = format!(
        "GET http://{origin}/page HTTP/1.1\r\nHost: {origin}\r\nUser-Agent: bench/1\r\nAccept: */*\r\n{credential}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::with_capacity(4096);
    let end = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    assert!(head.get(8..12) == Some(" 200"), "{head}");
    while bytes.len() < end + BODY {
        assert!(stream.read_buf(&mut bytes).await? > 0, "the answer broke off");
    }
    let closes = head.contains("connection: close") || head.starts_with("http/1.0");
    Ok((!closes).then_some(stream))
}

fn credential(user: &str) -> String {
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{SECRET}"));
    format!("Proxy-Authorization: Basic {both}")
}
