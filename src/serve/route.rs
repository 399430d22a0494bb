//! Which exit a session has, gets, or is moved to.
//!
//! Owns: the proposals that the store decides on: a new pin, a move, the
//! renewal of a pin whose exit changed. When a move is allowed is
//! [`Course`]'s to say.
//! Must not know: how an exit is dialled, what a request carries.

use std::sync::Arc;
use std::time::Duration;

use self::take::{Taken, adopt};
use super::wish::Bid;
use super::{Shared, seat};
use crate::admit::limits::seats::Full;
use crate::admit::limits::tab::too_many_sessions;
use crate::core::ask::AskedSession;
use crate::core::code::Code;
use crate::core::failover::{Closed, Course, Down, Leave, Stays};
use crate::core::fault::Fault;
use crate::core::pin::{ExitName, Pin};
use crate::core::pins::Only;
use crate::core::time::{Timestamp, Ttl};
use crate::observe::events::{self, Event};
use crate::observe::instruments::MoveReason;
use crate::state::{LivePool, NewPin, NoExit, Pick};
use crate::store::{Claim, Demand, Placed, Reserved};

mod take;

/// A session on its way to an exit, during one request.
pub(super) struct Route<'a> {
    shared: &'a Shared,
    bid: Bid<'a>,
    session: &'a AskedSession,
    pool: Arc<LivePool>,
    /// What may be done yet.
    pub(super) course: Course,
    /// Exits that have failed for this request.
    tried: Vec<ExitName>,
}

/// A session's pin, and its exit if just chosen: a dial through it has begun.
pub(super) struct Leg {
    pub(super) claim: Claim,
    pub(super) pick: Option<Pick>,
}

impl<'a> Route<'a> {
    /// `None`: the pool is gone.
    pub(super) fn new(shared: &'a Shared, bid: Bid<'a>, session: &'a AskedSession) -> Option<Self> {
        let pool = bid.snapshot.pool(&bid.ask.pool.name)?.clone();
        let course = Course::new(pool.pool.attempts, bid.ask.failover, bid.ask.exit.is_some());
        Some(Self { shared, bid, session, pool, course, tried: Vec::new() })
    }

    /// From now on by the pools that are in force now. Those that the request
    /// began with may not know the exit that another request, which began
    /// later, has moved the session to: by them it would be gone.
    pub(super) fn refresh(&mut self) {
        if let Some(pool) = self.shared.state.snapshot().pool(&self.bid.ask.pool.name) {
            self.pool = pool.clone();
        }
    }

    /// The pool in force.
    pub(super) fn pool(&self) -> &LivePool {
        &self.pool
    }

    /// The session's pin: the live one, or a new one.
    pub(super) async fn first(&self) -> Result<Leg, Fault> {
        match self.bid.held {
            Some(claim) => Ok(Leg { claim: claim.clone(), pick: None }),
            None => Box::pin(self.claim()).await,
        }
    }

    /// The pin as it is now; a new one if it has ended.
    pub(super) async fn again(&self) -> Result<Leg, Fault> {
        match self.shared.store.look(self.session.key) {
            Some(claim) => Ok(Leg { claim, pick: None }),
            None => Box::pin(self.claim()).await,
        }
    }

    /// Another dial through the pin's own exit.
    pub(super) fn resume(&self, claim: &Claim) -> Result<Pick, Closed> {
        self.pool.resume(&claim.pin.exit.id, &claim.pin.variant, self.now())
    }

    /// Proposes a pin and lets the store decide who wins.
    async fn claim(&self) -> Result<Leg, Fault> {
        let key = self.session.key;
        let mut not = self.tried.clone();
        for _ in 0..take::MOST_FULL {
            let mut pick = match self.choose(&not).await {
                Ok(pick) => pick,
                // Another gateway may have pinned it already.
                Err(none) => match self.shared.store.find(key).await? {
                    Some(claim) => return Ok(Leg { claim, pick: None }),
                    None => return Err(none.into()),
                },
            };
            let seat = match seat::take(self.shared, self.bid.admission, key).await? {
                Ok(seat) => seat,
                Err(claim) => return Ok(Leg { claim, pick: None }),
            };
            let demand = Demand { user_most: self.bid.admission.sessions, ..take::demand(&pick, false) };
            match self.shared.store.place(key, self.proposal(&pick), &demand).await? {
                Placed::Pinned(claim) => {
                    if claim.won {
                        seat.commit(&claim.pin);
                    }
                    self.tell_claim(&claim);
                    return Ok(adopt(claim, &mut pick, Reserved::nothing(key)).then_use(pick));
                }
                Placed::ExitFull => self.filled(pick, &mut not),
                Placed::UserFull { wait } => return Err(too_many_sessions(Full { wait })),
            }
        }
        Err(take::all_filled())
    }

