//! A CONNECT (RFC 9110 §9.3.6), from its head to the end of its tunnel.
//!
//! Owns: the order of a tunnel's stages.
//! Must not know: how any of them works.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use super::http::{Client, Next, Request, fail};
use super::link::{self, Kept};
use super::{Door, Shared, announce, wish};
use crate::core::fault::Fault;
use crate::dial::Purpose;
use crate::http1::answer;
use crate::observe::access::Record;
use crate::relay::meter::Counts;
use crate::relay::{self, End, Side};

/// Serves a CONNECT.
pub(super) async fn connect(
    shared: &Arc<Shared>,
    door: &Door,
    mut client: Client,
    mut request: Request,
) -> Next {
    client.kept = Kept::default();
    let mut link = match way(shared, door, &client, &mut request).await {
        Ok(link) => link,
        Err(fault) => return fail(shared, client, request, fault).await,
    };
    let Request { head, mut record, .. } = request;
    drop(head);
    let news = link.news(shared);
    record.news = news;
    record.status = Some(200);
    let established = announce::with(shared, &link, news, answer::established);
    if client.wire.write_all(&established).await.is_err() {
        record.end = Some("client_gone");
        return Next::Done;
    }
    let mut tunnel = Tunnel { record, counts: Counts::default() };
    let idle = shared.settings.timeouts.idle;
    let end = relay::run(&mut client.wire, &mut link.wire, idle, &tunnel.counts).await;
    tunnel.record.end = name(end);
    Next::Done
}

async fn way(
    shared: &Shared,
    door: &Door,
    client: &Client,
    request: &mut Request,
) -> Result<link::Link, Fault> {
    let destination = request.head.destination()?;
    let wish =
        wish::wish(shared, door, &request.head, destination, client.address, &mut request.record).await?;
    link::open(shared, &wish, Purpose::Tunnel, &mut Kept::default(), &mut request.record).await
}

/// What a tunnel has moved gets into its record also when it is cut off.
pub(super) struct Tunnel {
    pub(super) record: Record,
    pub(super) counts: Counts,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.record.up = self.counts.up.bytes();
        self.record.down = self.counts.down.bytes();
        self.record.end.get_or_insert("drained");
    }
}

pub(super) fn name(end: End) -> Option<&'static str> {
    Some(match end {
        End::Done => "done",
        End::Idle => "idle",
        End::ClientReset => "client_reset",
        End::UpstreamReset => "upstream_reset",
        End::Io { side: Side::Client, .. } => "client_failed",
        End::Io { side: Side::Upstream, .. } => "upstream_failed",
    })
}
