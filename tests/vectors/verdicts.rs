//! The outside world's smuggling shapes against our reader: every row of
//! `tests/vectors` gets its verdict, and what is taken, hyper reads alike.

use moorgate::core::code::Code;
use moorgate::core::fault::Fault;
use moorgate::http1::chunked::Chunked;
use moorgate::http1::framing::{self, Answered, Asked, BodyKind};
use moorgate::http1::head::{HeadLimits, Scan, parse_request, parse_response};

use crate::fuzz;
use crate::rows::{self, Places};

const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: 100 };
const PLACES: Places<'static> = Places { authority: "e.x", auth: "Proxy-Authorization: Basic eDp5\r\n" };

/// How many bytes are one whole request.
fn judge(bytes: &[u8]) -> Result<usize, Fault> {
    let Some((head, eaten)) = parse_request(bytes, &mut Scan::default(), &LIMITS)? else {
        panic!("its head does not end: {}", bytes.escape_ascii())
    };
    let asked = framing::request(&head)?;
    head.destination()?;
    body(asked.body, &bytes[eaten..]).map(|body| eaten + body)
}

fn body(kind: BodyKind, bytes: &[u8]) -> Result<usize, Fault> {
    match kind {
        BodyKind::None => Ok(0),
        BodyKind::Length(length) => Ok(usize::try_from(length).unwrap()),
        BodyKind::UntilClose => Ok(bytes.len()),
        BodyKind::Chunked => {
            Chunked::decoded(LIMITS).check(bytes)?;
            let mut chunked = Chunked::decoded(LIMITS);
            let mut eaten = 0;
            while eaten < bytes.len() && !chunked.is_done() {
                eaten += chunked.step(&bytes[eaten..])?.eaten;
            }
            assert!(chunked.is_done(), "its chunks do not end: {}", bytes.escape_ascii());
            Ok(eaten)
        }
    }
}

#[track_caller]
fn check(verdict: &str, name: &str, bytes: &[u8], judged: Result<usize, Fault>) {
    let said = match &judged {
        Ok(eaten) => {
            assert_eq!(*eaten, bytes.len(), "{name} is one whole message: {}", bytes.escape_ascii());
            "take"
        }
        Err(fault) if fault.code() == Code::BadRequest => "refuse",
        Err(fault) if fault.code() == Code::HeadTooLarge => "large",
        Err(fault) => panic!("{name}: {fault}"),
    };
    assert_eq!(said, verdict, "{name}: {judged:?} for {}", bytes.escape_ascii());
}

#[test]
fn every_request_gets_its_verdict() {
    for row in rows::requests() {
        let bytes = row.bytes(&PLACES);
        check(row.verdict, row.name, &bytes, judge(&bytes));
    }
}

fn judge_response(bytes: &[u8], asked: &Asked) -> Result<usize, Fault> {
    let mut at = 0;
    loop {
        let parsed = parse_response(&bytes[at..], &mut Scan::default(), &LIMITS)?;
        let (head, eaten) = parsed.unwrap_or_else(|| panic!("no end: {}", bytes.escape_ascii()));
        at += eaten;
        match framing::response(&head, asked)? {
            Answered::Interim => {}
            Answered::Switching => panic!("nobody asked for it"),
            Answered::Final { body: kind, .. } => return body(kind, &bytes[at..]).map(|body| at + body),
        }
    }
}

#[test]
fn every_response_gets_its_verdict() {
    let get = b"GET http://e.x/ HTTP/1.1\r\n\r\n";
    let (head, _) = parse_request(get, &mut Scan::default(), &LIMITS).unwrap().unwrap();
    let asked = framing::request(&head).unwrap();
    for row in rows::responses() {
        let bytes = row.bytes(&PLACES);
        check(row.verdict, row.name, &bytes, judge_response(&bytes, &asked));
    }
}

/// Whatever is taken, hyper reads alike, if it takes it, too; and nearly all
/// of it it does.
#[test]
fn another_reader_agrees_on_every_row() {
    let mut alone = Vec::new();
    for row in rows::requests() {
        let bytes = row.bytes(&PLACES);
        if fuzz::framing::requests(&bytes) == 0 && row.verdict == "take" {
            alone.push(row.name);
        }
    }
    for row in rows::responses() {
        let bytes = row.bytes(&PLACES);
        fuzz::framing::response(&bytes, true);
        if !fuzz::framing::response(&bytes, false) && row.verdict == "take" {
            alone.push(row.name);
        }
    }
    // hyper takes no list of lengths (RFC 9110 §8.6 leaves it to the reader).
    assert_eq!(alone, ["CL-same-list"], "taken here alone");
}

#[test]
fn every_row_is_read_by_the_book_and_sent_on_strictly() {
    for row in rows::requests() {
        let bytes = row.bytes(&PLACES);
        for by in [0, 2, 14, 254] {
            fuzz::head::check(&[&[by], &bytes[..]].concat());
        }
    }
    for row in rows::responses() {
        let bytes = row.bytes(&PLACES);
        for by in [1, 3, 15, 255] {
            fuzz::head::check(&[&[by], &bytes[..]].concat());
        }
    }
}

/// defparam's smuggler puts each byte there is before, into and behind a
/// coding's name and value. Next to a length, each is refused, but for white
/// space around the value and names that are others.
#[test]
fn every_byte_around_a_coding_is_judged() {
    let mut tried = 0;
    for byte in 0..=255_u8 {
        let one = [byte];
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for (place, line, taken) in [
            ("mid", [&b"Transfer-Encoding:"[..], &one, b"chunked"].concat(), false),
            ("post", [b"Transfer-Encoding", &one[..], b": chunked"].concat(), token),
            ("pre", [&one[..], b"Transfer-Encoding: chunked"].concat(), token),
            ("end", [b"Transfer-Encoding: chunked", &one[..]].concat(), false),
            ("xpre", [b"X: X", &one[..], b"Transfer-Encoding: chunked"].concat(), is_value(byte)),
            ("endx", [b"Transfer-Encoding: chunked", &one[..], b"X: X"].concat(), false),
            ("rxpre", [b"X: X\r", &one[..], b"Transfer-Encoding: chunked"].concat(), false),
            ("xnpre", [b"X: X", &one[..], b"\nTransfer-Encoding: chunked"].concat(), false),
            ("endrx", [b"Transfer-Encoding: chunked\r", &one[..], b"X: X"].concat(), false),
            ("endxn", [b"Transfer-Encoding: chunked", &one[..], b"\nX: X"].concat(), false),
        ] {
            let bytes = [
                b"POST http://e.x/ HTTP/1.1\r\nHost: h\r\n",
                &line[..],
                b"\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            ]
            .concat();
            assert_eq!(judge(&bytes).is_ok(), taken, "{place} {byte:02x}");
            fuzz::framing::check(&[&[0], &bytes[..]].concat());
            tried += 1;
        }
    }
    assert_eq!(tried, 2560);
}

/// RFC 9110 §5.5.
fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
