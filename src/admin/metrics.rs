//! `/metrics`.
//!
//! Owns: where the figures come from.
//! Must not know: what they are called (`observe::metrics` does).

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::Desk;
use super::problem::{Kind, Problem};
use crate::observe::exposition::MEDIA_TYPE;
use crate::observe::instruments::ReportReason;
use crate::observe::metrics::{self, Exit, Pool, Scene};
use crate::observe::process::Taken;
use crate::state::LivePool;

/// What is counted, for Prometheus.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, content_type = "text/plain", body = String),
))]
pub(super) async fn scrape(State(desk): State<Arc<Desk>>) -> Result<impl IntoResponse, Problem> {
    // Many exits or descriptors take some milliseconds.
    let text = tokio::task::spawn_blocking(move || desk.metrics()).await;
    let text = text.map_err(|_| Problem::new(Kind::Busy, "the gateway ends: ask another"))?;
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], text))
}

impl Desk {
    fn metrics(&self) -> String {
        let steering = &self.steering;
        let snapshot = steering.state.snapshot();
        let live = snapshot.pools().iter().filter_map(|pool| snapshot.pool(&pool.name));
        let (unwritten, unsynced) = steering.store.waiting();
        let scene = Scene {
            connections: self.connections.open(),
            sessions: steering.store.len(),
            draining: self.drain.is_begun(),
            reloaded: steering.reloads.last().is_none_or(|last| last.findings.is_empty()),
            refusing: steering.store.is_refusing(),
            unwritten,
            unsynced,
            pools: live.map(|live| self.pool(live)).collect(),
            taken: Taken::now(crate::clock::process_cpu()),
            started_s: steering.wall_ms(steering.started) as f64 / 1000.0,
        };
        metrics::text(&steering.instruments, &scene)
    }

    fn pool(&self, live: &LivePool) -> Pool {
        let now = self.steering.clock.now();
        let exits = live.exits().map(|(exit, state)| {
            let dials = state.dials();
            Exit {
                id: exit.name.id.clone(),
                state: exit.mode.word(),
                ejected: state.ejected_until(now).is_some(),
                pins: state.pins().into(),
                connections: state.connections().into(),
                worked: dials.worked,
                failed: dials.failed,
                target_failed: dials.target_failed,
                ejections: dials.ejections,
                up: dials.up,
                down: dials.down,
            }
        });
        Pool {
            name: live.pool.name.clone(),
            exits: exits.collect(),
            reports: ReportReason::ALL.map(|reason| live.reports().get(reason)),
            cooling: live.cooled(now).len(),
        }
    }
}
