//! A head as received to the head as sent, both ways (SPEC §5, RFC 9110 §7.6).
//!
//! Owns: which fields are passed on, and the few that are written anew: first
//! line, `Host`, framing, `Connection`, `Via`, the upstream's credential, what
//! a client is told of its exit.
//! Must not know: sockets, bodies, why an exit was chosen.
//!
//! Order and letter case of what is passed on are kept.

use crate::core::secret::Secret;
use crate::core::target::{Host, Target};

use super::answer::{Announce, number, text};
use super::fields::{Field, Known, Named};
use super::framing::{Asked, BodyKind};
use super::head::{RequestHead, ResponseHead, Version};

/// Where a request goes on to.
#[derive(Clone, Copy, Debug)]
pub struct Onward<'a> {
    /// The target, as it was judged.
    pub target: &'a Target,
    /// Path and query as the client wrote them: empty, or `/` or `?` first.
    pub path: &'a str,
    /// What the next hop reads.
    pub form: Form<'a>,
    /// The name for a `Via`, if there is to be one.
    pub via: Option<&'a str>,
}

/// The form of the request target for the next hop.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// The target itself.
    Origin,
    /// An upstream HTTP proxy.
    Absolute {
        /// The whole value of `Proxy-Authorization`, if the proxy wants one.
        credential: Option<&'a Secret>,
    },
}

/// Appends the head to send on for a plain request.
pub fn request(out: &mut Vec<u8>, head: &RequestHead, asked: &Asked, onward: &Onward<'_>) {
    let fields = head.fields();
    out.reserve(fields.head().len() + 512);
    request_line(out, head.method(), onward);
    if fields.first(Known::Host).is_none() {
        host(out, b"Host", onward.target);
    }
    let named = Named::of(fields);
    let mut framed = false;
    for field in fields.iter() {
        match field.known {
            Known::Host => host(out, field.name, onward.target),
            Known::ContentLength | Known::TransferEncoding | Known::Trailer => {
                framing(out, field, asked.body, &mut framed);
            }
            Known::Upgrade if asked.upgrade => line(out, field),
            Known::Upgrade => {}
            // HTTP/1.0 clients mean nothing by it and would not be passed the
            // 100; where there is no body, there is nothing to wait for.
            Known::Expect if !asked.expects_continue => {}
            Known::MaxForwards if asked.max_forwards.is_some() => {
                max_forwards(out, field.name, asked.max_forwards);
            }
            known if known.stops_here() || named.has(field.name) => {}
            _ => line(out, field),
        }
    }
    if let Some(name) = onward.via {
        via(out, asked.version, name);
    }
    if let Form::Absolute { credential: Some(credential) } = onward.form {
        text(out, &["Proxy-Authorization: ", credential.expose(), "\r\n"]);
    }
    if asked.upgrade {
        text(out, &["Connection: Upgrade\r\n"]);
    }
    text(out, &["\r\n"]);
}

