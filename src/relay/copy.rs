//! One direction's bytes from one wire to another.
//!
//! Owns: [`Pump`], its borrowed buffer, and the [`Guide`]s that say where a
//! body ends.
//! Must not know: what the bytes are; a caller's guide may.
//!
//! The buffer belongs to the thread and is borrowed while a poll runs: a wire
//! is asked whether it is readable before a byte of memory is set aside for
//! it, so a pump that waits for bytes holds none. What the sink does not take
//! at once is kept, and nothing more is read until it is gone; so a pump holds
//! at most one buffer's worth, and the source feels the sink's pace.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::{Gauge, UsedUp};
use crate::net::wire::Wire;

/// The most that is read at once, in bytes.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// Reads in one poll; after that, others get their turn.
const ROUNDS: usize = 16;

/// Moves bytes from one wire to another for as long as its guide wants some.
#[derive(Debug)]
pub(crate) struct Pump<G: Guide> {
    guide: G,
    stage: Stage<G::Fault>,
    /// Read, and not yet taken by the sink.
    held: Vec<u8>,
    /// How many of `held` the sink has taken.
    taken: usize,
    /// The sink may keep bytes back until it is flushed (TLS does).
    unflushed: bool,
}

#[derive(Debug)]
enum Stage<F> {
    Moving,
    /// Nothing more will be read: what is held still goes out.
    Ending(How<F>),
    Over,
}

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

/// How a pump ended.
pub(crate) type How<F> = Result<(), Broken<F>>;

/// Why a pump stopped early.
#[derive(Debug)]
pub(crate) enum Broken<F = Infallible> {
    /// The source failed. What it had sent before has gone out.
    Source(io::Error),
    /// The source ended before the guide let it. What it had sent before has
    /// gone out.
    Short,
    /// The guide found a fault. What it had let pass has gone out.
    Fault(F),
    /// The sink failed.
    Sink(io::Error),
    /// The quota is used up. What was read before has gone out.
    UsedUp,
}

impl<G: Guide> Pump<G> {
    /// Nothing has moved yet.
    pub(crate) fn new(guide: G) -> Self {
        Self { guide, stage: Stage::Moving, held: Vec::new(), taken: 0, unflushed: false }
    }

    /// Whether bytes are held that the sink has not taken.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether nothing more is wanted and nothing is held.
    pub(crate) fn is_sated(&self) -> bool {
        matches!(self.stage, Stage::Moving) && self.guide.want() == 0 && !self.is_holding()
    }

    /// Puts what was given back to the source behind `out`, as far as it may
    /// pass, so that it goes out with what is there in one write; says how
    /// much that was. A fault in it is told by the next poll.
    pub(crate) fn begin(&mut self, from: &mut Wire, out: &mut Vec<u8>) -> usize {
        let mut bytes = from.take_unread();
        let wanted = bytes.len().min(self.guide.want());
        let (before, mut extra) = (out.len(), Vec::new());
        if wanted > 0 {
            match self.guide.look(&bytes[..wanted], &mut extra) {
                Ok(Step { pass, used }) => {
                    out.extend_from_slice(&bytes[..pass]);
                    out.append(&mut extra);
                    drop(bytes.split_to(used));
                }
                Err(fault) => self.stage = Stage::Ending(Err(Broken::Fault(fault))),
            }
        }
        if !bytes.is_empty() {
            from.unread(bytes);
        }
        out.len() - before
    }

