//! HTTP/2 at a listener with TLS: CONNECT and plain requests (RFC 9113 §8.5),
//! many at once, and floods.

use std::io::{Read, Write};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::json;

use crate::harness::gateway::is_access;
use crate::harness::tls::{self, Made, certificate};
use crate::harness::{Client, Gateway, Origin, PATIENCE, RUNTIME, Setup, Target, basic};

fn start(setup: Setup) -> (Gateway, Made) {
    let made = certificate(&["127.0.0.1"]);
    (setup.tls(&made).start(), made)
}

/// A connection.
struct Connection {
    requests: SendRequest<Bytes>,
    ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Connection {
    fn open(gateway: &Gateway, made: &Made) -> Self {
        let address = gateway.listener(0);
        let (requests, ended) = RUNTIME.block_on(async {
            let stream = tls::connect(address, made, &["h2"]).await;
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(1 << 20).initial_connection_window_size(8 << 20);
            let (requests, connection) = builder.handshake(stream).await.expect("HTTP/2");
            (requests, tokio::spawn(connection))
        });
        Self { requests, ended }
    }

    fn send(&self, request: Request<()>, ended: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut requests = self.requests.clone();
        RUNTIME.block_on(async move {
            requests = wait(requests.ready()).await.expect("room for a stream");
            requests.send_request(request, ended).expect("a request")
        })
    }

    /// The answer to a request without a body, and its body.
    #[track_caller]
    fn ask(&self, request: Request<()>) -> (Response<()>, Body) {
        answer(self.send(request, true).0)
    }

    /// A tunnel that stands.
    #[track_caller]
    fn tunnel(&self, username: &str, target: impl std::fmt::Display) -> Tunnel {
        let (response, send) = self.send(connect(username, target), false);
        let response = RUNTIME.block_on(wait(response)).expect("an answer");
        assert_eq!(response.status(), 200);
        assert!(response.headers().contains_key("moorgate-exit"));
        Tunnel { send, receive: response.into_body() }
    }
}

async fn wait<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

fn with_credential(username: &str) -> http::request::Builder {
    let field = basic(username);
    let (_, value) = field.trim_end().split_once(": ").unwrap();
    Request::builder().version(http::Version::HTTP_2).header("proxy-authorization", value)
}

fn connect(username: &str, target: impl std::fmt::Display) -> Request<()> {
    with_credential(username).method("CONNECT").uri(target.to_string()).body(()).unwrap()
}

fn get(username: &str, url: &str) -> Request<()> {
    with_credential(username).uri(url).body(()).unwrap()
}

struct Body {
    bytes: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// How it broke off.
    broken: Option<h2::Error>,
}

#[track_caller]
fn answer(response: ResponseFuture) -> (Response<()>, Body) {
    RUNTIME.block_on(async {
        let (head, body) = wait(response).await.expect("an answer").into_parts();
        (Response::from_parts(head, ()), wait(whole(body)).await)
    })
}

async fn whole(mut body: RecvStream) -> Body {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                bytes.extend_from_slice(&data);
            }
            Err(error) => return Body { bytes, trailers: None, broken: Some(error) },
        }
    }
    Body { bytes, trailers: body.trailers().await.unwrap(), broken: None }
}

struct Tunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
}

impl Tunnel {
    fn say(&mut self, text: &'static str, ends: bool) {
        self.send.send_data(Bytes::from_static(text.as_bytes()), ends).unwrap();
    }

    #[track_caller]
    fn hear(&mut self, length: usize) -> Vec<u8> {
        RUNTIME.block_on(wait(async {
            let mut heard = Vec::new();
            while heard.len() < length {
                let data = self.receive.data().await.expect("more").expect("data");
                self.receive.flow_control().release_capacity(data.len()).unwrap();
                heard.extend_from_slice(&data);
            }
            heard
        }))
    }

    /// How it ends.
    fn end(&mut self) -> Result<(), h2::Error> {
        RUNTIME.block_on(wait(async {
            while let Some(data) = self.receive.data().await {
                data?;
            }
            Ok(())
        }))
    }

