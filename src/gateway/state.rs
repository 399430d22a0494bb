//! What is kept from one start to the next: pins, and the operator's switches.
//!
//! Owns: opening it, and who hears what the store does: the exits' counts,
//! the gateway's, and whoever listens.
//! Must not know: why a pin comes or goes.

use std::path::PathBuf;
use std::sync::Arc;

use super::StartError;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::core::pin::{ExitName, Pin, Variant};
use crate::core::time::Timestamp;
use crate::observe::events::{self, Event};
use crate::observe::instruments::Instruments;
use crate::serve::Shared;
use crate::state::{Exits, Switches};
use crate::steer::reload::Reloads;
use crate::steer::{self, Steering};
use crate::store::{Damage, Left, PinObserver, Store, StoreConfig};

/// What was kept.
pub(super) struct Kept {
    pub(super) store: Store,
    pub(super) switches: Switches,
    folder: Option<PathBuf>,
}

/// The state folder, where there is one.
pub(super) fn folder(config: &Config) -> Option<PathBuf> {
    match &config.sessions.store {
        config::StoreAt::Memory => None,
        config::StoreAt::Folder(folder) => Some(folder.clone()),
    }
}

/// Opens it, and says what was damaged.
pub(super) async fn open(
    config: &Config,
    clock: &Arc<dyn Clock>,
    exits: &Arc<Exits>,
    instruments: &Arc<Instruments>,
) -> Result<Kept, StartError> {
    let durability = match config.sessions.durability {
        config::Durability::Journal => crate::store::Durability::Journal,
        config::Durability::Fsync => crate::store::Durability::Fsync,
    };
    let observer = Arc::new(Ledger { exits: exits.clone(), instruments: instruments.clone() });
    let (folder, clock) = (folder(config), clock.clone());
    let open = move || {
        let (store, report) =
            Store::open(StoreConfig { folder: folder.clone(), durability }, clock, observer)?;
        let (switches, damaged) = steer::kept(folder.as_deref());
        Ok((Kept { store, switches, folder }, report, damaged))
    };
    let opened = tokio::task::spawn_blocking(open).await;
    let (kept, report, damaged) = opened
        .map_err(|error| {
            let source = std::io::Error::other(error);
            StartError::System { what: "opening the state folder", source }
        })?
        .map_err(StartError::State)?;
    for damage in report.damage.iter().chain(&damaged) {
        log_damage(damage);
        instruments.damage.one();
    }
    tracing::info!(pins = report.pins, ended = report.ended, "state opened");
    Ok(kept)
}

impl Kept {
    /// What acts on it, and on all that is shared.
    pub(super) fn steering(self, shared: &Shared, reloads: Reloads) -> Steering {
        let (state, clock) = (shared.state.clone(), shared.clock.clone());
        let instruments = shared.instruments.clone();
        Steering::new(state, self.store, clock, instruments, reloads, self.folder, self.switches)
    }
}

/// Tells the exits' counts, and whoever listens, what the store does.
struct Ledger {
    exits: Arc<Exits>,
    instruments: Arc<Instruments>,
}

impl PinObserver for Ledger {
    fn loaded(&self, pin: &Pin) {
        self.exits.loaded(pin);
    }

    fn left(&self, pin: &Pin, at: Timestamp, why: Left) {
        self.exits.left(pin, (why == Left::Ended).then_some(at));
        if why == Left::Ended {
            self.instruments.ended.one();
            self.instruments.events.tell(|| Event::SessionEnded(events::Session::of(pin)));
        }
    }

    fn extended(&self, before: &Pin, now: &Pin) {
        self.exits.extended(before, now);
    }

    fn rested(&self, exit: &ExitName, _: &Variant, until: Timestamp) {
        self.exits.rested(exit, until);
    }

    fn damaged(&self, damage: &Damage) {
        log_damage(damage);
        self.instruments.damage.one();
    }
}

/// Says what of the state was lost.
fn log_damage(damage: &Damage) {
    tracing::error!(
        code = "state_damaged",
        file = %damage.file.display(),
        lost = damage.lost.as_str(),
        "state_damaged"
    );
}
