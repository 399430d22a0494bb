//! How many pins exits hold on all gateways of a shared store.
//!
//! Owns: how often that is asked.
//! Must not know: what it is good for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::core::pin::ExitName;
use crate::serve::Shared;
use crate::state::Exits;

/// How often the store is asked.
const EVERY: Duration = Duration::from_secs(1);
/// So many exits are asked about each time; of more, each comes round later.
const MOST: usize = 10_000;

/// Goes on asking; never ends.
pub(super) async fn keep(shared: Arc<Shared>, exits: Arc<Exits>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = 0;
    loop {
        tick.tick().await;
        let snapshot = shared.state.snapshot();
        let all: Vec<ExitName> = snapshot
            .pools()
            .iter()
            .flat_map(|pool| pool.exits.iter())
            .map(|exit| exit.name.clone())
            .collect();
        let from = if next < all.len() { next } else { 0 };
        let some = &all[from..all.len().min(from + MOST)];
        next = from + some.len();
        // Out of reach: what was counted last is as good as anything.
        if let Some(counts) = shared.store.counts(some).await {
            some.iter().zip(counts).for_each(|(exit, count)| exits.counted(exit, count));
        }
    }
}
