//! The next exit for a request without a session.
//!
//! Owns: the order of a rotation: the n-th exit as a function of n, each as
//! often in a round as it weighs; draws by weight; fewest connections.
//! Must not know: who counts n, what makes an exit unusable.

use rand::{Rng, RngExt};

use super::{DRAWS, Deck, Group, View, lighter};
use crate::core::pool::Rotation;

/// Up to so many exits `least_connections` compares all of them; beyond, so
/// many of a few draws.
const COMPARE_ALL: usize = 64;
const COMPARE_DRAWN: usize = 8;

/// The most positions that one choice passes over before it makes do with a
/// draw: some milliseconds, and only where nearly all weight is unusable.
const MAX_SKIPS: u64 = 65_536;

/// Chooses and takes an exit. `next` hands out the positions of the rotation,
/// each once. `None`: no exit of the deck can be taken.
pub fn rotate<V: View, R: Rng>(
    deck: &Deck,
    how: Rotation,
    view: &V,
    next: impl FnMut() -> u64,
    rng: &mut R,
) -> Option<V::Taken> {
    if deck.is_empty() {
        return None;
    }
    match how {
        Rotation::RoundRobin => in_turn(deck, view, next, rng),
        Rotation::Random => deck.settle(view, rng, |rng| deck.draw_usable(view, rng)),
        Rotation::LeastConnections => deck.settle(view, rng, |rng| least_connected(deck, view, rng)),
    }
}

/// Takes positions until one is usable: an exit that is out of use loses its
/// turn, and the others keep theirs.
fn in_turn<V: View, R: Rng>(
    deck: &Deck,
    view: &V,
    mut next: impl FnMut() -> u64,
    rng: &mut R,
) -> Option<V::Taken> {
    let skips = deck.round().min(MAX_SKIPS);
    for skipped in 0..skips {
        let exit = deck.nth(next());
        if view.usable(exit)
            && let Some(taken) = view.take(exit, rng)
        {
            return Some(taken);
        }
        let unlucky = skipped == DRAWS as u64;
        if unlucky && !deck.members.iter().any(|exit| view.usable(*exit)) {
            return None;
        }
    }
    deck.settle(view, rng, |rng| deck.draw_from_all(view, rng))
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
    // From a place drawn anew, so that equals take turns.
    let (ahead, behind) = deck.members.split_at(rng.random_range(0..deck.len()));
    behind.iter().chain(ahead).copied().filter(|exit| view.usable(*exit)).reduce(least)
}

/// A round is made of as many sub-rounds as the greatest weight says, and in
/// each sub-round a group takes part with all its members or not at all, as
/// often in all as it weighs, spread evenly (Bresenham's line). Gives how many
/// positions lie before each sub-round.
pub(super) fn sub_rounds(groups: &[Group]) -> Vec<u64> {
    let most = groups.iter().map(|group| group.weight).max().unwrap_or(0);
    let mut before = 0;
    (0..most)
        .map(|sub_round| {
            let start = before;
            let dealt = groups.iter().filter(|group| takes_part(group.weight, sub_round, most));
            before += dealt.map(|group| u64::from(group.count)).sum::<u64>();
            start
        })
        .collect()
}

fn takes_part(weight: u32, sub_round: u32, most: u32) -> bool {
    let (weight, most) = (u64::from(weight), u64::from(most));
    (u64::from(sub_round) * weight + most / 2) % most + weight >= most
}

impl Deck {
    /// The exit at a position of the rotation; the deck must not be empty.
    pub(super) fn nth(&self, position: u64) -> u32 {
        let position = position % self.total;
        let sub_round = self.sub_rounds.partition_point(|before| *before <= position) - 1;
        let mut left = position - self.sub_rounds[sub_round];
        let most = self.groups[0].weight;
        for group in &self.groups {
            if takes_part(group.weight, u32::try_from(sub_round).unwrap_or(0), most) {
                match usize::try_from(left) {
                    Ok(within) if left < u64::from(group.count) => return self.members[group.start + within],
                    _ => left -= u64::from(group.count),
                }
            }
        }
        // Unreachable: the sub-rounds' sizes add up to the total.
        self.members[0]
    }
}
