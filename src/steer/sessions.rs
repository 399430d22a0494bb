//! Sessions: looked at, ended, moved, extended.
//!
//! Owns: which exit a session that is moved on demand gets, and how long one
//! can be made to last.
//! Must not know: who asks.

use crate::core::exit::Via;
use crate::core::pin::{ExitName, Pin, Variant};
use crate::core::pins::Only;
use crate::core::prefix::Addresses;
use crate::core::session::SessionKey;
use crate::core::target::Target;
use crate::core::time::Ttl;
use crate::observe::events::{self, Event};
use crate::observe::instruments::MoveReason;
use crate::state::{LivePool, NewPin, Pick};
use crate::store::{Demand, Glance, Page};

use super::{Steering, Undone};

/// So often an act is tried anew when the session has changed meanwhile.
const TRIES: u32 = 16;

/// Which sessions are looked for; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Search {
    /// Whose they are.
    pub(crate) user: Option<String>,
    /// Of which pool.
    pub(crate) pool: Option<String>,
    /// On the exit of this id.
    pub(crate) exit: Option<String>,
    /// Of exactly this name.
    pub(crate) session: Option<String>,
}

/// How a session is to be moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    /// To the exit of this id; else to any.
    pub(crate) to: Option<&'a str>,
    /// Away from this one: if it has left it by now, it stays where it is.
    pub(crate) from: Option<&'a str>,
    /// To one that is good for this target.
    pub(crate) target: Option<&'a Target>,
    /// Why.
    pub(crate) reason: MoveReason,
}

/// So often another address of the same prefix is drawn where one is no good
/// for the target.
const DRAWS: usize = 16;

impl Search {
    fn fits(&self, glance: &Glance<'_>) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        same(&self.user, glance.user())
            && same(&self.pool, &glance.exit().pool)
            && same(&self.exit, &glance.exit().id)
            && same(&self.session, glance.session())
    }
}

impl Steering {
    /// A page of the sessions that fit, from behind `after` on.
    pub(crate) async fn sessions(&self, search: &Search, after: Option<SessionKey>, most: usize) -> Page {
        self.store.page(after, most, |glance| search.fits(glance)).await
    }

    /// The session with this key.
    pub(crate) async fn session(&self, key: SessionKey) -> Result<Pin, Undone> {
        Ok(self.store.find(key).await?.ok_or(Undone::SessionUnknown)?.pin)
    }

    /// Ends a session: its next request makes a new pin.
    pub(crate) async fn end(&self, key: SessionKey) -> Result<Pin, Undone> {
        let pin = self.store.end(key).await?.ok_or(Undone::SessionUnknown)?;
        tracing::info!(pool = &*pin.exit.pool, session = pin.session.as_str(), "session ended on demand");
        Ok(pin)
    }

    /// Makes a session last `ttl` from now, if it does not last longer
    /// already.
    pub(crate) async fn extend(&self, key: SessionKey, ttl: Ttl) -> Result<Pin, Undone> {
        for _ in 0..TRIES {
            let pin = self.session(key).await?;
            let now = self.now();
            let expires = now.plus(ttl.as_duration());
            let life = expires.since(pin.made);
            if life > Ttl::MAX.as_duration() {
                let left = Ttl::MAX.as_duration().saturating_sub(now.since(pin.made));
                return Err(Undone::TooLong { most: Ttl::from_secs(left.as_secs()) });
            }
            let snapshot = self.state.snapshot();
            let exit = snapshot.pool(&pin.exit.pool).and_then(|pool| pool.pool.exit(&pin.exit.id));
            if let Some(max_ttl) = exit.and_then(|exit| exit.max_ttl)
                && expires > pin.expires
                && life > max_ttl.as_duration()
            {
                return Err(Undone::ExitTooShort { exit: pin.exit, max_ttl });
            }
            let claim = self.store.extend(key, pin.version, expires).await?;
            let claim = claim.ok_or(Undone::SessionUnknown)?;
            if claim.won {
                return Ok(claim.pin);
            }
        }
        Err(Undone::Contended)
    }

    /// Moves a session to the exit of this id, or to any other that has its
    /// labels. Where its exit is the only one and many in one, it gets
    /// another of those. A session that is there already stays.
    pub(crate) async fn relocate(&self, key: SessionKey, to: Option<&str>) -> Result<Pin, Undone> {
        let order = Order { to, from: None, target: None, reason: MoveReason::Asked };
        Ok(self.moved(key, order).await?.0)
    }

