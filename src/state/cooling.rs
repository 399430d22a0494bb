//! Exits that are no good for a site for a while, as clients have reported.
//!
//! Owns: [`Cooling`]: of one pool, which exit, or which address of a prefix,
//! is kept from which registrable domain until when; the lanes of choices for
//! such a site, in which those exits are closed.
//! Must not know: who reported, what a session is, how long is right.
//!
//! A choice asks once whether anything of its pool cools at all, and mostly
//! that is all. For a site with cooling exits it has a lane of its own beside
//! the common one, so that an exit is looked at in vain once and not by every
//! choice, and the turns of other sites stay theirs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::exits::locked;
use super::lanes::Lane;
use crate::core::time::Timestamp;
use crate::observe::instruments::Reports;

/// The most that cools in one pool; beyond, the site that was reported
/// longest ago is forgotten.
const MOST_ENTRIES: usize = 65_536;

/// The most lanes of a pool's cooling sites, and the most exits in all of
/// them; beyond, all are made anew as they are asked for.
const MOST_LANES: usize = 1024;
const MOST_MEMBERS: usize = 4_000_000;

/// What cools in one pool, from one reload to the next.
#[derive(Default)]
pub(super) struct Cooling {
    /// Entries of all sites: none, mostly.
    entries: AtomicUsize,
    sites: Mutex<HashMap<Arc<str>, Arc<Cool>>>,
    /// What was reported, counted.
    pub(super) reports: Reports,
    /// Lanes, and exits in them, that were made since all were dropped.
    lanes: Mutex<(usize, usize)>,
}

/// What cools for one site.
#[derive(Default)]
pub(super) struct Cool {
    kept: RwLock<Kept>,
    /// The lane of this site beside each common one.
    lanes: Mutex<Vec<Beside>>,
}

#[derive(Default)]
struct Kept {
    /// By id.
    exits: HashMap<Arc<str>, Timestamp>,
    /// Of prefixes.
    addresses: HashMap<IpAddr, Timestamp>,
    /// When the last of them is over.
    until: Timestamp,
    /// When something was reported last.
    reported: Timestamp,
}

struct Beside {
    common: Arc<Lane>,
    own: Arc<Lane>,
}

/// Something that cools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cooled {
    /// The registrable domain, or the address, that it is kept from.
    pub site: Arc<str>,
    /// The exit's id; `None`: it is an address of a prefix.
    pub exit: Option<Arc<str>>,
    /// The address of a prefix.
    pub address: Option<IpAddr>,
    /// Until then.
    pub until: Timestamp,
}

impl Cooling {
    /// The exit of this id, or that address of it, is kept from a site.
    pub(super) fn report(
        &self,
        site: &str,
        exit: &Arc<str>,
        address: Option<IpAddr>,
        until: Timestamp,
        now: Timestamp,
    ) {
        let mut sites = locked(&self.sites);
        if self.entries.load(Relaxed) >= MOST_ENTRIES {
            self.make_room(&mut sites, now);
        }
        let cool = sites.entry(site.into()).or_default();
        let mut kept = cool.kept.write().unwrap_or_else(PoisonError::into_inner);
        let before = match address {
            Some(address) => kept.addresses.insert(address, until),
            None => kept.exits.insert(exit.clone(), until),
        };
        kept.until = kept.until.max(until);
        kept.reported = now;
        if before.is_none() {
            self.entries.fetch_add(1, Release);
        }
    }

    /// What cools for a site; `site` is asked for only where anything does.
    pub(super) fn of<'s>(
        &self,
        site: impl FnOnce() -> Option<Cow<'s, str>>,
        now: Timestamp,
    ) -> Option<Arc<Cool>> {
        if self.entries.load(Acquire) == 0 {
            return None;
        }
        let site = &*site()?;
        let mut sites = locked(&self.sites);
        let cool = sites.get(site)?.clone();
        if cool.kept().until > now {
            return Some(cool);
        }
        sites.remove(site);
        self.entries.fetch_sub(cool.kept().len(), Release);
        None
    }

    /// The lane of a site beside the common one.
    pub(super) fn lane(&self, cool: &Cool, common: &Arc<Lane>) -> Arc<Lane> {
        let mut lanes = locked(&cool.lanes);
        // Lanes of exits that were replaced are of no use any more.
        lanes.retain(|beside| Arc::strong_count(&beside.common) > 1);
        if let Some(known) = lanes.iter().find(|beside| Arc::ptr_eq(&beside.common, common)) {
            return known.own.clone();
        }
        let own = common.beside();
        lanes.push(Beside { common: common.clone(), own: own.clone() });
        drop(lanes);
        self.count_lane(common.deck.len());
        own
    }

    fn count_lane(&self, members: usize) {
        let mut made = locked(&self.lanes);
        *made = (made.0 + 1, made.1 + members);
        if made.0 <= MOST_LANES && made.1 <= MOST_MEMBERS {
            return;
        }
        *made = (0, 0);
        drop(made);
        for cool in locked(&self.sites).values() {
            locked(&cool.lanes).clear();
        }
    }

    /// Forgets what is over; if that is nothing, the site that was reported
    /// longest ago.
    fn make_room(&self, sites: &mut MutexGuard<'_, HashMap<Arc<str>, Arc<Cool>>>, now: Timestamp) {
        sites.retain(|_, cool| {
            let mut kept = cool.kept.write().unwrap_or_else(PoisonError::into_inner);
            kept.exits.retain(|_, until| *until > now);
            kept.addresses.retain(|_, until| *until > now);
            kept.len() > 0
        });
        let count = |sites: &HashMap<Arc<str>, Arc<Cool>>| sites.values().map(|cool| cool.kept().len()).sum();
        let mut entries: usize = count(sites);
        if entries >= MOST_ENTRIES {
            let oldest = sites.iter().min_by_key(|(_, cool)| cool.kept().reported);
            if let Some(oldest) = oldest.map(|(site, _)| site.clone()) {
                sites.remove(&oldest);
            }
            entries = count(sites);
        }
        self.entries.store(entries, Release);
    }

    /// All that cools, by site.
    pub(super) fn list(&self, now: Timestamp) -> Vec<Cooled> {
        let mut all = Vec::new();
        for (site, cool) in locked(&self.sites).iter() {
            let kept = cool.kept();
            let exits = kept.exits.iter().map(|(id, until)| (Some(id.clone()), None, *until));
            let addresses = kept.addresses.iter().map(|(address, until)| (None, Some(*address), *until));
            let lasting = exits.chain(addresses).filter(|(.., until)| *until > now);
            all.extend(lasting.map(|(exit, address, until)| Cooled {
                site: site.clone(),
                exit,
                address,
                until,
            }));
        }
        all.sort_by(|a, b| (&a.site, &a.exit, a.address).cmp(&(&b.site, &b.exit, b.address)));
        all
    }

    /// An exit is as if it had never been reported.
    pub(super) fn forget(&self, exit: &str) {
        for cool in locked(&self.sites).values() {
            let mut kept = cool.kept.write().unwrap_or_else(PoisonError::into_inner);
            if kept.exits.remove(exit).is_some() {
                self.entries.fetch_sub(1, Release);
                locked(&cool.lanes).clear();
            }
        }
    }
}

