//! Where a body ends, and whether a connection lives on (RFC 9112 §6.3, §9.3).
//!
//! Owns: [`Asked`] and [`Answered`]: all that a head says about its message
//! and its connection, or a [`Violation`] where that is ambiguous.
//! Must not know: how bytes are moved, what is sent on.

use super::fields::{Fields, Known, Named, decimal};
use super::head::{RequestHead, ResponseHead, Version, Violation};

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none, and none is announced.
    None,
    /// After so many bytes.
    Length(u64),
    /// Where [`super::chunked`] says.
    Chunked,
    /// With the connection; only of a response.
    UntilClose,
}

impl BodyKind {
    /// Whether no byte of it follows the head.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// What a request's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The client's version.
    pub version: Version,
    /// How its body ends. Of a CONNECT there is none.
    pub body: BodyKind,
    /// CONNECT.
    pub connect: bool,
    /// HEAD: the answer has no body, whatever it says.
    pub head_only: bool,
    /// Another protocol is asked for, and will be asked for on the other side.
    pub upgrade: bool,
    /// The client waits for a 100 before it sends its body.
    pub expects_continue: bool,
    /// Of a TRACE or OPTIONS: how many more proxies it may pass
    /// (RFC 9110 §7.6.2).
    pub max_forwards: Option<u64>,
    /// The client's connection may take another request.
    pub persists: bool,
}

/// Reads what a request's head says. Refuses (SPEC §5) all that two readers
/// could read in two ways.
pub fn request(head: &RequestHead) -> Result<Asked, Violation> {
    let fields = head.fields();
    let version = head.version();
    let connect = head.method() == "CONNECT";
    check_host(fields)?;
    check_options(fields)?;
    if fields.first(Known::Lookalike).is_some() {
        return Err(Violation::Malformed("a field's name passes for one that states its length"));
    }
    let body = match stated(fields, version)? {
        Stated { chunked: true, .. } => BodyKind::Chunked,
        Stated { length: Some(length), .. } => BodyKind::Length(length),
        Stated { .. } => BodyKind::None,
    };
    if connect && !body.is_empty() {
        // Its bytes would be the body's to one reader and the tunnel's to another.
        return Err(Violation::Malformed("a CONNECT has no body"));
    }
    if head.method() == "TRACE" && !body.is_empty() {
        // RFC 9110 §9.3.8. Whoever mirrors it would mirror the body, too.
        return Err(Violation::Malformed("a TRACE has no body"));
    }
    let current = version == Version::Http11;
    Ok(Asked {
        version,
        body,
        connect,
        head_only: head.method() == "HEAD",
        upgrade: current && !connect && body.is_empty() && asks_for_upgrade(fields),
        // In HTTP/1.0 it has no meaning (RFC 9110 §10.1.1).
        expects_continue: current && expects_continue(fields)? && !body.is_empty(),
        max_forwards: max_forwards(head)?,
        // RFC 9112 §9.3: a proxy does not keep an HTTP/1.0 client's connection,
        // for an older proxy may have passed `keep-alive` on blindly.
        persists: current && !says_close(fields),
    })
}

/// What a response's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// 1xx: the real answer is still to come.
    Interim,
    /// 101: from here on the connection is a tunnel.
    Switching,
    /// The answer.
    Final {
        /// How its body ends.
        body: BodyKind,
        /// The upstream connection may take another request once the body is
        /// read.
        persists: bool,
    },
}

/// Reads what a response's head says, as the answer to `asked`.
pub fn response(head: &ResponseHead, asked: &Asked) -> Result<Answered, Violation> {
    let fields = head.fields();
    let version = head.version();
    check_options(fields)?;
    let stated = stated(fields, version)?;
    match head.status() {
        // RFC 9110 §15.2.2: it says to what.
        101 if asked.upgrade && fields.elements(Known::Upgrade).next().is_some() => {
            return Ok(Answered::Switching);
        }
        101 => return Err(Violation::Malformed("it switches to a protocol that nobody asked for")),
        100..=199 => return Ok(Answered::Interim),
        _ => {}
    }
    let body = match (head.status(), stated) {
        _ if asked.head_only => BodyKind::None,
        (204 | 304, _) => BodyKind::None,
        (_, Stated { chunked: true, .. }) => BodyKind::Chunked,
        (_, Stated { length: Some(length), .. }) => BodyKind::Length(length),
        _ => BodyKind::UntilClose,
    };
    let alive = match version {
        Version::Http11 => !says_close(fields),
        Version::Http10 => fields.has_element(Known::Connection, "keep-alive") && !says_close(fields),
    };
    // A 204 that announces a body may be followed by one; nobody could tell it
    // from the next answer.
    let suspect = head.status() == 204 && (stated.chunked || stated.length.is_some_and(|length| length > 0));
    Ok(Answered::Final { body, persists: alive && !suspect && body != BodyKind::UntilClose })
}

