//! The operator's API, over HTTP.
//!
//! Owns: the admin listener's routes, how things are shown on it, and what a
//! client of it may use up.
//! Must not know: `serve`, `dial`; how an act is done (`steer` does it).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::sync::Semaphore;

use self::gate::Gate;
use self::problem::{Kind, Problem};
use crate::admit::limits::Connections;
use crate::admit::users::Users;
use crate::drain::Drain;
use crate::net::listen::{self, Listener};
use crate::net::wire::Wire;
use crate::steer::{Steering, wall};

mod address;
mod asks;
mod cooldowns;
mod events;
mod exits;
mod gate;
mod health;
mod history;
mod metrics;
mod openapi;
mod page;
mod pools;
mod problem;
mod sessions;
mod users;

pub(crate) use gate::Key;
pub(crate) use history::History;

/// How long a request's head may take, and a connection be idle.
const HEAD: Duration = Duration::from_secs(10);

/// The most connections at a time; more are closed at once.
const MOST_CONNECTIONS: usize = 512;

/// So many answers are made aside at a time: more would take the processors
/// from clients all the same.
static ASIDE: Semaphore = Semaphore::const_new(2);

/// All that is asked about here.
pub(crate) struct Desk {
    /// What opens the listener.
    pub(crate) key: Arc<Key>,
    pub(crate) steering: Arc<Steering>,
    pub(crate) users: Arc<Users>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) drain: Drain,
    /// How the gateway has done of late.
    pub(crate) history: History,
}

/// Serves the API until the gateway is gone.
pub(crate) fn serve(listener: Arc<Listener>, desk: Desk) -> impl Future<Output = ()> {
    let (beside, drain) = (desk.drain.beside(), desk.drain.clone());
    let local = listener.local().is_ok_and(|address| address.is_local());
    let (gate, desk) = (Gate::new(desk.key.clone(), local), Arc::new(desk));
    let routes = routes(desk.clone(), gate);
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // It answers during the drain, too, and is not waited for.
    let listening = listen::run(listener, beside, move |wire, _| one(wire, routes, room, drain));
    async move {
        tokio::select! {
            () = listening => {}
            () = history::keep(desk) => {}
        }
    }
}

fn routes(desk: Arc<Desk>, gate: Gate) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/page/{name}", get(page::file))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::scrape))
        .route("/openapi.json", get(openapi::document))
        .route("/v1/pools", get(pools::list))
        .route("/v1/reload", post(pools::reload))
        .route("/v1/exits", get(exits::list::list))
        .route("/v1/exits/{pool}/{id}", get(exits::one))
        .route("/v1/exits/{pool}/{id}/{act}", post(exits::act))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/sessions/{key}", get(sessions::one).delete(sessions::end))
        .route("/v1/sessions/{key}/move", post(sessions::relocate))
        .route("/v1/sessions/{key}/extend", post(sessions::extend))
        .route("/v1/cooldowns", get(cooldowns::list))
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
    let routes = TowerToHyperService::new(routes);
    let serve = service_fn(|request| routes.call(address::unambiguous(request)));
    let mut served = pin!(http.serve_connection(TokioIo::new(wire), serve));
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

/// Makes an answer aside from the threads that serve clients: one over all of
/// 100,000 exits takes some ten milliseconds.
async fn aside<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let ends = || Problem::new(Kind::Busy, "the gateway ends: ask another");
    let _room = ASIDE.acquire().await.map_err(|_| ends())?;
    tokio::task::spawn_blocking(make).await.map_err(|_| ends())
}

/// An answer of JSON that is made aside, text and all.
async fn json_aside<T: Serialize>(
    make: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<impl IntoResponse, Problem> {
    let text = move || {
        let shown = make()?;
        serde_json::to_vec(&shown).map_err(|_| Problem::new(Kind::Busy, "ask again"))
    };
    Ok(([(CONTENT_TYPE, "application/json")], aside(text).await??))
}
