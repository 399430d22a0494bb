//! How things are said and shown on the in-band host.
//!
//! Owns: the JSON of bodies and answers.
//! Must not know: what is done with it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Visit;
use crate::core::ask::Bounds;
use crate::core::pin::{ExitName, Pin};
use crate::core::session::LABEL_KEYS;
use crate::core::target::Target;
use crate::core::time::{Timestamp, Ttl};
use crate::steer::wall;

/// The most values of a label that a pool is shown with.
const MOST_VALUES: usize = 256;

/// What `POST /sessions` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct NewSession {
    pub(super) pool: Option<String>,
    pub(super) ttl: Option<String>,
    pub(super) idle: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
}

/// What `POST /session/move` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Moved {
    pub(super) exit: Option<String>,
}

/// What `POST /session/report` is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with \"target\"")]
pub(super) struct Report {
    pub(super) target: String,
    #[serde(default)]
    pub(super) reason: String,
    pub(super) exit: Option<String>,
    pub(super) exit_address: Option<IpAddr>,
}

/// A session.
#[derive(Serialize)]
pub(super) struct Session {
    id: String,
    pool: Arc<str>,
    labels: BTreeMap<&'static str, String>,
    exit: Arc<str>,
    /// When it is known.
    exit_address: Option<IpAddr>,
    made: String,
    expires: String,
    /// Seconds, rounded down.
    expires_in: u64,
    /// Seconds.
    idle: Option<u32>,
    moves: u32,
}

impl Session {
    pub(super) fn new(visit: &Visit<'_>, pin: &Pin) -> Self {
        let steering = &visit.shared.steering;
        Self {
            id: pin.session.to_string(),
            pool: pin.exit.pool.clone(),
            labels: pin.filter.iter().map(|(key, value)| (key, value.to_owned())).collect(),
            exit: pin.exit.id.clone(),
            exit_address: steering.address_of(pin),
            made: wall(steering.wall_ms(pin.made)),
            expires: wall(steering.wall_ms(pin.expires)),
            expires_in: pin.expires.since(visit.shared.clock.now()).as_secs(),
            idle: pin.idle.map(Ttl::as_secs),
            moves: pin.moves,
        }
    }
}

/// A session that was made.
#[derive(Serialize)]
pub(super) struct Made {
    /// To be used with the user's own secret.
    pub(super) username: String,
    #[serde(flatten)]
    pub(super) session: Session,
}

/// What a report did.
#[derive(Serialize)]
pub(super) struct Reported {
    /// As it is now.
    pub(super) session: Option<Session>,
    /// Whether it was moved by this.
    pub(super) moved: bool,
    /// What is kept from where.
    pub(super) cooldown: Option<Cooldown>,
}

/// An exit is kept from a site.
#[derive(Serialize)]
pub(super) struct Cooldown {
    exit: Arc<str>,
    /// The registrable domain, or the address.
    target: String,
    until: String,
    /// Until then, rounded down.
    seconds: u64,
}

impl Cooldown {
    pub(super) fn new(visit: &Visit<'_>, exit: &ExitName, target: &Target, until: Timestamp) -> Self {
        let shared = visit.shared;
        Self {
            exit: exit.id.clone(),
            target: target.site().into_owned(),
            until: wall(shared.steering.wall_ms(until)),
            seconds: until.since(shared.clock.now()).as_secs(),
        }
    }
}

/// The pools that the user may use.
pub(super) fn pools(visit: &Visit<'_>) -> Value {
    let (account, snapshot) = (&visit.said.caller.account, visit.shared.state.snapshot());
    let pools = snapshot.pools();
    let fixed = visit.said.caller.grant.as_ref().and_then(|grant| grant.fixed.pool.clone());
    let default = match &fixed {
        Some(name) => pools.pool(name),
        None => account.default_pool(pools),
    };
    let may = |name: &str| account.may_use(name) && fixed.as_ref().is_none_or(|fixed| **fixed == *name);
    let shown = pools.iter().filter(|pool| may(&pool.name)).map(|pool| {
        let bounds = Bounds::of_user(&visit.shared.settings.bounds, account, pool);
        let live = snapshot.pool(&pool.name);
        let values = |key: &'static str| (key, live.map(|live| live.label_values(key, MOST_VALUES)));
        let labels: BTreeMap<_, _> = LABEL_KEYS
            .into_iter()
            .map(values)
            .filter_map(|(key, values)| Some((key, values.filter(|values| !values.is_empty())?)))
            .collect();
        json!({
            "name": &*pool.name,
            "default": default.is_some_and(|default| default.name == pool.name),
            "exits": pool.exits.len(),
            "labels": labels,
            "failover": pool.failover.word(),
            "default_ttl": bounds.default_ttl.as_secs(),
            "min_ttl": bounds.min.as_secs(),
            "max_ttl": bounds.max.as_secs(),
            "cooldown": pool.cooldown.as_secs(),
        })
    });
    json!({"pools": shown.collect::<Vec<_>>()})
}

/// What the user uses, and may.
pub(super) fn usage(visit: &Visit<'_>) -> Value {
    let in_use = visit.admission.in_use(visit.shared.clock.now());
    let limits = in_use.limits;
    json!({
        "user": &*visit.said.caller.account.name,
        "connections": in_use.connections,
        "sessions": in_use.sessions,
        "bytes_today": in_use.bytes_today,
        "bytes_up": in_use.up,
        "bytes_down": in_use.down,
        "limits": {
            "requests_per_second": limits.rate.map(|rate| rate.per_second),
            "burst": limits.rate.map(|rate| rate.burst),
            "connections": limits.connections,
            "sessions": limits.sessions,
            "bytes_per_day": limits.bytes_per_day,
            "bandwidth_up": limits.bandwidth.up,
            "bandwidth_down": limits.bandwidth.down,
        },
    })
}
