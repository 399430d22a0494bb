//! The harness itself: each peer does what it is said to do, so that a
//! failing test means the gateway.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::programs::Program;
use crate::harness::request::{self, Ask};
use crate::harness::upstream::Blackhole;
use crate::harness::{Client, Mood, Origin, Upstream, namespace};

#[test]
fn the_origin_answers_in_every_shape() {
    let origin = Origin::start();
    let ask = |path: &str| {
        let mut client = Client::open(origin.address);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: o\r\n\r\n")).answer("GET")
    };
    assert_eq!(ask("/ip").ok().text(), "127.0.0.1");
    assert_eq!(ask("/chunked").ok().text(), "hello world");
    assert_eq!(ask("/trailers").trailers[0], ("X-Sum".to_owned(), "42".to_owned()));
    assert_eq!(ask("/close").text(), "to the end");
    assert!(!ask("/broken").whole && !ask("/broken-chunks").whole);
    assert_eq!(ask("/stream/100000").body.len(), 100_000);
    assert_eq!(ask("/status/204").status, 204);
    assert_eq!(ask("/early").status, 103);
    assert_eq!(origin.last().line(), "GET /early HTTP/1.1");
}

#[test]
fn upstreams_of_our_own_record_and_leave_from_their_own_address() {
    let origin = Origin::start();
    for upstream in [Upstream::http(), Upstream::http()] {
        assert_eq!(upstream.address.get("u", &origin.url("/ip")).ok().text(), upstream.ip());
        assert!(upstream.last().starts_with("GET http://"));
        let (seen, _) = upstream.address.seen_through_tunnel("u", origin.address);
        assert_eq!(seen, upstream.ip());
        upstream.set(Mood::status(503));
        assert_eq!(upstream.address.get("u", &origin.url("/ip")).status, 503);
        upstream.refuse();
        assert!(Client::try_open(upstream.address).is_err());
        upstream.come_back();
        assert_eq!(upstream.count(), 3);
    }
}

#[test]
fn socks_upstreams_speak_rfc_1928() {
    let origin = Origin::start();
    let port = origin.address.port().to_be_bytes();
    let ask = |upstream: &Upstream, greeting: &[u8]| {
        let mut client = Client::open(upstream.address);
        client.send(greeting).send([5, 1, 0, 3, 9]).send("localhost").send(port);
        client
    };
    let open = Upstream::socks5();
    assert_eq!(ask(&open, &[5, 1, 0]).exactly(4), [5, 0, 5, 0]);
    assert_eq!(open.last(), format!("localhost:{}", origin.address.port()));
    open.set(Mood::Reply(4));
    assert_eq!(ask(&open, &[5, 1, 0]).exactly(4), [5, 0, 5, 4]);
    let closed = Upstream::socks5_with("u", "p");
    assert_eq!(ask(&closed, &[5, 1, 2, 1, 1, b'u', 1, b'p']).exactly(6), [5, 2, 1, 0, 5, 0]);
    assert!(closed.last().starts_with("u:p@localhost:"));
}

#[test]
fn a_blackhole_swallows() {
    let hole = Blackhole::open();
    let error = TcpStream::connect_timeout(&hole.address, Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn real_proxies_run() {
    let origin = Origin::start();
    let squid = Program::squid();
    assert_eq!(squid.address.get("u", &origin.url("/ip")).ok().text(), squid.ip());
    let tinyproxy = Program::tinyproxy("up", "secret");
    assert_eq!(tinyproxy.address.get("u", &origin.url("/ip")).status, 401);
    let fields = request::basic_as("up", "secret");
    let (mut client, target) = (tinyproxy.address.client(), origin.address);
    client.send(request::connect(target, &fields)).answer("CONNECT").ok();
    let microsocks = Program::microsocks(None);
    let mut client = Client::open(microsocks.address);
    assert_eq!(client.send([5, 1, 0]).exactly(2), [5, 0]);
}

#[test]
fn a_namespace_has_a_prefix_of_its_own() {
    namespace::within(|| {
        let address: SocketAddr = "[2001:db8:7::1234]:0".parse().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
        socket.set_freebind_v6(true).unwrap();
        socket.bind(&address.into()).unwrap();
    });
}
