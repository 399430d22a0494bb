use proptest::prelude::*;

use super::super::head::{Scan, parse_request};
use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 1000, fields: 5 };

/// What is passed on, and what is left behind the body's end (`None`: it has
/// not ended), with the input cut into pieces of `by` bytes.
fn run(mut chunked: Chunked, input: &[u8], by: usize) -> (Vec<u8>, Result<Option<Vec<u8>>, Violation>) {
    let mut out = Vec::new();
    let mut at = 0;
    for piece in input.chunks(by) {
        let mut rest = piece;
        while !rest.is_empty() && !chunked.is_done() {
            let step = match chunked.step(rest) {
                Ok(step) => step,
                Err(violation) => return (out, Err(violation)),
            };
            assert!(step.eaten > 0);
            out.extend(step.emit.concat());
            at += step.eaten;
            rest = &rest[step.eaten..];
        }
    }
    let end = chunked.is_done().then(|| input[at..].to_vec());
    (out, Ok(end))
}

fn verbatim() -> Chunked {
    Chunked::verbatim(Named::default(), LIMITS)
}

#[track_caller]
fn passes(input: &str, expected: &str) {
    for by in [1, 2, 3, 7, input.len()] {
        let (out, end) = run(verbatim(), input.as_bytes(), by);
        assert_eq!(out.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string(), "by {by}");
        assert_eq!(end, Ok(Some(Vec::new())), "{input:?} by {by}");
    }
}

#[track_caller]
fn decodes(input: &str, expected: &str) {
    for by in [1, 2, 3, 7, input.len()] {
        let (out, end) = run(Chunked::decoded(LIMITS), input.as_bytes(), by);
        assert_eq!((out.as_slice(), end), (expected.as_bytes(), Ok(Some(Vec::new()))), "{input:?} by {by}");
    }
}

#[track_caller]
fn refused(input: impl AsRef<[u8]>) {
    let input = input.as_ref();
    for chunked in [verbatim(), Chunked::decoded(LIMITS)] {
        assert!(chunked.check(input).is_err(), "{:?}", input.escape_ascii().to_string());
        for by in [1, 2, input.len()] {
            let (_, end) = run(chunked.clone(), input, by);
            assert!(end.is_err(), "{:?} by {by}: {end:?}", input.escape_ascii().to_string());
        }
    }
}

#[test]
fn bodies_pass_as_they_are() {
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n",
        "1\r\n\r\r\n2\r\n\r\n\r\n0\r\n\r\n",
        "2\r\nab\r\n0\r\nX-Sum: 1\r\nETag:\r\n\r\n",
    ] {
        passes(body, body);
        assert!(verbatim().check(body.as_bytes()).is_ok());
        assert!(verbatim().check(&body.as_bytes()[..body.len() - 1]).is_ok());
    }
}

#[test]
fn a_whole_body_is_one_step_from_the_callers_buffer() {
    let body = b"5\r\nhello\r\n3\r\nyou\r\n0\r\nA: b\r\n\r\nnext";
    let mut chunked = verbatim();
    let step = chunked.step(body).unwrap();
    assert_eq!((step.eaten, step.emit), (body.len() - 4, [&body[..body.len() - 4], b""]));
    assert!(chunked.is_done());
    assert_eq!(chunked.step(b"next").unwrap(), Step { eaten: 0, emit: [b"", b""] });
}

#[test]
fn odd_digits_pass_whole_and_are_written_anew_when_cut() {
    let body = b"00000A\r\n0123456789\r\n000\r\n\r\n";
    assert_eq!(run(verbatim(), body, 100).0, body);
    assert_eq!(run(verbatim(), body, 1).0, b"a\r\n0123456789\r\n0\r\n\r\n");
}

#[test]
fn what_follows_is_left() {
    for by in [1, 4, 100] {
        let (_, end) = run(verbatim(), b"1\r\na\r\n0\r\n\r\nGET", by);
        let left = end.unwrap().unwrap();
        assert!(b"GET".starts_with(&left[..]) && (by < 100 || left == b"GET"));
    }
}

