//! What a client asks the gateway itself, by `moorgate.internal` (SPEC §10).

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::operator::{json as body, look, session};
use crate::harness::redis::Redis;
use crate::harness::request::{Ask, connect, get, request};
use crate::harness::{Answer, Client, Gateway, Origin, PASSWORD, Setup, basic, eventually};

/// A request in absolute-form, with what it is told.
#[track_caller]
pub fn ask(gateway: &Gateway, username: &str, line: &str, told: &Value) -> Answer {
    let (method, path) = line.split_once(' ').expect("METHOD /path");
    let method_and_url = (method, format!("http://moorgate.internal{path}"));
    send(&mut gateway.client(), method_and_url, &basic(username), told)
}

#[track_caller]
fn send(client: &mut Client, (method, url): (&str, String), fields: &str, told: &Value) -> Answer {
    let text = if told.is_null() { String::new() } else { told.to_string() };
    let more = match told.is_null() {
        true => String::new(),
        false => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", text.len()),
    };
    client.send(request(method, &url, &format!("{fields}{more}")) + &text).answer(method)
}

/// A problem of this host alone.
#[track_caller]
fn is_problem(answer: &Answer, status: u16, code: &str) {
    let problem = body(answer);
    assert_eq!((answer.status, answer.code()), (status, code), "{problem:#}");
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)));
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert!(answer.reason.ends_with(&format!(": {code}")), "{}", answer.reason);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{problem:#}");
}

#[test]
fn a_session_is_shown_moved_and_ended() {
    let (gateway, origin) = (Setup::addresses(3).on_disk().start(), Origin::start());
    let (user, url) = ("acme-session-a-ttl-90s-idle-80s", origin.url("/ip"));
    is_problem(&ask(&gateway, user, "GET /session", &Value::Null), 404, "session_unknown");
    let first = gateway.get(user, &url).ok();

    let shown = body(&ask(&gateway, user, "GET /session", &Value::Null).ok());
    assert_eq!((&shown["id"], &shown["pool"], &shown["moves"]), (&json!("a"), &json!("p"), &json!(0)));
    assert_eq!(format!("p/{}", shown["exit"].as_str().unwrap()), first.exit());
    assert_eq!(shown["exit_address"].as_str(), first.address());
    assert_eq!(shown["idle"], 80);
    assert!(shown["made"].as_str().unwrap() < shown["expires"].as_str().unwrap());
    assert!((80..=90).contains(&shown["expires_in"].as_u64().unwrap()), "{shown:#}");

    let moved = body(&ask(&gateway, user, "POST /session/move", &Value::Null).ok());
    assert_eq!((&moved["moves"], &moved["expires"]), (&json!(1), &shown["expires"]));
    assert_ne!(moved["exit"], shown["exit"]);
    let next = gateway.get(user, &url).ok();
    let address = moved["exit_address"].as_str().unwrap();
    assert_eq!((next.news(), &*next.text()), ("moved", address));
    ask(&gateway, user, "POST /session/move", &Value::Null).ok();
    let moved = body(&ask(&gateway, user, "POST /session/move", &Value::Null).ok());
    gateway.crash();
    let next = gateway.get(user, &url).ok();
    assert_eq!(next.address(), moved["exit_address"].as_str(), "written before the answer");

    let chosen = ask(&gateway, user, "POST /session/move", &json!({ "exit": "e1" })).ok();
    assert_eq!(body(&chosen)["exit"], "e1");
    let ended = body(&ask(&gateway, user, "DELETE /session", &Value::Null).ok());
    assert_eq!((&ended["id"], &ended["exit"]), (&json!("a"), &json!("e1")));
    is_problem(&ask(&gateway, user, "DELETE /session", &Value::Null), 404, "session_unknown");
    assert_eq!(gateway.get(user, &url).ok().news(), "new");
    assert_eq!(gateway.get("acme-session-a", &url).ok().news(), "held");
    assert_eq!(origin.count(), 5, "nothing that the gateway was asked has left it");
}

