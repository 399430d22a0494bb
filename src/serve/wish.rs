//! Who asks for what, judged in the contract's order (SPEC §2).
//!
//! Owns: the way from a head to a [`Wish`]: credential (407), client (403),
//! parameters (400), pool (403), the live pin (400), limits (429), target
//! (400, 421, 403).
//! Must not know: how an exit is chosen or reached.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Door, Shared, seat};
use crate::admit::limits::tab::Admission;
use crate::admit::tokens::Grant;
use crate::admit::users::Caller;
use crate::core::ask::{Ask, AtHand, ask, judge};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::policy::Judged;
use crate::core::pool::NameRef;
use crate::core::target::Target;
use crate::core::username::{Parameters, parse};
use crate::http1::fields::{Fields, Known};
use crate::http1::forward::came_back;
use crate::http1::head::{Destination, RequestHead};
use crate::observe::access::Record;
use crate::state::Snapshot;
use crate::store::Claim;

/// A request that may have an exit.
pub(super) struct Wish {
    /// What is asked for.
    pub(super) ask: Ask,
    /// The pools that were in force when it was asked.
    pub(super) snapshot: Arc<Snapshot>,
    /// Where to.
    pub(super) judged: Judged,
    /// The session's live pin, where there is one.
    pub(super) held: Option<Claim>,
    /// What it takes up of its user's limits.
    pub(super) admission: Admission,
}

/// A request, in the protocol that it came in.
pub(super) enum Asking<'a> {
    /// HTTP: the head says it all.
    Head(&'a RequestHead),
    /// SOCKS5. (Boxed: requests over HTTP make no room for it.)
    Tunnel(Box<Proven>),
}

/// A request whose caller was to be proven before it was said for what.
pub(super) struct Proven {
    /// Who asks.
    pub(super) caller: Result<Caller, Fault>,
    /// Where to.
    pub(super) target: Result<Target, Fault>,
}

/// Judges a request.
///
/// # Errors
/// The first thing that is wrong, in the contract's order.
pub(super) async fn wish(
    shared: &Shared,
    door: &Door,
    asking: Asking<'_>,
    client: SocketAddr,
    record: &mut Record,
) -> Result<Wish, Fault> {
    let (caller, target, head) = match asking {
        Asking::Head(head) => (prove(shared, door, head, client).await?, aim(head), Some(head)),
        Asking::Tunnel(proven) => (proven.caller?, proven.target, None),
    };
    record.user = Some(caller.account.name.clone());

    let mut said = parse(&caller.tail).map_err(|error| error.fault)?;
    if let Some(head) = head {
        said = said.join(from_fields(head.fields())?)?;
    }
    let mut parameters = match &caller.grant {
        None => said,
        Some(grant) => {
            let fixed = from_grant(grant, &said);
            said.join(fixed)?
        }
    };
    if parameters.session.is_none() {
        parameters.session.clone_from(&door.defaults.session);
    }
    judge(&parameters, &caller.account, &shared.settings.bounds)?;
    // A session that is made of what is at hand has the token's ttl as well.
    if let (None, Some(grant)) = (parameters.ttl, &caller.grant) {
        parameters.ttl = grant.fixed.ttl;
    }

    let snapshot = shared.state.snapshot();
    let at_hand = AtHand { client: client.ip().to_canonical(), target: target.as_ref().ok() };
    let ask =
        ask(parameters, &door.defaults, &caller.account, snapshot.pools(), &shared.settings.bounds, at_hand)?;
    record.pool = Some(ask.pool.name.clone());
    record.session = ask.session.as_ref().map(|session| session.id.clone());

    let mut held = match &ask.session {
        Some(session) => match shared.store.hold(session.key).await? {
            // A shared store's pin that this gateway does not know yet: mostly
            // the claim tells.
            None if ask.exit.is_some() => shared.store.find(session.key).await?,
            held => held,
        },
        None => None,
    };
    check_exit(&ask, held.as_ref())?;
    let granted = caller.grant.as_ref().map(|grant| &grant.fixed.limits);
    let admission = caller.tab.enter(granted, shared.clock.now()).await?;
    if let (Some(session), None) = (&ask.session, &held) {
        check_room(shared)?;
        held = Box::pin(seat::check(shared, &admission, session.key)).await?;
        check_exit(&ask, held.as_ref())?;
    }
    let target = target?;
    record.target = Some(target.to_string());
    if let (Some(name), Some(head)) = (&shared.settings.via, head)
        && came_back(head, name)
    {
        let detail = "the request has come through this gateway before: an exit leads back to it";
        return Err(Fault::new(Code::LoopDetected, detail));
    }
    let judged = ask.pool.targets.judge(target, &shared.own)?;
    Ok(Wish { ask, snapshot, judged, held, admission })
}

