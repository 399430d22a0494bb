//! The next exit for a request without a session.
//!
//! Owns: the order of a rotation: the n-th exit as a function of n, each as
//! often in a round as it weighs; draws by weight; fewest connections.
//! Must not know: who counts n, what makes an exit unusable.
//!
//! A round deals the groups of the deck as a ruler has its marks: the highest
//! bit's members at every second deal, the next bit's at every fourth, and so
//! on: `A B A C A B A` for three bits. So a member of the group of bit b is
//! dealt 2^b times, spread evenly, and an exit as often as it weighs.

use rand::Rng;

use super::{Deck, Group, View, lighter};
use crate::core::pool::Rotation;

/// Up to so many exits `least_connections` compares all of them; beyond, so
/// many of a few draws.
const COMPARE_ALL: usize = 64;
const COMPARE_DRAWN: usize = 8;

/// So many turns are given to exits that are no use to this very request
/// before a draw decides.
const MAX_TURNS: usize = 64;

/// The positions of a rotation, each handed out once.
pub trait Turns {
    /// The next position.
    fn next(&self) -> u64;
    /// None before this one is handed out any more.
    fn skip_to(&self, position: u64);
}

/// Chooses and takes an exit. `None`: no exit of the deck can be taken.
pub fn rotate<V: View, R: Rng>(
    deck: &Deck,
    how: Rotation,
    view: &V,
    turns: &impl Turns,
    rng: &mut R,
) -> Option<V::Taken> {
    match how {
        Rotation::RoundRobin => in_turn(deck, view, turns, rng),
        Rotation::Random => deck.settle(view, rng, |rng| deck.draw_usable(view, rng)),
        Rotation::LeastConnections => deck.settle(view, rng, |rng| least_connected(deck, view, rng)),
    }
}

/// Takes positions until one is usable: an exit that is out of use loses its
/// turn, and the others keep theirs.
fn in_turn<V: View, R: Rng>(deck: &Deck, view: &V, turns: &impl Turns, rng: &mut R) -> Option<V::Taken> {
    for _ in 0..MAX_TURNS {
        let position = turns.next();
        let (group, index) = deck.nth(position)?;
        if view.is_open(group, index) {
            let exit = deck.member(group, index)?;
            if let Some(taken) = view.take(exit, rng) {
                return Some(taken);
            }
            view.pass_over(exit);
        }
        turns.skip_to(deck.next_open(position.wrapping_add(1), view)?);
    }
    deck.settle(view, rng, |rng| deck.draw_usable(view, rng))
}

/// The usable exit with the fewest connections for its weight: of all, or in
/// a large deck of some that were drawn.
fn least_connected<V: View>(deck: &Deck, view: &V, rng: &mut impl Rng) -> Option<u32> {
    let load = |exit: u32| (view.connections(exit), f64::from(view.weight(exit)));
    let least = |best: u32, exit: u32| if lighter(load(exit), load(best)) { exit } else { best };
    if deck.len() > COMPARE_ALL {
        let drawn = (0..COMPARE_DRAWN).map_while(|_| deck.draw_usable(view, rng));
        return drawn.reduce(least);
    }
    // Equals take turns, by weight, for the first of them wins.
    let first = deck.draw_usable(view, rng);
    let all = deck.groups.iter().flat_map(|group| group.members.iter().copied());
    first.into_iter().chain(all.filter(|exit| view.usable(*exit))).reduce(least)
}

/// How many positions the deals of the first so many groups have, which is
/// twice as many as those of one group fewer, and that group's in between.
pub(super) fn rounds(groups: &[Group]) -> Vec<u64> {
    let mut round = 0;
    let longer = groups.iter().map(|group| {
        round = 2 * round + group.members.len() as u64;
        round
    });
    std::iter::once(0).chain(longer).collect()
}

impl Deck {
    /// What is at a position of the rotation: a group and an index in it.
    /// `None`: the deck is empty.
    pub(super) fn nth(&self, position: u64) -> Option<(usize, u32)> {
        let mut left = position.checked_rem(self.round())?;
        for (at, group) in self.groups.iter().enumerate().rev() {
            let count = group.members.len() as u64;
            match left.checked_sub(self.rounds[at]) {
                None => {}
                Some(index) if index < count => return Some((at, u32::try_from(index).ok()?)),
                Some(index) => left = index - count,
            }
        }
        None
    }

    /// The first position from this one on whose exit is open, in this round
    /// or the next. `None`: none is.
    pub(super) fn next_open(&self, position: u64, view: &impl View) -> Option<u64> {
        let within = position.checked_rem(self.round())?;
        let start = position - within;
        let here = self.seek(self.groups.len(), within, view).map(|at| start + at);
        here.or_else(|| self.first(self.groups.len(), view).map(|at| start + self.round() + at))
    }

    /// Within the deals of so many groups.
    fn seek(&self, groups: usize, from: u64, view: &impl View) -> Option<u64> {
        if from == 0 {
            return self.first(groups, view);
        }
        let last = groups.checked_sub(1)?;
        let (before, count) = (self.rounds[last], self.groups[last].members.len() as u64);
        if from < before
            && let Some(at) = self.seek(last, from, view)
        {
            return Some(at);
        }
        let index = u32::try_from(from.saturating_sub(before)).ok();
        if let Some(index) = index.and_then(|index| view.next_open(last, index)) {
            return Some(before + u64::from(index));
        }
        let behind = before + count;
        self.seek(last, from.saturating_sub(behind), view).map(|at| behind + at)
    }

    /// The first one of the deals of so many groups: a group is dealt first
    /// behind those of the groups before it.
    fn first(&self, groups: usize, view: &impl View) -> Option<u64> {
        let first = |(group, before): (usize, &u64)| Some(before + u64::from(view.next_open(group, 0)?));
        self.rounds.iter().take(groups).enumerate().find_map(first)
    }
}
