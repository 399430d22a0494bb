//! Answers of the in-band host.
//!
//! Owns: [`Reply`], and [`Problem`], which says what is wrong (RFC 9457).
//! Must not know: what was asked.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use serde::Serialize;

use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::http1::answer;
use crate::steer::Undone;

/// An answer.
pub(super) struct Reply {
    status: u16,
    /// What went wrong, by name and by code, where it is one of the codes of
    /// all requests; and the sentence.
    wrong: Option<Wrong>,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    body: Vec<u8>,
}

struct Wrong {
    name: &'static str,
    code: Option<Code>,
    detail: Cow<'static, str>,
}

/// Why nothing was done.
#[derive(Clone, Debug)]
pub(super) enum Problem {
    /// As any request is refused.
    Fault(Fault),
    /// As only this host refuses one, with what to change.
    Own(Kind, Cow<'static, str>),
}

/// What only this host refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NotFound,
    /// With what is allowed.
    MethodNotAllowed(&'static str),
    OriginForbidden,
    QueryInvalid,
    BodyInvalid,
    BodyNotJson,
    BodyTooLarge,
    SessionRequired,
    SessionUnknown,
    SessionFixed,
    ExitUnfit,
    Contended,
}

impl Kind {
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::NotFound => (404, "not_found", "There is nothing here"),
            Self::MethodNotAllowed(_) => (405, "method_not_allowed", "It cannot be asked for in this way"),
            Self::OriginForbidden => (403, "origin_forbidden", "A web page may not ask"),
            Self::QueryInvalid => (400, "query_invalid", "The query is invalid"),
            Self::BodyInvalid => (400, "body_invalid", "The body is invalid"),
            Self::BodyNotJson => (415, "body_not_json", "The body is not JSON"),
            Self::BodyTooLarge => (413, "body_too_large", "The body is too large"),
            Self::SessionRequired => (400, "session_required", "No session is named"),
            Self::SessionUnknown => (404, "session_unknown", "No such session lives"),
            Self::SessionFixed => (409, "session_fixed", "The token fixes the session"),
            Self::ExitUnfit => (409, "exit_unfit", "The exit cannot take the session"),
            Self::Contended => (409, "contended", "The session is being changed by others"),
        }
    }

    /// What to change, where that hangs on nothing else.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::NotFound => "GET / lists what there is",
            Self::MethodNotAllowed(_) => "use one of the methods that the field Allow names",
            Self::OriginForbidden => "ask from a program: what a web page sends is not served",
            Self::QueryInvalid => "the only key is target, once",
            Self::BodyInvalid => "send a JSON object",
            Self::BodyNotJson => "send JSON, with Content-Type: application/json",
            Self::BodyTooLarge => "send at most 16384 bytes",
            Self::SessionRequired => {
                "name the session as every request does: -session-<id> behind the user, or Moorgate-Session"
            }
            Self::SessionUnknown => {
                "the session has ended, or was never used: its next request makes it anew"
            }
            Self::SessionFixed => "use the session that the token fixes, or a token that fixes none",
            Self::ExitUnfit => "name an exit that has the session's labels",
            Self::Contended => "ask again",
        }
    }
}

/// RFC 9457.
#[derive(Serialize)]
struct Written<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Undone> for Problem {
    fn from(undone: Undone) -> Self {
        let detail = undone.to_string();
        let kind = match undone {
            Undone::NoExit(none) => {
                return Self::Fault(Fault::new(Code::NoExit, detail).retry_after(none.retry_after()));
            }
            Undone::ExitUnknown(_) => return Self::Fault(Fault::new(Code::ExitUnknown, detail)),
            // The pool went away meanwhile.
            Undone::PoolUnknown(_) => return Self::Fault(Fault::new(Code::PoolForbidden, detail)),
            Undone::Store(fault) => return Self::Fault(fault.into()),
            Undone::NotKept(_) => return Self::Fault(Fault::new(Code::StoreUnavailable, detail)),
            Undone::TooLong { .. } => return Self::Fault(Fault::new(Code::TtlOutOfRange, detail)),
            Undone::SessionUnknown => return Kind::SessionUnknown.into(),
            Undone::ExitUnfit { .. } | Undone::ExitTooShort { .. } => Kind::ExitUnfit,
            Undone::Contended => Kind::Contended,
        };
        Self::Own(kind, detail.into())
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Fault(fault) => {
                let code = fault.code();
                let detail = fault.detail().to_owned().into();
                let wrong = Wrong { name: code.name(), code: Some(code), detail };
                let mut reply = Self::problem(code.status(), "urn:moorgate:error:", code.title(), wrong);
                let told = format!("moorgate; error={}; details=\"{}\"", code.proxy_status(), code.name());
                reply.fields.push(("Proxy-Status", told.into()));
                if code.status() == 407 {
                    reply.fields.push(("Proxy-Authenticate", answer::CHALLENGE.into()));
                }
                if let Some(wait) = fault.retry_after_s() {
                    reply.fields.push(("Retry-After", wait.to_string().into()));
                }
                reply
            }
            Problem::Own(kind, detail) => {
                let (status, name, title) = kind.row();
                let wrong = Wrong { name, code: None, detail };
                let mut reply = Self::problem(status, "urn:moorgate:inband:", title, wrong);
                if let Kind::MethodNotAllowed(allowed) = kind {
                    reply.fields.push(("Allow", allowed.into()));
                }
                reply
            }
        }
    }
}

