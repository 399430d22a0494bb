//! What is kept from one start to the next: pins, and the operator's switches.
//!
//! Owns: opening it, and who hears what the store does: the counts of exits
//! and users, the gateway's, and whoever listens.
//! Must not know: why a pin comes or goes.

use std::path::PathBuf;
use std::sync::Arc;

use super::StartError;
use crate::admit::limits::tabs::Tabs;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::core::pin::{ExitName, Pin, Variant};
use crate::core::shared::Address;
use crate::core::time::Timestamp;
use crate::observe::events::{self, Event};
use crate::observe::instruments::Instruments;
use crate::state::{Exits, InForce, Switches};
use crate::steer::reload::Reloads;
use crate::steer::{self, Steering};
use crate::store::{Damage, Left, PinObserver, Store, StoreConfig, WhenAway};

/// What was kept.
pub(super) struct Kept {
    pub(super) store: Store,
    pub(super) switches: Switches,
    folder: Option<PathBuf>,
}

/// The state folder, where there is one.
pub(super) fn folder(config: &Config) -> Option<PathBuf> {
    match &config.sessions.store {
        config::StoreAt::Memory | config::StoreAt::Shared(_) => None,
        config::StoreAt::Folder(folder) => Some(folder.clone()),
    }
}

/// Opens it, and says what was damaged.
pub(super) async fn open(
    config: &Config,
    clock: &Arc<dyn Clock>,
    ledger: Ledger,
) -> Result<Kept, StartError> {
    let durability = match config.sessions.durability {
        config::Durability::Journal => crate::store::Durability::Journal,
        config::Durability::Fsync => crate::store::Durability::Fsync,
    };
    let instruments = ledger.instruments.clone();
    let observer = Arc::new(ledger);
    if let config::StoreAt::Shared(address) = &config.sessions.store {
        let store = connect(config, address, clock, observer).await;
        return Ok(Kept { store, switches: Switches::default(), folder: None });
    }
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

async fn connect(config: &Config, address: &Address, clock: &Arc<dyn Clock>, observer: Arc<Ledger>) -> Store {
    let when_away = match config.sessions.store_down {
        config::StoreDown::Refuse => WhenAway::Refuse,
        config::StoreDown::Local => WhenAway::Local,
    };
    let (store, connected) = Store::connect(address.clone(), when_away, clock.clone(), observer).await;
    match connected {
        Ok(()) => tracing::info!(store = %address, "shared store connected"),
        Err(error) => tracing::warn!(store = %address, error, "the shared store cannot be reached yet"),
    }
    store
}

impl Kept {
    /// What acts on it, and on all that is shared.
    pub(super) fn steering(
        self,
        state: Arc<InForce>,
        clock: Arc<dyn Clock>,
        instruments: Arc<Instruments>,
        reloads: Reloads,
    ) -> Steering {
        Steering::new(state, self.store, clock, instruments, reloads, self.folder, self.switches)
    }
}

/// Tells the counts of exits and users, and whoever listens, what the store
/// does.
pub(super) struct Ledger {
    exits: Arc<Exits>,
    tabs: Arc<Tabs>,
    instruments: Arc<Instruments>,
}

impl Ledger {
    /// One that tells these.
    pub(super) fn new(exits: &Arc<Exits>, tabs: &Arc<Tabs>, instruments: &Arc<Instruments>) -> Self {
        Self { exits: exits.clone(), tabs: tabs.clone(), instruments: instruments.clone() }
    }
}

impl PinObserver for Ledger {
    fn loaded(&self, pin: &Pin) {
        self.exits.loaded(pin);
        self.tabs.loaded(pin);
    }

    fn left(&self, pin: &Pin, at: Timestamp, why: Left) {
        self.exits.left(pin, (why == Left::Ended).then_some(at));
        if why != Left::Moved {
            self.tabs.ended(pin);
        }
        if why == Left::Ended {
            self.instruments.ended.one();
            self.instruments.events.tell(|| Event::SessionEnded(events::Session::of(pin)));
        }
    }

    fn extended(&self, before: &Pin, now: &Pin) {
        self.exits.extended(before, now);
        self.tabs.extended(before, now);
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
pub(super) fn log_damage(damage: &Damage) {
    tracing::error!(
        code = "state_damaged",
        file = %damage.file.display(),
        lost = damage.lost.as_str(),
        "state_damaged"
    );
}
