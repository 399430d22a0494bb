//! Limits and timeouts of a client connection (SPEC §7).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::request::{Ask, get};
use crate::harness::{Origin, PATIENCE, Setup, basic, eventually};

#[test]
fn heads_are_bounded_in_bytes_and_fields() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let ask = |fields: String| {
        let mut client = gateway.client();
        let sent = client.try_send(get(&origin.url("/ip"), &format!("{}{fields}", basic("acme"))));
        sent.and_then(|()| client.try_answer("GET"))
    };
    ask(format!("X: {}\r\n", "x".repeat(60_000))).expect("an answer").ok();
    ask("X: y\r\n".repeat(97)).expect("an answer").ok();
    for fields in [format!("X: {}\r\n", "x".repeat(66_000)), "X: y\r\n".repeat(101)] {
        let answer = ask(fields).expect("an answer").fails(431, "head_too_large");
        assert!(answer.has("connection", "close"));
    }
    let gateway =
        Setup::addresses(1).config("limits", json!({ "head_bytes": "2KiB", "head_fields": 8 })).start();
    let long = get(&origin.url("/ip"), &format!("X: {}\r\n", "x".repeat(2100)));
    gateway.client().send(long).answer("GET").fails(431, "head_too_large");
    let many = get(&origin.url("/ip"), &"X: y\r\n".repeat(8));
    gateway.client().send(many).answer("GET").fails(431, "head_too_large");
}

#[test]
fn a_head_that_does_not_come_is_answered_and_closed() {
    let gateway = Setup::addresses(1).config("timeouts", json!({ "head": "500ms" })).start();
    let mut slow = gateway.client();
    let start = Instant::now();
    slow.send("GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n");
    let answer = slow.answer("GET").fails(408, "request_timeout");
    assert!(start.elapsed() >= Duration::from_millis(400) && answer.has("connection", "close"));
    slow.end().expect("closed");
    // A connection that never sends a byte is closed, with or without a word.
    let mut silent = gateway.client();
    let start = Instant::now();
    let _ = silent.end();
    assert!(start.elapsed() < Duration::from_secs(5));
    // A byte now and then does not help.
    let mut drip = gateway.client();
    let start = Instant::now();
    while drip.try_send("G").is_ok() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn an_idle_client_connection_is_closed() {
    let gateway = Setup::addresses(1).config("timeouts", json!({ "keep_alive": "500ms" })).start();
    let origin = Origin::start();
    let mut client = gateway.client();
    client.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").ok();
    let start = Instant::now();
    client.end().expect("closed without a word");
    let time = start.elapsed();
    assert!(time >= Duration::from_millis(400) && time < Duration::from_secs(5), "{time:?}");
}

#[test]
fn connections_are_bounded() {
    let gateway = Setup::addresses(1).config("limits", json!({ "connections": 3 })).start();
    let origin = Origin::start();
    let mut open: Vec<_> = (0..3).map(|_| gateway.tunnel("acme", origin.address)).collect();
    let refused = |answer: std::io::Result<crate::harness::Answer>| match answer {
        Ok(answer) => answer.fails(429, "too_many_connections").retry_after().is_some(),
        Err(_) => true,
    };
    let mut more = gateway.client();
    let sent = more.try_send(get(&origin.url("/ip"), &basic("acme")));
    assert!(refused(sent.and_then(|()| more.try_answer("GET"))));
    open.pop();
    eventually("there is room again", PATIENCE, || {
        let mut client = gateway.client();
        let sent = client.try_send(get(&origin.url("/ip"), &basic("acme")));
        sent.and_then(|()| client.try_answer("GET")).ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn connections_of_one_client_are_bounded() {
    let gateway = Setup::addresses(1).config("limits", json!({ "connections_per_client": 2 })).start();
    let origin = Origin::start();
    let _open: Vec<_> = (0..2).map(|_| gateway.tunnel("acme", origin.address)).collect();
    gateway.get("acme", &origin.url("/ip")).fails(429, "too_many_connections");
}

#[test]
fn sessions_are_bounded() {
    let gateway = Setup::addresses(2).config("limits", json!({ "sessions": 3 })).start();
    let origin = Origin::start();
    for n in 0..3 {
        gateway.get(&format!("acme-session-s{n}-ttl-2s"), &origin.url("/ip")).ok();
    }
    let answer = gateway.get("acme-session-more", &origin.url("/ip")).fails(429, "too_many_sessions");
    assert!(answer.retry_after().is_some());
    gateway.get("acme", &origin.url("/ip")).ok();
    eventually("there is room again", PATIENCE, || {
        (gateway.get("acme-session-more", &origin.url("/ip")).status == 200).then_some(())
    });
}
