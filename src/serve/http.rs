//! A connection that speaks HTTP/1.
//!
//! Owns: the loop over its requests, when it lives on and when it closes, the
//! answers to what went wrong.
//! Must not know: how a request is served.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;

use super::client::{Client, Next, Request, fail, note};
use super::intake::{self, Intake, Linger};
use super::{Shared, connect, entry, forward, travel};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::http1::answer::{self, FaultContext};
use crate::http1::chunked::Chunked;
use crate::http1::framing::{self, Asked, BodyKind};
use crate::http1::head::{RequestHead, Violation};
use crate::net::wire::Wire;
use crate::observe::access::{Kind, Record};

/// Serves a client, who may begin with another protocol, until its connection
/// ends. `since`: when that began, of one that has made no request yet.
pub(super) async fn talk(shared: &Arc<Shared>, mut client: Box<Client>, mut since: Option<Instant>) {
    loop {
        let head = match intake::head(&mut client, since, shared).await {
            Intake::Head(head) => head,
            Intake::Other(since) => return Box::pin(entry::other(shared, client, since)).await,
            Intake::Elsewhere if travel::can_go(shared, &client.door, &client.wire) => {
                return Box::pin(travel::go(shared, client, since.is_some())).await;
            }
            // Of a part of a head nothing has been done.
            Intake::Nobody | Intake::Elsewhere if client.wire.ends_by_drop() => return,
            Intake::Nobody | Intake::Elsewhere => {
                return Box::pin(intake::leave(client.wire)).await;
            }
            Intake::Bad(fault) => {
                // Whoever has not said a word may speak something else.
                let hears = since.is_none() || client.door.hears_http(b'G', &client.wire);
                let told = Some(client.wire).filter(|_| hears);
                return Box::pin(refuse(shared, told, client.address, &fault)).await;
            }
        };
        let was_first = since.take().is_some();
        // Boxed, so that all that a request needs on its way is given back
        // before a tunnel, or the wait for the next request, begins.
        let span = tracing::trace_span!("request", client = %client.address, method = head.method());
        match Box::pin(request(shared, client, head).instrument(span)).await {
            Next::Request(next) => client = next,
            Next::Done => return,
            Next::Part(wire, answer, linger) => return Box::pin(intake::part(wire, &answer, linger)).await,
            Next::Elsewhere(client) => return Box::pin(travel::go(shared, client, was_first)).await,
            Next::Tunnel(tunnel) => return tunnel.run(shared.settings.timeouts.idle).await,
        }
    }
}

/// What never became a request that could be read.
pub(super) async fn refuse(shared: &Shared, wire: Option<Wire>, address: SocketAddr, fault: &Fault) {
    let mut record = Record::begin(Kind::Refused, address, &shared.instruments);
    note(&mut record, fault);
    drop(record);
    if let Some(wire) = wire {
        intake::part(wire, &answer::fault(fault, FaultContext::UNREAD).bytes, Linger::SHORT).await;
    }
}

pub(super) async fn request(shared: &Arc<Shared>, client: Box<Client>, head: RequestHead) -> Next {
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
        _ if kind == Kind::Tunnel => connect::connect(shared, client, request).await,
        _ => forward::forward(shared, client, request).await,
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

fn part(client: Box<Client>, mut record: Record, fault: &Fault, context: FaultContext) -> Next {
    note(&mut record, fault);
    Next::Part(client.wire, answer::fault(fault, context).bytes, Linger::after(fault))
}
