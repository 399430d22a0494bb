//! Parameters as request fields (SPEC §2), and the shape of every answer of
//! our own (SPEC §4).

use serde_json::{Value, json};

use crate::harness::request::{Ask, connect, get, request};
use crate::harness::{Answer, Gateway, Origin, Setup, Upstream, basic};

fn gateway() -> Gateway {
    let exits = json!([
        { "id": "ams-1", "via": "127.0.0.2", "labels": { "country": "nl" } },
        { "id": "e2", "via": "127.0.0.3", "labels": { "country": "us", "city": "New York" } },
    ]);
    Setup::new(exits)
        .another_pool(json!({ "name": "us-east", "exits": [{ "id": "x", "via": "127.0.0.9" }] }))
        .start()
}

fn ask(gateway: &Gateway, origin: &Origin, username: &str, fields: &str) -> Answer {
    gateway.get_with(username, fields, &origin.url("/ip"))
}

/// The code of a plain request and of a CONNECT: each rule is of both.
#[track_caller]
fn code(gateway: &Gateway, origin: &Origin, username: &str, fields: &str) -> String {
    let plain = ask(gateway, origin, username, fields).code().to_owned();
    let fields = format!("{}{fields}", basic(username));
    let tunnel = gateway.client().send(connect(origin.address, &fields)).answer("CONNECT");
    assert_eq!(tunnel.code(), plain, "CONNECT as {username} with {fields}");
    plain
}

#[test]
fn every_parameter_may_be_a_field() {
    let (gateway, origin) = (gateway(), Origin::start());
    let ask = |fields: &str| ask(&gateway, &origin, "acme", fields).ok();
    let made =
        ask("Moorgate-Session: a\r\nMoorgate-TTL: 90s\r\nMoorgate-Idle: 1m\r\nMoorgate-Failover: off\r\n");
    assert_eq!((made.news(), made.session("idle")), ("new", Some(60)));
    assert!(made.session("expires-in").is_some_and(|left| (85..=90).contains(&left)), "{made:?}");
    assert_eq!(gateway.get("acme-session-a", &origin.url("/ip")).news(), "held", "the same session");
    assert_eq!(ask("moorgate-exit: ams-1\r\n").exit(), "p/ams-1");
    assert_eq!(ask("Moorgate-Pool: us-east\r\n").exit(), "us-east/x");
    assert_eq!(ask("Moorgate-Label: country=us, city=new york\r\n").exit(), "p/e2");
    assert_eq!(ask("MOORGATE-LABEL: country=NL\r\n").exit(), "p/ams-1");
    let tunnel = |fields: &str| {
        let fields = format!("{}{fields}", basic("acme"));
        gateway.client().send(connect(origin.address, &fields)).answer("CONNECT").ok()
    };
    assert_eq!(tunnel("Moorgate-Session: a\r\n").news(), "held");
    let made = tunnel(
        "moorgate-session: b\r\nMOORGATE-ttl: 90s\r\nmoorgate-idle: 60s\r\nMoorgate-Failover: OFF\r\n",
    );
    assert_eq!((made.news(), made.session("idle")), ("new", Some(60)));
    assert!(made.session("expires-in").is_some_and(|left| (85..=90).contains(&left)), "{made:?}");
    assert_eq!(tunnel("Moorgate-Exit: ams-1\r\n").exit(), "p/ams-1");
    assert_eq!(tunnel("Moorgate-Pool: us-east\r\n").exit(), "us-east/x");
    assert_eq!(tunnel("Moorgate-Label: country=us\r\nMoorgate-Label: city=NEW YORK\r\n").exit(), "p/e2");
    // What is nearly none of ours may be somebody else's, and goes no further.
    assert_eq!(ask("Moorgate-Colour: red\r\n").code(), "");
    let seen = origin.last();
    assert!(!seen.head.to_lowercase().contains("moorgate"), "{}", seen.head);
}

