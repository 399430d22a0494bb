//! What is asked wrongly of the operator's API (SPEC §8): each has a problem
//! answer that says what to change, and changes nothing.

use serde_json::Value;

use crate::harness::operator::{ask, is_problem, look, session};
use crate::harness::request::Ask;
use crate::harness::{Client, Gateway, Origin, Setup};

/// Two exits, one session `a`, and that nothing has come of it all.
struct Scene {
    gateway: Gateway,
    token: String,
    before: [Value; 3],
}

impl Scene {
    fn start(token: Option<&str>) -> Self {
        let mut setup = Setup::addresses(2);
        if let Some(token) = token {
            setup = setup.config("admin.token", token);
        }
        let gateway = setup.start();
        gateway.get("acme-session-a-ttl-1h", &Origin::start().url("/ip")).ok();
        let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let mut scene = Self { gateway, token, before: Default::default() };
        scene.before = scene.now();
        scene
    }

    fn look(&self, path: &str) -> Value {
        serde_json::from_slice(&ask(&self.gateway, "GET", path, &self.token, "").ok().body).unwrap()
    }

    fn now(&self) -> [Value; 3] {
        let mut sessions = self.look("/v1/sessions");
        sessions["sessions"][0]["ends_in"] = Value::Null;
        [sessions, self.look("/v1/exits"), self.look("/v1/pools")]
    }

    fn key(&self) -> &str {
        self.before[0]["sessions"][0]["key"].as_str().unwrap()
    }

    #[track_caller]
    fn is_unchanged(&self) {
        assert_eq!(self.now(), self.before);
    }

    /// Each operation that the API describes, with real names.
    fn operations(&self) -> Vec<(String, String)> {
        let document = self.look("/openapi.json");
        let mut found = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            let path = path.replace("{key}", self.key()).replace("{pool}", "p");
            let path = path.replace("{id}", "e1").replace("{act}", "off");
            found.extend(
                methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())),
            );
        }
        assert!(found.len() >= 15, "{found:?}");
        found
    }
}

/// Health and metrics take any query, and need no token on loopback.
fn is_open(path: &str) -> bool {
    ["/healthz", "/readyz", "/metrics"].contains(&path)
}

#[test]
fn every_route_refuses_other_methods_queries_and_bodies() {
    let scene = Scene::start(None);
    let operations = scene.operations();
    let json = "Content-Type: application/json\r\n";
    for (method, path) in &operations {
        let asked = |method: &str, path: &str, fields: &str, body: &str| {
            ask(&scene.gateway, method, path, fields, body)
        };
        for other in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            if !operations.contains(&(other.to_owned(), path.clone())) {
                let answer = asked(other, path, "", "");
                is_problem(&answer, 405, "method_not_allowed");
                let allowed: Vec<_> = answer.field("allow").unwrap().split(',').map(str::trim).collect();
                assert!(
                    allowed.contains(&&**method) && !allowed.contains(&other),
                    "{other} {path}: {allowed:?}"
                );
            }
        }
        if !is_open(path) {
            is_problem(&asked(method, &format!("{path}?no_such_key=1"), "", ""), 400, "query_invalid");
        }
        if method != "GET" {
            let big = format!("{{\"exit\": \"{}\"}}", "x".repeat(20_000));
            is_problem(&asked(method, path, json, "{\"no_such_key\": 1}"), 400, "body_invalid");
            is_problem(&asked(method, path, json, "[]"), 400, "body_invalid");
            is_problem(&asked(method, path, json, "null"), 400, "body_invalid");
            is_problem(&asked(method, path, json, "{\"exit\""), 400, "body_invalid");
            is_problem(&asked(method, path, json, "\u{fffd}"), 400, "body_invalid");
            is_problem(&asked(method, path, json, &big), 413, "body_too_large");
            is_problem(&asked(method, path, "", "{}"), 415, "body_not_json");
            is_problem(&asked(method, path, "Content-Type: text/plain\r\n", "{}"), 415, "body_not_json");
        }
        // An exit's id might go on like this.
        let (status, codes) = (404, ["not_found", "exit_unknown", "pool_unknown"]);
        let answer = asked(method, &format!("{path}/more/of/it"), "", "");
        let code = codes.into_iter().find(|code| answer.text().contains(&format!("\"{code}\"")));
        is_problem(&answer, status, code.unwrap_or_default());
    }
    scene.is_unchanged();
}

