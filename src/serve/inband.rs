//! The host `moorgate.internal`: what a client asks the gateway itself
//! (SPEC §10).
//!
//! Owns: which requests are meant for it, that they are let in as all others
//! are, and how they come: one in absolute-form, or several through a CONNECT
//! to its port 80. Nothing of it ever leaves the gateway, and its name is
//! never resolved.
//! Must not know: what is asked (`routes`), how an answer is written
//! (`reply`).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::AtomicBool;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{sleep, timeout};

use self::question::{Question, Taken};
use self::reply::{Kind, Problem, Reply};
use super::client::{Client, Next, Request, fail, left};
use super::intake::{Linger, say};
use super::wish::{Asking, Said, said};
use super::{Door, Shared, travel};
use crate::admit::limits::ending::Cut;
use crate::admit::limits::tab::{Admission, used_up};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::target::{Host, Target};
use crate::core::username::Parameters;
use crate::http1::answer;
use crate::http1::head::Destination;
use crate::net::wire::Wire;
use crate::observe::access::Record;

mod question;
mod reply;
mod routes;
mod views;

/// Its name. It is in a domain that is reserved for such use: no other host
/// can have it.
const HOST: &str = "moorgate.internal";
const PORT: u16 = 80;

/// A client that was let in.
pub(super) struct Visit<'a> {
    shared: &'a Shared,
    /// What the listener says where the client does not.
    defaults: &'a Parameters,
    client: SocketAddr,
    said: Said,
    admission: Admission,
}

/// Whether a tunnel to this target is one to the gateway itself.
pub(super) fn is_meant(target: &Target) -> bool {
    is_us(target) && target.port == PORT
}

/// Whether a target is the gateway itself, on any port.
fn is_us(target: &Target) -> bool {
    matches!(&target.host, Host::Name(name) if &**name == HOST)
}

/// Whether a request goes to the gateway itself.
pub(super) fn is_asked(destination: &Destination<'_>) -> bool {
    let (Destination::Connect { authority } | Destination::Plain { authority, .. }) = destination;
    // Mostly that is all there is to see.
    let begins = authority.get(..HOST.len()).is_some_and(|host| host.eq_ignore_ascii_case(HOST));
    let target = match destination {
        Destination::Connect { .. } => Target::parse,
        Destination::Plain { .. } => |authority: &str| Target::parse_with_default(authority, PORT),
    };
    begins && target(authority).is_ok_and(|target| is_meant(&target))
}

/// Refuses what would leave for a host of this name: it is on no network.
///
/// # Errors
/// `target_forbidden`.
pub(super) fn refuse_other_ports(target: &Target) -> Result<(), Fault> {
    if is_us(target) {
        let detail = "moorgate.internal is the gateway itself: ask it by http, on port 80";
        return Err(Fault::new(Code::TargetForbidden, detail));
    }
    Ok(())
}

/// Serves a request to the gateway itself.
pub(super) async fn ask(shared: &Shared, client: Box<Client>, mut request: Request) -> Next {
    let (door, asking) = (client.door.clone(), Asking::Head(&request.head));
    let visit = match enter(shared, &door, asking, client.address, &mut request.record).await {
        Ok(visit) => visit,
        Err(fault) => return fail(shared, client, request, fault).await,
    };
    if request.asked.connect {
        tunnel(visit, client.wire, request.record, &answer::established(None)).await;
        return Next::Done;
    }
    once(&visit, client, request).await
}

/// Lets a client in.
///
/// # Errors
/// As any request is refused, up to where its pool would be chosen.
pub(super) async fn enter<'a>(
    shared: &'a Shared,
    door: &'a Door,
    asking: Asking<'_>,
    client: SocketAddr,
    record: &mut Record,
) -> Result<Visit<'a>, Fault> {
    record.target = Some(format!("{HOST}:{PORT}"));
    let (said, _) = said(shared, door, asking, client, record).await?;
    let granted = said.caller.grant.as_ref().map(|grant| &grant.fixed.limits);
    let admission = said.caller.tab.enter(granted, shared.clock.now()).await?;
    Ok(Visit { shared, defaults: &door.defaults, client, said, admission })
}