#[test]
fn no_upstream_sees_a_parameter() {
    let (upstream, origin) = (Upstream::http(), Origin::start());
    let gateway = Setup::new(json!([upstream.to_string()])).start();
    let fields = format!("{}Moorgate-Session: a\r\nMoorgate-Label: x\r\n", basic("acme"));
    let refused = gateway.client().send(connect(origin.address, &fields)).answer("CONNECT");
    refused.fails(400, "parameter_invalid");
    let fields = format!("{}Moorgate-Session: a\r\nMoorgate-Colour: red\r\n", basic("acme"));
    gateway.client().send(connect(origin.address, &fields)).answer("CONNECT").ok();
    gateway.client().send(get(&origin.url("/ip"), &fields)).answer("GET").ok();
    let heads = upstream.seen();
    assert_eq!(heads.len(), 2, "{heads:?}");
    assert!(heads.iter().all(|head| !head.to_lowercase().contains("moorgate-")), "{heads:?}");
}

#[test]
fn equal_in_both_places_is_fine_and_different_is_not() {
    let (gateway, origin) = (gateway(), Origin::start());
    let code = |username: &str, fields: &str| code(&gateway, &origin, username, fields);
    for (username, fields) in [
        ("acme-session-a-ttl-60s", "Moorgate-Session: a\r\nMoorgate-TTL: 1m\r\n"),
        ("acme-pool-us_east", "Moorgate-Pool: us-east\r\n"),
        ("acme-exit-ams_1", "Moorgate-Exit: ams-1\r\n"),
        ("acme-country-NL", "Moorgate-Label: country=nl\r\n"),
        ("acme-session-b-failover-ON", "Moorgate-Failover: on\r\n"),
    ] {
        assert_eq!(code(username, fields), "", "{username} and {fields}");
    }
    for (username, fields) in [
        ("acme-session-a", "Moorgate-Session: b\r\n"),
        ("acme-session-a", "Moorgate-Session: A\r\n"),
        ("acme-session-a-ttl-60s", "Moorgate-TTL: 61s\r\n"),
        ("acme-pool-us_east", "Moorgate-Pool: p\r\n"),
        ("acme-country-nl", "Moorgate-Label: country=us\r\n"),
        ("acme-failover-on", "Moorgate-Failover: off\r\n"),
        ("acme-exit-ams_1", "Moorgate-Exit: e2\r\n"),
        ("acme-session-a-idle-60s", "Moorgate-Idle: 2m\r\n"),
        ("acme-session-a-ttl-5m", "Moorgate-Session: a\r\nMoorgate-TTL: 301s\r\n"),
    ] {
        assert_eq!(code(username, fields), "parameter_conflict", "{username} and {fields}");
    }
}

#[test]
fn fields_fail_with_the_same_codes() {
    let (gateway, origin) = (gateway(), Origin::start());
    for (fields, code) in [
        ("Moorgate-Session: a\r\nMoorgate-Session: a\r\n", "parameter_duplicate"),
        ("Moorgate-Session: a\r\nmoorgate-session: b\r\n", "parameter_duplicate"),
        ("Moorgate-Session: a\r\nMoorgate-TTL: 5m\r\nMoorgate-TTL: 5m\r\n", "parameter_duplicate"),
        ("Moorgate-Pool: p\r\nMoorgate-Pool: p\r\n", "parameter_duplicate"),
        ("Moorgate-Label: country=us\r\nMoorgate-Label: country=us\r\n", "parameter_duplicate"),
        ("Moorgate-Sesion: a\r\n", "parameter_unknown"),
        ("Moorgate-Session: a\r\nMoorgate-TTL: 0s\r\n", "ttl_out_of_range"),
        ("Moorgate-Idle: 5m\r\n", "ttl_without_session"),
        ("Moorgate-Pool: \r\n", "parameter_invalid"),
        ("Moorgate-Exit: \r\n", "exit_unknown"),
        ("Moorgate-TTL: 5m\r\n", "ttl_without_session"),
        ("Moorgate-Session: a\r\nMoorgate-TTL: 5\r\n", "ttl_invalid"),
        ("Moorgate-Session: a\r\nMoorgate-TTL: 169h\r\n", "ttl_out_of_range"),
        ("Moorgate-Session: a\r\nMoorgate-Idle: x\r\n", "idle_invalid"),
        ("Moorgate-Session: \r\n", "session_invalid"),
        ("Moorgate-Session: a b\r\n", "session_invalid"),
        ("Moorgate-Failover: maybe\r\n", "failover_invalid"),
        ("Moorgate-Exit: nope\r\n", "exit_unknown"),
        ("Moorgate-Exit: ams_1\r\n", "exit_unknown"),
        ("Moorgate-Pool: us_east\r\n", "pool_forbidden"),
        ("Moorgate-Label: planet=mars\r\n", "parameter_unknown"),
        ("Moorgate-Label: country\r\n", "parameter_invalid"),
        ("Moorgate-Label: country=us, country=nl\r\n", "parameter_duplicate"),
    ] {
        assert_eq!(self::code(&gateway, &origin, "acme", fields), code, "{fields}");
    }
}

