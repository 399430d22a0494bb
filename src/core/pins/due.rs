//! Which slot is due first.
//!
//! Owns: [`Due`], a binary heap that knows where each slot stands in it, so
//! that a slot can leave it early and it never holds more than is alive.
//! Must not know: what a slot holds.

use super::slot::Slots;
use crate::core::time::Timestamp;

/// The heap. Two columns rather than one of pairs: 12 bytes for each entry
/// instead of 16.
#[derive(Debug, Default)]
pub(super) struct Due {
    when: Vec<Timestamp>,
    who: Vec<u32>,
}

impl Due {
    pub(super) fn len(&self) -> usize {
        self.who.len()
    }

    /// What is due first, and when.
    pub(super) fn first(&self) -> Option<(Timestamp, u32)> {
        Some((*self.when.first()?, *self.who.first()?))
    }

    /// What stands at a place, and when it is due.
    pub(super) fn at(&self, place: usize) -> (Timestamp, u32) {
        (self.when[place], self.who[place])
    }

    /// Takes a slot in.
    pub(super) fn push(&mut self, when: Timestamp, who: u32, slots: &mut Slots) {
        self.when.push(when);
        self.who.push(who);
        self.rise(self.len() - 1, slots);
    }

    /// Takes out what stands at `place`.
    pub(super) fn remove(&mut self, place: usize, slots: &mut Slots) {
        self.when.swap_remove(place);
        self.who.swap_remove(place);
        if place < self.len() {
            let place = self.rise(place, slots);
            self.sink(place, slots);
        }
        if self.len() < self.who.capacity() / 4 {
            self.when.shrink_to(self.len() * 2);
            self.who.shrink_to(self.len() * 2);
        }
    }

    /// What stands at `place` is due at another time now.
    pub(super) fn change(&mut self, place: usize, when: Timestamp, slots: &mut Slots) {
        self.when[place] = when;
        let place = self.rise(place, slots);
        self.sink(place, slots);
    }

    /// The slot at `place` has another number now.
    pub(super) fn rename(&mut self, place: usize, who: u32) {
        self.who[place] = who;
    }

    fn rise(&mut self, mut place: usize, slots: &mut Slots) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.when[parent] <= self.when[place] {
                break;
            }
            self.swap(parent, place, slots);
            place = parent;
        }
        self.settle(place, slots);
        place
    }

    fn sink(&mut self, mut place: usize, slots: &mut Slots) {
        loop {
            let left = 2 * place + 1;
            if left >= self.len() {
                break;
            }
            let right = left + 1;
            let child = if right < self.len() && self.when[right] < self.when[left] { right } else { left };
            if self.when[place] <= self.when[child] {
                break;
            }
            self.swap(place, child, slots);
            place = child;
        }
        self.settle(place, slots);
    }

    fn swap(&mut self, a: usize, b: usize, slots: &mut Slots) {
        self.when.swap(a, b);
        self.who.swap(a, b);
        self.settle(a, slots);
        self.settle(b, slots);
    }

    /// Tells a slot where it stands.
    fn settle(&self, place: usize, slots: &mut Slots) {
        slots[self.who[place]].place = place as u32;
    }
}
