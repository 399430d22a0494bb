//! Our own reader, put together as the gateway does.
//!
//! Owns: messages out of a byte stream, whole ones alone.
//! Must not know: what another reader makes of the same bytes.

use moorgate::http1::chunked::Chunked;
use moorgate::http1::fields::Fields;
use moorgate::http1::framing::{self, Answered, Asked, BodyKind};
use moorgate::http1::head::{HeadLimits, RequestHead, ResponseHead, Scan, parse_request, parse_response};

/// A message that is whole.
pub struct Message<H> {
    pub head: H,
    pub body: Vec<u8>,
    /// Of a response: it ended with the connection.
    pub until_close: bool,
}

/// The next whole request, what is asked, and what follows it. `None`: it is
/// refused, or not whole.
pub fn request(bytes: &[u8]) -> Option<(Message<RequestHead>, Asked, &[u8])> {
    let (head, eaten) = parse_request(bytes, &mut Scan::default(), &HeadLimits::default()).ok()??;
    let asked = framing::request(&head).ok()?;
    let (body, rest) = body(asked.body, &bytes[eaten..])?;
    Some((Message { head, body, until_close: false }, asked, rest))
}

/// The final response to `asked`, behind any interim ones.
pub fn response(mut bytes: &[u8], asked: &Asked) -> Option<Message<ResponseHead>> {
    loop {
        let (head, eaten) = parse_response(bytes, &mut Scan::default(), &HeadLimits::default()).ok()??;
        bytes = &bytes[eaten..];
        match framing::response(&head, asked).ok()? {
            Answered::Interim => {}
            Answered::Switching => return None,
            Answered::Final { body: kind, .. } => {
                let (body, _) = body(kind, bytes)?;
                return Some(Message { head, body, until_close: kind == BodyKind::UntilClose });
            }
        }
    }
}

fn body(kind: BodyKind, bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match kind {
        BodyKind::None => Some((Vec::new(), bytes)),
        BodyKind::Length(length) => {
            let (body, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            Some((body.to_vec(), rest))
        }
        BodyKind::UntilClose => Some((bytes.to_vec(), &[])),
        BodyKind::Chunked => unchunk(bytes),
    }
}

/// A chunked body's data, and what follows it.
pub fn unchunk(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (data, eaten) = run(Chunked::decoded(HeadLimits::default()), bytes, usize::MAX)?;
    Some((data, &bytes[eaten..]))
}

/// What passes through, and how much was eaten, with the input cut into
/// pieces; `None`: it is refused, or not whole.
pub fn run(mut chunked: Chunked, bytes: &[u8], by: usize) -> Option<(Vec<u8>, usize)> {
    let (mut out, mut eaten) = (Vec::new(), 0);
    for mut piece in bytes.chunks(by.min(bytes.len()).max(1)) {
        while !piece.is_empty() && !chunked.is_done() {
            let step = chunked.step(piece).ok()?;
            assert!(step.eaten > 0, "a step eats something");
            step.emit.iter().for_each(|part| out.extend_from_slice(part));
            eaten += step.eaten;
            piece = &piece[step.eaten..];
        }
    }
    chunked.is_done().then_some((out, eaten))
}

/// Names and values, names in lower case.
pub fn fields(fields: &Fields) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|field| (field.name().to_ascii_lowercase(), field.value.to_vec())).collect()
}
