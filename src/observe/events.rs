//! What happens, told to whoever listens.
//!
//! Owns: [`Event`], and that telling costs one load while nobody listens and
//! never waits for those who do: whoever is too slow misses some and is told
//! how many; and the last failures, for those who come to look after them.
//! Must not know: how an event gets to a listener.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::core::pin::Pin;

/// The most listeners at a time.
const MOST_LISTENERS: usize = 64;

/// The most events that a listener may be behind.
const MOST_BEHIND: usize = 1024;

/// So many failures are kept.
const MOST_PAST: usize = 100;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A session was pinned.
    SessionMade(Session),
    /// A session was moved to another exit, or to another of its exit's many.
    SessionMoved {
        /// As it is now.
        #[serde(flatten)]
        session: Session,
        /// The exit before.
        from: Arc<str>,
        /// Why.
        reason: &'static str,
    },
    /// A session's time was over, or it was ended.
    SessionEnded(Session),
    /// An exit was taken out of use.
    ExitEjected {
        /// Of which pool.
        pool: Arc<str>,
        /// Its id.
        exit: Arc<str>,
        /// What the last failure said.
        cause: Option<String>,
    },
    /// An exit is in use again.
    ExitReturned {
        /// Of which pool.
        pool: Arc<str>,
        /// Its id.
        exit: Arc<str>,
    },
    /// Probes see another address behind an exit.
    ExitReaddressed {
        /// Of which pool.
        pool: Arc<str>,
        /// Its id.
        exit: Arc<str>,
        /// Until now.
        was: IpAddr,
        /// From now on.
        is: IpAddr,
        /// How many sessions it holds.
        sessions: u32,
    },
    /// A client has reported that an exit is no good for a site.
    ExitReported {
        /// Of which pool.
        pool: Arc<str>,
        /// Its id.
        exit: Arc<str>,
        /// The registrable domain, or the address.
        site: String,
        /// By kind.
        reason: &'static str,
        /// For how many seconds it is kept from there; 0: it is not.
        cooldown: u64,
    },
    /// The operator has switched an exit.
    ExitSwitched {
        /// Of which pool.
        pool: Arc<str>,
        /// Its id.
        exit: Arc<str>,
        /// To what.
        state: &'static str,
    },
    /// Configuration or pools were read again.
    Reloaded {
        /// Whether what was read is in force.
        ok: bool,
        /// What was wrong.
        findings: Vec<String>,
    },
    /// A request has failed by one of our codes.
    Failed {
        /// The code.
        code: &'static str,
        /// Its status.
        status: u16,
        /// The sentence that the client was told.
        detail: Option<String>,
        /// Who asked, if that was known.
        user: Option<Arc<str>>,
        /// Of which pool.
        pool: Option<Arc<str>>,
        /// Through which exit.
        exit: Option<Arc<str>>,
    },
}

/// What an event says of a session.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Session {
    /// Its key, in hexadecimal.
    key: String,
    /// Whose.
    user: Arc<str>,
    /// Of which pool.
    pool: Arc<str>,
    /// Its name.
    session: String,
    /// Its exit's id.
    exit: Arc<str>,
}

impl Session {
    /// Of a pin.
    pub(crate) fn of(pin: &Pin) -> Self {
        Self {
            key: pin.key().to_string(),
            user: pin.user.clone(),
            pool: pin.exit.pool.clone(),
            session: pin.session.to_string(),
            exit: pin.exit.id.clone(),
        }
    }
}

impl Event {
    /// The name under which it is told.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::SessionMade(_) => "session_made",
            Self::SessionMoved { .. } => "session_moved",
            Self::SessionEnded(_) => "session_ended",
            Self::ExitEjected { .. } => "exit_ejected",
            Self::ExitReturned { .. } => "exit_returned",
            Self::ExitReported { .. } => "exit_reported",
            Self::ExitReaddressed { .. } => "exit_readdressed",
            Self::ExitSwitched { .. } => "exit_switched",
            Self::Reloaded { .. } => "reloaded",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Tells events.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    listeners: AtomicUsize,
    /// The last failures, the oldest first.
    past: Mutex<VecDeque<Past>>,
}

/// Something that has happened, and when.
pub(crate) type Past = (Instant, Arc<Event>);

