//! A pool as one choice sees it.
//!
//! Owns: [`Sight`], the [`View`] of `core::select` on live state: what is
//! usable for this request at this instant, taking it, and saying why nothing
//! was.
//! Must not know: in which order exits are looked at.

use std::net::IpAddr;
use std::sync::Arc;

use rand::Rng;

use super::cooling::Cool;
use super::exits::{ExitState, locked};
use super::lanes::{Lane, Matching, Need};
use super::no_exit::{NoExit, Standing, Surveyed, Tally};
use super::pools::{LivePool, Pick, enter, variant};
use super::room::Room;
use crate::core::exit::{Exit, Mode};
use crate::core::pin::{ExitName, Variant};
use crate::core::select::View;
use crate::core::session::Filter;
use crate::core::time::Timestamp;

/// Up to so many exits each failure looks at all of them to say why; of more,
/// what was found is told for a while.
const LOOK_AT_ALL: usize = 256;

/// So often another address of a prefix is drawn where one is no good for
/// the target.
const ADDRESS_DRAWS: usize = 16;

/// What one choice looks at.
pub(super) struct Sight<'a> {
    pool: &'a LivePool,
    pub(super) need: Need,
    /// Places of exits that have failed for this request.
    tried: Vec<u32>,
    /// What is no good for the target.
    pub(super) cool: Option<Arc<Cool>>,
    pub(super) now: Timestamp,
}

impl<'a> Sight<'a> {
    pub(super) fn new(
        pool: &'a LivePool,
        need: Need,
        not: &[ExitName],
        cool: Option<Arc<Cool>>,
        now: Timestamp,
    ) -> Self {
        let here = not.iter().filter(|name| name.pool == pool.pool.name);
        let place = |name: &ExitName| u32::try_from(pool.pool.position(&name.id)?).ok();
        Self { pool, need, tried: here.filter_map(place).collect(), cool, now }
    }

    /// Takes the exit, if it is one that the operator lets be chosen.
    pub(super) fn take_active(&self, place: u32, rng: &mut impl Rng) -> Option<Pick> {
        let (exit, _) = self.pool.at(place)?;
        if exit.mode == Mode::Active { self.take_with(place, None, rng) } else { None }
    }

    /// Takes a prefix with exactly this one of its addresses.
    pub(super) fn take_exactly(&self, place: u32, address: IpAddr, rng: &mut impl Rng) -> Option<Pick> {
        self.take_with(place, Some(address), rng)
    }

    fn take_with(&self, place: u32, exactly: Option<IpAddr>, rng: &mut impl Rng) -> Option<Pick> {
        if !self.usable(place) {
            return None;
        }
        let (exit, live) = self.pool.at(place)?;
        // Room on what is no good is held until there is better: given back, it
        // would be the first to be had again.
        let mut no_good = Vec::new();
        for _ in 0..ADDRESS_DRAWS {
            let (room, variant) = self.draw(exit, live, exactly, rng)?;
            let cools = |cool: &Cool| variant.address().is_some_and(|ip| cool.has_address(ip, self.now));
            if !self.cool.as_deref().is_some_and(cools) {
                return enter(exit, live, variant, room, self.now).ok();
            }
            no_good.push(room);
        }
        None
    }

    fn draw(
        &self,
        exit: &Exit,
        live: &Arc<ExitState>,
        exactly: Option<IpAddr>,
        rng: &mut impl Rng,
    ) -> Option<(Option<Room>, Variant)> {
        let room = match self.need {
            Need::Request => None,
            Need::Session(_) => Some(live.room(exactly, self.now, rng)?),
        };
        let variant = variant(exit, live, room.as_ref(), rng);
        Some((room, variant))
    }

    /// Until when an exit is kept from the target.
    fn cools_until(&self, exit: &Exit) -> Option<Timestamp> {
        self.cool.as_ref()?.until(&exit.name.id, self.now)
    }

    /// What keeps the exit from every such request for such a target, as
    /// [`ExitState::closed`] says it.
    fn closed(&self, exit: &Exit, live: &ExitState) -> Option<Option<Timestamp>> {
        match (live.closed(self.need, self.now), self.cools_until(exit)) {
            (closed, None) => closed,
            (None, Some(until)) => Some(Some(until)),
            // What opens it opens it too early, and it is closed again.
            (Some(None), Some(_)) => Some(None),
            (Some(Some(at)), Some(until)) => Some(Some(at.max(until))),
        }
    }

    /// Pins for each unit of weight.
    pub(super) fn pins_by_weight(&self, place: u32) -> f64 {
        f64::from(self.sessions(place)) / f64::from(self.weight(place))
    }

    fn too_short(&self, exit: &Exit) -> bool {
        match (self.need, exit.max_ttl) {
            (Need::Session(ttl), Some(most)) => most < ttl,
            _ => false,
        }
    }

    /// Why the exit that was named could not be taken.
    pub(super) fn survey_named(&self, id: &str, filter: &Filter) -> NoExit {
        let place: Vec<_> = self.pool.named(id, filter).into_iter().collect();
        self.survey(&place, filter, &format!(" named {id}"))
    }

    /// Why no sibling could be taken.
    pub(super) fn survey_siblings(&self, filter: &Filter, address: Option<IpAddr>) -> NoExit {
        let siblings = address.map(|address| self.pool.siblings(address, filter)).unwrap_or_default();
        self.survey(&siblings, filter, " with the same exit address")
    }

