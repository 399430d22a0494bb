//! HTTP/2 at a listener with TLS: CONNECT and plain requests (RFC 9113 §8.5),
//! many at once. What is not sent as it should be is in `http2_frames`.

use h2::Reason;
use http::{HeaderValue, Request};
use serde_json::json;

use crate::harness::gateway::is_access;
use crate::harness::http2::{Connection, answer, connect, get, start, wait, with_credential};
use crate::harness::{Origin, RUNTIME, Setup, Target};

#[test]
fn many_tunnels_stand_on_one_connection() {
    let (gateway, made) = start(Setup::addresses(4));
    let (connection, target) = (Connection::open(&gateway, &made), Target::open());
    let mut tunnels: Vec<_> = (0..40)
        .map(|n| (connection.tunnel(&format!("acme-session-{}", n % 7), &target), target.accept()))
        .collect();
    for _ in 0..3 {
        tunnels.iter_mut().for_each(|(tunnel, far)| tunnel.echo_through(far));
    }
    // Half-close each way.
    for (n, (tunnel, far)) in tunnels.iter_mut().enumerate() {
        if n % 2 == 0 {
            tunnel.say("up", true);
            assert_eq!(far.rest(), b"up");
            far.send("late").half_close();
            assert_eq!(tunnel.hear(4), b"late");
        } else {
            far.send("down").half_close();
            assert_eq!(tunnel.hear(4), b"down");
            tunnel.end().expect("a clean end");
            tunnel.say("late", true);
            assert_eq!(far.rest(), b"late");
        }
    }
    let line = gateway.access(0);
    assert_eq!((line.field("kind").as_deref(), line.field("end").as_deref()), (Some("tunnel"), Some("done")));
}

#[test]
fn resets_are_carried_both_ways() {
    let (gateway, made) = start(Setup::addresses(1));
    let (connection, target) = (Connection::open(&gateway, &made), Target::open());
    let tunnel = || (connection.tunnel("acme", &target), target.accept());
    for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::CONNECT_ERROR] {
        let (mut tunnel, mut far) = tunnel();
        tunnel.echo_through(&mut far);
        tunnel.send.send_reset(reason);
        let kind = far.end().unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset, "{reason:?}");
    }
    let (mut one, far) = tunnel();
    far.reset();
    assert_eq!(one.end().unwrap_err().reason(), Some(Reason::CONNECT_ERROR));
    // The connection goes on; when it breaks, so do its tunnels.
    let (mut last, mut far) = tunnel();
    last.echo_through(&mut far);
    drop((one, last));
    connection.ended.abort();
    assert_eq!(far.end().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let records = gateway.log.wait_count(0, 5, "records", is_access);
    let ends: Vec<_> = records.iter().map(|line| line.field("end").unwrap_or_default()).collect();
    assert_eq!(ends, ["client_reset", "client_reset", "client_reset", "upstream_reset", "client_reset"]);
}

#[test]
fn plain_requests_are_as_over_http_1() {
    let (gateway, made) = start(Setup::addresses(1));
    let (connection, origin) = (Connection::open(&gateway, &made), Origin::start());
    let (response, body) = connection.ask(get("acme-session-a", &origin.url("/ip/x?x=1")));
    assert_eq!((response.status().as_u16(), &*body.bytes), (200, &b"127.0.0.2"[..]));
    assert_eq!(response.headers()["moorgate-exit"], "p/e1");
    assert!(response.headers()["moorgate-session"].to_str().unwrap().starts_with("new; "));
    let seen = origin.last();
    assert_eq!(seen.line(), "GET /ip/x?x=1 HTTP/1.1");
    assert_eq!(seen.field("host"), Some(&*origin.address.to_string()));
    assert_eq!((seen.field("proxy-authorization"), seen.field("connection")), (None, None));

    for (path, text) in [("/chunked", "hello world"), ("/close", "to the end"), ("/http10", "old")] {
        let (response, body) = connection.ask(get("acme", &origin.url(path)));
        assert_eq!((response.status().as_u16(), &*body.bytes), (200, text.as_bytes()), "{path}");
        assert!(!response.headers().contains_key("transfer-encoding") && body.broken.is_none());
    }
    let (response, body) = connection.ask(get("acme", &origin.url("/trailers")));
    assert_eq!(response.headers()["trailer"], "X-Sum");
    let trailers = body.trailers.expect("trailers");
    let trailers: Vec<_> = trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(trailers, [("x-sum", &b"42"[..]), ("x-undeclared", b"yes")]);
    let (response, body) = connection.ask(get("acme", &origin.url("/fields")));
    let cookies: Vec<_> =
        response.headers().get_all("set-cookie").iter().map(HeaderValue::as_bytes).collect();
    assert_eq!((cookies, &*body.bytes), (vec![&b"a=1"[..], b"b=2"], &b"ok"[..]));
    assert!(!response.headers().contains_key("x-private"));
    let head = with_credential("acme").method("HEAD").uri(origin.url("/head")).body(()).unwrap();
    let (response, body) = connection.ask(head);
    assert_eq!((&response.headers()["content-length"], body.bytes.len()), (&"1000000".parse().unwrap(), 0));
    for status in ["204", "304"] {
        let (response, body) = connection.ask(get("acme", &origin.url(&format!("/status/{status}"))));
        assert_eq!((response.status().as_str(), body.bytes.len()), (status, 0));
    }
}

