//! Nothing that a client, a target or an upstream sends can forge a line of
//! the log, a field of a record, or a field of an answer.

use serde_json::{Value, json};

use crate::harness::client::find;
use crate::harness::recorder::Recorder;
use crate::harness::request::{Ask, basic, connect, get, request};
use crate::harness::{Gateway, Mood, Origin, Setup, Upstream};

/// What an attacker would like to see in a log: line ends of all kinds, the
/// log's own syntax, terminal sequences, marks that turn the text around.
const PAYLOADS: [&str; 12] = [
    "x\r\n2026-01-01T00:00:00Z  INFO access kind=\"forged\"",
    "x\n{\"level\":\"INFO\",\"message\":\"forged\"}",
    "x\" status=200 user=\"forged",
    "x\\\" status=200 user=\\\"forged",
    "x', forged='1",
    "x\u{1b}[2K\u{1b}[1Aforged",
    "x\u{9b}2Kforged",
    "x\u{2028}forged",
    "x\u{85}forged",
    "x\u{202e}degrof",
    "x\0forged",
    "x%0d%0aforged",
];

fn setup() -> Setup {
    Setup::addresses(1).quick().env("MOORGATE_LOG", "debug")
}

/// Sends every payload at every place that a client writes to.
fn attack(gateway: &Gateway, origin: &Origin) {
    for payload in PAYLOADS {
        let url = origin.url("/ip");
        let username = format!("acme-session-{payload}");
        for text in [
            get(&url, &basic(payload)),
            get(&url, &basic(&username)),
            get(&url, &basic(&format!("acme-{payload}"))),
            get(&url, &basic(&format!("acme-country-{payload}"))),
            get(&url, &basic(&format!("acme-pool-{payload}"))),
            get(&url, &basic(&format!("acme-exit-{payload}"))),
            get(&url, &format!("{}Moorgate-Session: {payload}\r\n", basic("acme"))),
            get(&url, &format!("{}Moorgate-Label: country={payload}\r\n", basic("acme"))),
            get(&url, &format!("{}Moorgate-{payload}: x\r\n", basic("acme"))),
            get(&url, &format!("{}Moorgate-Pool: {payload}\r\n", basic("acme"))),
            get(&url, &format!("{}Moorgate-Exit: {payload}\r\n", basic("acme"))),
            get(&url, &format!("{}Moorgate-TTL: {payload}\r\n", basic("acme"))),
            get(&url, &format!("{}Moorgate-Failover: {payload}\r\n", basic("acme"))),
            get(&url, &format!("{}User-Agent: {payload}\r\nReferer: {payload}\r\n", basic("acme"))),
            get(&url, &format!("{}X-Forwarded-For: {payload}\r\n", basic("acme"))),
            get(&format!("{url}/{payload}?{payload}"), &basic("acme")),
            get(&format!("http://{payload}/"), &basic("acme")),
            connect(payload, &basic("acme")),
            connect(format!("{payload}:443"), &basic("acme")),
            request(payload, &url, &basic("acme")),
            format!("GET {url} HTTP/{payload}\r\n\r\n"),
            format!("{payload}\r\n\r\n"),
            format!("GET {url} HTTP/1.1\r\n{}{payload}\r\n\r\n", basic("acme")),
        ] {
            let mut client = gateway.client();
            let _ = client.try_send(&text);
            client.half_close();
            let said = client.rest();
            let (head, _) = said.split_at(find(&said, b"\r\n\r\n").unwrap_or(0));
            let head = String::from_utf8_lossy(head);
            let forged = head.lines().any(|line| line.to_ascii_lowercase().contains("forged"));
            assert!(!forged, "{payload:?} in an answer's head: {head}");
        }
    }
}

