//! One strict head out of a buffer.
//!
//! Owns: request line and status line, what a request is aimed at
//! ([`Destination`]), and [`Violation`].
//! Must not know: bodies, connections, users.
//!
//! `httparse` reads the tokens. It takes more than RFC 9112 says a proxy
//! should (a bare LF ends a line), so the scan for the end ([`Scan`]) refuses
//! every bare CR, bare LF, NUL and folded line first.

use std::fmt;
use std::mem::MaybeUninit;

use crate::core::code::Code;
use crate::core::fault::Fault;

use super::fields::Fields;
use super::scan::Before;
pub use super::scan::Scan;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes, with the empty line at its end and any empty lines before it.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

impl Default for HeadLimits {
    /// 64 KiB, 100 fields.
    fn default() -> Self {
        Self { bytes: 64 * 1024, fields: 100 }
    }
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It breaks the grammar, or two readers could disagree about it.
    #[error("{0}")]
    Malformed(&'static str),
    /// It is larger than the limits.
    #[error("{0}")]
    TooLarge(&'static str),
}

impl Violation {
    /// The fault where an answer was at fault.
    pub fn of_response(self) -> Fault {
        Fault::new(Code::BadResponse, format!("The target's answer is not usable: {self}."))
    }
}

impl From<Violation> for Fault {
    /// The fault where a request was at fault.
    fn from(violation: Violation) -> Self {
        let detail = format!("The request is not usable: {violation}.");
        match violation {
            Violation::Malformed(_) => Self::new(Code::BadRequest, detail),
            Violation::TooLarge(_) => Self::new(Code::HeadTooLarge, detail),
        }
    }
}

/// The HTTP versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    fn of(minor: Option<u8>) -> Self {
        if minor == Some(0) { Self::Http10 } else { Self::Http11 }
    }
}

/// Reads a request's head from the beginning of `buf`: the head and how many
/// bytes it took, or `None` if its end is not there yet. `scan` is the
/// caller's, new for each head; `buf` may only have grown between two calls.
pub fn parse_request(
    buf: &[u8],
    scan: &mut Scan,
    limits: &HeadLimits,
) -> Result<Option<(RequestHead, usize)>, Violation> {
    let Some(end) = scan.end(buf, limits, Before::EmptyLines)? else { return Ok(None) };
    let head = &buf[scan.begin..end];
    let fields = scan.lines - 1;
    *scan = Scan::default();
    if fields <= SLOTS {
        request(head, &mut [const { MaybeUninit::uninit() }; SLOTS])
    } else {
        request(head, &mut vec![MaybeUninit::uninit(); fields])
    }
    .map(|request| Some((request, end)))
}

/// Reads a response's head like [`parse_request`] a request's.
pub fn parse_response(
    buf: &[u8],
    scan: &mut Scan,
    limits: &HeadLimits,
) -> Result<Option<(ResponseHead, usize)>, Violation> {
    let Some(end) = scan.end(buf, limits, Before::Nothing)? else { return Ok(None) };
    let head = &buf[..end];
    let fields = scan.lines - 1;
    *scan = Scan::default();
    if fields <= SLOTS {
        response(head, &mut [const { MaybeUninit::uninit() }; SLOTS])
    } else {
        response(head, &mut vec![MaybeUninit::uninit(); fields])
    }
    .map(|response| Some((response, end)))
}

/// A request's first line and fields.
#[derive(Clone)]
pub struct RequestHead {
    fields: Fields,
    /// Bytes of the method, which begins the head.
    method: usize,
    /// Bytes of the target, which stands one space behind the method.
    target: usize,
    version: Version,
}

impl RequestHead {
    /// The method; letter case counts.
    pub fn method(&self) -> &str {
        text(&self.fields.head()[..self.method])
    }

    /// The request target as written.
    pub fn target(&self) -> &str {
        text(&self.fields.head()[self.method + 1..][..self.target])
    }

