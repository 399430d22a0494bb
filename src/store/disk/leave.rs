//! The files let go of for another process, and taken up again.
//!
//! Owns: that nothing waits to be written, and neither thread touches the
//! files, while they are another's.
//! Must not know: which process that is.

use std::sync::PoisonError;

use tokio::time::timeout;

use super::{Disk, QUEUE, StoreFault, epoch, locked};

/// Whether the files are another process's for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// They are ours.
    Here,
    /// The writer is to let go of them.
    Asked,
    /// It has.
    Away,
    /// It is to take them up again.
    Back,
}

/// For the map.
impl Disk {
    /// Has all that waits written and the files let go of, so that another
    /// process can have them. No change comes until [`Disk::take_back`]; that
    /// is for the caller to see to. An error: they were not let go of.
    pub(in crate::store) async fn let_go(&self) -> Result<(), StoreFault> {
        // All of the room is there when nothing waits and nobody is about to
        // put anything there.
        let all = timeout(epoch::PATIENCE, self.room.acquire_many(QUEUE as u32)).await;
        let all = all.map_err(|_hangs| StoreFault::Refused)?.map_err(|_closed| StoreFault::Refused)?;
        if self.is_refusing() {
            return Err(StoreFault::Refused);
        }
        all.forget();
        locked(&self.queue).leave = Leave::Asked;
        self.wake.notify_one();
        let gone = timeout(epoch::PATIENCE, self.gone_away()).await.unwrap_or(Err(StoreFault::Refused));
        if gone.is_err() {
            self.take_back();
        }
        gone
    }

    async fn gone_away(&self) -> Result<(), StoreFault> {
        loop {
            let mut away = std::pin::pin!(self.away.notified());
            away.as_mut().enable();
            match self.left() {
                (Leave::Away, _) => return Ok(()),
                (_, true) => return Err(StoreFault::Refused),
                _ => away.await,
            }
        }
    }

    /// How far it has come, and whether all is closing.
    fn left(&self) -> (Leave, bool) {
        let queue = locked(&self.queue);
        (queue.leave, queue.closing)
    }

    /// Has the writer take the files up again, if it is to let go of them or
    /// has.
    pub(in crate::store) fn take_back(&self) {
        let mut queue = locked(&self.queue);
        if queue.leave != Leave::Here {
            queue.leave = Leave::Back;
            self.wake.notify_one();
        }
    }
}

/// For the writer.
impl Disk {
    /// Waits until the sync thread has nothing left to do, and so lets the
    /// files alone.
    pub(in crate::store) fn wait_synced(&self) {
        let sync = locked(&self.sync);
        drop(self.sync_wake.wait_while(sync, |sync| sync.written != sync.synced && !sync.closing));
    }

    /// The files are let go of. Waits until they are to be taken up again;
    /// `false`: never.
    pub(in crate::store) fn stay_away(&self) -> bool {
        let mut queue = locked(&self.queue);
        if queue.leave == Leave::Back {
            return true;
        }
        queue.leave = Leave::Away;
        self.away.notify_waiters();
        let waited = self.wake.wait_while(queue, |queue| queue.leave == Leave::Away && !queue.closing);
        let queue = waited.unwrap_or_else(PoisonError::into_inner);
        queue.leave == Leave::Back
    }

    /// They are taken up again, or that is under way and the disk is known to
    /// refuse meanwhile.
    pub(in crate::store) fn here_again(&self) {
        locked(&self.queue).leave = Leave::Here;
        self.room.add_permits(QUEUE);
    }
}
