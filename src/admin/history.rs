//! How the gateway does, second by second.
//!
//! Owns: [`Stats`], made once a second for all who look, and those of the last
//! minutes.
//! Must not know: who looks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Desk, wall};

/// Between two statements of how the gateway does.
const TICK: Duration = Duration::from_secs(1);

/// So many are kept: five minutes, in 50 kB.
const MOST: usize = 300;

/// How the gateway does. Totals are since its start.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Stats {
    event: &'static str,
    /// When it was (RFC 3339).
    at: String,
    /// Client connections.
    connections: u32,
    /// Live sessions.
    sessions: usize,
    /// Requests and tunnels that are over.
    requests: u64,
    /// Of those, failed by one of our codes.
    errors: u64,
    /// Bytes from clients.
    bytes_up: u64,
    /// Bytes to clients.
    bytes_down: u64,
    /// Requests in a second, since the last statement.
    requests_per_second: f64,
    /// Failures in a second.
    errors_per_second: f64,
    /// Bytes from clients in a second.
    bytes_up_per_second: f64,
    /// Bytes to clients in a second.
    bytes_down_per_second: f64,
}

/// The last minutes.
#[derive(Default)]
pub(crate) struct History {
    past: Mutex<VecDeque<Arc<Stats>>>,
    now: watch::Sender<Arc<Stats>>,
}

impl History {
    /// What was until now, the oldest first, and what comes.
    pub(super) fn follow(&self) -> (Vec<Arc<Stats>>, watch::Receiver<Arc<Stats>>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        (past.iter().cloned().collect(), self.now.subscribe())
    }

    fn put(&self, stats: Stats) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() == MOST {
            past.pop_front();
        }
        let stats = Arc::new(stats);
        past.push_back(stats.clone());
        // Under the lock: whoever begins to follow now has it from one of the
        // two.
        self.now.send_replace(stats);
    }
}

/// Looks each second; never ends.
pub(super) async fn keep(desk: Arc<Desk>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Instant, Stats)> = None;
    loop {
        tick.tick().await;
        let (now, mut stats) = (Instant::now(), stats(&desk));
        if let Some((then, before)) = &before {
            stats.rates(before, now.duration_since(*then));
        }
        before = Some((now, stats.clone()));
        desk.history.put(stats);
    }
}

fn stats(desk: &Desk) -> Stats {
    let steering = &desk.steering;
    let instruments = &steering.instruments;
    let (requests, errors) = instruments.totals();
    Stats {
        event: "stats",
        at: wall(steering.clock.wall().as_ms()),
        connections: desk.connections.open(),
        sessions: steering.store.len(),
        requests,
        errors,
        bytes_up: instruments.flow.up.get(),
        bytes_down: instruments.flow.down.get(),
        ..Stats::default()
    }
}

impl Stats {
    fn rates(&mut self, before: &Self, time: Duration) {
        let seconds = time.as_secs_f64().max(0.001);
        let rate =
            |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds * 10.0).round() / 10.0;
        self.requests_per_second = rate(self.requests, before.requests);
        self.errors_per_second = rate(self.errors, before.errors);
        self.bytes_up_per_second = rate(self.bytes_up, before.bytes_up);
        self.bytes_down_per_second = rate(self.bytes_down, before.bytes_down);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minutes_are_kept_and_what_comes_is_told() {
        let history = History::default();
        let put = |requests| history.put(Stats { requests, ..Stats::default() });
        (0..MOST as u64 + 3).for_each(put);
        let (past, mut next) = history.follow();
        assert_eq!((past.len(), past[0].requests), (MOST, 3));
        assert!(!next.has_changed().unwrap(), "nothing is told twice");
        put(1000);
        assert_eq!(next.borrow_and_update().requests, 1000);
    }

    #[test]
    fn rates_are_of_a_second() {
        let before = Stats { requests: 10, bytes_up: 500, ..Stats::default() };
        let mut now = Stats { requests: 25, errors: 1, bytes_up: 100, ..Stats::default() };
        now.rates(&before, Duration::from_millis(1500));
        assert_eq!((now.requests_per_second, now.errors_per_second), (10.0, 0.7));
        assert_eq!(now.bytes_up_per_second, 0.0, "never less than nothing");
    }
}
