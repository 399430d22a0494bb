//! Where a head ends.
//!
//! Owns: [`Scan`], which goes on where it stopped and never starts over; what
//! no byte of a head may be, whatever it means.
//! Must not know: what stands in a line.

use super::fields::is_token;
use super::head::{HeadLimits, Violation};

/// The search for a head's end: what is known of the bytes so far.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Where the head begins, behind empty lines.
    pub(super) begin: usize,
    /// Where the search goes on.
    at: usize,
    /// Where the line begins that is being read.
    line: usize,
    /// Whole lines so far, the first one included.
    pub(super) lines: usize,
}

/// What may stand before a first line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// Some clients send one behind a body (RFC 9112 §2.2).
    EmptyLines,
}

impl Scan {
    /// Where the head ends. Each byte is looked at once; what is found does
    /// not depend on how the bytes were cut.
    pub(super) fn end(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
        before: Before,
    ) -> Result<Option<usize>, Violation> {
        let from = self.at;
        self.check_begin(buf, limits, before)?;
        for hit in memchr::memchr3_iter(b'\r', b'\n', 0, &buf[from..]) {
            let at = from + hit;
            match buf[at] {
                _ if at >= limits.bytes => return Err(TOO_LONG),
                b'\n' => {
                    if at == self.line || buf[at - 1] != b'\r' {
                        return Err(Violation::Malformed("a line ends with LF alone"));
                    }
                    if self.line_ends(buf, at, limits, before)? {
                        return Ok(Some(at + 1));
                    }
                }
                b'\r' if at + 1 >= limits.bytes => return Err(TOO_LONG),
                b'\r' => match buf.get(at + 1) {
                    Some(b'\n') => {}
                    Some(_) => return Err(Violation::Malformed("it holds a CR without LF")),
                    None => {
                        self.at = at;
                        return Ok(None);
                    }
                },
                _ => return Err(Violation::Malformed("it holds a NUL")),
            }
        }
        self.at = buf.len();
        if buf.len() >= limits.bytes { Err(TOO_LONG) } else { Ok(None) }
    }

    /// TLS, SOCKS and other binary is known by its first byte; an end of its
    /// head may never come.
    fn check_begin(&self, buf: &[u8], limits: &HeadLimits, before: Before) -> Result<(), Violation> {
        match buf.get(self.begin) {
            Some(first)
                if before == Before::EmptyLines
                    && self.begin < limits.bytes
                    && !is_token(*first)
                    && !b"\r\n".contains(first) =>
            {
                Err(Violation::Malformed("it does not begin with a method"))
            }
            _ => Ok(()),
        }
    }

    /// Takes note of the line that ends with the LF at `at`; whether it ends
    /// the head.
    fn line_ends(
        &mut self,
        buf: &[u8],
        at: usize,
        limits: &HeadLimits,
        before: Before,
    ) -> Result<bool, Violation> {
        let begin = std::mem::replace(&mut self.line, at + 1);
        let empty = at - 1 == begin;
        match (self.lines, empty) {
            (0, true) if before == Before::Nothing => {
                return Err(Violation::Malformed("an empty line stands before the status line"));
            }
            (0, true) => {
                self.begin = at + 1;
                self.check_begin(buf, limits, before)?;
            }
            (_, true) => return Ok(true),
            (1.., false) if matches!(buf[begin], b' ' | b'\t') => {
                return Err(Violation::Malformed("a field is folded over lines"));
            }
            (_, false) => self.lines += 1,
        }
        if self.lines > limits.fields.saturating_add(1) {
            return Err(Violation::TooLarge("it has too many fields"));
        }
        Ok(false)
    }
}

const TOO_LONG: Violation = Violation::TooLarge("its head is too long");
