//! Answers that two readers read in two ways: 502, and never a byte that
//! desynchronises the client (SPEC §5). The shapes are rows of
//! `tests/vectors`.

use std::time::Duration;

use serde_json::json;

use crate::harness::recorder::Recorder;
use crate::harness::request::{Ask, basic, connect, get, request};
use crate::harness::{Client, Gateway, Mood, Origin, Setup, Upstream};
use crate::rows::{self, Places, Row};

const NOWHERE: Places<'static> = Places { authority: "e.x", auth: "" };

fn gateway() -> Gateway {
    Setup::addresses(1).start()
}

/// The connection takes one more request, and its answer is that request's.
#[track_caller]
fn in_step(client: &mut Client, origin: &Origin, name: &str) {
    let before = origin.count();
    client.send(get(&origin.url("/ip"), &basic("acme-session-a")));
    assert_eq!(client.answer("GET").ok().text(), "127.0.0.2", "{name}: in step");
    assert_eq!(origin.count(), before + 1);
}

#[test]
fn nothing_of_a_smuggling_answer_reaches_the_client() {
    let (gateway, origin) = (gateway(), Origin::start());
    let bad = Recorder::parting("");
    let rows = rows::responses();
    let refused: Vec<_> = rows.iter().filter(|row| row.verdict == "refuse").collect();
    assert!(refused.len() > 60, "{} rows", refused.len());
    let mut client = gateway.client();
    for row in refused {
        bad.set(row.bytes(&NOWHERE));
        client.send(get(&bad.url("/"), &basic("acme-session-a")));
        let answer = client.answer("GET").fails(502, "bad_response");
        assert!(answer.whole && answer.detail().starts_with("The target"), "{}: {answer:?}", row.name);
        in_step(&mut client, &origin, row.name);
    }
}

#[test]
fn answers_that_only_look_odd_are_passed_on() {
    let (gateway, origin) = (gateway(), Origin::start());
    let odd = Recorder::parting("");
    for row in rows::responses().iter().filter(|row| row.verdict == "take") {
        odd.set(row.bytes(&NOWHERE));
        let mut client = gateway.client();
        client.send(get(&odd.url("/"), &basic("acme-session-a")));
        let mut answer = client.answer("GET");
        while answer.status < 200 {
            answer = client.answer("GET");
        }
        assert!(answer.whole && answer.code().is_empty(), "{}: {answer:?}", row.name);
        assert_eq!(answer.exit(), "p/e1", "{}", row.name);
        in_step(&mut client, &origin, row.name);
    }
}

