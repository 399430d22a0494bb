//! Which of several profiles a credential is written in.
//!
//! Owns: [`choose`] and its order.
//! Must not know: whether the secret is right.

use super::Profile;
use super::cut::Cut;

/// Of the ways to take a credential apart, best first, which one is meant:
///
/// 1. the first whose grammar reads parameters in it,
/// 2. else the first whose grammar finds nothing but name and secret,
/// 3. else the one that reads on the furthest before its first fault.
///
/// One alone is not read at all: whether its secret is right comes first.
pub fn choose<'w, 'c: 'w>(ways: impl ExactSizeIterator<Item = (&'w Profile, &'w Cut<'c>)>) -> Option<usize> {
    if ways.len() < 2 {
        return ways.len().checked_sub(1);
    }
    let rank = |(profile, cut): (&Profile, &Cut<'_>)| match profile.read(&cut.tail) {
        Ok(_) if !cut.tail.is_empty() => (0, 0),
        Ok(_) => (1, 0),
        Err(error) => (2, usize::MAX - cut.place(error.at)),
    };
    let ranks = ways.map(rank).enumerate();
    ranks.min_by_key(|(_, rank)| *rank).map(|(at, _)| at)
}
