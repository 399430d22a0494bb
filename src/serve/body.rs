//! A message's body on its way to the other side.
//!
//! Owns: which pump moves which kind of body.
//! Must not know: heads, timeouts.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::time::{Duration, Instant, timeout_at};

use super::intake::fill;
use crate::http1::chunked::Chunked;
use crate::http1::fields::Named;
use crate::http1::framing::BodyKind;
use crate::http1::head::{HeadLimits, Violation};
use crate::net::wire::Wire;
use crate::relay::copy::{Broken, Pump};
use crate::relay::guide::{Exactly, Guide, Step, UntilEnd};
use crate::relay::meter::Gauge;

/// A body that is being moved.
pub(super) enum Body {
    /// There is none, or nothing is left of it.
    Moved,
    Length(Pump<Exactly>),
    Chunked(Box<Pump<Chunks>>),
    UntilClose(Pump<UntilEnd>),
}

impl Body {
    /// A body of this kind. `named` are the fields that its message's
    /// `Connection` names; `decode` takes a chunked coding off.
    pub(super) fn new(kind: BodyKind, named: Named, decode: bool, limits: &HeadLimits) -> Self {
        match kind {
            BodyKind::None | BodyKind::Length(0) => Self::Moved,
            BodyKind::Length(length) => Self::Length(Pump::new(Exactly(length))),
            BodyKind::UntilClose => Self::UntilClose(Pump::new(UntilEnd)),
            BodyKind::Chunked if decode => {
                Self::Chunked(Box::new(Pump::new(Chunks(Chunked::decoded(*limits)))))
            }
            BodyKind::Chunked => {
                Self::Chunked(Box::new(Pump::new(Chunks(Chunked::verbatim(named, *limits)))))
            }
        }
    }

    /// Whether all of it was moved.
    pub(super) fn is_moved(&self) -> bool {
        matches!(self, Self::Moved)
    }

    /// Whether bytes wait for the sink: it is slow, not the source.
    pub(super) fn is_holding(&self) -> bool {
        match self {
            Self::Moved => false,
            Self::Length(pump) => pump.is_holding(),
            Self::Chunked(pump) => pump.is_holding(),
            Self::UntilClose(pump) => pump.is_holding(),
        }
    }

    /// Puts what the source has given already behind `out`, the message's
    /// head, so that both go out in one write; says how much that was.
    pub(super) fn begin(&mut self, from: &mut Wire, out: &mut Vec<u8>) -> usize {
        let (bytes, moved) = match self {
            Self::Moved => return 0,
            Self::Length(pump) => (pump.begin(from, out), pump.is_sated()),
            Self::UntilClose(pump) => (pump.begin(from, out), pump.is_sated()),
            Self::Chunked(pump) => (pump.begin(from, out), pump.is_sated()),
        };
        if moved {
            *self = Self::Moved;
        }
        bytes
    }

    /// Moves what can be moved now.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire,
        to: &mut Wire,
        gauge: &mut Gauge,
    ) -> Poll<Result<(), Broken<Violation>>> {
        let polled = match self {
            Self::Moved => return Poll::Ready(Ok(())),
            Self::Length(pump) => pump.poll(cx, from, to, gauge).map_err(widen),
            Self::UntilClose(pump) => pump.poll(cx, from, to, gauge).map_err(widen),
            Self::Chunked(pump) => pump.poll(cx, from, to, gauge),
        };
        if let Poll::Ready(Ok(())) = polled {
            *self = Self::Moved;
        }
        polled
    }
}

fn widen(broken: Broken<Infallible>) -> Broken<Violation> {
    match broken {
        Broken::Source(error) => Broken::Source(error),
        Broken::Short => Broken::Short,
        Broken::Sink(error) => Broken::Sink(error),
        Broken::UsedUp => Broken::UsedUp,
        Broken::Fault(never) => match never {},
    }
}

/// Guides a pump through a chunked body.
pub(super) struct Chunks(Chunked);

impl Guide for Chunks {
    type Fault = Violation;

    fn want(&self) -> usize {
        if self.0.is_done() { 0 } else { usize::MAX }
    }

    fn look(&mut self, bytes: &[u8], extra: &mut Vec<u8>) -> Result<Step, Violation> {
        let (mut pass, mut used) = (0, 0);
        while used < bytes.len() && !self.0.is_done() {
            let input = &bytes[used..];
            let step = self.0.step(input)?;
            let [plain, own] = step.emit;
            // Bytes go out of the pump's buffer as long as none is left out.
            if pass == used && extra.is_empty() && plain.as_ptr() == input.as_ptr() {
                pass += plain.len();
            } else {
                extra.extend_from_slice(plain);
            }
            extra.extend_from_slice(own);
            used += step.eaten;
        }
        Ok(Step { pass, used })
    }

    fn blind(&self) -> usize {
        usize::try_from(self.0.data_left()).unwrap_or(usize::MAX)
    }

    fn foreseen(&self) -> usize {
        self.blind()
    }

    fn passed(&mut self, bytes: usize) {
        self.0.pass_data(bytes as u64);
    }

    fn may_end(&self, _clean: bool) -> bool {
        false
    }
}

/// Reads and drops so many bytes; whether they all came within `limit`.
pub(super) async fn throw(wire: &mut Wire, mut length: u64, limit: Duration) -> bool {
    let mut buffer = BytesMut::new();
    let deadline = Instant::now() + limit;
    while length > 0 {
        let Ok(Ok(1..)) = timeout_at(deadline, fill(wire, &mut buffer)).await else { return false };
        let thrown = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        length -= thrown as u64;
        wire.unread(buffer.split_off(thrown).freeze());
        buffer.clear();
    }
    true
}
