//! Bytes on their way out, before a body is pumped.
//!
//! Owns: a head, and what of its body came with it, written as one.
//! Must not know: what they say.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::body::Body;
use crate::net::wire::Wire;

/// Bytes to be written.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    pub(super) written: usize,
    /// How many of the last ones are of a body, to be counted.
    pub(super) body: usize,
}

impl Outbox {
    /// A head, and what there is of its body.
    pub(super) fn new(mut bytes: Vec<u8>, body: &mut Body, from: &mut Wire) -> Self {
        let body = body.begin(from, &mut bytes);
        Self { bytes, written: 0, body }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Ready once all is written; how much of a body went out by that.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, to: &mut Wire) -> Poll<io::Result<usize>> {
        while self.written < self.bytes.len() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.bytes[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        if !self.bytes.is_empty() {
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
        }
        Poll::Ready(Ok(std::mem::take(self).body))
    }
}