/// What SPEC §4 asks of each failure that is ours.
#[track_caller]
fn check_failure(answer: &Answer, error_type: &str) {
    let code = answer.code().to_owned();
    assert!(answer.reason.ends_with(&format!(": {code}")), "{}", answer.reason);
    let status = answer.field("proxy-status").expect("Proxy-Status");
    assert_eq!(status, format!("moorgate; error={error_type}; details=\"{code}\""));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    let problem: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((&problem["status"], &problem["code"]), (&json!(answer.status), &json!(code)));
    for key in ["type", "title", "detail"] {
        assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {problem}");
    }
    assert_eq!(answer.retry_after().is_some(), [429, 503].contains(&answer.status), "{answer:?}");
    let challenge = answer.field("proxy-authenticate");
    let wanted = (answer.status == 407).then_some("Basic realm=\"moorgate\", charset=\"UTF-8\"");
    assert_eq!(challenge, wanted);
    assert_eq!(answer.field("moorgate-session"), None);
    assert!(!answer.text().contains(crate::harness::PASSWORD));
}

#[test]
fn failures_have_one_shape() {
    let gateway = gateway();
    let bad = [
        ("acme-sesion-x", "127.0.0.1:1", "Bad Request: parameter_unknown", "http_request_error"),
        ("nobody", "127.0.0.1:1", "Proxy Authentication Required: auth_failed", "http_request_denied"),
        ("acme-pool-x", "127.0.0.1:1", "Forbidden: pool_forbidden", "http_request_denied"),
        ("acme", "127.0.0.1:1", "Bad Gateway: target_refused", "connection_refused"),
        ("acme", "no.such.name.invalid:1", "Bad Gateway: target_unresolvable", "dns_error"),
        ("acme-country-fr", "127.0.0.1:1", "Service Unavailable: no_exit", "destination_unavailable"),
    ];
    for (username, target, reason, error_type) in bad {
        let (mut client, answer) = gateway.connect(username, target);
        assert_eq!(answer.reason, reason);
        check_failure(&answer, error_type);
        if answer.status != 407 {
            assert!(answer.has("connection", "close"));
            client.end().expect("closed");
        }
        let answer = gateway.get(username, &format!("http://{target}/"));
        assert_eq!(answer.reason, reason);
        check_failure(&answer, error_type);
    }
    check_failure(&gateway.client().send(connect("h:1", "")).answer("CONNECT"), "http_request_denied");
    let own = gateway.connect("acme", gateway.listens()).1.fails(421, "loop_detected");
    check_failure(&own, "proxy_loop_detected");
}

