//! Requests that two readers read in two ways: 400, closed, and not a byte of
//! them at a target (SPEC §5). The shapes are rows of `tests/vectors`.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use crate::harness::client::find;
use crate::harness::recorder::Recorder;
use crate::harness::request::{Ask, basic, connect, get, request};
use crate::harness::{Client, Gateway, Origin, Setup, Upstream};
use crate::rows::{self, Places, Row};

/// At a listener for HTTP alone: some shapes are another protocol's.
fn gateway() -> Gateway {
    Setup::addresses(1).config("listeners.0.protocol", "http").start()
}

/// Sends a row's bytes and gives all that comes back.
fn answer_to(gateway: &Gateway, row: &Row, authority: &str) -> String {
    let auth = basic("acme");
    let bytes = row.bytes(&Places { authority, auth: &auth });
    let mut client = gateway.client();
    let _ = client.try_send(&bytes);
    String::from_utf8_lossy(&client.rest()).into_owned()
}

#[test]
fn nothing_of_a_smuggling_shape_reaches_a_target() {
    let (gateway, target) = (gateway(), Recorder::start());
    let authority = target.address.to_string();
    let mut tried = 0;
    for row in rows::requests().iter().filter(|row| row.verdict != "take") {
        let said = answer_to(&gateway, row, &authority);
        let name = row.name;
        assert!(said.starts_with("HTTP/1.1 400 Bad Request: bad_request\r\n"), "{name}: {said}");
        assert!(said.contains("\r\nConnection: close\r\n"), "{name}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{name}: one answer, then the end: {said}");
        assert_eq!(target.count(), 0, "{name}: {:?}", target.seen());
        tried += 1;
    }
    assert!(tried > 200, "{tried} rows");
}

#[test]
fn what_only_looks_odd_is_served() {
    let (gateway, origin) = (gateway(), Origin::start());
    let authority = origin.address.to_string();
    let rows = rows::requests();
    let taken: Vec<_> = rows.iter().filter(|row| row.verdict == "take").collect();
    for row in &taken {
        let auth = format!("{}Moorgate-Session: odd\r\n", basic("acme"));
        let mut client = gateway.client();
        client.send(row.bytes(&Places { authority: &authority, auth: &auth }));
        // Every path but those of its routes is a 404 of the origin.
        let answer = client.answer("GET");
        assert_eq!((answer.status, answer.code()), (404, ""), "{}: {answer:?}", row.name);
    }
    assert_eq!(origin.count(), taken.len());
}

/// The same shapes with a listener in front that is used to many requests on
/// one connection, and with an upstream proxy behind it.
#[test]
fn a_shape_behind_a_good_request_ends_the_connection_at_itself() {
    let upstream = Upstream::http();
    let gateway = Setup::new(json!([upstream.to_string()])).start();
    let origin = Origin::start();
    let authority = origin.address.to_string();
    let good = get(&origin.url("/ip"), &basic("acme"));
    for (n, row) in rows::requests().iter().filter(|row| row.verdict == "refuse").step_by(7).enumerate() {
        let auth = basic("acme");
        let bad = row.bytes(&Places { authority: &authority, auth: &auth });
        let mut client = gateway.client();
        let _ = client.try_send([good.as_bytes(), &bad, good.as_bytes()].concat());
        client.answer("GET").ok();
        client.answer("GET").fails(400, "bad_request");
        assert_eq!(client.rest(), b"", "{}: what follows is no request", row.name);
        assert_eq!((origin.count(), upstream.count()), (n + 1, n + 1), "{}", row.name);
    }
}

