//! Files read again on demand.
//!
//! Owns: how one asks for it, and what came of the last time.
//! Must not know: what is read.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};

use crate::core::time::Timestamp;

/// The most who may wait for the next reload.
const MOST_WAITING: usize = 64;

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// When it was.
    pub(crate) at: Timestamp,
    /// What was wrong: then what was in force before stays so.
    pub(crate) findings: Vec<String>,
    /// Pools that are in force now.
    pub(crate) pools: usize,
}

/// Somebody who waits for a reload's outcome.
pub(crate) type Waiting = oneshot::Sender<Arc<Outcome>>;

/// Asks for reloads.
#[derive(Clone, Debug)]
pub(crate) struct Reloads {
    asks: mpsc::Sender<Option<Waiting>>,
    last: Arc<ArcSwapOption<Outcome>>,
}

/// Hears who asks for a reload.
#[derive(Debug)]
pub(crate) struct Asked(mpsc::Receiver<Option<Waiting>>);

/// The two ends.
pub(crate) fn reloads() -> (Reloads, Asked) {
    let (asks, asked) = mpsc::channel(MOST_WAITING);
    (Reloads { asks, last: Arc::default() }, Asked(asked))
}

impl Reloads {
    /// Asks, and does not wait. Where many wait already, it is as good.
    pub(crate) fn ask(&self) {
        let _ = self.asks.try_send(None);
    }

    /// Asks and waits for what comes of it. `None`: too many wait, or the
    /// gateway ends.
    pub(crate) async fn ask_and_wait(&self) -> Option<Arc<Outcome>> {
        let (waiting, outcome) = oneshot::channel();
        self.asks.try_send(Some(waiting)).ok()?;
        outcome.await.ok()
    }

    /// What came of the last one, whoever asked, also of changed files.
    pub(crate) fn last(&self) -> Option<Arc<Outcome>> {
        self.last.load_full()
    }

    /// Remembers an outcome.
    pub(crate) fn note(&self, outcome: Arc<Outcome>) {
        self.last.store(Some(outcome));
    }
}

impl Asked {
    /// Waits for the next who asks, and takes along all who wait by then: one
    /// reload is theirs.
    pub(crate) async fn next(&mut self) -> Vec<Waiting> {
        let Some(first) = self.0.recv().await else { return std::future::pending().await };
        let mut all: Vec<_> = first.into_iter().collect();
        while let Ok(more) = self.0.try_recv() {
            all.extend(more);
        }
        all
    }
}
