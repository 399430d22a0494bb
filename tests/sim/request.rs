//! One request of a session, from its username to its answer.
//!
//! The driver of what `serve/route.rs` and `serve/link.rs` do between two
//! awaits, with an await wherever they have one, so that anything may happen
//! there. It decides nothing: what follows what is said by the real
//! [`Course`], who may be chosen by the real [`LivePool`], what is asked for
//! by the real grammar.

use std::sync::Arc;

use moorgate::core::ask::{Ask, AskedSession};
use moorgate::core::code::Code;
use moorgate::core::failover::{Closed, Course, Down, Failure, Next};
use moorgate::core::fault::Blame;
use moorgate::core::pin::{ExitName, Pin};
use moorgate::core::pins::Only;
use moorgate::core::pool::Failover;
use moorgate::core::session::SessionKey;
use moorgate::core::target::Target;
use moorgate::state::{LivePool, Pick};
use rand::RngExt;

use super::disk::Time;
use super::life::{Tag, Who};
use super::mistake::Mistake;
use super::route::Change;
use super::stage::{Link, Stage, refusal};
use super::store::{Claim, Refused};
use super::truth::{Dialled, Step};

/// A request under way.
pub struct Request {
    pub number: u64,
    pub who: Who,
    pub key: SessionKey,
    pub ask: Ask,
    pub session: AskedSession,
    pub plain: bool,
    pub target: Target,
    pub pool: Arc<LivePool>,
    pub course: Course,
    pub moves: u32,
    pub tried: Vec<ExitName>,
    pub failed: Vec<ExitName>,
    pub began: Step,
    pub began_at: Time,
    /// When it looked last whether its exit is still what it was.
    pub turned: Step,
    /// Since when it goes by these pools.
    pub looked: Step,
    pub tag: Option<Tag>,
    pub at: At,
}

/// What it waits for.
pub enum At {
    /// The queue's room, to claim or to move.
    Room {
        pick: Pick,
        proposal: Pin,
        change: Option<Change>,
        decided: Step,
    },
    /// The dial's end.
    Dial {
        claim: Claim,
        pick: Pick,
        began: Step,
    },
    /// The end of another request's trial of the pin's exit.
    Trial {
        exit: ExitName,
    },
    /// The pin's record.
    Receipt {
        claim: Claim,
        link: Link,
    },
    /// The answer of a plain request's target.
    Answer {
        pin: Pin,
        link: Link,
    },
    Done,
}

impl Request {
    /// A request that was judged; `held` is what the store said of its
    /// session.
    pub fn new(
        number: u64,
        ask: Ask,
        key: SessionKey,
        plain: bool,
        target: &str,
        stage: &mut Stage<'_>,
    ) -> Self {
        let session = ask.session.clone().expect("only sessions are simulated");
        let who = Who {
            user: ask.user.to_string(),
            pool: ask.pool.name.to_string(),
            filter: ask.filter.to_string(),
            session: session.id.to_string(),
        };
        let pool = stage.in_force.snapshot().pool(&ask.pool.name).expect("the pool").clone();
        let failover = if stage.is(Mistake::FailoverIsOn) { Failover::On } else { ask.failover };
        let course = Course::new(pool.pool.attempts, failover, ask.exit.is_some());
        Self {
            number,
            who,
            key,
            session,
            plain,
            target: Target::parse(target).expect("a target"),
            pool,
            course,
            moves: 0,
            tried: Vec::new(),
            failed: Vec::new(),
            began: stage.history.step,
            began_at: stage.history.now,
            turned: stage.history.step,
            looked: stage.history.step,
            tag: None,
            at: At::Done,
            ask,
        }
    }

    /// The first steps, up to the first wait.
    pub fn begin(&mut self, stage: &mut Stage<'_>) {
        match stage.store.hold(self.key, stage.at) {
            Some(claim) => {
                let named = self.ask.exit.as_ref().is_some_and(|exit| exit.name != claim.pin.exit);
                self.tag = Some(stage.history.used(self.number, &self.who, &claim.pin));
                if named {
                    return self.fail(Code::ParameterConflict, stage);
                }
                self.turn(claim, stage);
            }
            None => {
                stage.history.absent(&self.who);
                self.claim(stage);
            }
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.at, At::Done)
    }

    /// The exit that it dials, or that its answer comes through.
    pub fn waits_for(&self) -> Option<&ExitName> {
        match &self.at {
            At::Dial { pick, .. } => Some(&pick.exit.name),
            At::Answer { link, .. } => Some(&link.exit.name),
            _ => None,
        }
    }