/// A violation that comes after its head has gone out: the target gets no
/// byte of it, and sees the request broken off.
#[test]
fn a_body_that_breaks_later_is_broken_off_at_the_target() {
    let gateway = gateway();
    for bad in [
        "+5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;x\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "10000000000000005\r\nhello",
    ] {
        let target = Recorder::start();
        let mut client = gateway.client();
        let fields = format!("{}Transfer-Encoding: chunked\r\n", basic("acme"));
        client.send(request("POST", &target.url("/"), &fields) + "2\r\nok\r\n");
        target.wait("the good part", |seen| seen.ends_with("2\r\nok\r\n"));
        client.send(bad);
        client.answer("POST").fails(400, "bad_request");
        client.end().expect("closed");
        let seen = target.wait_end();
        let (_, body) = seen.split_once("\r\n\r\n").unwrap();
        let good = ["2\r\nok\r\n", "2\r\nok\r\n5\r\nhello", "2\r\nok\r\n0\r\n"];
        assert!(good.contains(&body), "{bad:?}: {body:?}");
    }
}

/// Each line that may be cut is cut: what comes in pieces is judged alike.
#[test]
fn cuts_hide_nothing() {
    let (gateway, target) = (gateway(), Recorder::start());
    let fields = format!("{}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", basic("acme"));
    let bad = request("POST", &target.url("/"), &fields);
    let at = find(bad.as_bytes(), b"Transfer-Encoding").unwrap();
    for cut in [1, 4, at, at + 8, bad.len() - 3, bad.len() - 2, bad.len() - 1] {
        let mut client = gateway.client();
        client.send(&bad[..cut]);
        client.stays_silent(Duration::from_millis(20));
        client.send(&bad[cut..]).answer("POST").fails(400, "bad_request");
        client.end().expect("closed");
    }
    assert_eq!(target.count(), 0);
}

#[test]
fn a_body_that_is_data_is_never_a_request() {
    let (gateway, origin) = (gateway(), Origin::start());
    let smuggled = get(&origin.url("/smuggled"), &basic("acme"));
    let length = format!("{}Content-Length: {}\r\n", basic("acme"), smuggled.len());
    let chunked = format!("{}Transfer-Encoding: chunked\r\n", basic("acme"));
    let chunk = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    for (fields, body) in [(&length, &smuggled), (&chunked, &chunk)] {
        for method in ["POST", "GET", "HEAD", "DELETE", "OPTIONS"] {
            let mut client = gateway.client();
            let good = get(&origin.url("/ip"), &basic("acme"));
            client.send(request(method, &origin.url("/sink"), fields) + body + &good);
            client.answer(method).ok();
            assert_eq!(client.answer("GET").ok().text(), "127.0.0.2", "{method}");
        }
    }
    let seen = origin.seen();
    assert!(!seen.iter().any(|seen| seen.line().contains("/smuggled")));
    assert_eq!(seen.len(), 20);
}

