//! The promises of SPEC §3 under a seeded scheduler.
//!
//! Real are the grammar, the map of pins, the choice of exits, their live
//! state across reloads, health, failover and the clock; modelled are the
//! disk (`sim/disk.rs`), the few steps between map and disk
//! (`sim/store.rs`) and the awaits of a request (`sim/request.rs`), for real
//! threads and sockets follow no seed. `sim/history.rs` holds what clients
//! saw against the promises after every step; `sim/truth.rs` reckons on its
//! own which exits were down.
//!
//! A failing seed prints its story's end; `SIM_SEED=n cargo test --test sim
//! replay -- --nocapture` tells the whole. `SIM_SEEDS=n` runs more of them.
//!
//! What it does not look into: several nodes, `reuse_after`, requests without
//! a session, and that `fjall` keeps what it was given (`tests/it/crash.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, reads which seed to replay, and publishes nothing"
)]

mod sim {
    pub mod aftermath;
    pub mod disk;
    pub mod gateway;
    pub mod history;
    pub mod life;
    pub mod mistake;
    pub mod outcome;
    pub mod pools;
    pub mod request;
    pub mod route;
    pub mod stage;
    pub mod store;
    pub mod truth;
    pub mod wish;
    pub mod world;
}

use std::collections::BTreeMap;

use sim::mistake::Mistake;
use sim::world::{Breach, run};

const SEEDS: u64 = 256;
const STEPS: u64 = 3000;

/// Runs seeds on all processors; the first breach by seed.
fn run_all(seeds: u64) -> Result<BTreeMap<&'static str, u64>, (u64, Box<Breach>)> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let run_some = |worker| {
        let mut tally = BTreeMap::<&'static str, u64>::new();
        for seed in (0..seeds).filter(|seed| seed % workers == worker) {
            let history = run(seed, STEPS, None, false).map_err(|breach| (seed, breach))?;
            history.tally.into_iter().for_each(|(what, often)| *tally.entry(what).or_default() += often);
        }
        Ok(tally)
    };
    let tallies: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(move || run_some(worker))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut all = BTreeMap::new();
    for tally in tallies {
        tally?.into_iter().for_each(|(what, often)| *all.entry(what).or_default() += often);
    }
    Ok(all)
}

/// How a breach is told: what, where, and how to see more of it.
fn told(seed: u64, mistake: Option<Mistake>, breach: &Breach) -> String {
    let story = run(seed, breach.step, mistake, true).err().map(|breach| breach.story).unwrap_or_default();
    let last = story.len().saturating_sub(40);
    format!(
        "seed {seed}, step {}: {}\n{}\nreplay with: SIM_SEED={seed} cargo test --test sim replay -- --nocapture",
        breach.step,
        breach.what,
        story[last..].join("\n"),
    )
}

#[test]
fn the_promises_are_kept() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let tally = run_all(seeds).unwrap_or_else(|(seed, breach)| panic!("{}", told(seed, None, &breach)));
    println!("{tally:#?}");
    // A simulation in which nothing happens proves nothing.
    for what in EVERYTHING {
        assert!(tally.contains_key(what), "in no seed: {what}");
    }
}

/// What must have happened somewhere.
const EVERYTHING: [&str; 29] = [
    "a pin that nobody had seen was lost",
    "bad_response",
    "ended on demand",
    "exit_down",
    "exit_failed",
    "fails for its new address",
    "found the session moved",
    "held",
    "kill",
    "left by a kept connection",
    "left for its address",
    "loss of power",
    "lost a claim",
    "lost a move",
    "moved",
    "moved to a sibling",
    "moved to another",
    "new",
    "no_exit",
    "parameter_conflict",
    "refused by its parameters",
    "reload",
    "renewed",
    "replaced before it was seen",
    "stays for all its new address",
    "step of the wall clock",
    "store_unavailable",
    "target_refused",
    "the disk refused",
];

#[test]
fn replay() {
    let Some(seed) = number("SIM_SEED") else { return };
    match run(seed, STEPS, None, true) {
        Ok(history) => println!("{}", history.story.unwrap_or_default().join("\n")),
        Err(breach) => panic!("{}\nstep {}: {}", breach.story.join("\n"), breach.step, breach.what),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A mistake must be found within so many seeds.
const FEW: u64 = 64;

#[test]
fn mistakes_are_found() {
    let mut missed = Vec::new();
    for mistake in Mistake::ALL {
        let found = (0..FEW).find_map(|seed| Some((seed, run(seed, STEPS, Some(mistake), false).err()?)));
        match found {
            Some((seed, breach)) => {
                println!("{mistake:?}: seed {seed}, step {}: {}", breach.step, breach.what);
            }
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "not found within {FEW} seeds: {missed:?}");
}
