//! One pin of one session from its making to its end, as clients may know it.

use std::fmt;
use std::net::IpAddr;

use moorgate::core::pin::{ExitName, News, Pin, Variant};

use super::disk::Time;

/// Whose session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    pub user: String,
    pub pool: String,
    pub filter: String,
    pub session: String,
}

impl Who {
    /// Of a pin.
    pub fn of(pin: &Pin) -> Self {
        Self {
            user: pin.user.to_string(),
            pool: pin.exit.pool.to_string(),
            filter: pin.filter.to_string(),
            session: pin.session.to_string(),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}[{}]/{}", self.user, self.pool, self.filter, self.session)
    }
}

/// One pin at one exit: which life of a session, which stretch of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub life: usize,
    pub leg: usize,
}

/// An instant that is known so well.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub from: Time,
    pub to: Time,
}

impl Window {
    pub fn at(t: Time) -> Self {
        Self { from: t, to: t }
    }

    pub fn plus(self, ms: u64) -> Self {
        Self { from: self.from + ms, to: self.to + ms }
    }

    pub fn min(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.min(other.to) }
    }

    /// Anything between these shifts may have happened to it.
    pub fn shifted(self, by: (i64, i64)) -> Self {
        Self { from: self.from.saturating_add_signed(by.0), to: self.to.saturating_add_signed(by.1) }
    }
}

/// A stretch of a life at one exit.
#[derive(Debug)]
pub struct Leg {
    pub exit: ExitName,
    pub variant: Variant,
    pub via: u32,
    /// What the record of it is known by.
    pub version: u64,
    pub address: Option<IpAddr>,
    /// When a success through it was answered first.
    pub shown: Option<Time>,
    /// What the next success has to say, if not `held`.
    pub owed: Option<News>,
    /// When it came there: which step, and when.
    pub came: (u64, Time),
}

impl Leg {
    /// As this pin says; an exit's known address is its own.
    pub fn new(pin: &Pin, address: Option<IpAddr>, owed: Option<News>) -> Self {
        Self {
            exit: pin.exit.clone(),
            variant: pin.variant.clone(),
            via: pin.via,
            version: pin.version,
            address: pin.variant.address().or(address),
            shown: None,
            owed,
            came: (0, 0),
        }
    }
}

/// From the making of a pin to its end.
#[derive(Debug)]
pub struct Life {
    pub ttl_ms: u64,
    pub idle_ms: Option<u64>,
    pub expires: Window,
    pub used: Window,
    /// Uses since the last death, and when their success was answered.
    pub uses: Vec<(u64, Time, Option<Time>)>,
    pub legs: Vec<Leg>,
    pub said_new: bool,
    pub ended: Option<Ended>,
    /// The session's life before, which is back if this one never was.
    pub before: Option<usize>,
    /// It has seen a death of the gateway.
    pub crashed: bool,
    /// It was over when the gateway died, and a clock that was set back may
    /// have brought it back.
    pub doubtful: bool,
}

#[derive(Debug)]
pub struct Ended {
    pub told: Option<Time>,
}

impl Life {
    /// Begins with a pin of this session; after which life of it.
    pub fn new(pin: &Pin, address: Option<IpAddr>, before: Option<usize>, now: Time) -> Self {
        Self {
            ttl_ms: 0,
            idle_ms: pin.idle.map(|idle| u64::from(idle.as_secs()) * 1000),
            expires: Window::at(now),
            used: Window::at(now),
            uses: Vec::new(),
            legs: vec![Leg::new(pin, address, Some(News::New))],
            said_new: false,
            ended: None,
            before,
            crashed: false,
            doubtful: false,
        }
    }

    pub fn ends(&self) -> Window {
        match self.idle_ms {
            Some(idle) => self.used.plus(idle).min(self.expires),
            None => self.expires,
        }
    }

    /// Whether it must be in force.
    pub fn lives(&self, now: Time) -> bool {
        self.ended.is_none() && !self.doubtful && now < self.ends().from
    }

    /// How late its end may be.
    pub fn slack(&self) -> u64 {
        if self.idle_ms.is_some() && self.crashed { 5000 } else { 1000 }
    }

    /// Whether a success through it was answered before.
    pub fn was_seen(&self, before: Time) -> bool {
        self.legs.iter().any(|leg| leg.shown.is_some_and(|shown| shown < before))
    }

    pub fn leg(&self) -> &Leg {
        self.legs.last().expect("a life has a leg")
    }
}
