//! A connection that speaks HTTP.
//!
//! Owns: the loop over its requests, when it lives on and when it closes, the
//! answers to what went wrong.
//! Must not know: how a request is served.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::Instrument;

use super::client::{Client, Next, Request, fail, note};
use super::intake::{self, Intake, Linger};
use super::{Door, Shared, connect, forward, inband, travel};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::http1::answer::{self, FaultContext};
use crate::http1::chunked::Chunked;
use crate::http1::framing::{self, Asked, BodyKind};
use crate::http1::head::{RequestHead, Violation};
use crate::net::wire::Wire;
use crate::observe::access::{Kind, Record};

/// Serves a client until its connection ends.
pub(crate) async fn serve(shared: Arc<Shared>, door: Arc<Door>, wire: Wire, peer: SocketAddr) {
    go_on(shared, door, wire, peer, true).await;
}

/// Goes on with a client that another process has served before. `first`: it
/// has made no request yet.
pub(crate) async fn go_on(
    shared: Arc<Shared>,
    door: Arc<Door>,
    wire: Wire,
    peer: SocketAddr,
    mut first: bool,
) {
    let address = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let _counted = match shared.connections.enter(address.ip()) {
        Ok(counted) => counted,
        Err(fault) => {
            // What is closed without a word still leaves its record.
            let told = shared.connections.refuse();
            return Box::pin(refuse(&shared, told.is_some().then_some(wire), address, &fault)).await;
        }
    };
    let mut client = Client::new(wire, address, door.at);
    loop {
        let timeouts = &shared.settings.timeouts;
        let waits = (timeouts.head, timeouts.keep_alive);
        let head =
            match intake::head(&mut client.wire, first, &shared.settings.head, waits, &shared.drain).await {
                Intake::Head(head) => head,
                Intake::Elsewhere if travel::can_go(&shared, client.at, &client.wire) => {
                    return Box::pin(travel::go(&shared, &door, client, first)).await;
                }
                // Of a part of a head nothing has been done.
                Intake::Nobody | Intake::Elsewhere => return,
                Intake::Bad(fault) => {
                    return Box::pin(refuse(&shared, Some(client.wire), address, &fault)).await;
                }
            };
        let was_first = std::mem::replace(&mut first, false);
        // Boxed, so that all that a request needs on its way is given back
        // before a tunnel, or the wait for the next request, begins.
        let span = tracing::trace_span!("request", client = %client.address, method = head.method());
        match Box::pin(request(&shared, &door, client, head).instrument(span)).await {
            Next::Request(next) => client = next,
            Next::Done => return,
            Next::Part(wire, answer, linger) => return Box::pin(intake::part(wire, &answer, linger)).await,
            Next::Elsewhere(client) => return Box::pin(travel::go(&shared, &door, client, was_first)).await,
            Next::Tunnel(tunnel) => return tunnel.run(shared.settings.timeouts.idle).await,
        }
    }
}

/// What never became a request that could be read.
async fn refuse(shared: &Shared, wire: Option<Wire>, address: SocketAddr, fault: &Fault) {
    let mut record = Record::begin(Kind::Refused, address, &shared.instruments);
    note(&mut record, fault);
    drop(record);
    if let Some(wire) = wire {
        intake::part(wire, &answer::fault(fault, FaultContext::UNREAD).bytes, Linger::SHORT).await;
    }
}

async fn request(shared: &Arc<Shared>, door: &Door, client: Client, head: RequestHead) -> Next {
    let kind = if head.method() == "CONNECT" { Kind::Tunnel } else { Kind::Forward };
    let record = Record::begin(kind, client.address, &shared.instruments);
    let asked = match framing::request(&head).and_then(|asked| check_body(&client, shared, asked)) {
        Ok(asked) => asked,
        Err(violation) => {
            let context = FaultContext { connect: kind == Kind::Tunnel, ..FaultContext::UNREAD };
            return part(client, record, &violation.into(), context);
        }
    };
    let request = Request { head, asked, record };
    if shared.drain.is_begun() || shared.drain.is_handed_over() {
        let fault = Fault::new(Code::Draining, "this gateway is shutting down: ask another, or again");
        return Box::pin(fail(shared, client, request, fault)).await;
    }
    match request.head.destination() {
        // Whoever speaks no proxy's HTTP is told so first; all else about the
        // target comes after the credential (SPEC §2).
        Err(fault) if matches!(fault.code(), Code::NotAProxyRequest | Code::BadRequest) => {
            Box::pin(fail(shared, client, request, fault)).await
        }
        Ok(destination) if inband::is_asked(&destination) => {
            Box::pin(inband::ask(shared, door, client, request)).await
        }
        _ if kind == Kind::Tunnel => connect::connect(shared, door, client, request).await,
        _ => forward::forward(shared, door, client, request).await,
    }
}

/// Refuses a body that is broken where it begins, before anything is dialled:
/// as far as it came with its head.
fn check_body(client: &Client, shared: &Shared, asked: Asked) -> Result<Asked, Violation> {
    if asked.body == BodyKind::Chunked {
        Chunked::decoded(shared.settings.head).check(client.wire.given_back())?;
    }
    Ok(asked)
}

fn part(client: Client, mut record: Record, fault: &Fault, context: FaultContext) -> Next {
    note(&mut record, fault);
    Next::Part(client.wire, answer::fault(fault, context).bytes, Linger::after(fault))
}
