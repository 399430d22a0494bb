//! Noticing that nothing moves any more.
//!
//! Owns: [`Lull`], a timer that is cheap to feed.
//! Must not know: what moves.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Stands for "never": further than a gateway runs.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86400);

/// Ready once nothing was noted for `limit`.
///
/// A note only writes down the time. The timer itself is armed once for each
/// time that it goes off, not once for each note: when it goes off too early,
/// it is set to what is left.
#[derive(Debug)]
pub(crate) struct Lull {
    limit: Duration,
    last: Instant,
    timer: Pin<Box<Sleep>>,
    /// Whom the timer wakes: then there is nothing to tell it.
    told: Option<Waker>,
}

impl Lull {
    /// Counts from now.
    pub(crate) fn new(limit: Duration) -> Self {
        let (limit, last) = (limit.min(FOR_EVER), Instant::now());
        Self { limit, last, timer: Box::pin(sleep_until(last + limit)), told: None }
    }

    /// Something moved.
    pub(crate) fn note(&mut self) {
        self.last = Instant::now();
    }

    /// Ready when the lull has lasted long enough.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let told = self.told.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if told && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        self.told = Some(cx.waker().clone());
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let due = self.last + self.limit;
            if due <= self.timer.deadline() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_lasts_its_limit_from_the_last_note() {
        let start = Instant::now();
        let mut lull = Lull::new(10 * SECOND);
        tokio::time::advance(9 * SECOND).await;
        lull.note();
        poll_fn(|cx| lull.poll(cx)).await;
        let took = start.elapsed();
        assert!(took >= 19 * SECOND && took < 20 * SECOND, "{took:?}");
        assert!(poll_fn(|cx| Poll::Ready(lull.poll(cx))).await.is_ready(), "it stays");
    }

    #[tokio::test(start_paused = true)]
    async fn notes_do_not_arm_the_timer() {
        let mut lull = Lull::new(10 * SECOND);
        let armed = lull.timer.deadline();
        for _ in 0..5 {
            tokio::time::advance(SECOND).await;
            lull.note();
            assert!(poll_fn(|cx| Poll::Ready(lull.poll(cx))).await.is_pending());
        }
        assert_eq!(lull.timer.deadline(), armed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_limit_does_not_overflow() {
        let mut lull = Lull::new(Duration::MAX);
        assert!(poll_fn(|cx| Poll::Ready(lull.poll(cx))).await.is_pending());
    }
}
