//! Refused is refused: what was sent behind a request that got no for an
//! answer is never a request of its own (RFC 9931, RFC 9112 §9.3).

use std::time::Duration;

use serde_json::json;

use crate::harness::recorder::Recorder;
use crate::harness::request::{Ask, basic, basic_as, connect, get, request};
use crate::harness::{Client, Gateway, Mood, Origin, Setup, Upstream};

fn gateway() -> Gateway {
    Setup::addresses(1).start()
}

/// Every way a CONNECT can be refused; what a client sends behind it without
/// waiting is thrown away, and the connection ends.
#[test]
fn bytes_behind_a_refused_connect_are_thrown_away() {
    let upstream = Upstream::http();
    let exits = json!([
        { "id": "e1", "via": "127.0.0.2" },
        { "id": "no", "via": upstream.to_string() },
        { "id": "off", "via": "127.0.0.3", "state": "off" },
    ]);
    let gateway = Setup::new(exits).quick().config("targets.deny", json!(["192.0.2.0/24"])).start();
    upstream.set(Mood::status(403));
    let origin = Origin::start();
    let own = gateway.listens().to_string();
    let smuggled = get(&origin.url("/smuggled"), &basic("acme"));
    for (target, fields, status) in [
        ("127.0.0.1:1", basic("acme"), 502),
        ("127.0.0.1:1", String::new(), 407),
        ("127.0.0.1:1", basic_as("acme", "wrong"), 407),
        ("127.0.0.1:1", basic("acme-sesion-x"), 400),
        ("127.0.0.1:1", basic("acme-pool-x"), 403),
        ("192.0.2.1:80", basic("acme"), 403),
        ("no-port", basic("acme"), 400),
        ("no.such.name.invalid:1", basic("acme-exit-e1"), 502),
        ("127.0.0.1:1", basic("acme-exit-no"), 502),
        ("127.0.0.1:1", basic("acme-exit-off"), 400),
        (&*own, basic("acme"), 421),
        ("127.0.0.1:1", format!("{}Content-Length: 5\r\n", basic("acme")), 400),
    ] {
        for behind in [smuggled.repeat(3), "\x16\x03\x01\x02\x00\x01".to_owned(), "x".repeat(300_000)] {
            let mut client = gateway.client();
            let _ = client.try_send(connect(target, &fields) + &behind);
            let answer = client.answer("CONNECT");
            let detail = answer.text();
            assert!(answer.status == status || answer.status == 503, "{target} {fields}: {status} {detail}");
            assert!(answer.has("connection", "close"), "{answer:?}");
            assert_eq!(client.rest(), b"", "{target} {fields}: no second answer");
        }
    }
    assert_eq!(origin.count(), 0);
}

