use proptest::prelude::*;

use super::super::answer::SessionNews;
use super::super::fields::Fields;
use super::super::framing::{self, Answered};
use super::super::head::{HeadLimits, Scan, parse_request, parse_response};
use super::*;
use crate::core::pin::News;

fn target(host: &str, port: u16) -> Target {
    let host = host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip);
    Target { host, port }
}

fn parsed(head: &str) -> (RequestHead, Asked) {
    let bytes = format!("{head}\r\n\r\n");
    let read = parse_request(bytes.as_bytes(), &mut Scan::default(), &HeadLimits::default());
    let (head, _) = read.unwrap().unwrap();
    let asked = framing::request(&head).unwrap();
    (head, asked)
}

fn send(head: &str, onward: &Onward<'_>) -> String {
    let (head, asked) = parsed(head);
    let mut out = Vec::new();
    request(&mut out, &head, &asked, onward);
    String::from_utf8(out).unwrap()
}

fn onward<'a>(target: &'a Target, path: &'a str, form: Form<'a>) -> Onward<'a> {
    Onward { target, path, form, via: None }
}

fn back(asked: &Asked) -> Back<'_> {
    Back { asked, announce: None, via: None, close: false }
}

#[track_caller]
fn check_request(head: &str, expected: &str) {
    let target = target("e.x", 80);
    let sent = send(head, &onward(&target, "/a", Form::Origin));
    assert_eq!(sent, format!("{expected}\r\n\r\n"), "{head}");
}

#[test]
fn order_and_case_are_kept_and_hops_removed() {
    check_request(
        "GET http://e.x/a HTTP/1.1\r\nuser-agent: x\r\nProxy-Connection: keep-alive\r\nHOST: old.example\r\n\
         X-Hop: 1\r\nAccept: */*\r\nConnection: x-hop, keep-alive\r\nProxy-Authorization: Basic c2VjcmV0\r\n\
         Moorgate-Session: s\r\nmoorgate-ttl: 1h\r\nTE: trailers\r\nKeep-Alive: timeout=5\r\naccept: a\r\n\
         Cookie: a=b\r\nAuthorization: Bearer t\r\nProxy-Authenticate: Basic",
        "GET /a HTTP/1.1\r\nuser-agent: x\r\nHOST: e.x\r\nAccept: */*\r\naccept: a\r\nCookie: a=b\r\n\
         Authorization: Bearer t",
    );
}

#[test]
fn a_missing_host_is_given() {
    check_request(
        "GET http://e.x/a HTTP/1.0\r\nA: b\r\nExpect: 100-continue",
        "GET /a HTTP/1.1\r\nHost: e.x\r\nA: b",
    );
}

#[test]
fn request_framing_is_passed_on_once() {
    let get = "POST http://e.x/a HTTP/1.1\r\nHost: e.x";
    let sent = "POST /a HTTP/1.1\r\nHost: e.x";
    let same = |lines: &str| check_request(&format!("{get}\r\n{lines}"), &format!("{sent}\r\n{lines}"));
    same("content-length: 0");
    same("Content-Length: 12\r\nExpect: 100-continue");
    same("Transfer-Encoding: Chunked\r\nTrailer: X");
    check_request(
        &format!("{get}\r\nContent-Length: 5, 5\r\nA: b\r\nContent-Length: 05"),
        &format!("{sent}\r\nContent-Length: 5\r\nA: b"),
    );
    check_request(&format!("{get}\r\nTrailer: X"), sent);
    // Naming them as hop-by-hop hides nothing.
    check_request(
        &format!("{get}\r\nConnection: Content-Length, Host\r\nContent-Length: 5"),
        &format!("{sent}\r\nContent-Length: 5"),
    );
    check_request(
        &format!("{get}\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked"),
        &format!("{sent}\r\nTransfer-Encoding: chunked"),
    );
}

#[test]
fn upgrades_are_passed_on_when_meant() {
    let get = "GET ws://e.x/a HTTP/1.1\r\nHost: e.x";
    let sent = "GET /a HTTP/1.1\r\nHost: e.x";
    check_request(
        &format!("{get}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k"),
        &format!("{sent}\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nConnection: Upgrade"),
    );
    check_request(&format!("{get}\r\nUpgrade: websocket"), sent);
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA";
    check_request(&format!("{get}\r\n{h2c}"), sent);
}