    /// Why none of those that meet the filter could be taken.
    pub(super) fn survey_lane(&self, matching: &Matching, lane: &Lane, filter: &Filter) -> NoExit {
        if matching.places.len() <= LOOK_AT_ALL {
            return self.survey(&matching.places, filter, "");
        }
        let mut surveyed = locked(&lane.surveyed);
        let tally = match surveyed.as_ref().and_then(|before| before.tally_at(self.now)) {
            Some(tally) => tally.clone(),
            None => {
                let tally = self.tally(matching.places.iter().copied());
                *surveyed = Some(Surveyed::new(tally.clone(), self.now));
                tally
            }
        };
        drop(surveyed);
        // What this request has tried stands against it and nobody else.
        let tried = self.tried.iter().filter(|place| matching.places.binary_search(place).is_ok());
        let tried = tried.filter_map(|place| self.standing(*place));
        self.none(tally.tried(tried), matching.places.len(), filter, "")
    }

    fn survey(&self, places: &[u32], filter: &Filter, which: &str) -> NoExit {
        let untried = places.iter().copied().filter(|place| !self.tried.contains(place));
        let tried = places.iter().filter(|place| self.tried.contains(place));
        let mut tally = self.tally(untried);
        for standing in tried.filter_map(|place| self.standing(*place)) {
            tally.count_tried(&standing);
        }
        self.none(tally, places.len(), filter, which)
    }

    fn none(&self, tally: Tally, matching: usize, filter: &Filter, which: &str) -> NoExit {
        let mut asked = format!("pool {}", self.pool.pool.name);
        if !filter.is_empty() {
            asked.push_str(&format!(" with {filter}"));
        }
        asked.push_str(which);
        let ttl = match self.need {
            Need::Session(ttl) => Some(ttl),
            Need::Request => None,
        };
        NoExit { asked, ttl, matching, tally: Box::new(tally), now: self.now }
    }

    fn tally(&self, places: impl Iterator<Item = u32>) -> Tally {
        let mut tally = Tally::default();
        places.filter_map(|place| self.standing(place)).for_each(|standing| tally.count(&standing));
        tally
    }

    /// What stands against an exit longest.
    fn standing(&self, place: u32) -> Option<Standing> {
        let (exit, live) = self.pool.at(place)?;
        let ejected = live.ejected_until(self.now);
        let is_full = self.need != Need::Request && !live.has_room(self.now);
        Some(if exit.mode != Mode::Active {
            Standing::Inactive
        } else if self.too_short(exit) {
            Standing::Short
        } else if is_full {
            Standing::Full(live.room_at(self.now).map(|at| ejected.map_or(at, |until| until.max(at))))
        } else if let Some(until) = ejected {
            Standing::Ejected(until, live.is_on_trial().then(|| exit.name.id.clone()))
        } else if let Some(until) = self.cools_until(exit) {
            Standing::Cooling(until)
        } else if live.has_connection() {
            Standing::Free
        } else {
            Standing::Busy
        })
    }

    fn usable(&self, place: u32) -> bool {
        let Some((exit, live)) = self.pool.at(place) else { return false };
        let room = match self.need {
            Need::Request => true,
            Need::Session(_) => !self.too_short(exit) && live.has_room(self.now),
        };
        let works = live.is_open(self.now) && live.has_connection();
        room && works && !self.tried.contains(&place) && self.cools_until(exit).is_none()
    }

    fn sessions(&self, place: u32) -> u32 {
        self.pool.at(place).map_or(0, |(_, live)| live.pins())
    }

    fn weight(&self, place: u32) -> u32 {
        self.pool.at(place).map_or(1, |(exit, _)| exit.weight.max(1))
    }
}

/// A choice among the exits of a lane.
pub(super) struct Choice<'a> {
    pub(super) sight: &'a Sight<'a>,
    pub(super) lane: &'a Arc<Lane>,
}

impl View for Choice<'_> {
    type Taken = Pick;

    fn usable(&self, place: u32) -> bool {
        self.sight.usable(place)
    }

    fn pass_over(&self, place: u32) {
        if let Some((exit, live)) = self.sight.pool.at(place) {
            self.lane.close(place, live, || self.sight.closed(exit, live));
        }
    }

    fn is_open(&self, group: usize, index: u32) -> bool {
        self.lane.board.is_open(group, index)
    }

    fn open(&self, group: usize) -> u32 {
        self.lane.board.open(group)
    }

    fn next_open(&self, group: usize, from: u32) -> Option<u32> {
        self.lane.board.next(group, from)
    }

    fn nth_open(&self, group: usize, n: u32) -> Option<u32> {
        self.lane.board.nth(group, n)
    }

    fn is_cell_open(&self, cell: u32) -> bool {
        self.lane.board.is_cell_open(cell)
    }

    fn weight(&self, place: u32) -> u32 {
        self.sight.weight(place)
    }

    fn sessions(&self, place: u32) -> u32 {
        self.sight.sessions(place)
    }

    fn connections(&self, place: u32) -> u32 {
        self.sight.pool.at(place).map_or(0, |(_, live)| live.connections())
    }

    fn ramp(&self, place: u32) -> f64 {
        let Sight { pool, now, .. } = self.sight;
        pool.at(place).map_or(1.0, |(_, live)| live.ramp(*now, pool.pool.slow_start))
    }

    fn take<R: Rng>(&self, place: u32, rng: &mut R) -> Option<Pick> {
        self.sight.take_with(place, None, rng)
    }
}
