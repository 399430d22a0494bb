//! Room for pins on an exit.
//!
//! Owns: how many pins an exit holds, which room rests after a pin ended
//! (`reuse_after`), when room frees again; [`Room`], reserved for a pin that
//! is about to be made.
//! Must not know: health, choices, the store.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;

use super::exits::{ExitState, locked};
use crate::core::pin::{Pin, Variant};
use crate::core::time::Timestamp;

/// The limit of an exit that no pool has told yet: pins that the disk gave
/// back before their pool came are reckoned with as if it had one.
const UNKNOWN: u32 = u32::MAX;

/// No such instant, in ms.
const NEVER: u64 = u64::MAX;

/// A pin that is so long over, in ms, is no more waited for: its end came
/// before its commit.
const STALE: u64 = 10_000;

/// The pins of one exit.
pub(super) struct Sessions {
    /// Pins, promised ones among them, in the low half; resting room in the
    /// high one: one number, so that a limit on both holds at any instant.
    load: AtomicU64,
    /// The most of both together; 0: no limit.
    limit: AtomicU32,
    /// Room that other gateways on a shared store take, as last counted.
    elsewhere: AtomicU32,
    /// The earliest end of a rest, in ms, or [`NEVER`].
    next_rest: AtomicU64,
    /// When the first of its pins leaves room by its expiry, in ms, or
    /// [`NEVER`].
    next_end: AtomicU64,
    /// The shortest idle time of its pins with their rest, in s, or 0.
    idle_s: AtomicU32,
    ends: Mutex<Ends>,
}

/// Kept only where there is a limit: what it takes to say when room frees.
#[derive(Default)]
struct Ends {
    /// How many pins free their room at an instant (expiry and rest, ms).
    expiries: BTreeMap<u64, u32>,
    /// How many pins free it after so much idleness (and rest, s).
    idles: BTreeMap<u32, u32>,
    /// How many rests end at an instant (ms).
    rests: BTreeMap<u64, u32>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            load: AtomicU64::new(0),
            limit: AtomicU32::new(UNKNOWN),
            elsewhere: AtomicU32::new(0),
            next_rest: AtomicU64::new(NEVER),
            next_end: AtomicU64::new(NEVER),
            idle_s: AtomicU32::new(0),
            ends: Mutex::default(),
        }
    }
}

const PIN: u64 = 1;
const REST: u64 = 1 << 32;

fn pins_of(load: u64) -> u32 {
    u32::try_from(load & (REST - 1)).unwrap_or(u32::MAX)
}

fn rests_of(load: u64) -> u32 {
    u32::try_from(load >> 32).unwrap_or(u32::MAX)
}

impl Sessions {
    /// Pins, promised ones and those of other gateways among them.
    pub(super) fn pins(&self) -> u32 {
        pins_of(self.load.load(Relaxed)).saturating_add(self.elsewhere.load(Relaxed))
    }

    /// So much room is taken on all gateways together. Whether that is less
    /// than it was.
    fn counted(&self, total: u32) -> bool {
        let elsewhere = total.saturating_sub(self.taken_here());
        self.elsewhere.swap(elsewhere, Relaxed) > elsewhere
    }

    /// Whether there is any pin, or any rest that lasts.
    pub(super) fn are_any(&self, now: Timestamp) -> bool {
        if self.next_rest.load(Acquire) <= now.as_ms() {
            self.wake(now);
        }
        self.taken_here() > 0
    }

    fn taken(&self) -> u32 {
        self.taken_here().saturating_add(self.elsewhere.load(Relaxed))
    }

    fn taken_here(&self) -> u32 {
        let load = self.load.load(Relaxed);
        pins_of(load).saturating_add(rests_of(load))
    }

    /// From now on this limit holds, for pins to come. Without one, nothing
    /// rests.
    pub(super) fn limit(&self, max_sessions: u32) {
        self.limit.store(max_sessions, Relaxed);
        if max_sessions == 0 {
            let mut ends = locked(&self.ends);
            *ends = Ends::default();
            self.load.fetch_and(REST - 1, AcqRel);
            self.publish(&ends);
        }
    }

    /// Whether [`Sessions::reserve`] is likely to succeed.
    pub(super) fn has_room(&self, now: Timestamp) -> bool {
        let limit = self.limit.load(Relaxed);
        limit == 0 || self.taken() < limit || self.next_rest.load(Acquire) <= now.as_ms()
    }

