//! What is true of the exits, reckoned apart from the gateway: which are in
//! the files, which have failed how often, and so which may be called down.

use std::collections::BTreeMap;
use std::sync::Arc;

use moorgate::core::exit::{Exit, Mode};
use moorgate::core::fault::Blame;
use moorgate::core::pin::{ExitName, Variant};
use moorgate::core::pool::Pools;

use super::pools::EJECT_AFTER;

/// The number of a step: steps are told apart where milliseconds are not.
pub type Step = u64;

/// How a dial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialled {
    Through,
    Failed(Blame),
}

#[derive(Debug, Default)]
struct Record {
    /// As listed.
    exit: Option<Arc<Exit>>,
    /// The digest of what it was when it was listed last.
    known: Option<u32>,
    /// Failures in a row.
    streak: u32,
    /// Targets that met silence, in a row.
    silent: Vec<String>,
    /// Since when it is ejected.
    ejected: Option<Step>,
    /// Failures of each token.
    tokens: BTreeMap<Arc<str>, u32>,
    /// When it was down last.
    was_down: Option<Step>,
    /// When it was last that its `via` was changed, or it was taken out.
    changed: Option<Step>,
    /// When anything of it was changed last.
    touched: Step,
}

impl Record {
    fn is_down(&self) -> bool {
        self.ejected.is_some() || self.exit.as_ref().is_none_or(|exit| exit.mode == Mode::Off)
    }
}

/// All exits.
#[derive(Debug, Default)]
pub struct Truth(BTreeMap<ExitName, Record>);

impl Truth {
    /// Other pools are in force from this step on.
    pub fn listed(&mut self, pools: &Pools, step: Step) {
        let listed: BTreeMap<_, _> =
            pools.iter().flat_map(|pool| &pool.exits).map(|exit| (exit.name.clone(), exit.clone())).collect();
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
            }
            // What was learned was learned of another exit.
            if is.is_some() && record.known != is && record.known.replace(is.unwrap_or_default()).is_some() {
                (record.streak, record.ejected) = (0, None);
                record.silent.clear();
                record.tokens.clear();
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
        if let (Variant::Token(token), Dialled::Failed(Blame::Token)) = (variant, how) {
            *record.tokens.entry(token.clone()).or_default() += 1;
        }
        if record.ejected.is_some_and(|since| began <= since) {
            return; // what began before says nothing new
        }
        let failed = match how {
            Dialled::Through | Dialled::Failed(Blame::Target | Blame::Token) => {
                record.silent.clear();
                false
            }
            Dialled::Failed(Blame::Silence) => {
                if !record.silent.iter().any(|silent| silent == target) {
                    record.silent.push(target.to_owned());
                }
                record.silent.len() >= EJECT_AFTER as usize
            }
            Dialled::Failed(Blame::Exit) => true,
        };
        match (failed, record.ejected) {
            (false, ejected) => {
                if ejected.is_some() {
                    record.was_down = Some(step);
                }
                (record.streak, record.ejected) = (0, None);
            }
            (true, Some(_)) => record.ejected = Some(step),
            (true, None) => {
                record.streak += 1;
                let silence = how == Dialled::Failed(Blame::Silence);
                if silence || record.streak >= EJECT_AFTER {
                    record.ejected = Some(step);
                }
            }
        }
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
        let failures = self.0.get(name).and_then(|record| record.tokens.get(token));
        failures.is_some_and(|failures| *failures >= EJECT_AFTER)
    }

    /// Exits of a pool that were fit for any new pin all the time since.
    pub fn fit_since(&self, pool: &str, since: Step) -> impl Iterator<Item = &Arc<Exit>> {
        let fit = move |record: &&Record| {
            let free = |exit: &Arc<Exit>| {
                exit.mode == Mode::Active && exit.max_sessions == 0 && &*exit.name.pool == pool
            };
            let well = record.ejected.is_none() && record.was_down.is_none_or(|then| then < since);
            well && record.touched < since && record.exit.as_ref().is_some_and(free)
        };
        self.0.values().filter(fit).filter_map(|record| record.exit.as_ref())
    }
}