/// Who has sent it. At a listener with a user of its own, whoever comes from
/// one of that user's addresses need not say so.
async fn prove(
    shared: &Shared,
    door: &Door,
    head: &RequestHead,
    client: SocketAddr,
) -> Result<Caller, Fault> {
    let credential = credential(head.fields());
    if let (None, Some(user)) = (credential, &door.user)
        && let Some(caller) = shared.users.at_home(user, client.ip())
    {
        return Ok(caller);
    }
    shared.users.prove(credential, client.ip()).await
}

fn aim(head: &RequestHead) -> Result<Target, Fault> {
    match head.destination()? {
        Destination::Connect { authority } => Target::parse(authority),
        Destination::Plain { authority, .. } => Target::parse_with_default(authority, 80),
    }
}

/// The one credential; two are none, for a reader behind us might take the
/// other.
fn credential(fields: &Fields) -> Option<&[u8]> {
    let mut all = fields.all(Known::ProxyAuthorization);
    match (all.next(), all.next()) {
        (Some(_), Some(_)) => Some(b"ambiguous"),
        (one, _) => one,
    }
}

fn from_fields(fields: &Fields) -> Result<Parameters, Fault> {
    let mut parameters = Parameters::default();
    for field in fields.iter() {
        let Some(name) = field.name().get(..9).filter(|start| start.eq_ignore_ascii_case("moorgate-")) else {
            continue;
        };
        let text = std::str::from_utf8(field.value).map_err(|_| {
            Fault::new(Code::ParameterInvalid, "a Moorgate field holds something else than text")
        })?;
        parameters.take_field(&field.name()[name.len()..], text.trim())?;
    }
    Ok(parameters)
}

/// What a token fixes: a request may say the same, or nothing. A ttl is for
/// the sessions that there are.
fn from_grant(grant: &Grant, said: &Parameters) -> Parameters {
    let fixed = &grant.fixed;
    let session = fixed.session.clone();
    let has_session = session.is_some() || said.session.is_some();
    Parameters {
        pool: fixed.pool.clone().map(NameRef::Exact),
        ttl: fixed.ttl.filter(|_| has_session),
        session,
        ..Parameters::default()
    }
}

/// A session that lives elsewhere is not moved by naming an exit.
fn check_exit(ask: &Ask, held: Option<&Claim>) -> Result<(), Fault> {
    match (&ask.exit, held) {
        (Some(exit), Some(claim)) if exit.name != claim.pin.exit => {
            let detail = format!(
                "the session lives on exit {} until it ends: leave exit out, or end the session first",
                claim.pin.exit.id
            );
            Err(Fault::new(Code::ParameterConflict, detail))
        }
        _ => Ok(()),
    }
}

fn check_room(shared: &Shared) -> Result<(), Fault> {
    let most = shared.settings.sessions;
    if most > 0 && shared.store.len() >= most as usize {
        let detail = "the gateway holds as many sessions as it may: end some, or wait for some to end";
        return Err(Fault::new(Code::TooManySessions, detail));
    }
    Ok(())
}
