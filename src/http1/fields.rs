//! The header fields of one head, in the order and the case they came in.
//!
//! Owns: [`Fields`] (spans over the raw head), the names that mean something
//! to a proxy ([`Known`]), lists, and which fields stop here.
//! Must not know: where a head ends, what a body is.

use std::fmt;

use super::head::Violation;

/// The fields of a head. One allocation: the head's bytes, then a record for
/// each field with its spans.
#[derive(Clone)]
pub struct Fields {
    raw: Vec<u8>,
    /// Bytes of the head in `raw`; the records follow.
    head: usize,
    /// A bit for each [`Known`] that is there: most questions are about fields
    /// that are not.
    present: u32,
}

/// One field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as written: a token (RFC 9110 §5.6.2).
    pub name: &'a [u8],
    /// The value without white space around it; bytes, for it may be no UTF-8.
    pub value: &'a [u8],
    /// What the name means to a proxy.
    pub known: Known,
}

/// The bytes of a record: four `u32` (begin and end of name and of value) and
/// a [`Known`].
const RECORD: usize = 17;

impl Fields {
    /// `headers` must have been read from `head` itself.
    pub(super) fn new(head: &[u8], headers: &[httparse::Header<'_>]) -> Self {
        let mut raw = Vec::with_capacity(head.len() + headers.len() * RECORD);
        raw.extend_from_slice(head);
        let base = head.as_ptr().addr();
        let span = |part: &[u8], raw: &mut Vec<u8>| {
            let begin = part.as_ptr().addr() - base;
            for edge in [begin, begin + part.len()] {
                let edge = u32::try_from(edge).unwrap_or(u32::MAX);
                raw.extend_from_slice(&edge.to_le_bytes());
            }
        };
        let mut present = 0;
        for header in headers {
            let known = Known::of(header.name.as_bytes());
            span(header.name.as_bytes(), &mut raw);
            span(header.value, &mut raw);
            raw.push(known as u8);
            present |= known.bit();
        }
        Self { raw, head: head.len(), present }
    }

    /// The head's bytes, from its first line to the empty line.
    pub(crate) fn head(&self) -> &[u8] {
        &self.raw[..self.head]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        (self.raw.len() - self.head) / RECORD
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw.len() == self.head
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.raw[self.head..].chunks_exact(RECORD).map(|record| {
            let edge = |at: usize| {
                u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]) as usize
            };
            Field {
                name: &self.raw[edge(0)..edge(4)],
                value: &self.raw[edge(8)..edge(12)],
                known: Known::ALL[usize::from(record[16])],
            }
        })
    }

    /// The values of every line of a known field, in order.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        let lines = if self.present & known.bit() == 0 { 0 } else { self.len() };
        self.iter().take(lines).filter(move |field| field.known == known).map(|field| field.value)
    }

    /// The value of the first line of a known field.
    pub fn first(&self, known: Known) -> Option<&[u8]> {
        self.all(known).next()
    }

    /// The value of the first line of any field; letter case does not count.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|field| field.is(name)).map(|field| field.value)
    }

    /// The elements of a known list field, over all its lines.
    pub fn elements(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.all(known).flat_map(elements)
    }

    /// Whether a known list field has this element; letter case does not count.
    pub fn has_element(&self, known: Known, element: &str) -> bool {
        self.elements(known).any(|each| each.eq_ignore_ascii_case(element.as_bytes()))
    }

    /// The length that the message states. The same number more than once is
    /// one number (RFC 9112 §6.3); anything else than digits is a violation.
    pub(super) fn content_length(&self) -> Result<Option<u64>, Violation> {
        let mut stated = None;
        for text in self.all(Known::ContentLength).flat_map(|value| value.split(|byte| *byte == b',')) {
            let length = decimal(text.trim_ascii())
                .ok_or(Violation::Malformed("a Content-Length is not a decimal number below 2^64"))?;
            if stated.is_some_and(|before| before != length) {
                return Err(Violation::Malformed("it states two different Content-Lengths"));
            }
            stated = Some(length);
        }
        Ok(stated)
    }
}

impl fmt::Debug for Fields {
    /// Shows no value: some are credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|field| field.name())).finish()
    }
}

impl<'a> Field<'a> {
    /// The name as written.
    pub fn name(&self) -> &'a str {
        // A token is ASCII.
        std::str::from_utf8(self.name).unwrap_or_default()
    }

    /// Whether the name is this one; letter case does not count.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

