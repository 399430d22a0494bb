//! Which of several profiles a credential is written in.
//!
//! Owns: [`choose`] and its order.
//! Must not know: whether the secret is right.

use std::sync::Arc;

use super::Profile;
use super::cut::Cut;

/// A credential as a profile takes it apart.
#[derive(Clone, Debug)]
pub struct Choice<'p, 'c> {
    /// The profile.
    pub profile: &'p Arc<Profile>,
    /// The parts.
    pub cut: Cut<'c>,
}

/// Of the ways to take a credential apart, best first, the one that is meant:
///
/// 1. the first whose grammar reads parameters in it,
/// 2. else the first whose grammar finds nothing but name and secret,
/// 3. else the one that reads on the furthest before its first fault.
///
/// One alone is not read at all: whether its secret is right comes first.
pub fn choose<'p, 'c>(ways: Vec<Choice<'p, 'c>>) -> Option<Choice<'p, 'c>> {
    let mut ways = ways;
    if ways.len() < 2 {
        return ways.pop();
    }
    let rank = |way: &Choice<'_, '_>| match way.profile.read(&way.cut.tail) {
        Ok(_) if !way.cut.tail.is_empty() => (0, 0),
        Ok(_) => (1, 0),
        Err(error) => (2, usize::MAX - way.cut.place(error.at)),
    };
    ways.into_iter().min_by_key(rank)
}
