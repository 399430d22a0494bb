//! The way out of a request: an exit chosen, dialled, and tried again.
//!
//! Owns: how often a dial is tried and through which exits (promise 2 and 6),
//! connections that a client's next plain request may use again.
//! Must not know: what is sent on a connection.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::Instrument;

use super::Shared;
use super::route::{Leg, Route};
use super::wish::Wish;
use crate::core::ask::AskedSession;
use crate::core::code::Code;
use crate::core::exit::Exit;
use crate::core::failover::{Closed, Down, Failure, Next};
use crate::core::fault::{Blame, Fault};
use crate::core::pin::{ExitName, News, Pin, Variant};
use crate::core::pins::Only;
use crate::core::session::SessionKey;
use crate::core::target::Target;
use crate::core::time::Ttl;
use crate::dial::{DialRequest, Form, Purpose, Timings};
use crate::net::wire::Wire;
use crate::observe::access::Record;
use crate::observe::events::Event;
use crate::observe::instruments::Flow;
use crate::state::{After, Attempt, ConnectionGuard, LivePool, Pick};
use crate::store::Claim;

/// A connection through an exit.
pub(super) struct Link {
    pub(super) wire: Wire,
    pub(super) form: Form,
    pub(super) exit: Arc<Exit>,
    variant: Variant,
    /// The address that the origin sees, when it is known.
    address: Option<IpAddr>,
    pub(super) pinned: Option<Pinned>,
    /// A dial whose outcome only an answer tells: an upstream that takes
    /// plain requests has only been connected to so far.
    attempt: Option<Attempt>,
    target: Target,
    /// How long its dial took.
    timings: Timings,
    connection: ConnectionGuard,
}

/// The session that a link is for.
pub(super) struct Pinned {
    key: SessionKey,
    pub(super) pin: Pin,
}

/// A failed dial.
struct Failed {
    fault: Fault,
    failure: Failure,
    exit: Arc<Exit>,
}

/// Finds a way out for a judged request.
///
/// # Errors
/// What kept the last exit from being used, or that there is none.
pub(super) async fn open(
    shared: &Shared,
    wish: &Wish,
    purpose: Purpose,
    kept: &mut Kept,
    record: &mut Record,
) -> Result<Link, Fault> {
    let link = match &wish.ask.session {
        None => free(shared, wish, purpose).await,
        Some(session) => pinned(shared, wish, session, purpose, kept).await,
    }?;
    record.exit = Some(link.exit.name.clone());
    record.address = link.address();
    record.connected();
    record.dns = Some(link.timings.dns).filter(|time| !time.is_zero());
    record.handshake = Some(link.timings.handshake).filter(|time| !time.is_zero());
    Ok(link)
}

/// Without a session: an exit whose fault it was is passed over.
async fn free(shared: &Shared, wish: &Wish, purpose: Purpose) -> Result<Link, Fault> {
    let pool = wish.snapshot.pool(&wish.ask.pool.name).ok_or_else(replaced)?;
    let named = wish.ask.exit.is_some();
    let mut tried = Vec::new();
    let mut last = None;
    for _ in 0..pool.pool.attempts {
        let ask = wish.unpinned(&tried);
        let pick = match pool.rotate(&ask, shared.clock.now(), &mut rand::rng()) {
            Ok(pick) => pick,
            Err(none) => return Err(last.filter(|_| none.all_tried()).unwrap_or_else(|| none.into())),
        };
        match dial(shared, wish, pick, purpose, wish.ask.default_ttl).await {
            Ok(link) => return Ok(link),
            Err(failed) if named && failed.failure.blame == Blame::Full => return Err(failed.fault),
            Err(failed) if failed.failure.is_exits() => {
                // A named exit has no other; another token may do.
                if !named && failed.failure.blame != Blame::Token {
                    tried.push(failed.exit.name.clone());
                }
                last = Some(failed.fault);
            }
            Err(failed) => return Err(failed.fault),
        }
    }
    Err(last.unwrap_or_else(|| Fault::new(Code::NoExit, "the pool allows no attempt")))
}

