//! A pool in force: what is asked of it, and what it gives.
//!
//! Owns: [`LivePool`] and the choices of `core::select` played on live
//! state: rotation, placement, siblings, a named exit; [`Pick`].
//! Must not know: pins beyond an exit and a variant, dials, answers.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rand::Rng;

use super::cooling::Cooling;
use super::exits::{Attempt, ConnectionGuard, ExitState};
use super::hold::Holds;
use super::lanes::{Lane, Lanes, Matching, Need};
use super::no_exit::NoExit;
use super::room::Room;
use super::siblings::Siblings;
use super::sight::{Choice, Sight};
use super::wanted::{NewPin, Unpinned};
use crate::core::exit::{Exit, Mode, Via};
use crate::core::failover::Closed;
use crate::core::pin::{ExitName, Pin, Variant};
use crate::core::pool::Pool;
use crate::core::prefix::Addresses;
use crate::core::select;
use crate::core::session::Filter;
use crate::core::time::Timestamp;

/// A pool in force with the live state of its exits.
pub struct LivePool {
    /// As configured.
    pub pool: Arc<Pool>,
    /// In the order of [`Pool::exits`].
    pub(super) exits: Vec<Arc<ExitState>>,
    pub(super) lanes: Arc<Lanes>,
    holds: Arc<Holds>,
    pub(super) cooling: Arc<Cooling>,
    siblings: OnceLock<Siblings>,
}

/// An exit to use now. What it takes up is given back on drop.
#[must_use]
pub struct Pick {
    /// As configured.
    pub exit: Arc<Exit>,
    /// Which of the exit's many.
    pub variant: Variant,
    /// The dial that is to be told the outcome of.
    pub attempt: Attempt,
    /// The connection that it will be.
    pub connection: ConnectionGuard,
    /// For a pin that is to be made: its room, to be committed.
    pub room: Option<Room>,
}

impl Pick {
    /// Whether the room's address of a prefix is another pin's as well.
    pub fn shares_address(&self) -> bool {
        self.room.as_ref().is_some_and(Room::is_shared)
    }

    /// It is this address of the exit's prefix, rather than the one chosen.
    pub fn give(&mut self, address: IpAddr) {
        if self.variant.address().is_some_and(|chosen| chosen != address) {
            self.variant = Variant::Address(address);
            if let Some(room) = &mut self.room {
                room.give(address);
            }
        }
    }

    /// The address that origins see, when it is known.
    pub fn address(&self) -> Option<IpAddr> {
        self.exit.address_for(&self.variant).or_else(|| self.attempt.live.learned_address())
    }
}

impl LivePool {
    /// Puts a pool into force in the place of `before`.
    pub(super) fn new(
        pool: Arc<Pool>,
        before: Option<&Self>,
        state: impl Fn(&ExitName) -> Arc<ExitState>,
        now: Timestamp,
    ) -> Self {
        let was_active = |exit: &Exit| {
            before.is_none_or(|before| {
                before.pool.exit(&exit.name.id).is_some_and(|exit| exit.mode == Mode::Active)
            })
        };
        let bring_in = |exit: &Arc<Exit>| {
            let state = state(&exit.name);
            let arrived = exit.mode == Mode::Active && !was_active(exit);
            state.configure(exit, pool.health, arrived.then_some(now));
            state
        };
        let exits = pool.exits.iter().map(bring_in).collect();
        let same = before
            .filter(|before| before.pool.exits == pool.exits && before.pool.placement == pool.placement);
        let (lanes, holds) = match same {
            Some(same) => (same.lanes.clone(), same.holds.clone()),
            None => (Arc::new(Lanes::new(&pool)), Arc::default()),
        };
        let cooling = before.map(|before| before.cooling.clone()).unwrap_or_default();
        Self { pool, exits, lanes, holds, cooling, siblings: OnceLock::new() }
    }

