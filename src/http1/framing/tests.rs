use super::super::head::{HeadLimits, Scan, parse_request, parse_response};
use super::*;

fn ask(head: &str) -> Result<Asked, Violation> {
    let bytes = format!("{head}\r\n\r\n");
    let (head, _) = parse_request(bytes.as_bytes(), &mut Scan::default(), &HeadLimits::default())?.unwrap();
    request(&head)
}

const GET: &str = "GET http://e.x/ HTTP/1.1";
const OLD: &str = "GET http://e.x/ HTTP/1.0";

fn answer_to(asked: &Asked, head: &str) -> Result<Answered, Violation> {
    let bytes = format!("{head}\r\n\r\n");
    let (head, _) = parse_response(bytes.as_bytes(), &mut Scan::default(), &HeadLimits::default())?.unwrap();
    response(&head, asked)
}

#[track_caller]
fn body(lines: &str, expected: BodyKind) {
    assert_eq!(ask(&format!("{GET}\r\n{lines}")).unwrap().body, expected, "{lines}");
}

#[track_caller]
fn refused(head: &str) {
    assert!(matches!(ask(head), Err(Violation::Malformed(_))), "{head}");
}

#[test]
fn request_bodies() {
    body("Host: e.x", BodyKind::None);
    body("Content-Length: 0", BodyKind::Length(0));
    body("Content-Length: 5", BodyKind::Length(5));
    body("Content-Length: 5\r\nContent-Length: 5", BodyKind::Length(5));
    body("Transfer-Encoding: chunked", BodyKind::Chunked);
    body("Transfer-Encoding: ChunKed", BodyKind::Chunked);
}

#[test]
fn ambiguous_requests_are_refused() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 1e3",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding:",
        "Transfer-Encoding: ,chunked",
        "Host: a\r\nHost: a",
        "Host: a\r\nHost: b",
        "Host: a, b",
        "Host: a b",
        "Host: a/b",
        "Host: u@a",
        "Host: a\\b",
        "Host: a?b",
        "Host: a#b",
        "Content_Length: 5",
        "Transfer_encoding: chunked",
        "Expect: 100-continue, 100-continue",
        "Expect: 100-continue\r\nExpect: 100-continue",
        "Expect: y 100-continue",
        "Expect: 100-continue;x",
        "Expect: 200-ok",
        "Expect:",
    ] {
        refused(&format!("{GET}\r\n{lines}"));
    }
    refused(&format!("{OLD}\r\nTransfer-Encoding: chunked"));
    refused("CONNECT e.x:443 HTTP/1.1\r\nContent-Length: 5");
    refused("CONNECT e.x:443 HTTP/1.1\r\nTransfer-Encoding: chunked");
    refused("CONNECT e.x:443 HTTP/1.1\r\nHost: a\r\nHost: b");
    refused(&format!("{GET}\r\nConnection: {}", "a,".repeat(65)));
}

#[test]
fn hosts_may_be_missing_empty_or_other() {
    for head in [
        GET,
        OLD,
        "GET http://e.x/ HTTP/1.1\r\nHost: other.example:81",
        "GET http://e.x/ HTTP/1.1\r\nHost:",
        "GET http://e.x/ HTTP/1.1\r\nHost: [::1]:80",
        "CONNECT e.x:443 HTTP/1.1",
        "CONNECT e.x:443 HTTP/1.0",
        "CONNECT e.x:443 HTTP/1.1\r\nHost: e.x",
        "CONNECT e.x:443 HTTP/1.1\r\nContent-Length: 0",
    ] {
        assert!(ask(head).is_ok(), "{head}");
    }
}

#[test]
fn client_connections_live_on_or_not() {
    #[track_caller]
    fn check(head: &str, persists: bool) {
        assert_eq!(ask(head).unwrap().persists, persists, "{head}");
    }
    check(GET, true);
    check(&format!("{GET}\r\nConnection: keep-alive"), true);
    check(&format!("{GET}\r\nProxy-Connection: Keep-Alive"), true);
    check(&format!("{GET}\r\nConnection: close"), false);
    check(&format!("{GET}\r\nConnection: x, CLOSE"), false);
    check(&format!("{GET}\r\nConnection: keep-alive\r\nConnection: close"), false);
    check(&format!("{GET}\r\nProxy-Connection: close"), false);
    check(OLD, false);
    check(&format!("{OLD}\r\nConnection: keep-alive"), false);
}

#[test]
fn upgrades_and_expectations() {
    #[track_caller]
    fn check(head: &str, upgrade: bool, expects_continue: bool) {
        let asked = ask(head).unwrap();
        assert_eq!((asked.upgrade, asked.expects_continue), (upgrade, expects_continue), "{head}");
    }
    check(GET, false, false);
    check(&format!("{GET}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket"), true, false);
    check(&format!("{GET}\r\nUpgrade: websocket"), false, false);
    check(&format!("{GET}\r\nConnection: upgrade"), false, false);
    for http in ["h2c", "H2C", "websocket, h2c", "h2c/2", "h2", "HTTP/2.0", "http/1.1"] {
        check(&format!("{GET}\r\nConnection: upgrade\r\nUpgrade: {http}"), false, false);
    }
    check(&format!("{GET}\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5"), false, false);
    check(&format!("{GET}\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0"), true, false);
    check(&format!("{OLD}\r\nConnection: upgrade\r\nUpgrade: websocket"), false, false);
    check("CONNECT e.x:80 HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket", false, false);
    check(&format!("{GET}\r\nExpect: 100-Continue\r\nContent-Length: 5"), false, true);
    check(&format!("{GET}\r\nExpect: 100-continue"), false, false);
    check(&format!("{GET}\r\nExpect: 100-continue\r\nContent-Length: 0"), false, false);
    check(&format!("{OLD}\r\nExpect: x"), false, false);
    check(&format!("{OLD}\r\nExpect: 100-continue\r\nContent-Length: 5"), false, false);
}

