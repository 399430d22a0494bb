//! Addresses as clients write them.
//!
//! Owns: that an exit's id may hold slashes of its own, as `2001:db8::/64`
//! does, and be written as it is.
//! Must not know: what is at an address.

use axum::http::{Method, Request, Uri};

const EXITS: &str = "/v1/exits/";

/// What can be done to an exit, as paths end.
pub(super) const ACTS: [&str; 4] = ["active", "drain", "off", "reset"];

/// Percent-encodes the slashes within an exit's id, so that a route sees one
/// name. Behind the pool comes the id; what stands last is an act if it is one
/// of those, and whatever it is where something is to be done.
pub(super) fn unambiguous<B>(mut request: Request<B>) -> Request<B> {
    if let Some(uri) = rewritten(request.uri(), request.method()) {
        *request.uri_mut() = uri;
    }
    request
}

fn rewritten(uri: &Uri, method: &Method) -> Option<Uri> {
    let (pool, rest) = uri.path().strip_prefix(EXITS)?.split_once('/')?;
    let (id, act) = match rest.rsplit_once('/') {
        Some((id, last)) if ACTS.contains(&last) || method == Method::POST => (id, Some(last)),
        _ => (rest, None),
    };
    if !id.contains('/') {
        return None;
    }
    let mut path = format!("{EXITS}{pool}/{}", id.replace('/', "%2F"));
    for (mark, part) in [('/', act), ('?', uri.query())] {
        if let Some(part) = part {
            path.push(mark);
            path.push_str(part);
        }
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let (method, uri) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        assert_eq!(unambiguous(request).uri().to_string(), expected, "{line}");
    }

    #[test]
    fn an_id_may_hold_slashes() {
        check("GET /v1/exits/p/e1", "/v1/exits/p/e1");
        check("GET /v1/exits/p/10.0.0.0/8", "/v1/exits/p/10.0.0.0%2F8");
        check("GET /v1/exits/p/10.0.0.0%2F8", "/v1/exits/p/10.0.0.0%2F8");
        check("POST /v1/exits/p/10.0.0.0/8/off?dry_run", "/v1/exits/p/10.0.0.0%2F8/off?dry_run");
        check("POST /v1/exits/p/10.0.0.0%2F8/off", "/v1/exits/p/10.0.0.0%2F8/off");
        check("POST /v1/exits/p/http://h:1/x/eject", "/v1/exits/p/http:%2F%2Fh:1%2Fx/eject");
        check("GET /v1/exits/p/http://h:1/off", "/v1/exits/p/http:%2F%2Fh:1/off");
        check("POST http://h/v1/exits/p/a/b/off", "http://h/v1/exits/p/a%2Fb/off");
    }

    #[test]
    fn others_stay_as_they_are() {
        let others = ["/", "/v1/exits", "/v1/exits/", "/v1/exits/p", "/v1/sessions/a/b/c", "/v1/exits/p/"];
        others.iter().for_each(|path| check(&format!("POST {path}"), path));
        check("OPTIONS *", "*");
    }
}