/// Head and field limits end a flood before it is one.
#[test]
fn floods_are_cut_off() {
    let (gateway, target) = (gateway(), Recorder::start());
    let url = target.url("/");
    for flood in [
        format!("GET {url} HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101)),
        format!("GET {url} HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(65 * 1024)),
        format!("GET {url}{} HTTP/1.1\r\n\r\n", "y".repeat(65 * 1024)),
        format!("{} {url} HTTP/1.1\r\n\r\n", "Y".repeat(65 * 1024)),
        format!("{}GET {url} HTTP/1.1\r\n\r\n", "\r\n".repeat(33 * 1024)),
    ] {
        let mut client = gateway.client();
        let _ = client.try_send(&flood);
        client.answer("GET").fails(431, "head_too_large");
        let _ = client.end();
    }
    let chunked = format!("{}Transfer-Encoding: chunked\r\n", basic("acme"));
    for (flood, status) in [
        (format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(2000)), 400),
        (format!("5{}", ";x".repeat(2000)), 400),
        (format!("0\r\n{}\r\n", "X: y\r\n".repeat(101)), 431),
        (format!("0\r\nX: {}\r\n\r\n", "y".repeat(65 * 1024)), 431),
    ] {
        let mut client = gateway.client();
        let _ = client.try_send(request("POST", &url, &chunked) + &flood);
        assert_eq!(client.answer("POST").status, status);
        let _ = client.end();
    }
}

/// A chunk extension that never ends, dribbled: each byte is progress on the
/// wire, and none of it is progress of the body, so the body's time is up
/// (the Go and Netty advisories on chunk extensions, CVE-2023-39326 among them).
#[test]
fn a_chunk_extension_that_dribbles_is_a_stall() {
    let gateway = Setup::addresses(1).config("timeouts", json!({ "body": "1s" })).start();
    let target = Recorder::start();
    let fields = format!("{}Transfer-Encoding: chunked\r\n", basic("acme"));
    let mut client = gateway.client();
    client.send(request("POST", &target.url("/"), &fields) + "5;");
    let mut writer = client.writer();
    let dribble = std::thread::spawn(move || {
        use std::io::Write;
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while std::time::Instant::now() < end && writer.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(std::time::Instant::now() < end, "it is sent away");
    });
    client.answer("POST").fails(408, "request_timeout");
    dribble.join().unwrap();
    let seen = target.wait_end();
    assert!(seen.ends_with("\r\n\r\n"), "nothing of the extension: {seen:?}");
}

/// TLS, SOCKS and other binary on a plain port: an answer or an end at once,
/// though no head ever ends.
#[test]
fn binary_is_sent_away_at_once() {
    let gateway = gateway();
    for bytes in
        [&b"\x16\x03\x01"[..], b"\x05\x01\x00", b"\x04\x01", b"\x80", b"\xff\xfe", b"{\"json\"", b" GET"]
    {
        let start = std::time::Instant::now();
        let mut client = gateway.client();
        client.send(bytes).answer("GET").fails(400, "bad_request");
        let _ = client.end();
        assert!(start.elapsed() < Duration::from_secs(5), "{bytes:?}");
    }
}

/// h2c smuggling (Bishop Fox, 2020): a proxy that passes `Upgrade: h2c` on
/// opens a tunnel in which HTTP/2 requests go by unjudged.
#[test]
fn no_other_http_is_upgraded_to() {
    let (gateway, origin) = (gateway(), Origin::start());
    for upgrade in ["h2c", "H2C", "h2c, websocket", "websocket, h2c", "h2", "HTTP/2.0", "h2c/1"] {
        for connection in ["Upgrade, HTTP2-Settings", "upgrade", "Upgrade\r\nConnection: HTTP2-Settings"] {
            let fields = format!(
                "{}Connection: {connection}\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
                basic("acme")
            );
            let mut client = gateway.client();
            client.send(get(&origin.url("/ip"), &fields)).answer("GET").ok();
            assert_eq!(origin.last().field("upgrade"), None, "{upgrade}");
            assert!(!origin.last().head.to_ascii_lowercase().contains("upgrade"), "{}", origin.last().head);
        }
    }
    // An origin that switches all the same is not followed.
    let eager = Recorder::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    );
    let fields = format!("{}Connection: Upgrade\r\nUpgrade: h2c\r\n", basic("acme"));
    let mut client = gateway.client();
    client.send(get(&eager.url("/"), &fields)).answer("GET").fails(502, "bad_response");
}

/// A CONNECT's own smuggling: bytes behind it are the tunnel's, whatever its
/// head says, and none of them is read here.
#[test]
fn bytes_in_a_tunnel_are_the_tunnels() {
    let (gateway, origin) = (gateway(), Origin::start());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let smuggled = get(&origin.url("/smuggled"), &basic("acme"));
    for fields in ["", "Content-Length: 0\r\n", "Connection: close\r\n", "Expect: 100-continue\r\n"] {
        let mut client = gateway.client();
        client.send(connect(target, &format!("{}{fields}", basic("acme"))) + &smuggled);
        let mut far = Client::over(listener.accept().unwrap().0).unwrap();
        assert_eq!(far.exactly(smuggled.len()), smuggled.as_bytes());
        client.answer("CONNECT").ok();
    }
    assert_eq!(origin.count(), 0);
}
