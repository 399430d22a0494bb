use http::Request;

use super::*;
use crate::http1::head::{Scan, parse_request, parse_response};

/// What a request says in HTTP/1, lines joined.
#[track_caller]
fn check(request: Request<()>, ended: bool, expected: &str, framing: Framing) {
    let (parts, ()) = request.into_parts();
    let written = of_request(&parts, ended).unwrap();
    let text = String::from_utf8(written.to_vec()).unwrap();
    assert_eq!((text.replace("\r\n", "|"), written.framing()), (expected.to_owned(), framing));
    parse_request(&written, &mut Scan::default(), &Default::default()).expect("it is a head");
}

fn request(method: &str, uri: &str) -> http::request::Builder {
    Request::builder().method(method).uri(uri)
}

#[test]
fn requests_are_said_as_to_a_proxy() {
    let connect = request("CONNECT", "example.com:443").header("proxy-authorization", "Basic x");
    let expected = "CONNECT example.com:443 HTTP/1.1|host: example.com:443|proxy-authorization: Basic x||";
    check(connect.body(()).unwrap(), false, expected, Framing::Plain);
    let get = request("GET", "http://a.test/x?y").header("host", "other").header("te", "trailers");
    check(get.body(()).unwrap(), true, "GET http://a.test/x?y HTTP/1.1|host: a.test||", Framing::Plain);
    let post = request("POST", "http://a.test:81/");
    let expected = "POST http://a.test:81/ HTTP/1.1|host: a.test:81|transfer-encoding: chunked||";
    check(post.body(()).unwrap(), false, expected, Framing::Chunked);
    let post = request("POST", "http://a.test/").header("content-length", "3");
    let expected = "POST http://a.test/ HTTP/1.1|host: a.test|content-length: 3||";
    check(post.body(()).unwrap(), false, expected, Framing::Plain);
    let options = request("OPTIONS", "http://a.test/*");
    check(options.body(()).unwrap(), true, "OPTIONS http://a.test/* HTTP/1.1|host: a.test||", Framing::Plain);
    check(request("GET", "/x").body(()).unwrap(), true, "GET /x HTTP/1.1|host: ||", Framing::Plain);
}

#[test]
fn crumbs_of_cookies_are_one_field() {
    let get = request("GET", "http://a/").header("cookie", "a=1").header("x", "1").header("cookie", "b=2");
    let expected = "GET http://a/ HTTP/1.1|host: a|x: 1|cookie: a=1; b=2||";
    check(get.body(()).unwrap(), true, expected, Framing::Plain);
}

#[test]
fn answers_lose_what_is_of_a_connection() {
    let text =
        b"HTTP/1.1 407 Proxy Authentication Required: auth_required\r\nMoorgate-Error: auth_required\r\n\
        Proxy-Authenticate: Basic\r\nSet-Cookie: a\r\nX: 1\r\nSet-Cookie: b\r\nConnection: close\r\n\
        Transfer-Encoding: chunked\r\nTrailer: y\r\n\r\n";
    let (head, _) = parse_response(text, &mut Scan::default(), &Default::default()).unwrap().unwrap();
    let response = of_answer(&head).unwrap();
    assert_eq!(response.status(), 407);
    let pairs = response.headers().iter();
    let fields: Vec<_> = pairs.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let expected = [
        ("moorgate-error", "auth_required"),
        ("proxy-authenticate", "Basic"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
        ("x", "1"),
        ("trailer", "y"),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn trailers_go_both_ways() {
    let headers = of_trailers(b"X-A: 1\r\nx-b:  two words \r\n").unwrap();
    assert_eq!(trailer_lines(&headers), b"x-a: 1\r\nx-b: two words\r\n");
    assert!(of_trailers(b"").unwrap().is_empty());
}
