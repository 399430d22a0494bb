//! Nodes, a store, clients, and what happens next.

use std::collections::BTreeMap;
use std::time::Duration;

use moorgate::core::pin::{ExitName, News, Pin, Variant};
use moorgate::core::pins::Only;
use moorgate::core::session::{Filter, SessionId, SessionKey};
use moorgate::core::shared::{Claimed, Moved, Notice, Restored, Told};
use moorgate::core::time::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::history::{History, Times};
pub use super::mistake::Mistake;
use super::node::{BEAT, Incoming, LIMIT, Node, Question};
use super::request::{Request, State};
use super::server::{Ask, Said, Server};

pub const NODES: usize = 3;
pub const SESSIONS: usize = 3;
pub const EXITS: usize = 4;
/// A claim that has to wait waits so long at most, in ms.
const PATIENCE: u64 = 1500;

/// A promise that was not kept.
pub struct Breach {
    pub step: u64,
    pub what: String,
    pub story: Vec<String>,
}

/// Runs a seed; what happened how often.
pub fn run(seed: u64, steps: u64, mistake: Option<Mistake>) -> Result<BTreeMap<&'static str, u64>, Breach> {
    let mut world = World::new(seed, mistake);
    for step in 0..steps {
        world.step();
        if let Some(what) = world.history.broken.take() {
            return Err(Breach { step, what, story: world.story });
        }
    }
    Ok(world.history.tally)
}

pub struct World {
    pub rng: StdRng,
    pub now: u64,
    /// The store's clock less `now`.
    pub skew: i64,
    /// When the store's clock was last set forward, and by how much.
    pub stepped: (u64, u64),
    pub server: Server,
    pub nodes: Vec<Node>,
    pub since: Vec<u64>,
    pub requests: Vec<Request>,
    pub next: u64,
    pub down: [bool; EXITS],
    pub history: History,
    pub mistake: Option<Mistake>,
    pub story: Vec<String>,
}

impl World {
    fn new(seed: u64, mistake: Option<Mistake>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = (0..NODES).map(|_| Node::new(rng.random())).collect();
        Self {
            rng,
            now: 1_000_000,
            skew: 0,
            stepped: (0, 0),
            server: Server::default(),
            nodes,
            since: vec![0; NODES],
            requests: Vec::new(),
            next: 1,
            down: [false; EXITS],
            history: History::default(),
            mistake,
            story: Vec::new(),
        }
    }

