//! `/v1/pools` and `/v1/reload`.
//!
//! Owns: how pools and reloads are shown.
//! Must not know: how files are read.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::asks::{Asked, Nothing, Told};
use super::exits::health;
use super::problem::{Kind, Problem};
use super::{Desk, json_aside, wall};
use crate::core::exit::Mode;
use crate::core::pool::{Placement, Rotation};
use crate::state::LivePool;
use crate::steer::Steering;
use crate::steer::reload::Outcome;

/// A pool.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct Pool {
    /// Its name.
    #[schema(value_type = String)]
    name: Arc<str>,
    /// How requests without a session choose.
    rotation: &'static str,
    /// How new pins choose.
    placement: &'static str,
    /// What happens when a pinned exit is down.
    failover: &'static str,
    /// How many exits it has.
    exits: u32,
    /// Their weights in all.
    weight: u64,
    /// Of those, in use.
    active: u32,
    /// Of those, taking nothing new.
    drain: u32,
    /// Of those, out of use by file or operator.
    off: u32,
    /// Of the active ones, out of use after failures.
    ejected: u32,
    /// Live pins.
    pins: u64,
    /// Connections that its exits carry.
    connections: u64,
    /// Dials that reached their target.
    dials: u64,
    /// Dials that failed by the exit's fault.
    failures: u64,
    /// Dials that failed by the target's fault.
    target_failures: u64,
    /// Bytes from clients.
    bytes_up: u64,
    /// Bytes to clients.
    bytes_down: u64,
}

impl Pool {
    fn new(live: &LivePool, steering: &Steering) -> Self {
        let pool = &live.pool;
        let mut shown = Self {
            name: pool.name.clone(),
            rotation: match pool.rotation {
                Rotation::RoundRobin => "round_robin",
                Rotation::Random => "random",
                Rotation::LeastConnections => "least_connections",
            },
            placement: match pool.placement {
                Placement::LeastSessions => "least_sessions",
                Placement::Random => "random",
                Placement::Rendezvous => "rendezvous",
            },
            failover: pool.failover.word(),
            ..Self::default()
        };
        for (exit, state) in live.exits() {
            shown.exits += 1;
            shown.weight += u64::from(exit.weight);
            match exit.mode {
                Mode::Active => shown.active += 1,
                Mode::Drain => shown.drain += 1,
                Mode::Off => shown.off += 1,
            }
            shown.ejected += u32::from(exit.mode == Mode::Active && health(state, steering) != "healthy");
            let dials = state.dials();
            shown.pins += u64::from(state.pins());
            shown.connections += u64::from(state.connections());
            shown.dials += dials.worked;
            shown.failures += dials.failed;
            shown.target_failures += dials.target_failed;
            shown.bytes_up += dials.up;
            shown.bytes_down += dials.down;
        }
        shown
    }
}

/// The pools, and how their files stand.
#[derive(Serialize, ToSchema)]
pub(super) struct Pools {
    /// In the files' order.
    pools: Vec<Pool>,
    /// The last time that files were read again; none: not since the start.
    last_reload: Option<Reloaded>,
}

/// What came of reading the files again.
#[derive(Serialize, ToSchema)]
pub(super) struct Reloaded {
    /// What was read is in force; else what was before.
    ok: bool,
    /// When it was (RFC 3339).
    at: String,
    /// Pools that are in force.
    pools: usize,
    /// What was wrong.
    findings: Vec<String>,
}

impl Reloaded {
    fn new(outcome: &Outcome, steering: &Steering) -> Self {
        Self {
            ok: outcome.findings.is_empty(),
            at: wall(steering.wall_ms(outcome.at)),
            pools: outcome.pools,
            findings: outcome.findings.clone(),
        }
    }
}

/// The pools.
#[utoipa::path(get, path = "/v1/pools", responses(
    (status = 200, body = Pools),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(desk): State<Arc<Desk>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<impl IntoResponse, Problem> {
    json_aside(move || {
        let steering = &*desk.steering;
        let snapshot = steering.state.snapshot();
        let live = snapshot.pools().iter().filter_map(|pool| snapshot.pool(&pool.name));
        let pools = live.map(|live| Pool::new(live, steering)).collect();
        let last = steering.reloads.last();
        Ok(Pools { pools, last_reload: last.map(|outcome| Reloaded::new(&outcome, steering)) })
    })
    .await
}

/// Reads users, pools and what pools take from the configuration again, and
/// answers when what was read is in force.
#[utoipa::path(post, path = "/v1/reload", responses(
    (status = 200, body = Reloaded),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn reload(
    State(desk): State<Arc<Desk>>,
    Asked(Nothing {}): Asked<Nothing>,
    Told(Nothing {}): Told<Nothing>,
) -> Result<Json<Reloaded>, Problem> {
    let outcome = desk.steering.reloads.ask_and_wait().await;
    let outcome = outcome.ok_or_else(|| Problem::new(Kind::Busy, "many wait for a reload: ask again"))?;
    match outcome.findings.is_empty() {
        true => Ok(Json(Reloaded::new(&outcome, &desk.steering))),
        false => Err(Problem::reload(outcome.findings.clone())),
    }
}
