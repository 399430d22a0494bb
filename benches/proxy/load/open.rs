//! Short tunnels that begin when they are due, whatever becomes of the ones
//! before (an open loop), and how many a second a proxy can carry at all.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Through, each, short};

/// Clients at a time when as much is asked of a proxy as it can do.
const CROWD: u64 = 64;

/// Tunnels a second, where [`CROWD`] clients never wait.
pub(crate) async fn saturation(through: Through, tunnels: u64) -> f64 {
    let begun = Instant::now();
    each(tunnels, CROWD, move |n, ()| async move { drop(short::one(through, n).await) }).await;
    tunnels as f64 / begun.elapsed().as_secs_f64()
}

/// One tunnel: when it was due, from the start, and how long after that it
/// had carried its last byte. A tunnel that began late has waited all the
/// same, so that no stall is left out.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) due: Duration,
    pub(crate) total: Duration,
}

/// Begins `rate` tunnels a second, evenly spaced, for so long.
pub(crate) async fn run(through: Through, rate: f64, period: Duration) -> Vec<Took> {
    let interval = Duration::from_secs_f64(1.0 / rate);
    let all = (rate * period.as_secs_f64()) as u32;
    let start = Instant::now();
    let mut ticks = ticks(start, interval, all);
    let mut tunnels = JoinSet::new();
    while let Some(n) = ticks.recv().await {
        let due = interval * n;
        tunnels.spawn(async move {
            drop(short::one(through, u64::from(n)).await);
            Took { due, total: start.elapsed() - due }
        });
    }
    tunnels.join_all().await
}

/// Numbers from 0, each when it is due. The timers of tokio count in
/// milliseconds, a thread's sleep in 50 microseconds.
fn ticks(start: Instant, interval: Duration, all: u32) -> mpsc::UnboundedReceiver<u32> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for n in 0..all {
            std::thread::sleep((interval * n).saturating_sub(start.elapsed()));
            if sender.send(n).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The time within which 99 of 100 were done, in microseconds.
pub(crate) fn p99(took: &[Took]) -> f64 {
    let mut totals: Vec<_> = took.iter().map(|took| took.total).collect();
    totals.sort_unstable();
    totals.get(totals.len() * 99 / 100).map_or(f64::NAN, |total| total.as_secs_f64() * 1e6)
}