    #[track_caller]
    fn echo_through(&mut self, far: &mut Client) {
        self.say("?", false);
        assert_eq!(far.exactly(1), b"?");
        far.send("!");
        assert_eq!(self.hear(1), b"!");
    }
}

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
fn interim_answers_pass() {
    let (gateway, made) = start(Setup::addresses(1));
    let origin = Origin::start();
    // A client that shows them: frames as they come.
    let mut raw = Raw::open(&gateway, &made);
    raw.get(1, &origin, "/early");
    let statuses: Vec<_> = (0..3).map(|_| raw.frame(1).1[0]).collect();
    // The first byte of each head: a literal :status (103, 103), then indexed 200.
    assert_eq!(statuses[2], 0x88);
    assert!(statuses[0] != 0x88 && statuses[1] != 0x88, "{statuses:?}");
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

/// A client that writes its frames itself.
struct Raw(tls::Stream);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// Fields without compression, names known to no table.
fn fields(pairs: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        // A length of seven bits, or one more byte (RFC 7541 §5.1).
        let length = match text.len() {
            short @ ..127 => vec![u8::try_from(short).unwrap()],
            long => vec![127, u8::try_from(long - 127).unwrap()],
        };
        [length, text.as_bytes().to_vec()].concat()
    };
    pairs.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

impl Raw {
    fn open(gateway: &Gateway, made: &Made) -> Self {
        let mut raw = Self(tls::open(gateway.listener(0), made, &["h2"]));
        let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        raw.0.write_all(&begin).unwrap();
        raw
    }

    fn head(&self, origin: &Origin, path: &str) -> Vec<u8> {
        let credential = basic("acme");
        let credential = credential.trim_end().split_once(": ").unwrap().1;
        let authority = origin.address.to_string();
        fields(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", &authority),
            (":path", path),
            ("proxy-authorization", credential),
        ])
    }

    fn get(&mut self, stream: u32, origin: &Origin, path: &str) {
        let head = self.head(origin, path);
        self.0.write_all(&frame(HEADERS, 5, stream, &head)).unwrap();
    }

    /// The next frame of this kind: its stream and payload.
    #[track_caller]
    fn frame(&mut self, wanted: u8) -> (u32, Vec<u8>) {
        loop {
            let mut header = [0; 9];
            self.0.read_exact(&mut header).expect("another frame");
            let [high, middle, low, kind, _, stream @ ..] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
            self.0.read_exact(&mut payload).expect("its payload");
            if kind == wanted {
                return (u32::from_be_bytes(stream), payload);
            }
        }
    }

    /// Sends this again and again until the connection is ended, and says
    /// with which error.
    #[track_caller]
    fn flood(mut self, mut piece: impl FnMut(u32) -> Vec<u8>) -> u32 {
        for n in 0..200_000 {
            if self.0.write_all(&piece(n)).is_err() {
                break;
            }
            assert!(n < 199_999, "it takes a flood");
        }
        // What was told before the end may still be there.
        let mut told = Vec::new();
        let _ = self.0.read_to_end(&mut told);
        let mut rest = &told[..];
        while let [high, middle, low, kind, _, _, _, _, _, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if *kind == GOAWAY {
                return u32::from_be_bytes(after[4..8].try_into().unwrap());
            }
            rest = after.get(length..).unwrap_or_default();
        }
        // A reset may have thrown it away.
        u32::from(Reason::ENHANCE_YOUR_CALM)
    }
}

#[test]
fn floods_end_their_connection_and_nothing_else() {
    let (gateway, made) = start(Setup::addresses(1));
    let origin = Origin::start();
    let bystander = Connection::open(&gateway, &made);
    let head = Raw::open(&gateway, &made).head(&origin, "/held");
    let stream = |n: u32| 2 * n + 1;
    type Piece<'a> = Box<dyn FnMut(u32) -> Vec<u8> + 'a>;
    let floods: Vec<(&str, Piece<'_>)> = vec![
        ("settings", Box::new(|_| frame(SETTINGS, 0, 0, &[]).repeat(100))),
        ("ping", Box::new(|_| frame(PING, 0, 0, &[7; 8]).repeat(100))),
        ("priority", Box::new(|n| frame(PRIORITY, 0, stream(n), &[0, 0, 0, 0, 1]).repeat(100))),
        (
            "rapid reset",
            Box::new(|n| {
                let reset = frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8]);
                [frame(HEADERS, 5, stream(n), &head), reset].concat()
            }),
        ),
        (
            "continuation",
            Box::new(|n| match n {
                0 => frame(HEADERS, 1, 1, &head),
                _ => frame(CONTINUATION, 0, 1, &fields(&[("x-more", "y")])),
            }),
        ),
        (
            "empty data",
            Box::new(|n| match n {
                0 => frame(HEADERS, 4, 1, &head),
                _ => frame(DATA, 0, 1, &[]).repeat(100),
            }),
        ),
    ];
    for (name, piece) in floods {
        let mark = gateway.log.mark();
        let reason = Raw::open(&gateway, &made).flood(piece);
        assert!(
            [u32::from(Reason::ENHANCE_YOUR_CALM), u32::from(Reason::PROTOCOL_ERROR)].contains(&reason),
            "{name}: {reason}"
        );
        gateway.log.wait_after(mark, name, |line| {
            is_access(line) && line.field("kind").as_deref() == Some("refused")
        });
        assert_eq!(bystander.ask(get("acme", &origin.url("/ip"))).0.status(), 200, "beside {name}");
    }
}

#[test]
fn broken_frames_are_refused() {
    let (gateway, made) = start(Setup::addresses(1));
    let cases: [(&str, Vec<u8>); 5] = [
        ("no preface", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("too large", [0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1].to_vec()),
        ("data without a stream", frame(DATA, 0, 1, b"x")),
        ("an even stream", frame(HEADERS, 5, 2, &fields(&[(":method", "GET")]))),
        ("broken compression", frame(HEADERS, 5, 1, &[0xff; 20])),
    ];
    for (name, bytes) in cases {
        let mark = gateway.log.mark();
        let mut raw = match name {
            "no preface" => Raw(tls::open(gateway.listener(0), &made, &["h2"])),
            _ => Raw::open(&gateway, &made),
        };
        raw.0.write_all(&bytes).unwrap();
        let _ = raw.0.read_to_end(&mut Vec::new());
        let line = gateway.log.wait_after(mark, name, is_access);
        assert_eq!(line.field("code").as_deref(), Some("bad_request"), "{name}: {}", line.0);
    }
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

#[test]
fn the_gateway_itself_is_asked_over_http_2() {
    let (gateway, made) = start(Setup::addresses(2));
    let origin = Origin::start();
    let connection = Connection::open(&gateway, &made);
    connection.ask(get("acme-session-a", &origin.url("/ip")));
    let (answered, body) = connection.ask(get("acme-session-a", "http://moorgate.internal/session"));
    let shown: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
    assert_eq!((answered.status().as_u16(), &shown["id"]), (200, &json!("a")));
    let (answered, _) = connection.ask(get("acme", "http://moorgate.internal/session"));
    assert_eq!(answered.status(), 400);
    let (response, _send) = connection.send(connect("acme-session-a", "moorgate.internal:80"), false);
    let response = RUNTIME.block_on(wait(response)).expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(origin.count(), 1);
}
