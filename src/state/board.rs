//! Which exits of a deck are open, to be read and changed without a lock.
//!
//! Owns: [`Board`]: a bit for each member of each group of a deck, counted
//! over blocks, and a count for each cell of its skeleton.
//! Must not know: why an exit is closed.
//!
//! Bits are changed first, counts behind them, so a count may be off for an
//! instant: who follows it finds nothing, or one exit less than there is. No
//! choice rests on it, for each exit is looked at before it is taken.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicI32, AtomicU64};

use crate::core::select::Deck;

/// A count is kept for so many words, and for so many counts, and so on.
const FANOUT: usize = 16;
const WORD: u32 = u64::BITS;

/// Of one deck.
pub(super) struct Board {
    groups: Box<[Bits]>,
    /// Open exits below each cell of the skeleton.
    cells: Box<[AtomicI32]>,
}

impl Board {
    /// All are open.
    pub(super) fn new(deck: &Deck) -> Self {
        let count = |exits: u32| AtomicI32::new(i32::try_from(exits).unwrap_or(i32::MAX));
        Self {
            groups: deck.groups().map(Bits::full).collect(),
            cells: deck.cells().into_iter().map(count).collect(),
        }
    }

    /// The exit is open, or it is not.
    pub(super) fn set(&self, deck: &Deck, exit: u32, open: bool) {
        let mut changed = false;
        for (group, index) in deck.indices_of(exit) {
            changed |= self.groups.get(group).is_some_and(|bits| bits.set(index, open));
        }
        if changed {
            for cell in deck.cells_of(exit) {
                self.cells[cell as usize].fetch_add(step(open), AcqRel);
            }
        }
    }

    /// Whether a member of a group is open.
    pub(super) fn is_open(&self, group: usize, index: u32) -> bool {
        self.groups.get(group).is_some_and(|bits| bits.has(index))
    }

    /// How many members of a group are open.
    pub(super) fn open(&self, group: usize) -> u32 {
        self.groups.get(group).map_or(0, Bits::count)
    }

    /// The first open member of a group from an index on.
    pub(super) fn next(&self, group: usize, from: u32) -> Option<u32> {
        self.groups.get(group)?.next(from)
    }

    /// The open member of a group with so many before it.
    pub(super) fn nth(&self, group: usize, n: u32) -> Option<u32> {
        self.groups.get(group)?.nth(n)
    }

    /// Whether any exit below the cell is open.
    pub(super) fn is_cell_open(&self, cell: u32) -> bool {
        self.cells.get(cell as usize).is_some_and(|open| open.load(Acquire) > 0)
    }
}

fn step(open: bool) -> i32 {
    if open { 1 } else { -1 }
}

/// A set of numbers below a bound.
struct Bits {
    words: Box<[AtomicU64]>,
    /// Of 16 words each, of 16 such counts each, and so on; the last level
    /// has at most 16.
    counts: Vec<Box<[AtomicI32]>>,
    total: AtomicI32,
}

impl Bits {
    /// All below the bound.
    fn full(bound: usize) -> Self {
        let words = bound.div_ceil(WORD as usize);
        let word = |at: usize| match bound - at * WORD as usize {
            rest if rest >= WORD as usize => u64::MAX,
            rest => (1 << rest) - 1,
        };
        let mut counts: Vec<Box<[AtomicI32]>> = Vec::new();
        let mut block = WORD as usize * FANOUT;
        let mut blocks = words.div_ceil(FANOUT);
        while blocks > 1 {
            let count = |at: usize| int((bound - at * block).min(block)).into();
            counts.push((0..blocks).map(count).collect());
            block *= FANOUT;
            blocks = blocks.div_ceil(FANOUT);
        }
        Self {
            words: (0..words).map(|at| AtomicU64::new(word(at))).collect(),
            counts,
            total: int(bound).into(),
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.total.load(Acquire)).unwrap_or(0)
    }

    fn has(&self, number: u32) -> bool {
        let word = self.words.get((number / WORD) as usize);
        word.is_some_and(|word| word.load(Acquire) >> (number % WORD) & 1 == 1)
    }

    /// Whether that changed anything.
    fn set(&self, number: u32, is_in: bool) -> bool {
        let Some(word) = self.words.get((number / WORD) as usize) else { return false };
        let bit = 1 << (number % WORD);
        let before = if is_in { word.fetch_or(bit, AcqRel) } else { word.fetch_and(!bit, AcqRel) };
        if (before & bit != 0) == is_in {
            return false;
        }
        let mut at = (number / WORD) as usize;
        for counts in &self.counts {
            at /= FANOUT;
            counts[at].fetch_add(step(is_in), AcqRel);
        }
        self.total.fetch_add(step(is_in), AcqRel);
        true
    }

