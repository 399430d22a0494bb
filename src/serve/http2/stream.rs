//! A stream of HTTP/2 as a connection that speaks HTTP/1.
//!
//! Owns: the two directions of one request: its body as HTTP/1 would send
//! it, and what is answered to it, from a head on.
//! Must not know: what is asked for, what an answer means.
//!
//! What is read and not yet taken is bounded by the stream's window, which
//! opens as it is taken; what is written and not yet sent by one write and
//! the stream's send buffer. So both sides feel each other's pace.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::{self, Framing};
use crate::http1::chunked::Chunked;
use crate::http1::fields::Known;
use crate::http1::head::{HeadLimits, Scan, parse_response};
use crate::net::wire::{Carrier, Stir};

/// The most that is asked to be sent at a time, in bytes: with as much as
/// that, streams take turns.
const SHARE: usize = 32 * 1024;

/// Of heads that were written here: they were bounded when they were read.
const LIMITS: HeadLimits = HeadLimits { bytes: 4 << 20, fields: 20_000 };

/// Two polls in a row may be the same turn.
const MOST_TURNS: u8 = 4;

/// One request.
pub(super) struct Stream {
    connect: bool,
    head_only: bool,
    inflow: Inflow,
    outflow: Outflow,
    /// Written, and not yet understood or sent.
    pending: BytesMut,
    send: Sender,
    /// Turns that were left to the connection before the end.
    turns: u8,
}

/// What the client sends.
struct Inflow {
    body: RecvStream,
    framing: Framing,
    /// Read, and not yet taken.
    ready: BytesMut,
    /// The body has ended.
    ended: bool,
    /// So has all that stands behind it.
    over: bool,
}

/// What the client is sent.
enum Outflow {
    /// A head, not yet whole.
    Head(Scan),
    /// As it comes, until the end.
    Open,
    /// So many bytes more.
    Length(u64),
    /// Chunks, which HTTP/2 has not.
    Chunks(Box<Chunked>),
    /// All was sent.
    Over,
}

enum Sender {
    Nothing(SendResponse<Bytes>),
    Begun(SendStream<Bytes>),
}

impl Stream {
    /// Of a request with this method, whose head was read.
    pub(super) fn carrier(
        method: &Method,
        framing: Framing,
        body: RecvStream,
        respond: SendResponse<Bytes>,
    ) -> Box<dyn Carrier> {
        Box::new(Self {
            connect: method == Method::CONNECT,
            head_only: method == Method::HEAD,
            inflow: Inflow { body, framing, ready: BytesMut::new(), ended: false, over: false },
            outflow: Outflow::Head(Scan::default()),
            pending: BytesMut::new(),
            send: Sender::Nothing(respond),
            turns: 0,
        })
    }

    /// Sends what was written, as far as that can go now.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            match &mut self.outflow {
                Outflow::Head(scan) => {
                    let parsed = parse_response(&self.pending, scan, &LIMITS).map_err(io::Error::other)?;
                    // It is read on with the next write.
                    let Some((head, length)) = parsed else { return Poll::Ready(Ok(())) };
                    self.pending.advance(length);
                    self.answer(&head)?;
                }
                Outflow::Open | Outflow::Length(_) => {
                    let sent = ready!(self.poll_send(cx, None))?;
                    self.pending.advance(sent);
                }
                Outflow::Chunks(_) => ready!(self.poll_chunks(cx))?,
                Outflow::Over => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A head was written.
    fn answer(&mut self, head: &crate::http1::head::ResponseHead) -> io::Result<()> {
        let response = head::of_answer(head).ok_or(io::ErrorKind::InvalidData)?;
        let Sender::Nothing(respond) = &mut self.send else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if head.status() < 200 {
            return respond.send_informational(response).map_err(failed);
        }
        let stated = |name| head.fields().first(name);
        let length =
            stated(Known::ContentLength).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        self.outflow = match length {
            _ if self.connect && (200..300).contains(&head.status()) => Outflow::Open,
            _ if self.head_only || matches!(head.status(), 204 | 304) => Outflow::Over,
            Some(0) => Outflow::Over,
            _ if stated(Known::TransferEncoding).is_some() => {
                Outflow::Chunks(Box::new(Chunked::apart(LIMITS)))
            }
            Some(length) => Outflow::Length(length),
            None => Outflow::Open,
        };
        let is_over = matches!(self.outflow, Outflow::Over);
        self.send = Sender::Begun(respond.send_response(response, is_over).map_err(failed)?);
        Ok(())
    }