impl Default for Events {
    fn default() -> Self {
        let sender = broadcast::Sender::new(MOST_BEHIND);
        Self { sender, listeners: AtomicUsize::new(0), past: Mutex::default() }
    }
}

impl Events {
    /// Tells those who listen; if nobody does, the event is not even made.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.listeners.load(Relaxed) > 0 {
            // An error: the last one has just left.
            let _ = self.sender.send(Arc::new(event()));
        }
    }

    /// Tells of a failure, and keeps it for those who come later.
    pub(crate) fn tell_failure(&self, event: Event) {
        let (at, event) = (Instant::now(), Arc::new(event));
        let mut past = self.past();
        if past.len() == MOST_PAST {
            past.pop_front();
        }
        past.push_back((at, event.clone()));
        // Under the lock: whoever begins to listen now has it from one of the
        // two.
        self.tell_shared(event);
    }

    fn tell_shared(&self, event: Arc<Event>) {
        if self.listeners.load(Relaxed) > 0 {
            let _ = self.sender.send(event);
        }
    }

    fn past(&self) -> MutexGuard<'_, VecDeque<Past>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.listeners.load(Relaxed)
    }

    /// Listens from now on; the last failures until now, the oldest first.
    /// `None`: as many do as may.
    pub(crate) fn listen(self: &Arc<Self>) -> Option<(Listener, Vec<Past>)> {
        let past = self.past();
        let one_more = |listeners| (listeners < MOST_LISTENERS).then_some(listeners + 1);
        self.listeners.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        let listener = Listener { receiver: self.sender.subscribe(), events: self.clone() };
        Some((listener, past.iter().cloned().collect()))
    }
}

/// Hears events until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    receiver: broadcast::Receiver<Arc<Event>>,
    events: Arc<Events>,
}

/// What a listener hears.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// The next event.
    Event(Arc<Event>),
    /// It was too slow: so many events are lost to it.
    Lagged(u64),
}

impl Listener {
    /// Waits for the next; `None`: there will be none.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        match self.receiver.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(RecvError::Lagged(lost)) => Some(Heard::Lagged(lost)),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.events.listeners.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reloaded() -> Event {
        Event::Reloaded { ok: true, findings: Vec::new() }
    }

    #[tokio::test]
    async fn nothing_is_made_for_nobody_and_the_slow_are_told() {
        let events = Arc::new(Events::default());
        events.tell(|| panic!("nobody listens"));
        let (mut listener, past) = events.listen().unwrap();
        assert!(past.is_empty());
        events.tell(reloaded);
        assert!(matches!(listener.next().await, Some(Heard::Event(event)) if event.name() == "reloaded"));
        (0..MOST_BEHIND + 5).for_each(|_| events.tell(reloaded));
        assert!(matches!(listener.next().await, Some(Heard::Lagged(5))));
        assert!(matches!(listener.next().await, Some(Heard::Event(_))));
        drop(listener);
        events.tell(|| panic!("nobody listens any more"));
    }

    #[tokio::test]
    async fn the_last_failures_are_there_for_whoever_comes_later() {
        let events = Arc::new(Events::default());
        let failed = |status: u16| Event::Failed {
            code: "x",
            status,
            detail: None,
            user: None,
            pool: None,
            exit: None,
        };
        (0..MOST_PAST as u16 + 5).for_each(|status| events.tell_failure(failed(status)));
        let (mut listener, past) = events.listen().unwrap();
        let statuses = past.iter().map(|(_, event)| match **event {
            Event::Failed { status, .. } => status,
            _ => 0,
        });
        assert_eq!(statuses.collect::<Vec<_>>(), (5..MOST_PAST as u16 + 5).collect::<Vec<_>>());
        events.tell_failure(failed(7));
        assert!(matches!(listener.next().await, Some(Heard::Event(event)) if event.name() == "failed"));
    }

    #[test]
    fn listeners_are_bounded() {
        let events = Arc::new(Events::default());
        let mut all: Vec<_> = (0..MOST_LISTENERS).map(|_| events.listen().unwrap()).collect();
        assert!(events.listen().is_none());
        all.pop();
        assert!(events.listen().is_some());
    }
}
