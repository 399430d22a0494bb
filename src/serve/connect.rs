//! A CONNECT (RFC 9110 §9.3.6), from its head to the beginning of its tunnel.
//!
//! Owns: the order of its stages, which is that of every tunnel.
//! Must not know: how any of them works.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use super::client::{Client, Next, Request, fail, left};
use super::intake::say;
use super::link::{self, Kept, Link};
use super::presence::{self, unless_left};
use super::tunnel::Tunnel;
use super::wish::{self, Asking};
use super::{Door, Shared, announce};
use crate::admit::limits::tab::Admission;
use crate::core::fault::Fault;
use crate::dial::Purpose;
use crate::http1::answer::{self, Announce};
use crate::observe::access::Record;
use crate::relay::meter::Meter;

/// Serves a CONNECT.
pub(super) async fn connect(shared: &Arc<Shared>, mut client: Box<Client>, mut request: Request) -> Next {
    client.kept = Kept::default();
    let at_end = presence::at_end(&request.asked, &client.wire);
    let found = {
        let asking = Asking::Head(&request.head);
        let way = pin!(way(shared, &client.door, asking, client.address, &mut request.record));
        unless_left(&mut client.wire, at_end, way).await
    };
    let way = match found {
        Some(Ok(way)) => way,
        Some(Err(fault)) => return Box::pin(fail(shared, client, request, fault)).await,
        None => return left(request),
    };
    let Request { head, record, .. } = request;
    drop(head);
    stand(shared, client, way, record, answer::established).await
}

/// The way to where a client wants to go.
pub(super) async fn way(
    shared: &Shared,
    door: &Door,
    asking: Asking<'_>,
    client: SocketAddr,
    record: &mut Record,
) -> Result<(Link, Admission), Fault> {
    let wish = wish::wish(shared, door, asking, client, record).await?;
    let link = link::open(shared, &wish, Purpose::Tunnel, &mut Kept::default(), record).await?;
    Ok((link, wish.admission))
}

/// Tells the client, by what `answer` says, that its tunnel stands.
pub(super) async fn stand(
    shared: &Shared,
    client: Box<Client>,
    (link, admission): (Link, Admission),
    mut record: Record,
    answer: impl FnOnce(Option<&Announce<'_>>) -> Vec<u8>,
) -> Next {
    let Client { mut wire, waits, .. } = *client;
    let news = link.news(shared).await;
    record.news = news;
    record.status = Some(200);
    let established = announce::with(shared, &link, news, answer);
    if !say(&mut wire, &established, shared).await {
        record.end = Some("client_gone");
        return Next::Done;
    }
    let meter = Meter::new(&admission.allowance()).telling(link.flows(shared));
    Next::Tunnel(Tunnel::new(wire, waits.lull, link, admission, record, meter))
}
