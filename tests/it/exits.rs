//! Every kind of exit, for CONNECT and plain requests alike (SPEC §6).

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::programs::Program;
use crate::harness::request::Ask;
use crate::harness::{Gateway, Origin, Setup, Upstream};

/// Through the only exit of the pool, a tunnel and a plain request, with and
/// without a session, are seen from `ip`.
#[track_caller]
fn leaves_from(gateway: &Gateway, origin: &Origin, ip: &str) {
    for username in ["acme", "acme-session-a"] {
        assert_eq!(gateway.seen_through_tunnel(username, origin.address).0, ip, "CONNECT as {username}");
        assert_eq!(gateway.get(username, &origin.url("/ip")).ok().text(), ip, "GET as {username}");
    }
}

/// The same for a pool of this one exit.
#[track_caller]
fn check(exit: impl Into<Value>, ip: &str) {
    leaves_from(&Setup::new(json!([exit.into()])).start(), &Origin::start(), ip);
}

#[test]
fn direct() {
    check("direct", "127.0.0.1");
}

#[test]
fn an_ipv4_source_address() {
    check("127.0.0.9", "127.0.0.9");
}

#[test]
fn an_ipv6_source_address() {
    let gateway = Setup::new(json!(["::1"])).start();
    let origin = Origin::at("::1".parse().unwrap());
    leaves_from(&gateway, &origin, "::1");
    let answer = gateway.get("acme", &origin.url("/ip"));
    assert_eq!((&*answer.exit(), answer.address()), ("p/::1", Some("::1")));
}

#[test]
fn an_exit_is_never_asked_to_reach_the_other_family() {
    let gateway = Setup::new(json!(["::1"])).start();
    let origin = Origin::start();
    for _ in 0..4 {
        gateway.get("acme-session-a", &origin.url("/ip")).fails(502, "target_unreachable");
    }
    assert_eq!(origin.count(), 0);
    // The target's doing: the exit stays in use.
    let v6 = Origin::at("::1".parse().unwrap());
    gateway.get("acme-session-a", &v6.url("/ip")).ok();
}

#[test]
fn an_http_upstream() {
    let upstream = Upstream::http();
    check(upstream.to_string(), &upstream.ip());
    let seen = upstream.seen();
    assert!(seen.iter().all(|head| !head.to_lowercase().contains("proxy-authorization")), "{seen:?}");
    assert!(seen[0].starts_with("CONNECT 127.0.0.1:") && seen[1].starts_with("GET http://127.0.0.1:"));
}

#[test]
fn an_http_upstream_with_a_credential() {
    let upstream = Upstream::http_with("u-1", "s3:cr%40t");
    // Percent-decoded from the URL: the password is `s3:cr%40t`.
    check(upstream.via("http://u-1:s3:cr%2540t@"), &upstream.ip());
}

#[test]
fn an_http_upstream_that_refuses_our_credential() {
    let upstream = Upstream::http_with("u", "right");
    let gateway = Setup::new(json!([upstream.via("http://u:wrong@")])).start();
    let origin = Origin::start();
    let answer = gateway.connect("acme", origin.address).1.fails(502, "exit_auth_failed");
    assert_eq!(answer.field("proxy-authenticate"), None);
    gateway.get("acme", &origin.url("/ip")).fails(502, "exit_auth_failed");
}

#[test]
fn an_https_upstream_with_a_ca_of_its_own() {
    let upstream = Upstream::https();
    let setup = Setup::new(json!([{ "via": upstream.to_string(), "ca": "ca.pem" }]));
    let gateway = setup.file("ca.pem", upstream.certificate()).start();
    leaves_from(&gateway, &Origin::start(), &upstream.ip());
}

#[test]
fn an_https_upstream_that_is_not_verified() {
    let upstream = Upstream::https();
    check(json!({ "via": upstream.to_string(), "insecure": true }), &upstream.ip());
}

#[test]
fn an_https_upstream_with_a_strange_certificate_is_the_exits_fault() {
    let upstream = Upstream::https();
    let gateway = Setup::new(json!([upstream.to_string()])).start();
    gateway.connect("acme", "127.0.0.1:1").1.fails(502, "exit_failed");
    assert_eq!(upstream.count(), 0, "no request reached it");
}

#[test]
fn a_socks5_upstream_gets_addresses() {
    let upstream = Upstream::socks5();
    check(upstream.to_string(), &upstream.ip());
    let origin = Origin::start();
    let gateway = Setup::new(json!([upstream.to_string()])).start();
    gateway.tunnel("acme", format!("localhost:{}", origin.address.port()));
    assert_eq!(upstream.last(), origin.address.to_string(), "resolved here");
}

