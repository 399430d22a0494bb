//! Ends that come too early: half-close, resets, truncated bodies, and
//! clients that go away (SPEC §5).

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::gateway::is_access;
use crate::harness::measure::descriptors;
use crate::harness::request::{Ask, connect, get, request};
use crate::harness::upstream::Blackhole;
use crate::harness::{Client, Gateway, Mood, PATIENCE, Setup, Target, Upstream, basic, eventually};

/// How soon a client that has left must have freed what it used.
const SOON: Duration = Duration::from_secs(1);

/// A gateway with every kind of exit, and their ids.
struct EveryKind {
    gateway: Gateway,
    ids: Vec<String>,
    _upstreams: [Upstream; 3],
}

fn every_kind() -> EveryKind {
    let upstreams = [Upstream::http(), Upstream::https(), Upstream::socks5()];
    let [http, https, socks] = &upstreams;
    let exits = json!([
        { "id": "direct", "via": "direct" },
        { "id": "address", "via": "127.0.0.2" },
        { "id": "http", "via": http.to_string() },
        { "id": "https", "via": https.to_string(), "insecure": true },
        { "id": "socks5", "via": socks.to_string() },
        { "id": "socks5h", "via": format!("socks5h://{}", socks.address) },
    ]);
    let ids = exits.as_array().unwrap().iter().map(|exit| exit["id"].as_str().unwrap().to_owned()).collect();
    EveryKind { gateway: Setup::new(exits).start(), ids, _upstreams: upstreams }
}

impl EveryKind {
    /// Tunnels to a new target, one through each kind of exit.
    fn tunnels(&self, mut test: impl FnMut(&str, Client, Client)) {
        for id in &self.ids {
            let target = Target::open();
            let (client, _) = self.gateway.tunnel(&format!("acme-exit-{id}"), &target);
            test(id, client, target.accept());
        }
    }
}

#[test]
fn half_close_goes_both_ways_through_every_kind_of_exit() {
    let kinds = every_kind();
    kinds.tunnels(|id, mut client, mut far| {
        client.send("question").half_close();
        assert_eq!(far.rest(), b"question", "{id}");
        far.send("late answer").half_close();
        assert_eq!(client.rest(), b"late answer", "{id}");
    });
    kinds.tunnels(|id, mut client, mut far| {
        far.send("greeting").half_close();
        assert_eq!(client.rest(), b"greeting", "{id}");
        client.send("still here").half_close();
        assert_eq!(far.rest(), b"still here", "{id}");
    });
}

#[test]
fn resets_go_both_ways_through_every_kind_of_exit() {
    let kinds = every_kind();
    for by_client in [true, false] {
        kinds.tunnels(|id, mut client, mut far| {
            client.echo_through(&mut far);
            let left = if by_client {
                client.reset();
                far.end()
            } else {
                far.reset();
                client.end()
            };
            let kind = left.map_err(|error| error.kind());
            assert_eq!(kind, Err(ErrorKind::ConnectionReset), "{id}, by the client: {by_client}");
        });
    }
}

/// One answer, cut off behind these bytes by an end or a reset: the body that
/// came, whether it was whole by its framing, and whether it ended well.
fn cut_off(gateway: &Gateway, exit: &str, answer: &str, by_reset: bool) -> (String, bool, bool) {
    let target = Target::open();
    let mut client = gateway.client();
    client.send(get(&target.url("/"), &basic(&format!("acme-exit-{exit}"))));
    let (mut far, _) = target.accept_head();
    far.send(answer);
    let head = client.head().ok();
    let length = answer.split_once("\r\n\r\n").unwrap().1.len();
    let body = String::from_utf8(client.exactly(length)).unwrap();
    if by_reset {
        far.reset();
    } else {
        drop(far);
    }
    let ended_well = client.end().is_ok();
    let whole = match head.field("content-length") {
        Some(length) => body.len().to_string() == length,
        None => !head.has("transfer-encoding", "chunked") || body.ends_with("0\r\n\r\n"),
    };
    (body, whole, ended_well)
}

