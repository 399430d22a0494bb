//! The operator's API (SPEC §8).

use serde_json::{Value, json};

use crate::harness::operator::{act, ask, is_problem, look, session};
use crate::harness::request::Ask;
use crate::harness::{Answer, Client, Gateway, Origin, Setup, Upstream};

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

/// Writes another operator's token (or none), and has it read with the old.
#[track_caller]
fn give_token(gateway: &Gateway, old: &str, new: Value, bind: &str) -> Answer {
    let text = std::fs::read_to_string(gateway.dir().join("moorgate.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    (config["admin"]["token"], config["admin"]["bind"]) = (new, json!(bind));
    gateway.replace("moorgate.json", config.to_string());
    ask(gateway, "POST", "/v1/reload", &format!("Authorization: Bearer {old}\r\n"), "")
}

#[test]
fn another_token_is_in_force_after_a_reload_and_ends_what_the_old_one_opened() {
    let gateway = Setup::addresses(1).config("admin.token", "old-token").start();
    let host = gateway.admin();
    let mut stream = Client::open(host);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let with = |token: &str| ask(&gateway, "GET", "/v1/pools", &bearer(token), "");
    stream.send(format!("GET /v1/events HTTP/1.1\r\nHost: {host}\r\n{}\r\n", bearer("old-token")));
    assert_eq!(stream.head().status, 200);
    give_token(&gateway, "old-token", json!("new-token"), "127.0.0.1:0").ok();
    is_problem(&with("old-token"), 401, "token_wrong");
    with("new-token").ok();
    let rest = String::from_utf8(stream.rest()).unwrap();
    assert!(rest.contains("event: stats") && rest.ends_with("0\r\n\r\n"), "{rest}");
    give_token(&gateway, "new-token", Value::Null, "127.0.0.1:0").ok();
    ask(&gateway, "GET", "/v1/pools", "", "").ok();
    assert!(!gateway.log.text().contains("-token"), "no secret in a log");
}

#[test]
fn no_reload_takes_the_token_from_a_listener_away_from_loopback() {
    let admin = json!({ "bind": "0.0.0.0:0", "token": "old-token" });
    let gateway = Setup::addresses(1).config("admin", admin).start();
    let answer = give_token(&gateway, "old-token", Value::Null, "127.0.0.1:0");
    let problem = is_problem(&answer, 422, "reload_failed");
    assert!(problem["findings"][0].as_str().unwrap().starts_with("admin.token: "), "{problem:#}");
    is_problem(&ask(&gateway, "GET", "/v1/pools", "", ""), 401, "token_required");
    ask(&gateway, "GET", "/v1/pools", "Authorization: Bearer old-token\r\n", "").ok();
}

#[test]
fn exits_are_listed_in_the_order_that_is_asked_for() {
    let gateway = Setup::new(json!([
        { "id": "a", "via": "127.0.0.2", "labels": { "city": "a" }, "weight": 4 },
        { "id": "b", "via": "127.0.0.3", "labels": { "city": "b" } },
        { "id": "c", "via": "127.0.0.4", "labels": { "city": "c" } },
        { "id": "d", "via": "127.0.0.5" },
    ]))
    .start();
    let origin = Origin::start();
    for (city, pins) in [("a", 3), ("b", 2), ("c", 1)] {
        for n in 0..pins {
            gateway.get(&format!("acme-city-{city}-session-{city}{n}"), &origin.url("/ip")).ok();
        }
    }
    act(&gateway, "POST", "/v1/exits/p/c/drain");
    let listed = |query: &str| -> Vec<String> {
        let list = look(&gateway, &format!("/v1/exits?{query}"));
        assert!(list["next"].is_null(), "another order has no pages: {list:#}");
        list["exits"].as_array().unwrap().iter().map(|exit| exit["id"].as_str().unwrap().into()).collect()
    };
    assert_eq!(listed("order=name"), ["a", "b", "c", "d"]);
    assert_eq!(listed("order=pins"), ["b", "c", "a", "d"], "for their weights");
    assert_eq!(listed("order=pins&limit=2"), ["b", "c"]);
    assert_eq!(listed("order=trouble&limit=2"), ["c", "a"]);
    let next = look(&gateway, "/v1/exits?limit=2")["next"].as_str().unwrap().to_owned();
    assert_eq!(listed(&format!("limit=9&cursor={next}")), ["c", "d"]);
    let answer = ask(&gateway, "GET", &format!("/v1/exits?order=pins&cursor={next}"), "", "");
    is_problem(&answer, 400, "query_invalid");
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
        "/metrics",
        "/healthz",
        "/readyz",
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
