//! What a request proposes to the store, and what becomes of it: the driver
//! of `serve/route.rs`.

use std::pin::pin;
use std::task::{Context, Waker};

use moorgate::core::code::Code;
use moorgate::core::exit::Exit;
use moorgate::core::failover::{Down, Leave, Stays};
use moorgate::core::pin::{ExitName, Pin};
use moorgate::core::pins::Only;
use moorgate::core::session::{Filter, SessionKey};
use moorgate::core::time::{Timestamp, Ttl};
use moorgate::state::{NewPin, Pick};

use super::history::{Maker, Mover};
use super::life::Tag;
use super::mistake::Mistake;
use super::request::{At, Request};
use super::stage::Stage;
use super::store::{Claim, Refused};
use super::truth::Step;

/// The pin that is to be moved.
pub struct Change {
    claim: Claim,
    saw: Tag,
    only: Only,
    away: bool,
}

impl Request {
    /// `Route::replace` up to the queue's room. The claim comes back where
    /// there is no other exit.
    pub fn replace(&mut self, claim: Claim, failed: ExitName, stage: &mut Stage<'_>) -> Option<Claim> {
        self.tried.push(failed);
        let now = stage.store.now();
        let ask = new_pin(self.key, &self.ask.filter, left(&claim.pin, now), &self.tried);
        let Ok(pick) = self.pool.place(&ask, now, stage.rng) else { return Some(claim) };
        self.change(claim, pick, Only::Fresh, false, stage);
        None
    }

    /// `Route::claim` up to the queue's room.
    pub fn claim(&mut self, stage: &mut Stage<'_>) {
        let now = stage.store.now();
        let mut ask = NewPin {
            exit: self.ask.exit.as_ref().map(|exit| &*exit.name.id),
            ..new_pin(self.key, &self.ask.filter, self.session.ttl, &self.tried)
        };
        if stage.is(Mistake::ExitsMaxTtlIgnored) {
            ask.ttl = Ttl::MIN;
        }
        let mut placed = self.pool.place(&ask, now, stage.rng);
        let crowded = match &placed {
            Err(none) => none.lacks_room(),
            Ok(pick) => pick.shares_address(),
        };
        if crowded {
            drop(placed);
            stage.store.sweep(stage.at);
            placed = self.pool.place(&ask, now, stage.rng);
        }
        match placed {
            Ok(pick) => self.propose(pick, None, stage),
            Err(_) => self.fail(Code::NoExit, stage),
        }
    }

    fn propose(&mut self, pick: Pick, change: Option<Change>, stage: &mut Stage<'_>) {
        let now = stage.store.now();
        let proposal = Pin {
            user: self.ask.user.clone(),
            session: self.session.id.clone(),
            filter: self.ask.filter.clone(),
            exit: pick.exit.name.clone(),
            variant: pick.variant.clone(),
            via: pick.exit.digest,
            made: now,
            expires: now.plus(self.session.ttl.as_duration()),
            idle: self.session.idle,
            used: now,
            rest_s: 0,
            moves: 0,
            same_address: false,
            version: 0,
        };
        self.at = At::Room { pick, proposal, change, decided: stage.history.step };
    }

    pub fn claim_now(&mut self, mut pick: Pick, proposal: Pin, decided: Step, stage: &mut Stage<'_>) {
        let (exit, variant) = (pick.exit.clone(), pick.variant.clone());
        let Ok(claim) = stage.store.claim(self.key, proposal, stage.at, stage.rng) else {
            return self.fail(Code::StoreUnavailable, stage);
        };
        if claim.won {
            self.made(&claim, &exit, stage);
        } else {
            stage.history.count("lost a claim");
            self.tag = Some(stage.history.seen(&self.who, &claim.pin));
            if stage.is(Mistake::LoserKeepsItsRoom) {
                std::mem::forget(pick.room.take());
            }
            if stage.is(Mistake::LoserKeepsItsOwn) {
                let pin = Pin { exit: exit.name.clone(), variant, via: exit.digest, ..claim.pin.clone() };
                return self.use_pick(Claim { pin, ..claim }, pick, decided, stage);
            }
        }
        self.adopt(claim, pick, decided, stage);
    }

    pub fn repin_now(
        &mut self,
        mut pick: Pick,
        proposal: Pin,
        change: Change,
        decided: Step,
        stage: &mut Stage<'_>,
    ) {
        let (exit, seen) = (pick.exit.clone(), change.claim.pin.version);
        let gone = stage.store.peek(self.key).is_none();
        let moved = stage.store.repin(self.key, seen, change.only, proposal, stage.at, stage.rng);
        let claim = match moved {
            Err(Refused) if change.away => return,
            Err(Refused) => return self.fail(Code::StoreUnavailable, stage),
            Ok(None) => {
                drop(pick);
                if !change.away {
                    self.claim(stage);
                }
                return;
            }
            Ok(Some(claim)) => claim,
        };
        if claim.won && gone {
            self.made(&claim, &exit, stage);
        } else if claim.won {
            let mover = Mover {
                failover: self.ask.failover,
                filter: &self.ask.filter,
                saw: change.saw,
                decided,
                failed: &self.failed,
            };
            self.tag = Some(stage.history.moved(&self.who, &mover, &claim.pin, &exit));
        } else {
            stage.history.count("lost a move");
            self.tag = Some(stage.history.seen(&self.who, &claim.pin));
        }
        if change.away {
            if let Some(room) = pick.room.take().filter(|_| claim.won) {
                room.commit(&claim.pin);
            }
            return;
        }
        self.adopt(claim, pick, decided, stage);
    }