#[test]
fn a_body_that_breaks_off_is_seen_as_broken_off_whatever_its_framing() {
    let kinds = every_kind();
    for exit in ["address", "http", "socks5"] {
        let cut_off = |answer, by_reset| cut_off(&kinds.gateway, exit, answer, by_reset);
        for by_reset in [false, true] {
            let (_, whole, _) = cut_off("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.", by_reset);
            assert!(!whole, "{exit}: a length, by reset: {by_reset}");
            let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
            let (_, whole, _) = cut_off(chunks, by_reset);
            assert!(!whole, "{exit}: chunks, by reset: {by_reset}");
        }
        // Here nothing but the way it ends can tell.
        let until_end = "HTTP/1.1 200 OK\r\n\r\nto the end";
        assert!(cut_off(until_end, false).2, "{exit}: this is its end");
        assert!(!cut_off(until_end, true).2, "{exit}: a reset is no end");
    }
}

#[test]
fn what_came_before_a_break_is_delivered() {
    const SENT: usize = 1_000_000;
    let gateway = Setup::addresses(1).start();
    let target = Target::open();
    let mut client = gateway.client();
    client.send(get(&target.url("/"), &basic("acme")));
    let (far, _) = target.accept_head();
    let sending = std::thread::spawn(move || {
        let mut far = far;
        far.send("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n").send(vec![b'x'; SENT]);
    });
    client.head().ok();
    // Read late, when most of it has been on its way for a while.
    gateway.log.wait_for("the break", |line| line.field("end").as_deref() == Some("upstream_broke_off"));
    sending.join().unwrap();
    assert_eq!(client.rest().len(), SENT);
}

#[test]
fn a_request_that_breaks_off_is_seen_as_broken_off_whatever_its_framing() {
    let kinds = every_kind();
    for exit in &kinds.ids {
        for (framing, part) in
            [("Content-Length: 100\r\n", "ten bytes."), ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n")]
        {
            for by_reset in [false, true] {
                let target = Target::open();
                let mut client = kinds.gateway.client();
                let fields = format!("{}{framing}", basic(&format!("acme-exit-{exit}")));
                client.send(request("POST", &target.url("/"), &fields) + part);
                let (mut far, _) = target.accept_head();
                assert_eq!(far.exactly(part.len()), part.as_bytes());
                if by_reset {
                    client.reset();
                } else {
                    client.half_close();
                }
                let kind = far.end().map_err(|error| error.kind());
                assert_eq!(kind, Err(ErrorKind::ConnectionReset), "{exit}, {framing:?}, {by_reset}");
            }
        }
    }
}

/// How a client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// It closes its socket.
    Close,
    /// It is reset.
    Reset,
    /// Bytes that nobody asked for wait before the reset.
    BytesThenReset,
}

const LEAVINGS: [Leaving; 3] = [Leaving::Close, Leaving::Reset, Leaving::BytesThenReset];

fn leave(mut client: Client, leaving: Leaving) {
    match leaving {
        Leaving::Close => drop(client),
        Leaving::Reset => client.reset(),
        Leaving::BytesThenReset => {
            client.send("GET http://later.example/ HTTP/1.1\r\n");
            client.reset();
        }
    }
}

/// The far end is let go within the time.
#[track_caller]
fn is_let_go(mut far: Client, what: &str) {
    let start = Instant::now();
    let _ = far.end();
    assert!(start.elapsed() < SOON + Duration::from_millis(500), "{what}: {:?}", start.elapsed());
}

