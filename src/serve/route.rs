//! Which exit a session has, gets, or is moved to.
//!
//! Owns: the proposals that the store decides on: a new pin, a move, the
//! renewal of a pin whose exit changed; when a move is allowed (promise 6).
//! Must not know: how an exit is dialled, what a request carries.

use std::time::Duration;

use super::Shared;
use super::wish::Wish;
use crate::core::ask::AskedSession;
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::pin::{ExitName, Pin};
use crate::core::pool::Failover;
use crate::core::time::{Timestamp, Ttl};
use crate::state::{Closed, LivePool, NewPin, NoExit, Pick};
use crate::store::Claim;

/// A session on its way to an exit, during one request.
pub(super) struct Route<'a> {
    shared: &'a Shared,
    wish: &'a Wish,
    session: &'a AskedSession,
    pool: &'a LivePool,
    /// Exits that have failed for this request.
    tried: Vec<ExitName>,
    /// How often this request has moved the session.
    moves: u32,
}

/// A session's pin, and its exit where that was chosen just now: a dial
/// through it has begun.
pub(super) struct Leg {
    pub(super) claim: Claim,
    pub(super) pick: Option<Pick>,
}

/// When a move counts.
#[derive(Clone, Copy)]
enum Move {
    Anyhow,
    /// Only while no success was answered.
    WhileFresh,
}

