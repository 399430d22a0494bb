//! "This exit is no good for this target": reports, and what cools (SPEC §10).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::operator::{act, json as body, look};
use crate::harness::request::{Ask, get};
use crate::harness::{Answer, Gateway, Origin, Setup, basic};
use crate::inband::ask;

#[track_caller]
fn report(gateway: &Gateway, username: &str, told: &Value) -> Answer {
    ask(gateway, username, "POST /session/report", told)
}

/// By which exits so many requests without a session leave.
fn rotates(gateway: &Gateway, url: &str, count: usize) -> BTreeSet<String> {
    (0..count).map(|_| gateway.get("acme", url).ok().exit()).collect()
}

/// By which exits so many new sessions leave.
fn placed(gateway: &Gateway, url: &str, name: &str, count: usize) -> BTreeSet<String> {
    (0..count).map(|n| gateway.get(&format!("acme-session-{name}{n}"), url).ok().exit()).collect()
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| format!("p/{id}")).collect()
}

#[test]
fn a_reported_exit_is_not_used_for_that_target() {
    let gateway = Setup::addresses(3).start();
    // Two sites: what an exit is no good for is one of them.
    let (origin, other) = (Origin::start(), Origin::at("127.0.0.99".parse().unwrap()));
    let (url, elsewhere) = (origin.url("/ip"), other.url("/ip"));
    gateway.get("acme-session-a-exit-e1", &url).ok();
    let told = json!({ "target": url, "reason": "HTTP 403" });
    let outcome = body(&report(&gateway, "acme-session-a", &told).ok());
    assert_eq!((&outcome["moved"], &outcome["session"]["moves"]), (&json!(true), &json!(1)));
    assert_ne!(outcome["session"]["exit"], "e1");
    let cooldown = &outcome["cooldown"];
    assert_eq!((&cooldown["exit"], &cooldown["target"]), (&json!("e1"), &json!("127.0.0.1")));
    assert!((595..=600).contains(&cooldown["seconds"].as_u64().unwrap()), "{cooldown:#}");

    assert_eq!(gateway.get("acme-session-a", &url).ok().news(), "moved");
    assert_eq!(rotates(&gateway, &url, 8), set(&["e2", "e3"]));
    assert_eq!(placed(&gateway, &url, "n", 12), set(&["e2", "e3"]));
    assert_eq!(rotates(&gateway, &elsewhere, 6), set(&["e1", "e2", "e3"]));
    let tunnels: BTreeSet<_> = (0..4).map(|_| gateway.tunnel("acme", origin.address).1.exit()).collect();
    assert_eq!(tunnels, set(&["e2", "e3"]));
    // Who names an exit gets it, and a session that is there stays.
    assert_eq!(gateway.get("acme-exit-e1", &url).ok().exit(), "p/e1");

    let listed = look(&gateway, "/v1/cooldowns?pool=p");
    assert_eq!(listed["cooldowns"].as_array().unwrap().len(), 1, "{listed:#}");
    assert_eq!(
        (&listed["cooldowns"][0]["exit"], &listed["cooldowns"][0]["target"]),
        (&json!("e1"), &json!("127.0.0.1"))
    );
    let metrics = look_text(&gateway);
    assert!(metrics.contains("moorgate_reports_total{pool=\"p\",reason=\"blocked\"} 1\n"), "{metrics}");
    assert!(metrics.contains("moorgate_moves_total{reason=\"reported\"} 1\n"), "{metrics}");

    // An operator who resets the exit knows better.
    act(&gateway, "POST", "/v1/exits/p/e1/reset");
    assert_eq!(rotates(&gateway, &url, 6), set(&["e1", "e2", "e3"]));
}

#[track_caller]
fn look_text(gateway: &Gateway) -> String {
    crate::harness::operator::ask(gateway, "GET", "/metrics", "", "").ok().text()
}

