use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: 100 };

fn read(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, Violation> {
    parse_request(bytes, &mut Scan::default(), &LIMITS)
}

fn read_response(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, Violation> {
    parse_response(bytes, &mut Scan::default(), &LIMITS)
}

#[track_caller]
fn malformed(bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let read = read(bytes);
    assert!(matches!(read, Err(Violation::Malformed(_))), "{:?}: {read:?}", bytes.escape_ascii().to_string());
}

#[track_caller]
fn malformed_response(bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let read = read_response(bytes);
    assert!(matches!(read, Err(Violation::Malformed(_))), "{:?}: {read:?}", bytes.escape_ascii().to_string());
}

#[test]
fn a_request_is_read_and_what_follows_is_left() {
    let bytes = b"POST http://e.x/a?b HTTP/1.1\r\nhost: e.x\r\nX-A:  b \r\n\r\nbody";
    let (head, eaten) = read(bytes).unwrap().unwrap();
    assert_eq!(&bytes[eaten..], b"body");
    assert_eq!((head.method(), head.target()), ("POST", "http://e.x/a?b"));
    assert_eq!(head.version(), Version::Http11);
    let fields: Vec<_> = head.fields().iter().map(|field| (field.name(), field.value)).collect();
    assert_eq!(fields, [("host", &b"e.x"[..]), ("X-A", b"b")]);
}

#[test]
fn a_connect_may_be_old_and_bare() {
    let (head, eaten) = read(b"CONNECT e.x:443 HTTP/1.0\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.version(), eaten), (Version::Http10, 28));
    assert!(head.fields().is_empty());
    assert_eq!(head.destination(), Ok(Destination::Connect { authority: "e.x:443" }));
}

#[test]
fn empty_lines_before_a_request_are_passed_over() {
    let (head, eaten) = read(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.method(), eaten), ("GET", 22));
    assert_eq!(read(b"\r\n").map(|read| read.is_some()), Ok(false));
    malformed(b"\nGET / HTTP/1.1\r\n\r\n");
}

#[test]
fn line_ends_are_crlf_alone() {
    malformed("GET / HTTP/1.1\nHost: a\r\n\r\n");
    malformed("GET / HTTP/1.1\r\nHost: a\n\r\n");
    malformed("GET / HTTP/1.1\r\nHost: a\r\n\n");
    malformed("GET / HTTP/1.1\r\nHost: a\n\n");
    malformed("GET / HTTP/1.1\rHost: a\r\n\r\n");
    malformed("GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n");
    malformed("GET / HTTP/1.1\r\r\nA: b\r\n\r\n");
    malformed("GET / HTTP/1.1\r\nA: b\r\r\n\r\n");
    malformed("GET / HTTP/1.1\r\n\rA: b\r\n\r\n");
    malformed("GET /\rx HTTP/1.1\r\n\r\n");
}

#[test]
fn fields_are_strict() {
    for line in [
        "A : b",
        "A\t: b",
        " A: b",
        "\tA: b",
        ": b",
        "A",
        "A b",
        "A b: c",
        "(A): b",
        "A@: b",
        "\u{e9}: b",
        "A: b\0c",
        "A\0: b",
        "A: b\u{1}",
        "A: \u{7f}",
        "A: b\u{b}c",
        "A[]: b",
        "A\": b",
        "A/b: c",
        "A=: b",
    ] {
        malformed(format!("GET / HTTP/1.1\r\n{line}\r\n\r\n"));
        malformed(format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"));
        malformed_response(format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n"));
        malformed_response(format!("HTTP/1.1 200 OK\r\nHost: a\r\n{line}\r\n\r\n"));
    }
    malformed("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n");
    malformed("GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n");
    malformed("GET / HTTP/1.1\r\nA: b\r\n \r\n\r\n");
    malformed_response("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n");
}

#[test]
fn every_byte_of_a_name_and_a_value_is_judged() {
    for byte in 0..=255_u8 {
        let token = super::super::fields::is_token(byte);
        let value = super::super::fields::is_value(byte);
        // Both short and long, since the tokenizer reads 16 and 32 at once.
        for pad in [0, 40] {
            let pad = "x".repeat(pad);
            let name = [b"GET / HTTP/1.1\r\n", pad.as_bytes(), &[byte], b"y: v\r\n\r\n"].concat();
            let expected = token || (byte == b':' && !pad.is_empty());
            assert_eq!(read(&name).is_ok(), expected, "name {byte:#x} {}", pad.len());
            let line = [b"GET / HTTP/1.1\r\nA: ", pad.as_bytes(), &[byte], b"y\r\n\r\n"].concat();
            assert_eq!(read(&line).is_ok(), value, "value {byte:#x} {}", pad.len());
        }
    }
}

#[test]
fn request_lines_are_strict() {
    for line in [
        "GET",
        "GET /",
        "GET / ",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET / x HTTP/1.1",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / HTTP/0.9",
        "GET / HTTP/1",
        "GET / HTTP/1.10",
        "GET / HTTP/11",
        "GET / http/1.1",
        "GET / HTTP/ 1.1",
        "GET / HTTP 1.1",
        "PRI * HTTP/2.0",
        "GET /\u{7f} HTTP/1.1",
        "GET / HTTP/1.1\0",
        "GET /\0 HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET / ICY/1.1",
    ] {
        malformed(format!("{line}\r\n\r\n"));
    }
    malformed(b"GET /\xff HTTP/1.1\r\n\r\n");
    assert!(read("GET http://e.x/\u{e9} HTTP/1.1\r\n\r\n".as_bytes()).is_ok());
}

#[test]
fn responses_are_read() {
    #[track_caller]
    fn check(line: &str, status: u16, reason: &[u8]) {
        let bytes = format!("{line}\r\nA: b\r\n\r\nrest");
        let (head, eaten) = read_response(bytes.as_bytes()).unwrap().unwrap();
        assert_eq!((head.status(), head.reason()), (status, reason), "{line}");
        assert_eq!(&bytes[eaten..], "rest");
        assert_eq!(head.fields().get("a"), Some(&b"b"[..]));
    }
    check("HTTP/1.1 200 OK", 200, b"OK");
    check("HTTP/1.0 404 Not  Found ", 404, b"Not  Found ");
    check("HTTP/1.1 200 ", 200, b"");
    check("HTTP/1.1 200", 200, b"");
    check("HTTP/1.1 503 \u{e9}", 503, "\u{e9}".as_bytes());
    check("HTTP/1.1 999 x", 999, b"x");
}

#[test]
fn status_lines_are_strict() {
    for line in [
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 2000 x",
        "HTTP/1.1  200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1 +20 x",
        "HTTP/1.1 0x1 x",
        "HTTP/1.1 099 x",
        "HTTP/1.1 200\tOK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 200 a\u{1}",
        "HTTP/1.1 200 a\0",
        "HTTP/1.1 200 \u{7f}",
        "SSH-2.0-x",
        "HTTP/1.1200 OK",
    ] {
        malformed_response(format!("{line}\r\n\r\n"));
    }
    malformed_response("\r\nHTTP/1.1 200 OK\r\n\r\n");
    malformed_response("HTTP/1.1 200 OK\n\n");
}

#[test]
fn heads_have_bounds() {
    #[track_caller]
    fn check(bytes: &str, limits: HeadLimits, expected: Result<bool, ()>) {
        let read = parse_request(bytes.as_bytes(), &mut Scan::default(), &limits);
        let seen = match read {
            Ok(read) => Ok(read.is_some()),
            Err(Violation::TooLarge(_)) => Err(()),
            Err(violation) => panic!("{violation}"),
        };
        assert_eq!(seen, expected, "{bytes:?} {limits:?}");
    }
    let two = "GET / HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n";
    check(two, HeadLimits { bytes: two.len(), fields: 2 }, Ok(true));
    check(&format!("{two}and much that follows"), HeadLimits { bytes: two.len(), fields: 2 }, Ok(true));
    check(two, HeadLimits { bytes: two.len() - 1, fields: 2 }, Err(()));
    check(two, HeadLimits { bytes: two.len(), fields: 1 }, Err(()));
    check("GET / HTTP/1.1\r\n", HeadLimits { bytes: 16, fields: 2 }, Err(()));
    check("GET / HTTP/1.1\r\n", HeadLimits { bytes: 17, fields: 2 }, Ok(false));
    check(&"\r\n".repeat(20), HeadLimits { bytes: 40, fields: 2 }, Err(()));

    let many = |n| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(n));
    check(&many(100), LIMITS, Ok(true));
    check(&many(101), LIMITS, Err(()));
    check(&many(1000), HeadLimits { fields: 1000, ..LIMITS }, Ok(true));
    check(&many(1001), HeadLimits { fields: 1000, ..LIMITS }, Err(()));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(65_536 - 18));
    check(&long, LIMITS, Ok(true));
    check(&long.replacen('x', "xx", 1), LIMITS, Err(()));
}

#[test]
fn destinations_are_told_apart() {
    #[track_caller]
    fn check(line: &str, expected: Result<Destination<'_>, Code>) {
        let (head, _) = read(format!("{line} HTTP/1.1\r\n\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!(head.destination().map_err(|fault| fault.code()), expected, "{line}");
    }
    let connect = |authority| Ok(Destination::Connect { authority });
    let plain = |authority, path| Ok(Destination::Plain { authority, path });
    check("CONNECT e.x:443", connect("e.x:443"));
    check("CONNECT [::1]:443", connect("[::1]:443"));
    check("CONNECT /x", connect("/x"));
    check("GET http://e.x/a/b?c=d", plain("e.x", "/a/b?c=d"));
    check("GET HTTP://e.x:81", plain("e.x:81", ""));
    check("GET ws://e.x?q", plain("e.x", "?q"));
    check("GET Ws://[::1]:80/", plain("[::1]:80", "/"));
    check("GET http://e.x?a/b", plain("e.x", "?a/b"));
    check("OPTIONS http://e.x", plain("e.x", ""));
    check("GET http://u:p@e.x/", plain("u:p@e.x", "/"));
    check("GET http:///a", plain("", "/a"));
    check("GET http://e.x/?u=http://f.y/", plain("e.x", "/?u=http://f.y/"));
    check("GET /", Err(Code::NotAProxyRequest));
    check("GET //e.x/", Err(Code::NotAProxyRequest));
    check("OPTIONS *", Err(Code::NotAProxyRequest));
    check("GET https://e.x/", Err(Code::UnsupportedScheme));
    check("GET wss://e.x/", Err(Code::UnsupportedScheme));
    check("GET ftp://e.x/", Err(Code::UnsupportedScheme));
    check("GET e.x:80", Err(Code::BadRequest));
    check("connect e.x:443", Err(Code::BadRequest));
    check("GET e.x/?u=http://f.y/", Err(Code::BadRequest));
    check("GET http:/e.x", Err(Code::BadRequest));
    check("GET 1http://e.x/", Err(Code::BadRequest));
    check("GET ://e.x/", Err(Code::BadRequest));
    check("GET http://e.x/#f", Err(Code::BadRequest));
}

#[test]
fn violations_become_faults() {
    let fault = Fault::from(Violation::TooLarge("x"));
    assert_eq!(fault.code(), Code::HeadTooLarge);
    let fault = Fault::from(Violation::Malformed("it is odd"));
    assert_eq!((fault.code(), fault.detail()), (Code::BadRequest, "The request is not usable: it is odd."));
    assert_eq!(Violation::TooLarge("x").of_response().code(), Code::BadResponse);
}

#[test]
fn debug_shows_no_credential() {
    let bytes = b"GET http://u:hunter2@e.x/ HTTP/1.1\r\nProxy-Authorization: Basic hunter2\r\n\r\n";
    let (head, _) = read(bytes).unwrap().unwrap();
    assert!(!format!("{head:?}").contains("hunter2"));
}

/// All that can be seen of a result.
type Seen = Result<Option<(String, Vec<(String, Vec<u8>)>, usize)>, Violation>;

fn seen(fields: &Fields, line: String, eaten: usize) -> (String, Vec<(String, Vec<u8>)>, usize) {
    (line, fields.iter().map(|field| (field.name().to_owned(), field.value.to_vec())).collect(), eaten)
}

fn see_request(buf: &[u8], scan: &mut Scan, limits: &HeadLimits) -> Seen {
    let read = parse_request(buf, scan, limits)?;
    Ok(read.map(|(head, eaten)| {
        let line = format!("{} {} {:?}", head.method(), head.target(), head.version());
        seen(head.fields(), line, eaten)
    }))
}

fn see_response(buf: &[u8], scan: &mut Scan, limits: &HeadLimits) -> Seen {
    let read = parse_response(buf, scan, limits)?;
    Ok(read.map(|(head, eaten)| {
        let line = format!("{:?} {} {:?}", head.version(), head.status(), head.reason());
        seen(head.fields(), line, eaten)
    }))
}

/// The first result over growing prefixes.
fn grown(
    see: fn(&[u8], &mut Scan, &HeadLimits) -> Seen,
    bytes: &[u8],
    limits: &HeadLimits,
    by: usize,
) -> Seen {
    let mut scan = Scan::default();
    let mut upto = 0;
    loop {
        upto = (upto + by).min(bytes.len());
        let seen = see(&bytes[..upto], &mut scan, limits);
        if upto == bytes.len() || seen != Ok(None) {
            return seen;
        }
    }
}

/// Bytes that look like a head more often than chance would have it.
fn headlike() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => Just(b"\r\n".to_vec()),
        2 => Just(b"GET http://a/ HTTP/1.1\r\n".to_vec()),
        2 => Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        4 => Just(b"Host: a\r\n".to_vec()),
        2 => Just(b"Content-Length: 5\r\n".to_vec()),
        2 => "[ -~]{0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..4),
        1 => prop::sample::select(vec![b"\r".to_vec(), b"\n".to_vec(), b"\0".to_vec(), b" ".to_vec(), b":".to_vec()]),
    ];
    prop::collection::vec(part, 0..10).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_the_cuts(
        bytes in headlike(), by in 1_usize..7, limit in 1_usize..200, fields in 0_usize..5,
    ) {
        let limits = HeadLimits { bytes: limit, fields };
        for see in [see_request, see_response] {
            let whole = see(&bytes, &mut Scan::default(), &limits);
            prop_assert_eq!(&grown(see, &bytes, &limits, 1), &whole);
            prop_assert_eq!(&grown(see, &bytes, &limits, by), &whole);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes).map(|read| read.map(|(head, _)| head.destination().is_ok()));
        let _ = read_response(&bytes);
    }

    #[test]
    fn what_is_read_was_written(
        method in "[A-Z]{1,8}", path in "/[!-~]{0,40}",
        fields in prop::collection::vec(("[A-Za-z!#-]{1,30}", "[!-~]([ -~]{0,60}[!-~])?"), 0..20),
    ) {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let bytes = format!("{method} {path} HTTP/1.1\r\n{lines}\r\n");
        let (head, eaten) = read(bytes.as_bytes()).unwrap().unwrap();
        prop_assert_eq!(eaten, bytes.len());
        prop_assert_eq!((head.method(), head.target()), (&*method, &*path));
        let read: Vec<_> = head.fields().iter().map(|field| (field.name(), field.value)).collect();
        let written: Vec<_> = fields.iter().map(|(name, value)| (&**name, value.as_bytes())).collect();
        prop_assert_eq!(read, written);
    }
}
