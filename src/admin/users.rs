//! `/v1/users`.
//!
//! Owns: how users are shown, and what they use.
//! Must not know: secrets, how a user is proven.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Desk;
use super::asks::{Asked, Nothing};
use super::problem::Problem;

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
    /// Live sessions.
    sessions: u64,
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
))]
pub(super) async fn list(State(desk): State<Arc<Desk>>, Asked(Nothing {}): Asked<Nothing>) -> Json<Users> {
    let accounts = desk.users.accounts();
    let mut sessions: HashMap<Arc<str>, u64> =
        accounts.iter().map(|account| (account.name.clone(), 0)).collect();
    desk.steering
        .store
        .survey(|glance| {
            if let Some(count) = sessions.get_mut(glance.user()) {
                *count += 1;
            }
        })
        .await;
    let user = |account: &Arc<crate::core::ask::Account>| User {
        name: account.name.clone(),
        pools: account.pools.as_ref().map(|pools| pools.iter().map(ToString::to_string).collect()),
        default_pool: account.default_pool.as_deref().map(str::to_owned),
        sessions: sessions.get(&account.name).copied().unwrap_or(0),
    };
    Json(Users { users: accounts.iter().map(user).collect() })
}