    pub fn is(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    pub fn tell(&mut self, what: String) {
        self.story.push(format!("{} {what}", self.now - 1_000_000));
    }

    /// What the store's clock says.
    pub fn store_time(&self) -> Timestamp {
        Timestamp::from_ms(self.now.saturating_add_signed(self.skew))
    }

    /// The store's time, as a node reckons it.
    pub fn reckoned(&self, n: usize) -> Timestamp {
        Timestamp::from_ms(self.now.saturating_add_signed(self.nodes[n].offset))
    }

    pub fn times(&self) -> Times {
        // A step that no node need have noticed yet.
        let late = if self.now < self.stepped.0 + 2000 { self.stepped.1 } else { 0 };
        Times { now: self.now, store: self.store_time().as_ms().saturating_sub(late) }
    }

    fn step(&mut self) {
        self.now += self.rng.random_range(1..15);
        if self.rng.random_ratio(1, 400) {
            self.now += self.rng.random_range(0..50);
        }
        match self.rng.random_range(0..1000) {
            0..=249 if self.requests.len() < 12 => self.ask(),
            250..=255 => self.end_one(),
            256..=262 => self.cut(),
            263..=267 => self.hush(),
            268..=270 => self.kill(),
            291..=292 => self.stop(),
            293 if self.rng.random_ratio(1, 3) => self.step_clock(),
            271..=272 => {
                self.history.count("the store was emptied");
                self.tell("the store is emptied".into());
                self.server.empty();
                self.history.lost();
            }
            273..=290 => {
                let exit = self.rng.random_range(0..EXITS);
                self.down[exit] = self.rng.random_ratio(1, 3);
            }
            _ => {}
        }
        for n in 0..NODES {
            if self.runs(n) {
                self.live(n);
            }
        }
        for at in 0..self.requests.len() {
            if self.runs(self.requests[at].node) {
                self.advance(at);
            }
        }
        self.requests.retain(|request| !matches!(request.state, State::Done));
    }

    /// A client asks for a session.
    fn ask(&mut self) {
        let (node, session) = (self.rng.random_range(0..NODES), self.rng.random_range(0..SESSIONS));
        let request = Request {
            id: self.next,
            key: pin(session, 0).key(),
            node,
            me: self.nodes[node].me,
            state: State::Begun,
            attempts: 0,
            away: false,
            until: self.now + PATIENCE,
        };
        self.next += 1;
        self.requests.push(request);
    }

    /// What a node, its link and the store do in a moment.
    fn live(&mut self, n: usize) {
        if !self.nodes[n].connected {
            if self.rng.random_ratio(1, 30) {
                self.connect(n);
            }
            return;
        }
        let late = |question: &Question| self.now > question.sent + LIMIT;
        if self.nodes[n].questions.iter().any(late) {
            return self.lose(n);
        }
        if self.now >= self.nodes[n].next_beat {
            self.nodes[n].next_beat = self.now + BEAT;
            self.send(n, 0, pin(0, 0).key(), Ask::Enter);
        }
        let untold: Vec<_> = std::mem::take(&mut self.nodes[n].untold).into_iter().collect();
        for key in untold {
            let me = self.nodes[n].me;
            if let Some(telling) = self.nodes[n].known.tell(key, me) {
                self.history.count("told again");
                self.send(n, 0, key, Ask::Restore(telling));
            }
        }
        if self.nodes[n].silent {
            return;
        }
        if self.rng.random_ratio(2, 3) {
            for _ in 0..self.rng.random_range(1..6) {
                self.serve(n);
            }
        }
        if self.rng.random_ratio(2, 3) {
            for _ in 0..self.rng.random_range(1..6) {
                self.hear(n);
            }
        }
        let at = self.reckoned(n);
        self.nodes[n].known.sweep(at).for_each(drop);
    }

    fn connect(&mut self, n: usize) {
        self.since[n] = self.now;
        let node = &mut self.nodes[n];
        // It asks for the era, and so for the time, before anything else.
        node.offset = self.skew;
        (node.connected, node.proof, node.next_beat) = (true, self.now, self.now + BEAT);
        if self.mistake != Some(Mistake::EpochGoesOn) {
            node.epoch += 1;
        }
        let untold = node.known.iter().filter(|(_, fact)| fact.untold || fact.alone).map(|(key, _)| key);
        node.untold = untold.collect();
        self.tell(format!("node {n} connects"));
        self.send(n, 0, pin(0, 0).key(), Ask::Enter);
    }

    pub fn send(&mut self, n: usize, request: u64, key: SessionKey, ask: Ask) -> bool {
        let node = &mut self.nodes[n];
        if node.connected {
            let (era, epoch) = (node.era, node.epoch);
            node.questions.push_back(Question { request, key, ask, era, epoch, sent: self.now });
        }
        node.connected
    }

    /// The store takes the next question of a node.
    pub fn serve(&mut self, n: usize) {
        let Some(question) = self.nodes[n].questions.pop_front() else { return };
        let Question { request, key, ask, era, epoch, sent } = question;
        let (me, now) = (self.nodes[n].me, self.store_time());
        // A clock that is set forward ends the time in which nodes tell.
        let is_slewed = self.now > self.stepped.0 + 2000;
        let in_touch = is_slewed
            && self.nodes.iter().zip(&self.since).any(|(node, since)| {
                let knows = node.known.get(key, now, 0).is_some_and(|fact| {
                    let lives = self.history.lives.get(&key).and_then(|lives| lives.last());
                    lives.and_then(|life| life.legs.last()).is_some_and(|leg| leg.version == fact.pin.version)
                });
                let since = node.stopped.max(*since);
                node.connected && !node.silent && self.now > since + 1500 && knows
            });
        let (said, notice, at_us) = self.server.step(me, era, key, &ask, now, self.mistake);
        if let (Ask::Restore(mine), Said::Restore(Restored::Other(other))) = (&ask, &said) {
            let later = !mine.alone && mine.entry.pin.made > other.pin.made;
            self.history
                .check(!later, || format!("{key}: a pin stays that had ended before another was made"));
        }
        if let (Ask::Repin { only: Only::Fresh, .. }, Said::Repin(Moved::Done(now))) = (&ask, &said) {
            self.history.check(now.unseen, || format!("{key}: moved at one failure although it was seen"));
        }
        match &said {
            Said::Claim(Claimed::Won(entry)) => self.history.made(key, entry, self.times(), in_touch),
            Said::Repin(Moved::Done(entry)) => {
                self.doubt_untold(key);
                self.history.moved(key, entry, self.now, entry.unseen);
            }
            Said::Restore(Restored::Written(entry)) => self.history.back(key, entry, self.times()),
            Said::End(Some(_)) => {
                self.history.count("ended");
                self.history.ended(key, self.now);
            }
            Said::Say(_) => self.nodes[n].unsaid.retain(|(of, _)| *of != key),
            _ => {}
        }
        if !matches!(said, Said::Era(_)) {
            self.tell(format!("store: {key:?} for node {n}: {said:?}"));
        }
        if let Some(notice) = notice.filter(|_| self.mistake != Some(Mistake::MessagesAreLost)) {
            for other in (0..NODES).filter(|other| *other != n) {
                if self.nodes[other].connected {
                    let notice = notice.clone();
                    self.nodes[other].incoming.push_back((self.now, Incoming::Notice { key, notice, at_us }));
                }
            }
        }
        let reply = Incoming::Reply { request, key, said, at_us, epoch, sent, asked: ask };
        self.nodes[n].incoming.push_back((self.now, reply));
    }

    /// A node takes the next that came. A reply goes to the task that asked,
    /// which may get to run only when what came behind it was taken already.
    fn hear(&mut self, n: usize) {
        let incoming = &mut self.nodes[n].incoming;
        let replies = incoming.iter().take_while(|(_, one)| matches!(one, Incoming::Reply { .. })).count();
        let last = replies.min(incoming.len().saturating_sub(1));
        let at = self.rng.random_range(0..=last) * usize::from(self.rng.random_ratio(1, 2));
        let Some((_, incoming)) = incoming.remove(at) else { return };
        match incoming {
            Incoming::Notice { key, notice, at_us } => {
                let node = &mut self.nodes[n];
                let (me, told) = (node.me, node.told(at_us, node.epoch, self.now));
                let changed = node.known.hear(key, &notice, me, told);
                if let Notice::Is(entry) = notice {
                    if changed.gave_way {
                        node.gave_way.insert((key, entry.pin.version));
                    }
                    self.history.count("heard of a change");
                }
            }
            Incoming::Reply { request, key, said, at_us, epoch, sent, asked } => {
                let told = self.nodes[n].told(at_us, epoch, self.now);
                self.replied(n, request, key, said, told, sent, asked);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a reply is")]
    fn replied(
        &mut self,
        n: usize,
        request: u64,
        key: SessionKey,
        mut said: Said,
        told: Told,
        sent: u64,
        asked: Ask,
    ) {
        let me = self.nodes[n].me;
        let at = self.requests.iter().position(|one| one.id == request && one.node == n && one.me == me);
        let node = &mut self.nodes[n];
        let mut overtaken = false;
        match &mut said {
            Said::Era(era) => {
                node.proof = node.proof.max(sent);
                // Small differences are the way's.
                let offset = (told.at_us / 1000).cast_signed() - ((sent + self.now) / 2).cast_signed();
                if node.offset.abs_diff(offset) > (self.now - sent) / 2 + 2 {
                    node.offset = offset;
                }
                let before = std::mem::replace(&mut node.era, *era);
                if before != *era && before != 0 && self.mistake != Some(Mistake::NothingIsToldAgain) {
                    node.epoch += 1;
                    node.untold = node.known.iter().map(|(key, _)| key).collect();
                }
            }
            Said::Claim(Claimed::Won(entry) | Claimed::Lost(entry))
            | Said::Look(Some(entry))
            | Said::Repin(Moved::Done(entry) | Moved::Lost(entry))
            | Said::Restore(Restored::Same(entry) | Restored::Other(entry)) => {
                let changed = node.known.learn(key, entry, me, told);
                overtaken = changed.overtaken;
                let believes = self.mistake == Some(Mistake::OldRepliesAreBelieved);
                for late_us in [1000, 10_000, 100_000].into_iter().filter(|_| believes) {
                    if overtaken {
                        let late = Told { at_us: told.at_us + late_us, ..told };
                        overtaken = node.known.learn(key, entry, me, late).overtaken;
                    }
                }
                if changed.gave_way {
                    node.gave_way.insert((key, entry.pin.version));
                }
            }
            Said::Restore(Restored::Written(entry)) => node.known.told(key, entry.pin.version, told),
            Said::Repin(Moved::Gone) | Said::Restore(Restored::Ended) | Said::End(_) => {
                let _ = node.known.lose(key, told);
            }
            Said::Say(news) => {
                if let Ask::Say(version) = asked {
                    let says = news.unwrap_or(News::Held);
                    *news = news.map(|_| node.known.said(key, version, says));
                    node.known.heard_of(key, version);
                }
            }
            Said::Look(None) | Said::WrongEra | Said::Wait => {}
        }
        if overtaken {
            self.history.count("a reply overtaken");
        }
        let Some(at) = at else { return };
        self.resume(at, said, overtaken);
    }
}

/// A proposal for a session.
pub fn pin(session: usize, exit: usize) -> Pin {
    let made = Timestamp::from_ms(1000);
    Pin {
        user: "acme".into(),
        session: SessionId::new(&format!("s{session}")).expect("a name"),
        filter: Filter::default(),
        exit: ExitName { pool: "p".into(), id: format!("e{exit}").as_str().into() },
        variant: Variant::None,
        via: 1,
        made,
        expires: made.plus(Duration::from_secs(600)),
        idle: None,
        used: made,
        rest_s: 0,
        moves: 0,
        same_address: false,
        version: 0,
    }
}
