//! The operator's API, over HTTP.
//!
//! Owns: the admin listener's routes, how things are shown on it, and what a
//! client of it may use up.
//! Must not know: `serve`, `dial`; how an act is done (`steer` does it).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use self::gate::Gate;
use crate::admit::limits::Connections;
use crate::admit::users::Users;
use crate::core::secret::Secret;
use crate::drain::Drain;
use crate::net::listen::{self, Listener};
use crate::net::wire::Wire;
use crate::steer::Steering;

mod asks;
mod events;
mod exits;
mod gate;
mod metrics;
mod openapi;
mod page;
mod pools;
mod problem;
mod sessions;
mod users;

/// How long a request's head may take, and a connection be idle.
const HEAD: Duration = Duration::from_secs(10);

/// The most connections at a time; more are closed at once.
const MOST_CONNECTIONS: usize = 512;

/// All that is asked about here.
pub(crate) struct Desk {
    pub(crate) steering: Arc<Steering>,
    pub(crate) users: Arc<Users>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) drain: Drain,
}

/// Serves the API until the gateway is gone.
pub(crate) fn serve(listener: Arc<Listener>, desk: Desk, token: Option<Secret>) -> impl Future<Output = ()> {
    let (beside, drain) = (desk.drain.beside(), desk.drain.clone());
    let local = listener.local().is_ok_and(|address| address.is_local());
    let routes = routes(Arc::new(desk), Gate::new(token.as_ref(), local));
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // It answers during the drain, too, and is not waited for.
    listen::run(listener, beside, move |wire, _| one(wire, routes, room, drain))
}

fn routes(desk: Arc<Desk>, gate: Gate) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/page/{name}", get(page::file))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::scrape))
        .route("/openapi.json", get(openapi::document))
        .route("/v1/pools", get(pools::list))
        .route("/v1/reload", post(pools::reload))
        .route("/v1/exits", get(exits::list))
        // An id may hold a slash of its own (`2001:db8::/64`), written as it
        // is or percent-encoded.
        .route("/v1/exits/{pool}/{*id}", get(exits::one).post(exits::act))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/sessions/{key}", get(sessions::one).delete(sessions::end))
        .route("/v1/sessions/{key}/move", post(sessions::relocate))
        .route("/v1/sessions/{key}/extend", post(sessions::extend))
        .route("/v1/users", get(users::list))
        .route("/v1/events", get(events::stream))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(gate, gate::gate))
        .with_state(desk)
}

async fn one(wire: Wire, routes: Router, room: Arc<Semaphore>, drain: Drain) {
    let Ok(_permit) = room.try_acquire() else { return };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut served = pin!(http.serve_connection(TokioIo::new(wire), TowerToHyperService::new(routes)));
    let outcome = tokio::select! {
        outcome = &mut served => outcome,
        // The next request is for the process that has taken our place.
        () = drain.handed_over() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection of the admin listener has failed");
    }
}

/// Whether the process answers at all.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether new clients should come here.
async fn readyz(State(desk): State<Arc<Desk>>) -> (StatusCode, &'static str) {
    if desk.drain.is_begun() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// An instant of the wall clock, in ms since the Unix epoch, as people write
/// it (RFC 3339).
fn wall(ms: u64) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    humantime::format_rfc3339_millis(at.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}
