//! Shutdown in two steps, and giving way to another process.
//!
//! Owns: the order "take nothing new" ([`Drain::begin`]), the order "drop
//! what is left" ([`Drain::force`]), the count of what is still there; and the
//! order "another process takes what is new" ([`Drain::hand_over`]), before
//! which nothing is accepted for a moment ([`Drain::pause`]).
//! Must not know: what is drained, or for how long one waits.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::core::bind::Bind;

/// The gateway's shutdown, as everyone sees it. Clones are one shutdown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drain {
    /// How far it is: to look at, the tokens are too dear.
    step: Arc<AtomicU8>,
    begun: CancellationToken,
    /// [`Self::begun`], or handed over: to wait for both at once.
    leaves: CancellationToken,
    forced: CancellationToken,
    alive: TaskTracker,
    doors: Doors,
}

/// Who accepts new connections. Clones are the same.
#[derive(Clone, Debug)]
struct Doors {
    accept: Arc<watch::Sender<Accept>>,
    given: CancellationToken,
    /// The same, to look at.
    are_given: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
enum Accept {
    /// We do.
    Here,
    /// Nobody: they wait with the kernel.
    Nobody,
    /// Another process does, at these addresses; nobody at others.
    Elsewhere(Arc<[Bind]>),
}

impl Default for Doors {
    fn default() -> Self {
        Self {
            accept: Arc::new(watch::Sender::new(Accept::Here)),
            given: CancellationToken::new(),
            are_given: Arc::default(),
        }
    }
}

/// What becomes of a listening socket that does not accept at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// It accepts again.
    Open,
    /// It has been given to another process, with all that wait at it.
    Given,
    /// It closes: those that wait at it are the last.
    Closing,
}

/// Steps of [`Drain::step`].
const BEGUN: u8 = 1;
const FORCED: u8 = 2;

/// Waits for [`Drain::leaves`] over and over.
#[derive(Debug, Default)]
pub(crate) struct Leaver {
    waits: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Whom it wakes.
    told: Option<Waker>,
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
        self.step.fetch_max(BEGUN, Ordering::AcqRel);
        self.begun.cancel();
        self.leaves.cancel();
        self.alive.close();
    }

    /// Drop what is still there. Begins, too, if that was not yet done.
    pub(crate) fn force(&self) {
        self.step.fetch_max(FORCED, Ordering::AcqRel);
        self.begin();
        self.forced.cancel();
    }

    /// Whether nothing new is to be taken.
    pub(crate) fn is_begun(&self) -> bool {
        self.step.load(Ordering::Acquire) >= BEGUN
    }

    /// Ready once [`Self::begin`] was called, however long ago.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Ready once [`Self::force`] was called, however long ago.
    pub(crate) async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// Does the work unless [`Self::force`] is called, or was; then the work is
    /// dropped where it stands. It costs next to nothing, however often the
    /// work is woken. (The work is made here: a future that came from outside
    /// would take up its place twice, once as it came and once as it runs.)
    pub(crate) async fn unless_forced<F: Future>(&self, work: impl FnOnce() -> F) -> Option<F::Output> {
        let (mut work, mut forced) = (pin!(work()), pin!(self.forced.cancelled()));
        let mut told: Option<Waker> = None;
        poll_fn(|cx| {
            if self.step.load(Ordering::Acquire) >= FORCED {
                return Poll::Ready(None);
            }
            if !told.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                if forced.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                told = Some(cx.waker().clone());
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Nothing is accepted for a moment; what comes waits with the kernel.
    /// [`Self::resume`] or [`Self::hand_over`] ends it.
    pub(crate) fn pause(&self) {
        self.set(Accept::Nobody);
    }

    /// Connections are accepted again.
    pub(crate) fn resume(&self) {
        self.set(Accept::Here);
    }

    /// Another process accepts at these addresses, and takes new requests.
    /// From now on [`Self::all_gone`] may come.
    pub(crate) fn hand_over(&self, sockets: Arc<[Bind]>) {
        self.set(Accept::Elsewhere(sockets));
        self.doors.are_given.store(true, Ordering::Release);
        self.doors.given.cancel();
        self.leaves.cancel();
        self.alive.close();
    }

    fn set(&self, to: Accept) {
        // What was given away does not come back.
        self.doors.accept.send_if_modified(|accept| {
            let may = !matches!(accept, Accept::Elsewhere(_));
            if may {
                *accept = to;
            }
            may
        });
    }

    /// Whether another process takes new requests.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.doors.are_given.load(Ordering::Acquire)
    }

    /// Ready once it does, however long ago.
    pub(crate) async fn handed_over(&self) {
        self.doors.given.cancelled().await;
    }

    /// Ready once nothing new is to be taken here, be it for a drain or for
    /// another process.
    pub(crate) async fn leaves(&self) {
        self.leaves.cancelled().await;
    }

    /// The same for one that asks again and again: after the first time it is
    /// little more than a look.
    pub(crate) fn poll_leaves(&self, leaver: &mut Leaver, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_begun() || self.is_handed_over() {
            return Poll::Ready(());
        }
        if leaver.told.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let waits = leaver.waits.get_or_insert_with(|| Box::pin(self.leaves.clone().cancelled_owned()));
        let leaves = waits.as_mut().poll(cx);
        leaver.told = Some(cx.waker().clone());
        leaves
    }

    /// Ready once nothing is to be accepted.
    pub(crate) async fn stops_accepting(&self) {
        let mut accept = self.doors.accept.subscribe();
        tokio::select! {
            biased;
            () = self.begun.cancelled() => {}
            // The sender is ours, so it is there.
            _ = accept.wait_for(|accept| !matches!(accept, Accept::Here)) => {}
        }
    }

    /// Behind [`Self::stops_accepting`]: what becomes of a listening socket.
    pub(crate) async fn door(&self, socket: Option<&Bind>) -> Door {
        let mut accept = self.doors.accept.subscribe();
        tokio::select! {
            biased;
            decided = accept.wait_for(|accept| !matches!(accept, Accept::Nobody)) => {
                match decided.as_deref() {
                    Ok(Accept::Elsewhere(given)) if socket.is_some_and(|socket| given.contains(socket)) => {
                        Door::Given
                    }
                    Ok(Accept::Here) if !self.is_begun() => Door::Open,
                    _ => Door::Closing,
                }
            }
            () = self.begun.cancelled() => Door::Closing,
        }
    }

    /// For what serves on while this drains: it ends by itself, but gives way
    /// to another process with this.
    pub(crate) fn beside(&self) -> Self {
        Self { doors: self.doors.clone(), ..Self::default() }
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
    fn work_is_done_unless_it_is_forced_to_end() {
        let drain = Drain::new();
        drain.begin();
        assert!(ready(drain.unless_forced(async || ())));
        assert!(!ready(drain.unless_forced(std::future::pending::<()>)));
        drain.force();
        assert!(ready(drain.unless_forced(std::future::pending::<()>)));
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
                assert_eq!(drain.unless_forced(std::future::pending::<()>).await, None);
                assert_eq!(drain.unless_forced(async || ()).await, None, "at once");
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