#[test]
fn request_lines_and_hosts() {
    #[track_caller]
    fn check(method: &str, to: (&str, u16), path: &str, origin: &str, absolute: &str, host: &str) {
        let target = target(to.0, to.1);
        let head = format!("{method} http://x/ HTTP/1.1");
        let expected = format!("{method} {origin} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(send(&head, &onward(&target, path, Form::Origin)), expected);
        let expected = format!("{method} {absolute} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(send(&head, &onward(&target, path, Form::Absolute { credential: None })), expected);
    }
    check("GET", ("e.x", 80), "/p?q", "/p?q", "http://e.x/p?q", "e.x");
    check("GET", ("e.x", 8080), "", "/", "http://e.x:8080/", "e.x:8080");
    check("GET", ("e.x", 443), "?q", "/?q", "http://e.x:443/?q", "e.x:443");
    check("GET", ("192.0.2.1", 80), "//x", "//x", "http://192.0.2.1//x", "192.0.2.1");
    check("GET", ("2001:db8::1", 81), "/", "/", "http://[2001:db8::1]:81/", "[2001:db8::1]:81");
    check("OPTIONS", ("e.x", 80), "", "*", "http://e.x", "e.x");
    check("OPTIONS", ("e.x", 80), "/", "/", "http://e.x/", "e.x");
    check("OPTIONS", ("e.x", 80), "?q", "/?q", "http://e.x/?q", "e.x");
}

#[test]
fn an_upstream_gets_its_own_credential_and_a_via_when_asked() {
    let target = target("e.x", 80);
    let secret = Secret::new("Basic dXA=");
    let form = Form::Absolute { credential: Some(&secret) };
    let head = "GET http://e.x/a HTTP/1.1\r\nHost: e.x\r\nProxy-Authorization: Basic bWU=\r\nVia: 1.1 a";
    let sent = send(head, &Onward { via: Some("moorgate"), ..onward(&target, "/a", form) });
    assert_eq!(
        sent,
        "GET http://e.x/a HTTP/1.1\r\nHost: e.x\r\nVia: 1.1 a\r\nVia: 1.1 moorgate\r\n\
         Proxy-Authorization: Basic dXA=\r\n\r\n"
    );
}

#[test]
fn our_own_via_is_known_again() {
    #[track_caller]
    fn check(via: &str, expected: bool) {
        let (head, _) = parsed(&format!("GET http://e.x/ HTTP/1.1\r\nA: 1.1 mg-1\r\nVia: {via}"));
        assert_eq!(came_back(&head, "mg-1"), expected, "{via}");
    }
    check("1.1 mg-1", true);
    check("1.0 a, HTTP/1.1  MG-1 (comment)", true);
    check("1.1 a\r\nvia: 1.1 mg-1", true);
    check("1.1 mg-10", false);
    check("1.1 a (mg-1)", false);
    check("mg-1", false);
    check("", false);
}

const GET: &str = "GET http://e.x/ HTTP/1.1";
const OLD: &str = "GET http://e.x/ HTTP/1.0";

fn answer(asked: &str, head: &str, close: bool) -> (String, Sent) {
    let (_, asked) = parsed(asked);
    let bytes = format!("{head}\r\n\r\n");
    let read = parse_response(bytes.as_bytes(), &mut Scan::default(), &HeadLimits::default());
    let (head, _) = read.unwrap().unwrap();
    let Ok(Answered::Final { body, .. }) = framing::response(&head, &asked) else { panic!("{head:?}") };
    let mut out = Vec::new();
    let sent = response(&mut out, &head, body, &Back { close, ..back(&asked) });
    (String::from_utf8(out).unwrap(), sent)
}

#[track_caller]
fn check_response(asked: &str, head: &str, expected: &str, persists: bool, decode: bool) {
    let (out, sent) = answer(asked, head, false);
    assert_eq!(out, format!("{expected}\r\n\r\n"), "{head}");
    assert_eq!(sent, Sent { persists, decode }, "{head}");
}

#[test]
fn responses_lose_what_stops_here() {
    check_response(
        GET,
        "HTTP/1.1 200 Fine \r\nserver: x\r\nConnection: keep-alive, X-Hop\r\nX-hop: 1\r\nSet-Cookie: a\r\n\
         Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nMoorgate-Exit: fake\r\nMoorgate-Error: fake\r\n\
         Content-Length: 5\r\nX: y\r\nSet-Cookie: b\r\nProxy-Connection: close\r\nUpgrade: h2c\r\n\
         Proxy-Status: up; error=x\r\nProxy-Authentication-Info: a\r\nWWW-Authenticate: Basic",
        "HTTP/1.1 200 Fine \r\nserver: x\r\nSet-Cookie: a\r\nContent-Length: 5\r\nX: y\r\nSet-Cookie: b\r\n\
         Proxy-Status: up; error=x\r\nWWW-Authenticate: Basic",
        true,
        false,
    );
}

#[test]
fn response_framing_and_persistence() {
    let close = "\r\nConnection: close";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X";
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5";
    let head = "HEAD http://e.x/ HTTP/1.1";
    check_response(GET, chunked, chunked, true, false);
    check_response(OLD, chunked, "HTTP/1.1 200 OK\r\nConnection: close", false, true);
    check_response(GET, length, length, true, false);
    check_response(OLD, length, &format!("{length}{close}"), false, false);
    check_response(&format!("{GET}{close}"), length, &format!("{length}{close}"), false, false);
    check_response(GET, &format!("{length}{close}"), length, true, false);
    check_response(GET, "HTTP/1.0 200 OK\r\nContent-Length: 5, 5", length, true, false);
    check_response(GET, "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nConnection: close", false, false);
    check_response(GET, "HTTP/1.1 204", "HTTP/1.1 204 ", true, false);
    check_response(GET, "HTTP/1.1 204 \r\nContent-Length: 0", "HTTP/1.1 204 ", true, false);
    check_response(GET, "HTTP/1.1 204 \r\nTransfer-Encoding: chunked", "HTTP/1.1 204 ", true, false);
    check_response(
        GET,
        "HTTP/1.1 304 \r\nContent-Length: 9",
        "HTTP/1.1 304 \r\nContent-Length: 9",
        true,
        false,
    );
    check_response(head, length, length, true, false);
    check_response(head, chunked, "HTTP/1.1 200 OK", true, false);
    check_response(head, "HTTP/1.1 200 OK", "HTTP/1.1 200 OK", true, false);
    let (out, sent) = answer(GET, length, true);
    assert_eq!((out, sent.persists), (format!("{length}{close}\r\n\r\n"), false));
}

#[test]
fn a_connection_option_of_an_origin_hides_no_framing() {
    let head =
        "HTTP/1.1 200 OK\r\nConnection: Content-Length, Set-Cookie\r\nContent-Length: 5\r\nSet-Cookie: a";
    check_response(GET, head, "HTTP/1.1 200 OK\r\nContent-Length: 5", true, false);
}

fn response_head(head: &str) -> ResponseHead {
    let bytes = format!("{head}\r\n\r\n");
    parse_response(bytes.as_bytes(), &mut Scan::default(), &HeadLimits::default()).unwrap().unwrap().0
}

fn announce() -> Announce<'static> {
    let session = SessionNews { what: News::Held, expires_in_s: 9, idle_s: None, same_address: false };
    Announce { pool: "p", exit: "e", address: None, session: Some(session) }
}

#[test]
fn the_exit_is_announced_behind_the_origins_fields() {
    let (_, asked) = parsed(GET);
    let head = response_head("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nMoorgate-Exit: fake");
    let mut out = Vec::new();
    response(
        &mut out,
        &head,
        BodyKind::Length(5),
        &Back { announce: Some(&announce()), close: true, ..back(&asked) },
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nMoorgate-Exit: p/e\r\nMoorgate-Session: held; expires-in=9\r\n\
         Connection: close\r\n\r\n"
    );
}

#[test]
fn interim_answers_are_for_clients_that_know_them() {
    let head = response_head(
        "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\nConnection: close\r\nContent-Length: 0\r\nMoorgate-Exit: x",
    );
    let mut out = Vec::new();
    interim(&mut out, &head, &back(&parsed(OLD).1));
    assert_eq!(out, b"");
    interim(&mut out, &head, &back(&parsed(GET).1));
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n");
}

#[test]
fn a_switch_keeps_what_it_switches_to() {
    let head = response_head(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: k",
    );
    let mut out = Vec::new();
    switching(
        &mut out,
        &head,
        &Back { announce: Some(&Announce { session: None, ..announce() }), ..back(&parsed(GET).1) },
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: k\r\nMoorgate-Exit: p/e\r\n\
         Connection: Upgrade\r\n\r\n"
    );
}

/// Field lines that a proxy has something to do with, and others.
fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => prop::sample::select(vec![
            "Host: old.example", "Content-Length: 5", "content-length: 5, 05", "Transfer-Encoding: chunked",
            "Connection: close", "Connection: X-Hop, Content-Length", "Connection: Transfer-Encoding, Host, Upgrade",
            "X-Hop: 1", "Proxy-Authorization: Basic secret", "Moorgate-Session: secret", "TE: trailers",
            "Upgrade: websocket", "Expect: 100-continue", "Trailer: X", "Keep-Alive: secret",
            "Proxy-Connection: keep-alive", "Via: 1.1 a", "Set-Cookie: a=b",
        ])
        .prop_map(str::to_owned),
        1 => "[A-Za-z-]{1,12}: [!-~]{0,8}",
    ];
    prop::collection::vec(line, 0..8)
        .prop_map(|lines| lines.iter().map(|line| format!("\r\n{line}")).collect())
}

