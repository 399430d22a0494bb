//! A tunnel, from its first byte to its end.
//!
//! Owns: what is held while bytes are relayed, and the record of them.
//! Must not know: how it came about.

use std::time::Duration;

use super::link::Link;
use crate::net::wire::Wire;
use crate::observe::access::Record;
use crate::relay::meter::Counts;
use crate::relay::{self, End, Side};
use crate::state::ConnectionGuard;

/// Two connections whose bytes are relayed. It lives for as long as they do,
/// so it holds nothing that was needed only to get here.
pub(super) struct Tunnel {
    client: Wire,
    upstream: Wire,
    counts: Counts,
    record: Record,
    connection: ConnectionGuard,
}

impl Tunnel {
    /// A tunnel of which `counts` has counted what went before.
    pub(super) fn new(client: Wire, link: Link, record: Record, counts: Counts) -> Box<Self> {
        let (upstream, connection) = link.into_parts();
        Box::new(Self { client, upstream, counts, record, connection })
    }

    /// Relays until it ends.
    pub(super) async fn run(mut self: Box<Self>, idle: Duration) {
        let Self { client, upstream, counts, .. } = &mut *self;
        let end = relay::run(client, upstream, idle, counts).await;
        self.record.end = name(end);
    }
}

/// What a tunnel has moved gets into its record also when it is cut off.
impl Drop for Tunnel {
    fn drop(&mut self) {
        self.record.up = self.counts.up.bytes();
        self.record.down = self.counts.down.bytes();
        self.connection.moved(self.record.up, self.record.down);
        self.record.end.get_or_insert("drained");
    }
}

fn name(end: End) -> Option<&'static str> {
    Some(match end {
        End::Done => "done",
        End::Idle => "idle",
        End::ClientReset => "client_reset",
        End::UpstreamReset => "upstream_reset",
        End::Io { side: Side::Client, .. } => "client_failed",
        End::Io { side: Side::Upstream, .. } => "upstream_failed",
    })
}
