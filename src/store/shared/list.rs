//! Lists of all pins at the store, whichever gateway made them.
//!
//! Owns: walking through the store without holding it up.
//! Must not know: what is searched for.
//!
//! The store has its keys in no order. Their names are walked through
//! (`SCAN`), sorted, and kept for a while, so that going from page to page
//! asks only for the pins that it shows.

use std::time::Duration;

use redis::{Value, cmd};
use tokio::time::Instant;

use super::link::Trouble;
use super::{Shared, value};
use crate::core::pin::{News, Pin};
use crate::core::pins::{Glance, Held, Pins};
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;
use crate::store::Page;

/// So many names the store looks at in one step.
const STEP: usize = 2000;
/// So many pins are asked for at once.
const AT_ONCE: usize = 512;
/// A sorted list of names serves so long; a pin that lived all the while it
/// was made is in it.
const KEEP: Duration = Duration::from_secs(20);

/// The names of all pins at some moment, sorted.
#[derive(Default)]
pub(super) struct Index {
    keys: Vec<SessionKey>,
    made: Option<Instant>,
}

impl Shared {
    /// As [`Store::page`](crate::store::Store::page), in the order of keys.
    /// Out of reach: what this gateway knows.
    pub(in crate::store) async fn page(
        &self,
        after: Option<SessionKey>,
        most: usize,
        fits: impl Fn(&Glance<'_>) -> bool + Send + Sync,
    ) -> Page {
        let mut page = Page::default();
        let keys = self.index(after.is_some()).await;
        let from = after.map_or(0, |after| keys.partition_point(|key| *key <= after));
        for some in keys[from..].chunks(AT_ONCE) {
            let mut found = Vec::new();
            let pins = self.pins(some).await;
            glance(&pins, self.now(), |glance| found.extend(fits(glance).then(|| glance.key())));
            found.sort();
            for key in found {
                if page.pins.len() == most {
                    page.more = true;
                    return page;
                }
                let pin = pins.get(key, Timestamp::default()).map(|held| self.to_gateway(held.pin));
                page.pins.extend(pin.map(|pin| (key, pin)));
            }
        }
        page
    }

    /// The names of all pins. `same`: the list goes on with the index that it
    /// began with, if that is there.
    async fn index(&self, same: bool) -> std::sync::Arc<[SessionKey]> {
        let mut index = self.index.lock().await;
        let keeps = index.made.is_some_and(|made| made.elapsed() < KEEP);
        if !(same && keeps) {
            let keys = match self.scan().await {
                Ok(keys) => keys,
                Err(_) => self.known_keys(),
            };
            *index = Index { keys, made: Some(Instant::now()) };
        }
        index.keys.as_slice().into()
    }

    async fn scan(&self) -> Result<Vec<SessionKey>, Trouble> {
        let mut keys = Vec::new();
        for server in self.link.servers().await? {
            let mut cursor = 0_u64;
            loop {
                let mut scan = cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(self.names.pins()).arg("COUNT").arg(STEP);
                let Value::Array(answer) = self.link.ask_at(&server, &scan).await? else { break };
                let mut answer = answer.into_iter();
                cursor = answer.next().and_then(|next| redis::from_redis_value(next).ok()).unwrap_or(0);
                if let Some(Value::Array(names)) = answer.next() {
                    let name = |name: Value| match name {
                        Value::BulkString(name) => self.names.key_of(&name),
                        _ => None,
                    };
                    keys.extend(names.into_iter().filter_map(name));
                }
                if cursor == 0 {
                    break;
                }
            }
        }
        // It may show a name twice.
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    fn known_keys(&self) -> Vec<SessionKey> {
        let mut keys: Vec<_> = self.all_known().into_iter().map(|(key, _)| key).collect();
        keys.sort();
        keys
    }

    /// These keys' pins, in the store's time. Out of reach: as known.
    async fn pins(&self, keys: &[SessionKey]) -> Pins {
        let mut pins = Pins::new(0);
        let mut put = |key: SessionKey, pin: Pin| {
            pins.set(key, Some(&Held { pin, news: News::Held, record: 0 }));
        };
        match self.link.get_all(keys.iter().map(|key| self.names.pin(*key))).await {
            Ok(values) => {
                for (key, bytes) in keys.iter().zip(values) {
                    if let Some(entry) = bytes.as_deref().and_then(value::decode) {
                        put(*key, entry.pin);
                    }
                }
            }
            Err(_) => {
                for key in keys {
                    let fact = self.with(*key, |known| known.get(*key, Timestamp::default(), 0));
                    fact.into_iter().for_each(|fact| put(*key, fact.pin));
                }
            }
        }
        pins
    }
}

fn glance(pins: &Pins, now: Timestamp, f: impl FnMut(&Glance<'_>)) {
    pins.glance(u32::MAX, u32::MAX, now, f);
}
