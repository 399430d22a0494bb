//! A plain request, from its head to the end of its answer.
//!
//! Owns: the order of its stages, and what an answer, or none, means for the
//! exit, the pin and the client's connection.
//! Must not know: how bytes are moved.

use std::sync::Arc;

use super::exchange::{Answer, Exchange, Stopped};
use super::http::{Client, Next, Request, fail, note};
use super::link::{self, Kept, Link};
use super::tunnel::Tunnel;
use super::wish::{Wish, wish};
use super::{Door, Shared, announce};
use crate::core::code::Code;
use crate::core::fault::{Blame, Fault};
use crate::dial::{Form, Purpose};
use crate::http1::answer::{self, FaultContext};
use crate::http1::forward::{self as rewrite, Onward};
use crate::http1::framing::BodyKind;
use crate::http1::head::Destination;
use crate::observe::access::Record;
use crate::relay::meter::Counts;

/// Our name in `Via`.
const VIA: &str = "moorgate";

/// Serves a plain request.
pub(super) async fn forward(
    shared: &Arc<Shared>,
    door: &Door,
    mut client: Client,
    mut request: Request,
) -> Next {
    let (wish, link) = match way(shared, door, &mut client, &mut request).await {
        Ok(found) => found,
        Err(fault) => return fail(shared, client, request, fault).await,
    };
    let head = onward(shared, &request, &link);
    let counts = Counts::default();
    let mut exchange =
        Exchange::new(shared, &request, client.wire, link, head, wish.ask.pool.timeouts.response);
    let answered = exchange.answer(&counts).await;
    request.record.up = counts.up.bytes();
    match answered {
        Ok(answer) => {
            pass_on(shared, client.address, client.kept, request, exchange, answer, &wish, counts).await
        }
        // Boxed, as all that is rare is: no other request makes room for it.
        Err(stopped) => {
            Box::pin(stop(shared, client.address, client.kept, request, exchange, stopped, &wish)).await
        }
    }
}

async fn way(
    shared: &Shared,
    door: &Door,
    client: &mut Client,
    request: &mut Request,
) -> Result<(Wish, Link), Fault> {
    let destination = request.head.destination()?;
    let record = &mut request.record;
    let wish = wish(shared, door, &request.head, destination, client.address, record).await?;
    if shared.settings.via && rewrite::came_back(&request.head, VIA) {
        let detail = "the request has come through this gateway before: an exit leads back to it";
        return Err(Fault::new(Code::LoopDetected, detail));
    }
    let link = link::open(shared, &wish, Purpose::Plain, &mut client.kept, record).await?;
    Ok((wish, link))
}

/// The head as the next hop gets it.
fn onward(shared: &Shared, request: &Request, link: &Link) -> Vec<u8> {
    let path = match request.head.destination() {
        Ok(Destination::Plain { path, .. }) => path,
        _ => "",
    };
    let mut out = Vec::new();
    let onward = Onward {
        target: link.target(),
        path,
        form: match &link.form {
            Form::Origin => rewrite::Form::Origin,
            Form::Absolute { authorization } => {
                rewrite::Form::Absolute { credential: authorization.as_ref() }
            }
        },
        via: shared.settings.via.then_some(VIA),
    };
    rewrite::request(&mut out, &request.head, &request.asked, &onward);
    out
}

/// Why an answer is not passed on: it is not the target's to give.
fn refusal(link: &Link, status: u16) -> Option<(Blame, Fault)> {
    let upstream = matches!(link.form, Form::Absolute { .. });
    let blame = if link.exit.via.is_template() { Blame::Token } else { Blame::Exit };
    match (status, upstream) {
        (407, true) => {
            Some((blame, Fault::new(Code::ExitAuthFailed, "the upstream refused the exit's credential")))
        }
        (407, false) => {
            let detail = "the target answered 407, which only a proxy may";
            Some((Blame::Target, Fault::new(Code::BadResponse, detail)))
        }
        (status, true) if link.exit.fault_status.contains(&status) => {
            let detail = format!("the upstream answered {status}, which means the exit itself");
            Some((blame, Fault::new(Code::ExitFailed, detail)))
        }
        _ => None,
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one request, taken apart once")]
async fn pass_on(
    shared: &Arc<Shared>,
    address: std::net::SocketAddr,
    mut kept: Kept,
    mut request: Request,
    mut exchange: Exchange<'_>,
    answer: Answer,
    wish: &Wish,
    counts: Counts,
) -> Next {
    if let Some((blame, fault)) = refusal(&exchange.link, answer.head.status()) {
        let stopped = Stopped { fault, blame, answerable: true };
        return Box::pin(stop(shared, address, kept, request, exchange, stopped, wish)).await;
    }
    exchange.link.succeeded(shared);
    let news = exchange.link.news(shared);
    request.record.news = news;
    request.record.status = Some(answer.head.status());
    if answer.switching {
        let mut out = Vec::new();
        announce::with(shared, &exchange.link, news, |a| rewrite::switching(&mut out, &answer.head, a));
        return Box::pin(switch(request.record, exchange, out, counts)).await;
    }
    let mut out = Vec::new();
    let close = shared.drain.is_begun();
    let sent = announce::with(shared, &exchange.link, news, |a| {
        rewrite::response(&mut out, &answer.head, answer.body, &request.asked, a, close)
    });
    let whole = exchange.body(out, &answer, sent.decode, &counts).await;
    request.record.up = counts.up.bytes();
    request.record.down = counts.down.bytes();
    if let Err(end) = whole {
        request.record.end = Some(end);
        // Nobody must take a broken answer for a whole one.
        exchange.client.reset();
        return Next::Done;
    }
    let sent_all = exchange.sent_all();
    let (wire, link, clean) = exchange.part();
    if answer.persists && sent_all && clean && answer.body != BodyKind::UntilClose {
        kept.put(link);
    }
    drop(request);
    if sent.persists && sent_all {
        Next::Request(Client { wire, address, kept })
    } else {
        Next::Part(wire, Vec::new())
    }
}

async fn switch(mut record: Record, mut exchange: Exchange<'_>, out: Vec<u8>, counts: Counts) -> Next {
    use tokio::io::AsyncWriteExt;
    if exchange.client.write_all(&out).await.is_err() {
        record.end = Some("client_gone");
        return Next::Done;
    }
    let (client, link, _) = exchange.part();
    Next::Tunnel(Tunnel::new(client, link, record, counts))
}

/// No answer that can be passed on.
async fn stop(
    shared: &Arc<Shared>,
    address: std::net::SocketAddr,
    kept: Kept,
    mut request: Request,
    exchange: Exchange<'_>,
    stopped: Stopped,
    wish: &Wish,
) -> Next {
    let sent_all = exchange.sent_all();
    let (wire, mut link, _) = exchange.part();
    if let Some(after) = link.failed(shared, stopped.blame, &stopped.fault) {
        link::move_away(shared, wish, &link, after).await;
    }
    if !stopped.answerable {
        request.record.end = Some("client_gone");
        return Next::Done;
    }
    note(&mut request.record, &stopped.fault);
    let keeps = sent_all && request.asked.persists && !shared.drain.is_begun();
    let context = FaultContext { connect: false, head_only: request.asked.head_only, keeps };
    let answer = answer::fault(&stopped.fault, context);
    drop(link);
    if answer.closes {
        return Next::Part(wire, answer.bytes);
    }
    let mut client = Client { wire, address, kept };
    use tokio::io::AsyncWriteExt;
    match client.wire.write_all(&answer.bytes).await {
        Ok(()) => Next::Request(client),
        Err(_) => Next::Done,
    }
}
