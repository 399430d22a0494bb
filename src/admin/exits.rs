//! `/v1/exits`.
//!
//! Owns: how an exit is shown, and the requests about single ones (`list` has
//! the list).
//! Must not know: how a switch is done. What is shown has no credential: `via`
//! comes without, and a template's token is not told at all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::asks::{Asked, Flag, Named, Nothing, Told};
use super::problem::{Kind, Problem};
use super::{Desk, wall};
use crate::core::exit::{Exit, Mode, Via};
use crate::core::pin::ExitName;
use crate::state::{ExitState, Latency};
use crate::steer::Steering;
use crate::steer::exits::{Act, Plan};

pub(super) mod list;

/// An exit.
#[derive(Serialize, ToSchema)]
pub(super) struct Shown {
    /// Of which pool.
    #[schema(value_type = String)]
    pool: Arc<str>,
    /// Its id within the pool.
    #[schema(value_type = String)]
    id: Arc<str>,
    /// What it leaves through, less its credential.
    via: String,
    /// `direct`, `address`, `prefix`, `template`, or the upstream's scheme.
    kind: &'static str,
    /// The address that origins see, when it is known.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// The address that probes have last seen origins see.
    #[schema(value_type = Option<String>)]
    learned_address: Option<IpAddr>,
    /// How often that has changed.
    address_changes: u32,
    /// Its share.
    weight: u32,
    /// Its labels, its pool's among them; a key may have several values.
    labels: BTreeMap<&'static str, Vec<String>>,
    /// `active`, `drain` or `off`.
    state: &'static str,
    /// What its file says.
    state_in_file: &'static str,
    /// What the operator has switched it to, where that is another.
    state_switched: Option<&'static str>,
    /// `healthy`, `ejected`, or `trial` while one request tries it.
    health: &'static str,
    /// Until when it is ejected (RFC 3339).
    ejected_until: Option<String>,
    /// What failed last by its own fault.
    last_error: Option<LastError>,
    /// Live pins on it.
    pins: u32,
    /// The most pins; 0: any number.
    max_sessions: u32,
    /// Connections that it carries.
    connections: u32,
    /// The most connections; 0: any number.
    max_connections: u32,
    /// Dials for clients that reached their target.
    dials: u64,
    /// Dials that failed by its fault.
    failures: u64,
    /// Dials that failed by the target's fault.
    target_failures: u64,
    /// How often it was ejected.
    ejections: u64,
    /// Probes that were answered; no dials.
    probes: u64,
    /// Probes that failed by its fault.
    probe_failures: u64,
    /// Bytes from clients.
    bytes_up: u64,
    /// Bytes to clients.
    bytes_down: u64,
    /// How long connecting took of late, in milliseconds.
    connect_ms: Option<Percentiles>,
}

/// A failure.
#[derive(Serialize, ToSchema)]
struct LastError {
    /// Its code.
    code: &'static str,
    /// The sentence that went with it.
    #[schema(value_type = String)]
    detail: Arc<str>,
    /// When it was (RFC 3339).
    at: String,
}

/// Of some thousand dials, weighted towards the newest; within 10 %.
#[derive(Serialize, ToSchema)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
}

impl From<Latency> for Percentiles {
    fn from(latency: Latency) -> Self {
        let ms = |time: Duration| time.as_micros() as f64 / 1000.0;
        Self { p50: ms(latency.p50), p90: ms(latency.p90), p99: ms(latency.p99) }
    }
}

pub(super) fn health(live: &ExitState, steering: &Steering) -> &'static str {
    match live.ejected_until(steering.clock.now()) {
        None => "healthy",
        Some(_) if live.is_on_trial() => "trial",
        Some(_) => "ejected",
    }
}

fn kind(via: &Via) -> &'static str {
    match via {
        Via::Direct => "direct",
        Via::Address(_) => "address",
        Via::Prefix(_) => "prefix",
        Via::Upstream(_) if via.is_template() => "template",
        Via::Upstream(upstream) => upstream.scheme.name(),
    }
}

