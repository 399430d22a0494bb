//! CONNECT: the handshake, what flows behind it, how it ends (SPEC §5).

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use crate::harness::request::{Ask, connect};
use crate::harness::setup::address_of;
use crate::harness::{Client, Origin, Setup, Upstream, basic};

/// A target that the test holds the far end of.
fn target() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

fn far_end(listener: &TcpListener) -> Client {
    Client::over(listener.accept().expect("the gateway connects").0).expect("options")
}

#[test]
fn the_answer_is_exact_and_the_tunnel_is_clean() {
    let gateway = Setup::addresses(1).start();
    let (listener, target) = target();
    let (mut client, answer) = gateway.tunnel("acme-session-a", &target);
    assert_eq!((&*answer.version, &*answer.reason), ("HTTP/1.1", "Connection established"));
    assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (None, None));
    assert!(!answer.has("connection", "close"), "{answer:?}");
    let mut far = far_end(&listener);
    client.send("up \0\r\n\r\n\u{ff}");
    assert_eq!(far.exactly(10), "up \0\r\n\r\n\u{ff}".as_bytes());
    far.send("down");
    assert_eq!(client.exactly(4), b"down");
}

#[test]
fn many_bytes_pass_both_ways_at_once() {
    let gateway = Setup::addresses(1).start();
    let (listener, target) = target();
    let (mut client, _) = gateway.tunnel("acme", &target);
    let mut far = far_end(&listener);
    let bulk: Vec<u8> = (0..4_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let copy = bulk.clone();
    let echo = std::thread::spawn(move || {
        // In parts, so that neither side can hold it all.
        for part in copy.chunks(100_000) {
            assert_eq!(far.exactly(part.len()), part);
            far.send(part);
        }
    });
    let sent = bulk.clone();
    let mut writer = client.writer();
    let send = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &sent).unwrap());
    assert!(client.exactly(bulk.len()) == bulk, "the bytes are the same");
    send.join().unwrap();
    echo.join().unwrap();
}

#[test]
fn bytes_behind_the_head_reach_the_target() {
    let upstream = Upstream::http();
    let exits = json!([{ "id": "e1", "via": "127.0.0.2" }, { "id": "up", "via": upstream.to_string() }]);
    let gateway = Setup::new(exits).start();
    for exit in ["e1", "up"] {
        let (listener, target) = target();
        let mut client = gateway.client();
        client.send(connect(&target, &basic(&format!("acme-exit-{exit}"))) + "early");
        assert_eq!(far_end(&listener).exactly(5), b"early", "through {exit}");
        client.answer("CONNECT").ok();
    }
}

#[test]
fn half_close_is_carried_both_ways() {
    let gateway = Setup::addresses(1).start();
    let (listener, target) = target();
    let (mut client, _) = gateway.tunnel("acme", &target);
    let mut far = far_end(&listener);
    client.send("question").half_close();
    assert_eq!(far.rest(), b"question");
    far.send("answer after the end");
    far.half_close();
    assert_eq!(client.rest(), b"answer after the end");

    let (mut client, _) = gateway.tunnel("acme", &target);
    let mut far = far_end(&listener);
    far.send("greeting").half_close();
    assert_eq!(client.rest(), b"greeting");
    client.send("still here").half_close();
    assert_eq!(far.rest(), b"still here");
}

#[test]
fn a_reset_is_carried_as_a_reset() {
    let gateway = Setup::addresses(1).start();
    let (listener, target) = target();
    for by_client in [true, false] {
        let (mut client, _) = gateway.tunnel("acme", &target);
        let mut far = far_end(&listener);
        client.echo_through(&mut far);
        let left = if by_client {
            client.reset();
            far.end()
        } else {
            far.reset();
            client.end()
        };
        let kind = left.expect_err("a reset, not an end").kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset, "reset by the client: {by_client}");
    }
}

