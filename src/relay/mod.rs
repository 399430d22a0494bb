//! The moving of a tunnel's bytes.
//!
//! Owns: [`run`]: both directions in the connection's own task, half-close
//! and reset carried to the other side, the idle time, how it ended.
//! Must not know: what the bytes are, who asked, how the wires were made.

pub(crate) mod buffer;
mod bulk;
pub(crate) mod copy;
pub(crate) mod guide;
pub(crate) mod lull;
pub(crate) mod meter;
mod splice;
pub(crate) mod vigil;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use self::copy::{Broken, Pump};
use self::guide::WholeStream;
use self::lull::Lull;
use self::meter::{Gauge, Meter};
use self::vigil::{AtEnd, Vigil};
use crate::net::wire::Wire;

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides said that they were done.
    Done,
    /// No byte moved either way for the idle time.
    Idle,
    /// The quota of whoever it belongs to is used up.
    Quota,
    /// The client reset its connection.
    ClientReset,
    /// The upstream side reset its connection.
    UpstreamReset,
    /// A connection failed otherwise: timed out, or broke TLS.
    Io {
        /// Whose connection.
        side: Side,
        /// How.
        kind: io::ErrorKind,
    },
}

/// One of a tunnel's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who opened the tunnel.
    Client,
    /// Where it leads.
    Upstream,
}

/// Relays both ways until it ends. The caller then drops both wires, and so
/// closes them: where one side's stream broke off, the other's wire was told
/// to reset, so that nobody takes a broken stream for a whole one.
///
/// `meter` counts what each side has taken, and bounds it; `lull` has begun.
pub(crate) async fn run(client: &mut Wire, upstream: &mut Wire, lull: &mut Lull, meter: &mut Meter) -> End {
    let mut tunnel = Tunnel { up: Flow::new(), down: Flow::new() };
    // Over a client that sends what the upstream side does not take. The other
    // way round there is no need: a client that does not read may yet.
    let mut client_vigil = Vigil::new(AtEnd::Stays);
    let end = poll_fn(|cx| {
        let before = meter.total();
        if let Some(end) = tunnel.poll(cx, client, upstream, meter) {
            return Poll::Ready(end);
        }
        if tunnel.up.pump.is_holding() && client_vigil.poll(cx, client).is_ready() {
            return Poll::Ready(End::ClientReset);
        }
        if meter.total() != before {
            lull.note();
        }
        lull.poll(cx).map(|()| End::Idle)
    })
    .await;
    if tunnel.up.is_cut_short(end) {
        upstream.reset();
    }
    if tunnel.down.is_cut_short(end) {
        client.reset();
    } else if end == End::Idle && !client.ends_by_drop() {
        // Boxed: hardly any tunnel comes to this.
        Box::pin(part(client)).await;
    }
    end
}

/// Says that nothing more comes, to a client whose connection has a word for
/// that; one that does not take it has had its chance.
async fn part(client: &mut Wire) {
    let _ = tokio::time::timeout(FAREWELL, client.shutdown()).await;
}

struct Tunnel {
    up: Flow,
    down: Flow,
}

impl Tunnel {
    /// Moves what can be moved; says how the tunnel ended once it has.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Wire,
        upstream: &mut Wire,
        meter: &mut Meter,
    ) -> Option<End> {
        // A side that takes nothing more is dead. What it had sent before may
        // still be on its way, such as an answer to an upload that it broke
        // off; but where that stops is not its end.
        self.up.is_last = self.down.is_carried();
        self.up.poll(cx, client, upstream, &mut meter.up);
        self.down.source_is_dead = self.up.dead_sink();
        self.down.is_last = self.up.is_carried();
        self.down.poll(cx, upstream, client, &mut meter.down);
        if let Some(kind) = self.down.dead_sink() {
            self.up.source_is_dead = Some(kind);
            self.up.poll(cx, client, upstream, &mut meter.up);
        }
        self.end()
    }

    fn end(&self) -> Option<End> {
        match (self.up.outcome, self.down.outcome) {
            (Some(Outcome::UsedUp), _) | (_, Some(Outcome::UsedUp)) => Some(End::Quota),
            (Some(Outcome::Source(kind)), _) => Some(End::of(Side::Client, kind)),
            (_, Some(Outcome::Source(kind))) => Some(End::of(Side::Upstream, kind)),
            (None, _) | (_, None) => None,
            (Some(Outcome::Carried), Some(Outcome::Carried)) => Some(End::Done),
            (Some(Outcome::Sink(kind)), _) => Some(End::of(Side::Upstream, kind)),
            (_, Some(Outcome::Sink(kind))) => Some(End::of(Side::Client, kind)),
        }
    }
}

