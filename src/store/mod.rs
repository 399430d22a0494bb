//! Pins: atomic, durable, shared.
//!
//! Owns: [`Store`] and what it promises (SPEC §3, promises 2, 3, 5 and 9):
//!
//! - A claim is decided once. All who ask for a key at the same time get the
//!   same pin; one of them has `won`.
//! - What a client has been shown is on disk. Whoever shows a pin awaits its
//!   [`Receipt`] first: the winner, a claim's loser, and the reader of a pin
//!   made a moment ago.
//! - What the disk refuses has not happened: the pin is taken out of the map
//!   again, the receipt fails, and live pins go on being held.
//! - A damaged record costs only itself; the start goes on and says what was
//!   lost ([`OpenReport`]).
//!
//! Must not know: exits' health, clients, requests.

mod bytes;
mod change;
pub(crate) mod days;
mod disk;
mod engine;
mod epoch;
mod folder;
mod gate;
mod journal;
mod list;
mod load;
mod local;
mod pen;
mod record;
mod rescue;
mod shared;
mod terms;
mod undo;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use self::shared::WhenAway;
pub use self::shared::rooms::Reserved;
pub use self::terms::{
    Claim, Damage, Durability, Left, OpenReport, Page, PinObserver, Receipt, StoreConfig, StoreError,
    StoreFault,
};

use self::local::Local;
use self::shared::Shared;
use crate::clock::Clock;
use crate::core::pin::{ExitName, News, Pin};
pub use crate::core::pins::Glance;
use crate::core::pins::Only;
use crate::core::session::SessionKey;
use crate::core::shared::Address;
use crate::core::time::Timestamp;

/// All pins of a gateway. Clones are the same store; the last one closes it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Handle>);

#[derive(Debug)]
enum Handle {
    /// In memory, with a disk behind it or none.
    Local(Arc<Local>),
    /// In a store that other gateways use as well.
    Shared(Arc<Shared>),
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Self::Local(local) = self {
            local.begin_close();
        }
    }
}

impl Store {
    /// Opens the store and reads every pin. Blocks; for the start.
    pub fn open(
        config: StoreConfig,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn PinObserver>,
    ) -> Result<(Self, OpenReport), StoreError> {
        let (local, report) = load::open(config, clock, observer)?;
        Ok((Self(Arc::new(Handle::Local(local))), report))
    }

    /// A store that other gateways use as well. Connects once; a store that
    /// cannot be reached keeps no gateway from starting ([`Store::keep`] goes
    /// on trying), and is told of.
    pub async fn connect(
        address: Address,
        when_away: WhenAway,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn PinObserver>,
    ) -> (Self, Result<(), String>) {
        let shared = Shared::new(address, when_away, clock, observer);
        let connected = shared.try_connect().await;
        (Self(Arc::new(Handle::Shared(shared))), connected)
    }

    /// Whether other gateways use it as well.
    pub fn is_shared(&self) -> bool {
        matches!(*self.0, Handle::Shared(_))
    }

    /// The key's live pin, for a request that uses it now. Of a shared store
    /// `None` may mean that this gateway does not know: a claim tells, or
    /// [`Store::find`].
    pub async fn hold(&self, key: SessionKey) -> Result<Option<Claim>, StoreFault> {
        match &*self.0 {
            Handle::Local(local) => local.hold(key).await,
            // Boxed, here and below, where every request would have to make
            // room for what only such a store needs.
            Handle::Shared(shared) => Box::pin(shared.hold(key)).await,
        }
    }

    /// The key's live pin, whichever gateway made it; no use is counted.
    pub async fn find(&self, key: SessionKey) -> Result<Option<Claim>, StoreFault> {
        match &*self.0 {
            Handle::Local(local) => Ok(local.look(key)),
            Handle::Shared(shared) => Box::pin(shared.find(key)).await,
        }
    }

    /// The key's live pin, for a request that used it when it began; of a
    /// shared store, as far as this gateway knows.
    pub fn look(&self, key: SessionKey) -> Option<Claim> {
        match &*self.0 {
            Handle::Local(local) => local.look(key),
            Handle::Shared(shared) => shared.look(key),
        }
    }

