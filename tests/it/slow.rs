//! Peers that take their time: every wait has a limit and an answer (SPEC §7,
//! `timeouts`), and costs next to nothing.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::measure::{anonymous_kib, room_for};
use crate::harness::request::{Ask, connect, get, request};
use crate::harness::{Client, Gateway, Origin, PATIENCE, Setup, Target, Upstream, basic, eventually};

/// What every timeout is set to that a test waits for.
const SHORT: Duration = Duration::from_millis(500);

/// It took the timeout, and not much longer.
#[track_caller]
fn in_time(start: Instant, what: &str) {
    let time = start.elapsed();
    assert!(time >= SHORT.mul_f32(0.8) && time < Duration::from_secs(5), "{what}: {time:?}");
}

fn with_short(timeout: &str) -> Setup {
    Setup::addresses(1).config("timeouts", json!({ timeout: "500ms" }))
}

fn post(url: &str, framing: &str) -> String {
    request("POST", url, &format!("{}{framing}", basic("acme-session-a")))
}

/// The most heads that are held back at a time.
const LORISES: usize = 5000;

/// How long they are.
const HELD: Duration = Duration::from_secs(10);

#[test]
fn thousands_of_slow_heads_slow_nobody_and_cost_little() {
    let count = room_for(LORISES);
    let gateway = Setup::addresses(1).config("timeouts", json!({ "head": "5m" })).start();
    let origin = Origin::start();
    let good = || {
        let start = Instant::now();
        gateway.get("acme-session-good", &origin.url("/ip")).ok();
        start.elapsed()
    };
    for _ in 0..50 {
        good();
    }
    let before = anonymous_kib(gateway.pid());
    let begin = "GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Mozilla/5.0 (X11)\r\nX-a: ";
    let mut slow: Vec<_> = (0..count)
        .map(|_| {
            let mut slow = TcpStream::connect(gateway.listens()).expect("the gateway accepts");
            slow.write_all(begin.as_bytes()).expect("a part of a head is taken");
            slow
        })
        .collect();
    let held = Instant::now();
    let mut times = Vec::new();
    let mut rounds = 0;
    while held.elapsed() < HELD {
        // Each sends a byte now and then, so that it is read again.
        for some in slow.chunks_mut(100) {
            some.iter_mut().for_each(|slow| slow.write_all(b"b").expect("another byte is taken"));
            times.push(good());
        }
        rounds += 1;
    }
    let each = (anonymous_kib(gateway.pid()).saturating_sub(before)) as f64 / count as f64;
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!(
        "{count} slow heads, {rounds} bytes each: {each:.1} KiB each; {} good requests, median {median:?}, worst {worst:?}",
        times.len()
    );
    assert!(each <= 20.0, "{each} KiB each");
    assert!(median < Duration::from_millis(250) && worst < Duration::from_secs(3), "{median:?}, {worst:?}");
}

