//! `/v1/cooldowns`.
//!
//! Owns: how it is shown what is kept from where after reports.
//! Must not know: how long that is.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::asks::{Asked, limit};
use super::problem::Problem;
use super::{Desk, wall};

/// The longest list, and one that nobody gave a length for.
const MOST: u32 = 1000;
const DEFAULT: u32 = 100;

/// Which of them.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// Of this pool.
    pool: Option<String>,
    /// The exit of this id.
    exit: Option<String>,
    /// From this registrable domain, or address.
    target: Option<String>,
    /// At most so many: 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// An exit, or an address of a prefix, that is kept from a site.
#[derive(Serialize, ToSchema)]
struct Cooldown {
    #[schema(value_type = String)]
    pool: Arc<str>,
    /// The registrable domain, or the address.
    #[schema(value_type = String)]
    target: Arc<str>,
    /// Its id; none of a prefix's address.
    #[schema(value_type = Option<String>)]
    exit: Option<Arc<str>>,
    /// The address of a prefix.
    #[schema(value_type = Option<String>)]
    exit_address: Option<IpAddr>,
    /// Until when (RFC 3339).
    until: String,
    /// Seconds until then, rounded down.
    seconds: u64,
}

/// What is kept from where.
#[derive(Serialize, ToSchema)]
pub(super) struct Cooldowns {
    /// By pool, target and exit.
    cooldowns: Vec<Cooldown>,
    /// How many fit, in all.
    total: usize,
}

/// Exits that are kept from a site, since clients reported that they are no
/// good for it.
#[utoipa::path(get, path = "/v1/cooldowns", params(List), responses(
    (status = 200, body = Cooldowns),
    (status = 400, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(desk): State<Arc<Desk>>,
    Asked(list): Asked<List>,
) -> Result<Json<Cooldowns>, Problem> {
    let limit = limit(list.limit, MOST, DEFAULT)?;
    let steering = &desk.steering;
    let (snapshot, now) = (steering.state.snapshot(), steering.clock.now());
    let same = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
    let pools = snapshot.pools().iter().filter(|pool| same(&list.pool, Some(&pool.name)));
    let mut fitting: Vec<_> = pools
        .filter_map(|pool| snapshot.pool(&pool.name))
        .flat_map(|live| live.cooled(now).into_iter().map(|cooled| (live.pool.name.clone(), cooled)))
        .filter(|(_, cooled)| {
            same(&list.exit, cooled.exit.as_deref()) && same(&list.target, Some(&cooled.site))
        })
        .collect();
    let total = fitting.len();
    fitting.truncate(limit);
    let shown = fitting.into_iter().map(|(pool, cooled)| Cooldown {
        pool,
        target: cooled.site,
        exit: cooled.exit,
        exit_address: cooled.address,
        until: wall(steering.wall_ms(cooled.until)),
        seconds: cooled.until.since(now).as_secs(),
    });
    Ok(Json(Cooldowns { cooldowns: shown.collect(), total }))
}
