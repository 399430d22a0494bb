//! Short tunnels: connect, CONNECT, 500 bytes up, 5 kB down, close.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{AT_ONCE, Meter, Through, each};
use crate::origin::{DOWN, Service, UP};

/// Runs so many of them, one after the other for each client.
pub(crate) async fn run(through: Through, all: u64, meter: &mut Meter) {
    meter.begin();
    each(all, AT_ONCE, move |n, ()| async move { drop(one(through, n).await) }).await;
    meter.end().await;
}

/// A tunnel that has carried its bytes.
pub(crate) async fn one(through: Through, n: u64) -> TcpStream {
    let mut stream = through.tunnel(Service::Short, n).await;
    stream.write_all(&[b'u'; UP]).await.expect("the tunnel takes");
    let mut bytes = Vec::with_capacity(DOWN);
    while bytes.len() < DOWN {
        assert!(stream.read_buf(&mut bytes).await.expect("the tunnel gives") > 0, "the tunnel broke off");
    }
    stream
}
