//! Tunnels that stay: bulk one way or both, and the echo of small messages.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Meter, Through};
use crate::origin::{Order, Service, give, take};

/// What each tunnel has carried before it counts, in bytes.
const WARM_UP: u64 = 1 << 20;

/// Round trips of each tunnel before they count.
pub(crate) const WARM_TRIPS: u64 = 10;

/// Moves so many bytes through each of so many tunnels (both ways: half of
/// them each way).
pub(crate) async fn run(through: Through, tunnels: u64, order: Order, bytes: u64, meter: &mut Meter) {
    let streams = through.tunnels(Service::Bulk, tunnels).await;
    let streams = moved(streams, order, WARM_UP.min(bytes)).await;
    meter.begin();
    let streams = moved(streams, order, bytes).await;
    meter.end().await;
    drop(streams);
}

async fn moved(streams: Vec<TcpStream>, order: Order, bytes: u64) -> Vec<TcpStream> {
    let mut clients = JoinSet::new();
    for mut stream in streams {
        clients.spawn(async move {
            one(&mut stream, order, bytes).await.expect("the tunnel carries it");
            stream
        });
    }
    clients.join_all().await
}

async fn one(stream: &mut TcpStream, order: Order, bytes: u64) -> Option<()> {
    let bytes = if order == Order::Both { bytes / 2 } else { bytes };
    stream.write_all(&order.message(bytes)).await.ok()?;
    let (mut reading, mut writing) = stream.split();
    match order {
        Order::Down => return take(&mut reading, bytes).await,
        Order::Up => give(&mut writing, bytes).await?,
        Order::Both => {
            let (given, taken) = tokio::join!(give(&mut writing, bytes), take(&mut reading, bytes));
            given.and(taken)?;
        }
    }
    // It says so when all has come.
    take(&mut reading, 1).await
}

/// So many round trips of 100 bytes, shared by so many tunnels.
pub(crate) async fn echo(through: Through, tunnels: u64, trips: u64, meter: &mut Meter) {
    let streams = through.tunnels(Service::Echo, tunnels).await;
    let streams = echoed(streams, WARM_TRIPS).await;
    meter.begin();
    let streams = echoed(streams, trips / tunnels).await;
    meter.end().await;
    drop(streams);
}

async fn echoed(streams: Vec<TcpStream>, trips: u64) -> Vec<TcpStream> {
    let mut clients = JoinSet::new();
    for mut stream in streams {
        clients.spawn(async move {
            let mut bytes = [b'e'; 100];
            for _ in 0..trips {
                stream.write_all(&bytes).await.expect("the tunnel takes");
                stream.read_exact(&mut bytes).await.expect("the tunnel gives");
            }
            stream
        });
    }
    clients.join_all().await
}