    /// Sends bytes of a body: these, or what was written before.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: Option<&[u8]>) -> Poll<io::Result<usize>> {
        let Sender::Begun(send) = &mut self.send else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let bytes = bytes.unwrap_or(&self.pending);
        let most = match self.outflow {
            Outflow::Length(left) => bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            _ => bytes.len(),
        };
        let room = ready!(poll_room(send, cx, most))?.min(most);
        let is_last = match &mut self.outflow {
            Outflow::Length(left) => {
                *left -= room as u64;
                *left == 0
            }
            _ => false,
        };
        send.send_data(Bytes::copy_from_slice(&bytes[..room]), is_last).map_err(failed)?;
        if is_last {
            self.outflow = Outflow::Over;
        }
        Poll::Ready(Ok(room))
    }

    /// Sends the data of chunks that were written.
    fn poll_chunks(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Outflow::Chunks(chunked), Sender::Begun(send)) = (&mut self.outflow, &mut self.send) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        // Of a chunk's data no more is taken than can be sent.
        let data = usize::try_from(chunked.data_left()).unwrap_or(usize::MAX).min(self.pending.len());
        let taken = match data {
            // A piece of framing.
            0 => {
                let input = &self.pending[..framing_of(&self.pending)];
                let step = chunked.step(input).map_err(io::Error::other)?;
                debug_assert!(step.emit.iter().all(|part| part.is_empty()));
                step.eaten
            }
            data => {
                let room = ready!(poll_room(send, cx, data))?.min(data);
                send.send_data(Bytes::copy_from_slice(&self.pending[..room]), false).map_err(failed)?;
                chunked.pass_data(room as u64);
                room
            }
        };
        self.pending.advance(taken);
        if chunked.is_done() {
            match head::of_trailers(chunked.trailers()).filter(|trailers| !trailers.is_empty()) {
                Some(trailers) => send.send_trailers(trailers).map_err(failed)?,
                None => send.send_data(Bytes::new(), true).map_err(failed)?,
            }
            self.outflow = Outflow::Over;
        }
        Poll::Ready(Ok(()))
    }

    fn reset_with(&mut self, reason: Reason) {
        match &mut self.send {
            Sender::Nothing(respond) => respond.send_reset(reason),
            Sender::Begun(send) => send.send_reset(reason),
        }
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.send {
            Sender::Nothing(respond) => respond.poll_reset(cx).map(drop),
            Sender::Begun(send) => send.poll_reset(cx).map(drop),
        }
    }
}

/// Up to and with the end of a line: no data stands before it.
fn framing_of(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}

/// How much can be sent, at least a byte, where so much is wanted.
fn poll_room(send: &mut SendStream<Bytes>, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
    send.reserve_capacity(wanted.min(SHARE));
    loop {
        // Room that was told of before is not told of again.
        if send.capacity() > 0 {
            return Poll::Ready(Ok(send.capacity()));
        }
        match ready!(send.poll_capacity(cx)) {
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(failed(error))),
        }
    }
}

/// Whatever ends a stream before its time is to it what a reset is to a
/// connection (RFC 9113 §8.5).
fn failed(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl Inflow {
    /// Ready once there is something to take, or nothing will come.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ready.is_empty() && !self.over {
            if self.ended {
                self.over = true;
                if self.framing == Framing::Chunked {
                    let trailers = ready!(self.body.poll_trailers(cx)).map_err(failed)?;
                    self.ready.extend_from_slice(b"0\r\n");
                    let lines = trailers.as_ref().map(head::trailer_lines).unwrap_or_default();
                    self.ready.extend_from_slice(&lines);
                    self.ready.extend_from_slice(b"\r\n");
                }
                continue;
            }
            match ready!(self.body.poll_data(cx)) {
                None => self.ended = true,
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => self.take(&data)?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, data: &[u8]) -> io::Result<()> {
        match self.framing {
            Framing::Plain => self.ready.extend_from_slice(data),
            Framing::Chunked => {
                self.ready.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                self.ready.extend_from_slice(data);
                self.ready.extend_from_slice(b"\r\n");
            }
        }
        // Nothing more is read before this is taken.
        self.body.flow_control().release_capacity(data.len()).map_err(failed)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.inflow.poll_fill(cx))?;
        let inflow = &mut self.inflow;
        let count = inflow.ready.len().min(buf.remaining());
        buf.put_slice(&inflow.ready[..count]);
        inflow.ready.advance(count);
        if inflow.ready.is_empty() {
            // An idle stream holds no memory.
            inflow.ready = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let is_open = matches!(self.outflow, Outflow::Open | Outflow::Length(_));
        if !matches!(self.outflow, Outflow::Head(_)) {
            ready!(self.poll_pending(cx))?;
        }
        if is_open && self.pending.is_empty() && !buf.is_empty() {
            return self.poll_send(cx, Some(buf));
        }
        if matches!(self.outflow, Outflow::Over) && !buf.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.pending.extend_from_slice(buf);
        match self.poll_pending(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_pending(cx)
    }

    /// An answer that is not whole is not ended but broken off.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        let this = &mut *self;
        match (&this.outflow, &mut this.send) {
            (Outflow::Over, _) => {}
            (Outflow::Open, Sender::Begun(send)) => {
                send.send_data(Bytes::new(), true).map_err(failed)?;
                this.outflow = Outflow::Over;
            }
            // Dropped, it is reset, and what waits to be sent is thrown away.
            // So the connection, which sends whenever it is polled, gets some
            // turns before.
            _ if this.turns < MOST_TURNS => {
                this.turns += 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            _ => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl Carrier for Stream {
    fn reset(&mut self) {
        // RFC 9113 §8.5, of a tunnel.
        let reason = if self.connect { Reason::CONNECT_ERROR } else { Reason::INTERNAL_ERROR };
        self.reset_with(reason);
    }

    fn poll_stir(&mut self, cx: &mut Context<'_>) -> Poll<Stir> {
        if self.poll_reset(cx).is_ready() {
            return Poll::Ready(Stir::Reset);
        }
        // The end of a plain request is no end of its client's stream: it is
        // how every one ends.
        if !self.connect {
            return Poll::Pending;
        }
        Poll::Ready(match ready!(self.inflow.poll_fill(cx)) {
            Err(_) => Stir::Reset,
            Ok(()) if self.inflow.ready.is_empty() => Stir::End,
            Ok(()) => Stir::Bytes,
        })
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("connect", &self.connect).finish_non_exhaustive()
    }
}
