//! One request of a session on one node, as `serve` makes it.

use std::time::Duration;

use moorgate::core::pin::News;
use moorgate::core::pins::Only;
use moorgate::core::session::SessionKey;
use moorgate::core::shared::{Announce, Claimed, Fact, Moved};
use rand::RngExt;

use super::server::{Ask, Said};
use super::world::{EXITS, Mistake, SESSIONS, World, pin};

/// A request under way.
pub struct Request {
    pub id: u64,
    pub key: SessionKey,
    pub node: usize,
    /// The node's life in which it began.
    pub me: u64,
    pub state: State,
    pub attempts: u32,
    /// It was dialled by what the node knew while it had no store to ask, or
    /// before it was stopped.
    pub away: bool,
    /// Until when it may claim, in ms.
    pub until: u64,
}

/// What it waits for.
pub enum State {
    /// Its turn, to look what is known.
    Begun,
    /// The store's word on a pin that it knows, which is used if there is
    /// none.
    Restoring(Fact),
    Claiming,
    /// A new era to be open.
    Waiting(u64),
    Looking,
    /// A move; the version that it moves from.
    Moving(u64),
    /// The end of a dial.
    Dialling(Fact),
    /// What another node makes of a pin whose exit failed here.
    Contested(Fact, u64),
    /// The store's word on what to say.
    Saying(Fact),
    Done,
}

impl World {
    /// A request has its reply.
    pub fn resume(&mut self, at: usize, said: Said, overtaken: bool) {
        let (n, key) = (self.requests[at].node, self.requests[at].key);
        let now = self.reckoned(n);
        let fact = self.nodes[n].known.get(key, now, self.nodes[n].epoch);
        match said {
            Said::Claim(Claimed::Won(_)) if !overtaken => self.dial(at, fact),
            Said::Claim(Claimed::Lost(entry)) | Said::Look(Some(entry)) | Said::Repin(Moved::Lost(entry)) => {
                self.history.count("lost a claim");
                let old = Fact {
                    pin: entry.pin,
                    sure: false,
                    fresh: false,
                    contested: false,
                    alone: false,
                    untold: false,
                };
                match fact {
                    None if overtaken => self.look(at),
                    None => self.dial(at, Some(old)),
                    fact => self.dial(at, fact),
                }
            }
            Said::Claim(_) | Said::Repin(Moved::Done(_)) if overtaken => self.look(at),
            Said::Repin(Moved::Done(_)) => {
                self.history.count("moved away");
                self.dial(at, fact);
            }
            Said::Repin(_) | Said::Look(None) => self.claim(at),
            Said::Restore(_) if fact.is_some() => self.dial(at, fact),
            Said::Restore(_) => self.claim(at),
            Said::WrongEra => {
                self.send(n, 0, key, Ask::Enter);
                self.requests[at].state = State::Waiting(self.now + 20);
            }
            Said::Wait => {
                self.history.count("a claim waited for a new era");
                self.requests[at].state = State::Waiting(self.now + 100);
            }
            Said::Say(said) => {
                if let State::Saying(fact) = &self.requests[at].state {
                    let fact = fact.clone();
                    self.answer(at, &fact, said.unwrap_or(News::Held));
                }
            }
            Said::Claim(_) | Said::End(_) | Said::Era(_) => {}
        }
    }

    /// There is no reply: the link is lost.
    pub fn away(&mut self, at: usize) {
        let (n, key) = (self.requests[at].node, self.requests[at].key);
        let now = self.reckoned(n);
        let fact = self.nodes[n].known.get(key, now, 0);
        match std::mem::replace(&mut self.requests[at].state, State::Done) {
            State::Restoring(fact) => self.dial(at, Some(fact)),
            State::Claiming | State::Looking | State::Waiting(_) if fact.is_some() => self.dial(at, fact),
            State::Moving(from) if fact.as_ref().is_some_and(|fact| fact.pin.version != from) => {
                self.dial(at, fact);
            }
            State::Claiming | State::Looking | State::Moving(_) | State::Waiting(_) => {
                self.history.count("no store");
            }
            State::Saying(fact) => self.answer(at, &fact, News::Held),
            other => self.requests[at].state = other,
        }
    }

    /// What a request does in a moment without hearing anything.
    pub fn advance(&mut self, at: usize) {
        let (n, key) = (self.requests[at].node, self.requests[at].key);
        let now = self.reckoned(n);
        match std::mem::replace(&mut self.requests[at].state, State::Done) {
            State::Begun => self.begin(at),
            State::Waiting(until) if self.now < until => self.requests[at].state = State::Waiting(until),
            State::Waiting(_) => self.claim(at),
            State::Dialling(fact) if self.rng.random_ratio(4, 5) => {
                self.requests[at].state = State::Dialling(fact);
            }
            State::Dialling(fact) => self.dialled(at, fact),
            State::Contested(fact, until) => {
                let is = self.nodes[n].known.get(key, now, 0);
                let same = is.as_ref().is_some_and(|is| is.contested && is.pin.version == fact.pin.version);
                match is {
                    _ if same && self.now < until => {
                        self.requests[at].state = State::Contested(fact, until);
                    }
                    Some(is) if is.pin.version != fact.pin.version => self.dial(at, Some(is)),
                    Some(is) => self.fail(at, &is),
                    None => self.claim(at),
                }
            }
            other => self.requests[at].state = other,
        }
    }

