//! Where what is pumped ends.
//!
//! Owns: [`Guide`], and those that need not know what the bytes say.
//! Must not know: how they move.

use std::convert::Infallible;

/// Says how much belongs to what is pumped.
pub(crate) trait Guide {
    /// What can be wrong with the bytes.
    type Fault;

    /// The most bytes to read next; 0 once everything was seen.
    fn want(&self) -> usize;

    /// Looks at bytes that were just read: at least one, at most as many as
    /// wanted. What it puts into `extra` (empty at first) goes out behind
    /// those it lets pass.
    fn look(&mut self, bytes: &[u8], extra: &mut Vec<u8>) -> Result<Step, Self::Fault>;

    /// How many of the next bytes go out as they are, whatever they say:
    /// those need not be shown.
    fn blind(&self) -> usize {
        0
    }

    /// How many bytes are sure to come, unless the source breaks off: where
    /// there are many, they need not be waited for to know that.
    fn foreseen(&self) -> usize {
        0
    }

    /// So many went out unseen: at most [`Self::blind`].
    fn passed(&mut self, _bytes: usize) {}

    /// Whether the source may end here. `clean` is false for a TLS connection
    /// that ended without saying so, which anyone on the way can bring about.
    fn may_end(&self, clean: bool) -> bool;
}

/// What a guide says of the bytes it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// So many of the first bytes go out as they are.
    pub(crate) pass: usize,
    /// So many were used, at least `pass`; the others are given back to the
    /// source.
    pub(crate) used: usize,
}

/// All that comes, as it comes. An end that TLS did not announce is carried
/// as an end: a tunnel's content guards itself.
#[derive(Debug)]
pub(crate) struct WholeStream;

impl Guide for WholeStream {
    type Fault = Infallible;

    fn want(&self) -> usize {
        usize::MAX
    }

    fn look(&mut self, bytes: &[u8], _: &mut Vec<u8>) -> Result<Step, Infallible> {
        Ok(Step { pass: bytes.len(), used: bytes.len() })
    }

    fn blind(&self) -> usize {
        usize::MAX
    }

    fn may_end(&self, _clean: bool) -> bool {
        true
    }
}

/// Exactly so many bytes: a body with Content-Length.
#[derive(Debug)]
pub(crate) struct Exactly(pub(crate) u64);

impl Guide for Exactly {
    type Fault = Infallible;

    fn want(&self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    fn look(&mut self, bytes: &[u8], _: &mut Vec<u8>) -> Result<Step, Infallible> {
        self.0 -= bytes.len() as u64;
        Ok(Step { pass: bytes.len(), used: bytes.len() })
    }

    fn blind(&self) -> usize {
        self.want()
    }

    fn foreseen(&self) -> usize {
        self.want()
    }

    fn passed(&mut self, bytes: usize) {
        self.0 -= bytes as u64;
    }

    fn may_end(&self, _clean: bool) -> bool {
        false
    }
}

/// Whatever comes until the source ends: a body that the connection's end
/// delimits. Over TLS it is whole only if the end was announced (RFC 9112
/// §9.8).
#[derive(Debug)]
pub(crate) struct UntilEnd;

impl Guide for UntilEnd {
    type Fault = Infallible;

    fn want(&self) -> usize {
        usize::MAX
    }

    fn look(&mut self, bytes: &[u8], _: &mut Vec<u8>) -> Result<Step, Infallible> {
        Ok(Step { pass: bytes.len(), used: bytes.len() })
    }

    fn blind(&self) -> usize {
        usize::MAX
    }

    fn may_end(&self, clean: bool) -> bool {
        clean
    }
}