#[test]
fn every_route_refuses_other_tokens_hosts_and_origins() {
    let scene = Scene::start(Some("t0ken"));
    let admin = scene.gateway.admin();
    for (method, path) in scene.operations() {
        let asked = |fields: &str| ask(&scene.gateway, &method, &path, fields, "");
        let evil = "Origin: http://evil.example\r\n";
        is_problem(&asked(&format!("{}{evil}", scene.token)), 403, "origin_forbidden");
        let head = format!("{method} {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        is_problem(&Client::open(admin).send(head).answer(&method), 403, "host_forbidden");
        if is_open(&path) {
            continue;
        }
        is_problem(&asked(""), 401, "token_required");
        is_problem(&asked(&scene.token.repeat(2)), 401, "token_required");
        for wrong in ["Bearer x", "Bearer T0ken", "Bearer t0ken2", "Basic dDA6dDA=", "t0ken", "Bearer"] {
            is_problem(&asked(&format!("Authorization: {wrong}\r\n")), 401, "token_wrong");
        }
    }
    scene.is_unchanged();
}

#[test]
fn what_is_asked_wrongly_is_told_and_changes_nothing() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    gateway.get("acme-session-a-ttl-1h", &origin.url("/ip")).ok();
    let before = session(&gateway, "a");
    let key = before["key"].as_str().unwrap();
    let nobody = "0".repeat(32);
    let one = format!("/v1/sessions/{key}");
    let json = "Content-Type: application/json\r\n";
    let big = format!("{{\"exit\": \"{}\"}}", "x".repeat(20_000));
    let rows = [
        ("GET", "/v1", "", "", 404, "not_found"),
        ("GET", "/v1/session", "", "", 404, "not_found"),
        ("GET", "/v2/pools", "", "", 404, "not_found"),
        ("POST", "/v1/exits/p/e1/eject", "", "", 404, "not_found"),
        ("POST", "/v1/exits/p/e1", "", "", 405, "method_not_allowed"),
        ("GET", "/v1/exits/p/e1/off", "", "", 405, "method_not_allowed"),
        ("POST", "/v1/exits/p/127.0.0.0/28/off", "", "", 404, "exit_unknown"),
        ("GET", "/v1/exits?order=size", "", "", 400, "query_invalid"),
        ("POST", "/v1/exits/q/e1/off", "", "", 404, "pool_unknown"),
        ("POST", "/v1/exits/p/e7/off", "", "", 404, "exit_unknown"),
        ("POST", "/v1/exits/p/e7/off?dry_run", "", "", 404, "exit_unknown"),
        ("GET", "/v1/exits/p/e7", "", "", 404, "exit_unknown"),
        ("POST", "/v1/exits/p/e1/off?dryrun", "", "", 400, "query_invalid"),
        ("POST", "/v1/exits/p/e1/off?dry_run=maybe", "", "", 400, "query_invalid"),
        ("POST", "/v1/exits/p/%ff/off", "", "", 404, "not_found"),
        ("POST", "/v1/exits/p/e1/off", json, "{\"why\": 1}", 400, "body_invalid"),
        ("DELETE", "/v1/pools", "", "", 405, "method_not_allowed"),
        ("POST", "/v1/sessions", "", "", 405, "method_not_allowed"),
        ("PUT", &one, "", "", 405, "method_not_allowed"),
        ("GET", "/v1/reload", "", "", 405, "method_not_allowed"),
        ("POST", "/v1/reload?now", "", "", 400, "query_invalid"),
        ("POST", "/v1/reload", json, "[]", 400, "body_invalid"),
        ("GET", "/v1/pools?name=p", "", "", 400, "query_invalid"),
        ("GET", "/v1/sessions?users=acme", "", "", 400, "query_invalid"),
        ("GET", "/v1/sessions?user=acme&user=b", "", "", 400, "query_invalid"),
        ("GET", "/v1/sessions?limit=0", "", "", 400, "query_invalid"),
        ("GET", "/v1/sessions?limit=1001", "", "", 400, "query_invalid"),
        ("GET", "/v1/sessions?limit=-1", "", "", 400, "query_invalid"),
        ("GET", "/v1/sessions?limit=ten", "", "", 400, "query_invalid"),
        ("GET", "/v1/sessions?cursor=", "", "", 400, "cursor_invalid"),
        ("GET", "/v1/sessions?cursor=AAAAAAAAAAAAAAAA", "", "", 400, "cursor_invalid"),
        ("GET", "/v1/exits?cursor=%00", "", "", 400, "cursor_invalid"),
        ("GET", "/v1/sessions/xyz", "", "", 400, "key_invalid"),
        ("DELETE", "/v1/sessions/xyz", "", "", 400, "key_invalid"),
        ("GET", &format!("/v1/sessions/{nobody}"), "", "", 404, "session_unknown"),
        ("DELETE", &format!("/v1/sessions/{nobody}"), "", "", 404, "session_unknown"),
        ("POST", &format!("/v1/sessions/{nobody}/move"), "", "", 404, "session_unknown"),
        ("DELETE", &format!("{one}?force"), "", "", 400, "query_invalid"),
        ("DELETE", &one, json, "{\"x\": 1}", 400, "body_invalid"),
        ("POST", &format!("{one}/move"), json, "{\"exits\": \"e1\"}", 400, "body_invalid"),
        ("POST", &format!("{one}/move"), json, "{\"exit\": 1}", 400, "body_invalid"),
        ("POST", &format!("{one}/move"), json, "{", 400, "body_invalid"),
        ("POST", &format!("{one}/move"), json, &big, 413, "body_too_large"),
        ("POST", &format!("{one}/move"), "", "{}", 415, "body_not_json"),
        ("POST", &format!("{one}/move"), "Content-Type: text/plain\r\n", "{}", 415, "body_not_json"),
        ("POST", &format!("{one}/extend"), "", "", 400, "body_invalid"),
        ("POST", &format!("{one}/extend"), json, "{\"ttl\": 60}", 400, "body_invalid"),
        ("POST", &format!("{one}/extend"), json, "{\"ttl\": \"1h\", \"by\": 1}", 400, "body_invalid"),
        ("POST", "/v1/reload", "Origin: http://evil.example\r\n", "", 403, "origin_forbidden"),
        ("GET", "/v1/events?all", "", "", 400, "query_invalid"),
    ];
    for (method, path, fields, body, status, code) in rows {
        let answer = ask(&gateway, method, path, fields, body);
        is_problem(&answer, status, code);
        if status == 405 {
            assert!(answer.field("allow").is_some_and(|allow| !allow.contains(method)), "{method} {path}");
        }
    }
    let after = session(&gateway, "a");
    assert_eq!((&after["exit"], &after["expires"]), (&before["exit"], &before["expires"]));
    for shown in look(&gateway, "/v1/exits")["exits"].as_array().unwrap() {
        assert_eq!(shown["state"], "active");
    }
    assert_eq!(look(&gateway, "/v1/pools")["last_reload"], Value::Null);
}
