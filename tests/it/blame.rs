//! Whose fault a failed dial is (SPEC §6), and that a target's failure never
//! moves a pin and never ejects an exit.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::request::Ask;
use crate::harness::upstream::Blackhole;
use crate::harness::{Answer, Gateway, Mood, Origin, Setup, Upstream};

/// A gateway with the upstream as exit `bad`, and a good one beside it.
fn beside(via: &str) -> Gateway {
    Setup::new(json!([{ "id": "bad", "via": via }, { "id": "good", "via": "127.0.0.2" }])).quick().start()
}

/// One unpinned CONNECT through `bad` gets this, once for each dial.
fn through_bad(gateway: &Gateway, origin: &Origin) -> Answer {
    gateway.connect("acme-exit-bad", origin.address).1
}

/// The exit's fault: a pin moves away when it has happened often enough.
#[track_caller]
fn exits_fault(upstream: &Upstream, mood: Option<Mood>, code: &str) {
    let gateway = beside(&upstream.to_string());
    let origin = Origin::start();
    gateway.tunnel("acme-session-a-exit-bad", origin.address);
    match mood.clone() {
        Some(mood) => upstream.set(mood),
        None => upstream.refuse(),
    }
    let status = if code == "exit_timeout" { 504 } else { 502 };
    through_bad(&gateway, &origin).fails(status, code);
    let (seen, answer) = gateway.seen_through_tunnel("acme-session-a", origin.address);
    assert_eq!((answer.news(), &*seen), ("moved", "127.0.0.2"), "{mood:?}");
}

/// The target's fault: however often, the pin and the exit stay.
#[track_caller]
fn targets_fault(upstream: &Upstream, mood: Mood, status: u16, code: &str) {
    let gateway = beside(&upstream.to_string());
    let origin = Origin::start();
    gateway.tunnel("acme-session-a-exit-bad", origin.address);
    upstream.set(mood.clone());
    for _ in 0..5 {
        let answer = gateway.connect("acme-session-a", origin.address).1.fails(status, code);
        assert!(answer.retry_after().is_none() && !answer.detail().is_empty());
    }
    upstream.set(Mood::Serve);
    let (seen, answer) = gateway.seen_through_tunnel("acme-session-a", origin.address);
    assert_eq!((answer.news(), seen), ("held", upstream.ip()), "{mood:?}");
}

#[test]
fn http_upstreams_that_cannot_be_used_are_at_fault() {
    exits_fault(&Upstream::http(), None, "exit_failed");
    exits_fault(&Upstream::http(), Some(Mood::Reset), "exit_failed");
    exits_fault(&Upstream::http(), Some(Mood::Break), "exit_failed");
    exits_fault(&Upstream::http(), Some(Mood::status(407)), "exit_auth_failed");
    for answer in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "\0\0\0\0", "HTTP/1.1 20"] {
        exits_fault(&Upstream::http(), Some(Mood::Answer(answer.into())), "exit_failed");
    }
}

