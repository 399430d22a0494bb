//! Origins that cost the measured proxy nothing: processes of their own, for
//! their descriptors are as many as the proxy's tunnels.
//!
//! Each proxy has one to itself, so that no two share its ports. An origin has
//! a listener for each [`Service`].

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a short tunnel carries up, in bytes.
pub(crate) const UP: usize = 500;
/// What a short tunnel carries down, in bytes.
pub(crate) const DOWN: usize = 5_000;
/// What an origin moves at a time in bulk, in bytes.
pub(crate) const CHUNK: usize = 256 * 1024;

/// What a listener of an origin is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// 500 bytes in, 5 kB out, open until the other side closes.
    Short,
    /// Whatever comes goes back.
    Echo,
    /// An order of nine bytes (see [`Order`]), and then so much of it; again.
    Bulk,
    /// `GET /n` gets n bytes, `POST` gets two once its body has come.
    Http,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Short, Self::Echo, Self::Bulk, Self::Http];
}

/// Which way bulk goes, as the client sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Down,
    Up,
    Both,
}

impl Order {
    pub(crate) fn message(self, bytes: u64) -> [u8; 9] {
        let mut message = [self as u8; 9];
        message[1..].copy_from_slice(&bytes.to_be_bytes());
        message
    }

    fn read(message: [u8; 9]) -> (Self, u64) {
        let bytes = message[1..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let order = [Self::Down, Self::Up, Self::Both].into_iter().find(|order| *order as u8 == message[0]);
        (order.expect("an order"), bytes)
    }
}

/// An origin that runs; it ends with this.
pub(crate) struct Origin {
    child: Child,
    /// In the order of [`Service::ALL`].
    pub(crate) addresses: [SocketAddr; 4],
}

impl Drop for Origin {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Origin {
    pub(crate) fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let mut child = command.arg("origin").stdout(Stdio::piped()).spawn().expect("a second process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("its addresses");
        let addresses: Vec<_> =
            line.split_whitespace().map(|word| word.parse().expect("an address")).collect();
        Self { child, addresses: addresses.try_into().expect("one for each service") }
    }
}

/// What the process of an origin does until it is killed.
pub(crate) async fn serve() {
    let mut listeners = Vec::new();
    for service in Service::ALL {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port");
        listeners.push((service, listener));
    }
    let addresses =
        listeners.iter().map(|(_, listener)| listener.local_addr().expect("it is bound").to_string());
    println!("{}", addresses.collect::<Vec<_>>().join(" "));
    for (service, listener) in listeners {
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A connection that breaks off is the client's to notice.
                tokio::spawn(async move {
                    stream.set_nodelay(true).ok()?;
                    match service {
                        Service::Short => short(stream).await,
                        Service::Echo => echo(stream).await,
                        Service::Bulk => bulk(stream).await,
                        Service::Http => http(stream).await,
                    }
                });
            }
        });
    }
    std::future::pending().await
}

async fn short(mut stream: TcpStream) -> Option<()> {
    let mut bytes = [0; UP];
    stream.read_exact(&mut bytes).await.ok()?;
    stream.write_all(&[b'd'; DOWN]).await.ok()?;
    while stream.read(&mut bytes).await.ok()? > 0 {}
    Some(())
}

async fn echo(mut stream: TcpStream) -> Option<()> {
    let mut bytes = [0; 512];
    loop {
        let read = some(stream.read(&mut bytes).await.ok()?)?;
        stream.write_all(&bytes[..read]).await.ok()?;
    }
}

async fn bulk(mut stream: TcpStream) -> Option<()> {
    loop {
        let mut message = [0; 9];
        stream.read_exact(&mut message).await.ok()?;
        let (order, bytes) = Order::read(message);
        let (mut reading, mut writing) = stream.split();
        match order {
            Order::Down => give(&mut writing, bytes).await?,
            Order::Up => take(&mut reading, bytes).await?,
            Order::Both => {
                let (given, taken) = tokio::join!(give(&mut writing, bytes), take(&mut reading, bytes));
                given.and(taken)?;
            }
        }
        if order != Order::Down {
            writing.write_all(b"!").await.ok()?;
        }
    }
}

/// Writes so many bytes.
pub(crate) async fn give(to: &mut (impl AsyncWriteExt + Unpin), bytes: u64) -> Option<()> {
    let chunk = [b'b'; CHUNK / 4];
    let mut left = bytes;
    while left > 0 {
        let most = left.min(chunk.len() as u64) as usize;
        left -= to.write(&chunk[..most]).await.ok()? as u64;
    }
    Some(())
}

/// Reads so many bytes.
pub(crate) async fn take(from: &mut (impl AsyncReadExt + Unpin), bytes: u64) -> Option<()> {
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let most = left.min(CHUNK as u64) as usize;
        left -= some(from.read(&mut chunk[..most]).await.ok()?)? as u64;
    }
    Some(())
}

async fn http(mut stream: TcpStream) -> Option<()> {
    let mut bytes = Vec::with_capacity(128 * 1024);
    loop {
        let end = loop {
            if let Some(at) = memmem::find(&bytes, b"\r\n\r\n") {
                break at + 4;
            }
            some(stream.read_buf(&mut bytes).await.ok()?)?;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let (closes, post) = (head.contains("connection: close"), head.starts_with("post"));
        let field = |name: &str| head.split(name).nth(1)?.split_whitespace().next()?.parse::<usize>().ok();
        let coming = if post { field("content-length:")? } else { 0 };
        while bytes.len() < end + coming {
            some(stream.read_buf(&mut bytes).await.ok()?)?;
        }
        let size = if post { 2 } else { head.split(' ').nth(1)?.rsplit('/').next()?.parse().ok()? };
        bytes.clear();
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n")
                .into_bytes();
        answer.resize(answer.len() + size, b'd');
        stream.write_all(&answer).await.ok()?;
        if closes {
            return Some(());
        }
    }
}

fn some(read: usize) -> Option<usize> {
    (read > 0).then_some(read)
}