/// With a session: through its pin's exit, and another only where the promise
/// allows it.
async fn pinned(
    shared: &Shared,
    wish: &Wish,
    session: &AskedSession,
    purpose: Purpose,
    kept: &mut Kept,
) -> Result<Link, Fault> {
    let mut route = Route::new(shared, wish.bid(), session).ok_or_else(replaced)?;
    let mut leg = route.first().await?;
    // Boxed: all but the straight way. Requests that go it make no room for
    // the others.
    while route.course.turn() {
        route.refresh();
        let Leg { claim, pick } = leg;
        if pick.is_none()
            && let Some(change) = route.readdressed(&claim)
        {
            leg = Box::pin(route.leave_address(&claim, change)).await?;
            continue;
        }
        let reusable = pick.is_none() && purpose == Purpose::Plain;
        let target = wish.judged.target();
        let link = reusable.then(|| kept.take(route.pool(), session.key, &claim, target, shared)).flatten();
        let link = match link {
            Some(link) => Ok(link),
            None => {
                let pick = match pick.map_or_else(|| route.resume(&claim), Ok) {
                    Ok(pick) => pick,
                    Err(Closed::Busy) => return Err(route.busy(&claim)),
                    Err(Closed::OnTrial) => {
                        // One outcome for all who wait for it.
                        Box::pin(route.pool().trial_over(&claim.pin.exit.id)).await;
                        leg = Box::pin(route.again()).await?;
                        continue;
                    }
                    Err(closed) => {
                        leg = Box::pin(route.fail_over(&claim, Down::Closed(closed))).await?;
                        continue;
                    }
                };
                if pick.exit.digest != claim.pin.via {
                    drop(pick);
                    leg = Box::pin(route.renew(&claim, Only::Anyhow)).await?;
                    continue;
                }
                route.course.dial();
                let ttl = Ttl::from_duration(claim.pin.expires.since(claim.pin.made)).unwrap_or(session.ttl);
                dial(shared, wish, pick, purpose, ttl).await
            }
        };
        leg = match link {
            Ok(mut link) => {
                claim.receipt.settled().await?;
                // A pin that ended meanwhile was in force when this request began.
                if shared.store.peek(session.key).is_none_or(|pin| pin.version == claim.pin.version) {
                    link.pinned = Some(Pinned { key: session.key, pin: claim.pin });
                    return Ok(link);
                }
                Box::pin(route.again()).await?
            }
            Err(failed) => Box::pin(next_leg(&mut route, claim, failed)).await?,
        };
    }
    Err(Fault::new(Code::ExitFailed, "the session's exit changed too often meanwhile"))
}

/// After a failed dial: the same exit again, another, or none.
async fn next_leg(route: &mut Route<'_>, claim: Claim, failed: Failed) -> Result<Leg, Fault> {
    let version = claim.pin.version;
    let claim = if failed.failure.is_exits() { route.resolve(claim).await } else { claim };
    route.refresh();
    if claim.pin.version != version {
        // The gateway that made it has chosen another exit meanwhile.
        return Ok(Leg { claim, pick: None });
    }
    let mut next = route.course.after(claim.fresh, &failed.failure);
    if next == Next::Other {
        match route.replace(&claim, &failed.exit.name).await? {
            Some(leg) => return Ok(leg),
            None => next = route.course.without_other(&failed.failure),
        }
    }
    match next {
        Next::GiveUp | Next::Other => Err(failed.fault),
        Next::Again => Ok(Leg { claim, pick: None }),
        Next::Renew => route.renew(&claim, Only::Fresh).await,
        // A vendor that refuses every token does not make the exit down.
        Next::Leave(Down::TokenLost) => {
            route.fail_over(&claim, Down::TokenLost).await.map_err(|_| failed.fault)
        }
        Next::Leave(down) => route.fail_over(&claim, down).await,
    }
}

fn replaced() -> Fault {
    Fault::new(Code::NoExit, "the pool is being replaced")
}

/// A request that was written has failed by the exit's fault: it is not
/// repeated, but its session moves with it if it may (promise 6). What keeps
/// it from moving is the next request's to tell.
pub(super) async fn move_away(shared: &Shared, wish: &Wish, link: &Link, failure: Failure) {
    let (Some(session), Some(down)) = (&wish.ask.session, failure.down()) else { return };
    let Some(claim) = shared.store.look(session.key) else { return };
    if link.pinned.as_ref().is_some_and(|pinned| pinned.pin.version == claim.pin.version)
        && let Some(mut route) = Route::new(shared, wish.bid(), session)
    {
        route.refresh();
        let _told_by_the_next = route.fail_over(&claim, down).await;
    }
}

/// One dial, and what its outcome does to the exit.
async fn dial(shared: &Shared, wish: &Wish, pick: Pick, purpose: Purpose, ttl: Ttl) -> Result<Link, Failed> {
    let request = DialRequest {
        exit: &pick.exit,
        variant: &pick.variant,
        target: &wish.judged,
        purpose,
        ttl,
        asked: &wish.ask.labels,
        timeouts: &wish.ask.pool.timeouts,
        via: shared.settings.via.as_deref(),
    };
    let address = pick.address();
    let span = tracing::trace_span!("dial", pool = &*pick.exit.name.pool, exit = &*pick.exit.name.id);
    match shared.dialer.dial(request).instrument(span).await {
        Ok(dialed) => {
            pick.attempt.took(dialed.timings.connect + dialed.timings.handshake);
            let mut link = Link {
                wire: dialed.wire,
                form: dialed.form,
                address,
                exit: pick.exit,
                variant: pick.variant,
                pinned: None,
                attempt: Some(pick.attempt),
                target: wish.judged.target().clone(),
                timings: dialed.timings,
                connection: pick.connection,
            };
            if link.form == Form::Origin {
                link.succeeded(shared);
            }
            Ok(link)
        }
        Err(fault) => {
            let after =
                pick.attempt.failed(fault.blame, &fault.fault, wish.judged.target(), shared.clock.now());
            tell_change(shared, &pick.exit, after, Some(&fault.fault));
            Err(Failed { failure: failure(fault.blame, after), fault: fault.fault, exit: pick.exit })
        }
    }
}

