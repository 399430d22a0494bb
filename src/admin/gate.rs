//! Who may ask.
//!
//! Owns: the token, and what keeps a page in somebody's browser from asking
//! in its place: `Host` (DNS rebinding) and `Origin` (requests across sites).
//! The token comes as `Bearer`, or as the password of `Basic`, with any name:
//! so a browser asks for it, keeps it and sends it by itself.
//! Must not know: what is asked.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::watch;

use super::problem::{Kind, Problem};
use crate::core::secret::Secret;

/// The token that opens the gate; a reload may bring another.
pub(crate) struct Key {
    /// Its digest, so that comparing takes as long whatever was sent.
    token: watch::Sender<Option<blake3::Hash>>,
}

impl Key {
    /// This token; `None`: none is needed.
    pub(crate) fn new(token: Option<&Secret>) -> Self {
        Self { token: watch::Sender::new(digest(token)) }
    }

    /// Another one from now on. What the old one opened ends.
    pub(crate) fn replace(&self, token: Option<&Secret>) {
        let new = digest(token);
        self.token.send_if_modified(|token| std::mem::replace(token, new) != new);
    }

    fn get(&self) -> Option<blake3::Hash> {
        *self.token.borrow()
    }
}

fn digest(token: Option<&Secret>) -> Option<blake3::Hash> {
    token.map(|token| blake3::hash(token.expose().as_bytes()))
}

/// The admin listener's gate.
#[derive(Clone)]
pub(super) struct Gate {
    key: Arc<Key>,
    /// The listener is on loopback.
    local: bool,
}

/// What says how far from a page's own site its request goes.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Open to all who reach a listener on loopback.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

impl Gate {
    /// With this key, on a listener that is `local` or not.
    pub(super) fn new(key: Arc<Key>, local: bool) -> Self {
        Self { key, local }
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let path = request.uri().path();
        // Looked at once: it may be replaced meanwhile.
        let key = self.key.get();
        let trusted = key.is_some() && check_token(key, headers).is_ok();
        if !trusted && self.local {
            check_host(request)?;
        }
        check_origin(request)?;
        let open = self.local && (key.is_none() || OPEN.contains(&path));
        if trusted || open {
            return Ok(());
        }
        check_token(key, headers)
    }
}

fn check_token(key: Option<blake3::Hash>, headers: &HeaderMap) -> Result<(), Problem> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        let detail = "send the token of the configuration as one field Authorization: Bearer";
        return Err(Problem::new(Kind::TokenRequired, detail));
    };
    let sent = token(field.as_bytes()).map(|sent| blake3::hash(&sent));
    // The comparison of digests takes the same time for all of them.
    match (key, sent) {
        (Some(token), Some(sent)) if sent == token => Ok(()),
        _ => Err(Problem::new(Kind::TokenWrong, "send the token that the configuration has under admin")),
    }
}

/// The token in a field `Authorization`.
fn token(field: &[u8]) -> Option<Cow<'_, [u8]>> {
    let at = field.iter().position(|b| *b == b' ')?;
    let (scheme, sent) = (&field[..at], field[at..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(sent.into());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let mut pair = STANDARD.decode(sent).ok()?;
    let colon = pair.iter().position(|b| *b == b':')?;
    Some(pair.split_off(colon + 1).into())
}

/// What let a request through: what goes on for long ends when it changes.
#[derive(Clone)]
pub(super) struct Opened(watch::Receiver<Option<blake3::Hash>>);

impl Opened {
    /// Ready once the key is another than it was then.
    pub(super) async fn changed(&mut self) {
        // Without its sender, the gateway is gone.
        let _ = self.0.changed().await;
    }
}

/// Lets a request through, or answers why not.
pub(super) async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    // Before it is looked at: no change is missed.
    let opened = Opened(gate.key.token.subscribe());
    request.extensions_mut().insert(opened);
    match gate.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let page = is_page(request.uri().path());
            let mut response = problem.into_response();
            if page && response.status() == StatusCode::UNAUTHORIZED {
                let asks = HeaderValue::from_static("Basic realm=\"moorgate\", charset=\"UTF-8\"");
                response.headers_mut().append(WWW_AUTHENTICATE, asks);
            }
            response
        }
    }
}

/// What a person's browser opens: only there is it to ask for a password.
fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

/// A page that has its own name resolve to loopback sends that name.
fn check_host(request: &Request) -> Result<(), Problem> {
    let refused = || {
        let detail = "ask for localhost, 127.0.0.1 or [::1]: without a token no other Host is served here";
        Err(Problem::new(Kind::HostForbidden, detail))
    };
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        // Health checks in HTTP/1.0 have none.
        (None, _) if OPEN.contains(&request.uri().path()) => None,
        _ => return refused(),
    };
    let written = request.uri().authority().map(Authority::as_str);
    match host.into_iter().chain(written).all(is_loopback) {
        true => Ok(()),
        false => refused(),
    }
}

fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = bare.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// A page of another site can send a request without a body, though it cannot
/// read the answer. Browsers say where it comes from.
fn check_origin(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let host = headers.get(HOST).map(|host| host.as_bytes());
    let same = |origin: &[u8]| {
        let of = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        of.is_some() && of == host
    };
    let foreign = headers.get_all(ORIGIN).iter().any(|origin| !same(origin.as_bytes()));
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let site = headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes());
    let crossing = !looks && !matches!(site, None | Some(b"same-origin" | b"none"));
    if foreign || crossing {
        let detail = "ask from a program, or from the page that this listener serves itself";
        return Err(Problem::new(Kind::OriginForbidden, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn gate(token: Option<&str>, local: bool) -> Gate {
        Gate::new(Arc::new(Key::new(token.map(Secret::new).as_ref())), local)
    }

    #[track_caller]
    fn check(gate: &Gate, line: &str, fields: &[(&str, &str)], expected: Option<Kind>) {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut request = axum::http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let outcome = gate.check(&request.body(Body::empty()).unwrap());
        let problem = |problem: &Problem| serde_json::to_value(problem).unwrap()["code"].clone();
        let expected = expected.map(|kind| problem(&Problem::new(kind, "")));
        assert_eq!(outcome.err().as_ref().map(problem), expected, "{line} {fields:?}");
    }

    #[test]
    fn without_a_token_only_loopback_hosts_are_served() {
        let gate = gate(None, true);
        for host in ["localhost", "LOCALHOST:9090", "127.0.0.1:9090", "127.9.9.9", "[::1]:1", "[::1]"] {
            check(&gate, "GET /v1/pools", &[("host", host)], None);
        }
        let refused = [
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost@evil.example",
            "evil.example@localhost",
            "192.0.2.1",
            "[2001:db8::1]",
            "0.0.0.0",
            "",
            "127.0.0.1 evil",
        ];
        for host in refused {
            for path in ["/v1/pools", "/metrics", "/healthz", "/"] {
                check(&gate, &format!("GET {path}"), &[("host", host)], Some(Kind::HostForbidden));
            }
        }
        check(&gate, "GET /v1/pools", &[], Some(Kind::HostForbidden));
        check(&gate, "GET /healthz", &[], None);
        let twice = [("host", "localhost"), ("host", "evil.example")];
        check(&gate, "GET /v1/pools", &twice, Some(Kind::HostForbidden));
        check(&gate, "GET http://evil.example/v1/pools", &[("host", "localhost")], Some(Kind::HostForbidden));
    }

    #[test]
    fn a_token_is_needed_where_there_is_one() {
        let host = ("host", "gate.example");
        let bearer = |token: &'static str| ("authorization", token);
        for local in [true, false] {
            let gate = gate(Some("s3cret"), local);
            let path = "GET /v1/pools";
            check(&gate, path, &[host, bearer("Bearer s3cret")], None);
            check(&gate, path, &[host, bearer("bearer  s3cret ")], None);
            check(&gate, path, &[host, bearer("Basic YW55Ym9keTpzM2NyZXQ=")], None);
            check(&gate, path, &[host, bearer("basic OnMzY3JldA==")], None);
            let missing = if local { Kind::HostForbidden } else { Kind::TokenRequired };
            check(&gate, path, &[host], Some(missing));
            let wrong = if local { Kind::HostForbidden } else { Kind::TokenWrong };
            for token in [
                "Bearer s3cre",
                "Bearer s3crett",
                "Bearer",
                "Basic s3cret",
                "Basic czNjcmV0",
                "Basic YTpz",
                "s3cret",
                "",
            ] {
                check(&gate, path, &[host, bearer(token)], Some(wrong));
            }
            let localhost = ("host", "localhost");
            check(&gate, path, &[localhost], Some(Kind::TokenRequired));
            check(&gate, path, &[localhost, bearer("Bearer x")], Some(Kind::TokenWrong));
            let twice = [localhost, bearer("Bearer s3cret"), bearer("Bearer x")];
            check(&gate, path, &twice, Some(Kind::TokenRequired));
            let open = if local { None } else { Some(Kind::TokenRequired) };
            OPEN.iter().for_each(|path| check(&gate, &format!("GET {path}"), &[localhost], open));
        }
    }

    #[test]
    fn a_token_is_replaced_for_all_that_comes() {
        let gate = gate(Some("old"), true);
        let mut seen = gate.key.token.subscribe();
        let as_ = |token: &'static str| [("host", "localhost"), ("authorization", token)];
        gate.key.replace(Some(&Secret::new("old")));
        assert!(!seen.has_changed().unwrap(), "the same");
        check(&gate, "GET /", &as_("Bearer old"), None);
        gate.key.replace(Some(&Secret::new("new")));
        assert!(seen.has_changed().unwrap());
        seen.mark_unchanged();
        check(&gate, "GET /", &as_("Bearer old"), Some(Kind::TokenWrong));
        check(&gate, "GET /", &as_("Bearer new"), None);
        gate.key.replace(None);
        assert!(seen.has_changed().unwrap());
        check(&gate, "GET /", &as_("Bearer old"), None);
    }

    #[test]
    fn another_sites_page_may_not_ask() {
        let gate = gate(None, true);
        let host = ("host", "localhost:9090");
        check(&gate, "POST /v1/reload", &[host, ("origin", "http://localhost:9090")], None);
        for origin in ["http://localhost:9091", "https://evil.example", "null", "localhost:9090"] {
            for method in ["GET", "POST"] {
                let fields = [host, ("origin", origin)];
                check(&gate, &format!("{method} /v1/reload"), &fields, Some(Kind::OriginForbidden));
            }
        }
        let site = |site: &'static str| [host, ("sec-fetch-site", site)];
        check(&gate, "POST /v1/reload", &site("cross-site"), Some(Kind::OriginForbidden));
        check(&gate, "DELETE /v1/sessions/x", &site("same-site"), Some(Kind::OriginForbidden));
        check(&gate, "POST /v1/reload", &site("same-origin"), None);
        check(&gate, "GET /", &site("cross-site"), None);
    }
}
