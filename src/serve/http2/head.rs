//! Heads of HTTP/2 as heads of HTTP/1, and back.
//!
//! Owns: what a request says in HTTP/1 (RFC 9113 §8.3, §8.5), and which
//! fields of an answer are none of HTTP/2's (§8.2.2).
//! Must not know: what is asked for. What is written here is read as strictly
//! as whatever a client writes itself.

use std::ops::Deref;

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::http1::fields::{Fields, Known};
use crate::http1::head::ResponseHead;

/// How a request's body is written in HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// As it is: a tunnel's bytes, a body whose length was told, none.
    Plain,
    /// In chunks.
    Chunked,
}

/// A request's head in HTTP/1.
pub(super) struct Written {
    bytes: Vec<u8>,
    framing: Framing,
}

impl Written {
    pub(super) fn framing(&self) -> Framing {
        self.framing
    }
}

impl Deref for Written {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The head; none for what this gateway never said it could do. `ended`: no
/// body follows.
pub(super) fn of_request(parts: &Parts, ended: bool) -> Option<Written> {
    if parts.extensions.get::<h2::ext::Protocol>().is_some() {
        return None;
    }
    let uri = &parts.uri;
    let authority = uri.authority().map(|authority| authority.as_str());
    let connect = parts.method == Method::CONNECT;
    // An OPTIONS of the whole server has no path in absolute-form.
    let path = uri.path_and_query().map(|path| path.as_str()).filter(|path| *path != "*").unwrap_or_default();
    let target = match (authority, uri.scheme_str()) {
        (Some(authority), _) if connect => authority.to_owned(),
        (None, _) if connect => return None,
        (Some(authority), Some(scheme)) => format!("{scheme}://{authority}{path}"),
        // Without either it is for an origin, which says so itself.
        _ if path.is_empty() => "*".to_owned(),
        _ => path.to_owned(),
    };
    let mut out = Vec::with_capacity(512);
    put(&mut out, &[parts.method.as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"]);
    match (authority, parts.headers.get(HOST)) {
        (Some(authority), _) => put(&mut out, &[b"host: ", authority.as_bytes(), b"\r\n"]),
        (None, Some(host)) => put(&mut out, &[b"host: ", host.as_bytes(), b"\r\n"]),
        (None, None) => put(&mut out, &[b"host: \r\n"]),
    }
    for (name, value) in &parts.headers {
        // TE is for the hop that it was sent to.
        if name != HOST && name != COOKIE && name != TE {
            put(&mut out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    cookies(&mut out, &parts.headers);
    let chunked = !connect && !ended && !parts.headers.contains_key(CONTENT_LENGTH);
    if chunked {
        put(&mut out, &[b"transfer-encoding: chunked\r\n"]);
    }
    put(&mut out, &[b"\r\n"]);
    Some(Written { bytes: out, framing: if chunked { Framing::Chunked } else { Framing::Plain } })
}

/// Their crumbs are one field in HTTP/1 (RFC 9113 §8.2.3).
fn cookies(out: &mut Vec<u8>, headers: &HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !crumbs.is_empty() {
        put(out, &[b"cookie: ", &crumbs.join(&b"; "[..]), b"\r\n"]);
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// An answer's head in HTTP/2; none where it cannot be said there.
pub(super) fn of_answer(head: &ResponseHead) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status()).ok()?;
    *response.headers_mut() = fields(head.fields())?;
    Some(response)
}

fn fields(fields: &Fields) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields.iter() {
        if !is_of_connection(field.known) {
            headers
                .append(HeaderName::from_bytes(field.name).ok()?, HeaderValue::from_bytes(field.value).ok()?);
        }
    }
    Some(headers)
}

/// What HTTP/2 says otherwise, or not at all (RFC 9113 §8.2.2).
fn is_of_connection(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Trailer lines as a section of HTTP/2.
pub(super) fn of_trailers(lines: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        headers.append(
            HeaderName::from_bytes(&line[..colon]).ok()?,
            HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?,
        );
    }
    Some(headers)
}

/// Trailers as lines of HTTP/1.
pub(super) fn trailer_lines(trailers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in trailers {
        put(&mut out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    out
}

#[cfg(test)]
mod tests;
