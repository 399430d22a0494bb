//! The least CONNECT proxy that one writes with tokio: no users, no names, no
//! limits, and `copy_bidirectional`.

use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// What its process does until it is killed.
pub(crate) async fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.expect("a free port");
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(tunnel(client));
    }
}

async fn tunnel(mut client: TcpStream) -> Option<()> {
    client.set_nodelay(true).ok()?;
    let target = {
        let mut head = Vec::with_capacity(1024);
        while memmem::find(&head, b"\r\n\r\n").is_none() {
            if client.read_buf(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        let line = std::str::from_utf8(&head).ok()?.strip_prefix("CONNECT ")?;
        line.split(' ').next()?.parse::<SocketAddr>().ok()?
    };
    let mut server = TcpStream::connect(target).await.ok()?;
    server.set_nodelay(true).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}
