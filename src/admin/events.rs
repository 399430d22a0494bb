//! `/v1/events`.
//!
//! Owns: the stream of events (server-sent), and what it says of the gateway
//! each second.
//! Must not know: what makes an event.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::Stream;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use utoipa::ToSchema;

use super::asks::{Asked, Nothing};
use super::problem::{Kind, Problem};
use super::{Desk, wall};
use crate::observe::events::{Heard, Listener};

/// Between two statements of how the gateway does.
const TICK: Duration = Duration::from_secs(1);

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

struct Feed {
    desk: Arc<Desk>,
    listener: Listener,
    key: watch::Receiver<Option<blake3::Hash>>,
    tick: Interval,
    before: Option<(Instant, Stats)>,
}

/// An event as the stream has it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: axum writes it")]
struct Line {
    /// Its name.
    event: String,
    /// What it tells: an object of JSON.
    data: String,
}

/// What happens, as it happens, and each second an event `stats`.
#[utoipa::path(get, path = "/v1/events", responses(
    (status = 200, content_type = "text/event-stream", body = Line),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn stream(
    State(desk): State<Arc<Desk>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let listener = desk.steering.instruments.events.listen();
    let listener = listener.ok_or_else(|| Problem::new(Kind::Busy, "as many listen as may: close one"))?;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let key = desk.key.watch();
    let feed = Feed { desk, listener, key, tick, before: None };
    let stream = futures_util::stream::unfold(feed, |mut feed| async {
        let sent = feed.next().await?;
        Some((Ok(sent), feed))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

impl Feed {
    async fn next(&mut self) -> Option<Sent> {
        let (name, data) = tokio::select! {
            heard = self.listener.next() => match heard? {
                Heard::Event(event) => (event.name(), serde_json::to_string(&*event)),
                Heard::Lagged(lost) => {
                    let lagged = serde_json::json!({ "event": "lagged", "lost": lost });
                    ("lagged", Ok(lagged.to_string()))
                }
            },
            // The process that has taken our place tells from now on.
            () = self.desk.drain.handed_over() => return None,
            // Whoever listens shows the new token first.
            _ = self.key.changed() => return None,
            _ = self.tick.tick() => ("stats", serde_json::to_string(&self.stats())),
        };
        Some(Sent::default().event(name).data(data.unwrap_or_default()))
    }

    fn stats(&mut self) -> Stats {
        let steering = &self.desk.steering;
        let instruments = &steering.instruments;
        let (requests, errors) = instruments.totals();
        let mut stats = Stats {
            event: "stats",
            at: wall(steering.clock.wall().as_ms()),
            connections: self.desk.connections.open(),
            sessions: steering.store.len(),
            requests,
            errors,
            bytes_up: instruments.flow.up.get(),
            bytes_down: instruments.flow.down.get(),
            ..Stats::default()
        };
        let now = Instant::now();
        if let Some((then, before)) = &self.before {
            let seconds = now.duration_since(*then).as_secs_f64().max(0.001);
            let rate =
                |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds * 10.0).round() / 10.0;
            stats.requests_per_second = rate(stats.requests, before.requests);
            stats.errors_per_second = rate(stats.errors, before.errors);
            stats.bytes_up_per_second = rate(stats.bytes_up, before.bytes_up);
            stats.bytes_down_per_second = rate(stats.bytes_down, before.bytes_down);
        }
        self.before = Some((now, stats.clone()));
        stats
    }
}