#[test]
fn socks5_upstreams_that_cannot_be_used_are_at_fault() {
    exits_fault(&Upstream::socks5(), None, "exit_failed");
    exits_fault(&Upstream::socks5(), Some(Mood::Reset), "exit_failed");
    exits_fault(&Upstream::socks5(), Some(Mood::Break), "exit_failed");
    exits_fault(&Upstream::socks5(), Some(Mood::Reply(7)), "exit_failed");
    exits_fault(&Upstream::socks5(), Some(Mood::Reply(8)), "exit_failed");
    exits_fault(
        &Upstream::socks5(),
        Some(Mood::Answer(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        "exit_failed",
    );
}

#[test]
fn an_upstream_that_swallows_packets_is_at_fault() {
    let hole = Blackhole::open();
    for scheme in ["http", "socks5"] {
        let gateway = beside(&format!("{scheme}://{}", hole.address));
        let origin = Origin::start();
        let start = Instant::now();
        through_bad(&gateway, &origin).fails(504, "exit_timeout");
        let time = start.elapsed();
        assert!(time >= Duration::from_millis(450) && time < Duration::from_secs(8), "{time:?}");
        let made = gateway.tunnel("acme-session-a", origin.address).1;
        assert_eq!((&*made.exit(), made.news()), ("p/good", "new"));
    }
}

#[test]
fn a_source_address_that_is_not_ours_is_at_fault() {
    let gateway = beside("192.0.2.77");
    let origin = Origin::start();
    through_bad(&gateway, &origin).fails(502, "exit_failed");
    for n in 0..4 {
        assert_eq!(gateway.tunnel(&format!("acme-session-s{n}"), origin.address).1.exit(), "p/good");
    }
}

#[test]
fn what_an_http_upstream_says_of_the_target_moves_nothing() {
    for status in [400, 403, 404, 429, 500, 502, 503, 504] {
        let upstream = Upstream::http();
        targets_fault(&upstream, Mood::status(status), 502, "exit_refused_target");
    }
}

#[test]
fn what_a_socks5_upstream_says_of_the_target_moves_nothing() {
    for (reply, status, code) in [
        (1, 502, "exit_refused_target"),
        (2, 502, "exit_refused_target"),
        (3, 502, "target_unreachable"),
        (4, 502, "target_unreachable"),
        (5, 502, "target_refused"),
        (6, 504, "target_timeout"),
        (9, 502, "exit_refused_target"),
    ] {
        targets_fault(&Upstream::socks5(), Mood::Reply(reply), status, code);
    }
}

#[test]
fn the_upstreams_answer_is_in_the_detail() {
    let upstream = Upstream::http();
    upstream.set(Mood::status(403));
    let gateway = beside(&upstream.to_string());
    let detail = through_bad(&gateway, &Origin::start()).fails(502, "exit_refused_target").detail();
    assert!(detail.contains("403"), "{detail}");
}

#[test]
fn exit_fault_status_makes_an_answer_the_exits_fault() {
    let upstream = Upstream::http();
    let exits: Value = json!([
        { "id": "bad", "via": upstream.to_string(), "exit_fault_status": [502, 503] },
        { "id": "good", "via": "127.0.0.2" },
    ]);
    let gateway = Setup::new(exits).quick().start();
    let origin = Origin::start();
    gateway.tunnel("acme-session-a-exit-bad", origin.address);
    upstream.set(Mood::status(500));
    for _ in 0..4 {
        gateway.connect("acme-session-a", origin.address).1.fails(502, "exit_refused_target");
    }
    upstream.set(Mood::status(503));
    assert_eq!(gateway.tunnel("acme-session-a", origin.address).1.news(), "moved");
}

#[test]
fn of_a_plain_request_only_407_is_the_upstreams_own() {
    let upstream = Upstream::http();
    let gateway = beside(&upstream.to_string());
    let origin = Origin::start();
    gateway.get("acme-session-a-exit-bad", &origin.url("/ip")).ok();
    for status in [403, 500, 502, 503] {
        upstream.set(Mood::status(status));
        let answer = gateway.get("acme-session-a", &origin.url("/ip"));
        assert_eq!((answer.status, answer.code(), answer.news()), (status, "", "held"));
    }
    upstream.set(Mood::status(407));
    let answer = gateway.get("acme-exit-bad", &origin.url("/ip")).fails(502, "exit_auth_failed");
    assert_eq!(answer.field("proxy-authenticate"), None);
}

#[test]
fn silence_is_the_targets_until_it_is_several_targets() {
    let upstream = Upstream::http();
    let gateway = beside(&upstream.to_string());
    let origins = [Origin::start(), Origin::start(), Origin::start()];
    gateway.tunnel("acme-session-a-exit-bad", origins[0].address);
    upstream.set(Mood::Hang);
    // `handshake` is 500 ms. One target, however often, says nothing of the exit.
    for _ in 0..4 {
        gateway.connect("acme-session-a", origins[0].address).1.fails(504, "target_timeout");
    }
    gateway.connect("acme-session-a", origins[1].address).1.fails(504, "target_timeout");
    gateway.connect("acme-session-a", origins[2].address);
    let (seen, answer) = gateway.seen_through_tunnel("acme-session-a", origins[0].address);
    assert_eq!((&*answer.exit(), &*seen), ("p/good", "127.0.0.2"));
}

#[test]
fn failures_of_the_target_itself_never_move_and_never_eject() {
    let gateway = Setup::new(json!(["127.0.0.2", "127.0.0.3"])).quick().start();
    let origin = Origin::start();
    let first = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    let hole = Blackhole::open();
    for _ in 0..4 {
        gateway.connect("acme-session-a", "127.0.0.1:1").1.fails(502, "target_refused");
        gateway.connect("acme-session-a", "no.such.name.invalid:80").1.fails(502, "target_unresolvable");
        gateway.connect("acme-session-a", "10.0.0.1:25").1.fails(403, "target_forbidden");
        gateway.connect("acme-session-a", hole.address).1.fails(504, "target_timeout");
        gateway.get("acme-session-a", &origin.url("/garbage")).fails(502, "bad_response");
        assert_eq!(gateway.get("acme-session-a", &origin.url("/reset")).status, 502);
    }
    let last = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    assert_eq!((last.news(), last.text()), ("held", first.text()));
    let exits: std::collections::HashSet<_> =
        (0..2).map(|_| gateway.get("acme", &origin.url("/ip")).exit()).collect();
    assert_eq!(exits.len(), 2, "both are in use");
}

#[test]
fn a_target_that_does_not_answer_in_time_is_a_timeout() {
    let gateway = Setup::addresses(2).config("timeouts", json!({ "response": "500ms" })).start();
    let origin = Origin::start();
    let answer = gateway.get("acme-session-a", &origin.url("/held"));
    answer.fails(504, "target_timeout");
    origin.release();
    assert_eq!(origin.count(), 1, "never repeated");
}
