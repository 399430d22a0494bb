//! The durable fact "this session leaves through this exit until then".
//!
//! Owns: [`Pin`], [`Variant`], and when a pin ends.
//! Must not know: other pins, stores, clocks.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::session::{Filter, SessionId, SessionKey, UserName};
use super::time::{Timestamp, Ttl};

/// An exit's identity across reloads, nodes and restarts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExitName {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The exit's id within the pool.
    pub id: Arc<str>,
}

impl fmt::Display for ExitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.id)
    }
}

/// What makes one exit many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The exit has but one way out.
    #[default]
    None,
    /// An address of a source prefix.
    Address(IpAddr),
    /// The token that fills a vendor's template.
    Token(Arc<str>),
}

impl Variant {
    /// The address that it is, where it is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::None | Self::Token(_) => None,
        }
    }
}

/// A session's pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Whose session it is.
    pub user: UserName,
    /// The session's name, for people.
    pub session: SessionId,
    /// The labels that the session asked for.
    pub filter: Filter,
    /// Through which exit it leaves.
    pub exit: ExitName,
    /// Which of the exit's many.
    pub variant: Variant,
    /// [`Exit::digest`](super::exit::Exit::digest) of the exit when this was
    /// written: another one now means that the exit's `via` changed.
    pub via: u32,
    /// When the session was pinned first.
    pub made: Timestamp,
    /// When it ends at the latest.
    pub expires: Timestamp,
    /// It also ends when it was unused for so long.
    pub idle: Option<Ttl>,
    /// Its last use; kept up to date only where `idle` is set.
    pub used: Timestamp,
    /// For how many seconds the exit's room stays taken after the end
    /// (`reuse_after`).
    pub rest_s: u32,
    /// How often it was moved.
    pub moves: u32,
    /// The last move was to an exit with the same address.
    pub same_address: bool,
    /// Drawn anew at each claim and move, never at a touch, so that a move
    /// can name the pin that it saw.
    pub version: u64,
}

impl Pin {
    /// The session's key.
    pub fn key(&self) -> SessionKey {
        SessionKey::new(&self.user, &self.exit.pool, &self.filter, &self.session)
    }

    /// When it ends if it is not used again.
    pub fn ends(&self) -> Timestamp {
        ends(self.expires, self.idle, self.used)
    }

    /// Whether it is still in force.
    pub fn lives(&self, now: Timestamp) -> bool {
        now < self.ends()
    }

    /// This pin with another expiry: never an earlier one, and at most 168 h
    /// after it was made.
    #[must_use]
    pub fn lasting(&self, expires: Timestamp) -> Self {
        let latest = self.made.plus(Ttl::MAX.as_duration());
        Self { expires: expires.min(latest).max(self.expires), ..self.clone() }
    }

    /// This proposal made at an instant: its whole length is left from then,
    /// however long it waited to be made.
    #[must_use]
    pub fn made_at(self, now: Timestamp) -> Self {
        Self { expires: now.plus(self.expires.since(self.made)), made: now, used: now, ..self }
    }

    /// As it goes on after a restart. A wall clock that was set back while the
    /// gateway was down leaves pins of the future: then at most the pin's
    /// length is left. `None`: nothing is to be changed.
    #[must_use]
    pub fn taken_up(&self, now: Timestamp) -> Option<Self> {
        if self.made <= now && self.used <= now {
            return None;
        }
        let made = self.made.min(now);
        let expires = if self.made > now { now.plus(self.expires.since(self.made)) } else { self.expires };
        Some(Self { made, expires, used: self.used.min(now), ..self.clone() })
    }

    /// How often it was moved, and in the lowest bit whether the last move
    /// kept the address: as pins are stored.
    pub(crate) fn packed_moves(&self) -> u32 {
        self.moves.min(u32::MAX >> 1) << 1 | u32::from(self.same_address)
    }

    /// This pin moved to the exit of `proposal`: the session, its labels and
    /// its times stay; a move is no use, the request that asks for it was
    /// one. `count`: a client has seen the pin, so this is a move that counts.
    #[must_use]
    pub fn moved(&self, proposal: &Self, count: bool) -> Self {
        Self {
            exit: proposal.exit.clone(),
            variant: proposal.variant.clone(),
            via: proposal.via,
            rest_s: proposal.rest_s,
            same_address: proposal.same_address,
            version: proposal.version,
            moves: self.moves.saturating_add(u32::from(count)),
            ..self.clone()
        }
    }
}

/// When a pin ends that expires, idles and was used so. An idle end counts
/// from the last use rounded up to the next second, so that a touch need not
/// be written more than once a second and the end is still never early.
pub fn ends(expires: Timestamp, idle: Option<Ttl>, used: Timestamp) -> Timestamp {
    match idle {
        None => expires,
        Some(idle) => {
            let used = Timestamp::from_ms(used.as_ms().div_ceil(1000).saturating_mul(1000));
            used.plus(idle.as_duration()).min(expires)
        }
    }
}

/// What an answer says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The first success since the pin was made.
    New,
    /// The first success since the pin was moved.
    Moved,
    /// Any other.
    Held,
}

impl News {
    /// The word in `Moorgate-Session`.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Moved => "moved",
            Self::Held => "held",
        }
    }
}
