//! Bodies, upgrades and everything else behind a plain request's head
//! (SPEC §5).

use std::time::Duration;

use serde_json::json;

use crate::harness::request::{Ask, get, request};
use crate::harness::{Gateway, Origin, Setup, Upstream, basic};

fn gateway() -> Gateway {
    Setup::addresses(1).start()
}

/// The head of a `POST` with these framing fields.
fn post(url: &str, framing: &str) -> String {
    request("POST", url, &format!("{}{framing}", basic("acme-session-a")))
}

#[test]
fn answers_keep_their_framing() {
    let (gateway, origin) = (gateway(), Origin::start());
    let answer = gateway.get("acme", &origin.url("/chunked")).ok();
    assert!(answer.has("transfer-encoding", "chunked") && answer.text() == "hello world", "{answer:?}");
    let mut client = gateway.client();
    client.send(get(&origin.url("/close"), &basic("acme")));
    let answer = client.answer("GET").ok();
    assert_eq!((&*answer.text(), answer.whole), ("to the end", true));
    assert_eq!(client.rest(), b"", "ends with the connection");
}

#[test]
fn requests_keep_their_framing() {
    let (gateway, origin) = (gateway(), Origin::start());
    let mut client = gateway.client();
    client.send(post(&origin.url("/echo"), "Content-Length: 5\r\n") + "hello");
    assert_eq!(client.answer("POST").ok().text(), "hello");
    let chunked = "2;x=y\r\nab\r\n1\r\nc\r\n0\r\nX-Trailer: t\r\n\r\n";
    client.send(post(&origin.url("/echo"), "Transfer-Encoding: chunked\r\n") + chunked);
    client.answer("POST").ok();
    let body = origin.last().text();
    let data: String = body.split("\r\n").skip(1).step_by(2).take(2).collect();
    assert_eq!((&*data, body.contains("X-Trailer: t\r\n")), ("abc", true), "{body:?}");
    client.send(post(&origin.url("/echo"), "Content-Length: 0\r\n"));
    client.answer("POST").ok();
    assert_eq!(origin.last().field("content-length"), Some("0"));
}

#[test]
fn answers_without_a_body_leave_the_connection_in_order() {
    let (gateway, origin) = (gateway(), Origin::start());
    let mut client = gateway.client();
    let mut ask = |method: &str, path: &str| {
        let text = request(method, &origin.url(path), &basic("acme-session-a"));
        client.send(text).answer(method)
    };
    let head = ask("HEAD", "/head");
    assert_eq!(
        (head.status, head.field("content-length"), head.field("x-head")),
        (200, Some("1000000"), Some("1"))
    );
    assert_eq!(ask("GET", "/status/204").status, 204);
    assert_eq!(ask("GET", "/status/304").status, 304);
    assert_eq!(ask("HEAD", "/ip").field("content-length"), Some("9"));
    assert_eq!(ask("GET", "/ip").ok().text(), "127.0.0.2");
    // A failure of ours to a HEAD has no body either.
    let text = request("HEAD", "http://127.0.0.1:1/", &basic("acme-session-a"));
    client.send(text).answer("HEAD").fails(502, "target_refused");
    client.send(get(&origin.url("/ip"), &basic("acme-session-a"))).answer("GET").ok();
}

#[test]
fn interim_answers_pass() {
    let (gateway, origin) = (gateway(), Origin::start());
    let mut client = gateway.client();
    client.send(get(&origin.url("/early"), &basic("acme")));
    let first = client.head();
    assert_eq!((first.status, first.field("link")), (103, Some("</a.css>")));
    assert_eq!(client.head().field("link"), Some("</b.css>"));
    let last = client.answer("GET").ok();
    assert_eq!((&*last.text(), &*last.exit()), ("ok", "p/e1"));
    assert_eq!(first.field("moorgate-exit"), None, "the success alone announces");
}

#[test]
fn expect_100_continue_gets_its_100() {
    let (gateway, origin) = (gateway(), Origin::start());
    let mut client = gateway.client();
    client.send(post(&origin.url("/echo/continue"), "Content-Length: 4\r\nExpect: 100-continue\r\n"));
    assert_eq!(client.head().status, 100);
    assert_eq!(client.send("body").answer("POST").ok().text(), "body");
}

#[test]
fn a_refused_expectation_gets_its_final_status_at_once() {
    let (gateway, origin) = (gateway(), Origin::start());
    let mut client = gateway.client();
    let framing = "Content-Length: 1000000\r\nExpect: 100-continue\r\n";
    client.send(request("POST", &origin.url("/echo"), framing)).answer("POST").fails(407, "auth_required");
    client.end().expect("closed, for the body may or may not come");
    assert_eq!(origin.count(), 0);
}

