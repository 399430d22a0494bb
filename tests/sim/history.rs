//! What clients saw, held against the promises of SPEC §3.
//!
//! It knows what was asked and answered, when pins were made, moved and
//! ended, and true time. What the map and the disk hold it learns only after
//! a death or a refusal, and says whether that is enough.

use std::collections::BTreeMap;
use std::net::IpAddr;

use moorgate::core::code::Code;
use moorgate::core::exit::Exit;
use moorgate::core::pin::{ExitName, News, Pin, Variant};
use moorgate::core::pool::{AddressChange, Failover};
use moorgate::core::session::Filter;
use moorgate::core::time::Ttl;

use super::disk::Time;
use super::life::{Ended, Leg, Life, Tag, Who, Window};
use super::truth::{Step, Truth};

/// Somebody who makes a session's pin.
pub struct Maker<'a> {
    pub request: u64,
    pub ttl: Ttl,
    pub filter: &'a Filter,
    pub exit: &'a Exit,
}

/// Somebody who moves a session.
pub struct Mover<'a> {
    pub failover: Failover,
    pub filter: &'a Filter,
    /// The pin that it saw.
    pub saw: Tag,
    /// When it made up its mind.
    pub decided: Step,
    /// Exits that have failed it.
    pub failed: &'a [ExitName],
}

/// A success.
pub struct Answer<'a> {
    pub request: u64,
    /// When the request began, and when it looked at its exit last.
    pub began: Time,
    pub turned: Step,
    /// It names its exit.
    pub named: bool,
    pub tag: Tag,
    pub news: News,
    pub expires_in_s: u64,
    pub pin: &'a Pin,
    /// Whether a kill at this moment leaves the pin as it is.
    pub survives: bool,
}

/// Everything that has happened.
#[derive(Default)]
pub struct History {
    pub truth: Truth,
    /// What the pools say.
    pub address_change: AddressChange,
    pub step: Step,
    pub now: Time,
    pub lives: Vec<Life>,
    /// The life that each session has or had last.
    pub current: BTreeMap<Who, usize>,
    breach: Option<String>,
    /// When the last success was answered, and the last move made.
    pub answered_at: Step,
    pub moved_at: Step,
    /// What was worth noticing, how often.
    pub tally: BTreeMap<&'static str, u64>,
    /// The story so far, if somebody wants to read it.
    pub story: Option<Vec<String>>,
}

impl History {
    /// Nothing has happened.
    pub fn new(tell: bool, address_change: AddressChange) -> Self {
        // Late enough that no shift leads to before the beginning.
        Self { now: 100_000_000, story: tell.then(Vec::new), address_change, ..Self::default() }
    }

    /// The first broken promise.
    pub fn breach(&self) -> Option<&str> {
        self.breach.as_deref()
    }

    /// A promise was broken.
    pub fn broken(&mut self, what: impl FnOnce() -> String) {
        if self.breach.is_none() {
            self.breach = Some(what());
        }
    }

    /// A promise was broken unless this was so.
    pub fn check(&mut self, kept: bool, what: impl FnOnce() -> String) {
        if !kept {
            self.broken(what);
        }
    }

