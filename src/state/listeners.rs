//! Who is to hear that an exit may be used again.
//!
//! Owns: [`Listeners`]: the lanes that have closed an exit.
//! Must not know: why it was closed.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::sync::{Arc, Mutex, Weak};

use super::exits::locked;
use super::lanes::Lane;

/// Of one exit; empty while it is well.
#[derive(Default)]
pub(super) struct Listeners {
    /// Whether there are any.
    any: AtomicBool,
    /// With the exit's place in the lane's pool.
    lanes: Mutex<Vec<(Weak<Lane>, u32)>>,
}

impl Listeners {
    /// This lane has closed the exit. Only what is found to stand against it
    /// from here on still does, or will be told of.
    pub(super) fn add(&self, lane: &Arc<Lane>, exit: u32) {
        let mut lanes = locked(&self.lanes);
        if !lanes.iter().any(|(known, _)| known.as_ptr() == Arc::as_ptr(lane)) {
            // Lanes of pools that were replaced are gone.
            lanes.retain(|(known, _)| known.strong_count() > 0);
            lanes.push((Arc::downgrade(lane), exit));
        }
        self.any.store(true, Relaxed);
        drop(lanes);
        // With the one below: a change is seen by who looks after this, or
        // whoever makes it sees that there is a listener.
        fence(SeqCst);
    }

    /// Opens the exit in every lane that has closed it.
    pub(super) fn tell(&self) {
        fence(SeqCst);
        if !self.any.load(Relaxed) {
            return;
        }
        let mut lanes = locked(&self.lanes);
        self.any.store(false, Relaxed);
        let told = std::mem::take(&mut *lanes);
        drop(lanes);
        for (lane, exit) in told {
            if let Some(lane) = lane.upgrade() {
                lane.open(exit);
            }
        }
    }
}
