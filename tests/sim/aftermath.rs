//! What is left after a death or a refusal, held against what clients had
//! been told by then.

use std::collections::BTreeMap;

use moorgate::core::pin::Pin;

use super::disk::Time;
use super::history::History;
use super::life::{Leg, Who, Window};

/// A pin that is left, and for how long it will live unused.
pub struct Left {
    pub pin: Pin,
    pub left_ms: u64,
}

/// How the gateway ended, and what of it must be left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Died {
    pub at: Time,
    /// What clients were told by then.
    pub told_by: Time,
    /// What clients were told of uses by then.
    pub uses_by: Time,
}

impl History {
    /// The gateway is back.
    pub fn restarted(&mut self, left: &[Left], death: &Died, shift: (i64, i64)) {
        let (now, uses_by) = (self.now, death.uses_by);
        let before = |at: &usize| self.lives[*at].before;
        let may_be_back: Vec<_> =
            self.current.values().flat_map(|at| std::iter::successors(Some(*at), before).take(4)).collect();
        for at in may_be_back {
            let life = &mut self.lives[at];
            life.doubtful = !life.lives(death.at);
            let told = |(_, _, shown): &&(u64, Time, Option<Time>)| shown.is_some_and(|t| t <= uses_by);
            let sure = life.uses.iter().filter(told).map(|(_, at, _)| *at).max();
            let made = life.expires.from.saturating_sub(life.ttl_ms);
            life.used.from = sure.unwrap_or(made).min(life.used.from);
            life.uses = vec![(0, life.used.from, Some(0))];
            life.used = life.used.shifted(shift).min(Window::at(now));
            life.expires = life.expires.shifted(shift).min(Window::at(now + life.ttl_ms));
            life.crashed = true;
            life.legs.iter_mut().for_each(|leg| leg.owed = None);
        }
        self.reconcile(left, death.told_by, true);
    }

    /// The disk has refused: what nobody was told of need not be true.
    pub fn refused(&mut self, left: &[Left]) {
        self.reconcile(left, self.now, false);
    }

    /// Holds what is left against what clients had been told by then.
    fn reconcile(&mut self, left: &[Left], told_by: Time, restarted: bool) {
        let mut left: BTreeMap<_, _> = left.iter().map(|left| (Who::of(&left.pin), left)).collect();
        let now = self.now;
        for (who, at) in self.current.clone() {
            let told = |leg: &Leg| leg.shown.is_some_and(|t| t <= told_by);
            let Some(Left { pin, left_ms }) = left.remove(&who) else {
                let life = &self.lives[at];
                let life_before = life.before;
                let (over, seen, exit) =
                    (!life.lives(now), life.legs.iter().any(told), life.leg().exit.clone());
                self.check(over || !seen, || {
                    format!("{who}: the pin on {exit} is lost, and a client had seen it")
                });
                if !seen && !over {
                    self.count("a pin that nobody had seen was lost");
                }
                match life_before {
                    Some(before) if !seen && !over => drop(self.current.insert(who, before)),
                    _ if restarted || !over => drop(self.current.remove(&who)),
                    _ => {}
                }
                continue;
            };
            let is = |leg: &Leg| leg.version == pin.version;
            let back = |at: usize| Some((at, self.lives[at].legs.iter().rposition(is)?));
            // What nobody was told of need not have been.
            let unseen = |at: &usize| !self.lives[*at].legs.iter().any(told);
            let found = std::iter::successors(Some(at), |at| self.lives[*at].before.filter(|_| unseen(at)));
            let Some((at, leg)) = found.take(4).find_map(back) else {
                self.broken(|| format!("{who}: back on {}, where it never was", pin.exit));
                continue;
            };
            self.current.insert(who.clone(), at);
            let life = &mut self.lives[at];
            let latest = life.legs.iter().rposition(told).is_none_or(|seen| seen <= leg);
            life.legs.truncate(leg + 1);
            let (ends, is) = (life.ends(), now + left_ms);
            let right = life.doubtful || (ends.from <= is && is <= ends.to + life.slack());
            let ended = life.ended.take().and_then(|ended| ended.told).is_some_and(|t| t <= told_by);
            self.check(latest, || format!("{who}: back on {}, where no client was sent last", pin.exit));
            self.check(!ended, || format!("{who}: the session was ended, and is back"));
            self.check(right, || {
                format!("{who}: back until {is}, and was to end {}..{}", ends.from, ends.to)
            });
        }
        let unknown = left.into_keys().next();
        self.check(unknown.is_none(), || format!("{}: a pin that nobody made is back", unknown.unwrap()));
    }
}