impl End {
    /// A side's connection failed.
    fn of(side: Side, kind: io::ErrorKind) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        // A reset shows itself as any of these, depending on who looks first.
        match (kind, side) {
            (ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected, Side::Client) => {
                Self::ClientReset
            }
            (ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected, Side::Upstream) => {
                Self::UpstreamReset
            }
            _ => Self::Io { side, kind },
        }
    }
}

/// One direction: the pump, then the half-close.
struct Flow {
    pump: Pump<WholeStream>,
    /// The source has ended and all of it is delivered: the sink is being
    /// told.
    closing: bool,
    /// The sink has ended its own stream, and that was carried: once this
    /// direction is over, both are.
    is_last: bool,
    /// Known from the other direction; an end of file from it is no end then.
    source_is_dead: Option<io::ErrorKind>,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy)]
enum Outcome {
    /// The source's end was carried to the sink.
    Carried,
    /// The source failed; what it had sent before is delivered.
    Source(io::ErrorKind),
    /// The sink failed.
    Sink(io::ErrorKind),
    /// The quota is used up.
    UsedUp,
}

impl Flow {
    fn new() -> Self {
        Self {
            pump: Pump::new(WholeStream),
            closing: false,
            is_last: false,
            source_is_dead: None,
            outcome: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Wire, to: &mut Wire, gauge: &mut Gauge) {
        if self.outcome.is_none()
            && let Poll::Ready(outcome) = self.advance(cx, from, to, gauge)
        {
            self.outcome = Some(outcome);
        }
    }

    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire,
        to: &mut Wire,
        gauge: &mut Gauge,
    ) -> Poll<Outcome> {
        if !self.closing {
            let moved = ready!(self.pump.poll(cx, from, to, gauge));
            match (moved, self.source_is_dead) {
                (Err(Broken::Sink(e)), _) => return Poll::Ready(Outcome::Sink(e.kind())),
                (Err(Broken::UsedUp), _) => return Poll::Ready(Outcome::UsedUp),
                (_, Some(kind)) => return Poll::Ready(Outcome::Source(kind)),
                (Err(Broken::Source(e)), None) => return Poll::Ready(Outcome::Source(e.kind())),
                (Err(Broken::Short), None) => {
                    return Poll::Ready(Outcome::Source(io::ErrorKind::UnexpectedEof));
                }
                (Ok(()), None) => self.closing = true,
            }
        }
        // The caller's drop says the same with one call less.
        if self.is_last && to.ends_by_drop() {
            return Poll::Ready(Outcome::Carried);
        }
        Poll::Ready(match ready!(Pin::new(to).poll_shutdown(cx)) {
            Ok(()) => Outcome::Carried,
            Err(e) => Outcome::Sink(e.kind()),
        })
    }

    fn is_carried(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Carried))
    }

    fn dead_sink(&self) -> Option<io::ErrorKind> {
        match self.outcome {
            Some(Outcome::Sink(kind)) => Some(kind),
            _ => None,
        }
    }

    /// Whether the sink must not take the end of its wire for the end of the
    /// stream. A wire that was told the stream's end needs no reset, which
    /// would only throw away what the kernel has still to send. An idle one
    /// was told nothing, but unless bytes are left that it never got, its
    /// close is the ordinary farewell.
    fn is_cut_short(&self, end: End) -> bool {
        match end {
            End::Done => false,
            End::Idle => self.pump.is_holding(),
            _ => !self.is_carried(),
        }
    }
}

#[cfg(test)]
mod tests;
