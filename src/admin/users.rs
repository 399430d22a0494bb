//! `/v1/users`.
//!
//! Owns: how users are shown, and what they use.
//! Must not know: secrets, how a user is proven.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::asks::{Asked, Nothing};
use super::problem::Problem;
use super::{Desk, json_aside};
use crate::admit::users::Used;
use crate::core::limits::UserLimits;

/// A user.
#[derive(Serialize, ToSchema)]
pub(super) struct User {
    /// Its name.
    #[schema(value_type = String)]
    name: Arc<str>,
    /// The pools that it may use; none: all.
    pools: Option<Vec<String>>,
    /// The pool of a request that names none, where the configuration says.
    default_pool: Option<String>,
    /// Whether the configuration has it; else its tokens alone know of it, or
    /// it was removed and still uses something.
    configured: bool,
    /// Tunnels and plain requests under way.
    connections: u32,
    /// Live sessions.
    sessions: u32,
    /// Bytes of the UTC day, both directions.
    bytes_today: u64,
    /// Bytes from its clients since the start.
    bytes_up: u64,
    /// Bytes to its clients since the start.
    bytes_down: u64,
    /// What it may use, without what its tokens bring.
    limits: Limits,
}

/// Bounds of what one user uses; none where it is not there.
#[derive(Serialize, ToSchema)]
pub(super) struct Limits {
    /// Requests a second in the long run.
    #[schema(value_type = Option<u32>)]
    requests_per_second: Option<NonZeroU32>,
    /// So many at once after a pause.
    #[schema(value_type = Option<u32>)]
    burst: Option<NonZeroU32>,
    /// Tunnels and plain requests under way.
    #[schema(value_type = Option<u32>)]
    connections: Option<NonZeroU32>,
    /// Live sessions.
    #[schema(value_type = Option<u32>)]
    sessions: Option<NonZeroU32>,
    /// Bytes of a UTC day, both directions.
    #[schema(value_type = Option<u64>)]
    bytes_per_day: Option<NonZeroU64>,
    /// Bytes a second from its clients.
    #[schema(value_type = Option<u64>)]
    bandwidth_up: Option<NonZeroU64>,
    /// Bytes a second to its clients.
    #[schema(value_type = Option<u64>)]
    bandwidth_down: Option<NonZeroU64>,
}

impl From<UserLimits> for Limits {
    fn from(limits: UserLimits) -> Self {
        Self {
            requests_per_second: limits.rate.map(|rate| rate.per_second),
            burst: limits.rate.map(|rate| rate.burst),
            connections: limits.connections,
            sessions: limits.sessions,
            bytes_per_day: limits.bytes_per_day,
            bandwidth_up: limits.bandwidth.up,
            bandwidth_down: limits.bandwidth.down,
        }
    }
}

/// The users.
#[derive(Serialize, ToSchema)]
pub(super) struct Users {
    /// By name.
    users: Vec<User>,
}

/// The users in force, with what they use.
#[utoipa::path(get, path = "/v1/users", responses(
    (status = 200, body = Users),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(desk): State<Arc<Desk>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<impl IntoResponse, Problem> {
    json_aside(move || Ok(Users { users: desk.users.usage().into_iter().map(User::from).collect() })).await
}

impl From<Used> for User {
    fn from(used: Used) -> Self {
        let Used { name, account, in_use } = used;
        let account = account.as_deref();
        Self {
            name,
            pools: account
                .and_then(|account| account.pools.as_ref())
                .map(|pools| pools.iter().map(ToString::to_string).collect()),
            default_pool: account.and_then(|account| account.default_pool.as_deref()).map(str::to_owned),
            configured: account.is_some(),
            connections: in_use.connections,
            sessions: in_use.sessions,
            bytes_today: in_use.bytes_today,
            bytes_up: in_use.up,
            bytes_down: in_use.down,
            limits: in_use.limits.into(),
        }
    }
}
