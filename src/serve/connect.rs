//! A CONNECT (RFC 9110 §9.3.6), from its head to the beginning of its tunnel.
//!
//! Owns: the order of its stages.
//! Must not know: how any of them works.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use super::client::{Client, Next, Request, fail, left};
use super::intake::say;
use super::link::{self, Kept};
use super::presence::{self, unless_left};
use super::tunnel::Tunnel;
use super::{Door, Shared, announce, wish};
use crate::admit::limits::tab::Admission;
use crate::core::fault::Fault;
use crate::dial::Purpose;
use crate::http1::answer;
use crate::relay::meter::Meter;

/// Serves a CONNECT.
pub(super) async fn connect(
    shared: &Arc<Shared>,
    door: &Door,
    mut client: Client,
    mut request: Request,
) -> Next {
    client.kept = Kept::default();
    let at_end = presence::at_end(&request.asked, &client.wire);
    let found = {
        let way = pin!(way(shared, door, client.address, &mut request));
        unless_left(&mut client.wire, at_end, way).await
    };
    let (link, admission) = match found {
        Some(Ok(way)) => way,
        Some(Err(fault)) => return Box::pin(fail(shared, client, request, fault)).await,
        None => return left(request),
    };
    let Request { head, mut record, .. } = request;
    drop(head);
    let news = link.news(shared).await;
    record.news = news;
    record.status = Some(200);
    let established = announce::with(shared, &link, news, answer::established);
    if !say(&mut client.wire, &established, shared).await {
        record.end = Some("client_gone");
        return Next::Done;
    }
    let meter = Meter::new(&admission.allowance()).telling(link.flows(shared));
    Next::Tunnel(Tunnel::new(client.wire, link, admission, record, meter))
}

async fn way(
    shared: &Shared,
    door: &Door,
    client: SocketAddr,
    request: &mut Request,
) -> Result<(link::Link, Admission), Fault> {
    let wish = wish::wish(shared, door, &request.head, client, &mut request.record).await?;
    let link = link::open(shared, &wish, Purpose::Tunnel, &mut Kept::default(), &mut request.record).await?;
    Ok((link, wish.admission))
}
