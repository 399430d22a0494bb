//! Lists of pins.
//!
//! Owns: their order, and that a list of any length holds no lock for long
//! and copies no more than it shows.
//! Must not know: what is searched for.

use std::collections::BTreeSet;

use super::Page;
use super::local::{Local, SHARDS, shard_of};
use crate::core::pins::Glance;
use crate::core::session::SessionKey;

/// So many places of a shard are looked at under one lock.
const STEP: u32 = 4096;

impl Local {
    /// The order is by shard, and by key within one: of the map, a page looks
    /// at no more than the shards that it is of.
    pub(super) async fn page(
        &self,
        after: Option<SessionKey>,
        most: usize,
        fits: impl Fn(&Glance<'_>) -> bool + Send + Sync,
    ) -> Page {
        let mut page = Page::default();
        for at in after.map_or(0, shard_of)..SHARDS {
            let after = after.filter(|key| shard_of(*key) == at);
            let missing = most - page.pins.len();
            // One more than is missing tells whether there are more.
            let mut first = BTreeSet::new();
            self.walk(at, |glance| {
                let key = glance.key();
                let late = first.len() > missing && first.last().is_some_and(|last| key > *last);
                if after.is_some_and(|after| key <= after) || late || !fits(glance) {
                    return;
                }
                first.insert(key);
                if first.len() > missing + 1 {
                    first.pop_last();
                }
            })
            .await;
            let (shard, now) = (self.shards.at(at), self.now());
            for key in first {
                if page.pins.len() == most {
                    page.more = true;
                    return page;
                }
                page.pins.extend(shard.get(key, now).map(|held| (key, held.pin)));
            }
        }
        page
    }

    /// Looks at every live pin of a shard; one may be met twice.
    async fn walk(&self, at: usize, mut f: impl FnMut(&Glance<'_>) + Send) {
        let mut below = u32::MAX;
        while below > 0 {
            below = self.shards.at(at).glance(below, STEP, self.now(), &mut f);
            tokio::task::yield_now().await;
        }
    }
}
