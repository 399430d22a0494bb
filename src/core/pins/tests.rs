//! The map against a naive list, with a turned clock.

use proptest::prelude::*;

use super::*;
use crate::core::pin::{ExitName, Variant};
use crate::core::session::{Filter, SessionId};
use crate::core::time::Ttl;

const START: u64 = 1_700_000_000_000;

fn ms(ms: u64) -> Timestamp {
    Timestamp::from_ms(START + ms)
}

fn key(n: u8) -> SessionKey {
    SessionKey::from_bytes([n; 16])
}

/// A pin of session `n` through exit `exit`.
fn pin(n: u8, exit: u8, now: Timestamp, ttl_ms: u64, idle_s: u64) -> Pin {
    Pin {
        user: format!("user{}", n % 3).as_str().into(),
        session: SessionId::new(&format!("session{n}")).unwrap(),
        filter: match n % 2 {
            0 => Filter::default(),
            _ => Filter::new([("country", "us")]),
        },
        exit: ExitName { pool: "pool".into(), id: format!("exit{exit}").as_str().into() },
        variant: match exit % 4 {
            0 => Variant::None,
            1 => Variant::Address([127, 0, 0, exit].into()),
            2 => Variant::Address([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(exit)].into()),
            _ => Variant::Token("abcd1234".into()),
        },
        via: u32::from(exit),
        made: now,
        expires: Timestamp::from_ms(now.as_ms() + ttl_ms),
        idle: Ttl::from_secs(idle_s),
        used: now,
        rest_s: u32::from(exit) * 1000,
        moves: 0,
        same_address: false,
        version: u64::from(exit) + 1,
    }
}

#[test]
fn a_pin_is_given_back_as_it_was() {
    let mut pins = Pins::new(7);
    for n in 0..8 {
        let given = Pin { moves: 300, same_address: true, ..pin(n, n, ms(0), 604_800_000, u64::from(n)) };
        assert_eq!(pins.claim(key(n), &given, ms(0)), Claimed::Won { ended: None });
        assert_eq!(pins.get(key(n), ms(0)).unwrap().pin, given);
    }
    pins.check_invariants();
}

#[test]
fn the_first_claim_wins_until_the_pin_ends_to_the_millisecond() {
    let mut pins = Pins::new(7);
    let first = pin(1, 1, ms(0), 1000, 0);
    pins.claim(key(1), &first, ms(0));
    let Claimed::Lost(held) = pins.claim(key(1), &pin(1, 2, ms(999), 1000, 0), ms(999)) else {
        panic!("the pin lives for another millisecond");
    };
    assert_eq!(held.pin, first);
    assert_eq!(pins.get(key(1), ms(1000)), None);
    let second = pin(1, 2, ms(1000), 1000, 0);
    assert_eq!(pins.claim(key(1), &second, ms(1000)), Claimed::Won { ended: Some(first) });
    assert_eq!(pins.len(), 1);
}

#[test]
fn news_is_told_once_and_only_of_the_version_that_answers() {
    let mut pins = Pins::new(7);
    pins.claim(key(1), &pin(1, 1, ms(0), 9000, 0), ms(0));
    assert_eq!(pins.announce(key(1), 99), None);
    assert_eq!(pins.announce(key(1), 2), Some(News::New));
    assert_eq!(pins.announce(key(1), 2), Some(News::Held));
    pins.repin(key(1), 2, Only::Anyhow, &pin(1, 2, ms(5), 9000, 0), ms(5));
    assert_eq!(pins.announce(key(1), 2), None, "the old version answers no more");
    assert_eq!(pins.announce(key(1), 3), Some(News::Moved));
    assert_eq!(pins.announce(key(1), 3), Some(News::Held));
}