    /// Makes what the first request would have to wait for.
    pub(super) fn warm(&self, rng: &mut impl Rng) {
        self.lanes.warm(rng);
        self.siblings.get_or_init(|| Siblings::of(&self.pool));
    }

    /// An exit for a request without a session.
    pub fn rotate(&self, ask: &Unpinned<'_>, now: Timestamp, rng: &mut impl Rng) -> Result<Pick, NoExit> {
        let cool = self.cool(ask.target, ask.exit, now);
        let sight = Sight::new(self, Need::Request, ask.not, cool, now);
        if let Some(id) = ask.exit {
            let taken = self.named(id, ask.filter).and_then(|place| sight.take_active(place, rng));
            return taken.ok_or_else(|| sight.survey_named(id, ask.filter));
        }
        let hold = self.pool.rotate;
        let held = hold.and_then(|_| self.holds.take(ask.user, ask.filter, now));
        if let Some(pick) = held.and_then(|place| sight.take_active(place, rng)) {
            return Ok(pick);
        }
        let how = self.pool.rotation;
        let pick = self.choose(&sight, ask.filter, rng, |lane, choice, rng| {
            select::rotate(&lane.deck, how, choice, &**lane, rng)
        })?;
        if let Some(hold) = hold
            && let Some(place) = self.place_of(&pick.exit.name.id)
        {
            self.holds.put(ask.user, ask.filter, place, hold, now);
        }
        Ok(pick)
    }

