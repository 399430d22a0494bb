//! Which exit of a pool is next.
//!
//! Owns: [`Deck`], the exits of a pool that a set of filters lets through,
//! laid out so that weighted choices cost the same however many they are;
//! [`View`], what a choice may look at. `rotate` chooses for requests without
//! a session, `place` for new pins.
//! Must not know: where loads and health are kept, counters, clocks.

mod place;
mod rotate;

pub use place::place;
pub use rotate::rotate;

use rand::{Rng, RngExt};

use super::exit::Mode;
use super::pool::{Placement, Pool};
use super::session::Filter;

/// How often a draw that met an unusable exit is repeated before the whole
/// deck is looked through: at nine tenths unusable, one choice in a thousand
/// does that.
const DRAWS: usize = 64;

/// What a choice may look at. Exits are named by their place in the pool.
pub trait View {
    /// What the winner of a choice gets: the exit with its room reserved.
    type Taken;

    /// Whether [`View::take`] is likely to succeed.
    fn usable(&self, exit: u32) -> bool;
    /// The exit's weight, at least 1.
    fn weight(&self, exit: u32) -> u32;
    /// How many pins it holds.
    fn sessions(&self, exit: u32) -> u32;
    /// How many connections it carries.
    fn connections(&self, exit: u32) -> u32;
    /// How much of its weight counts yet: above 0 while it is new or just
    /// returned, 1 in the end.
    fn ramp(&self, exit: u32) -> f64;
    /// Takes it, unless it cannot be used after all.
    fn take<R: Rng>(&self, exit: u32, rng: &mut R) -> Option<Self::Taken>;
}

/// Exits in groups of one weight each, heaviest first.
#[derive(Clone, Debug, Default)]
pub struct Deck {
    /// Places in the pool, group after group, in the pool's order.
    members: Vec<u32>,
    /// Digests of the members' names, where the pool places by hashing.
    digests: Vec<u64>,
    groups: Vec<Group>,
    /// How many positions of a rotation lie before each of its sub-rounds.
    sub_rounds: Vec<u64>,
    /// The sum of all weights: the positions of a rotation.
    total: u64,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    weight: u32,
    /// Where its members start.
    start: usize,
    /// How many there are.
    count: u32,
    /// The sum of the weights of all groups before it.
    before: u64,
}

impl Deck {
    /// The active exits of the pool that meet the filter.
    pub fn new(pool: &Pool, filter: &Filter) -> Self {
        let exits = (0u32..).zip(&pool.exits);
        let fit = exits.filter(|(_, exit)| exit.mode == Mode::Active && exit.meets(filter));
        let mut deck = Self::of(fit.map(|(place, exit)| (place, exit.weight)));
        if pool.placement == Placement::Rendezvous {
            let digest = |place: &u32| {
                pool.exits
                    .get(*place as usize)
                    .map_or(0, |exit| place::digest(&exit.name.pool, &exit.name.id))
            };
            deck.digests = deck.members.iter().map(digest).collect();
        }
        deck
    }

    /// From places and weights; a weight of 0 counts as 1.
    fn of(exits: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut exits: Vec<_> = exits.map(|(place, weight)| (weight.max(1), place)).collect();
        exits.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        let mut deck = Self::default();
        for same in exits.chunk_by(|a, b| a.0 == b.0) {
            let count = u32::try_from(same.len()).unwrap_or(u32::MAX);
            let group = Group { weight: same[0].0, start: deck.members.len(), count, before: deck.total };
            deck.total += u64::from(count) * u64::from(group.weight);
            deck.members.extend(same.iter().map(|(_, place)| *place));
            deck.groups.push(group);
        }
        deck.sub_rounds = rotate::sub_rounds(&deck.groups);
        deck
    }

    /// How many exits there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The positions of one round: the sum of all weights.
    pub fn round(&self) -> u64 {
        self.total
    }

    /// One exit, drawn by weight; the deck must not be empty.
    fn draw(&self, rng: &mut impl Rng) -> u32 {
        let at = rng.random_range(0..self.total);
        let group = &self.groups[self.groups.partition_point(|group| group.before <= at) - 1];
        let within = (at - group.before) / u64::from(group.weight);
        self.members[group.start + usize::try_from(within).unwrap_or(0)]
    }

    /// A usable exit, drawn by weight, blindly at first and at last from all
    /// that are usable. `None`: none is.
    fn draw_usable(&self, view: &impl View, rng: &mut impl Rng) -> Option<u32> {
        let blind = (0..DRAWS).map(|_| self.draw(rng)).find(|exit| view.usable(*exit));
        blind.or_else(|| self.draw_from_all(view, rng))
    }

    /// One pass over the deck that leaves a draw by weight from what is
    /// usable.
    fn draw_from_all(&self, view: &impl View, rng: &mut impl Rng) -> Option<u32> {
        let mut drawn = None;
        let mut sum = 0;
        for group in &self.groups {
            for exit in self.members_of(group).iter().filter(|exit| view.usable(**exit)) {
                sum += u64::from(group.weight);
                if rng.random_range(0..sum) < u64::from(group.weight) {
                    drawn = Some(*exit);
                }
            }
        }
        drawn
    }

    /// Takes what `choose` comes up with. Another request may be faster to
    /// take it; the last resort is the first exit that can be taken.
    fn settle<V: View, R: Rng>(
        &self,
        view: &V,
        rng: &mut R,
        mut choose: impl FnMut(&mut R) -> Option<u32>,
    ) -> Option<V::Taken> {
        for _ in 0..4 {
            let exit = choose(rng)?;
            if let Some(taken) = view.take(exit, rng) {
                return Some(taken);
            }
        }
        self.members.iter().find_map(|exit| view.take(*exit, rng))
    }

    fn members_of(&self, group: &Group) -> &[u32] {
        &self.members[group.start..][..group.count as usize]
    }
}

/// Whether `a` is less loaded for its weight than `b`: (load, weight) each.
fn lighter(a: (u32, f64), b: (u32, f64)) -> bool {
    f64::from(a.0) * b.1 < f64::from(b.0) * a.1
}

#[cfg(test)]
mod tests;