#[test]
fn a_pin_that_nobody_saw_stays_new_when_it_moves() {
    let mut pins = Pins::new(7);
    pins.claim(key(1), &pin(1, 1, ms(0), 9000, 0), ms(0));
    let Repinned::Moved { now, .. } = pins.repin(key(1), 2, Only::Fresh, &pin(1, 2, ms(5), 1, 0), ms(5))
    else {
        panic!("it is fresh");
    };
    assert_eq!((now.news, now.pin.moves), (News::New, 0));
    assert_eq!(now.pin.expires, ms(9000), "a move keeps the expiry");
    assert_eq!(pins.announce(key(1), 3), Some(News::New));
    let lost = pins.repin(key(1), 3, Only::Fresh, &pin(1, 3, ms(6), 1, 0), ms(6));
    assert!(matches!(lost, Repinned::Lost(held) if held.pin.version == 3), "now a client has seen it");
    let Repinned::Moved { now, .. } = pins.repin(key(1), 3, Only::Anyhow, &pin(1, 3, ms(7), 1, 0), ms(7))
    else {
        panic!("its version is what was seen");
    };
    assert_eq!((now.news, now.pin.moves), (News::Moved, 1));
}

#[test]
fn a_use_is_worth_a_record_once_a_second_and_never_shortens() {
    let mut pins = Pins::new(7);
    pins.claim(key(1), &pin(1, 1, ms(100), 60_000, 10), ms(100));
    let mut touch = |at| pins.touch(key(1), ms(at)).map(|(held, write)| (held.pin.ends(), write));
    assert_eq!(touch(900), Some((ms(11_000), false)), "still the second it was made in");
    assert_eq!(touch(1001), Some((ms(12_000), true)));
    assert_eq!(touch(1999), Some((ms(12_000), false)));
    assert_eq!(touch(11_999), Some((ms(22_000), true)));
    assert_eq!(touch(22_000), None, "it idled to its end");
    assert_eq!(touch(21_999), Some((ms(32_000), true)));
    assert_eq!(touch(31_999), Some((ms(42_000), true)));
    assert_eq!(touch(41_999), Some((ms(52_000), true)));
    assert_eq!(touch(51_999), Some((ms(60_100), true)), "capped by the ttl");
    assert_eq!(touch(60_099), Some((ms(60_100), false)), "no record can make it longer");
}

/// A pin as the naive list has it.
#[derive(Clone, Debug)]
struct Entry {
    pin: Pin,
    news: News,
}

#[derive(Clone, Debug)]
enum Op {
    Claim { n: u8, exit: u8, ttl_ms: u64, idle_s: u64 },
    Repin { n: u8, exit: u8, stale: bool, fresh: bool },
    Extend { n: u8, by_ms: u64, stale: bool },
    Touch { n: u8 },
    Announce { n: u8, stale: bool },
    End { n: u8 },
    Undo { n: u8, other: u8 },
    Sweep { limit: usize },
    Pass { ms: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0..12_u8;
    let idle = prop_oneof![Just(0), Just(0), 1..5_u64];
    prop_oneof![
        4 => (n(), 0..9_u8, 1..20_000_u64, idle)
            .prop_map(|(n, exit, ttl_ms, idle_s)| Op::Claim { n, exit, ttl_ms, idle_s }),
        2 => (n(), 0..9_u8, any::<bool>(), any::<bool>())
            .prop_map(|(n, exit, stale, fresh)| Op::Repin { n, exit, stale, fresh }),
        2 => (n(), 0..700_000_000_u64, any::<bool>())
            .prop_map(|(n, by_ms, stale)| Op::Extend { n, by_ms, stale }),
        3 => n().prop_map(|n| Op::Touch { n }),
        2 => (n(), any::<bool>()).prop_map(|(n, stale)| Op::Announce { n, stale }),
        1 => n().prop_map(|n| Op::End { n }),
        1 => (n(), n()).prop_map(|(n, other)| Op::Undo { n, other }),
        2 => (0..4_usize).prop_map(|limit| Op::Sweep { limit }),
        3 => (0..3_000_u64).prop_map(|ms| Op::Pass { ms }),
    ]
}

#[derive(Default)]
struct Model {
    list: Vec<(u8, Entry)>,
    version: u64,
}

impl Model {
    fn at(&self, n: u8) -> Option<usize> {
        self.list.iter().position(|(m, _)| *m == n)
    }