#[test]
fn every_form_of_a_clients_request_is_taken() {
    let gateway = Setup::addresses(1).start();
    let (_listener, target) = target();
    let basic = basic("acme");
    let lower = basic.replace("Proxy-Authorization: Basic", "proxy-authorization: bAsIc");
    for head in [
        format!("CONNECT {target} HTTP/1.0\r\n{basic}\r\n"),
        format!("CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n{basic}\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nHost: elsewhere.example\r\n{basic}\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{lower}\r\n"),
        format!(
            "CONNECT {target} HTTP/1.1\r\nHost: x\r\n{lower}connection: close\r\nproxy-connection: keep-alive\r\n\r\n"
        ),
        format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n{lower}TE: trailers\r\nKeep-Alive: 300\r\n\r\n"),
    ] {
        let mut client = gateway.client();
        let answer = client.send(&head).answer("CONNECT").ok();
        assert_eq!(answer.version, "HTTP/1.1");
        client.stays_silent(Duration::from_millis(20));
    }
}

#[test]
fn ipv6_and_names_are_targets() {
    let gateway = Setup::new(json!(["direct"])).start();
    let v6 = Origin::at("::1".parse().unwrap());
    assert_eq!(gateway.seen_through_tunnel("acme", v6.address).0, "::1");
    let v4 = Origin::start();
    let named = format!("LocalHost:{}", v4.address.port());
    let (mut client, _) = gateway.tunnel("acme", &named);
    assert_eq!(client.send("GET /ip HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET").text(), "127.0.0.1");
}

#[test]
fn a_refused_connect_closes_and_its_bytes_are_thrown_away() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let smuggled = format!("GET {} HTTP/1.1\r\nHost: x\r\n{}\r\n", origin.url("/ip"), basic("acme"));
    let mut client = gateway.client();
    client.send(connect("127.0.0.1:1", &basic("acme")) + &smuggled);
    let answer = client.answer("CONNECT").fails(502, "target_refused");
    assert!(answer.has("connection", "close"), "{answer:?}");
    assert_eq!(client.rest(), b"", "no second answer");
    assert_eq!(origin.count(), 0);
}

#[test]
fn targets_that_no_one_can_read_are_refused() {
    let gateway = Setup::addresses(1).start();
    for target in [
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:+80",
        ":80",
        "::1:80",
        "[::1]",
        "[::1:80",
        "[::g]:80",
        "1.2.3:80",
        "1.2.3.4.5:80",
        "127.1:80",
        "0x7f.0.0.1:80",
        "0177.0.0.1:80",
        "2130706433:80",
        "example.0x7f.:80",
        "256.0.0.1:80",
        "a..b:80",
        "user@host:80",
        "http://host:80",
    ] {
        let text = format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n{}\r\n", basic("acme"));
        let answer = gateway.client().send(text).answer("CONNECT");
        assert_eq!((answer.status, answer.code()), (400, "bad_target"), "CONNECT {target}");
    }
}

#[test]
fn an_idle_tunnel_ends_after_its_time() {
    let gateway = Setup::addresses(1).config("timeouts", json!({ "idle": "1s" })).start();
    let (listener, target) = target();
    let (mut client, _) = gateway.tunnel("acme", &target);
    let mut far = far_end(&listener);
    for _ in 0..3 {
        client.stays_silent(Duration::from_millis(500));
        client.echo_through(&mut far);
    }
    let start = std::time::Instant::now();
    let _ = client.end();
    let _ = far.end();
    let time = start.elapsed();
    assert!(time >= Duration::from_millis(900) && time < Duration::from_secs(5), "{time:?}");
}

#[test]
fn each_tunnel_leaves_by_its_exit() {
    let gateway = Setup::addresses(3).start();
    let origin = Origin::start();
    for n in 1..=3 {
        let (seen, answer) = gateway.seen_through_tunnel(&format!("acme-exit-e{n}"), origin.address);
        assert_eq!(seen, address_of(n).to_string());
        assert_eq!(answer.exit(), format!("p/e{n}"));
        assert_eq!(answer.address(), Some(&*seen));
        assert_eq!(answer.news(), "", "no session, no news");
    }
}