#[test]
fn bodies_stream_up_with_trailers_and_lengths() {
    let (gateway, made) = start(Setup::addresses(1));
    let (connection, origin) = (Connection::open(&gateway, &made), Origin::start());
    let post = |path: &str| with_credential("acme").method("POST").uri(origin.url(path));
    let (response, mut send) = connection.send(post("/echo").body(()).unwrap(), false);
    send.send_data("one ".into(), false).unwrap();
    send.send_data("two".into(), false).unwrap();
    send.send_trailers([("x-sum".parse().unwrap(), "7".parse().unwrap())].into_iter().collect()).unwrap();
    let (_, body) = answer(response);
    assert_eq!(body.bytes, b"4\r\none \r\n3\r\ntwo\r\n0\r\nx-sum: 7\r\n\r\n", "as the origin got it");
    let (response, mut send) =
        connection.send(post("/echo").header("content-length", "3").body(()).unwrap(), false);
    send.send_data("abc".into(), true).unwrap();
    assert_eq!(answer(response).1.bytes, b"abc");
    assert_eq!(origin.last().field("transfer-encoding"), None);
    assert_eq!(answer(connection.send(post("/sink").body(()).unwrap(), true).0).1.bytes, b"0");

    // More than any window, both ways.
    let size = 6_000_000;
    let (response, mut send) =
        connection.send(post("/sink").header("content-length", size).body(()).unwrap(), false);
    RUNTIME.block_on(wait(async {
        let mut left = size;
        while left > 0 {
            send.reserve_capacity(left.min(100_000));
            let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
            let count = room.min(left);
            left -= count;
            send.send_data(vec![b'x'; count].into(), left == 0).unwrap();
        }
    }));
    assert_eq!(answer(response).1.bytes, size.to_string().as_bytes());
    let (_, body) = connection.ask(get("acme", &origin.url(&format!("/stream/{size}"))));
    assert_eq!(body.bytes.len(), size);
}

#[test]
fn failures_are_told_in_fields_and_body() {
    let (gateway, made) = start(Setup::addresses(1).config("targets.deny", json!(["denied.test"])));
    let (connection, origin) = (Connection::open(&gateway, &made), Origin::start());
    let anonymous = |method: &str, uri: &str| Request::builder().method(method).uri(uri).body(()).unwrap();
    let fails = |request: Request<()>, status: u16, code: &str| {
        let (response, body) = connection.ask(request);
        assert_eq!(response.status(), status, "{code}");
        assert_eq!(response.headers()["moorgate-error"], code);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(!response.headers().contains_key("connection"));
        let problem: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!(problem["code"], code);
        assert!(body.broken.is_none());
        response
    };
    let response = fails(anonymous("CONNECT", "a.test:443"), 407, "auth_required");
    assert_eq!(response.headers()["proxy-authenticate"], "Basic realm=\"moorgate\", charset=\"UTF-8\"");
    fails(anonymous("GET", &origin.url("/")), 407, "auth_required");
    fails(connect("acme-sesion-x", "a.test:443"), 400, "parameter_unknown");
    fails(connect("acme", "denied.test:443"), 403, "target_forbidden");
    fails(connect("acme", gateway.listener(0)), 421, "loop_detected");
    let closed = Target::open().address;
    fails(connect("acme", closed), 502, "target_refused");
    fails(get("acme", &format!("http://{closed}/")), 502, "target_refused");
    fails(get("acme", "https://a.test/"), 400, "unsupported_scheme");
    // A refused upload ends as well.
    let post = with_credential("acme").method("POST").uri(format!("http://{closed}/")).body(()).unwrap();
    let (response, _send) = connection.send(post, false);
    assert_eq!(answer(response).0.status(), 502);
    // The connection goes on after all that.
    assert_eq!(connection.ask(get("acme", &origin.url("/ip"))).0.status(), 200);
}