    fn live(&mut self, n: u8, now: Timestamp) -> Option<&mut Entry> {
        self.list.iter_mut().find(|(m, e)| *m == n && now < e.pin.ends()).map(|(_, e)| e)
    }

    fn set(&mut self, n: u8, to: Option<Entry>) {
        self.list.retain(|(m, _)| *m != n);
        self.list.extend(to.map(|to| (n, to)));
    }

    fn version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn step(&mut self, op: &Op, pins: &mut Pins, now: Timestamp) {
        match *op {
            Op::Claim { n, exit, ttl_ms, idle_s } => {
                let proposal = Pin { version: self.version(), ..pin(n, exit, now, ttl_ms, idle_s) };
                let got = pins.claim(key(n), &proposal, now);
                match self.live(n, now) {
                    Some(live) => assert!(matches!(got, Claimed::Lost(held) if held.pin == live.pin)),
                    None => {
                        let ended = self.at(n).map(|at| self.list[at].1.pin.clone());
                        assert_eq!(got, Claimed::Won { ended });
                        self.set(n, Some(Entry { pin: proposal, news: News::New }));
                    }
                }
            }
            Op::Repin { n, exit, stale, fresh } => {
                let proposal = Pin { version: self.version(), ..pin(n, exit, now, 5, 0) };
                let only = if fresh { Only::Fresh } else { Only::Anyhow };
                let seen = self.live(n, now).map_or(0, |live| live.pin.version) + u64::from(stale);
                let got = pins.repin(key(n), seen, only, &proposal, now);
                let Some(live) = self.live(n, now) else {
                    assert_eq!(got, Repinned::Gone);
                    return;
                };
                let may = !stale && (!fresh || live.news == News::New);
                assert_eq!(matches!(got, Repinned::Moved { .. }), may);
                if may {
                    let counts = live.news != News::New;
                    live.pin.exit = proposal.exit;
                    live.pin.variant = proposal.variant;
                    live.pin.via = proposal.via;
                    live.pin.rest_s = proposal.rest_s;
                    live.pin.version = proposal.version;
                    live.pin.moves += u32::from(counts);
                    if counts {
                        live.news = News::Moved;
                    }
                }
            }
            Op::Extend { n, by_ms, stale } => {
                let seen = self.live(n, now).map_or(0, |live| live.pin.version) + u64::from(stale);
                let got = pins.extend(key(n), seen, Timestamp::from_ms(now.as_ms() + by_ms), now);
                let Some(live) = self.live(n, now) else {
                    assert_eq!(got, Repinned::Gone);
                    return;
                };
                assert_eq!(matches!(got, Repinned::Moved { .. }), !stale);
                if !stale {
                    let week = live.pin.made.as_ms() + 604_800_000;
                    let wanted = Timestamp::from_ms((now.as_ms() + by_ms).min(week));
                    live.pin.expires = live.pin.expires.max(wanted);
                }
            }
            Op::Touch { n } => {
                let got = pins.touch(key(n), now);
                let live = self.live(n, now);
                assert_eq!(got.is_some(), live.is_some());
                if let (Some((held, write)), Some(live)) = (got, live) {
                    let before = live.pin.ends();
                    let later = Pin { used: now, ..live.pin.clone() };
                    assert_eq!(write, later.ends() > before);
                    if write {
                        live.pin = later;
                    }
                    assert_eq!(held.pin, live.pin);
                }
            }
            Op::Announce { n, stale } => {
                let at = self.at(n);
                let version = at.map_or(0, |at| self.list[at].1.pin.version) + u64::from(stale);
                let expected =
                    at.filter(|_| !stale).map(|at| std::mem::replace(&mut self.list[at].1.news, News::Held));
                assert_eq!(pins.announce(key(n), version), expected);
            }
            Op::End { n } => {
                let live = self.live(n, now).map(|live| live.pin.clone());
                assert_eq!(pins.end(key(n), now).map(|held| held.pin), live);
                if live.is_some() {
                    self.set(n, None);
                }
            }
            Op::Undo { n, other } => {
                let to = self.at(other).map(|at| self.list[at].1.clone());
                let held = to.clone().map(|to| Held { pin: to.pin, news: to.news, record: 5 });
                pins.set(key(n), held.as_ref());
                self.set(n, to);
            }
            Op::Sweep { limit } => {
                let swept: Vec<_> = pins.sweep(now).take(limit).collect();
                let due = self.list.iter().filter(|(_, e)| e.pin.ends() <= now).count();
                assert_eq!(swept.len(), due.min(limit));
                for (swept, pin) in swept {
                    let at = self.list.iter().position(|(m, _)| key(*m) == swept).unwrap();
                    assert!(pin.ends() <= now, "never early");
                    assert_eq!(self.list.swap_remove(at).1.pin, pin);
                }
            }
            Op::Pass { .. } => {}
        }
    }

