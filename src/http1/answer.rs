//! The answers that Moorgate makes itself (SPEC §4).
//!
//! Owns: the success of a CONNECT, the fields that tell a client its exit
//! ([`Announce`]), and a [`Fault`] as an answer.
//! Must not know: why a request failed, how an origin's answer is passed on.

use std::net::IpAddr;

use serde::Serialize;

use crate::core::fault::Fault;
use crate::core::pin::News;

/// What a success tells the client about its exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce<'a> {
    /// The pool's name.
    pub pool: &'a str,
    /// The exit's id.
    pub exit: &'a str,
    /// The address that the origin sees, when it is known.
    pub address: Option<IpAddr>,
    /// The session, if the request had one.
    pub session: Option<SessionNews>,
}

/// What became of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionNews {
    /// What this answer is to the session.
    pub what: News,
    /// What is left of the ttl after this request, in whole seconds, rounded
    /// down.
    pub expires_in_s: u64,
    /// The pin's idle time in seconds, where it has one.
    pub idle_s: Option<u64>,
    /// Moved, to an exit with the same address.
    pub same_address: bool,
}

impl Announce<'_> {
    /// Appends the fields.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Moorgate-Exit: ");
        visible(out, self.pool);
        out.push(b'/');
        visible(out, self.exit);
        out.extend_from_slice(b"\r\n");
        if let Some(address) = self.address {
            text(out, &["Moorgate-Exit-Address: ", &address.to_canonical().to_string(), "\r\n"]);
        }
        let Some(session) = self.session else { return };
        let what = session.what.word();
        text(out, &["Moorgate-Session: ", what, "; expires-in="]);
        number(out, session.expires_in_s);
        if let Some(idle) = session.idle_s {
            text(out, &["; idle="]);
            number(out, idle);
        }
        text(out, &[if session.same_address { "; same-address\r\n" } else { "\r\n" }]);
    }
}

/// The success of a CONNECT.
pub fn established(announce: Option<&Announce<'_>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"HTTP/1.1 200 Connection established\r\n");
    if let Some(announce) = announce {
        announce.write(&mut out);
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The value of `Proxy-Authenticate`. Constant: Chromium caches a credential
/// for proxy and realm.
pub(crate) const CHALLENGE: &str = "Basic realm=\"moorgate\", charset=\"UTF-8\"";

/// How a failed request's connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultContext {
    /// It was a CONNECT, which always closes when it is refused.
    pub connect: bool,
    /// It was a HEAD, whose answer has no body.
    pub head_only: bool,
    /// The connection can take another request: the client wants to, and the
    /// body of this one was read to its end.
    pub keeps: bool,
}

impl FaultContext {
    /// Before anything is known of the request.
    pub const UNREAD: Self = Self { connect: false, head_only: false, keeps: false };
}

/// A failure as an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultAnswer {
    /// Head and body.
    pub bytes: Vec<u8>,
    /// It says `Connection: close`.
    pub closes: bool,
}

/// RFC 9457.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
}

/// A failure of ours as an answer.
pub fn fault(fault: &Fault, context: FaultContext) -> FaultAnswer {
    let code = fault.code();
    let closes = context.connect || code.closes() || !context.keeps;
    let problem = Problem {
        r#type: &format!("urn:moorgate:error:{}", code.name()),
        title: code.title(),
        status: code.status(),
        code: code.name(),
        detail: fault.detail(),
    };
    // Strings and a number always serialise.
    let mut body = serde_json::to_vec(&problem).unwrap_or_default();
    body.push(b'\n');

    let mut out = Vec::with_capacity(512 + body.len());
    text(&mut out, &["HTTP/1.1 "]);
    number(&mut out, u64::from(code.status()));
    // The reason is the one text of a failed CONNECT that most clients show.
    text(&mut out, &[" ", code.reason(), ": ", code.name(), "\r\n"]);
    text(&mut out, &["Moorgate-Error: ", code.name(), "\r\n"]);
    let error = code.proxy_status();
    text(&mut out, &["Proxy-Status: moorgate; error=", error, "; details=\"", code.name(), "\"\r\n"]);
    text(&mut out, &["Cache-Control: no-store\r\nContent-Type: application/problem+json\r\n"]);
    if code.status() == 407 {
        text(&mut out, &["Proxy-Authenticate: ", CHALLENGE, "\r\n"]);
    }
    if let Some(wait) = fault.retry_after_s() {
        text(&mut out, &["Retry-After: "]);
        number(&mut out, u64::from(wait));
        text(&mut out, &["\r\n"]);
    }
    text(&mut out, &["Content-Length: "]);
    number(&mut out, body.len() as u64);
    text(&mut out, &[if closes { "\r\nConnection: close\r\n\r\n" } else { "\r\n\r\n" }]);
    if !context.head_only {
        out.append(&mut body);
    }
    FaultAnswer { bytes: out, closes }
}