impl fmt::Debug for Field<'_> {
    /// Shows no value: it may be a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A field name that means something to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub enum Known {
    /// Any other: passed on as it is.
    Other,
    Authorization,
    Connection,
    ContentLength,
    Cookie,
    Expect,
    Host,
    KeepAlive,
    /// `Content_Length` and `Transfer_Encoding`, which a reader that turns
    /// names into variables (RFC 3875 §4.1.18) takes for framing.
    Lookalike,
    MaxForwards,
    /// Every field whose name begins with `Moorgate-`.
    Moorgate,
    ProxyAuthenticate,
    ProxyAuthenticationInfo,
    ProxyAuthorization,
    ProxyConnection,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Via,
    WwwAuthenticate,
}

impl Known {
    /// In the order of their discriminants; a test holds the two together.
    const ALL: [Self; 22] = [
        Self::Other,
        Self::Authorization,
        Self::Connection,
        Self::ContentLength,
        Self::Cookie,
        Self::Expect,
        Self::Host,
        Self::KeepAlive,
        Self::Lookalike,
        Self::MaxForwards,
        Self::Moorgate,
        Self::ProxyAuthenticate,
        Self::ProxyAuthenticationInfo,
        Self::ProxyAuthorization,
        Self::ProxyConnection,
        Self::SetCookie,
        Self::Te,
        Self::Trailer,
        Self::TransferEncoding,
        Self::Upgrade,
        Self::Via,
        Self::WwwAuthenticate,
    ];

    /// What a name means. The length decides first, so most names cost one
    /// jump.
    pub(super) fn of(name: &[u8]) -> Self {
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            3 if is("via") => Self::Via,
            4 if is("host") => Self::Host,
            6 if is("cookie") => Self::Cookie,
            6 if is("expect") => Self::Expect,
            7 if is("trailer") => Self::Trailer,
            7 if is("upgrade") => Self::Upgrade,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::KeepAlive,
            10 if is("set-cookie") => Self::SetCookie,
            12 if is("max-forwards") => Self::MaxForwards,
            13 if is("authorization") => Self::Authorization,
            14 if is("content-length") => Self::ContentLength,
            14 if is("content_length") => Self::Lookalike,
            16 if is("proxy-connection") => Self::ProxyConnection,
            16 if is("www-authenticate") => Self::WwwAuthenticate,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is("transfer_encoding") => Self::Lookalike,
            18 if is("proxy-authenticate") => Self::ProxyAuthenticate,
            19 if is("proxy-authorization") => Self::ProxyAuthorization,
            25 if is("proxy-authentication-info") => Self::ProxyAuthenticationInfo,
            _ if name.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"moorgate-")) => {
                Self::Moorgate
            }
            _ => Self::Other,
        }
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether the field stops at this hop, whatever the message is
    /// (RFC 9110 §7.6.1, and what is between a client and its proxy).
    /// `Transfer-Encoding`, `Trailer` and `Upgrade` are the rewriter's to judge.
    pub(super) fn stops_here(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::Moorgate
                | Self::ProxyAuthenticate
                | Self::ProxyAuthenticationInfo
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
        )
    }

    /// Whether `Connection` may name it as one that stops here. Framing and
    /// routing are the proxy's own to write, so naming them cannot hide a
    /// length or a host from the next reader, nor where a message has been.
    fn may_be_named(self) -> bool {
        !matches!(
            self,
            Self::ContentLength
                | Self::Expect
                | Self::Host
                | Self::MaxForwards
                | Self::TransferEncoding
                | Self::Trailer
                | Self::Upgrade
                | Self::Via
        )
    }

    /// Whether it may stand in a trailer section (RFC 9110 §6.5.1): framing,
    /// routing and credentials may not.
    pub(super) fn may_trail(self) -> bool {
        matches!(self, Self::Other)
    }
}

/// The field names that a message's `Connection` names, beyond those that stop
/// here anyway. Mostly empty, and then without an allocation.
#[derive(Clone, Debug, Default)]
pub struct Named(Vec<u8>);

impl Named {
    /// At most so many options are read; [`super::framing`] refuses more, which
    /// bounds the work of comparing each with each field.
    pub(super) const MOST: usize = 64;

    /// What the message's `Connection` names.
    pub fn of(fields: &Fields) -> Self {
        let mut list = Vec::new();
        for option in fields.elements(Known::Connection) {
            let ordinary = ["close", "keep-alive", "upgrade"]
                .iter()
                .any(|known| option.eq_ignore_ascii_case(known.as_bytes()));
            let known = Known::of(option);
            if !ordinary && known.may_be_named() && !known.stops_here() {
                list.extend_from_slice(option);
                list.push(b',');
            }
        }
        Self(list)
    }

    /// Whether this field is named.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        !self.0.is_empty() && elements(&self.0).any(|option| option.eq_ignore_ascii_case(name))
    }
}

