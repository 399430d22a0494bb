//! `/metrics`.
//!
//! Owns: where the figures come from.
//! Must not know: what they are called (`observe::metrics` does).

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::problem::Problem;
use super::{Desk, aside};
use crate::observe::exposition::MEDIA_TYPE;
use crate::observe::instruments::ReportReason;
use crate::observe::metrics::{self, Exit, Fleet, Pool, Scene};
use crate::observe::process::Taken;
use crate::state::LivePool;

/// What is counted, for Prometheus. Needs no token on loopback.
#[utoipa::path(get, path = "/metrics", security((), ("token" = [])), responses(
    (status = 200, content_type = "text/plain", body = String),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn scrape(State(desk): State<Arc<Desk>>) -> Result<impl IntoResponse, Problem> {
    // Many descriptors take some milliseconds as well.
    let text = aside(move || desk.metrics()).await?;
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], text))
}

impl Desk {
    fn metrics(&self) -> String {
        let steering = &self.steering;
        let snapshot = steering.state.snapshot();
        let live = snapshot.pools().iter().filter_map(|pool| snapshot.pool(&pool.name));
        let (unwritten, unsynced) = steering.store.waiting();
        let tally = steering.store.tally().unwrap_or_default();
        let scene = Scene {
            connections: self.connections.open(),
            sessions: steering.store.len(),
            draining: self.drain.is_begun(),
            reloaded: steering.reloads.last().is_none_or(|last| last.findings.is_empty()),
            refusing: steering.store.is_refusing(),
            unwritten,
            unsynced,
            fleet: Fleet {
                alone: tally.alone,
                conflicts: tally.conflicts,
                written_back: tally.written_back,
                outages: tally.outages,
            },
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
                probes_worked: dials.probes_worked,
                probes_failed: dials.probes_failed,
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
