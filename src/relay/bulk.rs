//! Whether bytes go through memory or past it.
//!
//! Owns: [`Bulk`], what a direction's last moves say of its next.
//! Must not know: how either is done.
//!
//! Measured: of messages, a splice costs a fifth more than a read and a
//! write; of bulk, a quarter as much. So a direction is copied until a few
//! reads in a row were large, and spliced until a few moves were small.

use super::splice::Pipe;

/// A read that is large, in bytes: from here on, two splices cost less than a
/// read and a write.
pub(super) const LARGE: usize = 16 * 1024;

/// Large reads in a row, after which bytes are spliced.
const LARGE_READS: i8 = 2;

/// A splice that is small, in bytes.
const SMALL: usize = 4 * 1024;

/// Small splices in a row, after which bytes are copied.
const SMALL_MOVES: i8 = 4;

/// From this many bytes on that are known to come, they are spliced at once.
const FORESEEN: usize = 32 * 1024;

/// How many large reads it takes until a pipe is asked for again where there
/// was none.
const NO_PIPE: i8 = 64;

/// A direction's way of moving bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bulk {
    /// Through memory. So many reads in a row were large; less than 0: so
    /// many must be before one is counted.
    Copied(i8),
    /// Through a pipe. So many moves in a row were small.
    Spliced(i8),
    /// Through memory, and never otherwise.
    Never,
}

impl Bulk {
    /// Nothing has moved yet.
    pub(super) const START: Self = Self::Copied(0);

    /// Whether the next bytes are to be spliced, where so many are known to
    /// come.
    pub(super) fn is_on(&mut self, foreseen: usize) -> bool {
        if let Self::Copied(large) = *self
            && (large >= LARGE_READS || large >= 0 && foreseen >= FORESEEN)
        {
            *self = Self::Spliced(0);
        }
        matches!(self, Self::Spliced(_))
    }

    /// So many bytes were moved at once.
    pub(super) fn note(&mut self, bytes: usize) {
        *self = match *self {
            Self::Copied(large) if bytes >= LARGE => Self::Copied((large + 1).min(LARGE_READS)),
            Self::Copied(large) => Self::Copied(large.min(0)),
            Self::Spliced(_) if bytes >= SMALL => Self::Spliced(0),
            Self::Spliced(small) if small + 1 < SMALL_MOVES => Self::Spliced(small + 1),
            Self::Spliced(_) => Self::Copied(-1),
            Self::Never => Self::Never,
        };
    }

    /// A pipe to splice through. Without one, bytes are copied for a while.
    pub(super) fn pipe(&mut self) -> Option<Pipe> {
        let pipe = Pipe::lend();
        if pipe.is_none() {
            *self = Self::Copied(-NO_PIPE);
        }
        pipe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a direction stands after these moves.
    fn after(moves: &[usize]) -> bool {
        let mut bulk = Bulk::START;
        for bytes in moves {
            bulk.is_on(0);
            bulk.note(*bytes);
        }
        bulk.is_on(0)
    }

    #[test]
    fn large_reads_in_a_row_turn_it_on_and_small_moves_off() {
        const BIG: usize = 1 << 16;
        for (moves, on) in [
            (&[][..], false),
            (&[100, 100, 100], false),
            (&[BIG], false),
            (&[BIG, 100, BIG], false),
            (&[LARGE, LARGE], true),
            (&[BIG, BIG, 1, 1, 1], true),
            (&[BIG, BIG, 1, 1, 1, SMALL, 1, 1, 1], true),
            (&[BIG, BIG, 1, 1, 1, 1], false),
            (&[BIG, BIG, 1, 1, 1, 1, BIG, BIG], false),
            (&[BIG, BIG, 1, 1, 1, 1, BIG, BIG, BIG], true),
        ] {
            assert_eq!(after(moves), on, "{moves:?}");
        }
    }

    #[test]
    fn what_is_foreseen_turns_it_on_until_it_comes_in_small_pieces() {
        let mut bulk = Bulk::START;
        assert!(!bulk.is_on(FORESEEN - 1) && bulk.is_on(FORESEEN));
        for _ in 0..SMALL_MOVES {
            bulk.note(1000);
        }
        assert!(!bulk.is_on(1 << 30));
        bulk.note(1000);
        assert!(!bulk.is_on(1 << 30));
        bulk.note(LARGE);
        assert!(bulk.is_on(1 << 30));
    }
}