    /// The client's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The fields.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// What the request is aimed at (RFC 9112 §3.2). The authority is yet to
    /// be read; its default port is 80 for a plain request.
    pub fn destination(&self) -> Result<Destination<'_>, Fault> {
        let target = self.target();
        if self.method() == "CONNECT" {
            return Ok(Destination::Connect { authority: target });
        }
        if target.starts_with('/') || target == "*" {
            return Err(Fault::new(Code::NotAProxyRequest, HOW_TO_USE));
        }
        let Some((scheme, rest)) = target.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            let what = "its target is no absolute URL such as http://example.com/";
            return Err(Violation::Malformed(what).into());
        };
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("ws") {
            return Err(Fault::new(Code::UnsupportedScheme, ONLY_HTTP));
        }
        if rest.contains('#') {
            return Err(Violation::Malformed("its target has a fragment").into());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        Ok(Destination::Plain { authority, path })
    }
}

impl fmt::Debug for RequestHead {
    /// Shows no target: a URL may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.method(), self.version, self.fields)
    }
}

/// What a request is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// A tunnel.
    Connect {
        /// `host:port` as written.
        authority: &'a str,
    },
    /// A plain request, in absolute-form with `http` or `ws`.
    Plain {
        /// `host` or `host:port` as written.
        authority: &'a str,
        /// Path and query as written: empty, or with `/` or `?` first.
        path: &'a str,
    },
}

const HOW_TO_USE: &str = "This is a forward proxy, not a web server. Set it as your client's proxy, for example: \
     curl -x http://USER:SECRET@THIS-HOST:PORT https://example.com/";
const ONLY_HTTP: &str =
    "Only http: and ws: URLs are fetched in absolute-form; for anything else, ask for a tunnel with CONNECT.";

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A response's status line and fields.
#[derive(Clone)]
pub struct ResponseHead {
    fields: Fields,
    version: Version,
    status: u16,
    /// Where the reason ends; it begins at a fixed place.
    reason: usize,
}

impl ResponseHead {
    /// The peer's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The status, 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase as written, maybe empty, maybe no UTF-8.
    pub fn reason(&self) -> &[u8] {
        self.fields.head().get(REASON..self.reason).unwrap_or_default()
    }

    /// The fields.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }
}

impl fmt::Debug for ResponseHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.status, self.version, self.fields)
    }
}

/// Where a reason phrase begins: behind `HTTP/1.1 200 `.
const REASON: usize = 13;

/// Fields that are read without a second allocation.
const SLOTS: usize = 100;

type Slots<'s, 'b> = &'s mut [MaybeUninit<httparse::Header<'b>>];

fn request<'b>(head: &'b [u8], slots: Slots<'_, 'b>) -> Result<RequestHead, Violation> {
    let mut request = httparse::Request::new(&mut []);
    whole(request.parse_with_uninit_headers(head, slots), head)?;
    Ok(RequestHead {
        method: request.method.map_or(0, str::len),
        target: request.path.map_or(0, str::len),
        version: Version::of(request.version),
        fields: Fields::new(head, request.headers),
    })
}

fn response<'b>(head: &'b [u8], slots: Slots<'_, 'b>) -> Result<ResponseHead, Violation> {
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, slots);
    whole(parsed, head)?;
    let status = response.code.unwrap_or_default();
    if status < 100 {
        return Err(Violation::Malformed("its status is below 100"));
    }
    Ok(ResponseHead {
        version: Version::of(response.version),
        status,
        reason: memchr::memchr(b'\r', head).unwrap_or_default(),
        fields: Fields::new(head, response.headers),
    })
}

/// The scan found the end; the tokenizer must come to the same one.
fn whole(parsed: httparse::Result<usize>, head: &[u8]) -> Result<(), Violation> {
    use httparse::Error as E;
    let what = match parsed {
        Ok(httparse::Status::Complete(eaten)) if eaten == head.len() => return Ok(()),
        Ok(_) => "its head has no clear end",
        Err(E::HeaderName) => "a field has a name that is no token, or a space before its colon",
        Err(E::HeaderValue) => "a field value holds a control character",
        Err(E::Version | E::NewLine) => "its version is not HTTP/1.0 or HTTP/1.1",
        Err(E::Status) => "its status line is unreadable",
        Err(E::Token) => "its first line is not method, target and version",
        Err(E::TooManyHeaders) => "it has more fields than lines",
    };
    Err(Violation::Malformed(what))
}

/// Methods are tokens, and targets were read as UTF-8.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests;
