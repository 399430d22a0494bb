//! Each distinct value once, named by a small number.
//!
//! Owns: [`Interner`]. A value lives as long as somebody counts on it.
//! Must not know: what the values mean.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by number and numbers by value.
#[derive(Debug)]
pub(super) struct Interner<T> {
    seats: Vec<Option<Seat<T>>>,
    index: HashMap<T, u32>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Seat<T> {
    value: T,
    users: u32,
}

impl<T: Clone + Eq + Hash> Interner<T> {
    pub(super) fn new() -> Self {
        Self { seats: Vec::new(), index: HashMap::new(), free: Vec::new() }
    }

    /// The value's number; it is counted once more.
    pub(super) fn take(&mut self, value: &T) -> u32 {
        if let Some(&id) = self.index.get(value) {
            if let Some(Some(seat)) = self.seats.get_mut(id as usize) {
                seat.users += 1;
            }
            return id;
        }
        let seat = Some(Seat { value: value.clone(), users: 1 });
        let id = match self.free.pop() {
            Some(id) => {
                self.seats[id as usize] = seat;
                id
            }
            None => {
                self.seats.push(seat);
                // A shard that held 2^32 users, exits or filters would have
                // run out of memory long before.
                u32::try_from(self.seats.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.index.insert(value.clone(), id);
        id
    }

    /// The value with this number.
    #[expect(clippy::expect_used, reason = "invariant: a number is given back only by who took it")]
    pub(super) fn value(&self, id: u32) -> &T {
        &self.seats[id as usize].as_ref().expect("a number in use").value
    }

    /// Counts the value once less; the last one frees it.
    pub(super) fn give(&mut self, id: u32) {
        let seat = &mut self.seats[id as usize];
        let Some(Seat { value, users }) = seat else { return };
        *users -= 1;
        if *users == 0 {
            self.index.remove(value);
            *seat = None;
            self.free.push(id);
        }
    }

    /// How often all values together are counted on.
    pub(super) fn users(&self) -> usize {
        self.seats.iter().flatten().map(|seat| seat.users as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_number_until_its_last_user_is_gone() {
        let mut names = Interner::new();
        let (a, b) = (names.take(&"a"), names.take(&"b"));
        assert_eq!(names.take(&"a"), a);
        assert_ne!(a, b);
        names.give(a);
        assert_eq!(*names.value(a), "a");
        names.give(a);
        assert_eq!(names.take(&"c"), a, "a free number is used again");
        assert_eq!(*names.value(a), "c");
        assert_eq!(names.users(), 2);
    }
}