#[test]
fn hops_are_counted_for_trace_and_options() {
    #[track_caller]
    fn check(method: &str, lines: &str, expected: Result<Option<u64>, ()>) {
        let asked = ask(&format!("{method} http://e.x/ HTTP/1.1\r\n{lines}"));
        assert_eq!(asked.map(|asked| asked.max_forwards).map_err(drop), expected, "{method} {lines}");
    }
    for method in ["TRACE", "OPTIONS"] {
        check(method, "A: b", Ok(None));
        check(method, "Max-Forwards: 0", Ok(Some(0)));
        check(method, "max-forwards: 007", Ok(Some(7)));
        check(method, "Max-Forwards: 99999999999999999999", Ok(Some(u64::MAX)));
        for bad in
            ["Max-Forwards:", "Max-Forwards: -1", "Max-Forwards: 1, 2", "Max-Forwards: 1\r\nMax-Forwards: 1"]
        {
            check(method, bad, Err(()));
        }
    }
    check("GET", "Max-Forwards: x", Ok(None));
    check("GET", "Max-Forwards: 0", Ok(None));
    check("TRACE", "Content-Length: 0", Ok(None));
    check("TRACE", "Content-Length: 1", Err(()));
    check("TRACE", "Transfer-Encoding: chunked", Err(()));
}

#[test]
fn methods_are_told_apart() {
    let asked = ask("HEAD http://e.x/ HTTP/1.1").unwrap();
    assert!(asked.head_only && !asked.connect);
    let asked = ask("CONNECT e.x:443 HTTP/1.1").unwrap();
    assert!(!asked.head_only && asked.connect);
    assert!(!ask("head http://e.x/ HTTP/1.1").unwrap().head_only);
}

#[test]
fn response_bodies_and_upstream_connections() {
    #[track_caller]
    fn check(asked: &Asked, head: &str, body: BodyKind, persists: bool) {
        assert_eq!(answer_to(asked, head), Ok(Answered::Final { body, persists }), "{head}");
    }
    use BodyKind::{Chunked, Length, None, UntilClose};
    let get = ask(GET).unwrap();
    check(&get, "HTTP/1.1 200 OK", UntilClose, false);
    check(&get, "HTTP/1.1 200 OK\r\nContent-Length: 5", Length(5), true);
    check(&get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close", Length(5), false);
    check(&get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", Chunked, true);
    check(&get, "HTTP/1.0 200 OK\r\nContent-Length: 5", Length(5), false);
    check(&get, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive", Length(5), true);
    check(&get, "HTTP/1.0 200 OK\r\nConnection: keep-alive", UntilClose, false);
    check(&get, "HTTP/1.1 204 No Content", None, true);
    check(&get, "HTTP/1.1 204 No Content\r\nContent-Length: 0", None, true);
    check(&get, "HTTP/1.1 204 No Content\r\nContent-Length: 5", None, false);
    check(&get, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked", None, false);
    check(&get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5", None, true);
    check(&get, "HTTP/1.1 205 Reset Content\r\nContent-Length: 0", Length(0), true);
    check(&get, "HTTP/1.1 600 x\r\nContent-Length: 1", Length(1), true);
    let head = ask("HEAD http://e.x/ HTTP/1.1").unwrap();
    check(&head, "HTTP/1.1 200 OK\r\nContent-Length: 5", None, true);
    check(&head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", None, true);
    check(&head, "HTTP/1.1 200 OK", None, true);
}

#[test]
fn interim_answers_and_switches() {
    let get = ask(GET).unwrap();
    for status in ["100 Continue", "102 Processing", "103 Early Hints", "199 x"] {
        assert_eq!(answer_to(&get, &format!("HTTP/1.1 {status}")), Ok(Answered::Interim));
    }
    assert!(answer_to(&get, "HTTP/1.1 101 Switching Protocols").is_err());
    let upgrade = ask(&format!("{GET}\r\nConnection: Upgrade\r\nUpgrade: websocket")).unwrap();
    let switches = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket";
    assert_eq!(answer_to(&upgrade, switches), Ok(Answered::Switching));
    assert!(answer_to(&upgrade, "HTTP/1.1 101 Switching Protocols").is_err());
    assert!(answer_to(&get, switches).is_err());
}

#[test]
fn ambiguous_responses_are_refused() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: x",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip",
    ] {
        for asked in [ask(GET).unwrap(), ask("HEAD http://e.x/ HTTP/1.1").unwrap()] {
            assert!(answer_to(&asked, &format!("HTTP/1.1 200 OK\r\n{lines}")).is_err(), "{lines}");
        }
    }
    assert!(answer_to(&ask(GET).unwrap(), "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked").is_err());
}
