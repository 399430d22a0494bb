//! TRACE and OPTIONS that may go no further (RFC 9110 §7.6.2).
//!
//! Owns: the answer of whoever is asked last.
//! Must not know: who that is meant to be, how a fault is answered.

use super::answer::{number, text};
use super::fields::Known;
use super::head::{RequestHead, Version};

/// What any target may be asked through us; others pass, too.
const METHODS: &str = "CONNECT, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, TRACE";

/// The answer to a request whose `Max-Forwards` is used up; `keeps` if the
/// connection can take another request.
pub fn answer(head: &RequestHead, keeps: bool) -> Vec<u8> {
    let body = if head.method() == "TRACE" { seen(head) } else { Vec::new() };
    let mut out = Vec::with_capacity(256 + body.len());
    text(&mut out, &["HTTP/1.1 200 OK\r\n"]);
    if head.method() == "TRACE" {
        text(&mut out, &["Content-Type: message/http\r\n"]);
    } else {
        text(&mut out, &["Allow: ", METHODS, "\r\n"]);
    }
    text(&mut out, &["Cache-Control: no-store\r\nContent-Length: "]);
    number(&mut out, body.len() as u64);
    text(&mut out, &[if keeps { "\r\n\r\n" } else { "\r\nConnection: close\r\n\r\n" }]);
    out.extend_from_slice(&body);
    out
}

/// The request as it came, less what is a secret (RFC 9110 §9.3.8).
fn seen(head: &RequestHead) -> Vec<u8> {
    let version = if head.version() == Version::Http10 { "1.0" } else { "1.1" };
    let mut out = Vec::new();
    text(&mut out, &["TRACE ", head.target(), " HTTP/", version, "\r\n"]);
    for field in head.fields().iter().filter(|field| !is_secret(field.known)) {
        out.extend_from_slice(field.name);
        text(&mut out, &[": "]);
        out.extend_from_slice(field.value);
        text(&mut out, &["\r\n"]);
    }
    text(&mut out, &["\r\n"]);
    out
}

fn is_secret(known: Known) -> bool {
    matches!(known, Known::Authorization | Known::Cookie | Known::Moorgate | Known::ProxyAuthorization)
}

#[cfg(test)]
mod tests {
    use super::super::head::{HeadLimits, Scan, parse_request};
    use super::*;

    fn answered(head: &str, keeps: bool) -> String {
        let bytes = format!("{head}\r\n\r\n");
        let read = parse_request(bytes.as_bytes(), &mut Scan::default(), &HeadLimits::default());
        String::from_utf8(answer(&read.unwrap().unwrap().0, keeps)).unwrap()
    }

    #[test]
    fn a_trace_is_mirrored_without_its_secrets() {
        let head = "TRACE http://e.x/a?b HTTP/1.1\r\nHost: e.x\r\nx-A:  b \r\nCookie: c=secret\r\n\
                    Proxy-Authorization: Basic secret\r\nauthorization: secret\r\nMoorgate-Session: secret\r\n\
                    Max-Forwards: 0";
        let seen = "TRACE http://e.x/a?b HTTP/1.1\r\nHost: e.x\r\nx-A: b\r\nMax-Forwards: 0\r\n\r\n";
        let length = seen.len();
        assert_eq!(
            answered(head, true),
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: message/http\r\nCache-Control: no-store\r\n\
                 Content-Length: {length}\r\n\r\n{seen}"
            )
        );
    }

    #[test]
    fn options_are_answered_without_a_body() {
        let said = answered("OPTIONS http://e.x HTTP/1.0\r\nMax-Forwards: 0", false);
        assert!(said.starts_with("HTTP/1.1 200 OK\r\nAllow: CONNECT, "), "{said}");
        assert!(said.ends_with("\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), "{said}");
    }
}
