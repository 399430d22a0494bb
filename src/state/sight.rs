//! A pool as one choice sees it.
//!
//! Owns: [`Sight`], the [`View`] of `core::select` on live state: what is
//! usable for this request at this instant, taking it, and saying why nothing
//! was.
//! Must not know: in which order exits are looked at.

use std::net::IpAddr;
use std::time::Duration;

use rand::Rng;

use super::no_exit::NoExit;
use super::pools::{LivePool, Pick, enter, variant};
use crate::core::exit::{Exit, Mode};
use crate::core::pin::ExitName;
use crate::core::select::View;
use crate::core::session::Filter;
use crate::core::time::{Timestamp, Ttl};

/// What the exit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// One request.
    Request,
    /// A pin of this length.
    Session(Ttl),
}

/// What one choice looks at.
pub(super) struct Sight<'a> {
    pool: &'a LivePool,
    need: Need,
    /// Places of exits that have failed for this request.
    tried: Vec<u32>,
    pub(super) now: Timestamp,
}

impl<'a> Sight<'a> {
    pub(super) fn new(pool: &'a LivePool, need: Need, not: &[ExitName], now: Timestamp) -> Self {
        let here = not.iter().filter(|name| name.pool == pool.pool.name);
        let place = |name: &ExitName| u32::try_from(pool.pool.position(&name.id)?).ok();
        Self { pool, need, tried: here.filter_map(place).collect(), now }
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
        let room = match self.need {
            Need::Request => None,
            Need::Session(_) => Some(live.room(exactly, self.now, rng)?),
        };
        let variant = variant(exit, live, room.as_ref(), rng);
        enter(exit, live, variant, room, self.now).ok()
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

    /// Why nothing could be taken, of all exits or of the one named.
    pub(super) fn survey(&self, filter: &Filter, named: Option<&str>) -> NoExit {
        let places = match named {
            Some(id) => self.pool.named(id, filter).into_iter().collect(),
            None => self.matching(filter),
        };
        let asked = match named {
            Some(id) => format!("named {id}"),
            None => String::new(),
        };
        self.count(&places, filter, asked)
    }

    /// Why no sibling could be taken.
    pub(super) fn survey_siblings(&self, filter: &Filter, address: Option<IpAddr>) -> NoExit {
        let siblings = address.map(|address| self.pool.siblings(address, filter)).unwrap_or_default();
        self.count(&siblings, filter, "with the same exit address".to_owned())
    }

    fn matching(&self, filter: &Filter) -> Vec<u32> {
        let exits = (0u32..).zip(&self.pool.pool.exits);
        exits.filter(|(_, exit)| exit.meets(filter)).map(|(place, _)| place).collect()
    }

    fn count(&self, places: &[u32], filter: &Filter, which: String) -> NoExit {
        let mut asked = format!("pool {}", self.pool.pool.name);
        if !filter.is_empty() {
            asked.push_str(&format!(" with {filter}"));
        }
        if !which.is_empty() {
            asked = format!("{asked} {which}");
        }
        let ttl = match self.need {
            Need::Session(ttl) => Some(ttl),
            Need::Request => None,
        };
        let mut none = NoExit { asked, ttl, matching: places.len(), ..NoExit::default() };
        places.iter().for_each(|place| self.judge(*place, &mut none));
        none
    }

    /// Puts an exit down under what stands against it longest.
    fn judge(&self, place: u32, none: &mut NoExit) {
        let Some((exit, live)) = self.pool.at(place) else { return };
        let ejected = live.ejected_until(self.now).map(|until| until.since(self.now));
        let full = match self.need {
            Need::Session(_) if !live.has_room(self.now) => Some(live.room_in(self.now)),
            _ => None,
        };
        let counted = if exit.mode != Mode::Active {
            none.inactive += 1;
            None
        } else if self.tried.contains(&place) {
            none.tried += 1;
            None
        } else if self.too_short(exit) {
            none.short += 1;
            None
        } else if let Some(room_in) = full {
            none.full += 1;
            room_in.map(|room_in| room_in.max(ejected.unwrap_or_default()))
        } else if let Some(ejected) = ejected {
            none.ejected += 1;
            if live.is_on_trial() {
                none.on_trial = Some(exit.name.id.clone());
            }
            Some(ejected)
        } else {
            none.busy += usize::from(!live.has_connection());
            Some(Duration::ZERO)
        };
        none.retry_after = none.retry_after.into_iter().chain(counted).min();
    }
}

impl View for Sight<'_> {
    type Taken = Pick;

    fn usable(&self, place: u32) -> bool {
        let Some((exit, live)) = self.pool.at(place) else { return false };
        let room = match self.need {
            Need::Request => true,
            Need::Session(_) => !self.too_short(exit) && live.has_room(self.now),
        };
        room && live.is_open(self.now) && live.has_connection() && !self.tried.contains(&place)
    }

    fn weight(&self, place: u32) -> u32 {
        self.pool.at(place).map_or(1, |(exit, _)| exit.weight.max(1))
    }

    fn sessions(&self, place: u32) -> u32 {
        self.pool.at(place).map_or(0, |(_, live)| live.pins())
    }

    fn connections(&self, place: u32) -> u32 {
        self.pool.at(place).map_or(0, |(_, live)| live.connections())
    }

    fn ramp(&self, place: u32) -> f64 {
        self.pool.at(place).map_or(1.0, |(_, live)| live.ramp(self.now, self.pool.pool.slow_start))
    }

    fn take<R: Rng>(&self, place: u32, rng: &mut R) -> Option<Pick> {
        self.take_with(place, None, rng)
    }
}
