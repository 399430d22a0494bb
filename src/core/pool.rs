//! A named set of exits, and the snapshot of all of them.
//!
//! Owns: [`Pool`], [`Pools`], how names are found.
//! Must not know: files, live counters, which exit is chosen.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::exit::{Exit, Mode};
use super::policy::TargetPolicy;
use super::probe::Probe;
use super::time::Ttl;

/// How an exit is chosen for a request without a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// Each once a round, weighted.
    #[default]
    RoundRobin,
    /// Drawn by weight.
    Random,
    /// The one with the fewest connections for its weight.
    LeastConnections,
}

/// How an exit is chosen for a new pin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Of two drawn by weight, the one with fewer pins for its weight.
    #[default]
    LeastSessions,
    /// Drawn by weight.
    Random,
    /// By consistent hashing of the session key.
    Rendezvous,
}

/// What happens when a pinned exit is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// The session moves: to a sibling first, then to any other.
    #[default]
    On,
    /// The request fails; the pin stays.
    Off,
    /// The session moves to a sibling or not at all.
    Address,
}

impl Failover {
    /// The word in usernames and files.
    pub fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Address => "address",
        }
    }
}

/// What makes a session where the client names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Nothing: each request rotates.
    #[default]
    None,
    /// The client's address.
    ClientIp,
    /// The user.
    User,
    /// The target's registrable domain.
    Target,
    /// Both.
    ClientIpAndTarget,
}

/// Bounds and defaults of sessions. The narrowest maximum of gateway, user
/// and pool wins, and the widest minimum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionBounds {
    /// The ttl of a session that names none.
    pub default_ttl: Option<Ttl>,
    /// No ttl below this.
    pub min_ttl: Option<Ttl>,
    /// No ttl above this.
    pub max_ttl: Option<Ttl>,
    /// The idle time of a session that names none.
    pub idle: Option<Ttl>,
}

/// When an exit is taken out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// So many failures in a row eject an exit; 0: never.
    pub eject_after: u32,
    /// For how long.
    pub eject_for: Duration,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self { eject_after: 3, eject_for: Duration::from_secs(30) }
    }
}

/// What a session does when probes see another address behind its exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressChange {
    /// It stays.
    #[default]
    Ignore,
    /// It moves, as `failover` says.
    Move,
    /// Its requests fail.
    Fail,
}

/// How long a user's unpinned requests stay on one exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// So many requests.
    pub requests: Option<u32>,
    /// So long.
    pub every: Option<Duration>,
}

/// How long the parts of a dial may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialTimeouts {
    /// The look-up of a name.
    pub dns: Duration,
    /// A connection to target or upstream.
    pub connect: Duration,
    /// The upstream's answer.
    pub handshake: Duration,
    /// The target's response head.
    pub response: Duration,
}

/// A pool, as configured, defaults applied.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// How unpinned requests choose.
    pub rotation: Rotation,
    /// How new pins choose.
    pub placement: Placement,
    /// What happens when a pinned exit is down.
    pub failover: Failover,
    /// What makes a session where the client names none; `None`: the user's.
    pub affinity: Option<Affinity>,
    /// Bounds of its sessions.
    pub sessions: SessionBounds,
    /// How long an exit's room stays taken after a pin ended.
    pub reuse_after: Duration,
    /// For how long an exit is kept from a site that a client has reported it
    /// to be no good for; 0: it is not.
    pub cooldown: Duration,
    /// How many dials a request may cost: 1 to 100.
    pub attempts: u32,
    /// How long a new or returned exit takes to its full weight.
    pub slow_start: Duration,
    /// How its exits are probed.
    pub probe: Option<Arc<Probe>>,
    /// What a session does when the address behind its exit changes.
    pub address_change: AddressChange,
    /// Holds a user's unpinned requests on an exit for a while.
    pub rotate: Option<Rotate>,
    /// Where its requests may go.
    pub targets: Arc<TargetPolicy>,
    /// When its exits are ejected.
    pub health: HealthPolicy,
    /// How long its dials may take.
    pub timeouts: DialTimeouts,
    /// Its exits, in the file's order; names are unique, folded ones too.
    pub exits: Arc<[Arc<Exit>]>,
    by_id: HashMap<Arc<str>, usize>,
    by_folded: HashMap<Box<str>, usize>,
}

