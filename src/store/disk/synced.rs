//! How far the sync thread is behind whoever writes.
//!
//! Owns: what the sync thread waits for and reports.
//! Must not know: how a file is synced.

use std::sync::PoisonError;

use super::{Disk, QUEUE, locked};

/// For the map.
impl Disk {
    /// How many changes wait to be written, and how many to be synced.
    pub(in crate::store) fn waiting(&self) -> (u64, u64) {
        let unwritten = QUEUE.saturating_sub(self.room.available_permits());
        let sync = locked(&self.sync);
        (unwritten as u64, sync.written.saturating_sub(sync.synced))
    }
}

/// For the sync thread.
impl Disk {
    /// Waits until something is written that is not synced; `false` at the
    /// end.
    pub(in crate::store) fn wait_for_unsynced(&self) -> bool {
        let sync = locked(&self.sync);
        let waited = self.sync_wake.wait_while(sync, |sync| {
            sync.idle = sync.written == sync.synced && !sync.closing;
            sync.idle
        });
        !waited.unwrap_or_else(PoisonError::into_inner).closing
    }

    /// The number of the last record that was written.
    pub(in crate::store) fn written(&self) -> u64 {
        locked(&self.sync).written
    }

    /// Records up to this number are synced, or will not be.
    pub(in crate::store) fn synced(&self, number: u64) {
        let mut sync = locked(&self.sync);
        sync.synced = sync.synced.max(number);
        drop(sync);
        self.sync_wake.notify_all();
    }

    /// What was written may not be on the disk.
    pub(in crate::store) fn sync_failed(&self) {
        locked(&self.queue).sync_failed = true;
        self.wake.notify_one();
    }
}