fn failure(blame: Blame, after: After) -> Failure {
    Failure { blame, ejected_until: after.ejected_until, token_lost: after.token_lost }
}

/// Tells what an outcome changed of an exit.
pub(crate) fn tell_change(shared: &Shared, exit: &Exit, after: After, fault: Option<&Fault>) {
    use crate::core::health::Change;
    let ExitName { pool, id } = &exit.name;
    let events = &shared.instruments.events;
    match after.change {
        Some(Change::Ejected) => {
            let cause = fault.map(Fault::detail);
            tracing::warn!(pool = &**pool, exit = &**id, cause, "exit ejected");
            shared.instruments.ejections.one();
            let cause = cause.map(str::to_owned);
            events.tell(|| Event::ExitEjected { pool: pool.clone(), exit: id.clone(), cause });
        }
        Some(Change::Returned) => {
            tracing::info!(pool = &**pool, exit = &**id, "exit is back");
            events.tell(|| Event::ExitReturned { pool: pool.clone(), exit: id.clone() });
        }
        None => {}
    }
}

impl Link {
    /// The address that the origin sees, when it is known.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The exit did its work, as far as that was still open.
    pub(super) fn succeeded(&mut self, shared: &Shared) {
        if let Some(attempt) = self.attempt.take() {
            tell_change(shared, &self.exit, attempt.succeeded(shared.clock.now()), None);
        }
    }

    /// The exit, or the target behind it, did not do its work: the request
    /// had been written by then. Where the exit stands after it.
    pub(super) fn failed(&mut self, shared: &Shared, blame: Blame, fault: &Fault) -> Option<Failure> {
        let after = self.attempt.take()?.failed(blame, fault, &self.target, shared.clock.now());
        tell_change(shared, &self.exit, after, Some(fault));
        Some(failure(blame, after))
    }

    /// Where the bytes that go through it are counted.
    pub(super) fn flows(&self, shared: &Shared) -> [Arc<Flow>; 2] {
        [shared.instruments.flow.clone(), self.connection.flow()]
    }

    /// The connection alone, and what counts it.
    pub(super) fn into_parts(self) -> (Wire, ConnectionGuard) {
        (self.wire, self.connection)
    }

    /// Whether it is still open how the exit did.
    pub(super) fn is_untold(&self) -> bool {
        self.attempt.is_some()
    }

    /// Where it leads.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// What the success about to be answered says of the session. Each call
    /// counts as that success.
    pub(super) async fn news(&self, shared: &Shared) -> Option<News> {
        let pinned = self.pinned.as_ref()?;
        // A pin that was moved or ended since has its own first success.
        Some(shared.store.announce(pinned.key, pinned.pin.version).await.unwrap_or(News::Held))
    }
}

/// Links that the next plain requests of the same client connection may use:
/// nobody else's ever are (promise 7).
#[derive(Default)]
pub(super) struct Kept(Vec<Link>);

/// The most that a client connection keeps.
const MOST_KEPT: usize = 8;

impl Kept {
    /// Keeps a link whose last answer was read to its end. One without a
    /// session serves a single request.
    pub(super) fn put(&mut self, link: Link) {
        if link.pinned.is_none() {
            return;
        }
        if self.0.len() >= MOST_KEPT {
            self.0.remove(0);
        }
        self.0.push(link);
    }

    /// A link to the same target for the same session through the same exit.
    fn take(
        &mut self,
        pool: &LivePool,
        key: SessionKey,
        claim: &Claim,
        target: &Target,
        shared: &Shared,
    ) -> Option<Link> {
        let pin = &claim.pin;
        if pool.pool.exit(&pin.exit.id).is_some_and(|exit| exit.digest != pin.via) {
            return None; // the pin has to follow its exit first
        }
        let fits = |link: &Link| {
            let same = link.pinned.as_ref().is_some_and(|pinned| pinned.key == key);
            same && link.target == *target
                && link.exit.name == pin.exit
                && link.variant == pin.variant
                && link.exit.digest == pin.via
        };
        while let Some(at) = self.0.iter().rposition(fits) {
            let mut link = self.0.remove(at);
            if link.wire.is_stale() || !pool.is_open(&pin.exit.id, shared.clock.now()) {
                continue;
            }
            return Some(link);
        }
        None
    }
}
