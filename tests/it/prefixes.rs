//! Prefixes and templates: one exit that is many (SPEC §6).

use std::collections::HashSet;
use std::net::IpAddr;

use base64::Engine;
use serde_json::json;

use crate::harness::request::{Ask, get};
use crate::harness::{Gateway, Mood, Origin, Setup, Upstream, basic, namespace};

fn address(gateway: &Gateway, username: &str, origin: &Origin) -> String {
    let answer = gateway.get(username, &origin.url("/ip")).ok();
    assert_eq!(answer.address(), Some(&*answer.text()), "what is announced is what is seen");
    answer.text()
}

#[test]
fn an_ipv4_prefix_gives_each_session_an_address_of_its_own() {
    let gateway = Setup::new(json!(["127.1.0.0/28"])).start();
    let origin = Origin::start();
    let of = |n: u8| address(&gateway, &format!("acme-session-s{n}"), &origin);
    let all: Vec<_> = (1..=14).map(of).collect();
    let distinct: HashSet<_> = all.iter().cloned().collect();
    let usable: HashSet<_> = (1..=14).map(|n| format!("127.1.0.{n}")).collect();
    assert_eq!(distinct, usable, "neither network nor broadcast address, and no address twice");
    assert_eq!((1..=14).map(of).collect::<Vec<_>>(), all, "each stays where it is");
    assert!(usable.contains(&of(15)), "a full prefix gives the least used");
}

#[test]
fn unpinned_requests_of_a_prefix_differ_from_the_one_before() {
    let gateway = Setup::new(json!(["127.1.1.0/29"])).start();
    let origin = Origin::start();
    let mut client = gateway.client();
    let mut last = String::new();
    for _ in 0..30 {
        let answer = client.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").ok();
        assert_ne!(answer.text(), last);
        last = answer.text();
    }
    let (tunnel, _) = gateway.seen_through_tunnel("acme", origin.address);
    assert_ne!(tunnel, last);
}

#[test]
fn a_sessions_address_of_a_prefix_survives_a_crash_and_ends_with_it() {
    let gateway = Setup::new(json!(["127.1.2.0/30"])).on_disk().start();
    let origin = Origin::start();
    let first = address(&gateway, "acme-session-a-ttl-1s", &origin);
    let other = address(&gateway, "acme-session-b", &origin);
    assert_ne!(first, other);
    gateway.crash();
    assert_eq!(address(&gateway, "acme-session-b", &origin), other);
    let freed = || {
        let answer = gateway.get("acme-session-a-ttl-1s", &origin.url("/ip")).ok();
        (answer.news() == "new").then(|| answer.text())
    };
    let again = crate::harness::eventually("the pin ends", crate::harness::PATIENCE, freed);
    assert_eq!(again, first, "the only free address");
}

#[test]
fn an_ipv6_prefix_gives_each_session_an_address_of_its_own() {
    namespace::within(|| {
        let gateway = Setup::new(json!(["2001:db8:7::/64"])).on_disk().start();
        let origin = Origin::at("::1".parse().unwrap());
        let of = |n: u8| address(&gateway, &format!("acme-session-s{n}"), &origin);
        let all: Vec<_> = (0..50).map(of).collect();
        let distinct: HashSet<_> = all.iter().cloned().collect();
        assert_eq!(distinct.len(), 50);
        for seen in &all {
            let IpAddr::V6(ip) = seen.parse().unwrap() else { panic!("{seen} is not IPv6") };
            assert_eq!(ip.segments()[..4], [0x2001, 0xdb8, 7, 0]);
            assert_ne!(ip.segments()[4..], [0; 4], "the subnet-router anycast address");
        }
        gateway.crash();
        assert_eq!((0..50).map(of).collect::<Vec<_>>(), all);
        let fresh: HashSet<_> = (0..50).map(|_| address(&gateway, "acme", &origin)).collect();
        assert_eq!(fresh.len(), 50, "each unpinned request leaves from another");
        let (tunnel, _) = gateway.seen_through_tunnel("acme-session-s0", origin.address);
        assert_eq!(tunnel, all[0]);
    });
}

/// The user and password that the upstream was shown last.
fn shown(upstream: &Upstream) -> String {
    let head = upstream.last();
    let encoded = head.split("Proxy-Authorization: Basic ").nth(1).expect("a credential");
    let encoded = encoded.lines().next().expect("a line");
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
    String::from_utf8(bytes).expect("text")
}

const TEMPLATE: &str = "http://me-cc-{country}-city-{city}-sessid-{session}-time-{ttl_minutes}:pw@";

#[test]
fn a_template_gives_each_session_a_token_and_keeps_it() {
    let upstream = Upstream::http();
    let exits = json!([{ "id": "t", "via": upstream.via(TEMPLATE), "labels": { "country": ["us", "de"] } }]);
    let gateway = Setup::new(exits).on_disk().start();
    let origin = Origin::start();
    let ask = |username: &str| {
        gateway.get(username, &origin.url("/ip")).ok();
        shown(&upstream)
    };
    let first = ask("acme-session-a-ttl-90s-country-de");
    let (front, rest) = first.split_once("-sessid-").expect("a token");
    assert_eq!(front, "me-cc-de-city-", "the label that was asked for; one that nobody gives is empty");
    let (token, rest) = rest.split_once('-').expect("more");
    assert_eq!(rest, "time-2:pw", "rounded up");
    assert!(
        token.len() == 8 && token.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()),
        "{token}"
    );
    assert_ne!(ask("acme-session-b-ttl-90s-country-de"), first);
    assert_eq!(ask("acme-session-a-country-de"), first, "kept, and its ttl with it");
    gateway.crash();
    assert_eq!(ask("acme-session-a-country-de"), first);
    let unpinned = ask("acme");
    assert!(unpinned.ends_with("-time-10:pw"), "the default ttl: {unpinned}");
    assert_ne!(ask("acme"), unpinned, "a token for each request");
}

#[test]
fn tokens_have_the_shape_that_the_template_asks_for() {
    let upstream = Upstream::http();
    for (placeholder, length, digits) in [("{session:12}", 12, false), ("{session:6d}", 6, true)] {
        let via = upstream.via(&format!("http://x-{placeholder}-{{ttl_seconds}}-{{ttl_hours}}:pw@"));
        let gateway = Setup::new(json!([via])).start();
        gateway.connect("acme-session-a-ttl-61m", "127.0.0.1:1");
        let shown = shown(&upstream);
        let parts: Vec<_> = shown.split(['-', ':']).collect();
        assert_eq!((parts[1].len(), parts[2], parts[3]), (length, "3660", "2"), "{shown}");
        assert!(!digits || parts[1].chars().all(|c| c.is_ascii_digit()), "{shown}");
    }
}

#[test]
fn a_templates_token_that_fails_is_replaced_and_the_exit_stays() {
    let upstream = Upstream::http();
    let exits = json!([{ "id": "t", "via": upstream.via("http://u-{session}:pw@") }]);
    let gateway = Setup::new(exits).quick().start();
    let origin = Origin::start();
    gateway.tunnel("acme-session-a", origin.address);
    let before = shown(&upstream);
    upstream.set(Mood::status(407));
    gateway.connect("acme-session-a", origin.address).1.fails(502, "exit_auth_failed");
    upstream.set(Mood::Serve);
    let (_, answer) = gateway.tunnel("acme-session-a", origin.address);
    assert_ne!(shown(&upstream), before, "another token: {answer:?}");
    assert_eq!(answer.exit(), "p/t");
}
