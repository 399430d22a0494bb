//! The promises over several nodes and one store, under a seeded scheduler.
//!
//! Real are what a node knows and may say (`core::shared::Known`) and what
//! the store does (`core::shared::Cell`, which a test of the crate holds
//! against the scripts); modelled are connections, on which nothing
//! overtakes, the heartbeat, and the few steps between them that
//! `store/shared` takes. Links break with and without a word, nodes die, the
//! store loses its data, pins are moved, ended and run out, all at any moment.
//!
//! A failing seed says what to replay: `FLEET_SEED=n cargo test --test fleet
//! replay -- --nocapture`. `FLEET_SEEDS=n` runs more of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, reads which seed to replay, and publishes nothing"
)]

mod fleet {
    pub mod faults;
    pub mod history;
    pub mod mistake;
    pub mod node;
    pub mod request;
    pub mod server;
    pub mod world;
}

use std::collections::BTreeMap;

use fleet::world::{Breach, Mistake, run};

const SEEDS: u64 = 200;
const STEPS: u64 = 4000;
/// A mistake must be found within so many seeds.
const FEW: u64 = 400;

#[test]
fn the_promises_are_kept_by_all_nodes_together() {
    let mut tally = BTreeMap::<&'static str, u64>::new();
    for seed in 0..number("FLEET_SEEDS").unwrap_or(SEEDS) {
        match run(seed, STEPS, None) {
            Ok(seen) => seen.into_iter().for_each(|(what, often)| *tally.entry(what).or_default() += often),
            Err(breach) => panic!("{}", told(seed, &breach)),
        }
    }
    println!("{tally:#?}");
    for what in EVERYTHING {
        assert!(tally.contains_key(what), "in no seed: {what}");
    }
}

/// What must have happened somewhere.
const EVERYTHING: [&str; 21] = [
    "a claim waited for a new era",
    "a kill",
    "a link cut",
    "a link silent",
    "a reply overtaken",
    "a step of the store's clock",
    "a stop",
    "asked what to say",
    "ended",
    "found the session moved",
    "held",
    "lost a claim",
    "met contested",
    "moved",
    "moved away",
    "new",
    "no store",
    "replaced before it was seen",
    "the store was emptied",
    "told again",
    "went on without the store",
];

#[test]
fn replay() {
    let Some(seed) = number("FLEET_SEED") else { return };
    let mistake = number("FLEET_MISTAKE").map(|n| Mistake::ALL[n as usize]);
    if let Err(breach) = run(seed, STEPS, mistake) {
        panic!("{}\n{}", breach.story.join("\n"), breach.what);
    }
}

#[test]
fn mistakes_are_found() {
    let mut missed = Vec::new();
    for mistake in Mistake::ALL {
        let found = (0..FEW).find_map(|seed| Some((seed, run(seed, STEPS, Some(mistake)).err()?)));
        match found {
            Some((seed, breach)) => {
                println!("{mistake:?}: seed {seed}, step {}: {}", breach.step, breach.what)
            }
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "not found within {FEW} seeds: {missed:?}");
}

fn told(seed: u64, breach: &Breach) -> String {
    let last = breach.story.len().saturating_sub(60);
    format!(
        "seed {seed}, step {}: {}\n{}\nreplay with FLEET_SEED={seed}",
        breach.step,
        breach.what,
        breach.story[last..].join("\n")
    )
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
