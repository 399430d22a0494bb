//! Noticing that nothing moves any more.
//!
//! Owns: [`Lull`], a timer that is cheap to feed.
//! Must not know: what moves.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Stands for "never": further than a gateway runs.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86400);

/// Ready once nothing was noted for `limit`.
///
/// A note only writes down the time. The timer itself is armed once for each
/// time that it goes off, not once for each note: when it goes off too early,
/// it is set to what is left. So a connection has one for all that it ever
/// waits for: a wait that is over leaves the timer armed for the next.
#[derive(Debug)]
pub(crate) struct Lull {
    limit: Duration,
    last: Instant,
    /// Made by the first poll: much is over before that.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whom the timer wakes: then there is nothing to tell it.
    told: Option<Waker>,
}

impl Default for Lull {
    /// One that is to [begin](Self::begin).
    fn default() -> Self {
        Self { limit: FOR_EVER, last: Instant::now(), timer: None, told: None }
    }
}

impl Lull {
    /// Counts from now.
    pub(crate) fn new(limit: Duration) -> Self {
        let mut lull = Self::default();
        lull.begin_at(lull.last, limit);
        lull
    }

    /// Counts anew, from now.
    pub(crate) fn begin(&mut self, limit: Duration) {
        self.begin_at(Instant::now(), limit);
    }

    /// Counts anew, from that instant.
    pub(crate) fn begin_at(&mut self, last: Instant, limit: Duration) {
        (self.limit, self.last) = (limit.min(FOR_EVER), last);
    }

    /// Something moved.
    pub(crate) fn note(&mut self) {
        self.last = Instant::now();
    }

    /// Ready when the lull has lasted long enough.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.last + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            // A shorter one has begun.
            timer.as_mut().reset(due);
            self.told = None;
        }
        let told = self.told.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if told && !timer.is_elapsed() {
            return Poll::Pending;
        }
        self.told = Some(cx.waker().clone());
        loop {
            ready!(timer.as_mut().poll(cx));
            if due <= timer.deadline() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }

    /// Does the work unless the lull lasts long enough before; then the work
    /// is dropped where it stands.
    pub(crate) async fn outlasted_by<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await
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
        assert!(poll_fn(|cx| Poll::Ready(lull.poll(cx))).await.is_pending());
        let armed = lull.timer.as_ref().map(|timer| timer.deadline());
        for _ in 0..5 {
            tokio::time::advance(SECOND).await;
            lull.note();
            assert!(poll_fn(|cx| Poll::Ready(lull.poll(cx))).await.is_pending());
        }
        assert_eq!(lull.timer.as_ref().map(|timer| timer.deadline()), armed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_limit_does_not_overflow() {
        let mut lull = Lull::new(Duration::MAX);
        assert!(poll_fn(|cx| Poll::Ready(lull.poll(cx))).await.is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn one_serves_for_wait_after_wait() {
        let mut lull = Lull::new(10 * SECOND);
        assert_eq!(lull.outlasted_by(tokio::time::sleep(9 * SECOND)).await, Some(()));
        // A longer wait leaves the timer as it is, a shorter one does not.
        for (limit, lasts) in [(20, 20), (3, 3), (5, 5)] {
            let start = Instant::now();
            lull.begin(limit * SECOND);
            assert_eq!(lull.outlasted_by(std::future::pending::<()>()).await, None);
            let took = start.elapsed();
            assert!(took >= lasts * SECOND && took < (lasts + 1) * SECOND, "{limit}: {took:?}");
        }
        lull.begin_at(Instant::now() - 4 * SECOND, 5 * SECOND);
        assert_eq!(lull.outlasted_by(tokio::time::sleep(2 * SECOND)).await, None);
    }
}
