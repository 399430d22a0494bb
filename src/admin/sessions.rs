//! `/v1/sessions`.
//!
//! Owns: how a session is shown, and the requests about sessions.
//! Must not know: how an act is done.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::asks::{Asked, Named, Nothing, Told, behind, cursor, key, limit};
use super::problem::{Kind, Problem};
use super::{Desk, wall};
use crate::core::pin::Pin;
use crate::core::session::SessionKey;
use crate::core::time::{Ttl, parse_duration};
use crate::steer::Steering;
use crate::steer::sessions::Search;

/// The longest page, and one that nobody gave a length for.
const MOST: u32 = 1000;
const DEFAULT: u32 = 100;

/// A session.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// The digest of user, pool, labels and name, in hexadecimal.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    key: String,
    /// Whose it is.
    #[schema(value_type = String)]
    user: Arc<str>,
    /// Of which pool.
    #[schema(value_type = String)]
    pool: Arc<str>,
    /// The name that the client gave it.
    session: String,
    /// The labels that it asked for, as compared.
    labels: BTreeMap<&'static str, String>,
    /// The id of the exit that it leaves through.
    #[schema(value_type = String)]
    exit: Arc<str>,
    /// The address that origins see, when it is known.
    #[schema(value_type = Option<String>)]
    exit_address: Option<IpAddr>,
    /// When it was pinned (RFC 3339).
    made: String,
    /// When it ends at the latest.
    expires: String,
    /// When it ends if it is not used again: sooner than `expires` where it
    /// has an idle time.
    ends: String,
    /// Seconds until then, rounded down.
    ends_in: u64,
    /// It also ends when it was unused for so many seconds.
    idle: Option<u32>,
    /// Its last use; kept up to date only where it has an idle time.
    used: String,
    /// How often it was moved.
    moves: u32,
}

impl Session {
    fn new(key: SessionKey, pin: &Pin, steering: &Steering) -> Self {
        let at = |instant| wall(steering.wall_ms(instant));
        Self {
            key: key.to_string(),
            user: pin.user.clone(),
            pool: pin.exit.pool.clone(),
            session: pin.session.to_string(),
            labels: pin.filter.iter().map(|(key, value)| (key, value.to_owned())).collect(),
            exit: pin.exit.id.clone(),
            exit_address: steering.address_of(pin),
            made: at(pin.made),
            expires: at(pin.expires),
            ends: at(pin.ends()),
            ends_in: pin.ends().since(steering.clock.now()).as_secs(),
            idle: pin.idle.map(Ttl::as_secs),
            used: at(pin.used),
            moves: pin.moves,
        }
    }
}

/// Which sessions, and which part of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// Of this user.
    user: Option<String>,
    /// Of this pool.
    pool: Option<String>,
    /// On the exit of this id.
    exit: Option<String>,
    /// Of exactly this name.
    session: Option<String>,
    /// `next` of the page before. Good for the same filters alone.
    cursor: Option<String>,
    /// At most so many: 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

impl List {
    fn filters(&self) -> [Option<&str>; 4] {
        [&self.user, &self.pool, &self.exit, &self.session].map(Option::as_deref)
    }
}

/// A part of the list.
#[derive(Serialize, ToSchema)]
pub(super) struct Sessions {
    /// In an order that does not change.
    sessions: Vec<Session>,
    /// The cursor of the page behind this; none: that was all.
    next: Option<String>,
}

/// The sessions that live.
#[utoipa::path(get, path = "/v1/sessions", params(List), responses(
    (status = 200, body = Sessions),
    (status = 400, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(desk): State<Arc<Desk>>,
    Asked(list): Asked<List>,
) -> Result<Json<Sessions>, Problem> {
    let limit = limit(list.limit, MOST, DEFAULT)?;
    let filters = list.filters();
    let after = match &list.cursor {
        None => None,
        Some(cursor) => {
            let bytes = behind(cursor, &filters)?.try_into();
            Some(SessionKey::from_bytes(
                bytes.map_err(|_| Problem::new(Kind::CursorInvalid, "leave cursor out"))?,
            ))
        }
    };
    let List { user, pool, exit, session, .. } = &list;
    let search =
        Search { user: user.clone(), pool: pool.clone(), exit: exit.clone(), session: session.clone() };
    let page = desk.steering.sessions(&search, after, limit).await;
    let last = page.pins.last().filter(|_| page.more);
    let next = last.map(|(key, _)| cursor(key.as_bytes(), &filters));
    let shown = |(key, pin): &(SessionKey, Pin)| Session::new(*key, pin, &desk.steering);
    Ok(Json(Sessions { sessions: page.pins.iter().map(shown).collect(), next }))
}