/// Every line is a line of ours, and no field is the attacker's.
#[track_caller]
fn check_text(log: &str) {
    for line in log.lines() {
        let (time, rest) = line.split_at(line.len().min(27));
        assert!(time.starts_with("20") && time.ends_with('Z'), "no line of ours: {line:?}");
        assert!(
            ["  INFO ", "  WARN ", " DEBUG ", " ERROR "].iter().any(|level| rest.starts_with(level)),
            "{line:?}"
        );
        assert!(!line.contains(['\u{1b}', '\u{9b}', '\u{85}', '\u{2028}', '\u{202e}', '\0']), "{line:?}");
        let access = rest.contains(" access kind=");
        for key in ["kind", "user", "status"] {
            // Outside of quotes, a key stands once at most.
            let count = outside_of_quotes(rest).matches(&format!(" {key}=")).count();
            assert!(count <= usize::from(access), "{key} {count} times: {line:?}");
        }
        assert!(!outside_of_quotes(rest).contains("forged"), "{line:?}");
    }
}

fn outside_of_quotes(line: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            _ => out.push(c),
        }
    }
    assert!(!quoted, "a quote that does not end: {line:?}");
    out
}

#[track_caller]
fn check_json(log: &str) {
    for line in log.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let object = record.as_object().expect("an object");
        assert!(object.contains_key("timestamp") && object.contains_key("level"), "{line:?}");
        assert!(!object.contains_key("forged") && record["message"] != "forged", "{line:?}");
        assert!(record["kind"] != "forged" && record["user"] != "forged", "{line:?}");
        assert!(
            !line.contains(['\u{1b}', '\u{9b}', '\u{85}', '\u{2028}', '\u{202e}', '\0', '\r']),
            "{line:?}"
        );
    }
}

#[test]
fn clients_forge_nothing_in_a_text_log() {
    let (gateway, origin) = (setup().start(), Origin::start());
    attack(&gateway, &origin);
    gateway.terminate();
    gateway.wait();
    check_text(&gateway.log.text());
    assert!(gateway.log.text().contains("forged"), "the attack got as far as the log");
}

#[test]
fn clients_forge_nothing_in_a_json_log() {
    let (gateway, origin) = (setup().json_log().start(), Origin::start());
    attack(&gateway, &origin);
    gateway.terminate();
    gateway.wait();
    check_json(&gateway.log.text());
    assert!(gateway.log.text().contains("forged"), "the attack got as far as the log");
}

#[test]
fn targets_and_upstreams_forge_nothing() {
    for json_log in [false, true] {
        let upstream = Upstream::http();
        let exits = json!([{ "id": "e1", "via": "127.0.0.2" }, { "id": "up", "via": upstream.to_string() }]);
        let setup =
            Setup::new(exits).pool("health", json!({ "eject_after": 0 })).env("MOORGATE_LOG", "debug");
        let gateway = if json_log { setup.json_log().start() } else { setup.start() };
        let target = Recorder::parting("");
        for payload in PAYLOADS {
            for answer in [
                format!("HTTP/1.1 407 {payload}\r\nContent-Length: 0\r\n\r\n"),
                format!("HTTP/1.1 500 {payload}\r\nContent-Length: 0\r\n\r\n"),
                format!("HTTP/1.1 200 OK\r\nMoorgate-Exit: {payload}\r\nContent-Length: 0\r\n\r\n"),
                format!("HTTP/1.1 200 OK\r\n{payload}\r\n\r\n"),
                format!("{payload}\r\n\r\n"),
            ] {
                target.set(&*answer);
                gateway.get("acme-exit-e1", &target.url("/"));
                upstream.set(Mood::Answer(answer.clone().into()));
                gateway.get("acme-exit-up", &target.url("/"));
                let (mut client, told) = gateway.connect("acme-exit-up", target.address);
                assert!(
                    told.fields.iter().all(|(name, _)| !name.contains("forged")),
                    "{payload:?}: {told:?}"
                );
                assert!(!told.reason.contains("forged") || told.status == 200, "{told:?}");
                let _ = client.rest();
            }
        }
        gateway.terminate();
        gateway.wait();
        if json_log { check_json(&gateway.log.text()) } else { check_text(&gateway.log.text()) }
    }
}
