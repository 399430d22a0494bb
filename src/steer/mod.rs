//! What an operator or a session's owner does to sessions and exits.
//!
//! Owns: the acts behind the operator's API and the in-band host: to list,
//! end, move and extend sessions, to report, switch and reset exits, to have
//! files read again. Each is
//! done, and written where it must be, when it is answered.
//! Must not know: how an act is asked for, how its outcome is told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::core::pin::{ExitName, Pin};
use crate::core::time::{Timestamp, Ttl};
use crate::observe::instruments::Instruments;
use crate::state::{InForce, NoExit, Switches};
use crate::store::{Store, StoreFault};

pub(crate) mod exits;
mod keep;
pub(crate) mod reload;
pub(crate) mod reports;
pub(crate) mod sessions;

pub(crate) use keep::kept;
use reload::Reloads;

/// All that acts need.
pub(crate) struct Steering {
    pub(crate) state: Arc<InForce>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) instruments: Arc<Instruments>,
    pub(crate) reloads: Reloads,
    /// When the gateway started.
    pub(crate) started: Timestamp,
    /// The state folder, where there is one.
    folder: Option<PathBuf>,
    /// The switches as they are kept; held while they are written.
    kept: Mutex<Switches>,
}

/// Why an act was not done. Then nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Undone {
    /// No such session lives.
    #[error("no session with this key lives: list the sessions to see those that do")]
    SessionUnknown,
    /// No pool has this name.
    #[error("there is no pool {0}: list the pools to see their names")]
    PoolUnknown(String),
    /// The pool has no exit with this id.
    #[error("there is no exit {0}: list the exits to see their ids")]
    ExitUnknown(ExitName),
    /// The named exit does not have what the session asked for.
    #[error("exit {exit} does not have the session's labels ({labels}): name one that has")]
    ExitUnfit {
        /// The exit.
        exit: ExitName,
        /// What the session asked for.
        labels: String,
    },
    /// There is no exit to move to.
    #[error("the session stays on its exit, which counts as failed here: {0}")]
    NoExit(NoExit),
    /// The session would last too long.
    #[error(
        "a session lasts 168h from its making at most: this one can be extended by {} now",
        .most.map_or_else(|| "nothing more".to_owned(), |most| most.to_string())
    )]
    TooLong {
        /// The longest ttl from now.
        most: Option<Ttl>,
    },
    /// The session's exit does not hold an address for so long.
    #[error("exit {exit} holds an address for {max_ttl} at most: move the session to another one first")]
    ExitTooShort {
        /// The exit.
        exit: ExitName,
        /// How long it does.
        max_ttl: Ttl,
    },
    /// Others changed the session again and again meanwhile.
    #[error("the session was changed by others at the same time: try again")]
    Contended,
    /// The store cannot keep it.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The switch cannot be kept in the state folder.
    #[error("the switch cannot be written to the state folder ({0}): mend the disk, then try again")]
    NotKept(String),
}

impl Steering {
    /// Over a gateway's parts; `switches` are those that were kept in
    /// `folder`.
    pub(crate) fn new(
        state: Arc<InForce>,
        store: Store,
        clock: Arc<dyn Clock>,
        instruments: Arc<Instruments>,
        reloads: Reloads,
        folder: Option<PathBuf>,
        switches: Switches,
    ) -> Self {
        let started = clock.now();
        Self { state, store, clock, instruments, reloads, started, folder, kept: Mutex::new(switches) }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The address that origins see of a pin, when it is known.
    pub(crate) fn address_of(&self, pin: &Pin) -> Option<IpAddr> {
        let snapshot = self.state.snapshot();
        let pool = snapshot.pool(&pin.exit.pool);
        let known = pool.and_then(|pool| pool.address_of(&pin.exit.id, &pin.variant));
        pin.variant.address().or(known)
    }

    /// An instant of the gateway's clock as the wall clock has it now, in ms
    /// since the Unix epoch.
    pub(crate) fn wall_ms(&self, at: Timestamp) -> u64 {
        // The two are read one after the other: what is less than a step of
        // the clock is that, and would make an instant look different each
        // time.
        let ahead = self.clock.wall().as_ms().wrapping_sub(self.now().as_ms()) as i64;
        at.as_ms().saturating_add_signed((ahead + 50).div_euclid(100) * 100)
    }
}

/// An instant of the wall clock, in ms since the Unix epoch, as people write
/// it (RFC 3339).
pub(crate) fn wall(ms: u64) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    humantime::format_rfc3339_millis(at.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}
