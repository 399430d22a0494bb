//! Plain requests: what of a head is passed on, and connections that live on
//! (SPEC §5).

use serde_json::json;

use crate::harness::request::{Ask, get, request};
use crate::harness::setup::address_of;
use crate::harness::{Origin, Setup, Upstream, basic};

#[test]
fn the_origin_sees_origin_form_and_its_own_host() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let text = format!(
        "GET {} HTTP/1.1\r\nHost: another.example\r\n{}X-First: 1\r\nACCEPT: */*\r\nx-second:  two \r\n\
         X-First: 3\r\n\r\n",
        origin.url("/echo/a%20b?c=d&e"),
        basic("acme"),
    );
    gateway.client().send(text).answer("GET").ok();
    let seen = origin.last();
    assert!(seen.line().starts_with("GET /echo/a%20b?c=d&e"), "{}", seen.line());
    let names = seen.head.lines().skip(1).filter_map(|l| l.split_once(':')).map(|f| f.0);
    // Whether the connection to the origin lives on is between us and it.
    let names: Vec<_> = names.filter(|name| *name != "Connection").collect();
    assert_eq!(names, ["Host", "X-First", "ACCEPT", "x-second", "X-First"], "order and case are kept");
    assert_eq!(seen.field("host"), Some(&*origin.address.to_string()));
}

#[test]
fn a_url_without_a_path_asks_for_the_root() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    gateway.get("acme", &format!("http://{}", origin.address));
    assert_eq!(origin.last().line(), "GET / HTTP/1.1");
    gateway.get("acme", &format!("HTTP://{}?q=1", origin.address));
    assert_eq!(origin.last().line(), "GET /?q=1 HTTP/1.1");
    let options = request("OPTIONS", &format!("http://{}", origin.address), &basic("acme"));
    gateway.client().send(options).answer("OPTIONS");
    assert_eq!(origin.last().line(), "OPTIONS * HTTP/1.1");
}

#[test]
fn what_is_for_us_or_for_one_hop_is_not_passed_on() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let fields = "Proxy-Connection: Keep-Alive\r\nConnection: X-Private, Keep-Alive\r\nX-Private: 1\r\n\
                  Keep-Alive: 300\r\nTE: gzip\r\nMoorgate-Session: a\r\nMoorgate-Failover: off\r\n\
                  Authorization: Bearer for-the-origin\r\nUpgrade: h2c\r\n";
    gateway.get_with("acme", fields, &origin.url("/ip")).ok();
    let seen = origin.last();
    for gone in [
        "proxy-authorization",
        "proxy-connection",
        "x-private",
        "keep-alive",
        "te",
        "moorgate-session",
        "moorgate-failover",
        "via",
        "x-forwarded-for",
        "forwarded",
        "upgrade",
    ] {
        assert_eq!(seen.field(gone), None, "{gone} in {}", seen.head);
    }
    assert_eq!(seen.field("authorization"), Some("Bearer for-the-origin"));
}

#[test]
fn what_the_origin_says_for_one_hop_or_forges_is_not_passed_on() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let answer = gateway.get("acme", &origin.url("/fields")).ok();
    for gone in ["x-private", "keep-alive", "proxy-authenticate", "proxy-connection", "moorgate-other"] {
        assert_eq!(answer.field(gone), None, "{gone} in {answer:?}");
    }
    assert_eq!(answer.exit(), "p/e1");
    assert_eq!(answer.field("moorgate-session"), None);
    let kept = ["Set-Cookie", "x-Odd-Case", "Set-Cookie"];
    let names = answer.fields.iter().map(|(name, _)| &**name);
    assert_eq!(names.filter(|name| kept.contains(name)).collect::<Vec<_>>(), kept);
}

#[test]
fn via_is_added_where_it_is_asked_for() {
    let gateway = Setup::addresses(1).config("via", true).start();
    let origin = Origin::start();
    gateway.get("acme", &origin.url("/ip")).ok();
    let seen = origin.last();
    let via = seen.field("via").expect("Via").to_owned();
    assert!(via.starts_with("1.1 "), "{via}");
    // Our own Via that comes back is a loop.
    gateway.get_with("acme", &format!("Via: {via}\r\n"), &origin.url("/ip")).fails(421, "loop_detected");
    gateway.get_with("acme", "Via: 1.1 another\r\n", &origin.url("/ip")).ok();
    assert!(origin.last().field("via").expect("Via").contains("1.1 another"));
}

#[test]
fn one_client_connection_carries_many_requests() {
    let gateway = Setup::addresses(2).start();
    let (one, two) = (Origin::start(), Origin::start());
    let mut client = gateway.client();
    let mut news = Vec::new();
    for _ in 0..10 {
        for (origin, session) in [(&one, "a"), (&two, "a"), (&one, "b"), (&one, "a")] {
            let fields = basic(&format!("acme-session-{session}"));
            let answer = client.send(get(&origin.url("/ip"), &fields)).answer("GET").ok();
            assert!(!answer.has("connection", "close"));
            news.push(answer.news().to_owned());
        }
    }
    assert_eq!((one.count(), two.count()), (30, 10));
    assert_eq!(news[..4], ["new", "held", "new", "held"]);
    assert!(news[4..].iter().all(|one| one == "held"), "{news:?}");
}