#[test]
fn a_client_that_leaves_before_its_answer_frees_the_upstream() {
    let kinds = every_kind();
    for exit in ["address", "http", "socks5"] {
        for leaving in LEAVINGS {
            for version in ["1.1", "1.0"] {
                let target = Target::open();
                let mut client = kinds.gateway.client();
                let text = get(&target.url("/"), &basic(&format!("acme-exit-{exit}")));
                client.send(text.replace("HTTP/1.1", &format!("HTTP/{version}")));
                let (far, _) = target.accept_head();
                leave(client, leaving);
                is_let_go(far, &format!("{exit}, {leaving:?}, HTTP/{version}"));
            }
        }
    }
    let gone = |line: &crate::harness::log::Line| line.field("end").as_deref() == Some("client_gone");
    kinds.gateway.log.wait_count(0, 18, "client_gone", |line| is_access(line) && gone(line));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_answer_frees_the_upstream() {
    let kinds = every_kind();
    for leaving in LEAVINGS {
        let target = Target::open();
        let mut client = kinds.gateway.client();
        client.send(get(&target.url("/"), &basic("acme-exit-address")));
        let (mut far, _) = target.accept_head();
        // An event stream that has nothing to say just now.
        far.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        client.head();
        client.exactly(10);
        leave(client, leaving);
        is_let_go(far, &format!("{leaving:?}"));
    }
}

#[test]
fn a_client_that_has_only_ended_its_stream_still_gets_its_answer() {
    let gateway = Setup::addresses(1).start();
    let target = Target::open();
    let mut client = gateway.client();
    client.send(get(&target.url("/"), &basic("acme"))).half_close();
    let (mut far, _) = target.accept_head();
    // Longer than it takes to find out that a client has left.
    far.stays_silent(SOON + SOON / 2);
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut head = client.head();
    while (100..200).contains(&head.status) {
        head = client.head();
    }
    assert_eq!((head.status, client.exactly(2)), (200, b"ok".to_vec()));
}

#[test]
fn a_client_that_leaves_while_its_way_is_dialled_frees_what_it_used() {
    let hole = Blackhole::open();
    let silent = [Upstream::http(), Upstream::https(), Upstream::socks5()];
    silent.iter().for_each(|upstream| upstream.set(Mood::Hang));
    let mut vias: Vec<_> = silent.iter().map(ToString::to_string).collect();
    vias.push(format!("http://{}", hole.address));
    for via in vias {
        let insecure = via.starts_with("https");
        let exits = json!([{ "id": "e1", "via": via, "insecure": insecure, "max_connections": 1 }]);
        let gateway = Setup::new(exits).start();
        let plain = via.starts_with("socks5") || via.contains(&hole.address.to_string());
        for leaving in LEAVINGS {
            for request in
                [connect("127.0.0.1:9", &basic("acme-session-a")), get("http://127.0.0.1:9/", &basic("acme"))]
                    .iter()
                    .take(if plain { 2 } else { 1 })
            {
                is_freed(&gateway, request, leaving, &via);
            }
        }
    }
}

fn is_freed(gateway: &Gateway, request: &str, leaving: Leaving, via: &str) {
    let idle = descriptors(gateway.pid());
    let mark = gateway.log.mark();
    let mut client = gateway.client();
    client.send(request);
    // Besides the client's, the one that is being dialled.
    eventually("the dial is under way", PATIENCE, || (descriptors(gateway.pid()) >= idle + 2).then_some(()));
    let start = Instant::now();
    leave(client, leaving);
    gateway.log.wait_after(mark, "client_gone", |line| {
        is_access(line) && line.field("end").as_deref() == Some("client_gone")
    });
    eventually("all is freed", SOON, || (descriptors(gateway.pid()) <= idle).then_some(()));
    assert!(start.elapsed() < SOON + Duration::from_millis(500), "{via}, {leaving:?}: {request}");
}

#[test]
fn a_client_that_leaves_a_tunnel_that_takes_nothing_frees_it() {
    let gateway = Setup::addresses(1).start();
    let target = Target::open();
    let (client, _) = gateway.tunnel("acme", &target);
    let far = target.accept();
    // Until nothing more fits in between.
    let mut writer = client.writer();
    writer.set_nonblocking(true).unwrap();
    let bulk = vec![b'x'; 256 * 1024];
    let mut full = Instant::now();
    while full.elapsed() < Duration::from_millis(300) {
        if std::io::Write::write(&mut writer, &bulk).is_ok() {
            full = Instant::now();
        }
    }
    drop(writer);
    client.reset();
    gateway.log.wait_for("the end of the tunnel", |line| {
        is_access(line) && line.field("end").as_deref() == Some("client_reset")
    });
    assert!(full.elapsed() < Duration::from_secs(3), "{:?}", full.elapsed());
    drop(far);
}
