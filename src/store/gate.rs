//! Whether the map may be changed, while the state goes to another process.
//!
//! Owns: [`Gate`]: open; shut for a moment, when changes wait; handed over,
//! when another process is to be asked.
//! Must not know: what is changed.

use tokio::sync::watch;

use super::StoreFault;

/// What every change passes.
#[derive(Debug)]
pub(super) struct Gate(watch::Sender<Passage>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Open,
    Shut,
    HandedOver,
}

impl Gate {
    /// An open one.
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Passage::Open))
    }

    /// Waits while it is shut, for as long as whoever shut it needs.
    pub(super) async fn pass(&self) -> Result<(), StoreFault> {
        let passage = *self.0.borrow();
        let passage = match passage {
            Passage::Shut => {
                let mut changes = self.0.subscribe();
                // The sender is ours, so it is there.
                changes.wait_for(|passage| *passage != Passage::Shut).await.map_or(Passage::Shut, |p| *p)
            }
            passage => passage,
        };
        if passage == Passage::HandedOver { Err(StoreFault::HandedOver) } else { Ok(()) }
    }

    /// Fails where another process is to be asked; does not wait.
    pub(super) fn check(&self) -> Result<(), StoreFault> {
        if *self.0.borrow() == Passage::HandedOver { Err(StoreFault::HandedOver) } else { Ok(()) }
    }

    /// Ready once it is not open.
    pub(super) async fn no_longer_open(&self) {
        // The sender is ours, so it is there.
        let _ = self.0.subscribe().wait_for(|passage| *passage != Passage::Open).await;
    }

    /// Changes wait from now on.
    pub(super) fn shut(&self) {
        self.0.send_replace(Passage::Shut);
    }

    /// Changes pass again.
    pub(super) fn open(&self) {
        self.0.send_replace(Passage::Open);
    }

    /// Changes fail from now on: they are another process's.
    pub(super) fn hand_over(&self) {
        self.0.send_replace(Passage::HandedOver);
    }
}
