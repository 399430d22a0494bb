//! A client's connection, and a request on it.
//!
//! Owns: what the two kinds of request are given and give back, and how a
//! request that failed is answered.
//! Must not know: how a request is served.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::intake::{self, Linger};
use super::link::Kept;
use super::tunnel::Tunnel;
use super::{Door, Shared, body, travel};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::drain::Leaver;
use crate::http1::answer::{self, FaultContext};
use crate::http1::framing::{Asked, BodyKind};
use crate::http1::head::RequestHead;
use crate::http1::mirror;
use crate::net::wire::Wire;
use crate::observe::access::Record;
use crate::relay::lull::Lull;

/// A client's connection between two requests. It goes from hand to hand in
/// its box, or it would take up room in each.
pub(super) struct Client {
    pub(super) wire: Wire,
    pub(super) address: SocketAddr,
    /// The listener that it came to.
    pub(super) door: Arc<Door>,
    /// Connections to targets that its next requests may use.
    pub(super) kept: Kept,
    pub(super) waits: Waits,
}

/// What a connection waits for beside bytes, whatever it waits for.
#[derive(Default)]
pub(super) struct Waits {
    /// For as long as it may.
    pub(super) lull: Lull,
    pub(super) leaver: Leaver,
}

impl Client {
    /// A connection that has served nothing yet.
    pub(super) fn new(wire: Wire, address: SocketAddr, door: Arc<Door>) -> Box<Self> {
        Box::new(Self { wire, address, door, kept: Kept::default(), waits: Waits::default() })
    }
}

/// What becomes of the connection.
pub(super) enum Next {
    /// It takes another request.
    Request(Box<Client>),
    /// It was used up, or is broken.
    Done,
    /// It gets this and is closed.
    Part(Wire, Vec<u8>, Linger),
    /// It is a tunnel from now on.
    Tunnel(Box<Tunnel>),
    /// It goes to the process that has taken this one's place, with a request
    /// of which nothing was done here.
    Elsewhere(Box<Client>),
}

/// A request and what goes with it.
pub(super) struct Request {
    pub(super) head: RequestHead,
    pub(super) asked: Asked,
    pub(super) record: Record,
}

/// The most of a refused request's body that is read so that its connection
/// can live on; past it, closing is cheaper.
const MOST_THROWN: u64 = 64 * 1024;

/// Answers a request that failed before any of its body was read.
pub(super) async fn fail(
    shared: &Shared,
    mut client: Box<Client>,
    mut request: Request,
    fault: Fault,
) -> Next {
    let asked = request.asked;
    if fault.code() == Code::Draining && travel::can_go(shared, &client.door, &client.wire) {
        request.record.forget();
        client.wire.unread(Bytes::copy_from_slice(request.head.fields().head()));
        return Next::Elsewhere(client);
    }
    let keeps = keeps(shared, &client, &asked) && !fault.code().closes();
    let context = FaultContext { connect: asked.connect, head_only: asked.head_only, keeps };
    note(&mut request.record, &fault);
    drop(request);
    let answer = answer::fault(&fault, context);
    let then = if answer.closes { Then::Part(Linger::after(&fault)) } else { Then::Stay };
    say(shared, client, &asked, answer.bytes, then).await
}

/// Answers a TRACE or OPTIONS that may go no further.
pub(super) async fn mirror(shared: &Shared, client: Box<Client>, mut request: Request) -> Next {
    let keeps = keeps(shared, &client, &request.asked);
    let answer = mirror::answer(&request.head, keeps);
    request.record.status = Some(200);
    let asked = request.asked;
    drop(request);
    say(shared, client, &asked, answer, if keeps { Then::Stay } else { Then::Part(Linger::UPLOAD) }).await
}

/// What becomes of the connection after an answer of our own.
enum Then {
    Stay,
    Part(Linger),
}

/// Whether the connection can live on after an answer of our own.
fn keeps(shared: &Shared, client: &Client, asked: &Asked) -> bool {
    // A client that waits for its 100 may or may not send its body after
    // another answer, so what comes next cannot be told.
    let body = asked.body.is_empty() || (unread(asked) <= MOST_THROWN && !asked.expects_continue);
    body && asked.persists && !travel::must_close(shared, &client.door, &client.wire)
}

fn unread(asked: &Asked) -> u64 {
    match asked.body {
        BodyKind::None => 0,
        BodyKind::Length(length) => length,
        BodyKind::Chunked | BodyKind::UntilClose => u64::MAX,
    }
}

/// Sends an answer of our own; the request's body is no part of what follows.
async fn say(shared: &Shared, mut client: Box<Client>, asked: &Asked, answer: Vec<u8>, then: Then) -> Next {
    if let Then::Part(linger) = then {
        return Next::Part(client.wire, answer, linger);
    }
    let sent = intake::say(&mut client.wire, &answer, shared).await;
    // The answer does not wait for the body: the client may wait for it.
    if sent && body::throw(&mut client.wire, unread(asked), shared.settings.timeouts.body).await {
        Next::Request(client)
    } else {
        Next::Done
    }
}

/// The client has left: nobody is there to be answered.
pub(super) fn left(mut request: Request) -> Next {
    request.record.end = Some("client_gone");
    Next::Done
}

/// Records a failure of ours.
pub(super) fn note(record: &mut Record, fault: &Fault) {
    record.status = Some(fault.code().status());
    record.code = Some(fault.code());
    record.detail = Some(fault.detail().to_owned());
}