    /// The key's live pin, to look at: no use is counted. Of a shared store,
    /// as far as this gateway knows.
    pub fn peek(&self, key: SessionKey) -> Option<Pin> {
        match &*self.0 {
            Handle::Local(local) => local.peek(key),
            Handle::Shared(shared) => shared.peek(key),
        }
    }

    /// Reserves what a claim or move to this exit takes of it on all
    /// gateways: one of at most so many places (0: any number), and the
    /// address of a prefix. `None`: another gateway has taken them. Costs
    /// nothing where there is no limit and no prefix, or no other gateway.
    pub async fn reserve(
        &self,
        key: SessionKey,
        proposal: &Pin,
        most: u32,
    ) -> Result<Option<Reserved>, StoreFault> {
        match &*self.0 {
            Handle::Local(_) => Ok(Some(Reserved::nothing(key))),
            Handle::Shared(shared) => shared.reserve(key, proposal, most).await,
        }
    }

    /// Pins the key to what is proposed unless a pin lives. The proposal's
    /// version is drawn here.
    pub async fn claim(&self, key: SessionKey, proposal: Pin) -> Result<Claim, StoreFault> {
        match &*self.0 {
            Handle::Local(local) => local.claim(key, proposal).await,
            Handle::Shared(shared) => shared.claim(key, proposal).await,
        }
    }

    /// Moves the key's pin to the proposal's exit, variant and `via` if its
    /// version is still `seen`; else the claim is not `won` and shows the pin
    /// as it is. Times, session and labels are kept. `None`: no pin lives any
    /// more, and what was proposed for the rest of its time need not be right
    /// for a new one.
    pub async fn repin(
        &self,
        key: SessionKey,
        seen: u64,
        only: Only,
        proposal: Pin,
    ) -> Result<Option<Claim>, StoreFault> {
        match &*self.0 {
            Handle::Local(local) => local.repin(key, seen, only, proposal).await,
            Handle::Shared(shared) => shared.repin(key, seen, only, proposal).await,
        }
    }

    /// A claim whose exit failed is [`contested`](Claim::contested): waits
    /// until it is known what becomes of it, which takes less than 1.2 s, and
    /// says how it is then. At once for every other claim.
    pub async fn resolve(&self, key: SessionKey, claim: Claim) -> Claim {
        match &*self.0 {
            Handle::Shared(shared) if claim.contested => {
                shared.resolve(key, claim.pin.version).await;
                shared.look(key).unwrap_or(claim)
            }
            _ => claim,
        }
    }

    /// Makes the key's pin last until `expires` at least (never less long, at
    /// most 168 h from its making) if its version is still `seen`; else the
    /// claim is not `won`. It is back when that is written. `None`: no pin
    /// lives.
    pub async fn extend(
        &self,
        key: SessionKey,
        seen: u64,
        expires: Timestamp,
    ) -> Result<Option<Claim>, StoreFault> {
        match &*self.0 {
            Handle::Local(local) => local.extend(key, seen, expires).await,
            Handle::Shared(shared) => shared.extend(key, seen, expires).await,
        }
    }

    /// Ends the key's pin, and is back when that is written.
    pub async fn end(&self, key: SessionKey) -> Result<Option<Pin>, StoreFault> {
        match &*self.0 {
            Handle::Local(local) => local.end(key).await,
            Handle::Shared(shared) => shared.end(key).await,
        }
    }

    /// A success through this version of the pin is about to be answered:
    /// what it says. Once for each making and move it is not `Held`. `None`:
    /// the pin was moved or ended since; the caller looks again.
    pub async fn announce(&self, key: SessionKey, version: u64) -> Option<News> {
        match &*self.0 {
            Handle::Local(local) => local.announce(key, version),
            Handle::Shared(shared) => Box::pin(shared.announce(key, version)).await,
        }
    }