    /// An exit for a new pin.
    async fn choose(&self, not: &[ExitName]) -> Result<Pick, NoExit> {
        let ask = NewPin {
            exit: self.bid.ask.exit.as_ref().map(|exit| &*exit.name.id),
            ttl: self.session.ttl,
            ..self.new_pin(not)
        };
        let mut placed = self.pool.place(&ask, self.now(), &mut rand::rng());
        if let Err(none) = &placed
            && none.on_trial().is_some()
        {
            let none = none.clone();
            self.trial_over(&none).await;
            placed = self.pool.place(&ask, self.now(), &mut rand::rng());
        }
        // Pins that have ended are swept now and then; their room is free.
        let crowded = match &placed {
            Err(none) => none.lacks_room(),
            Ok(pick) => pick.shares_address(),
        };
        if crowded {
            drop(placed);
            self.shared.store.sweep().await;
            placed = self.pool.place(&ask, self.now(), &mut rand::rng());
        }
        placed
    }

    /// A claim whose exit failed, as another gateway leaves it.
    pub(super) async fn resolve(&self, claim: Claim) -> Claim {
        self.shared.store.resolve(self.session.key, claim).await
    }

    /// After a failure of a pin that no client has seen: another exit,
    /// whatever `failover` says. `None`: there is no other.
    pub(super) async fn replace(&mut self, claim: &Claim, failed: &ExitName) -> Result<Option<Leg>, Fault> {
        self.tried.push(failed.clone());
        let ask = NewPin { ttl: left(&claim.pin, self.now()), ..self.new_pin(&self.tried) };
        let placed = self.pool.place(&ask, self.now(), &mut rand::rng());
        match self.take(placed, &ask).await? {
            Ok(taken) => self.repin(claim, Only::Fresh, taken, MoveReason::FirstDial).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn trial_over(&self, none: &NoExit) {
        if let Some(exit) = none.on_trial() {
            self.pool.trial_over(&exit).await;
        }
    }

    /// What follows if the address behind the session's exit has changed since
    /// it was pinned; `None`: nothing.
    pub(super) fn readdressed(&self, claim: &Claim) -> Option<Result<Down, Stays>> {
        let change = self.course.readdressed(claim.fresh, self.pool.pool.address_change)?;
        // An exit that is down is that before all else.
        let open = self.pool.is_open(&claim.pin.exit.id, self.now());
        (open && self.pool.changed_under(&claim.pin)).then_some(change)
    }

    /// Leaves that exit, or fails.
    pub(super) async fn leave_address(
        &mut self,
        claim: &Claim,
        change: Result<Down, Stays>,
    ) -> Result<Leg, Fault> {
        match change {
            Ok(down) => self.fail_over(claim, down).await,
            Err(_) => {
                let cause = self.cause(claim, Down::Readdressed);
                let detail = format!("{cause} since the session was pinned: end the session, or move it");
                Err(self.exit_down(&detail, Down::Readdressed, None))
            }
        }
    }

    /// Moves the session away from an exit that is down, if it may move.
    pub(super) async fn fail_over(&mut self, claim: &Claim, down: Down) -> Result<Leg, Fault> {
        let seen = claim.pin.version;
        let claim = &self.resolve(claim.clone()).await;
        if claim.pin.version != seen {
            // The gateway that made it has chosen another exit meanwhile.
            return Ok(Leg { claim: claim.clone(), pick: None });
        }
        let cause = self.cause(claim, down);
        let (siblings_only, only) = match self.course.leave(claim.fresh, down) {
            Ok(Leave::Renew(only)) => return self.renew(claim, only).await,
            Ok(Leave::Move { siblings_only, only }) => (siblings_only, only),
            Err(stays) => {
                let why = match stays {
                    Stays::Named => "and the request names it",
                    Stays::Off | Stays::Readdressed => "and failover is off",
                    Stays::Enough => "as were the others tried",
                };
                return Err(self.exit_down(&format!("{cause}, {why}"), down, None));
            }
        };
        let not: Vec<_> = self.tried.iter().chain([&claim.pin.exit]).cloned().collect();
        let address = self.address_of(&claim.pin);
        let ask = NewPin { ttl: left(&claim.pin, self.now()), address, siblings_only, ..self.new_pin(&not) };
        let placed = self.pool.place(&ask, self.now(), &mut rand::rng());
        match self.take(placed, &ask).await? {
            Ok(taken) => {
                let to = taken.pick.exit.name.id.clone();
                let reason = match down {
                    Down::Readdressed => MoveReason::AddressChanged,
                    Down::Closed(_) | Down::TokenLost => MoveReason::ExitDown,
                };
                let leg = self.repin(claim, only, taken, reason).await?;
                if leg.claim.won {
                    log_move(&claim.pin, &to, &cause);
                }
                Ok(leg)
            }
            // The exit works, and no other is better.
            Err(_) if down == Down::Readdressed && !siblings_only => self.renew(claim, only).await,
            Err(none) if none.on_trial().is_some() => {
                // It may be this session's own next exit.
                self.trial_over(&none).await;
                self.again().await
            }
            Err(none) => {
                Err(self.exit_down(&format!("{cause}, and there is no other: {none}"), down, Some(&none)))
            }
        }
    }

    /// The pin follows its exit, of which something changed: another token,
    /// or another address of another prefix.
    pub(super) async fn renew(&self, claim: &Claim, only: Only) -> Result<Leg, Fault> {
        let renewed = self.pool.renew(&claim.pin.exit.id, self.now(), &mut rand::rng());
        match renewed {
            Ok(mut pick) => {
                let (key, mut proposal) = (self.session.key, self.proposal(&pick));
                // Its place on the exit it has.
                let demand = Demand { exit_most: 0, ..take::demand(&pick, false) };
                let reserved = self.shared.store.reserve(key, &proposal, &demand).await?;
                let reserved = reserved.unwrap_or_else(|| Reserved::nothing(key));
                if let Some(address) = reserved.address() {
                    pick.give(address);
                    proposal.variant = pick.variant.clone();
                }
                self.repin(claim, only, Taken { pick, proposal, reserved }, MoveReason::ExitChanged).await
            }
            // The next turn meets the exit as it is now.
            Err(closed) if closed.is_down() => Ok(Leg { claim: claim.clone(), pick: None }),
            Err(_) => Err(self.busy(claim)),
        }
    }

    async fn repin(&self, claim: &Claim, only: Only, taken: Taken, reason: MoveReason) -> Result<Leg, Fault> {
        let Taken { mut pick, mut proposal, reserved } = taken;
        proposal.same_address = pick.address().is_some() && pick.address() == self.address_of(&claim.pin);
        let (key, seen) = (self.session.key, claim.pin.version);
        let Some(moved) = self.shared.store.repin(key, seen, only, proposal).await? else {
            drop((pick, reserved));
            return self.claim().await;
        };
        if moved.won {
            self.shared.instruments.moved(reason);
            let from = &claim.pin.exit.id;
            self.shared.instruments.events.tell(|| Event::SessionMoved {
                session: events::Session::of(&moved.pin),
                from: from.clone(),
                reason: reason.word(),
            });
        }
        Ok(adopt(moved, &mut pick, reserved).then_use(pick))
    }

    fn tell_claim(&self, claim: &Claim) {
        let instruments = &self.shared.instruments;
        if claim.won {
            instruments.claims_won.one();
            instruments.events.tell(|| Event::SessionMade(events::Session::of(&claim.pin)));
        } else {
            instruments.claims_lost.one();
        }
    }

    /// What origins saw of the session until now: siblings of that come first.
    fn address_of(&self, pin: &Pin) -> Option<std::net::IpAddr> {
        if self.pool.changed_under(pin) {
            return self.pool.address_before(&pin.exit.id);
        }
        let known = self.pool.address_of(&pin.exit.id, &pin.variant).or_else(|| pin.variant.address());
        // An exit that is gone from the file is still known by name.
        let gone = || match self.pool.pool.exit(&pin.exit.id) {
            Some(_) => None,
            None => self.shared.state.address(&pin.exit),
        };
        known.or_else(gone)
    }

    fn new_pin<'n>(&'n self, not: &'n [ExitName]) -> NewPin<'n> {
        NewPin {
            key: self.session.key,
            filter: &self.bid.ask.filter,
            exit: None,
            ttl: self.session.ttl,
            not,
            address: None,
            siblings_only: false,
            target: self.bid.target,
        }
    }

    fn proposal(&self, pick: &Pick) -> Pin {
        let now = self.now();
        let ask = self.bid.ask;
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

    fn cause(&self, claim: &Claim, down: Down) -> String {
        let id = &claim.pin.exit.id;
        match down {
            Down::Readdressed => format!("the address behind exit {id} has changed"),
            Down::TokenLost => format!("the gateway behind exit {id} refuses this session"),
            Down::Closed(closed @ Closed::Ejected { .. }) => match self.pool.last_failure(id) {
                Some(failure) => format!("exit {id} {closed}, the last: {}", failure.detail),
                None => format!("exit {id} {closed}"),
            },
            Down::Closed(closed) => format!("exit {id} {closed}"),
        }
    }

    fn exit_down(&self, detail: &str, down: Down, none: Option<&NoExit>) -> Fault {
        let returns = match down {
            Down::Closed(Closed::Ejected { until }) => until.since(self.now()),
            _ => Duration::from_secs(30),
        };
        let wait = none.map_or(returns, |none| none.retry_after().min(returns));
        Fault::new(Code::ExitDown, detail.to_owned()).retry_after(wait)
    }

    /// The exit has no connection to spare; its pins stay.
    pub(super) fn busy(&self, claim: &Claim) -> Fault {
        let cause = self.cause(claim, Down::Closed(Closed::Busy));
        Fault::new(Code::NoExit, cause).retry_after(Duration::from_secs(1))
    }
}

fn log_move(pin: &Pin, to: &str, cause: &str) {
    tracing::info!(
        pool = &*pin.exit.pool,
        from = &*pin.exit.id,
        to,
        session = pin.session.as_str(),
        cause,
        "session moves"
    );
}

/// What is left of a pin, as a ttl that an exit has to hold an address for.
fn left(pin: &Pin, now: Timestamp) -> Ttl {
    Ttl::from_duration(pin.expires.since(now)).unwrap_or(Ttl::MIN)
}
