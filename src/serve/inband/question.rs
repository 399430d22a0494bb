//! What the gateway is asked, read off the client's connection or out of a
//! tunnel to it.
//!
//! Owns: [`Question`]; how much is read of one, and for how long.
//! Must not know: what can be asked, and of whom.

use std::sync::atomic::{AtomicBool, Ordering::AcqRel};

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, Request as Inner, Response};
use bytes::BytesMut;
use hyper::body::{Body as _, Incoming};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::reply::{Kind, Problem, Reply};
use super::{Shared, Visit, answer};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::username::Parameters;
use crate::http1::chunked::Chunked;
use crate::http1::framing::BodyKind;
use crate::http1::head::{Destination, Violation};
use crate::net::wire::Wire;
use crate::serve::client::Request;
use crate::serve::intake::fill;

/// The largest body.
pub(super) const MOST_BODY: usize = 16 * 1024;

/// A request to the gateway itself.
#[derive(Debug, Default)]
pub(super) struct Question {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    /// Of the body, as written.
    pub(super) media: Option<Vec<u8>>,
    /// A web page of another site has had it sent.
    pub(super) foreign: bool,
    /// What its own fields say, inside a tunnel.
    pub(super) parameters: Parameters,
    pub(super) body: Vec<u8>,
}

/// What came of reading one.
pub(super) enum Taken {
    Whole(Question),
    /// It was not read to its end.
    Refused(Problem),
    /// It breaks the protocol, or came too slowly.
    Bad(Fault),
    /// The client is gone.
    Gone,
}

/// Reads a request in absolute-form, of which the head is there.
pub(super) async fn take(shared: &Shared, wire: &mut Wire, request: &Request) -> Taken {
    let asked = &request.asked;
    if matches!(asked.body, BodyKind::Length(length) if length > MOST_BODY as u64) {
        return Taken::Refused(Kind::BodyTooLarge.into());
    }
    if asked.expects_continue && !asked.body.is_empty() {
        let goes_on = wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        if !matches!(timeout(shared.settings.timeouts.body, goes_on).await, Ok(Ok(()))) {
            return Taken::Gone;
        }
    }
    let reading = async {
        match asked.body {
            BodyKind::None | BodyKind::UntilClose => Ok(Vec::new()),
            BodyKind::Length(length) => exactly(wire, usize::try_from(length).unwrap_or(MOST_BODY)).await,
            BodyKind::Chunked => chunks(wire, Chunked::decoded(shared.settings.head)).await,
        }
    };
    let body = match timeout(shared.settings.timeouts.body, reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => return refusal,
        Err(_) => {
            let detail = "the request's body did not arrive in time: send it at once";
            return Taken::Bad(Fault::new(Code::RequestTimeout, detail));
        }
    };
    let path = match request.head.destination() {
        Ok(Destination::Plain { path, .. }) => path,
        _ => "",
    };
    let fields = request.head.fields();
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (path, None),
    };
    let site = fields.get("sec-fetch-site");
    Taken::Whole(Question {
        method: request.head.method().to_owned(),
        path: if path.is_empty() { "/" } else { path }.to_owned(),
        query,
        media: fields.get("content-type").map(<[u8]>::to_vec),
        foreign: is_foreign(fields.get("origin"), site),
        // The connection's own have been read with the credential.
        parameters: Parameters::default(),
        body,
    })
}

async fn exactly(wire: &mut Wire, length: usize) -> Result<Vec<u8>, Taken> {
    let mut body = BytesMut::new();
    while body.len() < length {
        let Ok(1..) = fill(wire, &mut body).await else { return Err(Taken::Gone) };
    }
    wire.unread(body.split_off(length).freeze());
    Ok(body.to_vec())
}

async fn chunks(wire: &mut Wire, mut chunked: Chunked) -> Result<Vec<u8>, Taken> {
    let (mut input, mut body) = (BytesMut::new(), Vec::new());
    let mut taken = 0;
    while !chunked.is_done() {
        let Ok(1..) = fill(wire, &mut input).await else { return Err(Taken::Gone) };
        // Chunks of a byte each, or their extensions, are no way around it.
        taken += input.len();
        let mut at = 0;
        while at < input.len() && !chunked.is_done() {
            let step = chunked.step(&input[at..]).map_err(bad)?;
            step.emit.iter().for_each(|part| body.extend_from_slice(part));
            at += step.eaten;
        }
        let rest = input.split_off(at);
        input.clear();
        if body.len() > MOST_BODY || taken > 4 * MOST_BODY {
            return Err(Taken::Refused(Kind::BodyTooLarge.into()));
        }
        if chunked.is_done() {
            wire.unread(rest.freeze());
        }
    }
    Ok(body)
}