/// The elements of a comma-separated list without quoted strings; empty ones
/// are passed over (RFC 9110 §5.6.1.2).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// A number of decimal digits alone that fits 64 bits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether a byte may stand in a token (RFC 9110 §5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a byte may stand in a field value (RFC 9110 §5.5).
pub(super) fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &str) -> Fields {
        let head = format!("{lines}\r\n");
        let mut slots = [httparse::EMPTY_HEADER; 100];
        let Ok(httparse::Status::Complete((_, headers))) =
            httparse::parse_headers(head.as_bytes(), &mut slots)
        else {
            panic!("{lines:?}");
        };
        Fields::new(head.as_bytes(), headers)
    }

    #[test]
    fn the_list_of_known_names_is_in_the_order_of_the_enum() {
        for (at, known) in Known::ALL.into_iter().enumerate() {
            assert_eq!(known as usize, at);
        }
    }

    #[test]
    fn names_are_known_in_any_case() {
        for (name, known) in [
            ("TE", Known::Te),
            ("hOsT", Known::Host),
            ("CONTENT-LENGTH", Known::ContentLength),
            ("transfer-encoding", Known::TransferEncoding),
            ("Moorgate-Session", Known::Moorgate),
            ("moorgate-", Known::Moorgate),
            ("Moorgate", Known::Other),
            ("X-Moorgate-Session", Known::Other),
            ("Proxy-Authorization", Known::ProxyAuthorization),
            ("Proxy-Status", Known::Other),
            ("Content_Length", Known::Lookalike),
            ("TRANSFER_ENCODING", Known::Lookalike),
            ("Accept", Known::Other),
        ] {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
        }
    }

    #[test]
    fn order_case_and_bytes_are_kept() {
        let fields = fields("B: 1\r\na:  two words \t\r\nb:\r\nC:\u{fc}\r\n");
        let seen: Vec<_> = fields.iter().map(|field| (field.name(), field.value)).collect();
        let c = "\u{fc}".as_bytes();
        assert_eq!(seen, [("B", &b"1"[..]), ("a", b"two words"), ("b", b""), ("C", c)]);
        assert_eq!(fields.len(), 4);
        assert_eq!(fields.get("A"), Some(&b"two words"[..]));
        assert_eq!(fields.get("d"), None);
    }

    #[test]
    fn debug_shows_names_alone() {
        let fields = fields("Proxy-Authorization: Basic c2VjcmV0\r\n");
        assert_eq!(format!("{fields:?}"), r#"["Proxy-Authorization"]"#);
    }

    #[test]
    fn lists_run_over_lines_and_skip_empty_elements() {
        let fields = fields("Connection: a, ,B\t,\r\nX: y\r\nconnection: c\r\n");
        let seen: Vec<_> = fields.elements(Known::Connection).collect();
        assert_eq!(seen, [b"a", b"B", b"c"]);
        assert!(fields.has_element(Known::Connection, "b"));
        assert!(!fields.has_element(Known::Connection, "y"));
    }

    #[test]
    fn lengths_are_digits_and_agree() {
        #[track_caller]
        fn check(lines: &str, expected: Option<Option<u64>>) {
            assert_eq!(fields(lines).content_length().ok(), expected, "{lines:?}");
        }
        check("X: 1\r\n", Some(None));
        check("Content-Length: 5\r\n", Some(Some(5)));
        check("Content-Length: 005\r\n", Some(Some(5)));
        check("Content-Length: 18446744073709551615\r\n", Some(Some(u64::MAX)));
        check("Content-Length: 5\r\ncontent-length: 5\r\n", Some(Some(5)));
        check("Content-Length: 5, 5\r\n", Some(Some(5)));
        check("Content-Length: 5\r\nContent-Length: 6\r\n", None);
        check("Content-Length: 5, 6\r\n", None);
        check("Content-Length: 18446744073709551616\r\n", None);
        for bad in ["", "+5", "-5", "5,", ",5", "0x5", "5 5", "5;", "5.0", "\u{665}", "5\t5"] {
            check(&format!("Content-Length: {bad}\r\n"), None);
        }
    }

    #[test]
    fn connection_names_fields_but_never_framing() {
        let fields =
            fields("Connection: close, X-Hop, TE, Content-Length, host\r\nConnection: x-other, Expect\r\n");
        let named = Named::of(&fields);
        assert!(named.has(b"x-hop") && named.has(b"X-Other"));
        for not in ["close", "Content-Length", "Host", "Expect", "Accept"] {
            assert!(!named.has(not.as_bytes()), "{not}");
        }
    }
}