    /// How many pins it has room reserved for on an exit.
    pub fn reserves(&self, exit: &ExitName) -> u32 {
        match &self.at {
            At::Room { pick, .. } if pick.exit.name == *exit => u32::from(pick.room.is_some()),
            _ => 0,
        }
    }

    /// What it waits for has come, a dial or an answer with this outcome; if
    /// it has not, nothing happens.
    pub fn step(&mut self, outcome: Dialled, stage: &mut Stage<'_>) {
        match std::mem::replace(&mut self.at, At::Done) {
            At::Room { pick, proposal, change: None, decided } => {
                self.claim_now(pick, proposal, decided, stage);
            }
            At::Room { pick, proposal, change: Some(change), decided } => {
                self.repin_now(pick, proposal, change, decided, stage);
            }
            At::Dial { claim, pick, began } => self.dialled(claim, pick, began, outcome, stage),
            At::Trial { exit } if self.is_on_trial(&exit) => self.at = At::Trial { exit },
            At::Trial { .. } => self.again(stage),
            At::Receipt { claim, link } => self.settle(claim, link, stage),
            At::Answer { pin, link } => self.answer(pin, link, outcome, stage),
            At::Done => {}
        }
    }

    pub fn refresh(&mut self, stage: &Stage<'_>) {
        if !stage.is(Mistake::OldPoolsDecide)
            && let Some(pool) = stage.in_force.snapshot().pool(&self.ask.pool.name)
        {
            self.pool = pool.clone();
            self.looked = stage.history.step;
        }
    }

    /// One turn of `link::pinned`.
    pub fn turn(&mut self, claim: Claim, stage: &mut Stage<'_>) {
        if !self.course.turn() {
            return self.fail(Code::ExitFailed, stage);
        }
        self.refresh(stage);
        self.turned = stage.history.step;
        if let Some(change) = self.readdressed(&claim, stage) {
            return match change {
                Ok(down) => self.fail_over(claim, down, false, stage),
                Err(_) => self.fail(Code::ExitDown, stage),
            };
        }
        let now = stage.store.now();
        if self.plain
            && let Some(link) = self.take_kept(&claim, stage)
        {
            stage.history.count("left by a kept connection");
            self.at = At::Receipt { claim, link };
            if stage.is(Mistake::KeptLinkDoesNotWait) {
                self.settle_now(stage);
            }
            return;
        }
        match self.pool.resume(&claim.pin.exit.id, &claim.pin.variant, now) {
            Ok(pick) => self.use_pick(claim, pick, stage.history.step, stage),
            Err(Closed::Busy) => self.fail(Code::NoExit, stage),
            Err(Closed::OnTrial) => self.await_trial(claim.pin.exit, stage),
            Err(closed) => self.fail_over(claim, Down::Closed(closed), false, stage),
        }
    }

    /// Dials through an exit that was taken at a step.
    pub fn use_pick(&mut self, claim: Claim, pick: Pick, began: Step, stage: &mut Stage<'_>) {
        if pick.exit.digest != claim.pin.via {
            drop(pick);
            return self.renew(claim, Only::Anyhow, false, stage);
        }
        self.course.dial();
        self.at = At::Dial { claim, pick, began };
    }

    fn take_kept(&self, claim: &Claim, stage: &mut Stage<'_>) -> Option<Link> {
        let pin = &claim.pin;
        if self.pool.pool.exit(&pin.exit.id).is_some_and(|exit| exit.digest != pin.via) {
            return None;
        }
        let shared = stage.is(Mistake::LinksAreShared);
        let at = stage.kept.iter().rposition(|link| {
            let same_way = link.variant == pin.variant && link.exit.digest == pin.via;
            (link.key == self.key || shared)
                && link.target == self.target
                && link.exit.name == pin.exit
                && same_way
        })?;
        let link = Link { reused: true, ..stage.kept.remove(at) };
        self.pool.is_open(&pin.exit.id, stage.store.now()).then_some(link)
    }