impl Shown {
    fn new(exit: &Exit, live: &ExitState, steering: &Steering) -> Self {
        let at = |instant| wall(steering.wall_ms(instant));
        let switch = steering.state.switches().get(&exit.name);
        let dials = live.dials();
        let mut labels = BTreeMap::<_, Vec<_>>::new();
        exit.labels.iter().for_each(|(key, value)| labels.entry(key).or_default().push(value.to_owned()));
        let ejected = live.ejected_until(steering.clock.now()).filter(|_| !live.is_on_trial());
        Self {
            pool: exit.name.pool.clone(),
            id: exit.name.id.clone(),
            via: exit.via.to_string(),
            kind: kind(&exit.via),
            address: exit.address.or_else(|| live.learned_address()),
            learned_address: live.learned_address(),
            address_changes: live.address_changes(),
            weight: exit.weight,
            labels,
            state: exit.mode.word(),
            state_in_file: switch.map_or(exit.mode, |switch| switch.written).word(),
            state_switched: switch.map(|switch| switch.to.word()),
            health: health(live, steering),
            ejected_until: ejected.map(at),
            last_error: live.last_failure().map(|last| LastError {
                code: last.code.name(),
                detail: last.detail,
                at: at(last.at),
            }),
            pins: live.pins(),
            max_sessions: exit.max_sessions,
            connections: live.connections(),
            max_connections: exit.max_connections,
            dials: dials.worked,
            failures: dials.failed,
            target_failures: dials.target_failed,
            ejections: dials.ejections,
            probes: dials.probes_worked,
            probe_failures: dials.probes_failed,
            bytes_up: dials.up,
            bytes_down: dials.down,
            connect_ms: live.latency().map(Percentiles::from),
        }
    }
}

/// An exit.
#[utoipa::path(get, path = "/v1/exits/{pool}/{id}",
    params(
        ("pool" = String, Path, description = "its pool"),
        ("id" = String, Path, description = "its id, percent-encoded"),
    ),
    responses(
    (status = 200, body = Shown),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn one(
    State(desk): State<Arc<Desk>>,
    Named((pool, id)): Named<(String, String)>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Shown>, Problem> {
    let name = ExitName { pool: pool.into(), id: id.into() };
    // The plan to leave it as it is says what is wrong with the name.
    desk.steering.plan(&name, Act::Reset)?;
    let snapshot = desk.steering.state.snapshot();
    let found = snapshot.pool(&name.pool).and_then(|pool| pool.exit(&name.id));
    let shown = found.map(|(exit, live)| Shown::new(exit, live, &desk.steering));
    shown.map(Json).ok_or_else(|| Problem::from(crate::steer::Undone::ExitUnknown(name)))
}

/// Whether to do it.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Only say what it would do: `true`, or the name alone.
    #[serde(default)]
    #[param(value_type = String, pattern = "^(|true|1|false|0)$")]
    dry_run: Flag,
}

/// What a switch does, or would do.
#[derive(Serialize, ToSchema)]
pub(super) struct Switched {
    /// Nothing was done.
    dry_run: bool,
    /// Of which pool.
    #[schema(value_type = String)]
    pool: Arc<str>,
    /// The exit's id.
    #[schema(value_type = String)]
    id: Arc<str>,
    /// As it was.
    before: &'static str,
    /// As it is then.
    state: &'static str,
    /// Pins on it.
    pins: u32,
    /// Pins that move to another exit at their next request; where their
    /// requests name another `failover` than the pool's, fewer.
    moves: u32,
    /// Connections that go on to their end.
    connections: u32,
}

impl Switched {
    fn new(plan: Plan, dry_run: bool) -> Self {
        Self {
            dry_run,
            pool: plan.exit.pool,
            id: plan.exit.id,
            before: plan.before.word(),
            state: plan.after.word(),
            pins: plan.pins,
            moves: plan.moves,
            connections: plan.connections,
        }
    }
}

/// Switches an exit: `active`, `drain` (no new pin and no unpinned request),
/// `off` (as if removed); or `reset`: as its file says, and as if it had never
/// failed. A switch holds over reloads and restarts until the file's own
/// `state` of this exit changes or it is switched back.
#[utoipa::path(post, path = "/v1/exits/{pool}/{id}/{act}",
    params(
        ("pool" = String, Path, description = "its pool"),
        ("id" = String, Path, description = "its id, percent-encoded"),
        ("act" = String, Path, description = "what to do", pattern = "^(active|drain|off|reset)$"),
        How,
    ),
    responses(
    (status = 200, body = Switched),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn act(
    State(desk): State<Arc<Desk>>,
    Named((pool, id, word)): Named<(String, String, String)>,
    Asked(How { dry_run: Flag(dry_run) }): Asked<How>,
    Told(Nothing {}): Told<Nothing>,
) -> Result<Json<Switched>, Problem> {
    let unknown = || Problem::new(Kind::NotFound, "end the path with /active, /drain, /off or /reset");
    let act = match (&*word, Mode::from_word(&word)) {
        ("reset", _) => Act::Reset,
        (_, mode) => Act::Switch(mode.ok_or_else(unknown)?),
    };
    let name = ExitName { pool: pool.into(), id: id.into() };
    let plan = match dry_run {
        true => desk.steering.plan(&name, act)?,
        false => desk.steering.act(&name, act).await?,
    };
    Ok(Json(Switched::new(plan, dry_run)))
}
