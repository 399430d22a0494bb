//! The operator's API: so far whether the gateway lives and is ready.
//!
//! Owns: the admin listener's routes, and what a client of it may use up.
//! Must not know: `serve`, `dial`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::drain::Drain;
use crate::net::listen;
use crate::net::wire::Wire;

/// How long a request's head may take, and a connection be idle.
const HEAD: Duration = Duration::from_secs(10);

/// The most connections at a time; more are closed at once.
const MOST_CONNECTIONS: usize = 512;

/// Serves `/healthz` and `/readyz` until the gateway is gone.
pub(crate) fn serve(listener: Arc<TcpListener>, drain: Drain) -> impl Future<Output = ()> {
    let beside = drain.beside();
    let routes =
        Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(drain);
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // It answers during the drain, too, and is not waited for.
    listen::run(listener, beside, move |wire, _| one(wire, routes, room))
}

async fn one(wire: Wire, routes: Router, room: Arc<Semaphore>) {
    let Ok(_permit) = room.try_acquire() else { return };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let served = http.serve_connection(TokioIo::new(wire), TowerToHyperService::new(routes));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection of the admin listener has failed");
    }
}

/// Whether the process answers at all.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether new clients should come here.
async fn readyz(State(drain): State<Drain>) -> (StatusCode, &'static str) {
    if drain.is_begun() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}