/// The same from behind an upstream proxy that passes anything on. What is no
/// HTTP at all is the upstream's own; all else any target could have made, so
/// it must not count against the exit.
#[test]
fn a_target_behind_an_upstream_cannot_have_it_ejected() {
    let upstream = Upstream::http();
    let exits = json!([{ "id": "up", "via": upstream.to_string() }, { "id": "good", "via": "127.0.0.2" }]);
    let gateway = Setup::new(exits).quick().start();
    let origin = Origin::start();
    gateway.get("acme-session-a-exit-up", &origin.url("/ip")).ok();
    let is_http = |row: &&Row| row.verdict == "refuse" && row.bytes(&NOWHERE).starts_with(b"HTTP/1.");
    for row in rows::responses().iter().filter(is_http) {
        upstream.set(Mood::Answer(row.bytes(&NOWHERE)));
        gateway.get("acme-session-a", &origin.url("/ip")).fails(502, "bad_response");
    }
    upstream.set(Mood::Serve);
    let answer = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    assert_eq!((answer.news(), &*answer.exit()), ("held", "p/up"));
    upstream.set(Mood::Answer(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n".to_vec()));
    gateway.get("acme-session-a", &origin.url("/ip")).fails(502, "exit_failed");
}

/// An upstream's answer to a CONNECT is its own.
#[test]
fn an_upstreams_bad_answer_to_a_connect_never_opens_a_tunnel() {
    let upstream = Upstream::http();
    let gateway = Setup::new(json!([upstream.to_string()])).quick().start();
    let origin = Origin::start();
    let ours = |row: &&Row| {
        // Of a CONNECT's success, framing fields mean nothing (RFC 9110 §9.3.6).
        row.verdict == "refuse"
            && !["cl-", "te-", "chunk-", "switched", "continue"].iter().any(|p| row.name.starts_with(p))
    };
    for row in rows::responses().iter().filter(ours) {
        upstream.set(Mood::Answer(row.bytes(&NOWHERE)));
        let (mut client, answer) = gateway.connect("acme", origin.address);
        assert!(
            matches!((answer.status, answer.code()), (502, "exit_failed") | (503, _)),
            "{}: {answer:?}",
            row.name
        );
        assert_eq!(client.rest(), b"", "{}", row.name);
    }
}

#[test]
fn framing_on_an_upstreams_200_to_a_connect_means_nothing() {
    let upstream = Upstream::http();
    let gateway = Setup::new(json!([upstream.to_string()])).start();
    for framing in [
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n+5\r\nbytes of the tunnel");
        upstream.set(Mood::Answer(answer.into()));
        let (mut client, answer) = gateway.tunnel("acme", "127.0.0.1:9");
        assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (None, None));
        assert_eq!(client.rest(), b"+5\r\nbytes of the tunnel");
    }
}

/// Response queue poisoning: more answers than requests. None but the first
/// is anybody's, and the connection they came on is not used again.
#[test]
fn a_second_answer_is_nobodys() {
    let gateway = gateway();
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Forged: 1\r\n\r\nforged";
        let target = Recorder::answering(format!("{first}{forged}"));
        let mut client = gateway.client();
        for n in 1..=3 {
            client.send(get(&target.url("/"), &basic("acme-session-a")));
            let answer = client.answer("GET");
            assert_eq!((answer.field("x-forged"), answer.code()), (None, ""), "{first:?}: {answer:?}");
            assert_eq!(target.count(), n, "a connection of its own: {first:?}");
        }
        client.stays_silent(Duration::from_millis(20));
    }
}

/// The answer to a HEAD has no body, whatever it says and whatever follows.
#[test]
fn a_body_behind_the_answer_to_a_head_is_nobodys() {
    let gateway = gateway();
    for framing in ["Content-Length: 6\r\n", "Transfer-Encoding: chunked\r\n"] {
        let target =
            Recorder::answering(format!("HTTP/1.1 200 OK\r\n{framing}\r\nHTTP/1.1 200 Forged\r\n\r\n"));
        let mut client = gateway.client();
        for n in 1..=3 {
            client.send(request("HEAD", &target.url("/"), &basic("acme-session-a")));
            assert_eq!(client.answer("HEAD").ok().reason, "OK");
            assert_eq!(target.count(), n);
        }
    }
}

/// Bytes that nobody asked for, on a connection that is kept: it is not used
/// again, and they are no answer.
#[test]
fn bytes_before_the_question_are_no_answer() {
    let (gateway, origin) = (gateway(), Origin::start());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut client = gateway.client();
    client.send(get(&url, &basic("acme-session-a")));
    let mut far = Client::over(listener.accept().unwrap().0).unwrap();
    while far.line().is_some_and(|line| !line.is_empty()) {}
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    client.answer("GET").ok();
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged");
    // The round trip lets the bytes arrive.
    in_step(&mut client, &origin, "before");
    client.send(get(&url, &basic("acme-session-a")));
    let mut second = Client::over(listener.accept().unwrap().0).unwrap();
    while second.line().is_some_and(|line| !line.is_empty()) {}
    second.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal");
    assert_eq!(client.answer("GET").ok().text(), "real");
}

