//! What was true at the store, and what clients were told.

use std::collections::BTreeMap;

use moorgate::core::pin::News;
use moorgate::core::session::SessionKey;
use moorgate::core::shared::Entry;

/// A node may go by what it knew for so long after it was changed elsewhere,
/// in ms: trust, and the question that finds the store silent.
const WINDOW: u64 = 2000;

/// A pin between two changes.
#[derive(Debug)]
pub struct Leg {
    pub version: u64,
    pub exit: String,
    /// When another took its place.
    pub left: Option<u64>,
    /// A client was answered through it.
    pub shown: bool,
    pub said: u32,
}

/// A pin from its making to its end.
#[derive(Debug)]
pub struct Life {
    /// By the store's clock.
    pub made: u64,
    pub expires: u64,
    pub legs: Vec<Leg>,
    pub ended: Option<u64>,
    /// The store has lost all that it knew of it, its end among that.
    pub lost: bool,
    /// What was said of it may have been lost with it.
    pub forgotten: bool,
    /// A node died that may have said what is owed and told nobody.
    pub doubtful: bool,
    pub news: u32,
}

/// An instant, and what the store's clock says then.
#[derive(Clone, Copy)]
pub struct Times {
    pub now: u64,
    pub store: u64,
}

#[derive(Default)]
pub struct History {
    pub lives: BTreeMap<SessionKey, Vec<Life>>,
    pub tally: BTreeMap<&'static str, u64>,
    pub broken: Option<String>,
}

impl History {
    pub fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub fn check(&mut self, so: bool, what: impl FnOnce() -> String) {
        if !so && self.broken.is_none() {
            self.broken = Some(what());
        }
    }

    /// A claim was won. `known`: a node in touch knows the life before.
    pub fn made(&mut self, key: SessionKey, entry: &Entry, times: Times, known: bool) {
        let Times { now, store } = times;
        let lives = self.lives.entry(key).or_default();
        let before = lives.last().filter(|life| life.ended.is_none() && store < life.expires);
        let early = before.is_some_and(|life| known && life.legs.iter().any(|leg| leg.shown));
        if let Some(life) = lives.last_mut() {
            life.ended.get_or_insert(now);
            leave_all(&mut life.legs, now);
        }
        lives.push(Life {
            made: entry.pin.made.as_ms(),
            expires: entry.pin.expires.as_ms(),
            legs: vec![leg(entry)],
            ended: None,
            lost: false,
            forgotten: false,
            doubtful: false,
            news: 0,
        });
        self.check(!early, || {
            format!("{key}: pinned anew although a node in touch knows a pin that was seen")
        });
    }

    /// A pin was moved. `fresh`: as one that nobody has seen.
    pub fn moved(&mut self, key: SessionKey, entry: &Entry, now: u64, fresh: bool) {
        let Some(life) = self.lives.get_mut(&key).and_then(|lives| lives.last_mut()) else { return };
        let Some(last) = life.legs.last_mut() else { return };
        let (shown, doubtful, exit) = (last.shown, life.doubtful, last.exit.clone());
        last.left = Some(now);
        life.legs.push(leg(entry));
        self.check(!(fresh && shown) || doubtful, || {
            format!("{key}: moved from {exit} as if no client had been answered through it")
        });
    }

    /// The store has lost everything.
    pub fn lost(&mut self) {
        for life in self.lives.values_mut().flatten() {
            (life.lost, life.forgotten) = (true, true);
        }
    }

    /// The store's clock was set, which said this.
    pub fn leases_end(&mut self, store: u64) {
        for life in self.lives.values_mut().flatten().filter(|life| life.made + 1000 > store) {
            life.doubtful = true;
        }
    }

    /// The store's clock was set back to this.
    pub fn comes_again(&mut self, store: u64) {
        for life in self.lives.values_mut().flatten().filter(|life| life.made >= store) {
            (life.lost, life.forgotten) = (true, true);
        }
    }

    /// The store has a pin again that it had lost: the last one that it knew, or
    /// one before that whose end a node had missed.
    pub fn back(&mut self, key: SessionKey, entry: &Entry, times: Times) {
        let Times { now, store } = times;
        let version = entry.pin.version;
        let Some(lives) = self.lives.get_mut(&key) else { return };
        let at = |life: &Life| life.legs.iter().position(|leg| leg.version == version);
        let Some((which, at)) =
            lives.iter().enumerate().rev().find_map(|(which, life)| Some((which, at(life)?)))
        else {
            return self.check(false, || format!("{key}: a pin that never was is back"));
        };
        let mut life = lives.remove(which);
        // What takes its place is known to the store from now on.
        for other in lives.iter_mut().filter(|other| other.ended.is_none()) {
            other.ended = Some(now);
            leave_all(&mut other.legs, now);
        }
        // What was made in a time that is yet to come looks later than it is.
        let barred = life.ended.is_some_and(|ended| ended < now) && !life.lost && life.made <= store;
        (life.ended, life.lost) = (None, false);
        let leg = life.legs.remove(at);
        leave_all(&mut life.legs, now);
        life.legs.push(Leg { left: None, ..leg });
        lives.push(life);
        self.check(!barred, || format!("{key}: a pin that was ended is back"));
    }

    pub fn ended(&mut self, key: SessionKey, now: u64) {
        if let Some(life) = self.lives.get_mut(&key).and_then(|lives| lives.last_mut()) {
            life.ended = Some(now);
            leave_all(&mut life.legs, now);
        }
    }

    /// A success is answered. `away`: the node has no store to ask.
    pub fn answered(
        &mut self,
        key: SessionKey,
        version: u64,
        exit: &str,
        news: News,
        times: Times,
        away: bool,
    ) {
        let Times { now, store } = times;
        self.count(news.word());
        let lives = self.lives.entry(key).or_default();
        let found = lives.iter_mut().rev().find_map(|life| {
            let at = life.legs.iter().position(|leg| leg.version == version)?;
            Some((life, at))
        });
        let Some((life, at)) = found else {
            // Cut off by the loss of what the store had.
            return self.check(away, || format!("{key}: answered through {exit}, a pin that is not known"));
        };
        // The store does not hear of it in time.
        life.doubtful |= away;
        let leg = &mut life.legs[at];
        leg.shown = true;
        let stale = leg.left.is_some_and(|left| now > left + WINDOW);
        let right = leg.exit == exit;
        let late = store > life.expires + 1000;
        let twice = match news {
            News::New => {
                life.news += 1;
                life.news > 1
            }
            News::Moved => {
                life.legs[at].said += 1;
                life.legs[at].said > 1
            }
            News::Held => false,
        };
        let doubtful = life.doubtful || life.forgotten;
        self.check(right, || format!("{key}: answered through {exit}, where the pin is not"));
        self.check(!stale || away, || format!("{key}: answered through {exit} long after it had left there"));
        self.check(!late || away, || format!("{key}: answered long after its end"));
        self.check(!twice || doubtful, || format!("{key}: {} is said twice", news.word()));
    }

    /// A node dies that had answered through these and not told the store.
    pub fn doubt(&mut self, keys: impl Iterator<Item = SessionKey>) {
        for key in keys {
            if let Some(life) = self.lives.get_mut(&key).and_then(|lives| lives.last_mut()) {
                life.doubtful = true;
            }
        }
    }
}

fn leave_all(legs: &mut [Leg], now: u64) {
    for leg in legs {
        leg.left.get_or_insert(now);
    }
}

fn leg(entry: &Entry) -> Leg {
    Leg { version: entry.pin.version, exit: entry.pin.exit.id.to_string(), left: None, shown: false, said: 0 }
}
