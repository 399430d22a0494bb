//! Frames that cost their sender little and us much.
//!
//! Owns: how many of those that carry nothing a connection may bring.
//! Must not know: what a frame says. What is broken is the reader's to find.
//!
//! The reader itself bounds heads that go on and on (CONTINUATION), streams
//! that are reset before they were looked at, empty and tiny DATA. What is
//! left are frames that are answered or acted on at once, so that nothing
//! piles up, but each is work: SETTINGS, PING, PRIORITY, RST_STREAM behind a
//! request that had begun.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::net::wire::Wire;

/// Such frames at once, and how soon one more may come when they are used
/// up: a hundred a second is more than any client has reason to send.
const BURST: u32 = 1000;
const EVERY: Duration = Duration::from_millis(10);

/// What a client sends before its first frame.
const PREFACE: usize = 24;
const HEADER: usize = 9;

const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Whether there was one.
#[derive(Debug, Default)]
pub(super) struct Flood {
    seen: AtomicBool,
    told: Notify,
}

impl Flood {
    /// Ready once it is seen.
    pub(super) async fn seen(&self) {
        if !self.is_seen() {
            self.told.notified().await;
        }
    }

    pub(super) fn is_seen(&self) -> bool {
        self.seen.load(Relaxed)
    }
}

/// A wire of which nothing more is read once it brings a flood.
#[derive(Debug)]
pub(super) struct Guarded {
    wire: Wire,
    count: Count,
    flood: Arc<Flood>,
}

impl Guarded {
    pub(super) fn new(wire: Wire) -> (Self, Arc<Flood>) {
        let flood = Arc::new(Flood::default());
        (Self { wire, count: Count::default(), flood: flood.clone() }, flood)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flood.is_seen() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.wire).poll_read(cx, buf))?;
        self.count.look(&buf.filled()[before..]);
        if self.count.idle_frames > 0 && self.count.is_flood(Instant::now()) {
            self.flood.seen.store(true, Relaxed);
            self.flood.told.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

/// Where in the stream of frames we are, and what it has brought.
#[derive(Debug)]
struct Count {
    /// Bytes to the next frame's header.
    skip: usize,
    header: [u8; HEADER],
    /// Bytes of it that are there.
    have: usize,
    /// Since they were last judged.
    idle_frames: u32,
    /// How many are outstanding, as of this instant.
    level: Option<(u32, Instant)>,
}

impl Default for Count {
    fn default() -> Self {
        Self { skip: PREFACE, header: [0; HEADER], have: 0, idle_frames: 0, level: None }
    }
}

impl Count {
    fn look(&mut self, mut bytes: &[u8]) {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return;
            }
            let taken = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEADER {
                let [high, middle, low, kind, ..] = self.header;
                self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.have = 0;
                self.idle_frames += u32::from(matches!(kind, PRIORITY | RST_STREAM | SETTINGS | PING));
            }
        }
    }

    /// Takes those that came since into account.
    fn is_flood(&mut self, now: Instant) -> bool {
        let (before, since) = self.level.unwrap_or((0, now));
        let gone =
            u32::try_from(now.duration_since(since).as_millis() / EVERY.as_millis()).unwrap_or(u32::MAX);
        let level = before.saturating_sub(gone).saturating_add(std::mem::take(&mut self.idle_frames));
        // What has not gone for a whole step goes on to be waited for.
        let since = if before > gone { since + EVERY * gone } else { now };
        self.level = Some((level, since));
        level > BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[a, b, c, kind, 0, 0, 0, 0, 0][..], payload].concat()
    }

    #[test]
    fn frames_that_carry_nothing_are_counted_however_they_are_cut() {
        let frames = [frame(SETTINGS, &[]), frame(0, &[9; 300]), frame(PING, &[1; 8]), frame(1, b"head")];
        let bytes = [vec![b'x'; PREFACE], frames.concat(), frame(RST_STREAM, &[0; 4])].concat();
        for by in [1, 2, 7, 100, bytes.len()] {
            let mut count = Count::default();
            bytes.chunks(by).for_each(|piece| count.look(piece));
            assert_eq!((count.idle_frames, count.skip, count.have), (3, 0, 0), "by {by}");
        }
    }

    #[test]
    fn a_hundred_a_second_are_none_and_a_thousand_at_once_are() {
        let mut now = Instant::now();
        let mut count = Count::default();
        for _ in 0..5000 {
            count.idle_frames = 1;
            now += EVERY;
            assert!(!count.is_flood(now));
        }
        count.idle_frames = BURST - 1;
        assert!(!count.is_flood(now));
        count.idle_frames = 2;
        assert!(count.is_flood(now));
        count.idle_frames = 1;
        assert!(!count.is_flood(now + EVERY * 3));
    }
}