#[test]
fn a_refused_plain_request_keeps_the_connection() {
    let (gateway, origin) = (gateway(), Origin::start());
    let mut client = gateway.client();
    client.send(get(&origin.url("/ip"), "")).answer("GET").fails(407, "auth_required");
    client.send(get(&origin.url("/ip"), &basic("nobody"))).answer("GET").fails(407, "auth_failed");
    client.send(get(&origin.url("/ip"), &basic("acme-x-y"))).answer("GET").fails(400, "parameter_unknown");
    client.send(get("http://127.0.0.1:1/", &basic("acme"))).answer("GET").fails(502, "target_refused");
    let posted = request("POST", &origin.url("/ip"), "Content-Length: 5\r\n") + "hello";
    client.send(posted).answer("POST").fails(407, "auth_required");
    client.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").ok();
    assert_eq!(origin.count(), 1);
}

#[test]
fn what_is_no_proxy_request_is_told_so() {
    let (gateway, origin) = (gateway(), Origin::start());
    let host = format!("Host: {}\r\n{}", origin.address, basic("acme"));
    for (line, code) in [
        ("GET / HTTP/1.1", "not_a_proxy_request"),
        ("OPTIONS * HTTP/1.1", "not_a_proxy_request"),
        ("GET https://example.com/ HTTP/1.1", "unsupported_scheme"),
        ("GET ftp://example.com/ HTTP/1.1", "unsupported_scheme"),
        ("GET http:///x HTTP/1.1", "bad_target"),
        ("GET http://host:99999/ HTTP/1.1", "bad_target"),
        ("GET http://1.2.3/ HTTP/1.1", "bad_target"),
    ] {
        let answer = gateway.client().send(format!("{line}\r\n{host}\r\n")).answer("GET");
        answer.fails(400, code);
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn the_target_is_judged_after_the_credential_and_the_parameters() {
    let gateway = gateway();
    for line in
        ["GET ftp://example.com/ HTTP/1.1", "GET http://1.2.3/ HTTP/1.1", "CONNECT example.com HTTP/1.1"]
    {
        let ask =
            |auth: &str| gateway.client().send(format!("{line}\r\nHost: x\r\n{auth}\r\n")).answer("GET");
        ask("").fails(407, "auth_required");
        ask(&basic("acme-ttl-5m")).fails(400, "ttl_without_session");
        ask(&basic("acme-pool-nope")).fails(403, "pool_forbidden");
    }
    gateway
        .client()
        .send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .answer("GET")
        .fails(400, "not_a_proxy_request");
}

#[test]
fn bad_http_is_refused_and_closed_and_nothing_of_it_passes() {
    let (gateway, origin) = (gateway(), Origin::start());
    let url = origin.url("/echo");
    let auth = basic("acme");
    let tail = format!("Host: x\r\n{auth}");
    for bad in [
        format!("GET {url} HTTP/2.0\r\n{tail}\r\n"),
        format!("GET {url}\r\n{tail}\r\n"),
        format!(
            "GET {url} HTTP/1.1\r\n{tail}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!("POST {url} HTTP/1.1\r\n{tail}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        format!("POST {url} HTTP/1.1\r\n{tail}Content-Length: +5\r\n\r\nhello"),
        format!("POST {url} HTTP/1.1\r\n{tail}Transfer-Encoding: gzip\r\n\r\nhello"),
        format!("POST {url} HTTP/1.1\r\n{tail}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        format!("GET {url} HTTP/1.1\r\n{tail}X: a\r\n folded\r\n\r\n"),
        format!("GET {url} HTTP/1.1\r\n{tail}X: a\0b\r\n\r\n"),
        format!("GET {url} HTTP/1.1\n{}\n", tail.replace("\r\n", "\n")),
        format!("GET {url} HTTP/1.1\r\n{tail}X: a\rb\r\n\r\n"),
        format!("GET {url} HTTP/1.1\r\n{tail}no colon here\r\n\r\n"),
        format!("GET  {url} HTTP/1.1\r\n{tail}\r\n"),
    ] {
        let mut client = gateway.client();
        let answer = client.send(&bad).answer("GET").fails(400, "bad_request");
        assert!(answer.has("connection", "close"), "{bad}");
        let _ = client.end();
    }
    assert_eq!(origin.count(), 0);
}