fn bad(violation: Violation) -> Taken {
    Taken::Bad(violation.into())
}

/// A page's request says where it comes from. Its browser sends it with the
/// proxy's credential, though the page knows of none.
fn is_foreign(origin: Option<&[u8]>, site: Option<&[u8]>) -> bool {
    origin.is_some() || site.is_some_and(|site| !site.eq_ignore_ascii_case(b"none"))
}

/// Answers a request inside a tunnel.
pub(super) async fn inside(visit: &Visit<'_>, first: &AtomicBool, inner: Inner<Incoming>) -> Response<Body> {
    let told = async {
        if !first.swap(false, AcqRel) {
            visit
                .admission
                .again(visit.shared.clock.now())
                .map_err(|fault| Reply::from(Problem::from(fault)))?;
        }
        let question = read(visit.shared, inner).await.map_err(Reply::from)?;
        Ok::<_, Reply>(answer(visit, &question).await)
    };
    told.await.unwrap_or_else(|refused| refused).response()
}

async fn read(shared: &Shared, inner: Inner<Incoming>) -> Result<Question, Problem> {
    let (parts, body) = inner.into_parts();
    if body.size_hint().lower() > MOST_BODY as u64 {
        return Err(Kind::BodyTooLarge.into());
    }
    let read = timeout(shared.settings.timeouts.body, to_bytes(Body::new(body), MOST_BODY)).await;
    let Ok(read) = read else {
        let detail = "the request's body did not arrive in time: send it at once";
        return Err(Fault::new(Code::RequestTimeout, detail).into());
    };
    let value = |name: &str| parts.headers.get(name).map(|value| value.as_bytes());
    Ok(Question {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        media: value(CONTENT_TYPE.as_str()).map(<[u8]>::to_vec),
        foreign: is_foreign(value(ORIGIN.as_str()), value("sec-fetch-site")),
        parameters: parameters(&parts.headers)?,
        body: read.map_err(|_| Kind::BodyTooLarge)?.to_vec(),
    })
}

/// What `Moorgate-*` fields say, as on any request.
fn parameters(headers: &HeaderMap) -> Result<Parameters, Problem> {
    let mut parameters = Parameters::default();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("moorgate-") else { continue };
        let text = value.to_str().map_err(|_| {
            Fault::new(Code::ParameterInvalid, "a Moorgate field holds something else than text")
        })?;
        parameters.take_field(name, text.trim())?;
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_body(sent: &[u8], expected: Option<&str>, rest: &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut ours, _theirs) = Wire::pair(64);
            ours.unread(sent.to_vec().into());
            let body = chunks(&mut ours, Chunked::decoded(Default::default())).await.ok();
            assert_eq!(body.map(|body| String::from_utf8(body).unwrap()).as_deref(), expected);
            if expected.is_some() {
                assert_eq!(&*ours.take_unread(), rest);
            }
        });
    }

    #[test]
    fn a_chunked_body_is_read_to_its_end_and_no_further() {
        check_body(b"2\r\n{}\r\n0\r\n\r\nGET ", Some("{}"), b"GET ");
        check_body(b"1\r\n{\r\n1\r\n}\r\n0\r\nx: y\r\n\r\n", Some("{}"), b"");
        check_body(b"x\r\n", None, b"");
        let large = format!("{:x}\r\n{}\r\n0\r\n\r\n", MOST_BODY + 1, "a".repeat(MOST_BODY + 1));
        check_body(large.as_bytes(), None, b"");
    }

    #[test]
    fn pages_are_told_from_programs() {
        assert!(!is_foreign(None, None) && !is_foreign(None, Some(b"none")));
        for site in [&b"cross-site"[..], b"same-site", b"same-origin", b""] {
            assert!(is_foreign(None, Some(site)));
        }
        assert!(is_foreign(Some(b"null"), None) && is_foreign(Some(b"http://moorgate.internal"), None));
    }
}
