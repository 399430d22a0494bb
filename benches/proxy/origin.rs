//! An origin that costs the measured proxy nothing.
//!
//! A connection that begins with `G` gets 1 kB for each GET and is kept open;
//! any other is a tunnel's: 500 bytes in, 5 kB out, open until the other side
//! closes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a tunnel carries up, in bytes.
pub(crate) const UP: usize = 500;
/// What a tunnel carries down, in bytes.
pub(crate) const DOWN: usize = 5_000;
/// The body of a plain answer, in bytes.
pub(crate) const BODY: usize = 1_000;

/// Starts an origin of its own, so that no two proxies share its ports.
pub(crate) async fn start() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A connection that breaks off is the client's to notice.
async fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut bytes = vec![0; 4096];
    let mut read = stream.read(&mut bytes).await.ok()?;
    if bytes[0] == b'G' {
        return requests(stream, bytes, read).await;
    }
    while read < UP {
        read += some(stream.read(&mut bytes).await.ok()?)?;
    }
    stream.write_all(&[b'd'; DOWN]).await.ok()?;
    while stream.read(&mut bytes).await.ok()? > 0 {}
    Some(())
}

async fn requests(mut stream: TcpStream, mut bytes: Vec<u8>, mut held: usize) -> Option<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n{}",
        "d".repeat(BODY)
    );
    loop {
        while !bytes[..held].ends_with(b"\r\n\r\n") {
            held += some(stream.read(&mut bytes[held..]).await.ok()?)?;
        }
        let closes =
            String::from_utf8_lossy(&bytes[..held]).to_ascii_lowercase().contains("connection: close");
        held = 0;
        stream.write_all(answer.as_bytes()).await.ok()?;
        if closes {
            return Some(());
        }
    }
}

fn some(read: usize) -> Option<usize> {
    (read > 0).then_some(read)
}
