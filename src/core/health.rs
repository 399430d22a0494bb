//! When an exit is taken out of use, and how it comes back.
//!
//! Owns: [`Health`], a state machine fed with [`Outcome`]s: so many failures
//! in a row eject an exit for a while, then exactly one request tries it;
//! [`TokenFailures`], the same count for the tokens of a vendor's template.
//! Must not know: clocks (`now` is an argument), locks, what a dial is.

use std::collections::HashMap;
use std::sync::Arc;

use super::pool::HealthPolicy;
use super::time::Timestamp;

/// The most targets whose silence is told apart, and so the most that
/// `eject_after` can ask for of it.
const MAX_SILENT: usize = 256;

/// The most tokens whose failures are counted; beyond, the count of some
/// other token starts anew.
const MAX_TOKENS: usize = 4096;

/// Whether an exit may be used, and what led there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    state: State,
    /// Targets (hashes) that met silence since the upstream last answered.
    silent: Vec<u64>,
    /// Names trials, so that one that outlived a reset changes nothing.
    trials: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Healthy { failures: u32 },
    Ejected { until: Timestamp, trial: Option<u32> },
}

impl Default for State {
    fn default() -> Self {
        Self::Healthy { failures: 0 }
    }
}

/// The right to use an exit once.
#[derive(Debug, PartialEq, Eq)]
pub enum Pass {
    /// One of many.
    Free,
    /// The one request that tries an exit whose ejection has run out.
    Trial(u32),
}

/// What became of a dial through an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target was reached.
    Succeeded,
    /// The exit did its part; the target did not.
    TargetFailed,
    /// The exit's doing.
    ExitFailed,
    /// The upstream accepted and then was silent about this target (a hash).
    Silent(u64),
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The exit is out of use from now on.
    Ejected,
    /// A trial found the exit well again.
    Returned,
}

impl Health {
    /// Whether [`Health::enter`] would give a pass.
    pub fn admits(&self, now: Timestamp) -> bool {
        match self.state {
            State::Healthy { .. } => true,
            State::Ejected { until, trial } => trial.is_none() && until <= now,
        }
    }

    /// A pass to use the exit; of an exit whose ejection has run out, one at
    /// a time. Each pass is to come back through [`Health::report`] or
    /// [`Health::give_back`].
    pub fn enter(&mut self, now: Timestamp) -> Option<Pass> {
        match &mut self.state {
            State::Healthy { .. } => Some(Pass::Free),
            State::Ejected { until, trial: trial @ None } if *until <= now => {
                self.trials = self.trials.wrapping_add(1);
                *trial = Some(self.trials);
                Some(Pass::Trial(self.trials))
            }
            State::Ejected { .. } => None,
        }
    }

    /// Reckons with an outcome. While the exit is ejected only the trial's
    /// counts: what began before says nothing new.
    pub fn report(
        &mut self,
        pass: Pass,
        outcome: Outcome,
        policy: &HealthPolicy,
        now: Timestamp,
    ) -> Option<Change> {
        let on_trial = self.is_trial(&pass);
        if !on_trial && !matches!(self.state, State::Healthy { .. }) {
            return None;
        }
        let failed = match outcome {
            Outcome::Succeeded | Outcome::TargetFailed => {
                self.silent.clear();
                false
            }
            Outcome::ExitFailed => true,
            Outcome::Silent(target) => self.too_silent(target, policy),
        };
        let until = now.plus(policy.eject_for);
        match &mut self.state {
            State::Healthy { failures } if !failed => *failures = 0,
            State::Healthy { failures } => {
                *failures = failures.saturating_add(1);
                let enough = matches!(outcome, Outcome::Silent(_)) || *failures >= policy.eject_after;
                if enough && policy.eject_after > 0 {
                    self.state = State::Ejected { until, trial: None };
                    return Some(Change::Ejected);
                }
            }
            State::Ejected { .. } if !failed => {
                self.state = State::default();
                return Some(Change::Returned);
            }
            State::Ejected { .. } => {
                self.state = State::Ejected { until, trial: None };
                return Some(Change::Ejected);
            }
        }
        None
    }

    /// Takes back a pass that was not used: a trial is free for another.
    pub fn give_back(&mut self, pass: &Pass) {
        if self.is_trial(pass)
            && let State::Ejected { trial, .. } = &mut self.state
        {
            *trial = None;
        }
    }

    /// Whether a success would change nothing, so that it need not be told.
    pub fn is_spotless(&self) -> bool {
        self.silent.is_empty() && self.state == State::default()
    }

    /// Until when it is out of use, where it is; a trial may be under way.
    pub fn ejected_until(&self) -> Option<Timestamp> {
        match self.state {
            State::Healthy { .. } => None,
            State::Ejected { until, .. } => Some(until),
        }
    }

    /// Whether the one request that tries it is under way.
    pub fn on_trial(&self) -> bool {
        matches!(self.state, State::Ejected { trial: Some(_), .. })
    }

    /// Forgets all that was: the exit is another one now, or its operator
    /// says that it works.
    pub fn reset(&mut self) {
        *self = Self { trials: self.trials, ..Self::default() };
    }

    fn is_trial(&self, pass: &Pass) -> bool {
        match (&self.state, pass) {
            (State::Ejected { trial: Some(under_way), .. }, Pass::Trial(this)) => under_way == this,
            _ => false,
        }
    }

    /// Notes a silent target; whether silence is now the exit's own fault.
    /// The list outlives the ejection, so that a silent trial ejects again.
    fn too_silent(&mut self, target: u64, policy: &HealthPolicy) -> bool {
        let enough = usize::try_from(policy.eject_after).unwrap_or(MAX_SILENT).min(MAX_SILENT);
        if self.silent.len() < enough && !self.silent.contains(&target) {
            self.silent.push(target);
        }
        enough > 0 && self.silent.len() >= enough
    }
}

/// Failures in a row of single tokens: a vendor's session may be lost while
/// its gateway is well.
#[derive(Clone, Debug, Default)]
pub struct TokenFailures(HashMap<Arc<str>, u32>);

impl TokenFailures {
    /// Counts a failure; whether the token is lost (and forgotten).
    pub fn failed(&mut self, token: &Arc<str>, policy: &HealthPolicy) -> bool {
        if policy.eject_after == 0 {
            return false;
        }
        let failures = self.0.get(token).map_or(1, |before| before.saturating_add(1));
        if failures >= policy.eject_after {
            self.0.remove(token);
            return true;
        }
        if self.0.len() >= MAX_TOKENS
            && !self.0.contains_key(token)
            && let Some(other) = self.0.keys().next().cloned()
        {
            self.0.remove(&other);
        }
        self.0.insert(token.clone(), failures);
        false
    }

    /// Ends a token's count.
    pub fn worked(&mut self, token: &str) {
        self.0.remove(token);
    }

    /// Whether no token has failed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