    /// Carries out an order; the session, and whether it was moved.
    pub(crate) async fn moved(&self, key: SessionKey, order: Order<'_>) -> Result<(Pin, bool), Undone> {
        for _ in 0..TRIES {
            let pin = self.session(key).await?;
            let left = order.from.is_some_and(|from| *from != *pin.exit.id);
            if left || order.to == Some(&*pin.exit.id) {
                return Ok((pin, false));
            }
            let snapshot = self.state.snapshot();
            let pool = snapshot.pool(&pin.exit.pool);
            let pool = pool.ok_or_else(|| Undone::PoolUnknown(pin.exit.pool.to_string()))?;
            let mut pick = self.pick(pool, key, &pin, order)?;
            let mut proposal = self.proposal(pool, &pick, &pin);
            let addresses = match pick.exit.via {
                Via::Prefix(net) => Some(Addresses::of(net)),
                _ => None,
            };
            let demand = Demand { exit_most: pick.exit.max_sessions, addresses, user_most: None };
            // Other gateways may have filled it since it was chosen.
            let Some(reserved) = self.store.reserve(key, &proposal, &demand).await? else {
                if let Some((exit, live)) = pool.exit(&pick.exit.name.id) {
                    live.counted(exit.max_sessions);
                }
                continue;
            };
            if let Some(address) = reserved.address() {
                pick.give(address);
                proposal = self.proposal(pool, &pick, &pin);
            }
            let moved = self.store.repin(key, pin.version, Only::Anyhow, proposal).await?;
            let moved = moved.ok_or(Undone::SessionUnknown)?;
            if !moved.won {
                continue;
            }
            reserved.keep();
            if let Some(room) = pick.room.take() {
                room.commit(&moved.pin);
            }
            drop(pick);
            moved.receipt.settled().await?;
            self.tell_move(&pin, &moved.pin, order.reason);
            return Ok((moved.pin, true));
        }
        Err(Undone::Contended)
    }

    fn pick(&self, pool: &LivePool, key: SessionKey, pin: &Pin, order: Order<'_>) -> Result<Pick, Undone> {
        if let Some(id) = order.to {
            let name = || ExitName { pool: pin.exit.pool.clone(), id: id.into() };
            let exit = pool.pool.exit(id).ok_or_else(|| Undone::ExitUnknown(name()))?;
            if !exit.meets(&pin.filter) {
                return Err(Undone::ExitUnfit { exit: name(), labels: pin.filter.to_string() });
            }
        }
        let now = self.now();
        let ask = NewPin {
            key,
            filter: &pin.filter,
            exit: order.to,
            ttl: Ttl::from_duration(pin.expires.since(now)).unwrap_or(Ttl::MIN),
            not: std::slice::from_ref(&pin.exit),
            address: None,
            siblings_only: false,
            target: order.target,
        };
        let none = match pool.place(&ask, now, &mut rand::rng()) {
            Ok(pick) => return Ok(pick),
            Err(none) => none,
        };
        if order.to.is_some() || pin.variant == Variant::None {
            return Err(Undone::NoExit(none));
        }
        // What is no good is held until there is better, for else it might be
        // the first to be had again.
        let mut no_good = Vec::new();
        for _ in 0..DRAWS {
            let Ok(pick) = pool.renew(&pin.exit.id, now, &mut rand::rng()) else { break };
            let good = |target| pool.is_good(&pick.variant, target, now);
            if order.target.is_none_or(good) {
                return Ok(pick);
            }
            no_good.push(pick);
        }
        Err(Undone::NoExit(none))
    }

    /// Times, session and labels are the store's to keep.
    fn proposal(&self, pool: &LivePool, pick: &Pick, pin: &Pin) -> Pin {
        let address = pool.address_of(&pin.exit.id, &pin.variant);
        Pin {
            exit: pick.exit.name.clone(),
            variant: pick.variant.clone(),
            via: pick.exit.digest,
            rest_s: u32::try_from(pool.pool.reuse_after.as_secs()).unwrap_or(u32::MAX),
            same_address: address.is_some() && pick.address() == address,
            ..pin.clone()
        }
    }

    fn tell_move(&self, before: &Pin, now: &Pin, reason: MoveReason) {
        let ExitName { pool, id } = &now.exit;
        let (from, session) = (&before.exit.id, now.session.as_str());
        tracing::info!(pool = &**pool, from = &**from, to = &**id, session, "session moved on demand");
        self.instruments.moved(reason);
        self.instruments.events.tell(|| Event::SessionMoved {
            session: events::Session::of(now),
            from: from.clone(),
            reason: reason.word(),
        });
    }
}
