//! Signals and the end (SPEC §8).

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::load::Load;
use crate::harness::request::{Ask, connect, get};
use crate::harness::{Client, Gateway, Origin, PATIENCE, Setup, basic, eventually};

/// Waits until no new connection is taken.
#[track_caller]
fn stops_listening(gateway: &Gateway) {
    let address = gateway.listens();
    eventually("no new connection is taken", PATIENCE, || Client::try_open(address).is_err().then_some(()));
}

#[test]
fn sigterm_lets_everything_accepted_end_well() {
    let gateway = Setup::addresses(4).on_disk().start();
    let origin = Origin::start();
    let mut idle = gateway.client();
    idle.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").ok();
    let mut silent = gateway.client();
    let mut tunnels: Vec<_> =
        (0..4).map(|n| gateway.tunnel(&format!("acme-session-t{n}"), origin.address).0).collect();
    let mut waiting: Vec<_> = (0..12)
        .map(|n| {
            let mut client = gateway.client();
            client.send(get(&origin.url("/held"), &basic(&format!("acme-session-s{n}"))));
            client
        })
        .collect();
    origin.wait_count(13);
    gateway.terminate();
    stops_listening(&gateway);
    idle.end().expect("an idle connection is closed");
    silent.end().expect("a connection without a request is closed");
    // Tunnels go on, and so do requests.
    for client in &mut tunnels {
        client.send("GET /ip HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET").ok();
    }
    assert!(gateway.try_wait().is_none());
    origin.release();
    for client in &mut waiting {
        let answer = client.answer("GET").ok();
        assert_eq!((&*answer.text(), answer.news()), ("released", "new"));
        client.end().expect("and then it is closed");
    }
    drop(tunnels);
    assert_eq!(gateway.wait().code(), Some(0));
    gateway.launch();
    for n in 0..12 {
        assert_eq!(gateway.get(&format!("acme-session-s{n}"), &origin.url("/ip")).ok().news(), "held");
    }
}

#[test]
fn sigterm_under_load_breaks_no_answer_and_keeps_every_pin() {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    let load = Load::start(&gateway, &origin.url("/chunked"), 3);
    for _ in 0..3 {
        load.wait_answers(50);
        gateway.terminate();
        assert_eq!(gateway.wait().code(), Some(0));
        gateway.launch();
        load.follow(&gateway);
    }
    load.wait_answers(50);
    assert_eq!(load.broken(), 0);
    let seen = load.stop();
    let mut client = gateway.client();
    for (session, exit) in seen {
        let fields = basic(&format!("acme-session-{session}-ttl-1h"));
        let answer = client.send(get(&origin.url("/ip"), &fields)).answer("GET").ok();
        assert_eq!((answer.news(), answer.exit()), ("held", exit));
    }
}

#[test]
fn a_request_on_an_open_connection_is_told_of_the_drain() {
    let gateway = Setup::addresses(1).on_disk().start();
    let origin = Origin::start();
    let mut client = gateway.client();
    client.send(get(&origin.url("/held"), &basic("acme")) + &get(&origin.url("/ip"), &basic("acme")));
    origin.wait_count(1);
    gateway.terminate();
    stops_listening(&gateway);
    origin.release();
    let first = client.answer("GET").ok();
    if !first.has("connection", "close") {
        client.answer("GET").fails(503, "draining");
    }
    let _ = client.end();
    assert_eq!(origin.count(), 1, "the second was not sent on");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let gateway = Setup::addresses(1).on_disk().start();
        let origin = Origin::start();
        let (mut tunnel, _) = gateway.tunnel("acme-session-a-ttl-1h", origin.address);
        gateway.signal(signal);
        stops_listening(&gateway);
        assert!(gateway.try_wait().is_none(), "the tunnel is waited for");
        let start = Instant::now();
        gateway.signal(signal);
        assert_eq!(gateway.wait().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        let _ = tunnel.end();
        gateway.launch();
        assert_eq!(gateway.get("acme-session-a-ttl-1h", &origin.url("/ip")).ok().news(), "held");
    }
}

#[test]
fn the_drain_time_is_bounded_and_the_status_is_still_0() {
    let gateway = Setup::addresses(1).config("timeouts", json!({ "drain": "1s" })).on_disk().start();
    let origin = Origin::start();
    let (mut tunnel, _) = gateway.tunnel("acme", origin.address);
    let start = Instant::now();
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
    let time = start.elapsed();
    assert!(time >= Duration::from_millis(900) && time < Duration::from_secs(6), "{time:?}");
    let _ = tunnel.end();
}

#[test]
fn health_and_readiness_need_no_token_on_loopback() {
    let gateway = Setup::addresses(1).on_disk().start();
    let origin = Origin::start();
    let ask = |path: &str| {
        let mut client = gateway.admin().client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")).answer("GET").status
    };
    assert_eq!((ask("/healthz"), ask("/readyz"), ask("/no-such-thing")), (200, 200, 404));
    let _tunnel = gateway.tunnel("acme", origin.address);
    gateway.terminate();
    stops_listening(&gateway);
    // Where it still answers, it is alive and not ready.
    if let Ok(mut client) = Client::try_open(gateway.admin()) {
        let text = "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        if let Ok(answer) = client.try_send(text).and_then(|()| client.try_answer("GET")) {
            assert_eq!(answer.status, 503);
        }
    }
    gateway.signal(Signal::TERM);
    gateway.wait();
}

#[test]
fn a_client_that_goes_away_costs_nothing_of_the_next() {
    let gateway =
        Setup::new(json!([{ "id": "e1", "via": "127.0.0.2", "max_connections": 4 }])).on_disk().start();
    let origin = Origin::start();
    for _ in 0..20 {
        let (client, answer) = gateway.connect("acme", origin.address);
        assert!([200, 503].contains(&answer.status));
        client.reset();
        let mut client = gateway.client();
        client.send(connect(origin.address, &basic("acme")));
        client.reset();
    }
    eventually("every connection is given back", PATIENCE, || {
        let all: Vec<_> = (0..4).map(|_| gateway.connect("acme", origin.address)).collect();
        all.iter().all(|(_, answer)| answer.status == 200).then_some(())
    });
}