    /// Moves what can be moved now. Ready once all that the guide wants has
    /// gone out and is flushed; the sink stays open. Ready again if polled
    /// again.
    ///
    /// `gauge` counts what the sink takes, and bounds what is read. To bound a stall, watch it with a
    /// [`Lull`](super::lull::Lull).
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire,
        to: &mut Wire,
        gauge: &mut Gauge,
    ) -> Poll<How<G::Fault>> {
        let done = with_buffer(|buffer| self.advance(cx, from, to, gauge, buffer));
        if done.is_ready() {
            self.stage = Stage::Over;
            self.release();
        }
        gauge.rest();
        done
    }

    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire,
        to: &mut Wire,
        gauge: &mut Gauge,
        buffer: &mut [u8],
    ) -> Poll<How<G::Fault>> {
        for _ in 0..ROUNDS {
            ready!(self.deliver(cx, to, gauge)).map_err(Broken::Sink)?;
            match std::mem::replace(&mut self.stage, Stage::Moving) {
                Stage::Moving if self.guide.want() == 0 => self.stage = Stage::Ending(Ok(())),
                Stage::Moving => match self.fetch(cx, from, gauge, buffer) {
                    Poll::Ready(Err(UsedUp)) => self.stage = Stage::Ending(Err(Broken::UsedUp)),
                    Poll::Ready(Ok(read)) => {
                        self.take_in(cx, read, from, to, gauge).map_err(Broken::Sink)?;
                    }
                    Poll::Pending => {
                        // Nothing more for now, so the sink need not wait.
                        // If it cannot flush now it wakes us when it can.
                        if let Poll::Ready(flushed) = self.flush(cx, to) {
                            flushed.map_err(Broken::Sink)?;
                        }
                        return Poll::Pending;
                    }
                },
                Stage::Ending(how) => {
                    let Poll::Ready(flushed) = self.flush(cx, to) else {
                        self.stage = Stage::Ending(how);
                        return Poll::Pending;
                    };
                    return Poll::Ready(flushed.map_err(Broken::Sink).and(how));
                }
                Stage::Over => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hands on what is held.
    fn deliver(&mut self, cx: &mut Context<'_>, to: &mut Wire, gauge: &mut Gauge) -> Poll<io::Result<()>> {
        while self.is_holding() {
            let held = std::mem::take(&mut self.held);
            let written = self.write(cx, &held[self.taken..], to, gauge);
            self.held = held;
            self.taken += ready!(written)?;
            if self.taken == self.held.len() {
                self.release();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: &mut Wire,
        gauge: &mut Gauge,
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(to).poll_write(cx, bytes))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        gauge.add(n);
        self.unflushed = true;
        Poll::Ready(Ok(n))
    }

    fn release(&mut self) {
        (self.held, self.taken) = (Vec::new(), 0);
    }

    fn fetch<'b>(
        &self,
        cx: &mut Context<'_>,
        from: &mut Wire,
        gauge: &mut Gauge,
        buffer: &'b mut [u8],
    ) -> Poll<Result<io::Result<&'b [u8]>, UsedUp>> {
        let most = buffer.len().min(self.guide.want());
        let most = match gauge.is_bound() {
            false => most,
            true => {
                ready!(from.poll_maybe_readable(cx));
                ready!(gauge.poll_allow(cx, most))?
            }
        };
        let mut read = ReadBuf::new(&mut buffer[..most]);
        let polled = Pin::new(from).poll_read(cx, &mut read);
        let n = read.filled().len();
        gauge.was_read(n);
        Poll::Ready(Ok(ready!(polled).map(|()| &buffer[..n])))
    }

    /// Shows the guide what was read and hands on what may pass; what the
    /// sink does not take is held.
    fn take_in(
        &mut self,
        cx: &mut Context<'_>,
        read: io::Result<&[u8]>,
        from: &mut Wire,
        to: &mut Wire,
        gauge: &mut Gauge,
    ) -> io::Result<()> {
        let mut extra = Vec::new();
        let (bytes, Step { pass, used }) = match self.look(read, &mut extra) {
            Ok(seen) => seen,
            Err(how) => {
                self.stage = Stage::Ending(how);
                return Ok(());
            }
        };
        if used < bytes.len() {
            from.unread(Bytes::copy_from_slice(&bytes[used..]));
        }
        let mut pass = &bytes[..pass];
        if !pass.is_empty()
            && let Poll::Ready(n) = self.write(cx, pass, to, gauge)
        {
            pass = &pass[n?..];
        }
        self.held = if pass.is_empty() { extra } else { [pass, &extra].concat() };
        Ok(())
    }

    /// The bytes and what the guide says of them; or how the pump is to end.
    fn look<'b>(
        &mut self,
        read: io::Result<&'b [u8]>,
        extra: &mut Vec<u8>,
    ) -> Result<(&'b [u8], Step), How<G::Fault>> {
        let end = |clean| if self.guide.may_end(clean) { Ok(()) } else { Err(Broken::Short) };
        match read {
            Ok([]) => Err(end(true)),
            // This is how rustls tells of an end without `close_notify`.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(end(false)),
            Err(e) => Err(Err(Broken::Source(e))),
            Ok(bytes) => match self.guide.look(bytes, extra) {
                Ok(step) => Ok((bytes, step)),
                Err(fault) => Err(Err(Broken::Fault(fault))),
            },
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>, to: &mut Wire) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

thread_local! {
    /// Taken out while it is in use, so that even a poll within a poll would
    /// only cost a second buffer.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the thread's buffer, of [`BUFFER_BYTES`]; what is in it is garbage.
pub(crate) fn with_buffer<T>(borrow: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER.take();
    buffer.resize(BUFFER_BYTES, 0);
    let result = borrow(&mut buffer);
    BUFFER.set(buffer);
    result
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

    fn may_end(&self, clean: bool) -> bool {
        clean
    }
}

#[cfg(test)]
mod tests;
