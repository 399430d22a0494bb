//! Which exit of a pool is next.
//!
//! Owns: [`Deck`], the exits of a pool that are to be chosen from, laid out so
//! that a choice costs the same however many they are; [`View`], what a choice
//! may look at. `rotate` chooses for requests without a session, `place` for
//! new pins, `skeleton` places by hashing; `labels` finds the exits that a
//! filter lets through.
//! Must not know: where loads and health are kept, counters, clocks.
//!
//! An exit of weight w is dealt as the sum of powers of two that w is: it is
//! in one `Group` for each bit of its weight, and whoever draws from the
//! groups in proportion to (members × 2^bit) draws by weight. So ten groups
//! do for all weights, and in each of them all members are equal.

mod labels;
mod place;
mod rotate;
mod skeleton;

pub use labels::LabelIndex;
pub use place::place;
pub use rotate::{Turns, rotate};

use std::sync::Arc;

use rand::{Rng, RngExt};

use self::skeleton::Skeleton;
use super::exit::Exit;
use super::pool::Placement;

/// So many blind draws are made before one among the exits that are known to
/// be open: those cost more, and mostly the first is right.
const BLIND_DRAWS: usize = 2;

/// So many draws among open exits meet only such as are no use to this very
/// request before all that are open are looked through.
const OPEN_DRAWS: usize = 16;

/// What a choice may look at. Exits are named by their place in the pool.
///
/// Whether an exit is *open* is what is known of it without a look: an exit
/// that was passed over is closed until its owner hears that it may be used
/// again. Whether it is *usable*, for this request, takes a look.
pub trait View {
    /// What the winner of a choice gets: the exit with its room reserved.
    type Taken;

    /// Whether [`View::take`] is likely to succeed.
    fn usable(&self, exit: u32) -> bool;
    /// It was not usable: if not for any request, it is closed from now on.
    fn pass_over(&self, exit: u32);
    /// Whether a member of a group of the deck is open.
    fn is_open(&self, group: usize, index: u32) -> bool;
    /// How many members of a group are open.
    fn open(&self, group: usize) -> u32;
    /// The first open member of a group from an index on, by its index.
    fn next_open(&self, group: usize, from: u32) -> Option<u32>;
    /// The open member of a group before which there are so many others, by
    /// its index.
    fn nth_open(&self, group: usize, n: u32) -> Option<u32>;
    /// Whether any exit below a cell of the deck's skeleton is open.
    fn is_cell_open(&self, cell: u32) -> bool;
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

/// Exits to choose from.
#[derive(Clone, Debug, Default)]
pub struct Deck {
    /// One for each bit that a weight has, the highest first.
    groups: Vec<Group>,
    /// The positions of the first so many groups' part of a rotation.
    rounds: Vec<u64>,
    /// Where the pool places by hashing.
    skeleton: Option<Skeleton>,
    /// How many exits there are.
    len: usize,
}

/// The exits whose weight has a bit.
#[derive(Clone, Debug, Default)]
struct Group {
    bit: u32,
    /// Places in the pool, ascending.
    members: Vec<u32>,
}

impl Group {
    /// What all its members weigh as such.
    fn weight(&self) -> u64 {
        (self.members.len() as u64) << self.bit
    }
}

impl Deck {
    /// Of the exits at these places of a pool, ascending.
    pub fn new(exits: &[Arc<Exit>], places: impl Iterator<Item = u32> + Clone, placement: Placement) -> Self {
        let exit = |place: u32| exits.get(place as usize);
        let weighted = places.clone().map(|place| (place, exit(place).map_or(1, |exit| exit.weight)));
        let mut deck = Self::of(weighted.clone());
        if placement == Placement::Rendezvous {
            let digest = |place| exit(place).map_or(0, |exit| place::digest(&exit.name.pool, &exit.name.id));
            deck.skeleton =
                Some(Skeleton::of(weighted.map(|(place, weight)| (place, weight, digest(place)))));
        }
        deck
    }

    /// From places, ascending, and weights; a weight of 0 counts as 1.
    fn of(exits: impl Iterator<Item = (u32, u32)> + Clone) -> Self {
        let most = exits.clone().map(|(_, weight)| weight).max().unwrap_or(0).max(1);
        let bits = u32::BITS - most.leading_zeros();
        let mut groups: Vec<_> = (0..bits).rev().map(|bit| Group { bit, members: Vec::new() }).collect();
        let mut len = 0;
        for (place, weight) in exits {
            len += 1;
            for group in groups.iter_mut().filter(|group| weight.max(1) >> group.bit & 1 == 1) {
                group.members.push(place);
            }
        }
        groups.iter_mut().for_each(|group| group.members.shrink_to_fit());
        let rounds = rotate::rounds(&groups);
        Self { groups, rounds, skeleton: None, len }
    }

