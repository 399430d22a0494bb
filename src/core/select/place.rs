//! The exit for a new pin.
//!
//! Owns: the three placements.
//! Must not know: what a pin is beyond its key, what makes an exit unusable.

use rand::{Rng, RngExt};

use super::{Deck, View, lighter};
use crate::core::pool::Placement;
use crate::core::session::SessionKey;

/// So many draws that all met exits that still grow, and one of those is
/// taken.
const GROWING_DRAWS: usize = 64;

/// Chooses and takes an exit. `None`: no exit of the deck can be taken.
pub fn place<V: View, R: Rng>(
    deck: &Deck,
    how: Placement,
    key: SessionKey,
    view: &V,
    rng: &mut R,
) -> Option<V::Taken> {
    match how {
        Placement::LeastSessions => deck.settle(view, rng, |rng| fewer_sessions(deck, view, rng)),
        Placement::Random => deck.settle(view, rng, |rng| deck.draw_usable(view, rng)),
        Placement::Rendezvous => deck.settle(view, rng, |_| deck.skeleton.as_ref()?.find(key.bits(), view)),
    }
}

/// Of two exits drawn by weight, the one with fewer pins for its weight. That
/// keeps the load even at two looks a choice, where always taking the least
/// loaded of all would send every new pin to the newest exit.
fn fewer_sessions(deck: &Deck, view: &impl View, rng: &mut impl Rng) -> Option<u32> {
    let first = draw_ramped(deck, view, rng)?;
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
    for _ in 0..GROWING_DRAWS {
        let exit = deck.draw_usable(view, rng)?;
        let ramp = view.ramp(exit);
        if ramp >= 1.0 || rng.random::<f64>() < ramp {
            return Some(exit);
        }
        growing = Some(exit);
    }
    growing
}

/// A number for an exit's name: the same on every node, for ever.
pub(super) fn digest(pool: &str, id: &str) -> u64 {
    let mut hash = blake3::Hasher::new();
    hash.update(&(pool.len() as u64).to_le_bytes()).update(pool.as_bytes()).update(id.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.finalize().as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
