//! What the request of a session does next when its exit fails it.
//!
//! Owns: [`Course`], every decision of promises 2 and 6: whether the same
//! exit is dialled again, another one taken, the session moved, or the
//! request given up; and how often each of them.
//! Must not know: how an exit is chosen or dialled, where pins are kept.

use std::fmt;

use super::fault::Blame;
use super::pins::Only;
use super::pool::{AddressChange, Failover};
use super::time::Timestamp;

/// Why an exit that was named cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is in no pool any more.
    Gone,
    /// Its operator has set it to `off`.
    Off,
    /// It was ejected after failures.
    Ejected {
        /// Until when, at least.
        until: Timestamp,
    },
    /// Its ejection is over and another request tries it: what comes of that
    /// is to be awaited.
    OnTrial,
    /// It carries as many connections as it may.
    Busy,
}

impl Closed {
    /// Whether the exit is down: its pins move if they may.
    pub fn is_down(self) -> bool {
        !matches!(self, Self::Busy | Self::OnTrial)
    }
}

/// As the end of a sentence that begins with the exit's name.
impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "is no longer in the pool",
            Self::Off => "is off",
            Self::Ejected { .. } => "was ejected after failures in a row",
            Self::OnTrial => "is tried by another request after its ejection",
            Self::Busy => "carries as many connections as it may (max_connections)",
        })
    }
}

/// Why a session has lost its exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// The exit is gone, off or ejected.
    Closed(Closed),
    /// A vendor's gateway refuses the session's token.
    TokenLost,
    /// Origins see another address of the exit than when it was pinned.
    Readdressed,
}

/// A dial that failed, and where that leaves the exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose doing it was.
    pub blame: Blame,
    /// Until when the exit is ejected, by this failure or another's.
    pub ejected_until: Option<Timestamp>,
    /// The pin's token is lost.
    pub token_lost: bool,
}

impl Failure {
    /// Whether another dial may help. Silence is the target's doing until the
    /// exit was ejected for it.
    pub fn is_exits(&self) -> bool {
        match self.blame {
            Blame::Exit | Blame::Token | Blame::Full => true,
            Blame::Target => false,
            Blame::Silence => self.ejected_until.is_some(),
        }
    }

    /// What a session on the exit has lost by it.
    pub fn down(&self) -> Option<Down> {
        match self.ejected_until {
            _ if !self.is_exits() || self.blame == Blame::Full => None,
            _ if self.token_lost => Some(Down::TokenLost),
            Some(until) => Some(Down::Closed(Closed::Ejected { until })),
            None => None,
        }
    }
}

/// What follows a failed dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The request fails with what the dial said; the pin stays.
    GiveUp,
    /// The pin's exit is dialled again.
    Again,
    /// No client has seen the pin: another exit takes its place.
    Other,
    /// No client has seen the pin: another token takes its place.
    Renew,
    /// The session leaves the exit, if [`Course::leave`] lets it.
    Leave(Down),
}

/// How a session leaves its exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It keeps the exit and gets another token.
    Renew(Only),
    /// It moves to another exit.
    Move {
        /// To a sibling or not at all.
        siblings_only: bool,
        /// Whether it may move although a client has seen its pin.
        only: Only,
    },
}

/// Why a session does not leave an exit that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// The request names the exit.
    Named,
    /// Failover is off.
    Off,
    /// The address behind its exit has changed, and that is not to pass
    /// unnoticed.
    Readdressed,
    /// The request has moved it as often as it may.
    Enough,
}

/// One request of a session on its way out.
#[derive(Clone, Debug)]
pub struct Course {
    attempts: u32,
    failover: Failover,
    named: bool,
    /// Dials since the request began or left an exit.
    dials: u32,
    moves: u32,
    turns: u32,
}

impl Course {
    /// Of a request that may cost so many dials on one exit (or, before any
    /// success was answered, on several). `named`: it wants that exit alone.
    pub fn new(attempts: u32, failover: Failover, named: bool) -> Self {
        Self { attempts, failover, named, dials: 0, moves: 0, turns: 0 }
    }

    /// Before each look at the pin: whether to go on. Every turn dials, moves
    /// or finds that another request has moved the session; where others do
    /// so all the time, it ends here.
    pub fn turn(&mut self) -> bool {
        self.turns += 1;
        self.turns <= self.attempts.saturating_mul(4).max(8)
    }

    /// A dial begins.
    pub fn dial(&mut self) {
        self.dials += 1;
    }

    /// What follows a failed dial. `fresh`: no success was answered through
    /// the pin.
    pub fn after(&mut self, fresh: bool, failure: &Failure) -> Next {
        let used_up = self.dials >= self.attempts;
        if !failure.is_exits() {
            return Next::GiveUp;
        }
        if fresh && !self.named {
            return match failure.blame {
                _ if used_up => Next::GiveUp,
                Blame::Token => Next::Renew,
                _ => Next::Other,
            };
        }
        match failure.down() {
            Some(down) => Next::Leave(down),
            // At once it has no more room than before.
            None if failure.blame == Blame::Full => Next::GiveUp,
            None if used_up => Next::GiveUp,
            None => Next::Again,
        }
    }

    /// What follows [`Next::Other`] where there is no other exit.
    pub fn without_other(&self, failure: &Failure) -> Next {
        match failure.blame {
            Blame::Full => Next::GiveUp,
            _ if failure.ejected_until.is_some() => Next::GiveUp,
            _ => Next::Again,
        }
    }

    /// What a session does whose exit has another address than when it was
    /// pinned. `None`: it stays. A pin that no client has seen promises no
    /// address, and a request that names the exit wants that one whatever its
    /// address.
    pub fn readdressed(&self, fresh: bool, change: AddressChange) -> Option<Result<Down, Stays>> {
        if fresh || self.named {
            return None;
        }
        match change {
            AddressChange::Ignore => None,
            AddressChange::Move => Some(Ok(Down::Readdressed)),
            AddressChange::Fail => Some(Err(Stays::Readdressed)),
        }
    }

    /// How the session leaves an exit that is down; the dials of the next one
    /// are counted anew.
    ///
    /// # Errors
    /// Why it stays, and the request fails.
    pub fn leave(&mut self, fresh: bool, down: Down) -> Result<Leave, Stays> {
        self.dials = 0;
        let failover = if fresh { Failover::On } else { self.failover };
        if self.named {
            return Err(Stays::Named);
        }
        if failover == Failover::Off {
            return Err(Stays::Off);
        }
        if self.moves >= self.attempts {
            return Err(Stays::Enough);
        }
        self.moves += 1;
        // Another request may answer the first success at this very moment.
        let only = if fresh && self.failover != Failover::On { Only::Fresh } else { Only::Anyhow };
        if down == Down::TokenLost && failover == Failover::On {
            return Ok(Leave::Renew(only));
        }
        Ok(Leave::Move { siblings_only: failover == Failover::Address, only })
    }
}

#[cfg(test)]
mod tests;