    fn begin(&mut self, at: usize) {
        let (n, key) = (self.requests[at].node, self.requests[at].key);
        let now = self.reckoned(n);
        let trusted = self.nodes[n].is_trusted(self.now) || self.is(Mistake::TrustNeverEnds);
        let node = &mut self.nodes[n];
        let Some((fact, _)) = node.known.touch(key, now, node.epoch) else { return self.claim(at) };
        if !node.connected {
            self.history.count("went on without the store");
            return self.dial(at, Some(fact));
        }
        if fact.sure && trusted {
            return self.dial(at, Some(fact));
        }
        let me = node.me;
        if let Some(telling) = node.known.tell(key, me) {
            self.requests[at].state = State::Restoring(fact);
            self.send(n, self.requests[at].id, key, Ask::Restore(telling));
        }
    }

    fn claim(&mut self, at: usize) {
        let (n, key) = (self.requests[at].node, self.requests[at].key);
        if self.now > self.requests[at].until {
            self.history.count("no store");
            self.requests[at].state = State::Done;
            return;
        }
        let session = (0..SESSIONS).find(|session| pin(*session, 0).key() == key).expect("a session");
        let mut proposal = pin(session, self.rng.random_range(0..EXITS));
        proposal.version = self.rng.random();
        let life = [Duration::from_millis(700), Duration::from_secs(4), Duration::from_secs(600)];
        proposal.expires = proposal.made.plus(life[self.rng.random_range(0..3)]);
        self.requests[at].state = State::Claiming;
        if !self.send(n, self.requests[at].id, key, Ask::Claim(proposal)) {
            self.history.count("no store");
            self.requests[at].state = State::Done;
        }
    }

    fn look(&mut self, at: usize) {
        let (n, key) = (self.requests[at].node, self.requests[at].key);
        self.requests[at].state = State::Looking;
        self.send(n, self.requests[at].id, key, Ask::Look);
    }

    fn dial(&mut self, at: usize, fact: Option<Fact>) {
        let Some(fact) = fact else { return self.claim(at) };
        if fact.contested {
            self.history.count("met contested");
        }
        self.requests[at].away |= !self.nodes[self.requests[at].node].connected;
        self.requests[at].state = State::Dialling(fact);
    }

    fn dialled(&mut self, at: usize, fact: Fact) {
        let (n, key) = (self.requests[at].node, self.requests[at].key);
        let now = self.reckoned(n);
        let exit: usize = fact.pin.exit.id.trim_start_matches('e').parse().expect("an exit");
        if self.down[exit] {
            self.requests[at].attempts += 1;
            let is = self.nodes[n].known.get(key, now, 0);
            return match is.filter(|is| is.contested && is.pin.version == fact.pin.version) {
                Some(is) => self.requests[at].state = State::Contested(is, self.now + 1100),
                None => self.fail(at, &fact),
            };
        }
        let is = self.nodes[n].known.get(key, now, 0);
        if let Some(is) = is.filter(|is| is.pin.version != fact.pin.version) {
            self.history.count("found the session moved");
            return self.dial(at, Some(is));
        }
        let (version, away) = (fact.pin.version, !self.nodes[n].connected);
        let when = if self.is(Mistake::OwnLeaseNeverEnds) { fact.pin.made } else { now };
        match self.nodes[n].known.announce(key, version, when, away) {
            Announce::Gone => self.answer(at, &fact, News::Held),
            Announce::Say { news, tell } => {
                if tell {
                    self.nodes[n].unsaid.push((key, version));
                    self.send(n, 0, key, Ask::Say(version));
                }
                self.answer(at, &fact, news);
                if tell && !self.nodes[n].connected {
                    self.history.doubt(std::iter::once(key));
                }
            }
            Announce::Ask => {
                self.history.count("asked what to say");
                self.requests[at].state = State::Saying(fact);
                self.send(n, self.requests[at].id, key, Ask::Say(version));
            }
        }
    }

    /// The exit's fault: another one if nobody has seen the pin, else the
    /// session moves now and then.
    fn fail(&mut self, at: usize, fact: &Fact) {
        let (n, key) = (self.requests[at].node, self.requests[at].key);
        let only = if fact.fresh { Only::Fresh } else { Only::Anyhow };
        if self.requests[at].attempts > 3 || (only == Only::Anyhow && self.rng.random()) {
            self.requests[at].state = State::Done;
            return;
        }
        if fact.fresh {
            self.history.count("replaced before it was seen");
            if !self.is(Mistake::OwnRepliesAreNotAwaited) {
                self.nodes[n].known.replacing(key, fact.pin.version);
            }
        }
        let mut to = fact.pin.clone();
        to.exit.id = format!("e{}", self.rng.random_range(0..EXITS)).as_str().into();
        to.version = self.rng.random();
        self.requests[at].state = State::Moving(fact.pin.version);
        if !self.send(n, self.requests[at].id, key, Ask::Repin { seen: fact.pin.version, only, to }) {
            self.requests[at].state = State::Done;
        }
    }

    fn answer(&mut self, at: usize, fact: &Fact, news: News) {
        let (n, key) = (self.requests[at].node, self.requests[at].key);
        self.requests[at].state = State::Done;
        let away = !self.nodes[n].connected || self.requests[at].away;
        let own = news == News::Moved && self.nodes[n].gave_way.remove(&(key, fact.pin.version));
        self.tell(format!("node {n} answers {key:?} {} on {}", news.word(), fact.pin.exit.id));
        self.doubt_untold(key);
        // Of a pin that it had itself, and that gave way.
        let counted = if own { News::Held } else { news };
        let times = self.times();
        self.history.answered(key, fact.pin.version, &fact.pin.exit.id, counted, times, away);
    }
}
