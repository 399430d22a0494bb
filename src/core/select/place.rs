//! The exit for a new pin.
//!
//! Owns: the three placements.
//! Must not know: what a pin is beyond its key, what makes an exit unusable.

use rand::{Rng, RngExt};

use super::{DRAWS, Deck, Group, View, lighter};
use crate::core::pool::Placement;
use crate::core::session::SessionKey;

/// Chooses and takes an exit. `None`: no exit of the deck can be taken.
pub fn place<V: View, R: Rng>(
    deck: &Deck,
    how: Placement,
    key: SessionKey,
    view: &V,
    rng: &mut R,
) -> Option<V::Taken> {
    if deck.is_empty() {
        return None;
    }
    match how {
        Placement::LeastSessions => deck.settle(view, rng, |rng| fewer_sessions(deck, view, rng)),
        Placement::Random => deck.settle(view, rng, |rng| deck.draw_usable(view, rng)),
        Placement::Rendezvous => deck.settle(view, rng, |_| highest(deck, key, view)),
    }
}

/// Of two exits drawn by weight, the one with fewer pins for its weight. That
/// keeps the load even at two looks a choice, where always taking the least
/// loaded of all would send every new pin to the newest exit.
fn fewer_sessions(deck: &Deck, view: &impl View, rng: &mut impl Rng) -> Option<u32> {
    let Some(first) = draw_ramped(deck, view, rng) else {
        return deck.draw_from_all(view, rng);
    };
    let load = |exit: u32| (view.sessions(exit), f64::from(view.weight(exit)) * view.ramp(exit));
    let second = (0..4).find_map(|_| draw_ramped(deck, view, rng).filter(|second| *second != first));
    Some(match second {
        Some(second) if lighter(load(second), load(first)) => second,
        _ => first,
    })
}

/// A usable exit drawn by the weight that it has reached yet. Where every
/// draw met exits that still grow, one of those.
fn draw_ramped(deck: &Deck, view: &impl View, rng: &mut impl Rng) -> Option<u32> {
    let mut growing = None;
    for _ in 0..DRAWS {
        let exit = deck.draw(rng);
        if view.usable(exit) {
            let ramp = view.ramp(exit);
            if ramp >= 1.0 || rng.random::<f64>() < ramp {
                return Some(exit);
            }
            growing = Some(exit);
        }
    }
    growing
}

/// The usable exit that scores highest with this key. An exit's score depends
/// on nothing but key, name and weight: so nodes agree, an exit that comes
/// takes over only what it wins, one that goes leaves only what it had.
///
/// Scores are `ln(u) / weight` with `u` evenly spread over (0, 1): the exit
/// with the highest is each with a probability proportional to its weight.
/// Within a group of one weight the highest `u` decides.
fn highest(deck: &Deck, key: SessionKey, view: &impl View) -> Option<u32> {
    let best_of = |group: &Group| {
        let digests = deck.digests.get(group.start..)?.iter();
        let mut best = None;
        for (exit, digest) in deck.members_of(group).iter().zip(digests) {
            let number = mix(digest ^ mix(key.bits()));
            if best.is_none_or(|(highest, _)| number > highest) && view.usable(*exit) {
                best = Some((number, *exit));
            }
        }
        best.map(|(number, exit)| (unit(number).ln() / f64::from(group.weight), exit))
    };
    let candidates = deck.groups.iter().filter_map(best_of);
    candidates.reduce(|a, b| if b.0 > a.0 { b } else { a }).map(|(_, exit)| exit)
}

/// A number for an exit's name: the same on every node, for ever.
pub(super) fn digest(pool: &str, id: &str) -> u64 {
    let mut hash = blake3::Hasher::new();
    hash.update(&(pool.len() as u64).to_le_bytes()).update(pool.as_bytes()).update(id.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.finalize().as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Spreads 64 bits over 64 bits, one to one (the finalizer of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The middle of one of 2^52 equal parts of (0, 1).
fn unit(bits: u64) -> f64 {
    const PARTS: f64 = (1u64 << 52) as f64;
    ((bits >> 12) as f64 + 0.5) / PARTS
}