/// A request in absolute-form.
async fn once(visit: &Visit<'_>, mut client: Box<Client>, mut request: Request) -> Next {
    let shared = visit.shared;
    let (reply, read) = match question::take(shared, &mut client.wire, &request).await {
        Taken::Whole(question) => {
            request.record.up = question.body.len() as u64;
            (answer(visit, &question).await, true)
        }
        Taken::Refused(problem) => (problem.into(), false),
        Taken::Bad(fault) => return fail(shared, client, request, fault).await,
        Taken::Gone => return left(request),
    };
    note(&mut request.record, &reply);
    let asked = request.asked;
    let keeps = read && asked.persists && !travel::must_close(shared, &client.door, &client.wire);
    let bytes = reply.bytes(asked.head_only, keeps);
    drop(request);
    if !keeps {
        return Next::Part(client.wire, bytes, if read { Linger::SHORT } else { Linger::UPLOAD });
    }
    match say(&mut client.wire, &bytes, shared).await {
        true => Next::Request(client),
        false => Next::Done,
    }
}

/// Tells the client that its tunnel stands, and answers its requests, until it
/// has no more: over any stream, however the tunnel was asked for. The tunnel
/// counts as one connection of its user, each request by rate. It is ended when
/// it is as old as another may be idle, between two requests if its client
/// takes its answers.
pub(super) async fn tunnel(visit: Visit<'_>, mut wire: Wire, mut record: Record, stands: &[u8]) {
    record.status = Some(200);
    if !say(&mut wire, stands, visit.shared).await {
        record.end = Some("client_gone");
        return;
    }
    // The tunnel's own request has let in the first one.
    let first = AtomicBool::new(true);
    let (within, before) = (&visit, &first);
    let one = |request| async move { Ok::<_, Infallible>(question::inside(within, before, request).await) };
    let timeouts = &visit.shared.settings.timeouts;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(timeouts.head.max(timeouts.keep_alive))
        .max_headers(100);
    let drain = &visit.shared.drain;
    let served = async || {
        let mut served = pin!(http.serve_connection(TokioIo::new(wire), service_fn(one)));
        tokio::select! {
            served = &mut served => return served.is_ok(),
            () = drain.leaves() => {}
            () = sleep(timeouts.idle) => {}
        }
        served.as_mut().graceful_shutdown();
        timeout(timeouts.keep_alive, served).await.is_ok_and(|served| served.is_ok())
    };
    record.end = Some(match visit.admission.unless_cut(served).await {
        Ok(true) => "done",
        Ok(false) => "client_failed",
        Err(cut) => cut.word(),
    });
}

/// The answer, unless the user's end comes first.
async fn answer(visit: &Visit<'_>, question: &Question) -> Reply {
    let answered = visit.admission.unless_cut(|| routes::answer(visit, question)).await;
    let told = answered.unwrap_or_else(|cut| {
        Err(Problem::Fault(match cut {
            Cut::Quota => used_up(visit.shared.clock.now()),
            Cut::UserRemoved => Fault::new(Code::AuthFailed, "there is no such user any more"),
        }))
    });
    told.unwrap_or_else(Reply::from)
}

fn note(record: &mut Record, reply: &Reply) {
    record.status = Some(reply.status());
    record.code = reply.code();
    record.detail = reply.detail().map(str::to_owned);
    record.down = reply.length();
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self::Own(kind, kind.hint().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(authority: &str, connect: bool, plain: bool) {
        assert_eq!(is_asked(&Destination::Connect { authority }), connect, "CONNECT {authority}");
        assert_eq!(is_asked(&Destination::Plain { authority, path: "/" }), plain, "http://{authority}/");
    }

    #[test]
    fn the_gateway_is_asked_by_its_name_and_port_80() {
        check("moorgate.internal:80", true, true);
        check("MoorGate.Internal.:080", true, true);
        check("moorgate.internal", false, true);
        check("moorgate.internal.", false, true);
        check("moorgate.internal:", false, true);
        check("moorgate.internal:443", false, false);
        check("moorgate.internal..", false, false);
        check("moorgate.internal.example:80", false, false);
        check("x.moorgate.internal:80", false, false);
        check("moorgate.internalx:80", false, false);
        check("u@moorgate.internal:80", false, false);
        check("moorgate.internal@example.com", false, false);
    }

    #[test]
    fn other_ports_are_nobodys() {
        let refused = |text| refuse_other_ports(&Target::parse(text).unwrap()).is_err();
        assert!(refused("MOORGATE.internal.:443") && refused("moorgate.internal:80"));
        assert!(!refused("moorgate.internal.example:443"));
    }
}
