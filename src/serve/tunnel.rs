//! A tunnel, from its first byte to its end.
//!
//! Owns: what is held while bytes are relayed, and the record of them.
//! Must not know: how it came about.

use std::time::Duration;

use super::link::Link;
use crate::admit::limits::tab::Admission;
use crate::net::wire::Wire;
use crate::observe::access::Record;
use crate::relay::lull::Lull;
use crate::relay::meter::Meter;
use crate::relay::{self, End, Side};
use crate::state::ConnectionGuard;

/// Two connections whose bytes are relayed. It lives for as long as they do,
/// so it holds nothing that was needed only to get here.
pub(super) struct Tunnel {
    client: Wire,
    upstream: Wire,
    lull: Lull,
    meter: Meter,
    record: Record,
    admission: Admission,
    _connection: ConnectionGuard,
}

impl Tunnel {
    /// A tunnel of which `meter` has counted what went before.
    pub(super) fn new(
        client: Wire,
        lull: Lull,
        link: Link,
        admission: Admission,
        record: Record,
        meter: Meter,
    ) -> Box<Self> {
        let (upstream, connection) = link.into_parts();
        Box::new(Self { client, upstream, lull, meter, record, admission, _connection: connection })
    }

    /// Relays until it ends.
    pub(super) async fn run(mut self: Box<Self>, idle: Duration) {
        let Self { client, upstream, lull, meter, admission, .. } = &mut *self;
        lull.begin(idle);
        let relayed = admission.unless_cut(|| relay::run(client, upstream, lull, meter)).await;
        self.record.end = match relayed {
            Ok(end) => name(end),
            Err(cut) => {
                // Nobody must take what is cut off for a whole.
                self.client.reset();
                self.upstream.reset();
                Some(cut.word())
            }
        };
    }
}

/// What a tunnel has moved gets into its record also when it is cut off.
impl Drop for Tunnel {
    fn drop(&mut self) {
        self.record.up = self.meter.up.bytes();
        self.record.down = self.meter.down.bytes();
        self.record.end.get_or_insert("drained");
    }
}

fn name(end: End) -> Option<&'static str> {
    Some(match end {
        End::Done => "done",
        End::Idle => "idle",
        End::Quota => "quota",
        End::ClientReset => "client_reset",
        End::UpstreamReset => "upstream_reset",
        End::Io { side: Side::Client, .. } => "client_failed",
        End::Io { side: Side::Upstream, .. } => "upstream_failed",
    })
}