#[test]
fn broken_answers_are_seen_as_broken() {
    let (gateway, made) = start(Setup::addresses(1));
    let (connection, origin) = (Connection::open(&gateway, &made), Origin::start());
    for path in ["/broken", "/broken-chunks"] {
        let (response, body) = connection.ask(get("acme", &origin.url(path)));
        assert_eq!((response.status().as_u16(), &*body.bytes), (200, &b"ten bytes."[..]), "{path}");
        assert_eq!(body.broken.expect("it breaks off").reason(), Some(Reason::CANCEL), "{path}");
    }
    assert_eq!(connection.ask(get("acme", &origin.url("/garbage"))).0.status(), 502);
}

#[test]
fn a_stream_that_nobody_reads_holds_up_no_other() {
    let (gateway, made) = start(Setup::addresses(1));
    let (connection, target) = (Connection::open(&gateway, &made), Target::open());
    // Uploads that their targets do not take.
    let stuck: Vec<_> = (0..20)
        .map(|_| {
            let mut tunnel = connection.tunnel("acme", &target);
            tunnel.send.send_data(vec![0; 8 << 20].into(), false).unwrap();
            (tunnel, target.accept())
        })
        .collect();
    let mut free = connection.tunnel("acme", &target);
    let mut far = target.accept();
    for _ in 0..50 {
        free.echo_through(&mut far);
    }
    drop(stuck);
}

#[test]
fn a_client_that_leaves_frees_its_requests() {
    let (gateway, made) = start(Setup::addresses(1));
    let (connection, origin) = (Connection::open(&gateway, &made), Origin::start());
    let (response, _) = connection.send(get("acme", &origin.url("/held")), true);
    origin.wait_count(0);
    let (second, mut send) = connection.send(get("acme", &origin.url("/held")), true);
    origin.wait_count(2);
    send.send_reset(Reason::CANCEL);
    let line = gateway.access(0);
    assert_eq!(line.field("end").as_deref(), Some("client_gone"), "{}", line.0);
    drop((response, second));
    connection.ended.abort();
    assert_eq!(gateway.access(1).field("end").as_deref(), Some("client_gone"));
}

#[test]
fn a_drain_lets_what_is_under_way_end() {
    let (gateway, made) = start(Setup::addresses(1));
    let (connection, target) = (Connection::open(&gateway, &made), Target::open());
    let idle = Connection::open(&gateway, &made);
    let mut tunnel = connection.tunnel("acme", &target);
    let mut far = target.accept();
    gateway.terminate();
    // An idle one ends at once, a tunnel when it is over.
    let _how = RUNTIME.block_on(wait(idle.ended)).unwrap();
    tunnel.echo_through(&mut far);
    tunnel.say("", true);
    far.half_close();
    tunnel.end().unwrap();
    let _how = RUNTIME.block_on(wait(connection.ended)).unwrap();
    assert!(gateway.wait().success());
}

#[test]
fn an_idle_connection_ends() {
    let timeouts = json!({ "head": "600ms", "keep_alive": "600ms" });
    let (gateway, made) = start(Setup::addresses(1).config("timeouts", timeouts));
    let origin = Origin::start();
    let silent = Connection::open(&gateway, &made);
    let _how = RUNTIME.block_on(wait(silent.ended)).unwrap();
    let used = Connection::open(&gateway, &made);
    assert_eq!(used.ask(get("acme", &origin.url("/ip"))).0.status(), 200);
    let _how = RUNTIME.block_on(wait(used.ended)).unwrap();
}

#[test]
fn heads_have_their_limits() {
    let limits = json!({ "head_bytes": "4KiB", "head_fields": 20 });
    let (gateway, made) = start(Setup::addresses(1).config("limits", limits));
    let (connection, origin) = (Connection::open(&gateway, &made), Origin::start());
    let long = "x".repeat(8000);
    let large = with_credential("acme").uri(origin.url("/ip")).header("x-long", long).body(()).unwrap();
    assert_eq!(connection.ask(large).0.status(), 431);
    let many = (0..30).fold(with_credential("acme").uri(origin.url("/ip")), |request, n| {
        request.header(format!("x-{n}"), "1")
    });
    let (response, _) = connection.ask(many.body(()).unwrap());
    assert_eq!(
        (response.status().as_u16(), &response.headers()["moorgate-error"]),
        (431, &"head_too_large".parse().unwrap())
    );
    assert_eq!(connection.ask(get("acme", &origin.url("/ip"))).0.status(), 200);
    assert_eq!(origin.count(), 1);
}