impl<'a> Route<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        wish: &'a Wish,
        session: &'a AskedSession,
        pool: &'a LivePool,
    ) -> Self {
        Self { shared, wish, session, pool, tried: Vec::new(), moves: 0 }
    }

    /// The session's pin: the live one, or a new one.
    pub(super) async fn first(&self) -> Result<Leg, Fault> {
        match &self.wish.held {
            Some(claim) => Ok(Leg { claim: claim.clone(), pick: None }),
            None => self.claim().await,
        }
    }

    /// The pin as it is now; a new one if it has ended.
    pub(super) async fn again(&self) -> Result<Leg, Fault> {
        match self.shared.store.hold(self.session.key).await? {
            Some(claim) => Ok(Leg { claim, pick: None }),
            None => self.claim().await,
        }
    }

    /// Another dial through the pin's own exit.
    pub(super) fn resume(&self, claim: &Claim) -> Result<Pick, Closed> {
        self.pool.resume(&claim.pin.exit.id, &claim.pin.variant, self.now())
    }

    /// Proposes a pin and lets the store decide who wins.
    async fn claim(&self) -> Result<Leg, Fault> {
        let ask = NewPin {
            exit: self.wish.ask.exit.as_ref().map(|exit| &*exit.name.id),
            ttl: self.session.ttl,
            ..self.new_pin(&self.tried)
        };
        let placed = self.pool.place(&ask, self.now(), &mut rand::rng());
        // Pins that have ended are swept now and then; their room is free.
        let crowded = match &placed {
            Err(none) => none.lacks_room(),
            Ok(pick) => pick.shares_address(),
        };
        let mut pick = if crowded {
            drop(placed);
            self.shared.store.sweep().await;
            self.pool.place(&ask, self.now(), &mut rand::rng())?
        } else {
            placed?
        };
        let claim = self.shared.store.claim(self.session.key, self.proposal(&pick)).await?;
        Ok(adopt(claim, &mut pick).then_use(pick))
    }

    /// After a failure of a pin that no client has seen: another exit,
    /// whatever `failover` says. `None`: there is no other.
    pub(super) async fn replace(
        &mut self,
        claim: &Claim,
        failed: Option<&ExitName>,
    ) -> Result<Option<Leg>, Fault> {
        self.tried.extend(failed.cloned());
        let ask = NewPin { ttl: left(&claim.pin, self.now()), ..self.new_pin(&self.tried) };
        let placed = self.pool.place(&ask, self.now(), &mut rand::rng());
        match placed {
            Ok(pick) => self.repin(claim, Move::WhileFresh, pick).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Moves the session away from an exit that is down, if it may move.
    pub(super) async fn fail_over(&mut self, claim: &Claim, down: Closed) -> Result<Leg, Fault> {
        let failover = if claim.fresh { Failover::On } else { self.wish.ask.failover };
        let cause = self.cause(claim, down);
        if self.wish.ask.exit.is_some() {
            return Err(self.exit_down(&format!("{cause}, and the request names it"), down, None));
        }
        if failover == Failover::Off {
            return Err(self.exit_down(&format!("{cause}, and failover is off"), down, None));
        }
        if self.moves >= self.pool.pool.attempts {
            return Err(self.exit_down(&format!("{cause}, as were the others tried"), down, None));
        }
        self.moves += 1;
        let not: Vec<_> = self.tried.iter().chain([&claim.pin.exit]).cloned().collect();
        let was = self.pool.pool.exit(&claim.pin.exit.id);
        let ask = NewPin {
            ttl: left(&claim.pin, self.now()),
            address: claim.pin.variant.address().or_else(|| was.and_then(|exit| exit.address)),
            siblings_only: failover == Failover::Address,
            ..self.new_pin(&not)
        };
        let placed = self.pool.place(&ask, self.now(), &mut rand::rng());
        match placed {
            Ok(pick) => {
                tracing::info!(
                    pool = &*claim.pin.exit.pool,
                    from = &*claim.pin.exit.id,
                    to = &*pick.exit.name.id,
                    session = claim.pin.session.as_str(),
                    cause = cause.as_str(),
                    "session moves"
                );
                self.repin(claim, Move::Anyhow, pick).await
            }
            Err(none) => {
                Err(self.exit_down(&format!("{cause}, and there is no other: {none}"), down, Some(&none)))
            }
        }
    }

    /// A vendor's gateway refuses the session's token: another one, if the
    /// session may move. `None`: it may not, or has moved enough.
    pub(super) async fn another_token(&mut self, claim: &Claim) -> Result<Option<Leg>, Fault> {
        let may = self.wish.ask.failover == Failover::On && self.moves + 1 < self.pool.pool.attempts;
        self.moves += 1;
        if may { self.renew(claim).await.map(Some) } else { Ok(None) }
    }

    /// The pin follows its exit, of which something changed: another token,
    /// or another address of another prefix.
    pub(super) async fn renew(&self, claim: &Claim) -> Result<Leg, Fault> {
        let renewed = self.pool.renew(&claim.pin.exit.id, self.now(), &mut rand::rng());
        let pick = renewed.map_err(|closed| self.busy(claim, closed))?;
        self.repin(claim, Move::Anyhow, pick).await
    }

    async fn repin(&self, claim: &Claim, when: Move, mut pick: Pick) -> Result<Leg, Fault> {
        let mut proposal = self.proposal(&pick);
        proposal.same_address = pick.address().is_some() && pick.address() == self.address_of(&claim.pin);
        let (key, seen) = (self.session.key, claim.pin.version);
        let moved = match when {
            Move::Anyhow => self.shared.store.repin(key, seen, proposal).await?,
            Move::WhileFresh => self.shared.store.repin_fresh(key, seen, proposal).await?,
        };
        Ok(adopt(moved, &mut pick).then_use(pick))
    }

    fn address_of(&self, pin: &Pin) -> Option<std::net::IpAddr> {
        let exit = self.pool.pool.exit(&pin.exit.id);
        pin.variant.address().or_else(|| exit.and_then(|exit| exit.address))
    }

    fn new_pin<'n>(&'n self, not: &'n [ExitName]) -> NewPin<'n> {
        NewPin {
            key: self.session.key,
            filter: &self.wish.ask.filter,
            exit: None,
            ttl: self.session.ttl,
            not,
            address: None,
            siblings_only: false,
        }
    }

    fn proposal(&self, pick: &Pick) -> Pin {
        let now = self.now();
        let ask = &self.wish.ask;
        Pin {
            user: ask.user.clone(),
            session: self.session.id.clone(),
            filter: ask.filter.clone(),
            exit: pick.exit.name.clone(),
            variant: pick.variant.clone(),
            via: pick.exit.digest,
            made: now,
            expires: now.plus(self.session.ttl.as_duration()),
            idle: self.session.idle,
            used: now,
            rest_s: u32::try_from(ask.pool.reuse_after.as_secs()).unwrap_or(u32::MAX),
            moves: 0,
            same_address: false,
            // The store draws it.
            version: 0,
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn cause(&self, claim: &Claim, down: Closed) -> String {
        let id = &claim.pin.exit.id;
        match down {
            Closed::Gone => format!("exit {id} was removed"),
            Closed::Off => format!("exit {id} is off"),
            Closed::Busy => format!("exit {id} is at max_connections"),
            Closed::Ejected { .. } => match self.pool.last_failure(id) {
                Some(failure) => format!("exit {id} is ejected after failures, the last: {failure}"),
                None => format!("exit {id} is ejected after failures"),
            },
        }
    }

    fn exit_down(&self, detail: &str, down: Closed, none: Option<&NoExit>) -> Fault {
        let returns = match down {
            Closed::Ejected { until } => until.since(self.now()),
            _ => Duration::from_secs(30),
        };
        let wait = none.map_or(returns, |none| none.retry_after().min(returns));
        Fault::new(Code::ExitDown, detail.to_owned()).retry_after(wait)
    }

    /// An exit that cannot be used though its pins stay.
    pub(super) fn busy(&self, claim: &Claim, closed: Closed) -> Fault {
        let cause = self.cause(claim, closed);
        if closed.is_down() {
            return self.exit_down(&cause, closed, None);
        }
        Fault::new(Code::NoExit, cause).retry_after(Duration::from_secs(1))
    }
}

/// What is left of a pin, as a ttl that an exit has to hold an address for.
fn left(pin: &Pin, now: Timestamp) -> Ttl {
    Ttl::from_duration(pin.expires.since(now)).unwrap_or(Ttl::MIN)
}

/// A claim whose room is settled.
struct Adopted(Claim);

/// The winner's room counts from now on; a loser's is given back with its
/// pick.
fn adopt(claim: Claim, pick: &mut Pick) -> Adopted {
    if claim.won
        && let Some(room) = pick.room.take()
    {
        room.commit(&claim.pin);
    }
    Adopted(claim)
}

impl Adopted {
    fn then_use(self, pick: Pick) -> Leg {
        let pick = self.0.won.then_some(pick);
        Leg { claim: self.0, pick }
    }
}