#[test]
fn a_body_that_stalls_anywhere_is_answered_and_closed() {
    let gateway = with_short("body").start();
    let target = Target::open();
    for (framing, part) in [
        ("Content-Length: 10\r\n", ""),
        ("Content-Length: 10\r\n", "half."),
        ("Transfer-Encoding: chunked\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "a"),
        ("Transfer-Encoding: chunked\r\n", "a;ext"),
        ("Transfer-Encoding: chunked\r\n", "a\r\nhalf."),
        ("Transfer-Encoding: chunked\r\n", "5\r\nwhole\r"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nwhole\r\n0\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nwhole\r\n0\r\nX-Trailer: a"),
    ] {
        let mut client = gateway.client();
        let start = Instant::now();
        client.send(post(&target.url("/"), framing) + part);
        let far = target.accept();
        let answer = client.answer("POST").fails(408, "request_timeout");
        in_time(start, part);
        assert!(answer.has("connection", "close"));
        client.end().expect("closed");
        // The target is not left to take it for the whole.
        let kind = { far }.end().map_err(|error| error.kind());
        assert_eq!(kind, Err(std::io::ErrorKind::ConnectionReset), "{framing:?} {part:?}");
    }
}

#[test]
fn the_body_of_a_refused_request_has_its_time_in_all() {
    let gateway = with_short("body").start();
    let mut client = gateway.client();
    client.send(request("POST", "http://127.0.0.1/", "Content-Length: 60000\r\n"));
    client.answer("POST").fails(407, "auth_required");
    let start = Instant::now();
    while client.try_send("x").is_ok() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    in_time(start, "a byte now and then");
}

#[test]
fn a_target_that_takes_no_body_is_the_one_that_is_late() {
    let timeouts = json!({ "body": "500ms", "response": "1500ms" });
    let gateway = Setup::addresses(1).config("timeouts", timeouts).start();
    let target = Target::open();
    let mut client = gateway.client();
    client.send(post(&target.url("/"), "Content-Length: 100000000\r\n"));
    let _far = target.accept();
    let start = Instant::now();
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || writer.write_all(&vec![b'x'; 100_000_000]).is_ok());
    client.answer("POST").fails(504, "target_timeout");
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(!sending.join().unwrap(), "it was not all taken");
}

#[test]
fn an_answer_that_never_begins_is_a_timeout_whatever_comes_before_it() {
    let gateway = with_short("response").start();
    let target = Target::open();
    for drip in ["", "HTTP/1.1 200 OK\r\nX-a: ", "HTTP/1.1 102 Processing\r\n\r\n"] {
        let mut client = gateway.client();
        client.send(get(&target.url("/"), &basic("acme")));
        let (mut far, _) = target.accept_head();
        let start = Instant::now();
        let dripping = std::thread::spawn(move || {
            let _ = far.try_send(drip);
            // A byte, or another interim answer, does not help.
            let more = if drip.contains("102") { drip } else { "b" };
            while !drip.is_empty() && far.try_send(more).is_ok() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(60));
            }
            far
        });
        let mut answer = client.head();
        while answer.status == 102 {
            answer = client.head();
        }
        answer.fails(504, "target_timeout");
        in_time(start, drip);
        drop(client);
        drop(dripping.join().unwrap());
    }
}