#[test]
fn extensions_stay_here() {
    passes("5;a=b\r\nhello\r\n0;c\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n");
    passes(
        "005 ; a=\"b;c\"\r\nhello\r\nA\t;\r\n0123456789\r\n0\r\n\r\n",
        "5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n",
    );
    refused(format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1024)));
}

#[test]
fn decoding_leaves_data_alone() {
    decodes("0\r\n\r\n", "");
    decodes("5;x\r\nhello\r\n2\r\n\r\n\r\n0\r\nA: b\r\n\r\n", "hello\r\n");
}

#[test]
fn sizes_are_strict() {
    for size in [
        "",
        " 5",
        "+5",
        "-5",
        "0x5",
        "5 ",
        "5\t",
        "5 5",
        "5,",
        "5h",
        "g",
        "5.0",
        "\u{665}",
        "10000000000000000",
        "00000000000000005",
        "FFFFFFFFFFFFFFFFF",
        "5\0",
        "5;\0",
        "5;\u{1}",
        "5;\u{7f}",
        "5\r",
        "5;a\rb",
        ";a",
        "_5",
    ] {
        refused(format!("{size}\r\nhello\r\n0\r\n\r\n"));
        refused(format!("1\r\na\r\n{size}\r\nhello\r\n0\r\n\r\n"));
    }
    refused("5\nhello\r\n0\r\n\r\n");
    refused("5;a\nhello\r\n0\r\n\r\n");
    refused("5\rhello\r\n0\r\n\r\n");
    refused("5\r\nhello\n0\r\n\r\n");
    refused("5\r\nhello0\r\n\r\n");
    refused("5\r\nhello\r0\r\n\r\n");
    refused("5\r\nhello!\r\n0\r\n\r\n");
    refused("\r\n5\r\nhello\r\n0\r\n\r\n");
    refused("0\n\r\n");
}

#[test]
fn the_largest_size_is_no_overflow() {
    let (out, end) = run(verbatim(), b"ffffffffffffffff\r\nabc", 100);
    assert_eq!((&out[..], end), (&b"ffffffffffffffff\r\nabc"[..], Ok(None)));
}

#[test]
fn nothing_of_a_line_is_passed_on_before_it_is_judged() {
    let (out, end) = run(verbatim(), b"1\r\na\r\n12", 1);
    assert_eq!((&out[..], end), (&b"1\r\na\r\n"[..], Ok(None)));
    let (out, end) = run(verbatim(), b"0\r\nX-A", 1);
    assert_eq!((&out[..], end), (&b"0\r\n"[..], Ok(None)));
    // The good part before a bad one is passed on, however it was cut.
    for by in [1, 100] {
        let (out, end) = run(verbatim(), b"1\r\na\r\nzz", by);
        assert_eq!((&out[..], end.is_err()), (&b"1\r\na\r\n"[..], true));
    }
}

#[test]
fn trailers_pass_but_for_some() {
    let kept = "X-Sum: 1\r\nserver-timing: a;dur=1\r\n";
    passes(&format!("0\r\n{kept}\r\n"), &format!("0\r\n{kept}\r\n"));
    for dropped in [
        "Content-Length: 5",
        "transfer-encoding: chunked",
        "Host: a",
        "Trailer: a",
        "TE: a",
        "Connection: a",
        "Authorization: a",
        "Proxy-Authorization: a",
        "Cookie: a",
        "Set-Cookie: a",
        "WWW-Authenticate: a",
        "Moorgate-Exit: a",
        "Upgrade: a",
        "Via: a",
        "Expect: a",
        "Keep-Alive: a",
    ] {
        passes(&format!("0\r\nA: b\r\n{dropped}\r\nC: d\r\n\r\n"), "0\r\nA: b\r\nC: d\r\n\r\n");
        passes(&format!("0\r\n{dropped}\r\n\r\n"), "0\r\n\r\n");
    }
}

#[test]
fn a_hop_with_another_way_gets_trailers_apart() {
    let input = b"3\r\nabc\r\n0\r\nX-A: 1\r\nContent-Length: 9\r\nX-B: 2\r\n\r\nnext";
    for by in [1, 2, 5, input.len()] {
        let mut chunked = Chunked::apart(LIMITS);
        let (mut out, mut at) = (Vec::new(), 0);
        while !chunked.is_done() {
            let step = chunked.step(&input[at..input.len().min(at + by)]).unwrap();
            out.extend(step.emit.concat());
            at += step.eaten;
        }
        assert_eq!((&*out, &input[at..]), (&b"abc"[..], &b"next"[..]));
        assert_eq!(chunked.trailers(), b"X-A: 1\r\nX-B: 2\r\n");
    }
}