    /// Something worth noticing.
    pub fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// For whoever reads the story.
    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>6} {:>8} ms  {}", self.step, self.now, what()));
        }
    }

    /// A request begins and finds no pin.
    pub fn absent(&mut self, who: &Who) {
        let now = self.now;
        if let Some(life) = self.current.get(who).map(|at| &self.lives[*at])
            && life.lives(now)
        {
            let early = life.ends().from - now;
            self.broken(|| format!("{who}: the pin ended {early} ms early, or another cannot see it"));
        }
    }

    /// A request begins and uses this pin.
    pub fn used(&mut self, request: u64, who: &Who, pin: &Pin) -> Tag {
        let now = self.now;
        let tag = self.seen(who, pin);
        let life = &mut self.lives[tag.life];
        let late = now.saturating_sub(life.ends().to);
        let (told, slack) = (life.ended.as_ref().is_some_and(|ended| ended.told.is_some()), life.slack());
        life.used = Window::at(now);
        life.uses.push((request, now, None));
        self.check(late <= slack, || format!("{who}: the pin ended {late} ms late"));
        self.check(!told, || format!("{who}: the session was ended, and goes on"));
        tag
    }

    /// A request is shown this pin.
    pub fn seen(&mut self, who: &Who, pin: &Pin) -> Tag {
        self.check(Who::of(pin) == *who, || format!("{who} got the pin of {}", Who::of(pin)));
        let Some(life) = self.current.get(who).copied() else {
            self.broken(|| format!("{who}: a pin that nobody made, on {}", pin.exit));
            return self.begin(who, pin, None);
        };
        let leg = self.lives[life].leg();
        let same = leg.exit == pin.exit && leg.variant == pin.variant;
        let is = leg.exit.clone();
        self.check(same, || format!("{who}: the pin is on {is}, and {} was shown", pin.exit));
        Tag { life, leg: self.lives[life].legs.len() - 1 }
    }

    /// A claim was won.
    pub fn made(&mut self, who: &Who, maker: &Maker<'_>, pin: &Pin) -> Tag {
        self.absent(who);
        self.fits(who, pin, maker.exit, maker.filter, maker.ttl.as_secs());
        let tag = self.begin(who, pin, maker.exit.address);
        self.tell(|| format!("{who} {}: pinned to {} for {}", maker.request, pin.exit, maker.ttl));
        let life = &mut self.lives[tag.life];
        life.ttl_ms = u64::from(maker.ttl.as_secs()) * 1000;
        life.expires = Window::at(self.now + life.ttl_ms);
        life.uses.push((maker.request, self.now, None));
        tag
    }

    fn begin(&mut self, who: &Who, pin: &Pin, address: Option<IpAddr>) -> Tag {
        let before = self.current.get(who).copied();
        let life = Life::new(pin, address, before, self.now);
        self.lives.push(life);
        let life = self.lives.len() - 1;
        self.lives[life].legs[0].came = (self.step, self.now);
        self.current.insert(who.clone(), life);
        Tag { life, leg: 0 }
    }

    /// Whether a pin may be on this exit.
    fn fits(&mut self, who: &Who, pin: &Pin, exit: &Exit, filter: &Filter, left_s: u32) {
        let (id, now) = (exit.name.clone(), self.now);
        self.check(exit.meets(filter), || format!("{who}: {id} does not have the labels"));
        self.check(*exit.name.pool == *who.pool, || format!("{who}: {id} is of another pool"));
        let held = exit.max_ttl.is_none_or(|most| left_s <= most.as_secs());
        self.check(held, || format!("{who}: {id} does not hold an address for {left_s} s"));
        if let Variant::Address(address) = pin.variant {
            let other = self.current.iter().find(|(other, at)| {
                let life = &self.lives[**at];
                life.lives(now)
                    && *other != who
                    && life.leg().exit == exit.name
                    && life.leg().variant == pin.variant
            });
            let other = other.map(|(other, _)| other.clone());
            self.check(other.is_none(), || format!("{who}: {other:?} has {address} already"));
        }
    }

    /// A session was moved.
    pub fn moved(&mut self, who: &Who, mover: &Mover<'_>, pin: &Pin, exit: &Exit) -> Tag {
        let Some(life) = self.current.get(who).copied() else {
            self.broken(|| format!("{who}: moved, and there was no pin"));
            return self.begin(who, pin, None);
        };
        let now = Tag { life, leg: self.lives[life].legs.len() - 1 };
        let left_ms = self.lives[life].expires.from.saturating_sub(self.now);
        let from = self.lives[life].leg();
        let (fresh, known) = (from.owed == Some(News::New), exit.address_for(&pin.variant));
        let (from_exit, from_address) = (from.exit.clone(), from.address);
        let same_exit = from.exit == exit.name;
        let failed_me = mover.failed.contains(&from.exit);
        let down = self.truth.down_since(&from.exit, mover.decided);
        let token_lost = self.truth.token_lost(&from.exit, &from.variant);
        let changed = self.truth.differs(&from.exit, from.via, mover.decided);
        let leaves = self.address_change == AddressChange::Move;
        let readdressed = leaves && self.truth.readdressed(&from.exit, from.came.0).is_some();
        let lost = match (fresh, same_exit) {
            (true, _) => down || failed_me || changed || token_lost,
            (false, true) => changed || readdressed || (token_lost && mover.failover == Failover::On),
            (false, false) => down || token_lost || readdressed,
        };
        let allowed = fresh
            || same_exit
            || match mover.failover {
                Failover::On => true,
                Failover::Off => false,
                Failover::Address => known.is_some() && (from_address == known),
            };
        let (to, saw) = (exit.name.clone(), mover.saw);
        self.moved_at = self.step;
        self.tell(|| format!("{who}: moved from {from_exit} to {to}"));
        self.check(saw == now, || format!("{who}: moved by one who saw another pin ({saw:?}, is {now:?})"));
        self.check(lost, || format!("{who}: moved from {from_exit} to {to}, and {from_exit} was not lost"));
        self.check(allowed, || format!("{who}: moved to {to} with failover {}", mover.failover.word()));
        self.fits(who, pin, exit, mover.filter, u32::try_from(left_ms / 1000).unwrap_or(0));
        self.count(match (fresh, same_exit, known.is_some() && known == from_address) {
            (true, ..) => "replaced before it was seen",
            (_, true, _) => "renewed",
            (.., true) => "moved to a sibling",
            _ => "moved to another",
        });
        if readdressed && !down && !changed {
            self.count("left for its address");
        }
        let owed = if fresh { News::New } else { News::Moved };
        let came = (self.step, self.now);
        self.lives[life].legs.push(Leg { came, ..Leg::new(pin, known, Some(owed)) });
        Tag { leg: now.leg + 1, ..now }
    }

    /// A request leaves through an exit.
    pub fn departed(&mut self, who: &Who, tag: Tag, exit: &ExitName, variant: &Variant) {
        let leg = self.lives[tag.life].legs.get(tag.leg);
        let by = leg.map(|leg| leg.exit.clone());
        let own = leg.is_some_and(|leg| leg.exit == *exit && leg.variant == *variant);
        self.check(own, || format!("{who}: leaves by {exit}, and its pin is on {by:?}"));
        // A pin that has ended was in force when the request began.
        let current = self.current.get(who).filter(|at| self.lives[**at].lives(self.now));
        let latest = current.is_none_or(|at| *at == tag.life && tag.leg + 1 == self.lives[*at].legs.len());
        self.check(latest, || format!("{who}: leaves by {exit}, and the session is elsewhere by now"));
    }

    /// A success is answered.
    pub fn answered(&mut self, who: &Who, answer: &Answer<'_>) {
        let (now, tag, news) = (self.now, answer.tag, answer.news);
        self.answered_at = self.step;
        self.stayed(who, answer);
        let current = self.current.get(who) == Some(&tag.life);
        let life = &mut self.lives[tag.life];
        let over = !life.lives(now);
        let latest = current && tag.leg + 1 == life.legs.len();
        let Some(leg) = life.legs.get_mut(tag.leg) else { return };
        leg.shown.get_or_insert(now);
        let owed = leg.owed.filter(|_| latest);
        let fine = news == owed.unwrap_or(News::Held) || (over && news == News::Held);
        leg.owed = leg.owed.filter(|owed| *owed != news);
        let again = news == News::New && std::mem::replace(&mut life.said_new, true);
        life.uses.iter_mut().filter(|(by, ..)| *by == answer.request).for_each(|(.., shown)| {
            shown.get_or_insert(now);
        });
        let left = |end: Time| end.saturating_sub(now) / 1000;
        let (least, most) = (left(life.expires.from), left(life.expires.to));
        self.check(answer.survives, || format!("{who}: answered before the pin, or its use, was written"));
        self.check(!again, || format!("{who}: two answers said new"));
        self.check(fine, || format!("{who}: said {news:?}, and {owed:?} was to be said"));
        let said = answer.expires_in_s;
        self.check((least..=most).contains(&said), || {
            format!("{who}: expires-in={said}, and {least} to {most} are left")
        });
        self.check(Who::of(answer.pin) == *who, || format!("{who}: answered with another's pin"));
    }

    /// A success through an exit whose address has changed under the pin: only
    /// where that is to be ignored, or the request could not know.
    fn stayed(&mut self, who: &Who, answer: &Answer<'_>) {
        let life = &self.lives[answer.tag.life];
        let Some(leg) = life.legs.get(answer.tag.leg) else { return };
        let Some(((step, at), sure)) = self.truth.readdressed(&leg.exit, leg.came.0) else { return };
        // Instants of one millisecond, and of a clock that a restart has set,
        // do not say which was first.
        let older = leg.came.1 < at && life.legs[0].came.1 < at && !life.crashed;
        let bound = sure && older && step < answer.turned && life.was_seen(answer.began) && !answer.named;
        let (exit, ignored) = (leg.exit.clone(), self.address_change == AddressChange::Ignore);
        if bound && ignored {
            self.count("stays for all its new address");
        }
        self.check(!bound || ignored, || format!("{who}: stays on {exit}, which has got another address"));
    }

    /// A request fails.
    pub fn failed(&mut self, who: &Who, failed: &Failed<'_>) {
        if failed.code != Code::ExitDown {
            return;
        }
        let Some(tag) = failed.tag else { return };
        let Some(leg) = self.lives[tag.life].legs.get(tag.leg) else { return };
        let (exit, variant, came) = (leg.exit.clone(), leg.variant.clone(), leg.came.0);
        let readdressed = self.truth.readdressed(&exit, came).is_some();
        if readdressed && self.address_change == AddressChange::Fail {
            return self.count("fails for its new address");
        }
        let leaves = readdressed && self.address_change == AddressChange::Move;
        let down = self.truth.down_since(&exit, failed.began) || self.truth.token_lost(&exit, &variant);
        let down = down || leaves;
        self.check(down, || format!("{who}: exit_down, and {exit} was up"));
        let left_s = self.lives[tag.life].expires.to.saturating_sub(self.now).div_ceil(1000);
        if failed.failover != Failover::On || failed.named || failed.moves > 0 {
            return;
        }
        let fit = self.truth.fit_since(&who.pool, failed.looked).find(|other| {
            let holds = other.max_ttl.is_none_or(|most| left_s <= u64::from(most.as_secs()));
            other.name != exit && !failed.failed.contains(&other.name) && holds && other.meets(failed.filter)
        });
        let fit = fit.map(|other| other.name.clone());
        self.check(fit.is_none(), || format!("{who}: exit_down, and {} was there", fit.unwrap()));
    }

    /// The session is to be ended.
    pub fn ending(&mut self, who: &Who) -> Option<usize> {
        let life = *self.current.get(who)?;
        self.lives[life].ended = Some(Ended { told: None });
        Some(life)
    }

    /// The session was ended, and somebody told so.
    pub fn ended(&mut self, life: usize) {
        let now = self.now;
        if let Some(ended) = &mut self.lives[life].ended {
            ended.told = Some(now);
        }
    }
}

/// A failure.
pub struct Failed<'a> {
    pub code: Code,
    pub tag: Option<Tag>,
    pub began: Step,
    /// Since when it went by the pools that it had.
    pub looked: Step,
    pub failover: Failover,
    pub filter: &'a Filter,
    pub named: bool,
    pub moves: u32,
    pub failed: &'a [ExitName],
}
