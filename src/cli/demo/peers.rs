//! The demo's other side: an origin, small upstream proxies, a client.
//!
//! Owns: just enough of HTTP for the story.
//! Must not know: the gateway.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// Longer heads do not occur here.
const MOST_HEAD: usize = 8 * 1024;

/// Ends its task when dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers every request with the address that it came from.
pub(super) struct Origin {
    address: SocketAddr,
    _task: Task,
}

impl Origin {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(answer(stream, peer.ip()));
            }
        });
        Ok(Self { address, _task: Task(task) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn answer(mut stream: TcpStream, peer: IpAddr) -> Result<()> {
    read_head(&mut stream).await?;
    let body = peer.to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await?;
    Ok(())
}

/// Upstream HTTP proxies, each leaving from an address of its own.
pub(super) struct Exits(Vec<(SocketAddr, Ipv4Addr, Option<Task>)>);

impl Exits {
    pub(super) async fn start(count: usize) -> Result<Self> {
        let mut exits = Vec::new();
        for n in 0..count {
            let source = Ipv4Addr::new(127, 0, 0, 11 + u8::try_from(n)?);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            let task = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(tunnel(stream, source));
                }
            });
            exits.push((address, source, Some(Task(task))));
        }
        Ok(Self(exits))
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(address, ..)| *address)
    }

    /// Stops the exit that leaves from this address.
    pub(super) fn stop(&mut self, source: &str) -> Result<()> {
        let found = self.0.iter_mut().find(|(_, own, _)| own.to_string() == source);
        let (.., task) = found.with_context(|| format!("no exit leaves from {source}"))?;
        *task = None;
        Ok(())
    }
}

async fn tunnel(mut client: TcpStream, source: Ipv4Addr) -> Result<()> {
    let head = read_head(&mut client).await?;
    let target: SocketAddr = head.split(' ').nth(1).context("no target")?.parse()?;
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let mut upstream = socket.connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

/// Reads byte by byte, so that nothing behind the head is taken.
async fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < MOST_HEAD, "a head of more than {MOST_HEAD} bytes");
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

/// What a client learns.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// The address that the origin saw.
    pub(super) origin_saw: String,
    /// The first word of `Moorgate-Session`.
    pub(super) session: String,
}

/// Fetches `/` of the origin in a tunnel of its own.
pub(super) async fn fetch(
    gateway: SocketAddr,
    username: &str,
    secret: &str,
    origin: SocketAddr,
) -> Result<Reply> {
    let credential = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{secret}"));
    let mut stream = TcpStream::connect(gateway).await.context("the gateway cannot be reached")?;
    let connect = format!(
        "CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\nProxy-Authorization: Basic {credential}\r\n\r\n"
    );
    stream.write_all(connect.as_bytes()).await?;
    let head = read_head(&mut stream).await?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("{username}: {}", head.lines().next().unwrap_or_default());
    }
    let session = head
        .lines()
        .find_map(|line| line.strip_prefix("Moorgate-Session: "))
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .to_owned();
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {origin}\r\n\r\n").as_bytes()).await?;
    read_head(&mut stream).await?;
    let mut origin_saw = String::new();
    stream.read_to_string(&mut origin_saw).await?;
    Ok(Reply { origin_saw, session })
}
