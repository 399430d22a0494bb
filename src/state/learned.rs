//! The address that origins see of an exit, as probes have learned it.
//!
//! Owns: [`Learned`], and which pins were made before that address changed.
//! Must not know: how it is learned, what follows from a change.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use arc_swap::ArcSwapOption;

use super::exits::{Attempt, ExitState, locked};
use crate::core::exit::{Exit, Via};
use crate::core::pin::Pin;
use crate::core::time::Timestamp;

/// So many pins are told apart from those that a change found here.
const MOST_CAME: usize = 100_000;

/// What probes have learned of an exit.
#[derive(Debug, Default)]
pub(super) struct Learned {
    address: ArcSwapOption<IpAddr>,
    /// Until it changed last.
    before: ArcSwapOption<IpAddr>,
    changes: AtomicU32,
    /// When it changed last, in ms; 0: never.
    changed: AtomicU64,
    /// Versions of older pins that have come here since.
    came: Mutex<HashSet<u64>>,
}

impl Learned {
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address.load().as_deref().copied()
    }

    /// The one before the last change.
    pub(super) fn address_before(&self) -> Option<IpAddr> {
        self.before.load().as_deref().copied()
    }

    pub(super) fn changes(&self) -> u32 {
        self.changes.load(Relaxed)
    }

    /// An origin saw this address; what it saw before, where that was another.
    pub(super) fn see(&self, address: IpAddr, now: Timestamp) -> Option<IpAddr> {
        let before = self.address();
        if before == Some(address) {
            return None;
        }
        self.address.store(Some(address.into()));
        before.inspect(|before| {
            self.before.store(Some((*before).into()));
            locked(&self.came).clear();
            self.changed.store(now.as_ms().max(1), Release);
            self.changes.fetch_add(1, Relaxed);
        })
    }

    /// What was learned was of another exit.
    pub(super) fn forget(&self) {
        self.address.store(None);
        self.before.store(None);
        self.changed.store(0, Release);
    }

    /// A pin was made for the exit, or moved to it.
    pub(super) fn came(&self, pin: &Pin) {
        if !self.is_older(pin) {
            return;
        }
        let mut came = locked(&self.came);
        if came.len() < MOST_CAME {
            came.insert(pin.version);
        } else {
            // Rather than to move somebody twice: nothing has changed.
            self.changed.store(0, Release);
            came.clear();
        }
    }

    /// Whether the pin was on the exit before its address changed.
    pub(super) fn changed_under(&self, pin: &Pin) -> bool {
        self.is_older(pin) && !locked(&self.came).contains(&pin.version)
    }

    fn is_older(&self, pin: &Pin) -> bool {
        pin.made.as_ms() < self.changed.load(Acquire)
    }
}

impl ExitState {
    /// The address that origins see of it, as probes have learned it.
    pub fn learned_address(&self) -> Option<IpAddr> {
        self.learned.address()
    }

    /// How often probes have seen that address change.
    pub fn address_changes(&self) -> u32 {
        self.learned.changes()
    }
}

impl Attempt {
    /// An origin saw this address through the exit; what it saw before, where
    /// that was another. An address of a prefix or of a vendor's token is not
    /// the exit's.
    pub fn learn(&self, exit: &Exit, address: IpAddr, now: Timestamp) -> Option<IpAddr> {
        let is_many = matches!(exit.via, Via::Prefix(_)) || exit.via.is_template();
        if is_many { None } else { self.live.learned.see(address, now) }
    }

    /// How many pins the exit holds.
    pub fn pins(&self) -> u32 {
        self.live.pins()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::core::pin::{ExitName, Variant};
    use crate::core::session::{Filter, SessionId};

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 8));

    fn pin(made: u64, version: u64) -> Pin {
        let made = Timestamp::from_ms(made);
        Pin {
            user: "acme".into(),
            session: SessionId::new("a").unwrap(),
            filter: Filter::default(),
            exit: ExitName { pool: "us".into(), id: "one".into() },
            variant: Variant::None,
            via: 1,
            made,
            expires: made.plus(Duration::from_secs(60)),
            idle: None,
            used: made,
            rest_s: 0,
            moves: 0,
            same_address: false,
            version,
        }
    }

    #[test]
    fn a_change_is_one_for_the_pins_that_it_found() {
        let learned = Learned::default();
        assert_eq!(learned.see(A, Timestamp::from_ms(10)), None, "the first is no change");
        let old = pin(5, 1);
        learned.came(&old);
        assert!(!learned.changed_under(&old));
        assert_eq!(learned.see(A, Timestamp::from_ms(20)), None);
        assert_eq!(learned.see(B, Timestamp::from_ms(30)), Some(A));
        assert_eq!((learned.address(), learned.address_before(), learned.changes()), (Some(B), Some(A), 1));
        assert!(learned.changed_under(&old) && !learned.changed_under(&pin(30, 2)));
        // It was moved here since, or renewed here: another version.
        let moved = pin(5, 3);
        learned.came(&moved);
        assert!(!learned.changed_under(&moved) && learned.changed_under(&old));
        // The next change finds it here.
        assert_eq!(learned.see(A, Timestamp::from_ms(40)), Some(B));
        assert!(learned.changed_under(&moved) && learned.changed_under(&pin(30, 2)));
        learned.forget();
        assert!(!learned.changed_under(&old) && learned.address().is_none());
    }

    #[test]
    fn too_many_to_tell_apart_are_left_where_they_are() {
        let learned = Learned::default();
        learned.see(A, Timestamp::from_ms(10));
        learned.see(B, Timestamp::from_ms(20));
        for version in 0..=MOST_CAME as u64 {
            learned.came(&pin(5, version));
        }
        assert!(!learned.changed_under(&pin(5, u64::MAX)));
    }
}