/// Whether a `Via` of ours stands in the request: it came back (SPEC §4,
/// `loop_detected`).
pub fn came_back(head: &RequestHead, name: &str) -> bool {
    head.fields().elements(Known::Via).any(|hop| {
        let mut words = hop.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        words.nth(1).is_some_and(|by| by.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// How a final answer was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The client's connection may take another request once the body is sent;
    /// else the head says that it closes.
    pub persists: bool,
    /// A chunked body is to be sent without its coding.
    pub decode: bool,
}

/// Where an answer goes back to.
#[derive(Clone, Copy, Debug)]
pub struct Back<'a> {
    /// What was asked.
    pub asked: &'a Asked,
    /// What the client is told of its exit; not in an interim answer.
    pub announce: Option<&'a Announce<'a>>,
    /// The name for a `Via`, if there is to be one.
    pub via: Option<&'a str>,
    /// The client's connection is to close whatever it wants.
    pub close: bool,
}

/// Appends the head of a final answer, of which `body` is the body, as the
/// client gets it.
pub fn response(out: &mut Vec<u8>, head: &ResponseHead, body: BodyKind, back: &Back<'_>) -> Sent {
    let asked = back.asked;
    let decode = body == BodyKind::Chunked && asked.version == Version::Http10;
    let persists = asked.persists && !back.close && body != BodyKind::UntilClose;
    // Without a body, only a length may say how long it would have been.
    let stated = match (body, head.status()) {
        (BodyKind::None, 204) => BodyKind::None,
        (BodyKind::None, _) => head.fields().content_length().ok().flatten().map_or(body, BodyKind::Length),
        (BodyKind::Chunked, _) if decode => BodyKind::UntilClose,
        _ => body,
    };
    status_line(out, head);
    response_fields(out, head, stated, back.via);
    if let Some(announce) = back.announce {
        announce.write(out);
    }
    text(out, &[if persists { "\r\n" } else { "Connection: close\r\n\r\n" }]);
    Sent { persists, decode }
}

/// Appends the head of an interim answer; not for an HTTP/1.0 client, which
/// would take it for the answer (RFC 9110 §15.2).
pub fn interim(out: &mut Vec<u8>, head: &ResponseHead, back: &Back<'_>) {
    if back.asked.version == Version::Http10 {
        return;
    }
    status_line(out, head);
    response_fields(out, head, BodyKind::None, back.via);
    text(out, &["\r\n"]);
}

/// Appends the head of a 101, behind which the connection is a tunnel.
pub fn switching(out: &mut Vec<u8>, head: &ResponseHead, back: &Back<'_>) {
    status_line(out, head);
    response_fields(out, head, BodyKind::None, back.via);
    if let Some(announce) = back.announce {
        announce.write(out);
    }
    text(out, &["Connection: Upgrade\r\n\r\n"]);
}

fn request_line(out: &mut Vec<u8>, method: &str, onward: &Onward<'_>) {
    text(out, &[method, " "]);
    let absolute = matches!(onward.form, Form::Absolute { .. });
    if absolute {
        text(out, &["http://"]);
        authority(out, onward.target);
    }
    // RFC 9112 §3.2.1 and §3.2.4: an empty path is `/`, or of OPTIONS `*`.
    let path = match (onward.path, method, absolute) {
        ("", "OPTIONS", true) => &[""][..],
        ("", "OPTIONS", false) => &["*"],
        (path, ..) if path.starts_with('/') => &[path],
        (path, ..) => &["/", path],
    };
    text(out, path);
    text(out, &[" HTTP/1.1\r\n"]);
}

fn host(out: &mut Vec<u8>, name: &[u8], target: &Target) {
    out.extend_from_slice(name);
    text(out, &[": "]);
    authority(out, target);
    text(out, &["\r\n"]);
}

/// Host and port, without the port that `http:` means anyway.
fn authority(out: &mut Vec<u8>, target: &Target) {
    match &target.host {
        Host::Name(name) => text(out, &[name]),
        Host::Ip(ip) if ip.is_ipv6() => text(out, &["[", &ip.to_string(), "]"]),
        Host::Ip(ip) => text(out, &[&ip.to_string()]),
    }
    if target.port != 80 {
        text(out, &[":"]);
        number(out, u64::from(target.port));
    }
}

fn max_forwards(out: &mut Vec<u8>, name: &[u8], left: Option<u64>) {
    out.extend_from_slice(name);
    text(out, &[": "]);
    number(out, left.unwrap_or_default().saturating_sub(1));
    text(out, &["\r\n"]);
}

fn via(out: &mut Vec<u8>, version: Version, name: &str) {
    let version = if version == Version::Http10 { "1.0 " } else { "1.1 " };
    text(out, &["Via: ", version, name, "\r\n"]);
}

/// We speak HTTP/1.1 to every client (RFC 9112 §2.3).
fn status_line(out: &mut Vec<u8>, head: &ResponseHead) {
    out.reserve(head.fields().head().len() + 512);
    text(out, &["HTTP/1.1 "]);
    number(out, u64::from(head.status()));
    text(out, &[" "]);
    out.extend_from_slice(head.reason());
    text(out, &["\r\n"]);
}

fn response_fields(out: &mut Vec<u8>, head: &ResponseHead, stated: BodyKind, name: Option<&str>) {
    let named = Named::of(head.fields());
    let mut framed = false;
    for field in head.fields().iter() {
        match field.known {
            Known::ContentLength | Known::TransferEncoding | Known::Trailer => {
                framing(out, field, stated, &mut framed);
            }
            Known::Upgrade if head.status() == 101 => line(out, field),
            Known::Upgrade => {}
            known if known.stops_here() || named.has(field.name) => {}
            _ => line(out, field),
        }
    }
    if let Some(name) = name {
        via(out, head.version(), name);
    }
}

/// Passes a framing field on where the body is framed so, and a length once,
/// though it may have come twice.
fn framing(out: &mut Vec<u8>, field: Field<'_>, body: BodyKind, framed: &mut bool) {
    match (field.known, body) {
        (Known::ContentLength, BodyKind::Length(length)) if !std::mem::replace(framed, true) => {
            out.extend_from_slice(field.name);
            text(out, &[": "]);
            number(out, length);
            text(out, &["\r\n"]);
        }
        (Known::TransferEncoding | Known::Trailer, BodyKind::Chunked) => line(out, field),
        _ => {}
    }
}

fn line(out: &mut Vec<u8>, field: Field<'_>) {
    out.extend_from_slice(field.name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(field.value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
