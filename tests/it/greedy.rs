//! Peers that send more than anybody needs, or take nothing: what is held of
//! it is bounded (SPEC §7, `limits`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::measure::Peak;
use crate::harness::request::{Ask, basic_as, get, request};
use crate::harness::{Client, Gateway, Mood, Origin, PATIENCE, Setup, Target, Upstream, basic};

/// What one stream may cost at the most, whoever does not read.
const BUFFERED_KIB: u64 = 1024;

/// How much is sent to a peer that reads nothing at first.
const BULK: usize = 256 << 20;

/// Writes so many bytes, which are made as they are sent.
fn pour(mut into: TcpStream, length: usize) -> std::thread::JoinHandle<bool> {
    std::thread::spawn(move || {
        let chunk = vec![b'x'; 256 * 1024];
        let mut left = length;
        while left > 0 {
            let count = left.min(chunk.len());
            if into.write_all(&chunk[..count]).is_err() {
                return false;
            }
            left -= count;
        }
        true
    })
}

/// Reads nothing for a while, then so many bytes, and forgets them.
fn drain_late(mut from: TcpStream, length: usize) {
    std::thread::sleep(Duration::from_millis(500));
    let mut chunk = vec![0; 256 * 1024];
    let mut left = length;
    while left > 0 {
        let most = left.min(chunk.len());
        let count = from.read(&mut chunk[..most]).expect("more bytes");
        assert!(count > 0, "{left} bytes are missing");
        left -= count;
    }
}

/// Moves bytes to a peer that does not read at first; says by how much the
/// gateway has grown.
fn grown(gateway: &Gateway, exit: &str, way: &str, bulk: usize) -> u64 {
    let target = Target::open();
    let username = format!("acme-exit-{exit}");
    let (client, far) = match way {
        "tunnel up" | "tunnel down" => (gateway.tunnel(&username, &target).0, target.accept()),
        _ => {
            let mut client = gateway.client();
            let (method, length) = if way == "plain up" { ("POST", bulk) } else { ("GET", 0) };
            let fields = format!("{}Content-Length: {length}\r\n", basic(&username));
            client.send(request(method, &target.url("/"), &fields));
            let (mut far, _) = target.accept_head();
            if way == "plain down" {
                far.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {bulk}\r\n\r\n"));
                assert_eq!(client.head().status, 200);
            }
            (client, far)
        }
    };
    let (source, sink) = if way.ends_with("up") { (&client, &far) } else { (&far, &client) };
    let peak = Peak::watch(gateway.pid());
    let pouring = pour(source.writer(), bulk);
    drain_late(sink.writer(), bulk);
    assert!(pouring.join().unwrap(), "all was taken");
    peak.grown_kib()
}

#[test]
fn a_peer_that_does_not_read_costs_a_bounded_buffer() {
    let upstream = Upstream::https();
    let exits = json!([
        { "id": "address", "via": "127.0.0.2" },
        { "id": "https", "via": upstream.to_string(), "insecure": true },
    ]);
    let gateway = Setup::new(exits).start();
    for (exit, bulk) in [("address", BULK), ("https", BULK / 8)] {
        for way in ["tunnel up", "tunnel down", "plain up", "plain down"] {
            // What the process needs once for all is not counted.
            grown(&gateway, exit, way, 1 << 20);
            let grown = grown(&gateway, exit, way, bulk);
            eprintln!("{exit}, {way}: {grown} KiB more at the peak of {} MiB", bulk >> 20);
            assert!(grown < BUFFERED_KIB, "{exit}, {way}: {grown} KiB");
        }
    }
}

#[test]
fn interim_answers_do_not_pile_up_for_a_client_that_does_not_read() {
    let gateway = Setup::addresses(1).start();
    let target = Target::open();
    let mut client = gateway.client();
    // So that little fits in between.
    let pipelined = get(&target.url("/"), &basic("acme-session-a"));
    let mut fars = Vec::new();
    client.send(&pipelined);
    let (far, _) = target.accept_head();
    let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(60_000));
    let peak = Peak::watch(gateway.pid());
    let mut writer = far.writer();
    fars.push(far);
    let sending = std::thread::spawn(move || (0..31).all(|_| writer.write_all(interim.as_bytes()).is_ok()));
    std::thread::sleep(Duration::from_millis(300));
    assert!(peak.grown_kib() < BUFFERED_KIB, "{} KiB", peak.grown_kib());
    assert!((0..31).all(|_| client.head().status == 103), "all of them pass");
    assert!(sending.join().unwrap());
    fars[0].send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.answer("GET").ok().text(), "ok");
}

#[test]
fn usernames_and_secrets_are_bounded() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let ask = |username: &str, secret: &str| {
        gateway.client().send(get(&origin.url("/ip"), &basic_as(username, secret))).answer("GET")
    };
    let v = |letter: &str| letter.repeat(128);
    let mut username = format!("acme-session-{}-city-{}-region-{}-zip-", v("s"), v("c"), v("r"));
    username += &"z".repeat(512 - username.len());
    ask(&username, crate::harness::PASSWORD).fails(503, "no_exit");
    ask(&(username.clone() + "z"), crate::harness::PASSWORD).fails(407, "auth_failed");
    ask(&"acme-".repeat(8000), crate::harness::PASSWORD).fails(407, "auth_failed");
    ask("acme", &"s".repeat(45_000)).fails(407, "auth_failed");
    ask(&format!("acme-session-{}", "s".repeat(129)), crate::harness::PASSWORD).fails(400, "session_invalid");
}