    fn check(&mut self, pins: &Pins, now: Timestamp) {
        pins.check_invariants();
        assert_eq!(pins.len(), self.list.len());
        for n in 0..12 {
            let live = self.live(n, now).cloned();
            let held = pins.get(key(n), now);
            assert_eq!(held.as_ref().map(|held| &held.pin), live.as_ref().map(|live| &live.pin));
            assert_eq!(held.map(|held| held.news), live.map(|live| live.news));
        }
        let ends = self.list.iter().map(|(_, e)| e.pin.ends()).min();
        assert!(pins.next_due() <= ends, "the sweeper is woken in time");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_map_does_what_a_naive_list_does(ops in prop::collection::vec(op(), 1..120)) {
        let (mut pins, mut model, mut now) = (Pins::new(3), Model::default(), ms(0));
        for op in &ops {
            if let Op::Pass { ms } = op {
                now = Timestamp::from_ms(now.as_ms() + ms);
            }
            model.step(op, &mut pins, now);
            model.check(&pins, now);
        }
    }
}

/// Every pin that lives all the while is shown, though others come and go
/// between any two steps.
#[test]
fn a_glance_misses_no_pin_that_stays() {
    let mut pins = Pins::new(7);
    let key =
        |n: u32| SessionKey::new("u", "p", &Filter::default(), &SessionId::new(&n.to_string()).unwrap());
    for n in 0..2000 {
        pins.claim(key(n), &pin(0, 0, ms(0), 1000, 0), ms(0));
    }
    let (mut below, mut seen, mut turn) = (u32::MAX, std::collections::HashSet::new(), 0);
    while below > 0 {
        below = pins.glance(below, 17, ms(0), |glance| {
            seen.insert(glance.key());
        });
        // All but each third go, and others come, from all over the map.
        for n in (turn * 17..).take(17).map(|n| n * 7 % 2000).filter(|n| n % 3 != 0) {
            pins.end(key(n), ms(0));
            pins.claim(key(10_000 + n), &pin(0, 0, ms(0), 1000, 0), ms(0));
        }
        turn += 1;
    }
    assert!((0..2000).step_by(3).all(|n| seen.contains(&key(n))));
    pins.glance(u32::MAX, u32::MAX, ms(1000), |_| panic!("it has ended"));
}

#[test]
fn a_glance_tells_names() {
    let mut pins = Pins::new(7);
    let given = pin(1, 2, ms(0), 1000, 0);
    pins.claim(key(1), &given, ms(0));
    pins.glance(u32::MAX, 1, ms(0), |glance| {
        let names = (glance.user(), glance.session(), glance.exit());
        assert_eq!(names, (&*given.user, given.session.as_str(), &given.exit));
    });
}

#[test]
fn memory_is_given_back() {
    let mut pins = Pins::new(7);
    let key = |n: u64| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        SessionKey::from_bytes(bytes)
    };
    for n in 0..10_000 {
        pins.claim(key(n), &pin((n % 200) as u8, 0, ms(0), 1000 + n % 7, 0), ms(0));
    }
    pins.check_invariants();
    assert_eq!(pins.sweep(ms(2000)).count(), 10_000);
    pins.check_invariants();
    assert!(pins.is_empty());
    assert!(pins.table.capacity() < 100, "{}", pins.table.capacity());
}
