//! A connection that speaks HTTP.
//!
//! Owns: the loop over its requests, when it lives on and when it closes, the
//! answers to what went wrong.
//! Must not know: how a request is served.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use super::intake::{self, Intake};
use super::link::Kept;
use super::tunnel::Tunnel;
use super::{Door, Shared, body, connect, forward};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::http1::answer::{self, FaultContext};
use crate::http1::framing::{self, Asked, BodyKind};
use crate::http1::head::{Destination, RequestHead};
use crate::net::wire::Wire;
use crate::observe::access::{Kind, Record};

/// A client's connection between two requests.
pub(super) struct Client {
    pub(super) wire: Wire,
    pub(super) address: SocketAddr,
    /// Connections to targets that its next requests may use.
    pub(super) kept: Kept,
}

/// What becomes of the connection.
pub(super) enum Next {
    /// It takes another request.
    Request(Client),
    /// It was used up, or is broken.
    Done,
    /// It gets this and is closed.
    Part(Wire, Vec<u8>),
    /// It is a tunnel from now on.
    Tunnel(Box<Tunnel>),
}

/// A request and what goes with it.
pub(super) struct Request {
    pub(super) head: RequestHead,
    pub(super) asked: Asked,
    pub(super) record: Record,
}

/// Serves a client until its connection ends.
pub(crate) async fn serve(shared: Arc<Shared>, door: Arc<Door>, wire: Wire, peer: SocketAddr) {
    let address = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let _counted = match shared.connections.enter(address.ip()) {
        Ok(counted) => counted,
        Err(fault) => return refuse(wire, address, &fault).await,
    };
    let mut client = Client { wire, address, kept: Kept::default() };
    let mut first = true;
    loop {
        let timeouts = &shared.settings.timeouts;
        let waits = (timeouts.head, timeouts.keep_alive);
        let head =
            match intake::head(&mut client.wire, first, &shared.settings.head, waits, &shared.drain).await {
                Intake::Head(head) => head,
                Intake::Nobody => return,
                Intake::Bad(fault) => return refuse(client.wire, address, &fault).await,
            };
        first = false;
        // Boxed, so that all that a request needs on its way is given back
        // before a tunnel, or the wait for the next request, begins.
        match Box::pin(request(&shared, &door, client, head)).await {
            Next::Request(next) => client = next,
            Next::Done => return,
            Next::Part(wire, answer) => return intake::part(wire, &answer).await,
            Next::Tunnel(tunnel) => return tunnel.run(shared.settings.timeouts.idle).await,
        }
    }
}

/// What never became a request that could be read.
async fn refuse(wire: Wire, address: SocketAddr, fault: &Fault) {
    let mut record = Record::begin(Kind::Refused, address);
    note(&mut record, fault);
    drop(record);
    intake::part(wire, &answer::fault(fault, FaultContext::UNREAD).bytes).await;
}

async fn request(shared: &Arc<Shared>, door: &Door, client: Client, head: RequestHead) -> Next {
    let kind = if head.method() == "CONNECT" { Kind::Tunnel } else { Kind::Forward };
    let record = Record::begin(kind, client.address);
    let asked = match framing::request(&head) {
        Ok(asked) => asked,
        Err(violation) => {
            let context = FaultContext { connect: kind == Kind::Tunnel, ..FaultContext::UNREAD };
            return part(client, record, &violation.into(), context);
        }
    };
    let request = Request { head, asked, record };
    if shared.drain.is_begun() {
        let fault = Fault::new(Code::Draining, "this gateway is shutting down: ask another, or again");
        return fail(shared, client, request, fault).await;
    }
    match request.head.destination().map(|destination| matches!(destination, Destination::Connect { .. })) {
        Err(fault) => fail(shared, client, request, fault).await,
        Ok(true) => connect::connect(shared, door, client, request).await,
        Ok(false) => forward::forward(shared, door, client, request).await,
    }
}

/// The most of a refused request's body that is read so that its connection
/// can live on; past it, closing is cheaper.
const MOST_THROWN: u64 = 64 * 1024;

/// Answers a request that failed before any of its body was read.
pub(super) async fn fail(shared: &Shared, mut client: Client, mut request: Request, fault: Fault) -> Next {
    let asked = &request.asked;
    let mut keeps = asked.persists && !fault.code().closes() && !shared.drain.is_begun();
    // A client that waits for its 100 may or may not send its body after
    // another answer, so what comes next cannot be told.
    let unread = match asked.body {
        BodyKind::None => 0,
        BodyKind::Length(length) => length,
        BodyKind::Chunked | BodyKind::UntilClose => u64::MAX,
    };
    keeps &= unread == 0 || (unread <= MOST_THROWN && !asked.expects_continue);
    let context = FaultContext { connect: asked.connect, head_only: asked.head_only, keeps };
    note(&mut request.record, &fault);
    let answer = answer::fault(&fault, context);
    if answer.closes {
        return Next::Part(client.wire, answer.bytes);
    }
    drop(request);
    let sent = client.wire.write_all(&answer.bytes).await.is_ok();
    // The answer does not wait for the body: the client may wait for it.
    if sent && body::throw(&mut client.wire, unread, shared.settings.timeouts.body).await {
        Next::Request(client)
    } else {
        Next::Done
    }
}

fn part(client: Client, mut record: Record, fault: &Fault, context: FaultContext) -> Next {
    note(&mut record, fault);
    Next::Part(client.wire, answer::fault(fault, context).bytes)
}

/// Records a failure of ours.
pub(super) fn note(record: &mut Record, fault: &Fault) {
    record.status = Some(fault.code().status());
    record.code = Some(fault.code());
    record.detail = Some(fault.detail().to_owned());
}
