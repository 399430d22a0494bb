//! The chunked coding (RFC 9112 §7.1): bytes pass through, and their end is
//! found.
//!
//! Owns: the state between two pieces of a chunked body, what of it is passed
//! on, and which trailers are.
//! Must not know: where the bytes come from or go to.
//!
//! Passed on is what came, byte for byte and from the caller's own buffer,
//! without chunk extensions (they are for this hop) and forbidden trailers. No
//! byte of framing is passed on before its whole line was judged; so a line
//! that comes in pieces is held, and its size written anew.

use super::fields::{Known, Named, is_token, is_value};
use super::head::{HeadLimits, Violation};

/// A chunked body on its way.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    decode: bool,
    /// Trailer lines that a decoder sets aside.
    kept: Option<Vec<u8>>,
    named: Named,
    limits: HeadLimits,
    /// A trailer line whose end has not come yet.
    held: Vec<u8>,
    /// What is passed on and does not stand so in the caller's buffer.
    own: Vec<u8>,
    trailer_bytes: usize,
    trailer_fields: usize,
    /// A violation behind bytes that were still good.
    failed: Option<Violation>,
}

/// What became of some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Bytes of the input that are done with; at least one, unless the body
    /// had ended.
    pub eaten: usize,
    /// What is to be passed on, in this order; either may be empty.
    pub emit: [&'a [u8]; 2],
}

#[derive(Clone, Debug)]
enum State {
    Size(SizeLine),
    Data(u64),
    /// The CRLF behind a chunk's data: whether the CR has come.
    DataEnd(bool),
    Trailer,
    Done,
}

impl Chunked {
    /// A body that is passed on chunked. `named` are the fields that the
    /// message's `Connection` names; `limits` bound the trailer section.
    pub fn verbatim(named: Named, limits: HeadLimits) -> Self {
        Self {
            state: State::Size(SizeLine::default()),
            decode: false,
            kept: None,
            named,
            limits,
            held: Vec::new(),
            own: Vec::new(),
            trailer_bytes: 0,
            trailer_fields: 0,
            failed: None,
        }
    }

    /// A body that is passed on without the coding, to end with the
    /// connection: HTTP/1.0 has no other way. Trailers are lost.
    pub fn decoded(limits: HeadLimits) -> Self {
        Self { decode: true, ..Self::verbatim(Named::default(), limits) }
    }

    /// The same for a hop that has another way to send trailers: they are set
    /// aside ([`Self::trailers`]).
    pub fn apart(limits: HeadLimits) -> Self {
        Self { kept: Some(Vec::new()), ..Self::decoded(limits) }
    }

    /// The trailer lines that were set aside, with their line ends.
    pub fn trailers(&self) -> &[u8] {
        self.kept.as_deref().unwrap_or_default()
    }

    /// Whether the body has ended. What follows belongs to the next message.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// How many of the next bytes are data of the chunk that has begun, and so
    /// go out as they are.
    pub fn data_left(&self) -> u64 {
        match self.state {
            State::Data(left) if self.failed.is_none() => left,
            _ => 0,
        }
    }

    /// So many of them went out without being shown to [`Self::step`]; at most
    /// [`Self::data_left`].
    pub fn pass_data(&mut self, bytes: u64) {
        if let State::Data(left) = &mut self.state {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                self.state = State::DataEnd(false);
            }
        }
    }

    /// Takes some input; to be called until it is all eaten or the body has
    /// ended. After a violation nothing more of the body may be passed on.
    pub fn step<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        self.own.clear();
        let (mut begin, mut at) = (0, 0);
        let mut eaten = 0;
        while eaten < input.len() && !self.is_done() {
            let piece = match self.piece(&input[eaten..]) {
                Ok(piece) => piece,
                Err(violation) if begin == at => return Err(violation),
                Err(violation) => {
                    self.failed = Some(violation);
                    break;
                }
            };
            eaten += piece.eaten;
            match piece.passed {
                Passed::AsItIs => at = eaten,
                Passed::Rewritten => break,
                Passed::Nothing if begin < at => break,
                Passed::Nothing => (begin, at) = (eaten, eaten),
            }
        }
        Ok(Step { eaten, emit: [&input[begin..at], &self.own] })
    }

    /// Whether `input` could go on so: to refuse a broken body before its
    /// head is sent on.
    pub fn check(&self, input: &[u8]) -> Result<(), Violation> {
        let mut trial = self.clone();
        let mut rest = input;
        while !rest.is_empty() && !trial.is_done() {
            let eaten = trial.step(rest)?.eaten;
            rest = &rest[eaten..];
        }
        Ok(())
    }

    /// One element of the coding, or what there is of it.
    fn piece(&mut self, input: &[u8]) -> Result<Piece, Violation> {
        match &mut self.state {
            State::Size(line) => {
                let fresh = line.length == 0;
                let Some(eaten) = line.feed(input)? else { return Ok(Piece::withheld(input.len())) };
                let (size, as_it_is) = (line.size, fresh && !line.extended);
                self.state = if size == 0 { State::Trailer } else { State::Data(size) };
                if as_it_is || self.decode {
                    return Ok(self.framing(eaten));
                }
                self.own.extend_from_slice(format!("{size:x}\r\n").as_bytes());
                Ok(Piece { eaten, passed: Passed::Rewritten })
            }
            State::Data(left) => {
                let eaten = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= eaten as u64;
                if *left == 0 {
                    self.state = State::DataEnd(false);
                }
                Ok(Piece { eaten, passed: Passed::AsItIs })
            }
            State::DataEnd(cr) => match (*cr, input[0]) {
                (false, b'\r') => {
                    *cr = true;
                    Ok(self.framing(1))
                }
                (true, b'\n') => {
                    self.state = State::Size(SizeLine::default());
                    Ok(self.framing(1))
                }
                _ => Err(Violation::Malformed("a chunk's data is not followed by CRLF")),
            },
            State::Trailer => self.trailer_piece(input),
            State::Done => Ok(Piece::withheld(0)),
        }
    }

    /// One line of the trailer section, or what there is of it.
    fn trailer_piece(&mut self, input: &[u8]) -> Result<Piece, Violation> {
        let (eaten, whole) = match memchr::memchr(b'\n', input) {
            Some(at) => (at + 1, true),
            None => (input.len(), false),
        };
        self.trailer_bytes += eaten;
        if self.trailer_bytes > self.limits.bytes {
            return Err(Violation::TooLarge("its trailer section is too long"));
        }
        if !whole {
            self.held.extend_from_slice(&input[..eaten]);
            return Ok(Piece::withheld(eaten));
        }
        let held = !self.held.is_empty();
        if held {
            self.held.extend_from_slice(&input[..eaten]);
        }
        let line = if held { &self.held[..] } else { &input[..eaten] };
        let name = trailer_name(line)?;
        let passes = match name {
            None => {
                self.state = State::Done;
                !self.decode
            }
            Some(name) => {
                self.trailer_fields += 1;
                if self.trailer_fields > self.limits.fields {
                    return Err(Violation::TooLarge("it has too many trailers"));
                }
                let may = Known::of(name).may_trail() && !self.named.has(name);
                if may && let Some(kept) = &mut self.kept {
                    kept.extend_from_slice(line);
                }
                may && !self.decode
            }
        };
        let passed = match (passes, held) {
            (false, _) => Passed::Nothing,
            (true, false) => Passed::AsItIs,
            (true, true) => {
                std::mem::swap(&mut self.own, &mut self.held);
                Passed::Rewritten
            }
        };
        self.held.clear();
        Ok(Piece { eaten, passed })
    }

    /// Framing as it came, which a decoder does not pass on.
    fn framing(&self, eaten: usize) -> Piece {
        Piece { eaten, passed: if self.decode { Passed::Nothing } else { Passed::AsItIs } }
    }
}

