//! One direction's bytes from one wire to another.
//!
//! Owns: [`Pump`] and its borrowed buffer.
//! Must not know: what the bytes are; a caller's guide may.
//!
//! The buffer belongs to the thread and is borrowed while a poll runs: a wire
//! is asked whether it is readable before a byte of memory is set aside for
//! it, so a pump that waits for bytes holds none. What the sink does not take
//! at once is kept, and nothing more is read until it is gone; so a pump holds
//! at most one buffer's worth, and the source feels the sink's pace.
//!
//! Bulk from one plain socket to another goes through a pipe instead, which is
//! lent in the same way: a pump that waits for bytes holds none, and one whose
//! sink is slow keeps what waits in it.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::buffer::with_buffer;
use super::bulk::{Bulk, LARGE};
use super::guide::{Guide, Step};
use super::meter::{Gauge, UsedUp};
use super::splice::{Filled, PIPE_BYTES, Pipe};
use crate::net::wire::Wire;

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
    bulk: Bulk,
    /// What `held` is to a copy. Never both hold something.
    pipe: Option<Pipe>,
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
        Self {
            guide,
            stage: Stage::Moving,
            held: Vec::new(),
            taken: 0,
            bulk: Bulk::START,
            pipe: None,
            unflushed: false,
        }
    }

    /// Whether bytes are held that the sink has not taken.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty() || self.pipe.as_ref().is_some_and(Pipe::is_holding)
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
    /// `gauge` counts what the sink takes, and bounds what is read. To bound a
    /// stall, watch it with a [`Lull`](super::lull::Lull).
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
        if (done.is_ready() || !self.is_holding())
            && let Some(pipe) = self.pipe.take()
        {
            pipe.give_back();
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
                Stage::Moving => match self.bring(cx, from, to, gauge, buffer) {
                    Poll::Ready(brought) => brought.map_err(Broken::Sink)?,
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
        // What waits in the pipe at this point waits for a turn, not for the
        // sink; whoever asks would take the sink for slow.
        ready!(self.deliver(cx, to, gauge)).map_err(Broken::Sink)?;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hands on what is held.
    fn deliver(&mut self, cx: &mut Context<'_>, to: &mut Wire, gauge: &mut Gauge) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let written = self.write(cx, &held[self.taken..], to, gauge);
            self.held = held;
            self.taken += ready!(written)?;
            if self.taken == self.held.len() {
                self.release();
            }
        }
        if self.pipe.as_ref().is_some_and(Pipe::is_holding) {
            // Past the wire.
            to.hurry(usize::MAX);
        }
        if let (Some(pipe), Some(socket)) = (&mut self.pipe, to.plain()) {
            while pipe.is_holding() {
                gauge.add(ready!(pipe.poll_drain(cx, socket))?);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Brings bytes from the source and, as far as the sink takes them at
    /// once, to it. An error is the sink's.
    fn bring(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire,
        to: &mut Wire,
        gauge: &mut Gauge,
        buffer: &mut [u8],
    ) -> Poll<io::Result<()>> {
        if let (Some(source), Some(_)) = (from.plain(), to.plain())
            && self.guide.blind() >= LARGE
            && self.bulk.is_on(self.guide.foreseen())
            && let Some(pipe) = self.pipe.take().or_else(|| self.bulk.pipe())
        {
            match ready!(self.siphon(cx, source, gauge, pipe)) {
                Ok(Filled::Bytes(0)) => self.stage = Stage::Ending(self.end(true)),
                Ok(Filled::Bytes(n)) => {
                    self.guide.passed(n);
                    self.bulk.note(n);
                }
                Ok(Filled::Unable) => self.bulk = Bulk::Never,
                Err(broken) => self.stage = Stage::Ending(Err(broken)),
            }
            return Poll::Ready(Ok(()));
        }
        match ready!(self.fetch(cx, from, gauge, buffer)) {
            Err(UsedUp) => self.stage = Stage::Ending(Err(Broken::UsedUp)),
            Ok(read) => return Poll::Ready(self.take_in(cx, read, from, to, gauge)),
        }
        Poll::Ready(Ok(()))
    }

    /// Into the pipe.
    fn siphon(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
        gauge: &mut Gauge,
        mut pipe: Pipe,
    ) -> Poll<Result<Filled, Broken<G::Fault>>> {
        let most = PIPE_BYTES.min(self.guide.blind());
        let filled = match allowed(cx, gauge, most, |cx| source.poll_read_ready(cx).map(drop)) {
            Poll::Ready(Ok(most)) => pipe.poll_fill(cx, source, most).map_err(Broken::Source),
            Poll::Ready(Err(UsedUp)) => Poll::Ready(Err(Broken::UsedUp)),
            Poll::Pending => Poll::Pending,
        };
        if let Poll::Ready(Ok(Filled::Bytes(n))) = filled {
            gauge.was_read(n);
        }
        self.pipe = Some(pipe);
        filled
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
        let most = match ready!(allowed(cx, gauge, most, |cx| from.poll_maybe_readable(cx))) {
            Ok(most) => most,
            Err(UsedUp) => return Poll::Ready(Err(UsedUp)),
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
        match read {
            Ok([]) => Err(self.end(true)),
            // This is how rustls tells of an end without `close_notify`.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(self.end(false)),
            Err(e) => Err(Err(Broken::Source(e))),
            Ok(bytes) => {
                self.bulk.note(bytes.len());
                match self.guide.look(bytes, extra) {
                    Ok(step) => Ok((bytes, step)),
                    Err(fault) => Err(Err(Broken::Fault(fault))),
                }
            }
        }
    }

    /// The source has ended.
    fn end(&self, clean: bool) -> How<G::Fault> {
        if self.guide.may_end(clean) { Ok(()) } else { Err(Broken::Short) }
    }

    fn flush(&mut self, cx: &mut Context<'_>, to: &mut Wire) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// How many bytes may be read now, at most `most`. A share of a bandwidth is
/// asked for once there may be something to read.
fn allowed(
    cx: &mut Context<'_>,
    gauge: &mut Gauge,
    most: usize,
    readable: impl FnOnce(&mut Context<'_>) -> Poll<()>,
) -> Poll<Result<usize, UsedUp>> {
    if !gauge.is_bound() {
        return Poll::Ready(Ok(most));
    }
    ready!(readable(cx));
    gauge.poll_allow(cx, most)
}

#[cfg(test)]
mod tests;
