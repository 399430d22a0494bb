//! One access record for each request, and no secret anywhere (SPEC §8).

use serde_json::json;

use crate::harness::log::Line;
use crate::harness::request::{Ask, get, request};
use crate::harness::{Gateway, Origin, PASSWORD, Setup, Upstream, basic};

fn text() -> Gateway {
    Setup::addresses(1).start()
}

fn json_lines() -> Gateway {
    Setup::addresses(1).json_log().start()
}

/// The record's values under these keys.
fn values(line: &Line, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| line.field(key).unwrap_or_default()).collect()
}

const WHO: [&str; 9] =
    ["kind", "user", "pool", "session", "exit", "exit_address", "target", "status", "code"];

#[test]
fn a_record_has_every_field_in_both_formats() {
    for gateway in [text(), json_lines()] {
        let origin = Origin::start();
        let target = origin.address.to_string();
        let mut client = gateway.client();
        let body = "twelve bytes";
        let fields = format!("{}Content-Length: {}\r\n", basic("acme-session-a"), body.len());
        client.send(request("POST", &origin.url("/echo"), &fields) + body).answer("POST").ok();
        let local = client.local().to_string();
        drop(client);
        let line = gateway.access(0);
        let wanted = ["forward", "acme", "p", "a", "e1", "127.0.0.2", &target, "200", ""];
        assert_eq!(values(&line, &WHO), wanted, "{}", line.0);
        assert!(line.field("client") == Some(local), "{}", line.0);
        assert!(line.number("bytes_up") >= 12.0 && line.number("bytes_down") >= 12.0, "{}", line.0);
        assert!(
            line.number("duration_ms") > 0.0 && line.number("connect_ms") <= line.number("duration_ms"),
            "{}",
            line.0
        );
    }
}

#[test]
fn a_tunnel_is_recorded_when_it_ends() {
    for gateway in [text(), json_lines()] {
        let origin = Origin::start();
        let (mut client, _) = gateway.tunnel("acme-session-a", origin.address);
        let request = "GET /stream/1000 HTTP/1.1\r\nHost: x\r\n\r\n";
        let answer = client.send(request).answer("GET").ok();
        assert_eq!(answer.body.len(), 1000);
        drop(client);
        let line = gateway.access(0);
        let target = origin.address.to_string();
        let wanted = ["tunnel", "acme", "p", "a", "e1", "127.0.0.2", &target, "200", ""];
        assert_eq!(values(&line, &WHO), wanted, "{}", line.0);
        assert_eq!(line.field("bytes_up"), Some(request.len().to_string()), "{}", line.0);
        assert!(line.number("bytes_down") > 1000.0, "{}", line.0);
    }
}

#[test]
fn failures_are_recorded_with_their_code() {
    let gateway = json_lines();
    let cases = [
        ("acme", "127.0.0.1:1", "target_refused"),
        ("acme-sesion-x", "127.0.0.1:1", "parameter_unknown"),
        ("nobody", "127.0.0.1:1", "auth_failed"),
        ("acme-pool-q", "127.0.0.1:1", "pool_forbidden"),
        ("acme", "10.0.0.1:25", "target_forbidden"),
    ];
    for (n, (username, target, code)) in cases.into_iter().enumerate() {
        let answer = gateway.connect(username, target).1;
        assert_eq!(answer.code(), code);
        let line = gateway.access(n);
        assert_eq!(
            values(&line, &["code", "status"]),
            [code.to_owned(), answer.status.to_string()],
            "{}",
            line.0
        );
    }
}

#[test]
fn a_lost_client_is_recorded_too() {
    let gateway = json_lines();
    let origin = Origin::start();
    let mut client = gateway.client();
    client.send(get(&origin.url("/held"), &basic("acme-session-a")));
    origin.wait_count(1);
    client.reset();
    origin.release();
    let line = gateway.access(0);
    assert_eq!(line.field("session").as_deref(), Some("a"), "{}", line.0);
}

#[test]
fn access_records_can_be_turned_off() {
    let gateway = Setup::addresses(1).config("log", json!({ "format": "text", "access": false })).start();
    let origin = Origin::start();
    let before = gateway.log.lines().len();
    gateway.get("acme", &origin.url("/ip")).ok();
    gateway.terminate();
    gateway.wait();
    let after = gateway.log.lines();
    assert!(!after[before..].iter().any(|line| line.has("127.0.0.2")), "{after:?}");
}

#[test]
fn what_clients_send_is_escaped() {
    for gateway in [text(), json_lines()] {
        let lines = gateway.log.lines().len();
        let name = "acme-session-a\u{1b}[31m\u{7f}é\"x";
        gateway.get(name, "http://127.0.0.1:1/").fails(400, "session_invalid");
        gateway.get("nobody\n2026 INFO forged=1", "http://127.0.0.1:1/").fails(407, "auth_failed");
        gateway.client().send("GET http://h\u{1b}[2J:1/ HTTP/1.1\r\nHost: x\r\n\r\n").rest();
        gateway.access(1);
        let text: String = gateway.log.lines()[lines..].iter().map(|line| line.0.clone() + "\n").collect();
        assert!(!text.contains(['\u{1b}', '\u{7f}']), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("2026 INFO forged")), "{text:?}");
    }
}

/// Everything that may never be shown.
const SECRETS: [&str; 6] =
    [PASSWORD, "up-secret", "socks-secret", "templ-secret", "wr0ng-secret", "for-the-origin"];

#[test]
fn no_log_at_any_level_shows_a_secret() {
    use base64::Engine;
    let http = Upstream::http_with("up-user", "up-secret");
    let socks = Upstream::socks5_with("socks-user", "socks-secret");
    let strict = Upstream::http_with("x", "y");
    for format in ["text", "json"] {
        let exits = json!([
            http.via("http://up-user:up-secret@"),
            socks.via("socks5://socks-user:socks-secret@"),
            strict.via("http://t-{session}:templ-secret@"),
        ]);
        let gateway = Setup::new(exits)
            .quick()
            .config("log", json!({ "format": format, "access": true }))
            .env("MOORGATE_LOG", "trace")
            .start();
        let origin = Origin::start();
        for n in 0..6 {
            let more = "Authorization: Bearer for-the-origin\r\n";
            gateway.get_with(&format!("acme-session-s{n}"), more, &origin.url("/ip"));
            gateway.connect("acme", origin.address);
        }
        let wrong = crate::harness::request::basic_as("acme", "wr0ng-secret");
        gateway.client().send(get(&origin.url("/ip"), &wrong)).answer("GET").fails(407, "auth_failed");
        gateway.client().send(format!("GET {} HTTP/1.1\r\n{wrong} broken\r\n\r\n", origin.url("/ip"))).rest();
        gateway.replace(
            "pools/p.json",
            "{\"pools\": [{\"name\": \"p\", \"exits\": [\"http://up-user:up-secret@:x\"]}]}",
        );
        gateway.log.wait_for("the error", |line| line.has("p.json") && line.has("exits[0]"));
        gateway.terminate();
        gateway.wait();
        let text = gateway.log.text() + &gateway.out.text();
        assert!(text.contains("acme"), "the log says something");
        for secret in SECRETS {
            let encoded = base64::engine::general_purpose::STANDARD.encode(format!("acme:{secret}"));
            for form in [secret, &encoded] {
                let line = text.lines().find(|line| line.contains(form));
                assert!(line.is_none(), "{format}: {form} in {}", line.unwrap_or_default());
            }
        }
    }
}