/// An element of the coding.
struct Piece {
    eaten: usize,
    passed: Passed,
}

enum Passed {
    /// The bytes that were eaten.
    AsItIs,
    /// The bytes in `own`.
    Rewritten,
    Nothing,
}

impl Piece {
    fn withheld(eaten: usize) -> Self {
        Self { eaten, passed: Passed::Nothing }
    }
}

/// The field name in a trailer line with its line end; `None` for the empty
/// line that ends the section.
fn trailer_name(line: &[u8]) -> Result<Option<&[u8]>, Violation> {
    let Some(line) = line.strip_suffix(b"\r\n") else {
        return Err(Violation::Malformed("a trailer ends with LF alone"));
    };
    if line.is_empty() {
        return Ok(None);
    }
    let (name, value) = line.split_at(memchr::memchr(b':', line).unwrap_or(0));
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Violation::Malformed("a trailer has a name that is no token"));
    }
    if !value.iter().all(|byte| is_value(*byte)) {
        return Err(Violation::Malformed("a trailer's value holds a control character"));
    }
    Ok(Some(name))
}

/// A line with a chunk's size, read byte by byte.
#[derive(Clone, Debug, Default)]
struct SizeLine {
    size: u64,
    /// Bytes so far.
    length: usize,
    part: Part,
    /// It has an extension.
    extended: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Digits,
    /// White space before an extension.
    Space,
    Extension,
    Cr,
}

impl SizeLine {
    /// Enough for any extension that was ever seen, and little enough that
    /// nobody sends them for their own sake.
    const MOST: usize = 1024;
    /// 64 bits.
    const DIGITS: usize = 16;

    /// Where the line ends in `input`, if it does.
    fn feed(&mut self, input: &[u8]) -> Result<Option<usize>, Violation> {
        for (at, byte) in input.iter().enumerate() {
            if self.length == Self::MOST {
                return Err(Violation::Malformed("a chunk's extension is too long"));
            }
            self.length += 1;
            match (self.part, byte) {
                (Part::Cr, b'\n') => return Ok(Some(at + 1)),
                (Part::Digits, _) if byte.is_ascii_hexdigit() => self.digit(*byte)?,
                (Part::Digits, b'\r') if self.length > 1 => self.part = Part::Cr,
                (Part::Extension, b'\r') => self.part = Part::Cr,
                (Part::Digits | Part::Space, b';') if self.length > 1 => {
                    self.part = Part::Extension;
                    self.extended = true;
                }
                (Part::Digits | Part::Space, b' ' | b'\t') if self.length > 1 => self.part = Part::Space,
                (Part::Extension, _) if is_value(*byte) => {}
                _ => return Err(Violation::Malformed("a chunk's size is not hexadecimal digits and CRLF")),
            }
        }
        Ok(None)
    }

    fn digit(&mut self, byte: u8) -> Result<(), Violation> {
        if self.length > Self::DIGITS {
            return Err(Violation::Malformed("a chunk's size does not fit 64 bits"));
        }
        let digit = char::from(byte).to_digit(16).unwrap_or_default();
        self.size = self.size << 4 | u64::from(digit);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