/// Sends `part` over and over; gives what was answered, and how much was
/// taken until then.
fn flood(gateway: &Gateway, begin: &str, part: &str) -> (Option<crate::harness::Answer>, usize) {
    let mut client = gateway.client();
    client.send(begin);
    let part = part.repeat(65_536 / part.len() + 1);
    let (mut sent, start) = (0, Instant::now());
    while client.try_send(&part).is_ok() {
        sent += part.len();
        assert!(start.elapsed() < PATIENCE, "it takes {sent} bytes and more");
    }
    (client.try_answer("GET").ok(), sent)
}

#[test]
fn heads_and_framing_without_end_are_cut_off() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let url = origin.url("/sink");
    let open = format!("GET {url} HTTP/1.1\r\nHost: x\r\n{}", basic("acme"));
    let chunked =
        request("POST", &url, &format!("{}Transfer-Encoding: chunked\r\n", basic("acme-session-a")));
    let trailers = format!("{chunked}1\r\na\r\n0\r\n");
    for (begin, part, status) in [
        ("G", "E", 431),
        ("GET http://127.0.0.1/", "a", 431),
        ("", "\r\n", 431),
        (&*open, "X-Field: value\r\n", 431),
        (&format!("{open}X: "), "a", 431),
        (&format!("{chunked}5;"), "e", 400),
        (&format!("{chunked}5"), "0", 400),
        (&trailers, "X-Field: value\r\n", 431),
        (&format!("{trailers}X: "), "a", 431),
    ] {
        let peak = Peak::watch(gateway.pid());
        let (answer, sent) = flood(&gateway, begin, part);
        // What is on its way when the answer is given counts as sent.
        assert!(sent < 8 << 20, "{part:?} behind {begin:?}: {sent} bytes");
        if let Some(answer) = answer {
            assert_eq!(answer.status, status, "{part:?} behind {begin:?}: {answer:?}");
            assert!(answer.has("connection", "close"));
        }
        assert!(peak.grown_kib() < BUFFERED_KIB, "{part:?}: {} KiB", peak.grown_kib());
    }
    assert_eq!(origin.count(), 0, "no such request was whole");
}

/// Answers that a target may not give.
fn too_much() -> Vec<(&'static str, String)> {
    let ok = "HTTP/1.1 200 OK\r\n";
    vec![
        ("fields", format!("{ok}{}\r\n", "X-Field: value\r\n".repeat(101))),
        ("a long field", format!("{ok}X: {}\r\n\r\n", "a".repeat(70_000))),
        ("a line without end", format!("{ok}X: {}", "a".repeat(4 << 20))),
        ("a reason without end", format!("HTTP/1.1 200 {}", "a".repeat(4 << 20))),
        ("interim answers", "HTTP/1.1 102 Processing\r\n\r\n".repeat(100_000)),
        ("nothing but lines", "\r\n".repeat(1 << 20)),
    ]
}

#[test]
fn answers_without_end_are_a_bad_response() {
    let gateway = Setup::addresses(1).start();
    for (what, answer) in too_much() {
        let target = Target::open();
        let mut client = gateway.client();
        client.send(get(&target.url("/"), &basic("acme")));
        let (far, _) = target.accept_head();
        let mut writer = far.writer();
        let sending = std::thread::spawn(move || writer.write_all(answer.as_bytes()).is_ok());
        let mut head = client.head();
        while head.status == 102 {
            head = client.head();
        }
        head.fails(502, "bad_response");
        let _ = sending.join().unwrap();
        assert!(far_is_cut(far), "{what}");
    }
}

fn far_is_cut(mut far: Client) -> bool {
    let start = Instant::now();
    let _ = far.end();
    start.elapsed() < Duration::from_secs(3)
}

#[test]
fn answers_of_upstreams_without_end_are_the_exits_fault() {
    let upstream = Upstream::http();
    let gateway = Setup::new(json!([upstream.to_string()]))
        .pool("attempts", 1)
        .pool("health", json!({ "eject_after": 0 }))
        .start();
    for (what, answer) in too_much() {
        upstream.set(Mood::Answer(answer.into()));
        let answer = gateway.connect("acme", "127.0.0.1:9").1;
        assert_eq!((answer.status, answer.code()), (502, "exit_failed"), "CONNECT: {what}");
    }
}

#[test]
fn trailers_and_extensions_of_an_answer_without_end_break_it_off() {
    let gateway = Setup::addresses(1).start();
    for part in ["X-Field: value\r\n", "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        let target = Target::open();
        let mut client = gateway.client();
        client.send(get(&target.url("/"), &basic("acme")));
        let (far, _) = target.accept_head();
        let part = part.repeat((4 << 20) / part.len());
        let mut writer = far.writer();
        writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").unwrap();
        client.head().ok();
        assert_eq!(client.exactly(7), b"2\r\nok\r\n");
        let peak = Peak::watch(gateway.pid());
        let sending =
            std::thread::spawn(move || writer.write_all(("0\r\n".to_owned() + &part).as_bytes()).is_ok());
        let rest = client.rest();
        assert!(rest.len() < 200_000 && !rest.ends_with(b"\r\n\r\n"), "{} bytes", rest.len());
        let _ = sending.join().unwrap();
        assert!(peak.grown_kib() < BUFFERED_KIB, "{} KiB", peak.grown_kib());
        assert!(far_is_cut(far));
    }
}