#[test]
fn an_upstream_that_never_answers_is_a_timeout_whatever_it_speaks() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        // Takes every connection and drips: a part of a head, of a record, of a reply.
        let mut held: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            held.push(stream);
            let mut last = held.last().expect("one").try_clone().expect("a descriptor");
            std::thread::spawn(move || {
                let _ = last.set_nodelay(true);
                for byte in std::iter::once(b'H').chain(b"TTP/1.1 2".iter().copied()) {
                    std::thread::sleep(Duration::from_millis(100));
                    if last.write_all(&[byte]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    for scheme in ["http", "https"] {
        let exits =
            json!([{ "id": "e1", "via": format!("{scheme}://{address}"), "insecure": scheme == "https" }]);
        let gateway = Setup::new(exits).config("timeouts", json!({ "handshake": "500ms" })).start();
        let start = Instant::now();
        let answer = gateway.connect("acme", "127.0.0.1:9").1;
        // What it sends over TLS is no TLS: that is told at once.
        if scheme == "http" {
            answer.fails(504, "target_timeout");
            in_time(start, scheme);
        } else {
            answer.fails(502, "exit_failed");
        }
    }
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    for scheme in ["http", "https", "socks5", "socks5h"] {
        let exits = json!([{ "id": "e1", "via": format!("{scheme}://{address}"), "attempts": 1 }]);
        let exits = match scheme {
            "https" => json!([{ "id": "e1", "via": format!("{scheme}://{address}"), "insecure": true }]),
            _ => json!([{ "id": "e1", "via": exits[0]["via"] }]),
        };
        let gateway = Setup::new(exits).config("timeouts", json!({ "handshake": "500ms" })).start();
        let start = Instant::now();
        gateway.connect("acme", "127.0.0.1:9").1.fails(504, "target_timeout");
        in_time(start, scheme);
    }
}

#[test]
fn a_client_that_does_not_read_our_answers_is_closed() {
    let gateway = with_short("keep_alive").start();
    let mut client = gateway.client();
    // Refused requests, one behind the other, until their answers fill the way back.
    let many = get("http://127.0.0.1/", "").repeat(200);
    let start = Instant::now();
    while client.try_send(&many).is_ok() {
        assert!(start.elapsed() < PATIENCE, "it is never closed");
    }
    assert!(start.elapsed() >= SHORT.mul_f32(0.8), "{:?}", start.elapsed());
}

/// Tunnels, upgrades and bodies on which nothing moves.
#[test]
fn whatever_is_idle_ends_after_its_time() {
    let gateway = with_short("idle").start();
    let target = Target::open();
    let ends = |what: &str, mut client: Client, mut far: Client| {
        let start = Instant::now();
        let _ = client.end();
        let _ = far.end();
        in_time(start, what);
    };
    let (client, _) = gateway.tunnel("acme", &target);
    ends("a tunnel", client, target.accept());

    let (mut client, _) = gateway.tunnel("acme", &target);
    let mut far = target.accept();
    client.half_close();
    assert_eq!(far.rest(), b"");
    ends("a half-closed tunnel", client, far);

    let mut client = gateway.client();
    client.send(get(&target.url("/"), &format!("{}Connection: Upgrade\r\nUpgrade: x\r\n", basic("acme"))));
    let (mut far, _) = target.accept_head();
    far.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.head().status, 101);
    ends("an upgrade", client, far);

    let mut client = gateway.client();
    client.send(get(&target.url("/"), &basic("acme")));
    let (mut far, _) = target.accept_head();
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.");
    assert_eq!((client.head().status, client.exactly(5)), (200, b"half.".to_vec()));
    ends("a body", client, far);
}

#[test]
fn slow_clients_do_not_hold_up_a_drain() {
    let gateway: Gateway = Setup::addresses(1).config("timeouts", json!({ "drain": "2s" })).start();
    let upstream_is_slow = Target::open();
    let mut silent: Vec<_> = (0..20).map(|_| gateway.client()).collect();
    let mut halves: Vec<_> = (0..20).map(|_| gateway.client()).collect();
    for half in &mut halves {
        half.send("GET http://127.0.0.1/ HTTP/1.1\r\nX: ");
    }
    let mut waiting = gateway.client();
    waiting.send(get(&upstream_is_slow.url("/"), &basic("acme")));
    let _far = upstream_is_slow.accept();
    let (mut tunnel, _) = gateway.tunnel("acme", &upstream_is_slow);
    let start = Instant::now();
    gateway.terminate();
    silent.iter_mut().for_each(|silent| drop(silent.end()));
    assert!(start.elapsed() < Duration::from_secs(2), "idle ones go at once: {:?}", start.elapsed());
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    let _ = tunnel.end();
}

#[test]
fn a_dial_that_is_not_answered_is_a_timeout() {
    let hole = crate::harness::upstream::Blackhole::open();
    for (via, code) in
        [("127.0.0.2".to_owned(), "target_timeout"), (format!("http://{}", hole.address), "exit_timeout")]
    {
        let gateway = Setup::new(json!([via]))
            .pool("attempts", 1)
            .pool("timeouts", json!({ "connect": "500ms" }))
            .start();
        let start = Instant::now();
        gateway.client().send(connect(hole.address, &basic("acme"))).answer("CONNECT").fails(504, code);
        in_time(start, code);
        let start = Instant::now();
        gateway.get("acme", &format!("http://{}/", hole.address)).fails(504, code);
        in_time(start, code);
    }
    // Upstreams that are slow, and in time, serve.
    let upstream = Upstream::http();
    let origin = Origin::start();
    let gateway = Setup::new(json!([upstream.to_string()])).start();
    eventually("it serves", PATIENCE, || {
        (gateway.get("acme", &origin.url("/ip")).status == 200).then_some(())
    });
}
