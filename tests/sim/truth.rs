//! What is true of the exits, reckoned apart from the gateway: which are in
//! the files, which have failed how often, and so which may be called down.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use moorgate::core::exit::{Exit, Mode};
use moorgate::core::fault::Blame;
use moorgate::core::pin::{ExitName, Variant};
use moorgate::core::pool::Pools;

use super::disk::Time;
use super::pools::EJECT_AFTER;

/// The number of a step: steps are told apart where milliseconds are not.
pub type Step = u64;

/// How a dial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialled {
    Through,
    Failed(Blame),
}

/// What was learned of an exit by its dials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Learned {
    /// Failures in a row.
    streak: u32,
    /// Targets that met silence, in a row.
    silent: Vec<String>,
    /// Since when it is ejected.
    ejected: Option<Step>,
    /// Failures of each token.
    tokens: BTreeMap<Arc<str>, u32>,
}

impl Learned {
    fn dialled(&mut self, variant: &Variant, target: &str, began: Step, how: Dialled, step: Step) {
        if let (Variant::Token(token), Dialled::Failed(Blame::Token)) = (variant, how) {
            *self.tokens.entry(token.clone()).or_default() += 1;
        }
        if self.ejected.is_some_and(|since| began <= since) {
            return; // what began before says nothing new
        }
        if how == Dialled::Failed(Blame::Full) {
            return; // it tells nothing of the exit
        }
        let failed = match how {
            Dialled::Through | Dialled::Failed(Blame::Target | Blame::Token) => {
                self.silent.clear();
                false
            }
            Dialled::Failed(Blame::Silence) => {
                if !self.silent.iter().any(|silent| silent == target) {
                    self.silent.push(target.to_owned());
                }
                self.silent.len() >= EJECT_AFTER as usize
            }
            Dialled::Failed(Blame::Exit | Blame::Full) => true,
        };
        if !failed {
            (self.streak, self.ejected) = (0, None);
        } else if self.ejected.is_some() {
            self.ejected = Some(step);
        } else {
            self.streak += 1;
            if how == Dialled::Failed(Blame::Silence) || self.streak >= EJECT_AFTER {
                self.ejected = Some(step);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Record {
    /// As listed.
    exit: Option<Arc<Exit>>,
    /// The digest of what it was when it was listed last.
    known: Option<u32>,
    /// What was learned of it. Of one that was away for a while, the gateway
    /// may or may not have forgotten what it knew: then either may be so.
    learned: Vec<Learned>,
    /// When it was down last.
    was_down: Option<Step>,
    /// When it was last that its `via` was changed, or it was taken out.
    changed: Option<Step>,
    /// When anything of it was changed last.
    touched: Step,
    /// The address that a probe has seen last.
    seen: Option<IpAddr>,
    /// When probes found another one last; and whether the gateway is sure to
    /// know it still.
    readdressed: Option<(Step, Time)>,
    sure: bool,
}

impl Record {
    fn is_ejected(&self) -> bool {
        self.learned.iter().any(|learned| learned.ejected.is_some())
    }

    fn is_down(&self) -> bool {
        self.is_ejected() || self.exit.as_ref().is_none_or(|exit| exit.mode == Mode::Off)
    }

    /// It may be as if nothing had been learned.
    fn may_be_forgotten(&mut self) {
        if !self.learned.contains(&Learned::default()) {
            self.learned.push(Learned::default());
        }
    }
}

/// All exits.
#[derive(Debug, Default)]
pub struct Truth(BTreeMap<ExitName, Record>);

impl Truth {
    /// Other pools are in force from this step on.
    pub fn listed(&mut self, pools: &Pools, step: Step) {
        let listed: BTreeMap<_, _> = pools
            .iter()
            .flat_map(|pool| pool.exits.iter())
            .map(|exit| (exit.name.clone(), exit.clone()))
            .collect();
        for name in listed.keys() {
            self.0.entry(name.clone()).or_default();
        }
        for (name, record) in &mut self.0 {
            let now = listed.get(name);
            if record.is_down() {
                record.was_down = Some(step);
            }
            let (was, is) = (record.exit.as_ref().map(|exit| exit.digest), now.map(|exit| exit.digest));
            if was.is_some() && was != is {
                record.changed = Some(step);
                record.sure = false;
            }
            // What was learned was learned of another exit.
            if is.is_some() && record.known != is {
                record.known = is;
                record.learned.clear();
            }
            if was.is_none() || record.learned.is_empty() {
                record.may_be_forgotten();
            }
            if record.exit.as_ref() != now {
                record.touched = step;
            }
            record.exit = now.cloned();
        }
    }

    /// The gateway was started: it knows of no failure.
    pub fn forget(&mut self) {
        for record in self.0.values_mut() {
            *record = Record { exit: record.exit.take(), ..Record::default() };
        }
    }

    /// A dial that began at a step has ended.
    pub fn dialled(
        &mut self,
        name: &ExitName,
        variant: &Variant,
        target: &str,
        began: Step,
        how: Dialled,
        step: Step,
    ) {
        let record = self.0.entry(name.clone()).or_default();
        let was_ejected = record.is_ejected();
        record.learned.iter_mut().for_each(|learned| learned.dialled(variant, target, began, how, step));
        record.learned.dedup();
        if was_ejected && !record.is_ejected() {
            record.was_down = Some(step);
        }
    }

    /// A probe has seen the exit's address.
    pub fn probed(&mut self, name: &ExitName, address: IpAddr, at: (Step, Time), changed: bool) {
        let record = self.0.entry(name.clone()).or_default();
        if changed {
            (record.readdressed, record.sure) = (Some(at), true);
        }
        record.seen = Some(address);
    }

    /// The address that a probe has seen last.
    pub fn seen(&self, name: &ExitName) -> Option<IpAddr> {
        self.0.get(name)?.seen
    }

    /// When its address was found to be another, later than this step; and
    /// whether the gateway is sure to know.
    pub fn readdressed(&self, name: &ExitName, since: Step) -> Option<((Step, Time), bool)> {
        let record = self.0.get(name)?;
        record.readdressed.filter(|(step, _)| *step > since).map(|at| (at, record.sure))
    }

    /// Whether it was gone, off or ejected at any time since.
    pub fn down_since(&self, name: &ExitName, since: Step) -> bool {
        let record = self.0.get(name);
        record.is_none_or(|record| record.is_down() || record.was_down.is_some_and(|then| then >= since))
    }

    /// Whether its `via` was another one at any time since.
    pub fn differs(&self, name: &ExitName, via: u32, since: Step) -> bool {
        let record = self.0.get(name);
        record.is_some_and(|record| {
            let now = record.exit.as_ref().is_some_and(|exit| exit.digest != via);
            now || record.changed.is_some_and(|then| then >= since)
        })
    }

    /// Whether so many failures were met with this token that it is lost.
    pub fn token_lost(&self, name: &ExitName, variant: &Variant) -> bool {
        let Variant::Token(token) = variant else { return false };
        let learned = self.0.get(name).into_iter().flat_map(|record| &record.learned);
        learned.filter_map(|learned| learned.tokens.get(token)).any(|failures| *failures >= EJECT_AFTER)
    }

    /// Exits of a pool that were fit for any new pin all the time since.
    pub fn fit_since(&self, pool: &str, since: Step) -> impl Iterator<Item = &Arc<Exit>> {
        let fit = move |record: &&Record| {
            let free = |exit: &Arc<Exit>| {
                exit.mode == Mode::Active && exit.max_sessions == 0 && &*exit.name.pool == pool
            };
            let well = !record.is_ejected() && record.was_down.is_none_or(|then| then < since);
            well && record.touched < since && record.exit.as_ref().is_some_and(free)
        };
        self.0.values().filter(fit).filter_map(|record| record.exit.as_ref())
    }
}
