//! What a store and those who ask it tell each other.
//!
//! Owns: a claim and its receipt, faults, what opening found, who hears of
//! pins.
//! Must not know: how pins are kept.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::epoch::Receipt as DiskReceipt;
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::pin::{ExitName, Pin, Variant};
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;

/// Where pins are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreConfig {
    /// The state folder; `None` keeps pins in memory alone.
    pub folder: Option<PathBuf>,
    /// When a pin counts as written.
    pub durability: Durability,
}

/// When a pin counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the kernel has it: it survives the gateway's death. The disk has
    /// it at most 50 ms later.
    #[default]
    Journal,
    /// When the disk has it: it survives loss of power.
    Fsync,
}

/// A key's pin as a request gets it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The pin in force.
    pub pin: Pin,
    /// It is what this call proposed.
    pub won: bool,
    /// No success was answered yet since it was made.
    pub fresh: bool,
    /// Another gateway made it and dials its exit as well, and may yet choose
    /// another one: see `Store::resolve`.
    pub contested: bool,
    /// To be awaited before the pin is shown to anybody.
    pub receipt: Receipt,
}

/// Tells when a pin is as durable as configured.
#[derive(Clone, Debug)]
#[must_use = "a pin must not be shown before it is written"]
pub struct Receipt(pub(super) Option<DiskReceipt>);

impl Receipt {
    /// Waits until the pin is written; at once if it was long ago.
    pub async fn settled(&self) -> Result<(), StoreFault> {
        match &self.0 {
            None => Ok(()),
            Some(receipt) => receipt.settled().await,
        }
    }

    /// Whether there is nothing to wait for.
    pub fn is_settled(&self) -> bool {
        self.0.as_ref().is_none_or(DiskReceipt::is_written)
    }
}

/// A part of a list of pins.
#[derive(Debug, Default)]
pub struct Page {
    /// In the list's order.
    pub pins: Vec<(SessionKey, Pin)>,
    /// There are more, behind the last of these.
    pub more: bool,
}

/// The store does not do what was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// It cannot keep what it was given.
    #[error("new sessions cannot be written to disk at the moment; sessions that exist go on")]
    Refused,
    /// The shared store is out of reach, or refuses.
    #[error("the store of sessions cannot be reached at the moment; sessions that this gateway knows go on")]
    Away,
    /// Another process has the pins now: it is to be asked.
    #[error("this gateway has been replaced by a new one: ask again, and it will answer")]
    HandedOver,
}

impl From<StoreFault> for Fault {
    fn from(fault: StoreFault) -> Self {
        let code = match fault {
            StoreFault::Refused | StoreFault::Away => Code::StoreUnavailable,
            StoreFault::HandedOver => Code::Draining,
        };
        Self::new(code, fault.to_string()).retry_after(Duration::from_secs(1))
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another gateway has the folder.
    #[error("the state folder {} is in use by another gateway; give this one a folder of its own", .0.display())]
    InUse(PathBuf),
    /// The folder cannot be read or written.
    #[error("the state folder {} cannot be used: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database cannot be opened, nor made anew.
    #[error("the database in the state folder {} cannot be opened: {why}", path.display())]
    Database {
        /// The folder.
        path: PathBuf,
        /// What the engine said.
        why: String,
    },
}

/// What opening found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Live pins.
    pub pins: usize,
    /// Pins that ended while the gateway was down.
    pub ended: usize,
    /// What was damaged, to be logged as `state_damaged` and counted.
    pub damage: Vec<Damage>,
}

/// State that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file or folder.
    pub file: PathBuf,
    /// What was lost, and where the damaged bytes are kept.
    pub lost: String,
}

/// Hears which exits pins hold, so that others can keep counts. Called
/// without locks, from any thread; it must not block.
pub trait PinObserver: Send + Sync {
    /// At start: the pin lives. Later: the disk refused to end or move it, so
    /// it holds this exit again.
    fn loaded(&self, pin: &Pin);
    /// The pin holds this exit no more.
    fn left(&self, pin: &Pin, at: Timestamp, why: Left);
    /// At start: room of this exit stays taken by a pin that ended.
    fn rested(&self, exit: &ExitName, variant: &Variant, until: Timestamp) {
        let _ = (exit, variant, until);
    }
    /// The pin holds its exit until another instant than before.
    fn extended(&self, before: &Pin, now: &Pin) {
        let _ = (before, now);
    }
    /// Damage was found while running, when a disk came back.
    fn damaged(&self, damage: &Damage) {
        let _ = damage;
    }
}

/// Why a pin left an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It ended; the exit's room rests for the pin's `rest_s` from then on.
    Ended,
    /// It moved to another exit.
    Moved,
    /// The disk refused the claim or move that had brought it here, so it
    /// never was.
    Undone,
}