impl Pool {
    /// A pool of these exits with every default.
    pub fn new(
        name: &str,
        exits: Vec<Arc<Exit>>,
        targets: Arc<TargetPolicy>,
        timeouts: DialTimeouts,
    ) -> Self {
        let by_id = exits.iter().enumerate().map(|(at, exit)| (exit.name.id.clone(), at)).collect();
        let by_folded =
            exits.iter().enumerate().map(|(at, exit)| (fold_name(&exit.name.id).into(), at)).collect();
        Self {
            name: name.into(),
            rotation: Rotation::default(),
            placement: Placement::default(),
            failover: Failover::default(),
            affinity: None,
            sessions: SessionBounds::default(),
            reuse_after: Duration::ZERO,
            cooldown: Duration::from_secs(600),
            attempts: 3,
            slow_start: Duration::from_secs(60),
            probe: None,
            address_change: AddressChange::Ignore,
            rotate: None,
            targets,
            health: HealthPolicy::default(),
            timeouts,
            exits: exits.into(),
            by_id,
            by_folded,
        }
    }

    /// This pool with other modes of the exits at these places.
    #[must_use]
    pub fn with_modes(&self, modes: impl IntoIterator<Item = (usize, Mode)>) -> Self {
        let mut pool = self.clone();
        let exits = Arc::make_mut(&mut pool.exits);
        for (at, mode) in modes {
            if let Some(exit) = exits.get_mut(at) {
                *exit = Arc::new(Exit { mode, ..(**exit).clone() });
            }
        }
        pool
    }

    /// The exit of exactly this id.
    pub fn exit(&self, id: &str) -> Option<&Arc<Exit>> {
        self.by_id.get(id).and_then(|at| self.exits.get(*at))
    }

    /// The place in [`Pool::exits`] of exactly this id.
    pub fn position(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The exit that a reference means.
    pub fn find_exit(&self, name: &NameRef) -> Option<&Arc<Exit>> {
        match name {
            NameRef::Exact(id) => self.exit(id),
            NameRef::Folded(id) => self.by_folded.get(&**id).and_then(|at| self.exits.get(*at)),
        }
    }
}

/// A pool's or exit's name as a client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameRef {
    /// As it is (a header field).
    Exact(Box<str>),
    /// From a username, where `_` also stands for any one character that a
    /// value cannot hold.
    Folded(Box<str>),
}

impl NameRef {
    /// Whether both can mean one name.
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Folded(a), Self::Folded(b)) => a == b,
            (Self::Exact(exact), Self::Folded(folded)) | (Self::Folded(folded), Self::Exact(exact)) => {
                fold_name(exact) == **folded
            }
        }
    }

    /// As the client wrote it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(name) | Self::Folded(name) => name,
        }
    }
}

/// A name with `_` for each character that a username's value cannot hold.
pub fn fold_name(name: &str) -> String {
    name.chars().map(|c| if is_value_char(c) { c } else { '_' }).collect()
}

/// `value` of SPEC §2: `ALPHA / DIGIT / "." / "_" / "~"`.
pub fn is_value_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~')
}

/// Every pool in force: a snapshot that is never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    pools: Vec<Arc<Pool>>,
    by_name: HashMap<Arc<str>, usize>,
    by_folded: HashMap<Box<str>, usize>,
}

impl Pools {
    /// From pools with unique names (folded ones too).
    pub fn new(pools: Vec<Arc<Pool>>) -> Self {
        let by_name = pools.iter().enumerate().map(|(at, pool)| (pool.name.clone(), at)).collect();
        let by_folded =
            pools.iter().enumerate().map(|(at, pool)| (fold_name(&pool.name).into(), at)).collect();
        Self { pools, by_name, by_folded }
    }

    /// The same, with exits that are equal to those of before in one place in
    /// memory with them.
    #[must_use]
    pub fn sharing(mut self, before: &Self) -> Self {
        for pool in &mut self.pools {
            let known = before.pool(&pool.name).filter(|known| known.exits == pool.exits);
            if let Some(known) = known {
                Arc::make_mut(pool).exits = known.exits.clone();
            }
        }
        self
    }

    /// The pool of exactly this name.
    pub fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.by_name.get(name).and_then(|at| self.pools.get(*at))
    }

    /// The pool that a reference means.
    pub fn find(&self, name: &NameRef) -> Option<&Arc<Pool>> {
        match name {
            NameRef::Exact(name) => self.pool(name),
            NameRef::Folded(name) => self.by_folded.get(&**name).and_then(|at| self.pools.get(*at)),
        }
    }

    /// In the files' order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.iter()
    }
}
