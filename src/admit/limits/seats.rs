//! A user's live sessions.
//!
//! Owns: their exact number, pins and claims under way together, and when
//! the next one ends.
//! Must not know: where pins are kept.
//!
//! A claim takes a seat first, under its session's key: first requests of
//! one session that arrive together take one. Who wins commits it, and from
//! then on the pin's end, which the store tells, gives it back.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::pin::Pin;
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

/// Expiries are counted in stretches of so many ms: many pins share one.
const STRETCH_MS: u64 = 100;

/// A pin that is so long over, in stretches, is no more waited for.
const STALE: u64 = 10_000 / STRETCH_MS;

/// The seats of one user.
#[derive(Default)]
pub(crate) struct Seats(Mutex<Book>);

#[derive(Default)]
struct Book {
    /// Pins, and keys in `coming` that hold a seat of their own.
    taken: u32,
    /// Claims under way.
    coming: HashMap<SessionKey, Coming>,
    /// How many pins expire in a stretch of time (since the epoch).
    expiries: BTreeMap<u64, u32>,
    /// How many pins end after so much idleness (s).
    idles: BTreeMap<u32, u32>,
}

#[derive(Default)]
struct Coming {
    claims: u32,
    /// Its seat became a pin's.
    spent: bool,
}

/// A seat for a pin that is about to be made. Dropped, it is given back: the
/// claim was lost.
#[must_use]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    key: SessionKey,
}

/// No seat is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// How long until a session is known to end; zero: one has, and waits to
    /// be swept.
    pub(crate) wait: Duration,
}

impl Seats {
    /// How many there are: pins and claims under way.
    pub(crate) fn taken(&self) -> u32 {
        self.book().taken
    }

    /// Takes a seat for a claim of this key, of at most so many.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn take(
        self: &Arc<Self>,
        key: SessionKey,
        most: Option<NonZeroU32>,
        now: Timestamp,
    ) -> Result<Seat, Full> {
        let mut book = self.book();
        book.check(key, most, now)?;
        let book = &mut *book;
        let coming = book.coming.entry(key).or_default();
        coming.claims += 1;
        if coming.claims == 1 {
            book.taken += 1;
        }
        Ok(Seat { seats: self.clone(), key })
    }

    /// Whether [`Seats::take`] would succeed.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn check(
        &self,
        key: SessionKey,
        most: Option<NonZeroU32>,
        now: Timestamp,
    ) -> Result<(), Full> {
        self.book().check(key, most, now)
    }

    /// A pin of the user lives, from before a restart, or again.
    pub(crate) fn loaded(&self, pin: &Pin) {
        let mut book = self.book();
        book.taken += 1;
        book.note(pin);
    }

    /// A pin of the user lives longer.
    pub(crate) fn extended(&self, before: &Pin, now: &Pin) {
        let mut book = self.book();
        take_one(&mut book.expiries, expiry(before));
        *book.expiries.entry(expiry(now)).or_default() += 1;
    }

    /// A pin of the user has ended, or never came to be.
    pub(crate) fn ended(&self, pin: &Pin) {
        let mut book = self.book();
        // Nothing to give back would be a fault elsewhere; it must not wrap.
        book.taken = book.taken.saturating_sub(1);
        take_one(&mut book.expiries, expiry(pin));
        if let Some(idle) = pin.idle {
            take_one(&mut book.idles, idle.as_secs());
        }
        if book.taken == 0 {
            (book.expiries, book.idles) = Default::default();
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn check(&mut self, key: SessionKey, most: Option<NonZeroU32>, now: Timestamp) -> Result<(), Full> {
        match most {
            Some(most) if self.taken >= most.get() && !self.coming.contains_key(&key) => {
                Err(Full { wait: self.wait(now) })
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, pin: &Pin) {
        *self.expiries.entry(expiry(pin)).or_default() += 1;
        if let Some(idle) = pin.idle {
            *self.idles.entry(idle.as_secs()).or_default() += 1;
        }
    }

    /// Until the first pin expires; or, how long pins have been idle being
    /// the store's to know, until an idle one may end.
    fn wait(&mut self, now: Timestamp) -> Duration {
        // The end of a pin may have come before its commit.
        self.expiries = self.expiries.split_off(&(now.as_ms() / STRETCH_MS).saturating_sub(STALE));
        let expiry =
            self.expiries.keys().next().map(|s| Timestamp::from_ms(s.saturating_mul(STRETCH_MS)).since(now));
        let idle = self.idles.keys().next().map(|s| Duration::from_secs(u64::from(*s)));
        expiry.into_iter().chain(idle).min().unwrap_or(Duration::from_secs(1))
    }
}

impl Seat {
    /// The store has taken the pin. To be called without an await since it
    /// said so.
    pub(crate) fn commit(self, pin: &Pin) {
        let mut book = self.seats.book();
        book.note(pin);
        let book = &mut *book;
        if let Some(coming) = book.coming.get_mut(&self.key) {
            // A key that was claimed twice meanwhile had a pin that ended.
            if std::mem::replace(&mut coming.spent, true) {
                book.taken += 1;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut book = self.seats.book();
        let book = &mut *book;
        let Some(coming) = book.coming.get_mut(&self.key) else { return };
        coming.claims -= 1;
        if coming.claims == 0 {
            if !coming.spent {
                book.taken = book.taken.saturating_sub(1);
            }
            book.coming.remove(&self.key);
            if book.coming.is_empty() {
                book.coming.shrink_to_fit();
            }
        }
    }
}

/// The stretch of time in which it is over.
fn expiry(pin: &Pin) -> u64 {
    pin.expires.as_ms() / STRETCH_MS
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let std::collections::btree_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests;
