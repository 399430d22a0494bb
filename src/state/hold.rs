//! A user's unpinned requests, held on an exit for a while (`rotate`).
//!
//! Owns: which exit each user holds in a pool under a filter, and for how
//! many requests or how long yet.
//! Must not know: whether the exit can be used.

use std::collections::HashMap;
use std::sync::Mutex;

use super::exits::locked;
use crate::core::pool::Rotate;
use crate::core::session::{Filter, UserName};
use crate::core::time::Timestamp;

/// The most holds of a pool; beyond, those that are over are dropped, else
/// all: holders then rotate once more than they would have.
const MAX_HOLDS: usize = 65_536;

/// The holds of one pool.
#[derive(Default)]
pub(super) struct Holds(Mutex<HashMap<(UserName, Filter), Hold>>);

struct Hold {
    /// The exit's place in the pool.
    exit: u32,
    /// How many more requests; `None`: any number.
    requests: Option<u32>,
    /// Until when; `None`: any time.
    until: Option<Timestamp>,
}

impl Hold {
    fn lasts(&self, now: Timestamp) -> bool {
        self.requests != Some(0) && self.until.is_none_or(|until| now < until)
    }
}

impl Holds {
    /// The exit that this request is held on; counts the request.
    pub(super) fn take(&self, user: &UserName, filter: &Filter, now: Timestamp) -> Option<u32> {
        let mut holds = locked(&self.0);
        let hold = holds.get_mut(&(user.clone(), filter.clone())).filter(|hold| hold.lasts(now))?;
        hold.requests = hold.requests.map(|left| left - 1);
        Some(hold.exit)
    }

    /// The user's requests from the next on are held on this exit, which has
    /// had one by now.
    pub(super) fn put(&self, user: &UserName, filter: &Filter, exit: u32, rotate: Rotate, now: Timestamp) {
        let mut holds = locked(&self.0);
        if holds.len() >= MAX_HOLDS {
            holds.retain(|_, hold| hold.lasts(now));
            if holds.len() >= MAX_HOLDS {
                holds.clear();
            }
        }
        let requests = rotate.requests.map(|requests| requests.saturating_sub(1));
        let until = rotate.every.map(|every| now.plus(every));
        holds.insert((user.clone(), filter.clone()), Hold { exit, requests, until });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_ms(s * 1000)
    }

    #[test]
    fn a_hold_ends_by_count_or_by_time() {
        let (holds, user, filter) = (Holds::default(), UserName::from("u"), Filter::default());
        let rotate = Rotate { requests: Some(3), every: Some(Duration::from_secs(10)) };
        holds.put(&user, &filter, 7, rotate, at(0));
        assert_eq!(holds.take(&user, &filter, at(1)), Some(7));
        assert_eq!(holds.take(&"other".into(), &filter, at(1)), None);
        assert_eq!(holds.take(&user, &Filter::new([("city", "x")]), at(1)), None);
        assert_eq!(holds.take(&user, &filter, at(9)), Some(7));
        assert_eq!(holds.take(&user, &filter, at(9)), None, "three requests in all");

        holds.put(&user, &filter, 7, rotate, at(0));
        assert_eq!(holds.take(&user, &filter, at(10)), None, "ten seconds");
    }

    #[test]
    fn holds_are_bounded() {
        let (holds, filter) = (Holds::default(), Filter::default());
        let rotate = Rotate { requests: None, every: Some(Duration::from_secs(10)) };
        for n in 0..=MAX_HOLDS {
            holds.put(&n.to_string().into(), &filter, 1, rotate, at(0));
        }
        assert!(locked(&holds.0).len() <= MAX_HOLDS);
    }
}
