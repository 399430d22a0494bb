//! What was found out about byte strings of late.
//!
//! Owns: [`Recent`], a small table from bytes to an answer, for one thread.
//! Must not know: what the bytes are, what the answers mean.
//!
//! It spares a credential's second proof: clients send the same one with each
//! request. The bytes are compared in constant time and wiped when they are
//! forgotten.

use subtle::ConstantTimeEq;
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zeroize::Zeroizing;

/// So many are remembered; a later one takes the place of an earlier one that
/// falls to the same.
const PLACES: usize = 512;

/// Longer byte strings are not remembered: a place stays small.
const MOST_BYTES: usize = 1024;

/// Answers to byte strings, each as it was in one epoch.
pub(super) struct Recent<T> {
    places: Box<[Option<Known<T>>]>,
    /// Drawn, so that nobody can choose bytes that fall to one place.
    seed: u64,
}

struct Known<T> {
    epoch: u64,
    bytes: Zeroizing<Box<[u8]>>,
    answer: T,
}

impl<T: Clone> Recent<T> {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| None).collect(), seed: rand::random() }
    }

    /// The answer to these bytes, if it is remembered and of this epoch.
    pub(super) fn recall(&self, epoch: u64, bytes: &[u8]) -> Option<T> {
        let known = self.places[self.place(bytes)].as_ref()?;
        (known.epoch == epoch && bool::from(known.bytes.ct_eq(bytes))).then(|| known.answer.clone())
    }

    /// Remembers it.
    pub(super) fn remember(&mut self, epoch: u64, bytes: &[u8], answer: T) {
        if bytes.len() <= MOST_BYTES {
            let known = Known { epoch, bytes: Zeroizing::new(bytes.into()), answer };
            self.places[self.place(bytes)] = Some(known);
        }
    }

    fn place(&self, bytes: &[u8]) -> usize {
        xxh3_64_with_seed(bytes, self.seed) as usize % PLACES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_recalled_in_its_epoch_alone() {
        let mut recent = Recent::new();
        assert_eq!(recent.recall(1, b"a"), None);
        recent.remember(1, b"a", 7);
        assert_eq!(
            (recent.recall(1, b"a"), recent.recall(2, b"a"), recent.recall(1, b"b")),
            (Some(7), None, None)
        );
        recent.remember(2, b"a", 8);
        assert_eq!((recent.recall(1, b"a"), recent.recall(2, b"a")), (None, Some(8)));
    }

    #[test]
    fn it_is_bounded() {
        let mut recent = Recent::new();
        for n in 0..10 * PLACES {
            recent.remember(1, &n.to_le_bytes(), n);
        }
        assert_eq!(recent.places.len(), PLACES);
        assert_eq!(recent.recall(1, &(10 * PLACES - 1).to_le_bytes()), Some(10 * PLACES - 1));
        let long = [0; MOST_BYTES + 1];
        recent.remember(1, &long, 7);
        assert_eq!(recent.recall(1, &long), None);
    }
}