/// What the framing fields say, free of contradiction.
#[derive(Clone, Copy)]
struct Stated {
    chunked: bool,
    length: Option<u64>,
}

fn stated(fields: &Fields, version: Version) -> Result<Stated, Violation> {
    let length = fields.content_length()?;
    let mut codings = fields.all(Known::TransferEncoding);
    let Some(coding) = codings.next() else { return Ok(Stated { chunked: false, length }) };
    if codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
        return Err(Violation::Malformed("its Transfer-Encoding is not chunked alone"));
    }
    if length.is_some() {
        return Err(Violation::Malformed("it has both Content-Length and Transfer-Encoding"));
    }
    if version == Version::Http10 {
        return Err(Violation::Malformed("HTTP/1.0 has no Transfer-Encoding"));
    }
    Ok(Stated { chunked: true, length: None })
}

/// More than one Host, or one that is none, is refused (RFC 9112 §3.2). It may
/// be missing, and differ: the request's target counts.
fn check_host(fields: &Fields) -> Result<(), Violation> {
    let mut hosts = fields.all(Known::Host);
    let Some(host) = hosts.next() else { return Ok(()) };
    if hosts.next().is_some() {
        return Err(Violation::Malformed("it has more than one Host"));
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    if host.iter().all(plain) { Ok(()) } else { Err(Violation::Malformed("its Host is no host")) }
}

fn check_options(fields: &Fields) -> Result<(), Violation> {
    match fields.elements(Known::Connection).nth(Named::MOST) {
        Some(_) => Err(Violation::Malformed("its Connection has too many options")),
        None => Ok(()),
    }
}

fn says_close(fields: &Fields) -> bool {
    fields.has_element(Known::Connection, "close") || fields.has_element(Known::ProxyConnection, "close")
}

/// Another HTTP is not passed on: behind it there would be requests that
/// nobody here has judged. RFC 9113 withdrew `h2c`, and its settings field
/// stops here with the rest that `Connection` names.
fn asks_for_upgrade(fields: &Fields) -> bool {
    let is_http = |protocol: &[u8]| {
        ["h2", "http"].iter().any(|name| {
            protocol.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        })
    };
    fields.has_element(Known::Connection, "upgrade")
        && fields.elements(Known::Upgrade).next().is_some()
        && !fields.elements(Known::Upgrade).any(is_http)
}

/// There is one expectation. A reader that knows no other, or finds this one
/// in what is none, waits where the next reader does not (RFC 9110 §10.1.1).
fn expects_continue(fields: &Fields) -> Result<bool, Violation> {
    let mut all = fields.all(Known::Expect);
    match (all.next(), all.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Violation::Malformed("its Expect is not 100-continue")),
    }
}

/// RFC 9110 §7.6.2. Other methods may carry the field, and it means nothing.
fn max_forwards(head: &RequestHead) -> Result<Option<u64>, Violation> {
    if !matches!(head.method(), "TRACE" | "OPTIONS") {
        return Ok(None);
    }
    let mut all = head.fields().all(Known::MaxForwards);
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        // A number that is too large is more than anyone will pass.
        (Some(text), None) if !text.is_empty() && text.iter().all(u8::is_ascii_digit) => {
            Ok(Some(decimal(text).unwrap_or(u64::MAX)))
        }
        _ => Err(Violation::Malformed("its Max-Forwards is not one decimal number")),
    }
}

#[cfg(test)]
mod tests;