/// Whether something in `sent` should have stopped here.
fn strays(received: &Fields, sent: &Fields) -> bool {
    let named = received.has_element(Known::Connection, "x-hop");
    sent.iter().any(|field| {
        (field.known.stops_here() && field.known != Known::Connection) || (named && field.is("x-hop"))
    })
}

proptest! {
    #[test]
    fn a_forwarded_request_has_the_same_body_and_one_host(
        lines in lines(), version in prop::sample::select(vec!["1.0", "1.1"]),
    ) {
        let bytes = format!("POST http://e.x/ HTTP/{version}{lines}\r\n\r\n");
        let read = parse_request(bytes.as_bytes(), &mut Scan::default(), &HeadLimits::default());
        let (head, _) = read.unwrap().unwrap();
        let Ok(asked) = framing::request(&head) else { return Ok(()) };
        let target = target("e.x", 8080);
        let mut out = Vec::new();
        request(&mut out, &head, &asked, &onward(&target, "/", Form::Origin));
        let read = parse_request(&out, &mut Scan::default(), &HeadLimits::default());
        let (sent, eaten) = read.unwrap().unwrap();
        prop_assert_eq!(eaten, out.len());
        prop_assert_eq!(sent.version(), Version::Http11);
        prop_assert_eq!(sent.fields().all(Known::Host).collect::<Vec<_>>(), [b"e.x:8080"]);
        prop_assert!(!strays(head.fields(), sent.fields()) && !bytes_of(&out).contains("secret"), "{}", bytes_of(&out));
        let again = framing::request(&sent).unwrap();
        prop_assert_eq!((again.body, again.upgrade), (asked.body, asked.upgrade));
        prop_assert_eq!(again.expects_continue, asked.expects_continue);
        prop_assert!(again.persists);
    }

    #[test]
    fn a_forwarded_answer_has_the_same_body(
        lines in lines(), status in prop::sample::select(vec![200_u16, 204, 304, 404]),
        asked in prop::sample::select(vec![GET, OLD, "HEAD http://e.x/ HTTP/1.1"]), close in any::<bool>(),
    ) {
        let (_, asked) = parsed(asked);
        let bytes = format!("HTTP/1.1 {status} x{lines}\r\n\r\n");
        let read = parse_response(bytes.as_bytes(), &mut Scan::default(), &HeadLimits::default());
        let (head, _) = read.unwrap().unwrap();
        let Ok(Answered::Final { body, .. }) = framing::response(&head, &asked) else { return Ok(()) };
        let mut out = Vec::new();
        let sent = response(&mut out, &head, body, &Back { close, ..back(&asked) });
        let read = parse_response(&out, &mut Scan::default(), &HeadLimits::default());
        let (again, eaten) = read.unwrap().unwrap();
        prop_assert_eq!(eaten, out.len());
        prop_assert!(!strays(head.fields(), again.fields()) && !bytes_of(&out).contains("secret"), "{}", bytes_of(&out));
        let body = if sent.decode { BodyKind::UntilClose } else { body };
        let alive = Answered::Final { body, persists: sent.persists };
        prop_assert_eq!(framing::response(&again, &asked).unwrap(), alive);
    }
}

fn bytes_of(out: &[u8]) -> String {
    out.escape_ascii().to_string()
}
