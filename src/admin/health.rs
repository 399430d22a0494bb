//! `/healthz` and `/readyz`.
//!
//! Owns: what whoever watches the process is told. Any query is taken: some
//! watchers add one of their own.
//! Must not know: what the gateway does.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::Desk;

/// Whether the process answers at all. Needs no token on loopback.
#[utoipa::path(get, path = "/healthz", security((), ("token" = [])), responses(
    (status = 200, content_type = "text/plain", body = String),
))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether new clients should come here; while it drains: 503. Needs no token
/// on loopback.
#[utoipa::path(get, path = "/readyz", security((), ("token" = [])), responses(
    (status = 200, content_type = "text/plain", body = String),
    (status = 503, content_type = "text/plain", body = String),
))]
pub(super) async fn readyz(State(desk): State<Arc<Desk>>) -> (StatusCode, &'static str) {
    if desk.drain.is_begun() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}