#[test]
fn a_socks5h_upstream_gets_names() {
    let upstream = Upstream::socks5();
    let exits = json!([{ "via": upstream.via("socks5h://") }]);
    let origin = Origin::start();
    // "never": the upstream is at a private address, so "auto" would look.
    let targets = json!({ "private": true, "resolve": "never" });
    let gateway = Setup::new(exits).config("targets", targets).start();
    leaves_from(&gateway, &origin, &upstream.ip());
    let named = format!("localhost:{}", origin.address.port());
    gateway.tunnel("acme", &named);
    assert_eq!(upstream.last(), named, "resolved there");
}

#[test]
fn socks5_upstreams_with_a_credential() {
    let upstream = Upstream::socks5_with("user", "p:w");
    check(upstream.via("socks5://user:p%3Aw@"), &upstream.ip());
    check(upstream.via("socks5h://user:p%3Aw@"), &upstream.ip());
    assert!(upstream.seen().iter().all(|request| request.starts_with("user:p:w@127.0.0.1:")));
}

#[test]
fn socks5_upstreams_that_refuse_our_credential() {
    let upstream = Upstream::socks5_with("user", "right");
    for front in ["socks5://user:wrong@", "socks5://"] {
        let gateway = Setup::new(json!([upstream.via(front)])).start();
        gateway.connect("acme", "127.0.0.1:1").1.fails(502, "exit_auth_failed");
    }
}

#[test]
fn squid_and_tinyproxy_and_microsocks() {
    let squid = Program::squid();
    check(format!("http://{}", squid.address), &squid.ip());
    let tinyproxy = Program::tinyproxy("up", "secret");
    check(format!("http://up:secret@{}", tinyproxy.address), &tinyproxy.ip());
    let open = Program::microsocks(None);
    check(format!("socks5://{}", open.address), &open.ip());
    check(format!("socks5h://{}", open.address), &open.ip());
    let closed = Program::microsocks(Some(("up", "secret")));
    check(format!("socks5://up:secret@{}", closed.address), &closed.ip());
    check(format!("socks5h://up:secret@{}", closed.address), &closed.ip());
}

#[test]
fn real_proxies_that_refuse_our_credential() {
    let squid = Program::strict_squid();
    let microsocks = Program::microsocks(Some(("up", "secret")));
    for via in [
        format!("http://{}", squid.address),
        format!("http://up:wrong@{}", squid.address),
        format!("socks5://up:wrong@{}", microsocks.address),
        format!("socks5://{}", microsocks.address),
    ] {
        let gateway = Setup::new(json!([via])).start();
        gateway.connect("acme", "127.0.0.1:1").1.fails(502, "exit_auth_failed");
    }
}

#[test]
fn exits_without_an_id_are_named_by_their_via() {
    let upstream = Upstream::http();
    let exits = json!(["direct", "127.0.0.5", "127.1.0.0/24", upstream.via("http://user:hidden@")]);
    let gateway = Setup::new(exits).start();
    let origin = Origin::start();
    let seen: HashSet<_> = (0..4).map(|_| gateway.get("acme", &origin.url("/ip")).exit()).collect();
    let named = ["direct", "127.0.0.5", "127.1.0.0/24", &upstream.to_string()].map(|id| format!("p/{id}"));
    assert_eq!(seen, HashSet::from(named));
}

#[test]
fn the_announced_address_is_what_the_file_says_or_what_is_known() {
    let upstream = Upstream::http();
    let exits = json!([
        { "id": "told", "via": upstream.to_string(), "address": "203.0.113.7" },
        { "id": "untold", "via": upstream.to_string() },
    ]);
    let gateway = Setup::new(exits).start();
    let origin = Origin::start();
    let announced = |exit: &str| {
        let answer = gateway.get(&format!("acme-exit-{exit}"), &origin.url("/ip")).ok();
        answer.address().map(str::to_owned)
    };
    assert_eq!(announced("told").as_deref(), Some("203.0.113.7"));
    assert_eq!(announced("untold"), None);
}

#[test]
fn nothing_is_announced_where_it_is_turned_off() {
    let gateway = Setup::addresses(1).config("announce", false).start();
    let origin = Origin::start();
    let plain = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    let (_, tunnel) = gateway.tunnel("acme-session-a", origin.address);
    for answer in [plain, tunnel] {
        assert!(
            !answer.fields.iter().any(|(name, _)| name.to_lowercase().starts_with("moorgate")),
            "{answer:?}"
        );
    }
}
