//! Where requests may go (SPEC §7, `targets`).

use serde_json::json;

use crate::harness::request::Ask;
use crate::harness::{Gateway, Origin, Setup, Upstream};

#[track_caller]
fn forbidden(gateway: &Gateway, target: &str) {
    let (_, answer) = gateway.connect("acme", target);
    assert_eq!((answer.status, answer.code()), (403, "target_forbidden"), "CONNECT {target}");
}

#[test]
fn private_targets_are_refused_by_default_in_every_spelling() {
    let upstream = Upstream::http();
    let gateway = Setup::new(json!([upstream.to_string()])).config("targets", json!({})).start();
    let origin = Origin::start();
    let port = origin.address.port();
    for host in [
        "127.0.0.1",
        "127.9.9.9",
        "127.0.0.1.",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "192.0.0.8",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[fc00::1]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[100::1]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
    ] {
        forbidden(&gateway, &format!("{host}:{port}"));
    }
    gateway.get("acme", &origin.url("/ip")).fails(403, "target_forbidden");
    assert_eq!((upstream.count(), origin.count()), (0, 0));
}

#[test]
fn some_private_targets_may_be_let_through() {
    let gateway = Setup::addresses(1).config("targets", json!({ "private": ["127.0.0.0/8"] })).start();
    let origin = Origin::start();
    gateway.get("acme", &origin.url("/ip")).ok();
    forbidden(&gateway, "[::1]:80");
    forbidden(&gateway, "10.0.0.1:80");
}

#[test]
fn deny_wins_over_allow() {
    let origin = Origin::start();
    let port = origin.address.port();
    let targets = json!({
        "private": true,
        "allow": ["127.0.0.0/8", "*.example.com", "localhost"],
        "deny": ["127.0.0.66", "bad.example.com", format!("127.0.0.1:{}", port.wrapping_add(1).max(1))],
    });
    let gateway = Setup::addresses(1).config("targets", targets).start();
    gateway.get("acme", &origin.url("/ip")).ok();
    gateway.get("acme", &format!("http://localhost:{port}/ip")).ok();
    forbidden(&gateway, "127.0.0.66:80");
    forbidden(&gateway, &format!("127.0.0.1:{}", port.wrapping_add(1).max(1)));
    forbidden(&gateway, "10.1.1.1:80");
    forbidden(&gateway, "bad.example.com:80");
    forbidden(&gateway, "BAD.example.com.:80");
    // Where only names are allowed, no other name is looked up.
    let targets = json!({ "private": true, "allow": ["*.example.com"] });
    forbidden(&Setup::addresses(1).config("targets", targets).start(), "example.org:80");
}

#[test]
fn ports_are_bounded() {
    let gateway = Setup::addresses(1).start();
    forbidden(&gateway, "127.0.0.1:25");
    gateway.connect("acme", "127.0.0.1:1").1.fails(502, "target_refused");
    let targets = json!({ "private": true, "ports": [80, "8000-8999"] });
    let gateway = Setup::addresses(1).config("targets", targets).start();
    for (port, code) in
        [(80, ""), (8000, ""), (8999, ""), (443, "no"), (7999, "no"), (9000, "no"), (25, "no")]
    {
        let answer = gateway.connect("acme", format!("127.0.0.77:{port}")).1;
        assert_eq!(answer.code() == "target_forbidden", code == "no", "{port}: {answer:?}");
    }
}

#[test]
fn a_pools_targets_override_the_gateways() {
    let gateway = Setup::addresses(1)
        .pool("targets", json!({ "private": ["127.0.0.0/8"], "ports": ["1-65535"] }))
        .config("targets", json!({ "ports": [443] }))
        .start();
    let origin = Origin::start();
    gateway.get("acme", &origin.url("/ip")).ok();
}

#[test]
fn our_own_listeners_are_no_target_in_any_spelling() {
    let gateway = Setup::new(json!(["direct"])).start();
    for port in [gateway.listens().port(), gateway.admin().port()] {
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.0.0.1."] {
            let answer = gateway.connect("acme", format!("{host}:{port}")).1;
            assert_eq!((answer.status, answer.code()), (421, "loop_detected"), "{host}:{port}");
        }
    }
    gateway.get("acme", &format!("http://{}/", gateway.listens())).fails(421, "loop_detected");
}

#[test]
fn an_upstream_in_our_own_network_is_not_trusted_to_resolve() {
    let upstream = Upstream::http();
    let origin = Origin::start();
    let target = format!("localhost.:{}", origin.address.port());
    let with = |targets| Setup::new(json!([upstream.to_string()])).config("targets", targets).start();
    // A name that only the upstream resolves passes by its name; where the
    // upstream stands in our network, its answer is looked at first.
    forbidden(&with(json!({})), &target);
    with(json!({ "private": true, "resolve": "always" })).tunnel("acme", &target);
    let unresolvable = with(json!({ "private": ["127.0.0.0/8"], "resolve": "always" }));
    unresolvable.connect("acme", "no.such.name.invalid:80").1.fails(502, "target_unresolvable");
    let left_alone = with(json!({ "private": true, "resolve": "never" }));
    let before = upstream.count();
    left_alone.connect("acme", "no.such.name.invalid:80").1.fails(502, "exit_refused_target");
    assert_eq!(upstream.count(), before + 1, "the upstream was asked");
}
