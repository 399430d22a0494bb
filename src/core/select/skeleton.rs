//! Placement by consistent hashing, in a few steps however large the pool.
//!
//! Owns: [`Skeleton`]: the exits as a tree over the digests of their names, in
//! which a key goes down by weighted rendezvous hashing: 64 cells at the root,
//! so that small pools are spread out, and 16 at each level below.
//! Must not know: what a key is, what makes an exit unusable.
//!
//! At each level the cells with an exit below them are scored with the key:
//! `-ln(u) / weight`, `u` evenly spread over (0, 1) and made of nothing but
//! key and cell; the lowest is each with a probability proportional to the
//! weight below it, and so, at the end, an exit to its own. What a cell's
//! score is made of never changes but for its weight: an exit that comes makes
//! the cells above it a little more likely and nothing else, so few keys move.
//! Nodes agree, for all arithmetic is exact or IEEE basic operations.

use std::collections::VecDeque;

use super::View;

/// Digits of a digest are of so many bits at the root, and below it.
const ROOT_BITS: u32 = 6;
const BITS: u32 = 4;

/// So often a key whose exit is closed is hashed anew, so that its keys are
/// spread over all; then it takes the best branch that has an open exit.
const BLIND: u64 = 4;
const OPEN: u64 = 12;

/// The exits of a deck as a tree.
#[derive(Clone, Debug)]
pub(super) struct Skeleton {
    /// The cells of each node side by side; the root's first.
    cells: Vec<Cell>,
    /// How many of them are the root's.
    root: u32,
    /// Exits, ascending, and the cell of each.
    leaves: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    /// A number of its own: digest prefix and level.
    seed: u64,
    /// One through the weight of all exits below it.
    lightness: f64,
    /// The cell above; [`NONE`] for the root's.
    above: u32,
    below: Below,
}

#[derive(Clone, Copy, Debug)]
enum Below {
    Exit(u32),
    /// The first and how many.
    Cells(u32, u32),
}

const NONE: u32 = u32::MAX;

/// An exit on its way into the tree.
type Weighted = (u64, u32, u32);

impl Skeleton {
    /// From places, ascending, weights (0 counts as 1) and digests.
    pub(super) fn of(exits: impl Iterator<Item = (u32, u32, u64)>) -> Self {
        let mut exits: Vec<Weighted> =
            exits.map(|(place, weight, digest)| (digest, place, weight.max(1))).collect();
        exits.sort_unstable();
        let mut made = Self { cells: Vec::with_capacity(exits.len()), root: 0, leaves: Vec::new() };
        let mut nodes = VecDeque::from([(NONE, 0, &exits[..])]);
        while let Some((above, level, exits)) = nodes.pop_front() {
            let first = number(made.cells.len());
            for same in exits.chunk_by(|a, b| digit(a.0, level) == digit(b.0, level)) {
                let cell = number(made.cells.len());
                made.cells.push(Cell::of(same, above, level));
                // Names whose digests are one, if ever: the first stands for all.
                if same.len() > 1 && shift(level) > 0 {
                    nodes.push_back((cell, level + 1, same));
                } else {
                    made.leaves.extend(same.iter().map(|(_, place, _)| (*place, cell)));
                }
            }
            let count = number(made.cells.len()) - first;
            match made.cells.get_mut(above as usize) {
                Some(cell) => cell.below = Below::Cells(first, count),
                None => made.root = count,
            }
        }
        made.leaves.sort_unstable();
        made
    }

