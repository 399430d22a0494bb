//! A node: what it knows, and its connection.

use std::collections::{BTreeSet, VecDeque};

use moorgate::core::session::SessionKey;
use moorgate::core::shared::{Known, Notice, Told};

use super::server::{Ask, Said};

/// Trust in what is known ends so long after the last answered heartbeat.
pub const TRUST: u64 = 1000;
/// A question has no answer after so long.
pub const LIMIT: u64 = 800;
/// How often a heartbeat is sent.
pub const BEAT: u64 = 250;

/// A question under way. `request` 0: the node's own.
#[derive(Debug)]
pub struct Question {
    pub request: u64,
    pub key: SessionKey,
    pub ask: Ask,
    pub era: u64,
    pub epoch: u64,
    pub sent: u64,
}

/// What comes from the store, in its order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a model of a few nodes holds few of them")]
pub enum Incoming {
    Reply { request: u64, key: SessionKey, said: Said, at_us: u64, epoch: u64, sent: u64, asked: Ask },
    Notice { key: SessionKey, notice: Notice, at_us: u64 },
}

pub struct Node {
    /// Drawn anew at each start.
    pub me: u64,
    pub known: Known,
    pub epoch: u64,
    pub era: u64,
    pub connected: bool,
    /// Nothing passes, and nobody says so.
    pub silent: bool,
    /// The store's clock less its own, as it last heard.
    pub offset: i64,
    /// The process is stopped until then.
    pub stopped: u64,
    pub proof: u64,
    pub next_beat: u64,
    pub questions: VecDeque<Question>,
    pub incoming: VecDeque<(u64, Incoming)>,
    /// What is to be told the store.
    pub untold: BTreeSet<SessionKey>,
    /// Pins that another one of its own had to give way to: its next success
    /// says `moved`, whatever others have said.
    pub gave_way: BTreeSet<(SessionKey, u64)>,
    /// Sessions whose `new` was said and not told.
    pub unsaid: Vec<(SessionKey, u64)>,
}

impl Node {
    pub fn new(me: u64) -> Self {
        Self {
            me,
            known: Known::new(0),
            epoch: 1,
            era: 0,
            connected: false,
            silent: false,
            offset: 0,
            stopped: 0,
            proof: 0,
            next_beat: 0,
            questions: VecDeque::new(),
            incoming: VecDeque::new(),
            untold: BTreeSet::new(),
            gave_way: BTreeSet::new(),
            unsaid: Vec::new(),
        }
    }

    /// Whether what is known was heard of until a moment ago.
    pub fn is_trusted(&self, now: u64) -> bool {
        now - self.proof <= TRUST
    }

    pub fn told(&self, at_us: u64, epoch: u64, now: u64) -> Told {
        Told { epoch, at_us, here: moorgate::core::time::Timestamp::from_ms(now) }
    }
}