/// The bytes come after the refusal, on a connection that the client holds
/// open: still nothing.
#[test]
fn bytes_that_come_after_a_refused_connect_are_thrown_away() {
    let (gateway, origin) = (gateway(), Origin::start());
    let mut client = gateway.client();
    client.send(connect("127.0.0.1:1", &basic("acme"))).answer("CONNECT").fails(502, "target_refused");
    for _ in 0..5 {
        let _ = client.try_send(get(&origin.url("/smuggled"), &basic("acme")));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(client.rest(), b"");
    assert_eq!(origin.count(), 0);
}

/// Every way a plain request with a body can be refused: the body is thrown
/// away or the connection ends, and the next answer is the next request's.
#[test]
fn the_body_of_a_refused_request_is_no_request() {
    let (gateway, origin) = (gateway(), Origin::start());
    let smuggled = get(&origin.url("/smuggled"), &basic("acme"));
    let good = get(&origin.url("/ip"), &basic("acme"));
    let chunk = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    let length = format!("Content-Length: {}\r\n", smuggled.len());
    let long = "Content-Length: 100000\r\n".to_owned();
    let expect = format!("{length}Expect: 100-continue\r\n");
    let mut kept = 0;
    for (target, credential, status) in [
        (origin.url("/sink"), String::new(), 407),
        (origin.url("/sink"), basic("nobody"), 407),
        (origin.url("/sink"), basic("acme-sesion-x"), 400),
        (origin.url("/sink"), basic("acme-pool-x"), 403),
        ("http://127.0.0.1:1/".to_owned(), basic("acme"), 502),
        ("https://example.com/".to_owned(), basic("acme"), 400),
        (format!("http://{}/", gateway.listens()), basic("acme"), 421),
    ] {
        for (framing, body) in [
            (&length, smuggled.clone()),
            (&expect, smuggled.clone()),
            (&"Transfer-Encoding: chunked\r\n".to_owned(), chunk.clone()),
            (&long, smuggled.repeat(100_000 / smuggled.len()) + &"x".repeat(100_000 % smuggled.len())),
        ] {
            let mut client = gateway.client();
            let text = request("POST", &target, &format!("{credential}{framing}"));
            let _ = client.try_send(text + &body + &good);
            let answer = client.answer("POST");
            assert_eq!(answer.status, status, "{target} {framing}: {answer:?}");
            if answer.has("connection", "close") {
                assert_eq!(client.rest(), b"", "{framing}");
            } else {
                assert_eq!(client.answer("GET").ok().text(), "127.0.0.2", "{framing}");
                kept += 1;
            }
        }
    }
    assert_eq!(kept, 7, "a short body is read so that the connection lives on");
    assert!(origin.seen().iter().all(|seen| seen.line().starts_with("GET /ip ")));
}

/// Expect-based desync (2025): a client, or a proxy before us, that sends its
/// body though it got another answer than 100.
#[test]
fn a_body_behind_a_final_answer_to_an_expectation_is_no_request() {
    let (gateway, origin) = (gateway(), Origin::start());
    let target = Recorder::answering("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n");
    let smuggled = get(&origin.url("/smuggled"), &basic("acme"));
    let fields =
        format!("{}Expect: 100-continue\r\nContent-Length: {}\r\n", basic("acme-session-a"), smuggled.len());
    let mut client = gateway.client();
    client.send(request("POST", &target.url("/"), &fields));
    let answer = client.answer("POST");
    assert_eq!((answer.status, answer.has("connection", "close")), (417, true), "{answer:?}");
    let _ = client.try_send(&smuggled);
    assert_eq!(client.rest(), b"");
    assert_eq!(origin.count(), 0);
}

/// 0.CL (2025): a length that one of two readers does not see. Ours is seen
/// or refused, so what the target reads as a second request is the body of
/// the first to us; its answer is then nobody's.
#[test]
fn a_target_that_sees_no_length_desynchronises_nobody() {
    let gateway = gateway();
    // A target that answers each head it finds, bodies unread.
    let target = Recorder::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for method in ["POST", "GET", "HEAD", "OPTIONS"] {
        let framing = format!("{}Content-Length: {}\r\n", basic("acme-session-a"), smuggled.len());
        let mut client = gateway.client();
        for _ in 0..3 {
            client.send(request(method, &target.url("/"), &framing) + smuggled);
            client.answer(method).ok();
            client.stays_silent(Duration::from_millis(20));
        }
        let connections = target.count();
        client.send(get(&target.url("/after"), &basic("acme-session-a")));
        assert_eq!(client.answer("GET").ok().text(), "first");
        assert_eq!(target.count(), connections + 1, "the connection with one answer too many is not used");
    }
}

/// An early answer reaches a client that goes on sending, whole; the rest of
/// the upload is no request.
#[test]
fn an_early_answer_during_an_upload_arrives() {
    const SIZE: usize = 20_000_000;
    let (gateway, origin) = (gateway(), Origin::start());
    let smuggled = get(&origin.url("/smuggled"), &basic("acme"));
    for (says, parts) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nearly", false),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly", true),
        ("HTTP/1.1 403 Forbidden\r\n\r\nearly", true),
    ] {
        let target = if parts { Recorder::parting(says) } else { Recorder::answering(says) };
        let fields = format!("{}Content-Length: {SIZE}\r\n", basic("acme-session-a"));
        let mut client = gateway.client();
        client.send(request("POST", &target.url("/"), &fields));
        let mut writer = client.writer();
        let body = smuggled.repeat(SIZE / smuggled.len() + 1);
        let upload = std::thread::spawn(move || {
            use std::io::Write;
            // It may be broken off, once the answer is there.
            let _ = writer.write_all(&body.as_bytes()[..SIZE]);
        });
        let answer = client.answer("POST");
        assert_eq!((answer.status, &*answer.text(), answer.whole), (403, "early", true), "{says:?}");
        assert_eq!(client.rest(), b"", "{says:?}: no second answer");
        upload.join().unwrap();
    }
    assert_eq!(origin.count(), 0);
}

/// A client that sends all of its upload before it reads: a close with bytes
/// unread would be a reset, and the reset could overtake the answer.
#[test]
fn an_early_answer_waits_for_a_client_that_writes_first() {
    const SIZE: usize = 4_000_000;
    let gateway = gateway();
    let target = Recorder::parting("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nearly");
    let fields = format!("{}Content-Length: {SIZE}\r\n", basic("acme"));
    let mut client = gateway.client();
    client.send(request("POST", &target.url("/"), &fields));
    client.send(vec![b'x'; SIZE]);
    assert_eq!(client.answer("POST").text(), "early");
    client.end().expect("an end, and no reset");
}

/// The end of an upload that its client breaks off is seen by the target as
/// broken off, not as whole.
#[test]
fn a_request_that_the_client_breaks_off_is_broken_off_at_the_target() {
    let gateway = gateway();
    for framing in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut client = gateway.client();
        client.send(request("POST", &url, &format!("{}{framing}", basic("acme"))) + "2\r\nok\r\n");
        let mut far = Client::over(listener.accept().unwrap().0).unwrap();
        while far.line().is_some_and(|line| !line.is_empty()) {}
        far.exactly(7);
        client.half_close();
        assert!(far.end().is_err(), "{framing}: a reset, not an end");
    }
}