    /// Takes room for one pin; whether there was some.
    pub(super) fn reserve(&self, now: Timestamp) -> bool {
        let stale = now.as_ms().saturating_sub(STALE);
        if self.next_rest.load(Acquire) <= now.as_ms() || self.next_end.load(Relaxed) < stale {
            self.wake(now);
        }
        let (limit, elsewhere) = (self.limit.load(Relaxed), self.elsewhere.load(Relaxed));
        let fits = |load: u64| {
            let taken = pins_of(load).saturating_add(rests_of(load)).saturating_add(elsewhere);
            (limit == 0 || taken < limit).then(|| load + PIN)
        };
        self.load.fetch_update(AcqRel, Acquire, fits).is_ok()
    }

    /// Takes room for one pin whatever the limit says: the pin is there
    /// already, or the one that it replaces is about to leave.
    pub(super) fn add(&self) {
        self.load.fetch_add(PIN, AcqRel);
    }

    /// Gives reserved room back.
    fn give_back(&self) {
        let less = |load: u64| (pins_of(load) > 0).then(|| load - PIN);
        // Nothing to give back would be a fault elsewhere; it must not wrap.
        let _ = self.load.fetch_update(AcqRel, Acquire, less);
    }

    /// Remembers when a pin will leave.
    pub(super) fn note(&self, pin: &Pin) {
        if self.limit.load(Relaxed) > 0 {
            let mut ends = locked(&self.ends);
            *ends.expiries.entry(expiry_ms(pin)).or_default() += 1;
            if let Some(idle_s) = idle_s(pin) {
                *ends.idles.entry(idle_s).or_default() += 1;
            }
            self.publish(&ends);
        }
    }

    /// A pin leaves at another time than was noted.
    pub(super) fn extended(&self, before: &Pin, now: &Pin) {
        if self.limit.load(Relaxed) > 0 {
            let mut ends = locked(&self.ends);
            take_one(&mut ends.expiries, expiry_ms(before));
            *ends.expiries.entry(expiry_ms(now)).or_default() += 1;
            self.publish(&ends);
        }
    }

    /// A pin has left. Where it ended and there is a limit, its room rests.
    fn left(&self, pin: &Pin, ended: Option<Timestamp>) {
        if self.limit.load(Relaxed) > 0 {
            let mut ends = locked(&self.ends);
            take_one(&mut ends.expiries, expiry_ms(pin));
            if let Some(idle_s) = idle_s(pin) {
                take_one(&mut ends.idles, idle_s);
            }
            self.publish(&ends);
            if let Some(ended) = ended.filter(|_| pin.rest_s > 0) {
                self.rest(&mut ends, ended.plus(Duration::from_secs(u64::from(pin.rest_s))));
            }
        }
        self.give_back();
    }

    /// Room rests until an instant, as it did before a restart.
    pub(super) fn rested(&self, until: Timestamp) {
        if self.limit.load(Relaxed) > 0 {
            self.rest(&mut locked(&self.ends), until);
        }
    }

    /// When the first of the rests ends, if there is one.
    pub(super) fn rests_until(&self) -> Option<Timestamp> {
        let until = self.next_rest.load(Acquire);
        (until != NEVER).then(|| Timestamp::from_ms(until))
    }

    /// Whether room that frees lets another pin in.
    fn is_limited(&self) -> bool {
        self.limit.load(Relaxed) > 0
    }

    /// When there may be room again, if a pin or a rest is known to end.
    pub(super) fn room_at(&self, now: Timestamp) -> Option<Timestamp> {
        let idle_s = self.idle_s.load(Relaxed);
        let idle_end = match idle_s {
            0 => NEVER,
            // How long they have been idle is the store's to know.
            idle_s => now.plus(Duration::from_secs(u64::from(idle_s))).as_ms(),
        };
        let first = self.next_rest.load(Acquire).min(self.next_end.load(Relaxed)).min(idle_end);
        (first != NEVER).then(|| Timestamp::from_ms(first))
    }

    fn rest(&self, ends: &mut Ends, until: Timestamp) {
        *ends.rests.entry(until.as_ms()).or_default() += 1;
        self.load.fetch_add(REST, AcqRel);
        self.publish(ends);
    }

    /// Ends the rests whose time is over.
    fn wake(&self, now: Timestamp) {
        let mut ends = locked(&self.ends);
        let still = ends.rests.split_off(&now.as_ms().saturating_add(1));
        let over = std::mem::replace(&mut ends.rests, still);
        let woken: u64 = over.values().map(|count| u64::from(*count)).sum();
        self.load.fetch_sub(woken * REST, AcqRel);
        ends.expiries = ends.expiries.split_off(&now.as_ms().saturating_sub(STALE));
        self.publish(&ends);
    }