pub(super) fn text(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A configured name, made safe for a field: what is not visible ASCII becomes
/// a question mark.
fn visible(out: &mut Vec<u8>, name: &str) {
    out.extend(name.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c as u8 } else { b'?' }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::code::Code;

    const KEEPS: FaultContext = FaultContext { connect: false, head_only: false, keeps: true };

    fn said(answer: &FaultAnswer) -> (&str, &str) {
        std::str::from_utf8(&answer.bytes).unwrap().split_once("\r\n\r\n").unwrap()
    }

    #[test]
    fn established_is_exact() {
        assert_eq!(established(None), b"HTTP/1.1 200 Connection established\r\n\r\n");
        let announce = Announce { pool: "us", exit: "ams-1", address: None, session: None };
        assert_eq!(
            established(Some(&announce)),
            b"HTTP/1.1 200 Connection established\r\nMoorgate-Exit: us/ams-1\r\n\r\n"
        );
    }

    #[test]
    fn announce_tells_exit_address_and_session() {
        #[track_caller]
        fn check(session: SessionNews, expected: &str) {
            let mut out = Vec::new();
            let address = Some("::ffff:203.0.113.7".parse().unwrap());
            Announce { pool: "p\r\n", exit: "\u{e9}", address, session: Some(session) }.write(&mut out);
            let whole = format!(
                "Moorgate-Exit: p??/?\r\nMoorgate-Exit-Address: 203.0.113.7\r\nMoorgate-Session: {expected}\r\n"
            );
            assert_eq!(String::from_utf8(out).unwrap(), whole);
        }
        let news = SessionNews { what: News::New, expires_in_s: 599, idle_s: None, same_address: false };
        check(news, "new; expires-in=599");
        check(SessionNews { what: News::Held, idle_s: Some(60), ..news }, "held; expires-in=599; idle=60");
        let moved = SessionNews { what: News::Moved, same_address: true, ..news };
        check(SessionNews { expires_in_s: 0, ..moved }, "moved; expires-in=0; same-address");
    }

    #[test]
    fn a_fault_is_told_in_full() {
        let down = Fault::new(Code::ExitDown, "Say \"failover\"\nor wait.")
            .retry_after(std::time::Duration::from_millis(29_001));
        let answer = fault(&down, KEEPS);
        let (head, body) = said(&answer);
        assert_eq!(
            head,
            format!(
                "HTTP/1.1 503 Service Unavailable: exit_down\r\n\
                 Moorgate-Error: exit_down\r\n\
                 Proxy-Status: moorgate; error=destination_unavailable; details=\"exit_down\"\r\n\
                 Cache-Control: no-store\r\n\
                 Content-Type: application/problem+json\r\n\
                 Retry-After: 30\r\n\
                 Content-Length: {}",
                body.len()
            )
        );
        assert!(!answer.closes);
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["type"], "urn:moorgate:error:exit_down");
        assert_eq!(problem["status"], 503);
        assert_eq!(problem["code"], "exit_down");
        assert_eq!(problem["title"], Code::ExitDown.title());
        assert_eq!(problem["detail"], "Say \"failover\"\nor wait.");
    }

    #[test]
    fn only_a_407_challenges() {
        for code in Code::all() {
            let answer = fault(&Fault::new(code, "x"), KEEPS);
            let challenges = said(&answer)
                .0
                .contains("\r\nProxy-Authenticate: Basic realm=\"moorgate\", charset=\"UTF-8\"\r\n");
            assert_eq!(challenges, code.status() == 407, "{code}");
            let waits = said(&answer).0.contains("\r\nRetry-After: ");
            assert_eq!(waits, matches!(code.status(), 429 | 503), "{code}");
        }
    }

    #[test]
    fn connections_close_when_they_must() {
        #[track_caller]
        fn check(code: Code, context: FaultContext, closes: bool) {
            let answer = fault(&Fault::new(code, "x"), context);
            assert_eq!(answer.closes, closes);
            assert_eq!(said(&answer).0.ends_with("\r\nConnection: close"), closes);
        }
        check(Code::AuthRequired, KEEPS, false);
        check(Code::TargetForbidden, KEEPS, false);
        check(Code::AuthRequired, FaultContext { connect: true, ..KEEPS }, true);
        check(Code::TargetRefused, FaultContext { connect: true, ..KEEPS }, true);
        check(Code::BadRequest, KEEPS, true);
        check(Code::HeadTooLarge, KEEPS, true);
        check(Code::Draining, KEEPS, true);
        check(Code::NoExit, FaultContext { keeps: false, ..KEEPS }, true);
        check(Code::RequestTimeout, FaultContext::UNREAD, true);
    }

    #[test]
    fn a_head_request_is_refused_without_a_body() {
        let with = fault(&Fault::new(Code::NoExit, "x"), KEEPS);
        let without = fault(&Fault::new(Code::NoExit, "x"), FaultContext { head_only: true, ..KEEPS });
        assert_eq!(said(&without), (said(&with).0, ""));
    }

    #[test]
    fn numbers_are_decimal() {
        for n in [0, 7, 10, 65_535, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, n);
            assert_eq!(out, n.to_string().into_bytes());
        }
    }
}