#[test]
fn trailers_that_connection_names_stay_here() {
    let head = b"GET / HTTP/1.1\r\nConnection: X-Hop\r\n\r\n";
    let (head, _) = parse_request(head, &mut Scan::default(), &HeadLimits::default()).unwrap().unwrap();
    for by in [1, 100] {
        let chunked = Chunked::verbatim(Named::of(head.fields()), LIMITS);
        let (out, _) = run(chunked, b"0\r\nx-hop: 1\r\nX: 2\r\n\r\n", by);
        assert_eq!(out, b"0\r\nX: 2\r\n\r\n");
    }
}

#[test]
fn trailers_are_strict_and_bounded() {
    for line in
        ["A : b", " A: b", "A", ": b", "A\0: b", "A: \0", "A: b\rc", "A b: c", "A: \u{7f}", "\u{e9}: a"]
    {
        refused(format!("0\r\n{line}\r\n\r\n"));
        refused(format!("0\r\nX: y\r\n{line}\r\n\r\n"));
    }
    refused("0\r\nA: b\n\r\n");
    refused("0\r\nA: b\r\n\n");
    refused("0\r\n\n");
    refused("0\r\nA: b\r\n c\r\n\r\n");
    refused(format!("0\r\n{}\r\n", "A: b\r\n".repeat(6)));
    refused(format!("0\r\nA: {}\r\n\r\n", "b".repeat(1000)));
    refused(format!("0\r\nA: {}", "b".repeat(1000)));
    passes(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(5)), &format!("0\r\n{}\r\n", "A: b\r\n".repeat(5)));
}

/// Bytes that look like a chunked body more often than chance would have it.
fn chunky() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 1..20)
            .prop_map(|data| [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat()),
        2 => Just(b"3;x=y\r\nabc\r\n".to_vec()),
        2 => Just(b"0\r\n".to_vec()),
        1 => Just(b"A: b\r\nHost: c\r\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => prop::collection::vec(prop::sample::select(b"0123456789abcdef;\r\n \t:xG\0".to_vec()), 0..6),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn nothing_depends_on_the_cuts(input in chunky(), by in 1_usize..9) {
        for chunked in [verbatim(), Chunked::decoded(LIMITS)] {
            let (whole, end) = run(chunked.clone(), &input, usize::MAX);
            prop_assert_eq!(chunked.check(&input), end.as_ref().map(|_| ()).map_err(|violation| *violation));
            for by in [1, by] {
                let (out, cut) = run(chunked.clone(), &input, by);
                prop_assert_eq!(cut.as_ref().map(Option::is_some), end.as_ref().map(Option::is_some));
                // An extension's line is written anew, and so is a cut one: in the same way but for its digits.
                prop_assert_eq!(decoded(&out), decoded(&whole));
            }
        }
    }

    #[test]
    fn what_is_passed_on_means_the_same(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6), by in 1_usize..50,
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend(format!("{:X}\r\n", chunk.len()).into_bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        let (plain, end) = run(Chunked::decoded(LIMITS), &body, by);
        prop_assert_eq!((plain, end), (chunks.concat(), Ok(Some(Vec::new()))));
        let (passed, _) = run(verbatim(), &body, by);
        let (again, end) = run(Chunked::decoded(LIMITS), &passed, usize::MAX);
        prop_assert_eq!((again, end), (chunks.concat(), Ok(Some(Vec::new()))));
    }

    #[test]
    fn no_bytes_panic(input in prop::collection::vec(any::<u8>(), 0..200), by in 1_usize..50) {
        run(verbatim(), &input, by).1.ok();
        run(Chunked::decoded(LIMITS), &input, by).1.ok();
    }
}

/// What the bytes mean, as far as they go.
fn decoded(passed: &[u8]) -> Vec<u8> {
    run(Chunked::decoded(LIMITS), passed, usize::MAX).0
}
