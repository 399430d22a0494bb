//! Which exits a filter lets through.
//!
//! Owns: [`LabelIndex`]: the exits by label, so that a filter looks at those
//! that have the rarest of its values and at no others.
//! Must not know: who asks, which exits are usable.

use std::collections::HashMap;
use std::sync::Arc;

use crate::core::exit::Exit;
use crate::core::session::{Filter, LABEL_KEYS};

/// A pool's exits by label.
#[derive(Clone, Debug, Default)]
pub struct LabelIndex {
    /// Places, ascending, by key and folded value.
    having: HashMap<&'static str, HashMap<Box<str>, Vec<u32>>>,
    /// Places of exits that meet any value of a key: templates that pass the
    /// wish on.
    passing: HashMap<&'static str, Vec<u32>>,
    /// How many exits there are.
    exits: u32,
}

impl LabelIndex {
    /// Of all exits, whatever their mode.
    pub fn new(exits: &[Arc<Exit>]) -> Self {
        let mut made = Self { exits: u32::try_from(exits.len()).unwrap_or(u32::MAX), ..Self::default() };
        for (place, exit) in (0u32..).zip(exits) {
            for (key, value) in exit.labels.folded() {
                let values = made.having.entry(key).or_default();
                match values.get_mut(value) {
                    // Two values may fold to one.
                    Some(places) if places.last() == Some(&place) => {}
                    Some(places) => places.push(place),
                    None => drop(values.insert(value.into(), vec![place])),
                }
            }
            if exit.via.has_placeholders() {
                for key in LABEL_KEYS.into_iter().filter(|key| exit.passes_on(key)) {
                    made.passing.entry(key).or_default().push(place);
                }
            }
        }
        made
    }

    /// The exits that meet a filter, ascending.
    pub fn matching(&self, exits: &[Arc<Exit>], filter: &Filter) -> Vec<u32> {
        let count =
            |(key, value): &(&'static str, &str)| self.having(key, value).len() + self.passing(key).len();
        let Some((key, value)) = filter.iter().min_by_key(count) else {
            return (0..self.exits).collect();
        };
        let meets = |place: &u32| exits.get(*place as usize).is_some_and(|exit| exit.meets(filter));
        let either = self.having(key, value).iter().chain(self.passing(key)).copied();
        let mut places: Vec<_> = either.filter(meets).collect();
        places.sort_unstable();
        places
    }

    /// The same filter, but for values that no exit has: what is asked for
    /// there makes no difference to which exits meet it.
    pub fn canonical(&self, filter: &Filter) -> Filter {
        Filter::new(filter.iter().map(|(key, value)| match self.having(key, value) {
            // Nothing but letters and digits is compared: a label may be empty.
            [] if self.having(key, "").is_empty() => (key, ""),
            _ => (key, value),
        }))
    }

    /// The values of a key that exits have, sorted; at most so many.
    pub fn values(&self, key: &str, most: usize) -> Vec<Box<str>> {
        let mut values: Vec<_> =
            self.having.get(key).into_iter().flat_map(HashMap::keys).take(most).cloned().collect();
        values.sort_unstable();
        values
    }

    fn having(&self, key: &str, value: &str) -> &[u32] {
        self.having.get(key).and_then(|values| values.get(value)).map_or(&[], Vec::as_slice)
    }

    fn passing(&self, key: &str) -> &[u32] {
        self.passing.get(key).map_or(&[], Vec::as_slice)
    }
}