    /// Makes a choice among the exits that meet a filter.
    fn choose<R: Rng>(
        &self,
        sight: &Sight<'_>,
        filter: &Filter,
        rng: &mut R,
        how: impl FnOnce(&Arc<Lane>, &Choice<'_>, &mut R) -> Option<Pick>,
    ) -> Result<Pick, NoExit> {
        let matching: Arc<Matching> = self.lanes.matching(filter, sight.now);
        let common = self.lanes.lane(&matching, sight.need, rng);
        let own = sight.cool.as_ref().map(|cool| self.cooling.lane(cool, common));
        let lane = own.as_ref().unwrap_or(common);
        lane.wake(sight.now);
        let choice = Choice { sight, lane };
        how(lane, &choice, rng).ok_or_else(|| sight.survey_lane(&matching, lane, filter))
    }

    /// An exit for a new pin, or for one that moves; with its room.
    pub fn place(&self, ask: &NewPin<'_>, now: Timestamp, rng: &mut impl Rng) -> Result<Pick, NoExit> {
        let cool = self.cool(ask.target, ask.exit, now);
        let sight = Sight::new(self, Need::Session(ask.ttl), ask.not, cool, now);
        if let Some(id) = ask.exit {
            let taken = self.named(id, ask.filter).and_then(|place| sight.take_active(place, rng));
            return taken.ok_or_else(|| sight.survey_named(id, ask.filter));
        }
        let sibling = ask.address.and_then(|address| self.place_near(address, ask.filter, &sight, rng));
        if let Some(pick) = sibling {
            return Ok(pick);
        }
        if ask.siblings_only {
            return Err(sight.survey_siblings(ask.filter, ask.address));
        }
        let how = self.pool.placement;
        self.choose(&sight, ask.filter, rng, |lane, choice, rng| {
            select::place(&lane.deck, how, ask.key, choice, rng)
        })
    }

    /// The values of a label that its exits have, as compared; at most so
    /// many.
    pub fn label_values(&self, key: &str, most: usize) -> Vec<Box<str>> {
        self.lanes.labels().values(key, most)
    }

    /// A sibling: an exit that has this address, the one with the fewest pins
    /// for its weight first, or a prefix that can give exactly this one.
    fn place_near(
        &self,
        address: IpAddr,
        filter: &Filter,
        sight: &Sight<'_>,
        rng: &mut impl Rng,
    ) -> Option<Pick> {
        let siblings = self.siblings(address, filter);
        let load = |place: &u32| sight.pins_by_weight(*place);
        let mut fixed: Vec<u32> = siblings.iter().copied().filter(|place| !self.is_prefix(*place)).collect();
        fixed.sort_by(|a, b| load(a).total_cmp(&load(b)));
        let taken = fixed.into_iter().find_map(|place| sight.take_active(place, rng));
        taken.or_else(|| {
            let mut prefixes = siblings.into_iter().filter(|place| self.is_prefix(*place));
            prefixes.find_map(|place| sight.take_exactly(place, address, rng))
        })
    }

    /// Active exits that meet the filter and have, or can give, this address.
    /// A template never: whatever its address, the vendor's gateway decides.
    pub(super) fn siblings(&self, address: IpAddr, filter: &Filter) -> Vec<u32> {
        let siblings = self.siblings.get_or_init(|| Siblings::of(&self.pool));
        let learned = siblings.unknown.iter().filter(|place| {
            self.at(**place).is_some_and(|(_, live)| live.learned_address() == Some(address))
        });
        let prefixes = siblings.prefixes_of(address).filter(|place| self.can_give(**place, address));
        let known = siblings.fixed_at(address).chain(learned).chain(prefixes);
        let fit = |place: &u32| {
            self.at(*place).is_some_and(|(exit, _)| exit.mode == Mode::Active && exit.meets(filter))
        };
        known.copied().filter(fit).collect()
    }

    /// The address that origins see of an exit, when it is known.
    pub fn address_of(&self, id: &str, variant: &Variant) -> Option<IpAddr> {
        let place = u32::try_from(self.pool.position(id)?).ok()?;
        let (exit, live) = self.at(place)?;
        exit.address_for(variant).or_else(|| live.learned_address())
    }

    /// That address before it last changed.
    pub fn address_before(&self, id: &str) -> Option<IpAddr> {
        self.standing(id).ok()?.1.learned.address_before()
    }

    /// Whether probes have seen the address behind a pin's exit change since
    /// the pin came to it.
    pub fn changed_under(&self, pin: &Pin) -> bool {
        self.standing(&pin.exit.id).is_ok_and(|(_, live)| live.learned.changed_under(pin))
    }

    /// A dial to probe the exit at this place. `None`: it is off, carries as
    /// many connections as it may, or its ejection is not over.
    pub fn probe(&self, place: u32, now: Timestamp, rng: &mut impl Rng) -> Option<Pick> {
        let (exit, live) = self.at(place).filter(|(exit, _)| exit.mode != Mode::Off)?;
        let variant = variant(exit, live, None, rng);
        let pick = enter(exit, live, variant, None, now).ok()?;
        Some(Pick { attempt: pick.attempt.of_probe(), ..pick })
    }

    /// Another dial for a pin through its own exit; no room is taken.
    pub fn resume(&self, id: &str, variant: &Variant, now: Timestamp) -> Result<Pick, Closed> {
        let (exit, live) = self.standing(id)?;
        enter(exit, live, variant.clone(), None, now)
    }

    /// Another variant of a pin's own exit, for the pin to be replaced by: its
    /// token was lost, or the exit's `via` changed. Room is there, since the
    /// pin has it already.
    pub fn renew(&self, id: &str, now: Timestamp, rng: &mut impl Rng) -> Result<Pick, Closed> {
        let (exit, live) = self.standing(id)?;
        let room = live.more_room(rng);
        let variant = variant(exit, live, Some(&room), rng);
        enter(exit, live, variant, Some(room), now)
    }

    /// Whether a connection that is there already may be used on: its exit is
    /// still in the pool, not off, not ejected.
    pub fn is_open(&self, id: &str, now: Timestamp) -> bool {
        self.standing(id).is_ok_and(|(_, live)| live.is_open(now))
    }

    /// Ready when no request tries the exit after an ejection.
    pub async fn trial_over(&self, id: &str) {
        if let Ok((_, live)) = self.standing(id) {
            live.trial_over().await;
        }
    }

    /// What the exit's last failed dial said.
    pub(crate) fn last_failure(&self, id: &str) -> Option<super::exits::LastFailure> {
        self.standing(id).ok()?.1.last_failure()
    }

    /// The exits in the file's order, each with its live state.
    pub fn exits(&self) -> impl Iterator<Item = (&Arc<Exit>, &Arc<ExitState>)> {
        self.pool.exits.iter().zip(&self.exits)
    }

    /// The exit of this id, with its live state.
    pub fn exit(&self, id: &str) -> Option<(&Arc<Exit>, &Arc<ExitState>)> {
        let at = self.pool.position(id)?;
        self.pool.exits.get(at).zip(self.exits.get(at))
    }

    /// Whether an active exit other than this one has, or can give, its
    /// address.
    pub fn has_sibling(&self, exit: &Exit) -> bool {
        let is_other = |place: &u32| self.at(*place).is_some_and(|(other, _)| other.name != exit.name);
        let siblings = exit.address.map(|address| self.siblings(address, &Filter::default()));
        siblings.is_some_and(|siblings| siblings.iter().any(is_other))
    }

    fn standing(&self, id: &str) -> Result<(&Arc<Exit>, &Arc<ExitState>), Closed> {
        match self.place_of(id).and_then(|place| self.at(place)) {
            None => Err(Closed::Gone),
            Some((exit, _)) if exit.mode == Mode::Off => Err(Closed::Off),
            Some(found) => Ok(found),
        }
    }

    /// The place of the exit of this id, if it meets the filter.
    pub(super) fn named(&self, id: &str, filter: &Filter) -> Option<u32> {
        let place = self.place_of(id)?;
        self.at(place).filter(|(exit, _)| exit.meets(filter)).map(|_| place)
    }

    /// The place of the exit of this id.
    pub(super) fn place_of(&self, id: &str) -> Option<u32> {
        u32::try_from(self.pool.position(id)?).ok()
    }

    /// The exit at a place, with its live state.
    pub(super) fn at(&self, place: u32) -> Option<(&Arc<Exit>, &Arc<ExitState>)> {
        let place = place as usize;
        self.pool.exits.get(place).zip(self.exits.get(place))
    }

    fn is_prefix(&self, place: u32) -> bool {
        self.at(place).is_some_and(|(exit, _)| matches!(exit.via, Via::Prefix(_)))
    }

    fn can_give(&self, place: u32, address: IpAddr) -> bool {
        match self.at(place).map(|(exit, _)| &exit.via) {
            Some(Via::Prefix(net)) => Addresses::of(*net).contains(address),
            _ => false,
        }
    }
}

/// Begins a dial through an exit.
pub(super) fn enter(
    exit: &Arc<Exit>,
    live: &Arc<ExitState>,
    variant: Variant,
    room: Option<Room>,
    now: Timestamp,
) -> Result<Pick, Closed> {
    let Some(attempt) = live.attempt(&variant, now) else {
        return Err(match live.is_on_trial() {
            true => Closed::OnTrial,
            false => Closed::Ejected { until: live.ejected_until(now).unwrap_or(now) },
        });
    };
    let connection = live.connect().ok_or(Closed::Busy)?;
    Ok(Pick { exit: exit.clone(), variant, attempt, connection, room })
}

/// Which of the exit's many: the address that goes with the room, or a fresh
/// one.
pub(super) fn variant(exit: &Exit, live: &ExitState, room: Option<&Room>, rng: &mut impl Rng) -> Variant {
    if let Via::Prefix(net) = exit.via {
        let next = || Some(live.next_address(&Addresses::of(net), rng));
        let address = room.map_or_else(next, Room::address);
        return address.map_or(Variant::None, Variant::Address);
    }
    match exit.via.session_token() {
        Some(shape) => Variant::Token(shape.draw(rng).into()),
        None => Variant::None,
    }
}