#[test]
fn a_session_is_made_with_a_username_that_means_it() {
    let exits = json!([
        { "id": "e1", "via": "127.0.0.2", "labels": { "country": "us", "city": "New York" } },
        { "id": "e2", "via": "127.0.0.3", "labels": { "country": "nl" } },
    ]);
    let other = json!({ "name": "us-east", "exits": [{ "id": "x", "via": "127.0.0.9", "max_sessions": 1 }] });
    let gateway = Setup::new(exits).another_pool(other).start();
    let origin = Origin::start();
    let make = |user: &str, told: Value| ask(&gateway, user, "POST /sessions", &told);

    let told = json!({ "ttl": "1h", "labels": { "country": "us", "city": "New York" } });
    let answer = make("acme", told.clone());
    assert_eq!(answer.status, 201, "{answer:?}");
    let made = body(&answer);
    let username = made["username"].as_str().unwrap();
    assert!(username.starts_with("acme-session-") && username.contains("-ttl-3600s-pool-p-"), "{username}");
    assert_eq!((&made["exit"], &made["exit_address"]), (&json!("e1"), &json!("127.0.0.2")));
    assert!((3595..=3600).contains(&made["expires_in"].as_u64().unwrap()), "{made:#}");
    assert_eq!(session(&gateway, made["id"].as_str().unwrap())["exit"], "e1");
    let used = gateway.get(username, &origin.url("/ip")).ok();
    assert_eq!((used.news(), used.text()), ("new", "127.0.0.2".to_owned()));
    assert_ne!(body(&make("acme", told))["id"], made["id"]);

    // What the body leaves out, the client's own parameters say.
    let own = body(&make("acme-session-old-country-nl-ttl-70s", json!({})));
    assert_eq!((&own["exit"], &own["labels"]), (&json!("e2"), &json!({ "country": "nl" })));
    assert!(own["expires_in"].as_u64().unwrap() <= 70 && own["id"] != "old");
    let elsewhere = make("acme-country-nl", json!({ "pool": "us-east" }));
    assert_eq!((elsewhere.status, &body(&elsewhere)["exit"]), (201, &json!("x")));
    let full = make("acme", json!({ "pool": "us-east" })).fails(503, "no_exit");
    assert!(full.retry_after().is_some());

    make("acme", json!({ "pool": "nope" })).fails(403, "pool_forbidden");
    make("acme", json!({ "ttl": "5" })).fails(400, "ttl_invalid");
    make("acme", json!({ "ttl": "999h" })).fails(400, "ttl_out_of_range");
    make("acme", json!({ "labels": { "planet": "mars" } })).fails(400, "parameter_unknown");
    make("acme", json!({ "labels": { "city": "Zürich" } })).fails(400, "parameter_invalid");
    make("acme", json!({ "labels": { "country": "fr" } })).fails(503, "no_exit");
    is_problem(&make("acme", json!({ "tll": "5m" })), 400, "body_invalid");
}

#[test]
fn it_is_asked_through_a_tunnel_as_well() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    let first = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    let (mut client, answer) = gateway.tunnel("acme-session-a", "MOORGATE.internal.:80");
    assert_eq!(answer.fields, [], "no exit is in use");
    let inner = |line: &str, more: &str, text: &str| {
        format!(
            "{line} HTTP/1.1\r\nHost: moorgate.internal\r\n{more}Content-Length: {}\r\n\r\n{text}",
            text.len()
        )
    };
    let shown = body(&client.send(inner("GET /session", "", "")).answer("GET").ok());
    assert_eq!(format!("p/{}", shown["exit"].as_str().unwrap()), first.exit());
    // One connection, many requests; their own fields count as everywhere.
    let json = "Content-Type: application/json\r\n";
    let moved = client.send(inner("POST /session/move", json, "{}")).answer("POST").ok();
    assert_eq!(body(&moved)["moves"], 1);
    client
        .send(inner("GET /session", "Moorgate-Session: b\r\n", ""))
        .answer("GET")
        .fails(400, "parameter_conflict");
    is_problem(&client.send(inner("GET /nope", "", "")).answer("GET"), 404, "not_found");
    is_problem(&client.send(inner("POST /usage", json, "{}")).answer("POST"), 405, "method_not_allowed");
    let too_large = inner("POST /sessions", json, &" ".repeat(20_000));
    is_problem(&client.send(too_large).answer("POST"), 413, "body_too_large");

    let (mut bare, _) = gateway.tunnel("acme", "moorgate.internal:80");
    let named = bare.send(inner("GET /session", "Moorgate-Session: a\r\n", "")).answer("GET").ok();
    assert_eq!(body(&named)["id"], "a");
    is_problem(&bare.send(inner("GET /session", "", "")).answer("GET"), 400, "session_required");
}