/// A body that is found bad when its head has gone out: the client sees it
/// broken off, by a reset, and nothing of the bad part.
#[test]
fn a_body_that_breaks_later_is_broken_off_at_the_client() {
    let gateway = gateway();
    for (head, bad) in [
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "+2\r\nno\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "2\nno\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "0\r\nX : y\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "0\r\nX: y\n\r\n"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = gateway.client();
        client.send(get(&format!("http://{}/", listener.local_addr().unwrap()), &basic("acme")));
        let mut far = Client::over(listener.accept().unwrap().0).unwrap();
        while far.line().is_some_and(|line| !line.is_empty()) {}
        far.send(format!("HTTP/1.1 200 OK\r\n{head}"));
        assert_eq!(client.head().status, 200);
        assert_eq!(client.exactly(7), b"2\r\nok\r\n");
        far.send(bad);
        let rest = client.rest();
        assert!(rest.is_empty() || rest == b"0\r\n", "{bad:?}: {:?}", rest.escape_ascii().to_string());
    }
}

/// Interim answers: each is strict, they are bounded, and one that the client
/// has had a part of is finished before anything else is said.
#[test]
fn interim_answers_stay_in_step() {
    let (gateway, origin) = (gateway(), Origin::start());
    let flood = Recorder::answering("HTTP/1.1 100 Continue\r\n\r\n".repeat(1000));
    let mut client = gateway.client();
    client.send(get(&flood.url("/"), &basic("acme-session-a")));
    let mut answer = client.answer("GET");
    let mut interim = 0;
    while answer.status == 100 {
        (answer, interim) = (client.answer("GET"), interim + 1);
    }
    answer.fails(502, "bad_response");
    assert!(interim <= 32, "{interim}");
    in_step(&mut client, &origin, "flood");

    // 30 of 60 KB each, then nonsense, four times: more than the kernel holds
    // for a client that does not read yet.
    let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", "a".repeat(60_000));
    let target = Recorder::parting(hint.repeat(30) + "\0");
    let mut client = narrow(&gateway);
    client.send(get(&target.url("/"), &basic("acme-session-a")).repeat(4));
    target.wait_end();
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..4 {
        for _ in 0..30 {
            let head = client.head();
            assert_eq!((head.status, head.fields.len()), (103, 1));
        }
        client.answer("GET").fails(502, "bad_response");
    }
    in_step(&mut client, &origin, "large");
}

/// A client whose side of the connection holds next to nothing.
fn narrow(gateway: &Gateway) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&gateway.listens().into()).unwrap();
    Client::over(socket.into()).unwrap()
}

/// 101 only to who asked, and only to a protocol that is named.
#[test]
fn nobody_is_switched_unasked() {
    let (gateway, origin) = (gateway(), Origin::start());
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n";
    let asks = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (fields, answer) in [
        ("", format!("{switch}Upgrade: websocket\r\n\r\n")),
        ("Upgrade: websocket\r\n", format!("{switch}Upgrade: websocket\r\n\r\n")),
        (asks, format!("{switch}\r\n")),
        ("Content-Length: 0\r\n", format!("{switch}Upgrade: websocket\r\n\r\n")),
    ] {
        let target = Recorder::answering(answer);
        let mut client = gateway.client();
        client.send(get(&target.url("/"), &format!("{}{fields}", basic("acme-session-a"))));
        client.answer("GET").fails(502, "bad_response");
        in_step(&mut client, &origin, fields);
    }
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let (gateway, origin) = (gateway(), Origin::start());
    for flood in [
        format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(70_000)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(101)),
    ] {
        let target = Recorder::answering(flood);
        let mut client = gateway.client();
        client.send(get(&target.url("/"), &basic("acme-session-a")));
        client.answer("GET").fails(502, "bad_response");
        in_step(&mut client, &origin, "flood");
    }
    let upstream = Upstream::http();
    let gateway = Setup::new(json!([upstream.to_string()])).quick().start();
    upstream.set(Mood::Answer(format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(70_000)).into()));
    let mut client = gateway.client();
    client.send(connect(origin.address, &basic("acme"))).answer("CONNECT").fails(502, "exit_failed");
}