#[test]
fn a_sessions_upstream_connection_is_kept_and_never_shared() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let port = |client: &mut crate::harness::Client, username: &str| {
        client.send(get(&origin.url("/ip"), &basic(username))).answer("GET").ok();
        origin.last().peer.port()
    };
    let mut client = gateway.client();
    let a = port(&mut client, "acme-session-a");
    let b = port(&mut client, "acme-session-b");
    let free = port(&mut client, "acme");
    assert!(a != b && b != free && a != free, "connections are apart: {a} {b} {free}");
    assert_eq!(port(&mut client, "acme-session-a"), a, "kept");
    assert_eq!(port(&mut client, "acme-session-b"), b, "kept");
    assert!(![a, b].contains(&port(&mut client, "acme")));
    let mut other = gateway.client();
    assert_ne!(port(&mut other, "acme-session-a"), a, "another client's");
}

#[test]
fn an_upstream_connection_that_the_origin_closed_is_not_used_again() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let mut client = gateway.client();
    for _ in 0..5 {
        // The origin closes after its answer, which does not say so.
        let answer = client.send(get(&origin.url("/http10"), &basic("acme-session-a"))).answer("GET").ok();
        assert_eq!(answer.text(), "old");
        let answer = client.send(get(&origin.url("/ip"), &basic("acme-session-a"))).answer("GET").ok();
        assert_eq!(answer.news(), "held");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    let all: String = (0..8)
        .map(|n| {
            let body = format!("body {n}");
            let fields = format!("{}Content-Length: {}\r\n", basic("acme-session-a"), body.len());
            request("POST", &origin.url("/echo"), &fields) + &body
        })
        .collect();
    let mut client = gateway.client();
    client.send(all);
    for n in 0..8 {
        assert_eq!(client.answer("POST").ok().text(), format!("body {n}"));
    }
}

#[test]
fn http_1_0_clients_get_what_they_understand() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let old = |path: &str, fields: &str| {
        let mut client = gateway.client();
        let url = origin.url(path);
        client.send(format!("GET {url} HTTP/1.0\r\n{}{fields}\r\n", basic("acme-session-a")));
        let answer = client.answer("GET").ok();
        (client, answer)
    };
    let (mut client, answer) = old("/ip", "");
    assert_eq!(answer.text(), address_of(1).to_string());
    assert_eq!(client.rest(), b"", "closed");
    let (_, answer) = old("/chunked", "");
    assert_eq!((answer.field("transfer-encoding"), &*answer.text()), (None, "hello world"));
    let (_, answer) = old("/early", "");
    assert_eq!(answer.text(), "ok", "no 1xx");
    let (mut client, answer) = old("/ip", "Connection: keep-alive\r\n");
    if answer.has("connection", "keep-alive") {
        client.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").ok();
    }
    assert!(origin.seen().iter().all(|seen| seen.field("host").is_some()));
}

#[test]
fn a_client_that_asks_to_close_is_closed() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let mut client = gateway.client();
    let fields = format!("{}Connection: close\r\n", basic("acme"));
    let answer = client.send(get(&origin.url("/ip"), &fields)).answer("GET").ok();
    assert!(answer.has("connection", "close"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn an_http_upstream_sees_absolute_form_and_only_its_own_credential() {
    let upstream = Upstream::http_with("up", "stream");
    let gateway = Setup::new(json!([upstream.via("http://up:stream@")])).start();
    let origin = Origin::start();
    let mut client = gateway.client();
    for n in 0..3 {
        let url = origin.url(&format!("/echo/{n}"));
        let fields = format!("{}Moorgate-Failover: off\r\nX-Kept: {n}\r\n", basic("acme-session-a"));
        client.send(get(&url, &fields)).answer("GET").ok();
        let head = upstream.last();
        assert!(head.starts_with(&format!("GET {url} HTTP/1.1\r\n")), "{head}");
        assert_eq!(head.matches("roxy-").count(), 1, "one credential: {head}");
        assert!(head.contains(&crate::harness::request::basic_as("up", "stream")), "{head}");
        assert!(!head.contains("Moorgate") && head.contains(&format!("X-Kept: {n}\r\n")), "{head}");
    }
}

#[test]
fn targets_and_upstreams_that_ask_for_a_credential_never_reach_the_client() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let answer = gateway.get("acme", &origin.url("/challenge")).fails(502, "bad_response");
    assert_eq!(answer.field("proxy-authenticate"), None);
    for path in ["/garbage", "/ambiguous"] {
        gateway.get("acme-session-a", &origin.url(path)).fails(502, "bad_response");
    }
}
