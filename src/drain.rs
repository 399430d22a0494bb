//! Shutdown in two steps.
//!
//! Owns: the order "take nothing new" ([`Drain::begin`]), the order "drop
//! what is left" ([`Drain::force`]), and the count of what is still there.
//! Must not know: what is drained, or for how long one waits.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The gateway's shutdown, as everyone sees it. Clones are one shutdown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drain {
    begun: CancellationToken,
    forced: CancellationToken,
    alive: TaskTracker,
}

/// Held by whatever the end must wait for: a connection, for instance.
#[derive(Debug)]
#[must_use = "what is not held is not waited for"]
pub(crate) struct DrainGuard {
    _alive: TaskTrackerToken,
}

impl Drain {
    /// Nothing has begun.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Take nothing new; what is under way may go on. Again: no change.
    pub(crate) fn begin(&self) {
        self.begun.cancel();
        self.alive.close();
    }

    /// Drop what is still there. Begins, too, if that was not yet done.
    pub(crate) fn force(&self) {
        self.begin();
        self.forced.cancel();
    }

    /// Whether nothing new is to be taken.
    pub(crate) fn is_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Ready once [`Self::begin`] was called, however long ago.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Ready once [`Self::force`] was called, however long ago.
    pub(crate) async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// [`Self::all_gone`] waits until this is dropped. May be taken after the
    /// beginning: a connection that was accepted in that instant counts.
    pub(crate) fn guard(&self) -> DrainGuard {
        DrainGuard { _alive: self.alive.token() }
    }

    /// How many guards are held.
    pub(crate) fn alive(&self) -> usize {
        self.alive.len()
    }

    /// Ready once the drain has begun and no guard is held.
    pub(crate) async fn all_gone(&self) {
        self.alive.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;

    /// Whether the future is ready at its first poll.
    fn ready(future: impl Future) -> bool {
        let mut future = std::pin::pin!(future);
        future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn the_end_is_a_beginning_without_guards() {
        let drain = Drain::new();
        assert!(!ready(drain.all_gone()), "not begun");
        let guard = drain.guard();
        drain.begin();
        assert!(drain.is_begun() && ready(drain.begun()) && !ready(drain.forced()));
        assert_eq!(drain.alive(), 1);
        assert!(!ready(drain.all_gone()), "a guard is held");
        let late = drain.clone().guard();
        drop(guard);
        assert!(!ready(drain.all_gone()), "a late guard is held");
        drop(late);
        assert!(ready(drain.all_gone()));
    }

    #[test]
    fn force_begins_too() {
        let drain = Drain::new();
        drain.clone().force();
        assert!(ready(drain.begun()) && ready(drain.forced()));
    }

    #[tokio::test]
    async fn those_who_wait_are_woken_at_each_step() {
        let drain = Drain::new();
        let task = tokio::spawn({
            let (drain, guard) = (drain.clone(), drain.guard());
            async move {
                drain.begun().await;
                drain.forced().await;
                drop(guard);
            }
        });
        tokio::task::yield_now().await;
        drain.begin();
        tokio::task::yield_now().await;
        assert!(!ready(drain.all_gone()));
        drain.force();
        drain.all_gone().await;
        task.await.unwrap();
    }
}