    /// The first one that is in, from a number on.
    fn next(&self, from: u32) -> Option<u32> {
        let mut at = (from / WORD) as usize;
        let word = self.words.get(at)?.load(Acquire) & (u64::MAX << (from % WORD));
        if word != 0 {
            return number(at, word.trailing_zeros());
        }
        at += 1;
        // Up as long as no neighbour has any; down into the first that has.
        let mut level = 0;
        loop {
            match (at..self.end(level, at)).find(|at| self.has_any(level, *at)) {
                Some(found) if level == 0 => {
                    let word = self.words[found].load(Acquire);
                    if word != 0 {
                        return number(found, word.trailing_zeros());
                    }
                    at = found + 1;
                }
                Some(found) => (level, at) = (level - 1, found * FANOUT),
                None if level == self.counts.len() => return None,
                None => {
                    at = self.end(level, at).div_ceil(FANOUT);
                    level += 1;
                }
            }
        }
    }

    /// The one that is in with so many before it.
    fn nth(&self, n: u32) -> Option<u32> {
        let mut left = int(n as usize);
        let (mut level, mut at) = (self.counts.len(), 0);
        loop {
            let mut inside = at..self.end(level, at);
            let found = inside.find(|at| {
                let count = self.count_at(level, *at);
                let is_here = left < count;
                left -= if is_here { 0 } else { count };
                is_here
            });
            match found {
                // A count was off just now.
                None => return self.next(0),
                Some(found) if level == 0 => {
                    let mut word = self.words[found].load(Acquire);
                    (0..left).for_each(|_| word &= word.wrapping_sub(1));
                    return if word == 0 { self.next(0) } else { number(found, word.trailing_zeros()) };
                }
                Some(found) => (level, at) = (level - 1, found * FANOUT),
            }
        }
    }

    /// Where the block of the level that `at` is in ends; level 0 is words.
    fn end(&self, level: usize, at: usize) -> usize {
        let len = match level.checked_sub(1) {
            None => self.words.len(),
            Some(counts) => self.counts[counts].len(),
        };
        if level == self.counts.len() { len } else { ((at / FANOUT + 1) * FANOUT).min(len) }
    }

    fn has_any(&self, level: usize, at: usize) -> bool {
        self.count_at(level, at) > 0
    }

    fn count_at(&self, level: usize, at: usize) -> i32 {
        match level.checked_sub(1) {
            None => int(self.words[at].load(Acquire).count_ones() as usize),
            Some(counts) => self.counts[counts][at].load(Relaxed).max(0),
        }
    }
}

fn number(word: usize, bit: u32) -> Option<u32> {
    Some(u32::try_from(word).ok()? * WORD + bit)
}

fn int(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_a_set(
            bound in prop_oneof![1usize..70, 1000usize..1100, 16_000usize..20_000],
            changes in prop::collection::vec((any::<u32>(), prop::bool::weighted(0.2)), 0..200),
            emptied: bool,
        ) {
            let bits = Bits::full(bound);
            let mut set: BTreeSet<_> = (0..bound as u32).collect();
            if emptied {
                (0..bound as u32).for_each(|n| { bits.set(n, false); });
                set.clear();
            }
            for (n, is_in) in changes {
                let n = n % bound as u32;
                let changed = if is_in { set.insert(n) } else { set.remove(&n) };
                prop_assert_eq!(bits.set(n, is_in), changed);
                prop_assert_eq!(bits.has(n), is_in);
                prop_assert_eq!(bits.count() as usize, set.len());
                let (from, at) = (n.saturating_sub(100), n as usize % (set.len() + 1));
                prop_assert_eq!(bits.next(from), set.range(from..).next().copied());
                prop_assert_eq!(bits.next(n + 1), set.range(n + 1..).next().copied());
                if let Some(expected) = set.iter().nth(at) {
                    prop_assert_eq!(bits.nth(at as u32), Some(*expected));
                }
            }
        }
    }

    #[test]
    fn an_empty_set_has_nothing() {
        let bits = Bits::full(0);
        assert_eq!((bits.count(), bits.next(0), bits.nth(0)), (0, None, None));
        assert!(!bits.set(3, true));
    }
}
