//! `/v1/events`.
//!
//! Owns: the stream of events (server-sent).
//! Must not know: what makes an event.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::asks::{Asked, Flag};
use super::gate::Opened;
use super::history::Stats;
use super::problem::{Kind, Problem};
use super::{Desk, wall};
use crate::observe::events::{Event, Heard, Listener};

struct Feed {
    desk: Arc<Desk>,
    listener: Listener,
    stats: watch::Receiver<Arc<Stats>>,
    opened: Opened,
    /// What is to be told first.
    past: VecDeque<(&'static str, String)>,
}

/// An event, or a statement, with what is told beside it.
#[derive(Serialize)]
struct Told<'a, T: Serialize> {
    /// When it happened; of a statement, it says so itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// It was before the stream began.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    past: bool,
    #[serde(flatten)]
    what: &'a T,
}

/// How the stream begins.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// With what was: `stats` of the last five minutes and the last 100
    /// `failed`. `true`, or the name alone.
    #[serde(default)]
    #[param(value_type = String, pattern = "^(|true|1|false|0)$")]
    past: Flag,
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
#[utoipa::path(get, path = "/v1/events", params(From), responses(
    (status = 200, content_type = "text/event-stream", body = Line),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn stream(
    State(desk): State<Arc<Desk>>,
    Extension(opened): Extension<Opened>,
    Asked(From { past: Flag(all) }): Asked<From>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let listening = desk.steering.instruments.events.listen();
    let (listener, failures) =
        listening.ok_or_else(|| Problem::new(Kind::Busy, "as many listen as may: close one"))?;
    let (minutes, stats) = desk.history.follow();
    let mut feed = Feed { desk, listener, stats, opened, past: VecDeque::new() };
    feed.begin(&minutes, if all { failures } else { Vec::new() }, all);
    let stream = futures_util::stream::unfold(feed, |mut feed| async {
        let (name, data) = feed.next().await?;
        Some((Ok(Sent::default().event(name).data(data)), feed))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

impl Feed {
    /// The newest statement comes at once, by itself or behind what was.
    fn begin(&mut self, minutes: &[Arc<Stats>], failures: Vec<(Instant, Arc<Event>)>, all: bool) {
        for (at, event) in failures {
            self.past.push_back((event.name(), self.tell(&event, at, true)));
        }
        let Some((newest, before)) = minutes.split_last() else { return };
        for stats in if all { before } else { &[] } {
            self.past.push_back(("stats", json(&Told { at: None, past: true, what: &**stats })));
        }
        self.past.push_back(("stats", json(&**newest)));
    }

    async fn next(&mut self) -> Option<(&'static str, String)> {
        if let Some(told) = self.past.pop_front() {
            return Some(told);
        }
        tokio::select! {
            heard = self.listener.next() => match heard? {
                Heard::Event(event) => Some((event.name(), self.tell(&event, Instant::now(), false))),
                Heard::Lagged(lost) => {
                    let lagged = serde_json::json!({ "event": "lagged", "at": self.wall(Instant::now()), "lost": lost });
                    Some(("lagged", lagged.to_string()))
                }
            },
            // The process that has taken our place tells from now on.
            () = self.desk.drain.handed_over() => None,
            // Whoever listens shows the new token first.
            () = self.opened.changed() => None,
            changed = self.stats.changed() => {
                changed.ok()?;
                Some(("stats", json(&**self.stats.borrow_and_update())))
            }
        }
    }

    fn tell(&self, event: &Event, at: Instant, past: bool) -> String {
        json(&Told { at: Some(self.wall(at)), past, what: event })
    }

    fn wall(&self, at: Instant) -> String {
        let ago = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        wall(self.desk.steering.clock.wall().as_ms().saturating_sub(ago))
    }
}

fn json(what: &impl Serialize) -> String {
    serde_json::to_string(what).unwrap_or_default()
}