    /// How many pins there are; of a shared store, how many this gateway
    /// knows.
    pub fn len(&self) -> usize {
        match &*self.0 {
            Handle::Local(local) => local.len(),
            Handle::Shared(shared) => shared.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every live pin that this gateway knows, for lists; a shard at a time,
    /// so not of one instant.
    pub fn each(&self, f: impl FnMut(&Pin)) {
        match &*self.0 {
            Handle::Local(local) => local.each(f),
            Handle::Shared(shared) => shared.each(f),
        }
    }

    /// Live pins that fit, in an order of the store's own that does not
    /// change: at most `most`, from behind `after` on. A pin that lives all
    /// the while is met exactly once by going from page to page, whatever
    /// comes and goes between them.
    pub async fn page(
        &self,
        after: Option<SessionKey>,
        most: usize,
        fits: impl Fn(&Glance<'_>) -> bool + Send + Sync,
    ) -> Page {
        match &*self.0 {
            Handle::Local(local) => local.page(after, most, fits).await,
            Handle::Shared(shared) => shared.page(after, most, fits).await,
        }
    }

    /// Looks at every live pin, not of one instant; one may be met twice.
    pub async fn survey(&self, f: impl FnMut(&Glance<'_>) + Send) {
        match &*self.0 {
            Handle::Local(local) => local.survey(f).await,
            Handle::Shared(shared) => shared.survey(f).await,
        }
    }

    /// Whether new pins cannot be kept at the moment.
    pub fn is_refusing(&self) -> bool {
        match &*self.0 {
            Handle::Local(local) => local.is_refusing(),
            Handle::Shared(shared) => shared.is_away(),
        }
    }

    /// How many pins each of these exits holds on all gateways; `None`: only
    /// this gateway's count, or it cannot be said.
    pub async fn counts(&self, exits: &[ExitName]) -> Option<Vec<u32>> {
        match &*self.0 {
            Handle::Local(_) => None,
            Handle::Shared(shared) => shared.counts(exits).await,
        }
    }

    /// How many changes wait to be written, and how many to be synced.
    pub fn waiting(&self) -> (u64, u64) {
        match &*self.0 {
            Handle::Local(local) => local.disk().map(|disk| disk.waiting()).unwrap_or_default(),
            Handle::Shared(_) => (0, 0),
        }
    }

    /// Takes out what has ended. [`Store::keep`] does it.
    pub async fn sweep(&self) {
        match &*self.0 {
            Handle::Local(local) => local.sweep().await,
            Handle::Shared(shared) => shared.sweep(),
        }
    }

    /// Writes down how far the wall clock was stepped from the gateway's, if
    /// by more than 100 ms since it was last. [`Store::keep`] does it.
    pub fn note_clock(&self) {
        if let Handle::Local(local) = &*self.0 {
            local.note_clock();
        }
    }

    /// The store's housekeeping; never ends. To be spawned once; it may be
    /// dropped at any time.
    pub async fn keep(&self) {
        let tidy = async {
            let mut tick = tokio::time::interval(Duration::from_millis(250));
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                self.note_clock();
                self.sweep().await;
            }
        };
        match &*self.0 {
            Handle::Local(_) => tidy.await,
            Handle::Shared(shared) => drop(tokio::join!(tidy, shared.keep())),
        }
    }

    /// Writes and syncs what waits and lets go of the state folder, so that
    /// another process can open it. Pins that are known are held on meanwhile;
    /// whatever would be written waits, until [`Store::take_back`] or
    /// [`Store::hand_over`].
    ///
    /// # Errors
    /// The disk refuses, or hangs: nothing has changed.
    pub async fn let_go(&self) -> Result<(), StoreFault> {
        match &*self.0 {
            Handle::Local(local) => local.let_go().await,
            // A shared store has room for both.
            Handle::Shared(shared) => {
                shared.close().await;
                Ok(())
            }
        }
    }

    /// The other process does not have the folder after all: it is opened
    /// again, and what waits goes on.
    pub fn take_back(&self) {
        if let Handle::Local(local) = &*self.0 {
            local.take_back();
        }
    }

    /// The other process has it for good: what waits, and all that comes,
    /// fails with [`StoreFault::HandedOver`].
    pub fn hand_over(&self) {
        if let Handle::Local(local) = &*self.0 {
            local.hand_over();
        }
    }

    /// Writes and syncs what waits, and closes the files. Later claims fail.
    pub async fn close(&self) {
        match &*self.0 {
            Handle::Local(local) => local.close().await,
            Handle::Shared(shared) => shared.close().await,
        }
    }
}