    fn publish(&self, ends: &Ends) {
        let first = |times: &BTreeMap<u64, u32>| times.keys().next().copied().unwrap_or(NEVER);
        self.next_rest.store(first(&ends.rests), Release);
        self.next_end.store(first(&ends.expiries), Relaxed);
        self.idle_s.store(ends.idles.keys().next().copied().unwrap_or(0), Relaxed);
    }
}

fn expiry_ms(pin: &Pin) -> u64 {
    pin.expires.plus(Duration::from_secs(u64::from(pin.rest_s))).as_ms()
}

fn idle_s(pin: &Pin) -> Option<u32> {
    pin.idle.map(|idle| idle.as_secs().saturating_add(pin.rest_s))
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let std::collections::btree_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

/// Room on an exit for a pin that is about to be made, with the address that
/// the pin would have. Dropped, it is given back: the claim was lost.
#[must_use]
pub struct Room {
    live: Arc<ExitState>,
    address: Option<IpAddr>,
    kept: bool,
}

impl Room {
    /// Whether the address is another pin's as well: all are taken, unless
    /// some of those pins have ended and wait to be swept.
    pub(super) fn is_shared(&self) -> bool {
        self.address.is_some_and(|address| locked(&self.live.addresses).is_shared(address))
    }

    /// The address of the exit's prefix that goes with it.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// This address goes with it, rather than the one that did.
    pub(super) fn give(&mut self, address: IpAddr) {
        let mut addresses = locked(&self.live.addresses);
        addresses.hold(address);
        if let Some(before) = self.address.replace(address) {
            addresses.release(before);
        }
    }

    /// The store has taken the pin. To be called without an await since it
    /// said so; from then on the pin's end gives the room back.
    pub fn commit(mut self, pin: &Pin) {
        self.kept = true;
        self.live.sessions.note(pin);
        self.live.learned.came(pin);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.kept {
            self.live.sessions.give_back();
            if self.live.sessions.is_limited() {
                self.live.opened();
            }
            if let Some(address) = self.address {
                locked(&self.live.addresses).release(address);
            }
        }
    }
}

impl ExitState {
    /// Room for a pin, with an address of its own where the exit has a
    /// prefix: `exactly` this one, if so asked. `None`: there is none.
    pub(super) fn room(
        self: &Arc<Self>,
        exactly: Option<IpAddr>,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Option<Room> {
        if !self.sessions.reserve(now) {
            return None;
        }
        let mut room = Room { live: self.clone(), address: None, kept: false };
        match exactly {
            None => room.address = locked(&self.addresses).claim(rng),
            Some(address) => {
                let free = locked(&self.addresses).claim_exactly(address);
                room.address = Some(free.then_some(address)?);
            }
        }
        Some(room)
    }

    /// Room for a pin that replaces one on this very exit: it is there,
    /// whatever the limit says.
    pub(super) fn more_room(self: &Arc<Self>, rng: &mut impl Rng) -> Room {
        self.sessions.add();
        let address = locked(&self.addresses).claim(rng);
        Room { live: self.clone(), address, kept: false }
    }

    /// Whether [`ExitState::room`] is likely to succeed.
    pub(super) fn has_room(&self, now: Timestamp) -> bool {
        self.sessions.has_room(now)
    }

    /// When there may be room, if that is known.
    pub(super) fn room_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.sessions.room_at(now).map(|at| at.max(now))
    }

    /// So many pins are on this exit on all gateways together.
    pub fn counted(&self, total: u32) {
        if self.sessions.counted(total) && self.sessions.is_limited() {
            self.opened();
        }
    }

    /// A pin of the store is on this exit.
    pub(super) fn loaded(&self, pin: &Pin) {
        self.sessions.add();
        self.sessions.note(pin);
        if let Variant::Address(address) = pin.variant {
            locked(&self.addresses).hold(address);
        }
    }

    /// A pin has left this exit: ended at an instant, or moved.
    pub(super) fn left(&self, pin: &Pin, ended: Option<Timestamp>) {
        if let Variant::Address(address) = pin.variant {
            locked(&self.addresses).release(address);
        }
        self.sessions.left(pin, ended);
        if self.sessions.is_limited() {
            self.opened();
        }
    }
}