    fn dialled(&mut self, claim: Claim, pick: Pick, began: Step, outcome: Dialled, stage: &mut Stage<'_>) {
        let Dialled::Failed(blame) = outcome else {
            let mut link = Link {
                exit: pick.exit,
                variant: pick.variant,
                key: self.key,
                target: self.target.clone(),
                attempt: Some((pick.attempt, began)),
                reused: false,
                _connection: pick.connection,
            };
            // A plain request's upstream has only been connected to so far.
            if !(self.plain && link.exit.via.is_template()) {
                link.told(outcome, stage);
            }
            self.at = At::Receipt { claim, link };
            return self.settle_now(stage);
        };
        let (exit, now) = (pick.exit.name.clone(), stage.store.now());
        let (step, target) = (stage.history.step, self.target.to_string());
        stage.history.truth.dialled(&exit, &pick.variant, &target, began, outcome, step);
        let after = pick.attempt.failed(blame, &refusal(), &self.target, now);
        let mistaken = blame == Blame::Target && stage.is(Mistake::TargetsFaultIsExits);
        let failure = Failure {
            blame: if mistaken { Blame::Exit } else { blame },
            ejected_until: after.ejected_until,
            token_lost: after.token_lost,
        };
        if failure.is_exits() && !mistaken {
            self.failed.push(exit.clone());
        }
        self.refresh(stage);
        let mut next = self.course.after(claim.fresh, &failure);
        let claim = match next {
            Next::Other => match self.replace(claim, exit, stage) {
                None => return,
                Some(claim) => {
                    next = self.course.without_other(&failure);
                    claim
                }
            },
            _ => claim,
        };
        match next {
            Next::GiveUp | Next::Other => {
                self.fail(if blame == Blame::Exit { Code::ExitFailed } else { Code::TargetRefused }, stage);
            }
            Next::Again => self.turn(claim, stage),
            Next::Renew => self.renew(claim, Only::Fresh, false, stage),
            Next::Leave(down) => self.fail_over(claim, down, false, stage),
        }
    }

    /// A wait that may be over at once.
    fn settle_now(&mut self, stage: &mut Stage<'_>) {
        if let At::Receipt { claim, link } = std::mem::replace(&mut self.at, At::Done) {
            self.settle(claim, link, stage);
        }
    }

    fn settle(&mut self, claim: Claim, link: Link, stage: &mut Stage<'_>) {
        let hasty = match stage.mistake {
            Some(Mistake::LoserDoesNotWait) => !claim.won,
            Some(Mistake::WinnerDoesNotWait) => claim.won,
            Some(Mistake::KeptLinkDoesNotWait) => link.reused,
            _ => false,
        };
        match stage.store.settled(&claim, self.key) {
            None if !hasty => {
                self.at = At::Receipt { claim, link };
                return;
            }
            Some(Err(Refused)) if !hasty => return self.fail(Code::StoreUnavailable, stage),
            _ => {}
        }
        let now = stage.store.peek(self.key);
        let same = now.is_none_or(|pin| pin.version == claim.pin.version);
        if !same && !stage.is(Mistake::DoesNotLookAgain) {
            stage.history.count("found the session moved");
            return self.again(stage);
        }
        let tag = self.tag.expect("a pin was seen");
        stage.history.departed(&self.who, tag, &link.exit.name, &link.variant);
        if link.key != self.key {
            let who = &self.who;
            stage.history.broken(|| format!("{who}: leaves by another session's connection"));
        }
        if !self.plain {
            self.succeed(&claim.pin, stage);
        } else if stage.rng.random() {
            self.answer(claim.pin, link, Dialled::Through, stage);
        } else {
            self.at = At::Answer { pin: claim.pin, link };
        }
    }

    /// A plain request's answer.
    fn answer(&mut self, pin: Pin, mut link: Link, outcome: Dialled, stage: &mut Stage<'_>) {
        if outcome == Dialled::Through {
            link.told(outcome, stage);
            self.succeed(&pin, stage);
            stage.kept.push(link);
            return;
        }
        // What was written is not repeated; the session moves with it.
        let failure = link.told(outcome, stage);
        self.fail(Code::BadResponse, stage);
        let Some(down) = failure.and_then(|failure| failure.down()) else { return };
        self.failed.push(link.exit.name.clone());
        let Some(claim) = stage.store.look(self.key).filter(|now| now.pin.version == pin.version) else {
            return;
        };
        let failover = if stage.is(Mistake::FailoverIsOn) { Failover::On } else { self.ask.failover };
        self.course = Course::new(self.pool.pool.attempts, failover, self.ask.exit.is_some());
        self.refresh(stage);
        self.tried.clear();
        self.fail_over(claim, down, true, stage);
    }
}
