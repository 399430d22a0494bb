//! A head: read as by the book, and what is sent on is strict itself.

use moorgate::core::target::Target;
use moorgate::http1::fields::Fields;
use moorgate::http1::forward::{self, Back, Form, Onward};
use moorgate::http1::framing::{self, Answered};
use moorgate::http1::head::{
    Destination, HeadLimits, RequestHead, ResponseHead, Scan, parse_request, parse_response,
};
use moorgate::http1::mirror;

use super::{book, reader};

/// The first byte says how the others are cut, and what they are.
pub fn check(data: &[u8]) {
    let Some((by, bytes)) = data.split_first() else { return };
    if by % 2 == 0 { request(bytes, usize::from(by / 2)) } else { response(bytes, usize::from(by / 2)) }
}

fn request(bytes: &[u8], by: usize) {
    let limits = HeadLimits::default();
    let read = parse_request(bytes, &mut Scan::default(), &limits);
    let mut scan = Scan::default();
    let grown = grow(bytes, by, |bytes| parse_request(bytes, &mut scan, &limits));
    let shown = |read: &Result<Option<(RequestHead, usize)>, _>| format!("{read:?}");
    assert_eq!(shown(&read), shown(&grown), "cuts change nothing");
    let Ok(Some((head, eaten))) = read else { return };
    let (first, lines) = by_the_book(bytes, eaten);
    let version = if format!("{:?}", head.version()) == "Http10" { "HTTP/1.0" } else { "HTTP/1.1" };
    assert_eq!(first, format!("{} {} {version}", head.method(), head.target()).as_bytes());
    assert_eq!(written(head.fields()), lines, "the fields as they stand");
    sent_on(&head);
}

/// What goes on to a target, or an upstream, and what is mirrored.
fn sent_on(head: &RequestHead) {
    let Ok(asked) = framing::request(head) else { return };
    mirror::answer(head, true);
    let Ok(Destination::Plain { authority, path }) = head.destination() else { return };
    let Ok(target) = Target::parse_with_default(authority, 80) else { return };
    for form in [Form::Origin, Form::Absolute { credential: None }] {
        let mut out = Vec::new();
        forward::request(&mut out, head, &asked, &Onward { target: &target, path, form, via: None });
        let Ok(Some((sent, eaten))) =
            parse_request(&out, &mut Scan::default(), &HeadLimits { bytes: 1 << 20, fields: 200 })
        else {
            panic!("what is sent on is no head: {:?}", out.escape_ascii().to_string())
        };
        assert_eq!(eaten, out.len(), "one head and nothing else");
        let again = framing::request(&sent).expect("what is sent on is unambiguous");
        assert_eq!((again.body, again.upgrade), (asked.body, asked.upgrade), "with the same body");
        assert_eq!(sent.method(), head.method());
        assert_eq!(sent.fields().get("host").map(<[u8]>::to_vec), Some(host(&target)));
        stops_here(sent.fields(), &["te", "proxy-authorization"]);
    }
}

fn host(target: &Target) -> Vec<u8> {
    let text = target.to_string();
    text.strip_suffix(":80").unwrap_or(&text).as_bytes().to_vec()
}

fn response(bytes: &[u8], by: usize) {
    let limits = HeadLimits::default();
    let read = parse_response(bytes, &mut Scan::default(), &limits);
    let mut scan = Scan::default();
    let grown = grow(bytes, by, |bytes| parse_response(bytes, &mut scan, &limits));
    let shown = |read: &Result<Option<(ResponseHead, usize)>, _>| format!("{read:?}");
    assert_eq!(shown(&read), shown(&grown), "cuts change nothing");
    let Ok(Some((head, eaten))) = read else { return };
    let (first, lines) = by_the_book(bytes, eaten);
    assert!(first.starts_with(b"HTTP/1."), "a status line");
    assert_eq!(first[9..12], *head.status().to_string().as_bytes());
    assert_eq!(written(head.fields()), lines, "the fields as they stand");

    for ask in [
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "HEAD http://a/ HTTP/1.1\r\n\r\n",
        "GET http://a/ HTTP/1.0\r\n\r\n",
    ] {
        let Some((_, asked, _)) = reader::request(ask.as_bytes()) else { unreachable!("a request") };
        let Ok(Answered::Final { body, .. }) = framing::response(&head, &asked) else { continue };
        let back = Back { asked: &asked, announce: None, via: None, close: false };
        let mut out = Vec::new();
        let sent = forward::response(&mut out, &head, body, &back);
        let read = parse_response(&out, &mut Scan::default(), &HeadLimits { bytes: 1 << 20, fields: 200 });
        let Ok(Some((passed, eaten))) = read else { panic!("no head: {:?}", out.escape_ascii().to_string()) };
        assert_eq!(eaten, out.len(), "one head and nothing else");
        let Ok(Answered::Final { body: again, persists }) = framing::response(&passed, &asked) else {
            panic!("not final: {:?}", out.escape_ascii().to_string())
        };
        assert!(sent.decode || again == body, "with the same body: {again:?} {body:?}");
        assert!(persists || !sent.persists, "the client is told that it closes");
        stops_here(passed.fields(), &["proxy-authenticate", "moorgate-exit"]);
    }
}

/// Name and value of each field.
type Lines = Vec<(Vec<u8>, Vec<u8>)>;

fn by_the_book(bytes: &[u8], eaten: usize) -> (&[u8], Lines) {
    let mut head = &bytes[..eaten];
    while let [b'\r', b'\n', rest @ ..] = head {
        head = rest;
    }
    let Some((first, lines, rest)) = book::read(head) else {
        panic!("not by the book: {:?}", head.escape_ascii().to_string())
    };
    assert!(rest.is_empty(), "the head ends where the book says");
    (first, lines.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
}

fn written(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

fn stops_here(fields: &Fields, more: &[&str]) {
    let always = ["keep-alive", "proxy-connection", "moorgate-session"];
    for name in always.iter().chain(more) {
        assert!(fields.get(name).is_none(), "{name} stops here");
    }
}

/// The result with the bytes arriving piece by piece.
fn grow<T, E>(
    bytes: &[u8],
    by: usize,
    mut parse: impl FnMut(&[u8]) -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let mut end = 0;
    while end < bytes.len() {
        end = (end + by.max(1)).min(bytes.len());
        match parse(&bytes[..end]) {
            Ok(None) => {}
            done => return done,
        }
    }
    Ok(None)
}