impl Cool {
    /// Until when an exit is kept from the site.
    pub(super) fn until(&self, exit: &str, now: Timestamp) -> Option<Timestamp> {
        self.kept().exits.get(exit).copied().filter(|until| *until > now)
    }

    /// Whether an address of a prefix is kept from the site.
    pub(super) fn has_address(&self, address: IpAddr, now: Timestamp) -> bool {
        self.kept().addresses.get(&address).is_some_and(|until| *until > now)
    }

    fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn len(&self) -> usize {
        self.exits.len() + self.addresses.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_ms(1_000_000 + s * 1000)
    }

    fn until(cooling: &Cooling, site: &str, exit: &str, now: u64) -> Option<Timestamp> {
        cooling.of(|| Some(site.into()), at(now))?.until(exit, at(now))
    }

    #[test]
    fn an_exit_cools_for_its_site_alone_and_for_its_time() {
        let cooling = Cooling::default();
        assert!(cooling.of(|| panic!("nothing cools: nobody asks for the site"), at(0)).is_none());
        cooling.report("a.example", &"e1".into(), None, at(10), at(0));
        assert_eq!(until(&cooling, "a.example", "e1", 9), Some(at(10)));
        assert_eq!(until(&cooling, "a.example", "e2", 9), None);
        assert_eq!(until(&cooling, "b.example", "e1", 9), None);
        assert_eq!(until(&cooling, "a.example", "e1", 10), None);
        assert_eq!(cooling.entries.load(Relaxed), 0, "what is over is forgotten");
    }

    #[test]
    fn a_second_report_counts_anew_and_once() {
        let cooling = Cooling::default();
        cooling.report("a.example", &"e1".into(), None, at(10), at(0));
        cooling.report("a.example", &"e1".into(), None, at(15), at(5));
        assert_eq!(until(&cooling, "a.example", "e1", 12), Some(at(15)));
        assert_eq!(cooling.entries.load(Relaxed), 1);
        cooling.forget("e1");
        assert_eq!(until(&cooling, "a.example", "e1", 12), None);
        assert_eq!(cooling.entries.load(Relaxed), 0);
    }

    #[test]
    fn an_address_cools_wherever_it_comes_from() {
        let cooling = Cooling::default();
        let address = "2001:db8::7".parse().unwrap();
        cooling.report("a.example", &"net".into(), Some(address), at(10), at(0));
        let cool = cooling.of(|| Some("a.example".into()), at(1)).unwrap();
        assert!(cool.has_address(address, at(9)) && !cool.has_address(address, at(10)));
        assert_eq!(cool.until("net", at(1)), None);
        let listed = cooling.list(at(1));
        assert_eq!((listed.len(), &*listed[0].site, listed[0].address), (1, "a.example", Some(address)));
        assert_eq!(cooling.list(at(10)), []);
    }

    #[test]
    fn what_cools_is_bounded() {
        let cooling = Cooling::default();
        for n in 0..MOST_ENTRIES {
            cooling.report(&(n % 64).to_string(), &n.to_string().into(), None, at(100), at(n as u64 % 64));
        }
        cooling.report("new", &"e".into(), None, at(100), at(65));
        assert_eq!(cooling.entries.load(Relaxed), MOST_ENTRIES - MOST_ENTRIES / 64 + 1);
        assert!(cooling.of(|| Some("0".into()), at(66)).is_none(), "the oldest site makes room");
        assert!(cooling.of(|| Some("1".into()), at(66)).is_some());
        cooling.report("late", &"e".into(), None, at(900), at(100));
        (0..MOST_ENTRIES).for_each(|n| cooling.report("l", &n.to_string().into(), None, at(900), at(101)));
        assert!(cooling.entries.load(Relaxed) <= MOST_ENTRIES, "what is over goes first");
    }
}
