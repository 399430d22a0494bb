use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const POLICY: HealthPolicy = HealthPolicy { eject_after: 3, eject_for: Duration::from_secs(30) };

fn at(s: u64) -> Timestamp {
    Timestamp::from_ms(s * 1000)
}

/// Letters in, the verdict after the last one out: `s`uccess, `t`arget's
/// failure, `x` exit's failure, a digit: silence about that target.
#[track_caller]
fn check(outcomes: &str, ejected: bool) {
    let mut health = Health::default();
    for letter in outcomes.chars() {
        let Some(pass) = health.enter(at(0)) else { break };
        health.report(pass, outcome(letter), &POLICY, at(0));
    }
    assert_eq!(health.ejected_until().is_some(), ejected, "{outcomes}");
}

fn outcome(letter: char) -> Outcome {
    match letter {
        's' => Outcome::Succeeded,
        't' => Outcome::TargetFailed,
        'x' => Outcome::ExitFailed,
        digit => Outcome::Silent(u64::from(digit)),
    }
}

#[test]
fn failures_in_a_row_eject() {
    check("xx", false);
    check("xxx", true);
    check("xxsx", false);
    check("xxtxx", false);
    check("xxtxxx", true);
    check("sssxxx", true);
}

#[test]
fn silence_counts_once_for_each_target() {
    check("12", false);
    check("123", true);
    check("1111111", false);
    check("121212", false);
    check("12s3", false);
    check("12t3", false);
    check("12x3", true);
    check("xx1x", false);
}

#[test]
fn one_request_tries_an_exit_whose_time_is_over() {
    let mut health = Health::default();
    for _ in 0..3 {
        let pass = health.enter(at(0)).unwrap();
        health.report(pass, Outcome::ExitFailed, &POLICY, at(0));
    }
    assert_eq!(health.ejected_until(), Some(at(30)));
    assert_eq!(health.enter(at(29)), None);
    let trial = health.enter(at(30)).unwrap();
    assert!(!health.admits(at(30)));
    assert_eq!(health.enter(at(30)), None);

    health.give_back(&trial);
    let trial = health.enter(at(31)).unwrap();
    let stale = Pass::Free;
    assert_eq!(health.report(stale, Outcome::Succeeded, &POLICY, at(32)), None);
    assert_eq!(health.report(trial, Outcome::ExitFailed, &POLICY, at(33)), Some(Change::Ejected));
    assert_eq!(health.ejected_until(), Some(at(63)));

    let trial = health.enter(at(63)).unwrap();
    assert_eq!(health.report(trial, Outcome::TargetFailed, &POLICY, at(64)), Some(Change::Returned));
    assert!(health.is_spotless());
}

#[test]
fn a_trial_that_outlived_a_reset_changes_nothing() {
    let mut health = Health::default();
    let policy = HealthPolicy { eject_after: 1, ..POLICY };
    let pass = health.enter(at(0)).unwrap();
    health.report(pass, Outcome::ExitFailed, &policy, at(0));
    let old = health.enter(at(30)).unwrap();
    health.reset();
    let pass = health.enter(at(30)).unwrap();
    health.report(pass, Outcome::ExitFailed, &policy, at(30));
    let _new = health.enter(at(60)).unwrap();
    health.give_back(&old);
    assert!(health.on_trial());
    assert_eq!(health.report(old, Outcome::Succeeded, &policy, at(60)), None);
    assert!(health.on_trial());
}

#[test]
fn a_silent_trial_ejects_again() {
    let mut health = Health::default();
    for target in 1..=3 {
        let pass = health.enter(at(0)).unwrap();
        health.report(pass, Outcome::Silent(target), &POLICY, at(0));
    }
    let trial = health.enter(at(30)).unwrap();
    assert_eq!(health.report(trial, Outcome::Silent(1), &POLICY, at(30)), Some(Change::Ejected));
}

#[test]
fn zero_turns_it_off() {
    let policy = HealthPolicy { eject_after: 0, ..POLICY };
    let mut health = Health::default();
    for n in 0..1000 {
        for outcome in [Outcome::ExitFailed, Outcome::Silent(n)] {
            let pass = health.enter(at(0)).unwrap();
            assert_eq!(health.report(pass, outcome, &policy, at(0)), None);
        }
    }
    assert!(!TokenFailures::default().failed(&"a".into(), &policy));
}

#[test]
fn tokens_are_counted_apart() {
    let mut tokens = TokenFailures::default();
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    assert!(!tokens.failed(&a, &POLICY));
    assert!(!tokens.failed(&b, &POLICY));
    assert!(!tokens.failed(&a, &POLICY));
    tokens.worked("b");
    assert!(tokens.failed(&a, &POLICY));
    assert!(tokens.is_empty());
}

#[test]
fn tokens_are_bounded() {
    let mut tokens = TokenFailures::default();
    for n in 0..2 * MAX_TOKENS {
        tokens.failed(&n.to_string().into(), &POLICY);
    }
    assert_eq!(tokens.0.len(), MAX_TOKENS);
}

/// The rules in other words: the whole history, judged anew each time.
#[derive(Default)]
struct Model {
    row: u32,
    silent: HashSet<u64>,
    ejected: Option<u64>,
    trial: bool,
}

impl Model {
    fn report(&mut self, on_trial: bool, outcome: Outcome, after: u32, now: u64) {
        if self.ejected.is_some() && !on_trial {
            return;
        }
        let fault = match outcome {
            Outcome::ExitFailed => {
                self.row += 1;
                on_trial || self.row >= after
            }
            Outcome::Silent(target) => {
                self.silent.insert(target);
                self.row = 0;
                self.silent.len() as u32 >= after
            }
            Outcome::Succeeded | Outcome::TargetFailed => {
                self.row = 0;
                self.silent.clear();
                false
            }
        };
        self.trial = false;
        self.ejected = fault.then_some(now + 30);
        if fault {
            self.row = 0;
        }
    }
}

proptest! {
    #[test]
    fn behaves_like_the_model(
        after in 1u32..5,
        steps in prop::collection::vec((0u8..6, 0u64..6, 0u64..20), 1..200),
    ) {
        let policy = HealthPolicy { eject_after: after, ..POLICY };
        let (mut health, mut model, mut now) = (Health::default(), Model::default(), 0);
        let mut passes: Vec<Pass> = Vec::new();
        for (step, target, wait) in steps {
            now += wait;
            let outcome = match step {
                0 => Outcome::Succeeded,
                1 => Outcome::TargetFailed,
                2 | 3 => Outcome::ExitFailed,
                4 => Outcome::Silent(target),
                _ => {
                    let admits = model.ejected.is_none_or(|until| until <= now && !model.trial);
                    let pass = health.enter(at(now));
                    prop_assert_eq!(pass.is_some(), admits);
                    model.trial |= matches!(pass, Some(Pass::Trial(_)));
                    passes.extend(pass);
                    continue;
                }
            };
            let pass = if passes.is_empty() { Pass::Free } else { passes.remove(target as usize % passes.len()) };
            let on_trial = matches!(pass, Pass::Trial(_));
            if on_trial && target == 5 {
                health.give_back(&pass);
                model.trial = false;
            } else {
                health.report(pass, outcome, &policy, at(now));
                model.report(on_trial, outcome, after, now);
            }
            prop_assert_eq!(health.ejected_until(), model.ejected.map(at));
            prop_assert_eq!(health.on_trial(), model.trial);
        }
    }
}
