//! Answers to what was asked wrongly (RFC 9457).
//!
//! Owns: [`Problem`], its codes, and that each says what to change.
//! Must not know: which request it answers.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::steer::Undone;

/// Why a request was not done. Then nothing has changed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// `urn:moorgate:admin:` and the code.
    r#type: String,
    /// The code in words.
    title: &'static str,
    /// The answer's status.
    status: u16,
    /// What programs tell it by.
    code: &'static str,
    /// What to change.
    detail: String,
    /// What is wrong in the files, of a reload.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<String>,
    #[serde(skip)]
    wait_s: Option<u32>,
}

/// A kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    HostForbidden,
    OriginForbidden,
    TokenRequired,
    TokenWrong,
    NotFound,
    MethodNotAllowed,
    QueryInvalid,
    CursorInvalid,
    BodyInvalid,
    BodyTooLarge,
    BodyNotJson,
    KeyInvalid,
    TtlInvalid,
    TtlOutOfRange,
    SessionUnknown,
    PoolUnknown,
    ExitUnknown,
    ExitUnfit,
    NoExit,
    Contended,
    StoreUnavailable,
    ReloadFailed,
    Busy,
}

impl Kind {
    /// Status, code and title.
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::HostForbidden => (403, "host_forbidden", "The Host is not a loopback one"),
            Self::OriginForbidden => (403, "origin_forbidden", "Another site's page may not ask this"),
            Self::TokenRequired => (401, "token_required", "A token is needed"),
            Self::TokenWrong => (401, "token_wrong", "The token is wrong"),
            Self::NotFound => (404, "not_found", "There is nothing at this path"),
            Self::MethodNotAllowed => (405, "method_not_allowed", "The path does not take this method"),
            Self::QueryInvalid => (400, "query_invalid", "The query is invalid"),
            Self::CursorInvalid => (400, "cursor_invalid", "The cursor is invalid"),
            Self::BodyInvalid => (400, "body_invalid", "The body is invalid"),
            Self::BodyTooLarge => (413, "body_too_large", "The body is too large"),
            Self::BodyNotJson => (415, "body_not_json", "The body is not JSON"),
            Self::KeyInvalid => (400, "key_invalid", "The session key is invalid"),
            Self::TtlInvalid => (400, "ttl_invalid", "The ttl is not a duration"),
            Self::TtlOutOfRange => (400, "ttl_out_of_range", "The ttl is out of bounds"),
            Self::SessionUnknown => (404, "session_unknown", "No such session lives"),
            Self::PoolUnknown => (404, "pool_unknown", "There is no such pool"),
            Self::ExitUnknown => (404, "exit_unknown", "The pool has no such exit"),
            Self::ExitUnfit => (409, "exit_unfit", "The exit cannot take the session"),
            Self::NoExit => (409, "no_exit", "No exit can take the session"),
            Self::Contended => (409, "contended", "The session is being changed by others"),
            Self::StoreUnavailable => (503, "store_unavailable", "It cannot be kept at the moment"),
            Self::ReloadFailed => (422, "reload_failed", "The files are wrong"),
            Self::Busy => (503, "busy", "Too many ask for this at a time"),
        }
    }
}

impl Problem {
    /// A problem, and what to change.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, code, title) = kind.row();
        let r#type = format!("urn:moorgate:admin:{code}");
        let wait_s = (status == 503).then_some(1);
        Self { r#type, title, status, code, detail: detail.into(), findings: Vec::new(), wait_s }
    }

    /// A reload that changed nothing.
    pub(super) fn reload(findings: Vec<String>) -> Self {
        let detail = "correct what is listed under \"findings\"; until then the old files stay in force";
        Self { findings, ..Self::new(Kind::ReloadFailed, detail) }
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, wait_s) = (self.status(), self.wait_s);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"moorgate\""));
        }
        if let Some(wait_s) = wait_s {
            headers.insert(RETRY_AFTER, wait_s.into());
        }
        response
    }
}

impl From<Undone> for Problem {
    fn from(undone: Undone) -> Self {
        let kind = match undone {
            Undone::SessionUnknown => Kind::SessionUnknown,
            Undone::PoolUnknown(_) => Kind::PoolUnknown,
            Undone::ExitUnknown(_) => Kind::ExitUnknown,
            Undone::ExitUnfit { .. } | Undone::ExitTooShort { .. } => Kind::ExitUnfit,
            Undone::NoExit(_) => Kind::NoExit,
            Undone::TooLong { .. } => Kind::TtlOutOfRange,
            Undone::Contended => Kind::Contended,
            Undone::Store(_) | Undone::NotKept(_) => Kind::StoreUnavailable,
        };
        Self::new(kind, undone.to_string())
    }
}

/// No route.
pub(super) async fn not_found() -> Problem {
    let detail = "the API is under /v1/ and described in /openapi.json; percent-encode a / within a name";
    Problem::new(Kind::NotFound, detail)
}

/// A route, and not by this method. The router names those that there are.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "use one of the methods that the field Allow names")
}
