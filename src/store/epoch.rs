//! Which records are written, for those who wait.
//!
//! Owns: the written mark, and [`Receipt`]: "mark >= my number".
//! Must not know: who writes, or when.
//!
//! A mark belongs to an epoch, a time without refusals. When the disk
//! refuses, everything not written is undone and the epoch ends: whoever
//! still waits in it has failed. The next epoch begins with a mark that covers
//! all that is in the map then.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::StoreFault;
use super::local::Local;
use crate::core::session::SessionKey;

/// How long a disk that neither takes nor refuses is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A time without refusals.
#[derive(Debug)]
pub(super) struct Epoch {
    mark: AtomicU64,
    /// `OPEN`, or how it ended: an [`Outcome`].
    end: AtomicU8,
    news: Notify,
}

const OPEN: u8 = 0;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Written = 1,
    /// The disk refused it, and the map is as if it had never been.
    Undone = 2,
    /// Nobody knows.
    Lost = 3,
}

impl Epoch {
    /// What has a number up to `mark` is written.
    pub(super) fn new(mark: u64) -> Arc<Self> {
        Arc::new(Self { mark: AtomicU64::new(mark), end: AtomicU8::new(OPEN), news: Notify::new() })
    }

    /// Ends, and tells all who wait.
    pub(super) fn end(&self, how: Outcome) {
        self.end.store(how as u8, Ordering::Release);
        self.news.notify_waiters();
    }

    /// More is written.
    pub(super) fn raise(&self, mark: u64) {
        self.mark.store(mark, Ordering::Release);
        self.news.notify_waiters();
    }

    /// `None`: not known yet.
    fn outcome(&self, number: u64) -> Option<Outcome> {
        // In this order: the mark does not move after the end.
        let end = self.end.load(Ordering::Acquire);
        if self.mark.load(Ordering::Acquire) >= number {
            return Some(Outcome::Written);
        }
        match end {
            OPEN => None,
            end if end == Outcome::Undone as u8 => Some(Outcome::Undone),
            _ => Some(Outcome::Lost),
        }
    }

    /// Not for longer than [`PATIENCE`]: what is not written by then may be
    /// yet, or not.
    async fn wait(&self, number: u64) -> Outcome {
        if let Some(outcome) = self.outcome(number) {
            return outcome;
        }
        let told = async {
            loop {
                let mut news = std::pin::pin!(self.news.notified());
                news.as_mut().enable();
                if let Some(outcome) = self.outcome(number) {
                    return outcome;
                }
                news.await;
            }
        };
        timeout(PATIENCE, told).await.unwrap_or(Outcome::Lost)
    }
}

/// A receipt for a record that was not written yet when it was looked at.
#[derive(Clone, Debug)]
pub(super) struct Receipt {
    epoch: Arc<Epoch>,
    number: u64,
    key: SessionKey,
    /// The pin's; `None` for an end.
    version: Option<u64>,
    local: Weak<Local>,
}

impl Receipt {
    /// `None` if the record is written.
    pub(super) fn new(
        epoch: &Arc<Epoch>,
        number: u64,
        key: SessionKey,
        version: Option<u64>,
        local: &Weak<Local>,
    ) -> Option<Self> {
        if epoch.outcome(number) == Some(Outcome::Written) {
            return None;
        }
        Some(Self { epoch: epoch.clone(), number, key, version, local: local.clone() })
    }

    /// Whether it is now.
    pub(super) fn is_written(&self) -> bool {
        self.epoch.outcome(self.number) == Some(Outcome::Written)
    }

    /// Waits for it.
    pub(super) async fn settled(&self) -> Result<(), StoreFault> {
        match self.epoch.wait(self.number).await {
            Outcome::Written => Ok(()),
            // Only a use may have been refused, of a pin that is on disk: then
            // it is still in the map.
            Outcome::Undone if self.is_in_map() => Ok(()),
            Outcome::Undone | Outcome::Lost => Err(StoreFault::Refused),
        }
    }

    fn is_in_map(&self) -> bool {
        let pin = self.local.upgrade().and_then(|local| local.peek(self.key));
        pin.is_some_and(|pin| Some(pin.version) == self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_covers_what_was_written_before_the_end() {
        let epoch = Epoch::new(5);
        assert_eq!(epoch.outcome(5), Some(Outcome::Written));
        assert_eq!(epoch.outcome(6), None);
        epoch.raise(7);
        epoch.end(Outcome::Undone);
        assert_eq!(epoch.outcome(7), Some(Outcome::Written));
        assert_eq!(epoch.outcome(8), Some(Outcome::Undone));
        let epoch = Epoch::new(7);
        epoch.end(Outcome::Lost);
        assert_eq!(epoch.outcome(8), Some(Outcome::Lost));
    }
    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_not_waited_for_without_end() {
        let begun = tokio::time::Instant::now();
        assert_eq!(Epoch::new(5).wait(6).await, Outcome::Lost);
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