impl Reply {
    /// JSON.
    pub(super) fn json(status: u16, body: &impl Serialize) -> Self {
        Self::new(status, "application/json", body)
    }

    fn new(status: u16, kind: &'static str, body: &impl Serialize) -> Self {
        // Structures of strings and numbers always serialise.
        let mut bytes = serde_json::to_vec(body).unwrap_or_default();
        bytes.push(b'\n');
        let fields = vec![
            ("Cache-Control", "no-store".into()),
            ("Content-Type", kind.into()),
            // Nothing of a page of another site may read it.
            ("Cross-Origin-Resource-Policy", "same-origin".into()),
            ("X-Content-Type-Options", "nosniff".into()),
        ];
        Self { status, wrong: None, fields, body: bytes }
    }

    fn problem(status: u16, space: &str, title: &str, wrong: Wrong) -> Self {
        let Wrong { name, detail, .. } = &wrong;
        let written = Written { r#type: &format!("{space}{name}"), title, status, code: name, detail };
        let mut reply = Self::new(status, "application/problem+json", &written);
        reply.fields.push(("Moorgate-Error", (*name).into()));
        reply.wrong = Some(wrong);
        reply
    }

    /// Its status.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// The code of what went wrong, where other requests have it, too.
    pub(super) fn code(&self) -> Option<Code> {
        self.wrong.as_ref()?.code
    }

    /// The sentence about what went wrong.
    pub(super) fn detail(&self) -> Option<&str> {
        Some(&*self.wrong.as_ref()?.detail)
    }

    /// Bytes of its body.
    pub(super) fn length(&self) -> u64 {
        self.body.len() as u64
    }

    /// As it goes out on a client's own connection.
    pub(super) fn bytes(self, head_only: bool, keeps: bool) -> Vec<u8> {
        let reason = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let mut out = format!("HTTP/1.1 {} {}", self.status, reason.unwrap_or_default());
        if let Some(wrong) = &self.wrong {
            out.push_str(": ");
            out.push_str(wrong.name);
        }
        out.push_str("\r\n");
        for (name, value) in &self.fields {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        out.push_str(if keeps { "\r\n" } else { "Connection: close\r\n\r\n" });
        let mut out = out.into_bytes();
        if !head_only {
            out.extend_from_slice(&self.body);
        }
        out
    }

    /// As it goes out inside a tunnel.
    pub(super) fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let (Some(wrong), Some(reason)) = (&self.wrong, response.status().canonical_reason())
            && let Ok(reason) = ReasonPhrase::try_from(format!("{reason}: {}", wrong.name))
        {
            response.extensions_mut().insert(reason);
        }
        for (name, value) in self.fields {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(problem: impl Into<Problem>) -> String {
        String::from_utf8(Reply::from(problem.into()).bytes(false, true)).unwrap()
    }

    #[test]
    fn what_is_wrong_is_told_in_full() {
        let told = text(Kind::MethodNotAllowed("GET, HEAD"));
        assert!(told.starts_with("HTTP/1.1 405 Method Not Allowed: method_not_allowed\r\n"), "{told}");
        for line in [
            "Allow: GET, HEAD",
            "Cache-Control: no-store",
            "Content-Type: application/problem+json",
            "Moorgate-Error: method_not_allowed",
        ] {
            assert!(told.contains(&format!("\r\n{line}\r\n")), "{line} in {told}");
        }
        let body: serde_json::Value = serde_json::from_str(told.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["type"], "urn:moorgate:inband:method_not_allowed");
        assert_eq!((body["status"].as_u64(), body["code"].as_str()), (Some(405), Some("method_not_allowed")));
    }

    #[test]
    fn a_fault_is_told_as_everywhere() {
        let told = text(Fault::new(Code::NoExit, "x").retry_after(std::time::Duration::from_secs(7)));
        assert!(told.starts_with("HTTP/1.1 503 Service Unavailable: no_exit\r\n"), "{told}");
        assert!(told.contains("\r\nRetry-After: 7\r\n"), "{told}");
        assert!(told.contains("\r\nProxy-Status: moorgate; error="), "{told}");
        assert!(told.contains("\"urn:moorgate:error:no_exit\""), "{told}");
    }

    #[test]
    fn a_head_has_no_body_and_the_last_answer_says_so() {
        let reply = || Reply::json(200, &["x"]);
        let whole = String::from_utf8(reply().bytes(false, true)).unwrap();
        let head = String::from_utf8(reply().bytes(true, false)).unwrap();
        assert!(whole.ends_with("\r\nContent-Length: 6\r\n\r\n[\"x\"]\n"), "{whole}");
        assert!(head.ends_with("\r\nContent-Length: 6\r\nConnection: close\r\n\r\n"), "{head}");
    }
}
