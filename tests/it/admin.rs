//! The operator's API (SPEC §8).

use serde_json::{Value, json};

use crate::harness::operator::{act, ask, is_problem, look, session};
use crate::harness::request::Ask;
use crate::harness::{Client, Gateway, Origin, Setup, Upstream};

/// Makes a session, and says on which exit it is.
#[track_caller]
fn make(gateway: &Gateway, origin: &Origin, name: &str) -> String {
    gateway.get(&format!("acme-session-{name}-ttl-1h"), &origin.url("/ip")).ok().exit()
}

#[track_caller]
fn exit(gateway: &Gateway, id: &str) -> Value {
    look(gateway, &format!("/v1/exits/p/{id}"))
}

#[test]
fn a_reload_is_answered_when_it_is_in_force() {
    let gateway = Setup::addresses(1).start();
    gateway.write_pools(&Setup::addresses(3).pools);
    assert_eq!(act(&gateway, "POST", "/v1/reload")["ok"], true);
    assert_eq!(look(&gateway, "/v1/exits")["exits"].as_array().unwrap().len(), 3);
    gateway.replace("pools/p.json", r#"{"pools": [{"name": "p", "exists": []}]}"#);
    let problem = is_problem(&ask(&gateway, "POST", "/v1/reload", "", ""), 422, "reload_failed");
    let finding = problem["findings"][0].as_str().unwrap();
    assert!(finding.contains("p.json:1:") && finding.contains("exists"), "{finding}");
    assert_eq!(
        look(&gateway, "/v1/exits")["exits"].as_array().unwrap().len(),
        3,
        "the old ones stay in force"
    );
    let last = look(&gateway, "/v1/pools")["last_reload"].clone();
    assert_eq!((&last["ok"], &last["findings"]), (&json!(false), &problem["findings"]));
}

#[test]
fn what_is_asked_wrongly_is_told_and_changes_nothing() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    make(&gateway, &origin, "a");
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
        ("POST", "/v1/exits/p/e1", "", "", 404, "not_found"),
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

#[test]
fn a_name_that_resolves_to_loopback_is_not_loopback() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    make(&gateway, &origin, "a");
    let port = gateway.admin().port();
    let as_host = |method: &str, path: &str, host: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        Client::open(gateway.admin()).send(head).answer(method)
    };
    for host in ["evil.example", &format!("evil.example:{port}"), "127.0.0.1.evil.example"] {
        for path in ["/v1/sessions", "/metrics", "/healthz", "/openapi.json", "/"] {
            is_problem(&as_host("GET", path, host), 403, "host_forbidden");
        }
        is_problem(&as_host("POST", "/v1/exits/p/e1/off", host), 403, "host_forbidden");
    }
    assert_eq!(exit(&gateway, "e1")["state"], "active");
    for host in ["localhost", &format!("localhost:{port}"), "[::1]:9090", "127.0.0.1"] {
        as_host("GET", "/v1/sessions", host).ok();
    }
    let answer = as_host("GET", "/v1/sessions", "localhost");
    let cross: Vec<_> =
        answer.fields.iter().filter(|(name, _)| name.to_lowercase().starts_with("access-control")).collect();
    assert!(cross.is_empty(), "{cross:?}");
}

#[test]
fn with_a_token_all_but_health_and_metrics_needs_it() {
    let gateway = Setup::addresses(1).config("admin.token", "t0ken-of-the-operator").start();
    let with = |path: &str, token: &str| {
        let fields = if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
        ask(&gateway, "GET", path, &fields, "")
    };
    for path in ["/v1/pools", "/v1/sessions", "/v1/events", "/openapi.json", "/nowhere"] {
        let answer = with(path, "");
        is_problem(&answer, 401, "token_required");
        assert!(answer.field("www-authenticate").is_some_and(|scheme| scheme.starts_with("Bearer")));
        for wrong in ["Bearer x", "Bearer t0ken-of-the-operato", "Basic dDA6", "Bearer"] {
            is_problem(&with(path, wrong), 401, "token_wrong");
        }
    }
    with("/v1/pools", "Bearer t0ken-of-the-operator").ok();
    for path in ["/healthz", "/readyz"] {
        with(path, "").ok();
    }
    assert!(!gateway.log.text().contains("t0ken"), "no secret in a log");
}

#[test]
fn events_tell_what_happens() {
    let upstream = Upstream::http();
    let gateway =
        Setup::new(json!([{ "id": "up", "via": upstream.to_string() }, { "id": "e1", "via": "127.0.0.2" }]))
            .quick()
            .pool("placement", "rendezvous")
            .start();
    let origin = Origin::start();
    let host = gateway.admin();
    let mut stream = Client::open(host);
    stream.send(format!("GET /v1/events HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let head = stream.head();
    assert_eq!((head.status, head.field("content-type")), (200, Some("text/event-stream")));
    let mut next = |wanted: &str| -> Value {
        loop {
            let line = stream.line_of("data: ");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == wanted {
                return event;
            }
        }
    };
    assert_eq!(next("stats")["sessions"], 0);
    let name = (0..).map(|n| format!("s{n}")).find(|name| make(&gateway, &origin, name) == "p/up").unwrap();
    loop {
        let made = next("session_made");
        if made["session"] == name {
            assert_eq!((&made["user"], &made["exit"]), (&json!("acme"), &json!("up")));
            break;
        }
    }
    upstream.refuse();
    assert_eq!(gateway.get(&format!("acme-session-{name}"), &origin.url("/ip")).ok().exit(), "p/e1");
    assert_eq!(next("exit_ejected")["exit"], "up");
    let moved = next("session_moved");
    assert_eq!(
        (&moved["from"], &moved["exit"], &moved["reason"]),
        (&json!("up"), &json!("e1"), &json!("exit_down"))
    );
    gateway.get("acme-ttl-x", &origin.url("/ip")).fails(400, "ttl_invalid");
    assert_eq!(next("failed")["code"], "ttl_invalid");
    act(&gateway, "POST", "/v1/exits/p/e1/drain");
    assert_eq!(next("exit_switched")["state"], "drain");
    act(&gateway, "POST", "/v1/reload");
    assert_eq!(next("reloaded")["ok"], true);
    let key = session(&gateway, &name)["key"].as_str().unwrap().to_owned();
    act(&gateway, "DELETE", &format!("/v1/sessions/{key}"));
    assert_eq!(next("session_ended")["key"], *key);
    let stats = next("stats");
    assert!(stats["requests"].as_u64().unwrap() >= 3 && stats["errors"] == 1, "{stats:#}");
}

#[test]
fn the_description_has_every_route_and_is_of_31() {
    let gateway = Setup::addresses(1).start();
    let document = look(&gateway, "/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    for path in [
        "/v1/pools",
        "/v1/reload",
        "/v1/exits",
        "/v1/exits/{pool}/{id}",
        "/v1/exits/{pool}/{id}/{act}",
        "/v1/sessions",
        "/v1/sessions/{key}",
        "/v1/sessions/{key}/move",
        "/v1/sessions/{key}/extend",
        "/v1/users",
        "/v1/events",
    ] {
        assert!(paths.iter().any(|is| is == path), "{path} is not in {paths:?}");
    }
    // Each reference leads somewhere.
    let text = document.to_string();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}