    /// How many exits there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The positions of one round: the sum of all weights.
    pub fn round(&self) -> u64 {
        self.rounds.last().copied().unwrap_or(0)
    }

    /// How many members each group has.
    pub fn groups(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().map(|group| group.members.len())
    }

    /// The groups that have the exit, and its index in each.
    pub fn indices_of(&self, exit: u32) -> impl Iterator<Item = (usize, u32)> {
        self.groups.iter().enumerate().filter_map(move |(at, group)| {
            let index = group.members.binary_search(&exit).ok()?;
            Some((at, u32::try_from(index).ok()?))
        })
    }

    /// How many exits lie below each cell of the skeleton; nothing without
    /// one.
    pub fn cells(&self) -> Vec<u32> {
        self.skeleton.as_ref().map(Skeleton::exits_below).unwrap_or_default()
    }

    /// The cells of the skeleton that the exit lies below.
    pub fn cells_of(&self, exit: u32) -> impl Iterator<Item = u32> {
        self.skeleton.iter().flat_map(move |skeleton| skeleton.above(exit))
    }

    fn member(&self, group: usize, index: u32) -> Option<u32> {
        self.groups.get(group)?.members.get(index as usize).copied()
    }

    /// One exit, drawn by weight. `None`: the deck is empty, or it is closed.
    fn draw(&self, view: &impl View, rng: &mut impl Rng) -> Option<u32> {
        let round = self.round();
        let mut at = if round == 0 { return None } else { rng.random_range(0..round) };
        for (number, group) in self.groups.iter().enumerate() {
            if at < group.weight() {
                let index = u32::try_from(at >> group.bit).ok()?;
                return self.member(number, index).filter(|_| view.is_open(number, index));
            }
            at -= group.weight();
        }
        None
    }

    /// An open exit, drawn by weight. `None`: none is.
    fn draw_open(&self, view: &impl View, rng: &mut impl Rng) -> Option<u32> {
        let open = |(at, group): (usize, &Group)| u64::from(view.open(at)) << group.bit;
        let sum: u64 = self.groups.iter().enumerate().map(open).sum();
        let mut left = if sum == 0 { return None } else { rng.random_range(0..sum) };
        for (at, group) in self.groups.iter().enumerate() {
            let weight = open((at, group));
            if left < weight {
                let n = u32::try_from(left >> group.bit).ok()?;
                return self.member(at, view.nth_open(at, n)?);
            }
            left -= weight.min(left);
        }
        None
    }

    /// A usable exit, drawn by weight. `None`: there is none, or they are few
    /// among many that are no use to this request.
    fn draw_usable(&self, view: &impl View, rng: &mut impl Rng) -> Option<u32> {
        let blind = (0..BLIND_DRAWS).find_map(|_| self.draw(view, rng));
        if let Some(exit) = blind.filter(|exit| view.usable(*exit)) {
            return Some(exit);
        }
        blind.into_iter().for_each(|exit| view.pass_over(exit));
        for _ in 0..OPEN_DRAWS {
            let exit = self.draw_open(view, rng)?;
            if view.usable(exit) {
                return Some(exit);
            }
            view.pass_over(exit);
        }
        None
    }

    /// Takes what `choose` comes up with. Another request may be faster to
    /// take it; the last resort is any exit that can be taken.
    fn settle<V: View, R: Rng>(
        &self,
        view: &V,
        rng: &mut R,
        mut choose: impl FnMut(&mut R) -> Option<u32>,
    ) -> Option<V::Taken> {
        for _ in 0..4 {
            let Some(exit) = choose(rng) else { break };
            if let Some(taken) = view.take(exit, rng) {
                return Some(taken);
            }
            view.pass_over(exit);
        }
        self.any(view, rng)
    }

    /// The first open exit that can be taken, from one drawn by weight on.
    /// Those that cannot are closed by the look, unless it is this request
    /// alone that has no use for them.
    fn any<V: View, R: Rng>(&self, view: &V, rng: &mut R) -> Option<V::Taken> {
        for (at, group) in self.groups.iter().enumerate() {
            let count = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
            let start = if count == 0 { continue } else { rng.random_range(0..count) };
            for (from, end) in [(start, count), (0, start)] {
                let mut from = from;
                while let Some(index) = view.next_open(at, from).filter(|index| *index < end) {
                    let exit = self.member(at, index)?;
                    if let Some(taken) = view.take(exit, rng) {
                        return Some(taken);
                    }
                    view.pass_over(exit);
                    from = index + 1;
                }
            }
        }
        None
    }
}

/// Whether `a` is less loaded for its weight than `b`: (load, weight) each.
fn lighter(a: (u32, f64), b: (u32, f64)) -> bool {
    f64::from(a.0) * b.1 < f64::from(b.0) * a.1
}

#[cfg(test)]
mod tests;