#[test]
fn where_every_exit_cools_there_is_none_until_the_first_is_back() {
    let gateway = Setup::addresses(2).pool("cooldown", "3s").start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    let first = gateway.get("acme-session-a", &url).ok().exit();
    let told = json!({ "target": url, "reason": "captcha" });
    report(&gateway, "acme-session-a", &told).ok();
    // No exit is left to move to; the report counts, and the session stays.
    let refused = report(&gateway, "acme-session-a", &told).fails(503, "no_exit");
    assert!(refused.retry_after().is_some_and(|wait| (1..=3).contains(&wait)), "{refused:?}");
    let stays = gateway.get("acme-session-a", &url).ok();
    assert_ne!(stays.exit(), first, "it was moved once");

    let none = gateway.get("acme", &url).fails(503, "no_exit");
    assert!(none.retry_after().is_some_and(|wait| (1..=3).contains(&wait)), "{none:?}");
    assert!(none.detail().contains("2 reported as no good for this target"), "{}", none.detail());
    gateway.get("acme-session-b", &url).fails(503, "no_exit");
    crate::harness::eventually("the exits are back", crate::harness::PATIENCE, || {
        (gateway.get("acme", &url).status == 200).then_some(())
    });
}

#[test]
fn a_report_about_an_exit_that_was_left_moves_nothing() {
    let gateway = Setup::addresses(3).start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    gateway.get("acme-session-a-exit-e1", &url).ok();
    let told = json!({ "target": url, "reason": "blocked", "exit": "e1" });
    let first = body(&report(&gateway, "acme-session-a", &told).ok());
    let second = body(&report(&gateway, "acme-session-a", &told).ok());
    assert_eq!((&first["moved"], &second["moved"]), (&json!(true), &json!(false)));
    assert_eq!(first["session"]["exit"], second["session"]["exit"]);

    // Without a session the exit is named; nothing moves.
    let named = json!({ "target": "shop.example", "exit": "e2" });
    let outcome = body(&report(&gateway, "acme", &named).ok());
    assert_eq!((&outcome["session"], &outcome["moved"]), (&Value::Null, &json!(false)));
    assert_eq!(outcome["cooldown"]["target"], "shop.example");
    let sub = json!({ "target": "https://a.b.shop.example:8443/x", "exit": "e2" });
    assert_eq!(body(&report(&gateway, "acme", &sub).ok())["cooldown"]["target"], "shop.example");

    let code = |username: &str, told: Value| report(&gateway, username, &told).code().to_owned();
    assert_eq!(code("acme", json!({ "target": "shop.example" })), "session_required");
    assert_eq!(code("acme", json!({ "target": "shop.example", "exit": "nope" })), "exit_unknown");
    assert_eq!(code("acme-session-x", json!({ "target": "shop.example" })), "session_unknown");
    assert_eq!(code("acme-session-a", json!({ "target": "a b" })), "bad_target");
    assert_eq!(
        code("acme-session-a", json!({ "target": "a.example", "reason": "x".repeat(300) })),
        "body_invalid"
    );
}

#[test]
fn without_a_cooldown_a_report_moves_the_session_and_no_more() {
    let gateway = Setup::addresses(2).pool("cooldown", "0s").start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    gateway.get("acme-session-a", &url).ok();
    let outcome = body(&report(&gateway, "acme-session-a", &json!({ "target": url })).ok());
    assert_eq!((&outcome["moved"], &outcome["cooldown"]), (&json!(true), &Value::Null));
    assert_eq!(rotates(&gateway, &url, 4), set(&["e1", "e2"]));
}

#[test]
fn of_a_prefix_only_the_address_cools() {
    let gateway = Setup::new(json!([{ "id": "net", "via": "127.0.8.0/29" }])).start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    let bad = gateway.get("acme-session-a", &url).ok().text();
    let outcome = body(&report(&gateway, "acme-session-a", &json!({ "target": url })).ok());
    assert_eq!((&outcome["moved"], &outcome["cooldown"]["exit"]), (&json!(true), &json!("net")));
    assert_ne!(outcome["session"]["exit_address"], json!(bad));
    let mut client = gateway.client();
    for n in 0..24 {
        let fields = if n % 2 == 0 { basic("acme") } else { basic(&format!("acme-session-n{n}")) };
        let seen = client.send(get(&url, &fields)).answer("GET").ok().text();
        assert_ne!(seen, bad);
    }
}

#[test]
fn reports_outlive_a_reload_of_other_exits() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    report(&gateway, "acme", &json!({ "target": url, "exit": "e1" })).ok();
    let pools = json!({ "pools": [{ "name": "p", "exits": crate::harness::setup::addresses(3) }] });
    gateway.write_pools(&pools);
    act(&gateway, "POST", "/v1/reload");
    assert_eq!(rotates(&gateway, &url, 6), set(&["e2", "e3"]));
}
