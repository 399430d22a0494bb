//! The operator's API: so far whether the gateway lives and is ready.
//!
//! Owns: the admin listener's routes.
//! Must not know: `serve`, `dial`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::drain::Drain;

/// Serves `/healthz` and `/readyz` until the gateway is gone.
pub(crate) async fn serve(listener: TcpListener, drain: Drain) -> std::io::Result<()> {
    let routes =
        Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(drain);
    axum::serve(listener, routes).await
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