#[test]
fn it_is_never_dialled_nor_resolved() {
    let gateway = Setup::addresses(1).start();
    for target in ["moorgate.internal:443", "MoorGate.Internal.:8080", "moorgate.internal:81"] {
        gateway.connect("acme", target).1.fails(403, "target_forbidden");
        gateway.get("acme", &format!("http://{target}/session")).fails(403, "target_forbidden");
    }
    gateway.get("acme", "http://MOORGATE.INTERNAL.:80/usage").ok();
    gateway.get("acme", "http://moorgate.internal?").ok();
    gateway.get("acme", "ws://moorgate.internal/usage").ok();
    assert_eq!(look(&gateway, "/v1/exits/p/e1")["dials"], 0);
}

#[test]
fn it_is_judged_as_every_request_is() {
    let limits = json!({ "requests_per_second": 1, "burst": 4, "connections": 1 });
    let slow = json!({ "name": "slow", "password": PASSWORD, "pools": ["p"], "limits": limits });
    let gateway = Setup::addresses(1).user(slow).start();
    let usage = |username: &str| ask(&gateway, username, "GET /usage", &Value::Null);
    let open = get("http://moorgate.internal/usage", "");
    gateway.client().send(&open).answer("GET").fails(407, "auth_required");
    usage("nobody").fails(407, "auth_failed");
    usage("acme-sesion-a").fails(400, "parameter_unknown");
    gateway.client().send(connect("moorgate.internal:80", "")).answer("CONNECT").fails(407, "auth_required");
    ask(&gateway, "acme-session-a-pool-nope", "GET /session", &Value::Null).fails(403, "pool_forbidden");

    // The tunnel and its first request are one, each other one counts.
    let (mut client, _) = gateway.tunnel("slow", "moorgate.internal:80");
    let line = "GET /usage HTTP/1.1\r\nHost: x\r\n\r\n";
    let shown = body(&client.send(line).answer("GET").ok());
    assert_eq!((&shown["connections"], &shown["limits"]["burst"]), (&json!(1), &json!(4)));
    usage("slow").fails(429, "too_many_connections");
    let answers: Vec<_> = (0..4).map(|_| client.send(line).answer("GET")).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("a request too many");
    assert!(refused.code() == "rate_limited" && refused.retry_after().is_some(), "{refused:?}");
}

#[test]
fn pools_and_usage_are_the_users_own() {
    let gateway = Setup::addresses(2)
        .pool("labels", json!({ "country": "US" }))
        .pool("sessions", json!({ "max_ttl": "2h" }))
        .another_pool(json!({ "name": "q", "exits": ["127.0.0.9"] }))
        .config("users.0.limits", json!({ "sessions": 7 }));
    let gateway = gateway.user(json!({ "name": "other", "password": PASSWORD, "pools": ["q"] })).start();
    let origin = Origin::start();
    gateway.get("acme-session-a", &origin.url("/ip")).ok();
    let pools = body(&ask(&gateway, "acme", "GET /pools", &Value::Null).ok());
    let p = &pools["pools"][0];
    assert_eq!((&p["name"], &p["default"], &p["exits"]), (&json!("p"), &json!(true), &json!(2)));
    assert_eq!((&p["labels"]["country"], &p["max_ttl"]), (&json!(["us"]), &json!(7200)));
    assert_eq!(pools["pools"].as_array().unwrap().len(), 2);
    let others = body(&ask(&gateway, "other", "GET /pools", &Value::Null).ok());
    assert_eq!((&others["pools"][0]["name"], others["pools"].get(1)), (&json!("q"), None));
    let usage = body(&ask(&gateway, "acme", "GET /usage", &Value::Null).ok());
    assert_eq!((&usage["user"], &usage["sessions"]), (&json!("acme"), &json!(1)));
    assert_eq!(usage["limits"]["sessions"], 7);
    // Another user's guess at a session finds nothing.
    is_problem(&ask(&gateway, "other-session-a", "GET /session", &Value::Null), 404, "session_unknown");
}