    fn made(&mut self, claim: &Claim, exit: &Exit, stage: &mut Stage<'_>) {
        let (ttl, filter) = (self.session.ttl, &self.ask.filter);
        let maker = Maker { request: self.number, ttl, filter, exit };
        self.tag = Some(stage.history.made(&self.who, &maker, &claim.pin));
    }

    /// `adopt` and `then_use`: the winner's room counts, the loser's is given
    /// back with its pick.
    fn adopt(&mut self, claim: Claim, mut pick: Pick, decided: Step, stage: &mut Stage<'_>) {
        if !claim.won {
            drop(pick);
            return self.turn(claim, stage);
        }
        if let Some(room) = pick.room.take() {
            room.commit(&claim.pin);
        }
        if !self.course.turn() {
            return self.fail(Code::ExitFailed, stage);
        }
        self.refresh(stage);
        self.use_pick(claim, pick, decided, stage);
    }

    pub fn await_trial(&mut self, exit: ExitName, stage: &mut Stage<'_>) {
        stage.history.count("waited for another's trial");
        self.at = At::Trial { exit };
    }

    pub fn is_on_trial(&self, exit: &ExitName) -> bool {
        pin!(self.pool.trial_over(&exit.id)).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// The pin as it is now; a new one if it has ended.
    pub fn again(&mut self, stage: &mut Stage<'_>) {
        match stage.store.look(self.key) {
            Some(claim) => {
                self.tag = Some(stage.history.seen(&self.who, &claim.pin));
                self.turn(claim, stage);
            }
            None => self.claim(stage),
        }
    }

    /// `Route::readdressed`.
    pub fn readdressed(&self, claim: &Claim, stage: &Stage<'_>) -> Option<Result<Down, Stays>> {
        if stage.is(Mistake::ReaddressedStays) {
            return None;
        }
        let change = self.course.readdressed(claim.fresh, self.pool.pool.address_change)?;
        let open = self.pool.is_open(&claim.pin.exit.id, stage.store.now());
        let again = stage.is(Mistake::ReaddressedLeavesAgain)
            && self.pool.address_before(&claim.pin.exit.id).is_some();
        (open && (again || self.pool.changed_under(&claim.pin))).then_some(change)
    }

    pub fn fail_over(&mut self, claim: Claim, down: Down, away: bool, stage: &mut Stage<'_>) {
        let (siblings_only, only) = match self.course.leave(claim.fresh, down) {
            Ok(Leave::Renew(only)) => {
                self.moves += 1;
                return self.renew(claim, only, away, stage);
            }
            Ok(Leave::Move { siblings_only, only }) => (siblings_only, only),
            Err(_) if away => return,
            Err(_) => return self.fail(down_code(down), stage),
        };
        self.moves += 1;
        let not: Vec<_> = self.tried.iter().chain([&claim.pin.exit]).cloned().collect();
        let was = self.pool.pool.exit(&claim.pin.exit.id);
        let now = stage.store.now();
        let mut ask = NewPin {
            address: match self.pool.changed_under(&claim.pin) {
                true => self.pool.address_before(&claim.pin.exit.id),
                false => claim.pin.variant.address().or_else(|| was.and_then(|exit| exit.address)),
            },
            siblings_only: siblings_only && !stage.is(Mistake::AnyAddressWillDo),
            ..new_pin(self.key, &self.ask.filter, left(&claim.pin, now), &not)
        };
        let none = Filter::default();
        if stage.is(Mistake::LabelsForgotten) {
            ask.filter = &none;
        }
        match self.pool.place(&ask, now, stage.rng) {
            Ok(pick) => self.change(claim, pick, only, away, stage),
            Err(_) if away => {}
            // The exit works, and no other is better.
            Err(_) if down == Down::Readdressed && !siblings_only => self.renew(claim, only, away, stage),
            Err(none) => match none.on_trial() {
                Some(id) => self.await_trial(ExitName { id, ..claim.pin.exit }, stage),
                None => self.fail(down_code(down), stage),
            },
        }
    }

    pub fn renew(&mut self, claim: Claim, only: Only, away: bool, stage: &mut Stage<'_>) {
        match self.pool.renew(&claim.pin.exit.id, stage.store.now(), stage.rng) {
            Ok(pick) => self.change(claim, pick, only, away, stage),
            Err(_) if away => {}
            Err(closed) if closed.is_down() && stage.is(Mistake::RenewalGivesUp) => {
                self.fail(Code::ExitDown, stage);
            }
            Err(closed) if closed.is_down() => self.turn(claim, stage),
            Err(_) => self.fail(Code::NoExit, stage),
        }
    }

    fn change(&mut self, claim: Claim, pick: Pick, only: Only, away: bool, stage: &mut Stage<'_>) {
        let only = if stage.is(Mistake::SeenIsReplaced) { Only::Anyhow } else { only };
        let saw = self.tag.expect("a pin was seen");
        self.propose(pick, Some(Change { claim, saw, only, away }), stage);
    }
}

fn new_pin<'a>(key: SessionKey, filter: &'a Filter, ttl: Ttl, not: &'a [ExitName]) -> NewPin<'a> {
    NewPin { key, filter, exit: None, ttl, not, address: None, siblings_only: false, target: None }
}

/// A vendor that refuses every token does not make the exit down.
fn down_code(down: Down) -> Code {
    if down == Down::TokenLost { Code::ExitFailed } else { Code::ExitDown }
}

fn left(pin: &Pin, now: Timestamp) -> Ttl {
    Ttl::from_duration(pin.expires.since(now)).unwrap_or(Ttl::MIN)
}
