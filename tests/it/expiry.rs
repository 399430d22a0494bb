//! An honest end (SPEC §3.5), in real time.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::request::{Ask, get};
use crate::harness::{Answer, Client, Gateway, Origin, PATIENCE, Setup, basic};

fn ask(client: &mut Client, origin: &Origin, username: &str) -> Answer {
    client.send(get(&origin.url("/ip"), &basic(username))).answer("GET").ok()
}

/// Asks all the time until the session is new again; gives how long that was
/// after `made`.
fn lives(gateway: &Gateway, origin: &Origin, username: &str, made: Instant, pause: Duration) -> Duration {
    let mut client = gateway.client();
    loop {
        // The moment before the request is the one that is judged.
        let asked = made.elapsed();
        if ask(&mut client, origin, username).news() == "new" {
            return made.elapsed();
        }
        assert!(asked < PATIENCE, "{username} does not end");
        std::thread::sleep(pause);
    }
}

#[test]
fn a_pin_ends_after_its_ttl_never_earlier_and_at_most_a_second_later() {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    let before = Instant::now();
    let first = gateway.get("acme-session-a-ttl-2s", &origin.url("/ip")).ok();
    assert!(first.session("expires-in").is_some_and(|left| left <= 2), "{first:?}");
    let life = lives(&gateway, &origin, "acme-session-a-ttl-2s", before, Duration::from_millis(20));
    assert!(life >= Duration::from_secs(2), "early: {life:?}");
    assert!(life <= Duration::from_millis(3500), "late: {life:?}");
}

#[test]
fn expires_in_counts_down_to_the_end() {
    let gateway = Setup::addresses(1).on_disk().start();
    let origin = Origin::start();
    let mut client = gateway.client();
    let start = Instant::now();
    let mut last = u64::MAX;
    while start.elapsed() < Duration::from_secs(2) {
        let asked = start.elapsed();
        let left = ask(&mut client, &origin, "acme-session-a-ttl-10s").session("expires-in").expect("a ttl");
        assert!(left <= last && left <= 10);
        // Rounded down, reckoned after the request: never more than is left.
        assert!(left as f64 <= 10.0 - asked.as_secs_f64() + 0.5, "{left} s left after {asked:?}");
        last = left;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(last <= 8);
}

#[test]
fn an_unused_session_ends_after_idle_and_a_used_one_does_not() {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    let name = "acme-session-a-ttl-1h-idle-2s";
    let mut client = gateway.client();
    assert_eq!(ask(&mut client, &origin, name).news(), "new");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        assert_eq!(ask(&mut client, &origin, name).news(), "held", "{:?}", start.elapsed());
        std::thread::sleep(Duration::from_millis(400));
    }
    ask(&mut client, &origin, name);
    std::thread::sleep(Duration::from_millis(3300));
    assert_eq!(ask(&mut client, &origin, name).news(), "new");
}

#[test]
fn idle_survives_a_crash_and_never_ends_a_used_session_early() {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    let name = "acme-session-a-ttl-1h-idle-3s";
    gateway.get(name, &origin.url("/ip")).ok();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        assert_eq!(gateway.get(name, &origin.url("/ip")).ok().news(), "held");
        gateway.crash();
    }
    let used = Instant::now();
    assert_eq!(gateway.get(name, &origin.url("/ip")).ok().news(), "held");
    // 3 s unused, and at most 5 s more after a crash.
    std::thread::sleep(Duration::from_millis(8300).saturating_sub(used.elapsed()));
    assert_eq!(gateway.get(name, &origin.url("/ip")).ok().news(), "new");
}

#[test]
fn time_while_it_is_down_counts() {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    let made = Instant::now();
    gateway.get("acme-session-short-ttl-2s", &origin.url("/ip")).ok();
    gateway.get("acme-session-long-ttl-10s", &origin.url("/ip")).ok();
    gateway.kill();
    std::thread::sleep(Duration::from_millis(3100).saturating_sub(made.elapsed()));
    gateway.launch();
    assert_eq!(gateway.get("acme-session-short-ttl-2s", &origin.url("/ip")).news(), "new");
    let long = gateway.get("acme-session-long-ttl-10s", &origin.url("/ip")).ok();
    assert_eq!(long.news(), "held");
    assert!(long.session("expires-in").is_some_and(|left| left <= 6), "{long:?}");
}

#[test]
fn a_tunnel_outlives_its_pin() {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    let made = Instant::now();
    let (mut tunnel, answer) = gateway.tunnel("acme-session-a-ttl-1s", origin.address);
    lives(&gateway, &origin, "acme-session-a-ttl-1s", made, Duration::from_millis(100));
    let seen = tunnel.send("GET /ip HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET").ok();
    assert_eq!(Some(&*seen.text()), answer.address());
}

#[test]
fn an_ended_pins_room_is_free_again() {
    let exit = json!({ "id": "e1", "via": "127.0.0.2", "max_sessions": 1 });
    let gateway = Setup::new(json!([exit])).on_disk().start();
    let origin = Origin::start();
    gateway.get("acme-session-a-ttl-2s", &origin.url("/ip")).ok();
    let full = gateway.get("acme-session-b", &origin.url("/ip")).fails(503, "no_exit");
    assert!(full.retry_after().is_some_and(|wait| (1..=3).contains(&wait)), "{full:?}");
    crate::harness::eventually("there is room", PATIENCE, || {
        (gateway.get("acme-session-b", &origin.url("/ip")).status == 200).then_some(())
    });
}