#[test]
fn what_cannot_be_asked_is_told_and_the_connection_lives_on() {
    let gateway = Setup::addresses(1).start();
    let mut client = gateway.client();
    let fields = basic("acme-session-a");
    let mut check = |line: &str, more: &str, text: &str, status: u16, code: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        let url = format!("http://moorgate.internal{path}");
        let length = format!("Content-Length: {}\r\n", text.len());
        let sent = request(method, &url, &format!("{fields}{more}{length}")) + text;
        let answer = client.send(sent).answer(method);
        if method != "HEAD" {
            is_problem(&answer, status, code);
        }
        assert_eq!(answer.status, status);
        answer
    };
    let json = "Content-Type: application/json\r\n";
    check("GET /nope", "", "", 404, "not_found");
    check("GET /session/", "", "", 404, "not_found");
    check("HEAD /session", "", "", 404, "session_unknown");
    let wrong = check("PUT /session", json, "{}", 405, "method_not_allowed");
    assert_eq!(wrong.field("allow"), Some("GET, HEAD, DELETE"));
    check("OPTIONS /sessions", "", "", 405, "method_not_allowed");
    check("POST /sessions", "Content-Type: text/plain\r\n", "{}", 415, "body_not_json");
    check("POST /sessions", "", "{}", 415, "body_not_json");
    check("POST /sessions", json, "[]", 400, "body_invalid");
    check("POST /sessions?x=1", json, "{}", 400, "query_invalid");
    check("GET /session?target=", "", "", 400, "bad_target");
    check("POST /session/report", json, "{}", 400, "body_invalid");
    check("POST /session/move", json, r#"{"exit": "e1"}"#, 404, "session_unknown");
    // A page in a browser, which sends the proxy's credential by itself.
    check("POST /session/move", "Origin: http://evil.example\r\n", "", 403, "origin_forbidden");
    check("POST /session/move", "Origin: null\r\n", "", 403, "origin_forbidden");
    check("DELETE /session", "Sec-Fetch-Site: cross-site\r\n", "", 403, "origin_forbidden");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let refused = check("POST /session/move", form, "", 415, "body_not_json");
    assert!(refused.fields.iter().all(|(name, _)| !name.to_lowercase().starts_with("access-control")));

    let head = format!("POST http://moorgate.internal/sessions HTTP/1.1\r\nHost: x\r\n{fields}{json}");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    assert_eq!(client.send(chunked).answer("POST").status, 201);
    client.send(format!("{head}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
    assert_eq!(client.head().status, 100);
    assert_eq!(client.send("{}").answer("POST").status, 201);
    client.send(format!("{head}Content-Length: 20000\r\n\r\n"));
    let large = client.answer("POST");
    is_problem(&large, 413, "body_too_large");
    assert!(large.has("connection", "close"));
}

#[test]
fn a_token_that_fixes_a_session_makes_no_other() {
    let gateway = crate::tokens::setup().start();
    let fixed = crate::tokens::token("ed25519", &["--session", "fixed", "--session-ttl", "5m"]);
    let ask = |line: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        let url = format!("http://moorgate.internal{path}");
        let fields = format!("Proxy-Authorization: Bearer {fixed}\r\n");
        send(&mut gateway.client(), (method, url), &fields, &Value::Null)
    };
    is_problem(&ask("POST /sessions"), 409, "session_fixed");
    is_problem(&ask("GET /session"), 404, "session_unknown");
}

#[test]
fn sessions_of_affinity_are_found_by_what_they_are_made_of() {
    let gateway = Setup::addresses(3).pool("affinity", "target").start();
    let origin = Origin::start();
    let first = gateway.get("acme", &origin.url("/ip")).ok();
    let shown = ask(&gateway, "acme", "GET /session?target=http://127.0.0.1:9/x", &Value::Null).ok();
    assert_eq!(format!("p/{}", body(&shown)["exit"].as_str().unwrap()), first.exit());
    is_problem(&ask(&gateway, "acme", "GET /session", &Value::Null), 400, "session_required");
    is_problem(&ask(&gateway, "acme", "GET /session?target=a.example", &Value::Null), 404, "session_unknown");
    ask(&gateway, "acme", "POST /session/move?target=127.0.0.1", &Value::Null).ok();
    assert_eq!(gateway.get("acme", &origin.url("/ip")).ok().news(), "moved");

    let by_user = Setup::addresses(2).pool("affinity", "user").start();
    by_user.get("acme", &origin.url("/ip")).ok();
    assert_eq!(body(&ask(&by_user, "acme", "DELETE /session", &Value::Null).ok())["id"], "@user=acme");
    assert_eq!(by_user.get("acme", &origin.url("/ip")).ok().news(), "new");
}

#[test]
fn a_listeners_own_session_gives_way_to_the_requests() {
    let origin = Origin::start();
    let bound = json!({ "bind": "127.0.0.1:0", "user": "acme", "session": "port" });
    let gateway = Setup::addresses(3).config("users.0.clients", json!(["127.0.0.1"])).listener(bound).start();
    let port = gateway.listener(1);
    let answer = port.client().send(get(&origin.url("/ip"), "")).answer("GET").ok();
    let ask = |fields: &str| {
        let mut client = port.client();
        client.send(connect("moorgate.internal:80", "")).answer("CONNECT").ok();
        client.send(format!("GET /session HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).answer("GET")
    };
    let shown = body(&ask("").ok());
    assert_eq!(format!("p/{}", shown["exit"].as_str().unwrap()), answer.exit());
    is_problem(&ask("Moorgate-Session: other\r\n"), 404, "session_unknown");
    // A browser sends no credential here at all: a page must not ask.
    is_problem(&ask("Origin: http://evil.example\r\n"), 403, "origin_forbidden");
}

#[test]
fn what_a_client_asks_of_one_gateway_holds_on_the_others() {
    let redis = Redis::start();
    let setup = Setup::addresses(5).config("sessions.store", redis.url());
    let gateways = [setup.clone().start(), setup.start()];
    let origin = Origin::start();
    let get = |at: usize, name: &str| gateways[at].get(name, &origin.url("/ip")).ok();
    let follows = |name: &str, address: &str| {
        eventually("the other gateway follows", Duration::from_secs(2), || {
            (get(1, name).text() == address).then_some(())
        });
    };
    let made = body(&ask(&gateways[0], "acme", "POST /sessions", &json!({ "ttl": "1h" })));
    let name = made["username"].as_str().expect("a username");
    assert_eq!(get(1, name).text(), made["exit_address"]);
    let moved = body(&ask(&gateways[0], name, "POST /session/move", &json!({})).ok());
    follows(name, moved["exit_address"].as_str().expect("an address"));
    let told = json!({ "target": origin.url("/") });
    let reported = body(&ask(&gateways[0], name, "POST /session/report", &told).ok());
    follows(name, reported["session"]["exit_address"].as_str().expect("an address"));
    let shown = body(&ask(&gateways[1], name, "GET /session", &Value::Null).ok());
    assert_eq!((&shown["id"], &shown["moves"]), (&made["id"], &json!(2)));
    ask(&gateways[0], name, "DELETE /session", &Value::Null).ok();
    eventually("the session has ended on the other gateway", Duration::from_secs(2), || {
        let asked = ask(&gateways[1], name, "GET /session", &Value::Null);
        (asked.code() == "session_unknown").then_some(())
    });
}
