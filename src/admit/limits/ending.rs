//! The end that a user's connections are told.
//!
//! Owns: [`Ending`], which ends many connections at once and costs one that
//! goes on nothing but a look.
//! Must not know: why, what a connection does.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::task::{Poll, Waker};

use tokio::sync::Notify;

/// Why connections are ended before their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The user has moved as many bytes as it may today.
    Quota,
    /// There is no such user any more.
    UserRemoved,
}

impl Cut {
    /// As an access record says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::UserRemoved => "user_removed",
        }
    }
}

/// Ends those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    come: AtomicBool,
    why: OnceLock<Cut>,
    told: Notify,
}

impl Ending {
    /// Ends them all.
    pub(super) fn tell(&self, why: Cut) {
        self.why.get_or_init(|| why);
        self.come.store(true, Release);
        self.told.notify_waiters();
    }

    /// Does the work unless the end comes first; then the work is dropped
    /// where it stands. (The work is made here: a future that came from
    /// outside would take up its place twice.)
    pub(super) async fn or<F: Future>(&self, work: impl FnOnce() -> F) -> Result<F::Output, Cut> {
        let (mut work, mut told) = (pin!(work()), pin!(self.told.notified()));
        // Whoever waits is one of many in a list with a lock: it is put there
        // once, not each time that the work has something to do.
        let mut waits: Option<Waker> = None;
        poll_fn(|cx| {
            if !waits.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                waits = Some(cx.waker().clone());
                // What is told is read below.
                let _ = told.as_mut().poll(cx);
            }
            if self.come.load(Acquire) {
                return Poll::Ready(Err(self.why.get().copied().unwrap_or(Cut::UserRemoved)));
            }
            work.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_end_and_all_who_come_later() {
        let ending = Arc::new(Ending::default());
        assert_eq!(ending.or(|| ready(7)).await, Ok(7));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let ending = ending.clone();
                tokio::spawn(async move { ending.or(pending::<()>).await })
            })
            .collect();
        tokio::task::yield_now().await;
        ending.tell(Cut::Quota);
        ending.tell(Cut::UserRemoved);
        for one in waiting {
            assert_eq!(one.await.unwrap(), Err(Cut::Quota), "the first reason counts");
        }
        assert_eq!(ending.or(|| ready(7)).await, Err(Cut::Quota));
    }
}