/// A session.
#[utoipa::path(get, path = "/v1/sessions/{key}", params(("key" = String, Path, description = "its key", pattern = "^[0-9A-Fa-f]{32}$")), responses(
    (status = 200, body = Session),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn one(
    State(desk): State<Arc<Desk>>,
    Named(text): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Session>, Problem> {
    let key = key(&text)?;
    Ok(Json(Session::new(key, &desk.steering.session(key).await?, &desk.steering)))
}

/// Ends a session: its next request makes a new pin. Open tunnels go on. The
/// answer shows it as it was.
#[utoipa::path(delete, path = "/v1/sessions/{key}", params(("key" = String, Path, description = "its key", pattern = "^[0-9A-Fa-f]{32}$")), responses(
    (status = 200, body = Session),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn end(
    State(desk): State<Arc<Desk>>,
    Named(text): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
    Told(Nothing {}): Told<Nothing>,
) -> Result<Json<Session>, Problem> {
    let key = key(&text)?;
    let ended = desk.steering.end(key).await?;
    Ok(Json(Session::new(key, &ended, &desk.steering)))
}

/// Where to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MoveTo {
    /// The id of an exit of its pool; without it, any other that fits.
    exit: Option<String>,
}

/// Moves a session to another exit, now. It keeps its expiry; open tunnels go
/// on; its next answer says `moved`.
#[utoipa::path(post, path = "/v1/sessions/{key}/move", params(("key" = String, Path, description = "its key", pattern = "^[0-9A-Fa-f]{32}$")),
    request_body(content = MoveTo, content_type = "application/json"), responses(
    (status = 200, body = Session),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn relocate(
    State(desk): State<Arc<Desk>>,
    Named(text): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
    Told(to): Told<MoveTo>,
) -> Result<Json<Session>, Problem> {
    let key = key(&text)?;
    let moved = desk.steering.relocate(key, to.exit.as_deref()).await?;
    Ok(Json(Session::new(key, &moved, &desk.steering)))
}

/// For how long.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Extend {
    /// What is to be left of it from now on, such as `30m` or `24h`: 1 s to
    /// 168 h.
    #[schema(example = "24h", pattern = "^([0-9]+(ms|s|m|h|d|w))+$")]
    ttl: String,
}

/// Makes a session last at least `ttl` from now on: never less long than it
/// would, never past 168 h from its making.
#[utoipa::path(post, path = "/v1/sessions/{key}/extend", params(("key" = String, Path, description = "its key", pattern = "^[0-9A-Fa-f]{32}$")),
    request_body(content = Extend, content_type = "application/json"), responses(
    (status = 200, body = Session),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn extend(
    State(desk): State<Arc<Desk>>,
    Named(text): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
    Told(by): Told<Extend>,
) -> Result<Json<Session>, Problem> {
    let key = key(&text)?;
    let written = parse_duration(&by.ttl);
    let ttl = match written.map(Ttl::from_duration) {
        Ok(Some(ttl)) => ttl,
        Ok(None) | Err(crate::core::time::DurationError::TooLarge) => {
            return Err(Problem::new(Kind::TtlOutOfRange, "give a ttl of 1s to 168h"));
        }
        Err(error) => return Err(Problem::new(Kind::TtlInvalid, error.to_string())),
    };
    let extended = desk.steering.extend(key, ttl).await?;
    Ok(Json(Session::new(key, &extended, &desk.steering)))
}