#[test]
fn trailers_pass_except_those_that_would_harm() {
    let (gateway, origin) = (gateway(), Origin::start());
    let answer = gateway.get_with("acme", "TE: trailers\r\n", &origin.url("/trailers")).ok();
    let names: Vec<_> = answer.trailers.iter().map(|(name, _)| &**name).collect();
    assert_eq!((&*answer.text(), names), ("hi", vec!["X-Sum", "X-Undeclared"]));
    let framing = "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n";
    let body = "1\r\na\r\n0\r\nX-Sum: 1\r\nHost: evil\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\
                Proxy-Authorization: Basic eDp5\r\nX-Other: 2\r\nMoorgate-Session: b\r\n\r\n";
    gateway.client().send(post(&origin.url("/sink"), framing) + body).answer("POST").ok();
    assert!(
        origin.last().text().ends_with("0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n"),
        "{:?}",
        origin.last().text()
    );
}

#[test]
fn large_bodies_stream_both_ways() {
    const SIZE: usize = 16_000_000;
    let (gateway, origin) = (gateway(), Origin::start());
    let answer = gateway.get("acme", &origin.url(&format!("/stream/{SIZE}"))).ok();
    assert!(answer.whole && answer.body.len() == SIZE && answer.body.iter().all(|byte| *byte == b'x'));
    let mut client = gateway.client();
    client.send(post(&origin.url("/sink"), &format!("Content-Length: {SIZE}\r\n")));
    client.send(vec![b'y'; SIZE]);
    assert_eq!(client.answer("POST").ok().text(), SIZE.to_string());
}

#[test]
fn a_body_is_not_read_ahead_of_who_wants_it() {
    let (gateway, origin) = (gateway(), Origin::start());
    let mut client = gateway.client();
    client.send(get(&origin.url("/stream/300000000"), &basic("acme")));
    assert_eq!(client.head().status, 200);
    client.exactly(1_000_000);
    // It stalls where we stall: the gateway has not taken it all in.
    let before = resident_kib(gateway.pid());
    std::thread::sleep(Duration::from_millis(300));
    let grown = resident_kib(gateway.pid()).saturating_sub(before);
    assert!(grown < 20_000, "{grown} KiB more while nobody reads");
    client.exactly(20_000_000);
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn a_first_part_of_a_body_is_passed_on_before_the_rest_comes() {
    let (gateway, origin) = (gateway(), Origin::start());
    let far = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = gateway.client();
    let url = format!("http://{}/", far.local_addr().unwrap());
    client.send(post(&url, "Content-Length: 10\r\n") + "first");
    let mut server = crate::harness::Client::over(far.accept().unwrap().0).unwrap();
    while server.line().is_some_and(|line| !line.is_empty()) {}
    assert_eq!(server.exactly(5), b"first");
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.exactly(2), b"ha", "an answer may come before the request's end");
    client.send("after");
    assert_eq!(server.exactly(5), b"after");
    server.send("lf");
    assert_eq!(client.exactly(2), b"lf");
    drop(origin);
}

#[test]
fn a_body_that_the_origin_breaks_off_is_seen_as_broken_off() {
    let (gateway, origin) = (gateway(), Origin::start());
    for path in ["/broken", "/broken-chunks"] {
        let answer = gateway.get("acme-session-a", &origin.url(path)).ok();
        assert_eq!((&*answer.text(), answer.whole), ("ten bytes.", false), "{path}");
    }
    assert_eq!(gateway.get("acme-session-a", &origin.url("/ip")).news(), "held");
}

#[test]
fn a_request_body_that_stalls_is_answered_and_closed() {
    let gateway = Setup::addresses(1).config("timeouts", json!({ "body": "500ms" })).start();
    let origin = Origin::start();
    let mut client = gateway.client();
    client.send(post(&origin.url("/echo"), "Content-Length: 10\r\n") + "half.");
    client.answer("POST").fails(408, "request_timeout");
    client.end().expect("closed");
}

#[test]
fn upgrades_pass_through_every_kind_of_exit() {
    let upstream = Upstream::http();
    let socks = Upstream::socks5();
    let exits = json!(["127.0.0.2", upstream.to_string(), socks.to_string()]);
    let gateway = Setup::new(exits).start();
    let origin = Origin::start();
    for scheme in ["http", "ws", "WS"] {
        for _ in 0..3 {
            let url = origin.url("/ws").replacen("http", scheme, 1);
            let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n";
            let mut client = gateway.client();
            client.send(get(&url, &format!("{}{fields}", basic("acme"))) + "early");
            let head = client.head();
            assert_eq!((head.status, head.field("upgrade")), (101, Some("websocket")), "{url}: {head:?}");
            assert!(head.has("connection", "upgrade"), "{head:?}");
            assert_eq!(client.exactly(5), b"early");
            client.send("\u{0}\r\n\r\n");
            assert_eq!(client.exactly(5), b"\0\r\n\r\n");
            assert_eq!(client.half_close().rest(), b"");
            assert_eq!(origin.last().field("upgrade"), Some("websocket"));
        }
    }
    assert_eq!((upstream.count(), socks.count()), (3, 3));
}

#[test]
fn an_upgrade_that_the_origin_does_not_want_is_a_plain_request() {
    let (gateway, origin) = (gateway(), Origin::start());
    let mut client = gateway.client();
    let fields = format!("{}Upgrade: websocket\r\nConnection: Upgrade\r\n", basic("acme"));
    for _ in 0..2 {
        assert_eq!(client.send(get(&origin.url("/ip"), &fields)).answer("GET").ok().text(), "127.0.0.2");
    }
}