    /// The usable exit of a key: of the one that it falls to first, and if
    /// that is none, of others in an order that is the key's alone.
    pub(super) fn find(&self, key: u64, view: &impl View) -> Option<u32> {
        for attempt in 0..BLIND + OPEN {
            let key = mix(key.wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let found = match attempt < BLIND {
                true => self.descend(key, |_| true, |cell| view.is_cell_open(cell)),
                false => self.descend(key, |cell| view.is_cell_open(cell), |_| true),
            };
            match found {
                Some(exit) if view.usable(exit) => return Some(exit),
                Some(exit) => view.pass_over(exit),
                None if attempt < BLIND => {}
                None => return None,
            }
        }
        None
    }

    /// Down the best cells among those that `may` be taken, as long as each is
    /// one to `go` on from.
    fn descend(&self, key: u64, may: impl Fn(u32) -> bool, go: impl Fn(u32) -> bool) -> Option<u32> {
        let (mut first, mut count) = (0, self.root);
        loop {
            let best = self.best(key, first, count, &may).filter(|best| go(*best))?;
            match self.cells[best as usize].below {
                Below::Exit(place) => return Some(place),
                Below::Cells(at, cells) => (first, count) = (at, cells),
            }
        }
    }

    /// The cell with the lowest score of those that may be entered.
    fn best(&self, key: u64, first: u32, count: u32, may: &impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = None;
        let mut lowest = f64::INFINITY;
        let cells = self.cells.get(first as usize..)?.get(..count as usize)?;
        for (at, cell) in (first..).zip(cells) {
            let u = unit(mix(cell.seed ^ key));
            // -ln(u) is at least 1 - u, which is all that most cells need.
            if (1.0 - u) * cell.lightness < lowest && may(at) {
                let score = minus_ln(u) * cell.lightness;
                if score < lowest {
                    (best, lowest) = (Some(at), score);
                }
            }
        }
        best
    }

    /// How many exits lie below each cell.
    pub(super) fn exits_below(&self) -> Vec<u32> {
        let mut below = vec![0; self.cells.len()];
        for (_, leaf) in &self.leaves {
            self.line(*leaf).for_each(|cell| below[cell as usize] += 1);
        }
        below
    }

    /// The exit's cell and all above it.
    pub(super) fn above(&self, exit: u32) -> impl Iterator<Item = u32> {
        let leaf = self.leaves.binary_search_by_key(&exit, |(place, _)| *place).ok();
        leaf.into_iter().flat_map(|leaf| self.line(self.leaves[leaf].1))
    }

    fn line(&self, leaf: u32) -> impl Iterator<Item = u32> {
        let above = |cell: &u32| Some(self.cells[*cell as usize].above).filter(|above| *above != NONE);
        std::iter::successors(Some(leaf), above)
    }
}

impl Cell {
    fn of(exits: &[Weighted], above: u32, level: u32) -> Self {
        let prefix = exits[0].0 >> shift(level) << shift(level);
        let weight: u64 = exits.iter().map(|(_, _, weight)| u64::from(*weight)).sum();
        Self {
            seed: mix(prefix ^ u64::from(level)),
            lightness: 1.0 / weight as f64,
            above,
            below: Below::Exit(exits[0].1),
        }
    }
}

/// How many bits of a digest lie behind the digit of a level.
fn shift(level: u32) -> u32 {
    (u64::BITS - ROOT_BITS).saturating_sub(BITS * level)
}

/// What a digest has down to a level; equal neighbours share a cell.
fn digit(digest: u64, level: u32) -> u64 {
    digest >> shift(level)
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(NONE)
}

/// Spreads 64 bits over 64 bits, one to one (the finalizer of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The middle of one of 2^52 equal parts of (0, 1).
fn unit(bits: u64) -> f64 {
    const PART: f64 = 1.0 / (1u64 << 52) as f64;
    // Of a signed number the conversion is one instruction.
    ((bits >> 12).cast_signed() as f64 + 0.5) * PART
}

/// `-ln(u)` for u in (0, 1), to nine digits. Our own, for that of the system
/// need not be the same to the last bit on every node. With `u = m * 2^e`, m
/// near 1: `ln(m) = 2 artanh((m - 1) / (m + 1))`, by its series.
fn minus_ln(u: f64) -> f64 {
    const ONE: u64 = 1023 << 52;
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = u.to_bits();
    let (mut m, mut e) = (f64::from_bits(bits & MANTISSA | ONE), (bits >> 52) as f64 - 1023.0);
    if m > std::f64::consts::SQRT_2 {
        m /= 2.0;
        e += 1.0;
    }
    let z = (m - 1.0) / (m + 1.0);
    let zz = z * z;
    let series = 1.0 + zz * (1.0 / 3.0 + zz * (1.0 / 5.0 + zz * (1.0 / 7.0 + zz * (1.0 / 9.0))));
    -(2.0 * z * series + e * std::f64::consts::LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        for u in [1e-15, 1e-6, 0.1, 0.25, 0.499_999, 0.5, 0.7, 0.71, 0.9, 0.999_999, 1.0 - 1e-12] {
            let (ours, true_one) = (minus_ln(u), -f64::ln(u));
            assert!((ours - true_one).abs() <= true_one * 1e-8, "{u}: {ours}, not {true_one}");
        }
    }

    #[test]
    fn names_of_one_digest_are_no_trouble() {
        let made = Skeleton::of([(3, 1, 77), (4, 1, 77), (5, 2, 78)].into_iter());
        assert_eq!(made.exits_below().iter().filter(|count| **count == 3).count(), 15);
        assert!(made.descend(1, |_| true, |_| true).is_some());
        assert_eq!(made.above(4).count(), 16);
    }
}
