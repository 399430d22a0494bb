use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::core::code::Code;
use crate::core::exit::{Credential, Exit, Labels, Mode, Scheme, Trust, Upstream, Via};
use crate::core::failover::Closed;
use crate::core::fault::{Blame, Fault};
use crate::core::pin::Variant;
use crate::core::pool::{DialTimeouts, Placement, Rotate};
use crate::core::session::{Filter, SessionId, SessionKey, UserName};
use crate::core::target::{Host, Target};
use crate::core::template::Template;
use crate::core::time::Ttl;

const POOL: &str = "us";

fn at(s: u64) -> Timestamp {
    Timestamp::from_ms(1_000_000_000 + s * 1000)
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn ttl(s: u64) -> Ttl {
    Ttl::from_secs(s).unwrap()
}

fn name(id: &str) -> ExitName {
    ExitName { pool: POOL.into(), id: id.into() }
}

fn exit(id: &str) -> Exit {
    Exit {
        name: name(id),
        via: Via::Direct,
        weight: 1,
        labels: Labels::default(),
        address: None,
        max_sessions: 0,
        max_connections: 0,
        max_ttl: None,
        mode: Mode::Active,
        fault_status: Arc::new([]),
        digest: 1,
    }
}

fn prefix(id: &str, net: &str) -> Exit {
    Exit { via: Via::Prefix(net.parse().unwrap()), ..exit(id) }
}

fn template(id: &str) -> Exit {
    let credential =
        Credential { user: Template::parse("me-{session}").unwrap(), password: Template::literal("x") };
    let upstream = Upstream {
        scheme: Scheme::Http,
        host: Host::Name("gate.example".into()),
        port: 7777,
        credential: Some(credential),
        trust: Trust::System,
    };
    Exit { via: Via::Upstream(Arc::new(upstream)), ..exit(id) }
}

fn pool(exits: Vec<Exit>) -> Pool {
    let timeouts = DialTimeouts { dns: secs(5), connect: secs(5), handshake: secs(20), response: secs(120) };
    Pool::new(POOL, exits.into_iter().map(Arc::new).collect(), Arc::default(), timeouts)
}

fn failure() -> Fault {
    Fault::new(Code::ExitFailed, "refused")
}

fn target(n: u16) -> Target {
    Target { host: Host::Name("origin.example".into()), port: n + 1 }
}

/// A gateway's state with one pool, and what a request would do with it.
struct Fixture {
    exits: Arc<Exits>,
    in_force: InForce,
    rng: StdRng,
    user: UserName,
    filter: Filter,
    sessions: usize,
}

impl Fixture {
    fn new(pool: Pool) -> Self {
        let exits = Arc::new(Exits::default());
        let in_force =
            InForce::new(Pools::new(vec![Arc::new(pool)]), exits.clone(), Switches::default(), at(0));
        let (rng, filter) = (StdRng::seed_from_u64(3), Filter::default());
        Self { exits, in_force, rng, user: "acme".into(), filter, sessions: 0 }
    }

    fn of(exits: Vec<Exit>) -> Self {
        Self::new(pool(exits))
    }

    fn reload(&self, pool: Pool, now: Timestamp) {
        self.in_force.replace(Pools::new(vec![Arc::new(pool)]), now).end(now);
    }

    fn pool(&self) -> Arc<LivePool> {
        self.in_force.snapshot().pool(POOL).unwrap().clone()
    }

    fn state(&self, id: &str) -> Arc<ExitState> {
        self.exits.state(&name(id))
    }

    fn rotate(&mut self, now: Timestamp) -> Result<Pick, NoExit> {
        self.rotate_without(&[], now)
    }

    fn rotate_without(&mut self, not: &[ExitName], now: Timestamp) -> Result<Pick, NoExit> {
        let ask = Unpinned { user: &self.user, filter: &self.filter, exit: None, not, target: None };
        self.in_force.snapshot().pool(POOL).unwrap().rotate(&ask, now, &mut self.rng)
    }

    fn ask(&self) -> NewPin<'_> {
        let id = SessionId::new(&format!("s{}", self.sessions)).unwrap();
        NewPin {
            key: SessionKey::new("acme", POOL, &self.filter, &id),
            filter: &self.filter,
            exit: None,
            ttl: ttl(600),
            not: &[],
            address: None,
            siblings_only: false,
            target: None,
        }
    }

    fn place_as(&mut self, change: impl FnOnce(&mut NewPin<'_>), now: Timestamp) -> Result<Pick, NoExit> {
        self.sessions += 1;
        let mut rng = StdRng::from_rng(&mut self.rng);
        let mut ask = self.ask();
        change(&mut ask);
        self.pool().place(&ask, now, &mut rng)
    }

    fn place_for(&mut self, target: &Target, now: Timestamp) -> Result<Pick, NoExit> {
        self.sessions += 1;
        let mut rng = StdRng::from_rng(&mut self.rng);
        self.pool().place(&NewPin { target: Some(target), ..self.ask() }, now, &mut rng)
    }

    fn place(&mut self, now: Timestamp) -> Result<Pick, NoExit> {
        self.place_as(|_| {}, now)
    }

    /// A pin that is made and kept; the dial is over.
    fn pin(&mut self, now: Timestamp) -> Result<Pin, NoExit> {
        self.pin_with(600, 0, None, now)
    }

    fn pin_with(
        &mut self,
        ttl_s: u64,
        rest_s: u32,
        idle: Option<u64>,
        now: Timestamp,
    ) -> Result<Pin, NoExit> {
        let mut pick = self.place(now)?;
        let pin = Pin {
            user: self.user.clone(),
            session: SessionId::new(&format!("s{}", self.sessions)).unwrap(),
            filter: self.filter.clone(),
            exit: pick.exit.name.clone(),
            variant: pick.variant.clone(),
            via: pick.exit.digest,
            made: now,
            expires: now.plus(secs(ttl_s)),
            idle: idle.map(ttl),
            used: now,
            rest_s,
            moves: 0,
            same_address: false,
            version: 1,
        };
        pick.room.take().unwrap().commit(&pin);
        Ok(pin)
    }

    fn eject(&mut self, id: &str, now: Timestamp) {
        for _ in 0..3 {
            let attempt = self.state(id).attempt(&Variant::None, now).unwrap();
            attempt.failed(Blame::Exit, &failure(), &target(1), now);
        }
        assert!(!self.state(id).is_open(now));
    }
}

fn id_of(pick: Result<Pick, NoExit>) -> String {
    pick.unwrap().exit.name.id.to_string()
}

#[track_caller]
fn check_none(pick: Result<Pick, NoExit>, detail: &str, retry_after_s: u32) {
    let fault = Fault::from(pick.err().expect("an exit was found"));
    assert_eq!(fault.code(), Code::NoExit);
    assert_eq!(fault.detail(), detail);
    assert_eq!(fault.retry_after_s(), Some(retry_after_s), "{detail}");
}

#[test]
fn each_exit_once_a_round_over_all_users_and_retries() {
    let mut fixture = Fixture::of((0..10).map(|n| exit(&n.to_string())).collect());
    for round in 0..3u16 {
        fixture.user = format!("user{round}").into();
        let ids: HashSet<_> = (0..10).map(|_| id_of(fixture.rotate(at(0)))).collect();
        assert_eq!(ids.len(), 10);
    }
}

#[test]
fn filters_rotate_apart_and_a_reload_of_the_same_exits_goes_on() {
    let exits = || {
        let labelled = |n: usize| {
            let city = if n < 4 { "Paris" } else { "Rome" };
            Exit { labels: Labels::new([("city", city)]), ..exit(&n.to_string()) }
        };
        (0..8).map(labelled).collect::<Vec<_>>()
    };
    let mut fixture = Fixture::of(exits());
    fixture.filter = Filter::new([("city", "paris")]);
    let mut seen: Vec<_> = (0..2).map(|_| id_of(fixture.rotate(at(0)))).collect();
    fixture.filter = Filter::default();
    let _ = fixture.rotate(at(0));
    let mut same = pool(exits());
    same.attempts = 7;
    fixture.reload(same, at(1));
    fixture.filter = Filter::new([("city", "PARIS")]);
    seen.extend((0..2).map(|_| id_of(fixture.rotate(at(2)))));
    seen.sort();
    assert_eq!(seen, ["0", "1", "2", "3"]);

    fixture.filter = Filter::new([("city", "oslo")]);
    check_none(fixture.rotate(at(2)), "there is no exit of pool us with city=oslo", 30);
}

#[test]
fn an_ejected_exit_loses_its_turn_until_one_request_has_tried_it() {
    let mut fixture = Fixture::of(vec![exit("a"), exit("b"), exit("c")]);
    fixture.eject("b", at(0));
    let ids: Vec<_> = (0..6).map(|_| id_of(fixture.rotate(at(29)))).collect();
    assert_eq!(ids.iter().filter(|id| *id == "b").count(), 0);
    assert_eq!(ids.iter().filter(|id| *id == "a").count(), 3);

    // While the trial is under way nobody else gets it.
    let picks: Vec<_> = (0..6).map(|_| fixture.rotate(at(30)).unwrap()).collect();
    let (trial, others): (Vec<_>, Vec<_>) = picks.into_iter().partition(|pick| &*pick.exit.name.id == "b");
    assert_eq!((trial.len(), others.len()), (1, 5));
    // It was not used after all: the next one may.
    drop(trial);
    let mut trial = std::iter::repeat_with(|| fixture.rotate(at(31)).unwrap())
        .find(|pick| &*pick.exit.name.id == "b")
        .unwrap();
    trial.room = None;
    let after = trial.attempt.succeeded(at(32));
    assert_eq!(after.change, Some(crate::core::health::Change::Returned));
    assert!((0..3).any(|_| id_of(fixture.rotate(at(32))) == "b"));
}

#[test]
fn what_has_failed_for_this_request_is_passed_over() {
    let mut fixture = Fixture::of(vec![exit("a"), exit("b")]);
    for _ in 0..5 {
        assert_eq!(id_of(fixture.rotate_without(&[name("a")], at(0))), "b");
    }
    let none = fixture.rotate_without(&[name("a"), name("b")], at(0)).err().unwrap();
    assert!(none.all_tried());
    assert_eq!(none.to_string(), "no exit of pool us can be used now: 2 failed for this request");
}

#[test]
fn a_full_exit_is_passed_over_until_a_connection_ends() {
    let one = |id| Exit { max_connections: 1, ..exit(id) };
    let mut fixture = Fixture::of(vec![one("a"), one("b")]);
    let first = fixture.rotate(at(0)).unwrap();
    let second = fixture.rotate(at(0)).unwrap();
    assert_ne!(first.exit.name, second.exit.name);
    check_none(fixture.rotate(at(0)), "no exit of pool us can be used now: 2 at max_connections", 1);
    let freed = first.exit.name.id.to_string();
    drop(first);
    assert_eq!(id_of(fixture.rotate(at(0))), freed);
}

#[test]
fn rotate_holds_a_users_requests() {
    let mut pool = pool((0..5).map(|n| exit(&n.to_string())).collect());
    pool.rotate = Some(Rotate { requests: Some(3), every: None });
    let mut fixture = Fixture::new(pool);
    let ids: Vec<_> = (0..15).map(|_| id_of(fixture.rotate(at(0)))).collect();
    assert!(ids.chunks(3).all(|held| held.iter().all(|id| *id == held[0])), "{ids:?}");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 5);

    let held = id_of(fixture.rotate(at(0)));
    fixture.eject(&held, at(0));
    assert_ne!(id_of(fixture.rotate(at(1))), held);
}

#[test]
fn a_named_exit_is_the_only_one() {
    let mut fixture = Fixture::of(vec![exit("a"), Exit { max_sessions: 1, ..exit("b") }, exit("c")]);
    let held = fixture.place_as(|ask| ask.exit = Some("b"), at(0)).unwrap();
    assert_eq!(&*held.exit.name.id, "b");
    let again = fixture.place_as(|ask| ask.exit = Some("b"), at(0));
    check_none(again, "no exit of pool us named b can be used now: 1 without room for another session", 30);
    let pool = fixture.pool();
    let ask =
        Unpinned { user: &fixture.user, filter: &fixture.filter, exit: Some("c"), not: &[], target: None };
    for _ in 0..3 {
        assert_eq!(id_of(pool.rotate(&ask, at(0), &mut fixture.rng)), "c");
    }
}

#[test]
fn drain_and_off_get_nothing_new() {
    let mode = |id, mode| Exit { mode, ..exit(id) };
    let exits = || vec![mode("a", Mode::Drain), mode("b", Mode::Off), exit("c")];
    let mut fixture = Fixture::of(exits());
    for _ in 0..10 {
        assert_eq!(id_of(fixture.rotate(at(0))), "c");
        assert_eq!(id_of(fixture.place(at(0))), "c");
    }
    let pool = fixture.pool();
    assert!(pool.resume("a", &Variant::None, at(0)).is_ok());
    assert_eq!(pool.resume("b", &Variant::None, at(0)).err(), Some(Closed::Off));
    assert_eq!(pool.resume("x", &Variant::None, at(0)).err(), Some(Closed::Gone));
    fixture.reload(self::pool(exits().into_iter().take(2).collect()), at(1));
    let detail = "no exit of pool us can be used now: 2 set to drain or off";
    check_none(fixture.rotate(at(1)), detail, 30);
}

#[test]
fn a_pin_on_an_ejected_exit_is_told_until_when() {
    let mut fixture = Fixture::of(vec![exit("a")]);
    fixture.eject("a", at(0));
    let pool = fixture.pool();
    let closed = pool.resume("a", &Variant::None, at(10)).err().unwrap();
    assert_eq!(closed, Closed::Ejected { until: at(30) });
    let _trial = pool.resume("a", &Variant::None, at(30)).unwrap();
    assert!(pool.resume("a", &Variant::None, at(30)).is_err());
    check_none(fixture.place(at(10)), "no exit of pool us can be used now: 1 ejected after failures", 1);
}

#[test]
fn max_ttl_turns_long_sessions_away_and_says_so() {
    let short = |id| Exit { max_ttl: Some(ttl(60)), ..exit(id) };
    let mut fixture = Fixture::of(vec![short("a"), exit("b"), short("c")]);
    for _ in 0..10 {
        assert_eq!(id_of(fixture.place(at(0))), "b");
    }
    let mut fixture = Fixture::of(vec![short("a")]);
    let detail = "no exit of pool us can be used now: 1 with a max_ttl below 10m: ask for a shorter ttl";
    check_none(fixture.place(at(0)), detail, 30);
    assert!(fixture.place_as(|ask| ask.ttl = ttl(60), at(0)).is_ok());
}

#[test]
fn room_is_given_back_unless_it_was_committed() {
    let mut fixture = Fixture::of(vec![Exit { max_sessions: 2, ..exit("a") }]);
    let first = fixture.place(at(0)).unwrap();
    let pin = fixture.pin(at(0)).unwrap();
    assert!(fixture.place(at(0)).is_err());
    drop(first);
    assert_eq!(fixture.state("a").pins(), 1);
    fixture.exits.left(&pin, Some(at(5)));
    assert_eq!(fixture.state("a").pins(), 0);
    fixture.exits.left(&pin, Some(at(5)));
    assert_eq!(fixture.state("a").pins(), 0, "a fault elsewhere does not wrap");
}

#[test]
fn all_taken_says_when_the_first_has_room_again() {
    let one = |id| Exit { max_sessions: 1, ..exit(id) };
    let taken = "no exit of pool us can be used now: 2 without room for another session";
    let mut fixture = Fixture::of(vec![one("a"), one("b")]);
    let pin = fixture.pin_with(100, 3600, None, at(0)).unwrap();
    let _second = fixture.pin_with(500, 3600, None, at(0)).unwrap();
    check_none(fixture.place(at(50)), taken, 3650);

    // It ended sooner, and rests from then on.
    fixture.exits.left(&pin, Some(at(60)));
    assert_eq!(fixture.state("a").pins() + fixture.state("b").pins(), 1);
    check_none(fixture.place(at(61)), taken, 3599);
    check_none(fixture.place(Timestamp::from_ms(at(3660).as_ms() - 1)), taken, 1);
    assert_eq!(id_of(fixture.place(at(3660))), *pin.exit.id);

    let mut fixture = Fixture::of(vec![one("a"), one("b")]);
    fixture.pin_with(1000, 0, Some(30), at(0)).unwrap();
    fixture.pin_with(1000, 0, None, at(0)).unwrap();
    check_none(fixture.place(at(10)), taken, 30);
    check_none(fixture.place(at(990)), taken, 10);
}

#[test]
fn pins_and_rests_of_a_time_before_count() {
    let mut fixture = Fixture::of(vec![exit("x")]);
    let mut pin = fixture.pin_with(100, 60, None, at(0)).unwrap();
    // Both are told before their pool is there.
    pin.exit = name("a");
    fixture.exits.loaded(&pin);
    fixture.exits.rested(&name("b"), at(40));
    let one = |id| Exit { max_sessions: 1, ..exit(id) };
    fixture.reload(pool(vec![one("a"), one("b")]), at(1));
    let taken = "no exit of pool us can be used now: 2 without room for another session";
    check_none(fixture.place(at(1)), taken, 39);
    assert_eq!(id_of(fixture.place(at(40))), "b");
    fixture.exits.left(&pin, Some(at(100)));
    assert_eq!(id_of(fixture.place_as(|ask| ask.not = &[], at(159))), "b");
    assert!(fixture.place_as(|ask| ask.exit = Some("a"), at(159)).is_err());
    assert!(fixture.place_as(|ask| ask.exit = Some("a"), at(160)).is_ok());
}

#[test]
fn a_reload_keeps_what_is_known_of_each_exit() {
    let mut fixture = Fixture::of(vec![exit("a"), exit("b")]);
    fixture.eject("a", at(0));
    let pin = fixture.pin(at(0)).unwrap();
    assert_eq!(&*pin.exit.id, "b");
    fixture.reload(pool(vec![exit("c")]), at(1));
    fixture.reload(pool(vec![exit("c"), exit("b"), exit("a")]), at(2));
    assert_eq!(fixture.state("b").pins(), 1, "kept while its exit is away");
    assert!(fixture.state("a").is_open(at(2)), "nothing needed it");

    fixture.eject("c", at(2));
    fixture.reload(pool(vec![exit("c"), exit("b")]), at(3));
    assert!(!fixture.state("c").is_open(at(3)));
    fixture.reload(pool(vec![Exit { digest: 2, ..exit("c") }, exit("b")]), at(4));
    assert!(fixture.state("c").is_open(at(4)), "its via is another one");
}

#[test]
fn a_new_exit_and_a_returned_one_start_slowly() {
    let mut fixture = Fixture::of(vec![exit("a"), Exit { mode: Mode::Off, ..exit("b") }]);
    let ramp = |fixture: &Fixture, id: &str, now| fixture.state(id).ramp(now, secs(60));
    assert_eq!(ramp(&fixture, "a", at(0)), 1.0, "there from the start");
    fixture.reload(pool(vec![exit("a"), exit("b"), exit("c")]), at(100));
    for (id, now, expected) in [("a", 100, 1.0), ("b", 100, 0.001), ("c", 130, 0.5), ("c", 160, 1.0)] {
        assert_eq!(ramp(&fixture, id, at(now)), expected, "{id} at {now}");
    }
    fixture.eject("a", at(200));
    assert_eq!(ramp(&fixture, "a", at(230)), 1.0, "or it might never be tried");
    fixture.state("a").attempt(&Variant::None, at(230)).unwrap().succeeded(at(231));
    assert_eq!(ramp(&fixture, "a", at(246)), 0.25);
}

#[test]
fn siblings_come_first() {
    let here: IpAddr = "192.0.2.7".parse().unwrap();
    let with = |id, address: Option<IpAddr>| Exit { address, ..exit(id) };
    let mut fixture = Fixture::of(vec![
        with("old", Some(here)),
        exit("x"),
        with("twin", Some(here)),
        prefix("net", "192.0.2.0/28"),
        prefix("far", "198.51.100.0/24"),
        Exit { address: Some(here), ..template("vendor") },
    ]);
    let not = [name("old")];
    let near = |ask: &mut NewPin<'_>| {
        ask.address = Some(here);
        ask.siblings_only = true;
    };
    let moved = |fixture: &Fixture, not: &[ExitName]| {
        let ask = NewPin { not, address: Some(here), siblings_only: true, ..fixture.ask() };
        fixture.pool().place(&ask, at(0), &mut StdRng::seed_from_u64(1))
    };
    assert_eq!(id_of(moved(&fixture, &not)), "twin");
    fixture.eject("twin", at(0));
    let second = moved(&fixture, &not).unwrap();
    assert_eq!(&*second.exit.name.id, "net");
    assert_eq!(second.address(), Some(here));
    assert_eq!(second.variant, Variant::Address(here));
    // Nobody else gets this address of the prefix now.
    let detail = "no exit of pool us with the same exit address can be used now: \
                  1 ejected after failures, 1 failed for this request";
    check_none(moved(&fixture, &not), detail, 1);
    drop(second);
    assert_eq!(id_of(moved(&fixture, &not)), "net");

    let any = NewPin { not: &not, address: Some("203.0.113.1".parse().unwrap()), ..fixture.ask() };
    assert!(fixture.pool().place(&any, at(0), &mut StdRng::seed_from_u64(1)).is_ok());
    let none = fixture.place_as(
        |ask| {
            near(ask);
            ask.address = None;
        },
        at(0),
    );
    check_none(none, "there is no exit of pool us with the same exit address", 30);
}

#[test]
fn a_sibling_must_match_the_filter() {
    let here: IpAddr = "192.0.2.7".parse().unwrap();
    let city = |id, city| Exit { address: Some(here), labels: Labels::new([("city", city)]), ..exit(id) };
    let mut fixture = Fixture::of(vec![city("rome", "rome"), city("paris", "paris")]);
    fixture.filter = Filter::new([("city", "paris")]);
    for _ in 0..5 {
        assert_eq!(id_of(fixture.place_as(|ask| ask.address = Some(here), at(0))), "paris");
    }
}

#[test]
fn a_prefix_gives_each_pin_its_own_address() {
    let mut fixture = Fixture::of(vec![prefix("net", "192.0.2.0/28")]);
    let pins: Vec<_> = (0..14).map(|_| fixture.pin(at(0)).unwrap()).collect();
    let addresses: HashSet<_> = pins.iter().map(|pin| pin.variant.clone()).collect();
    assert_eq!(addresses.len(), 14);
    fixture.exits.left(&pins[3], Some(at(1)));
    assert_eq!(fixture.pin(at(1)).unwrap().variant, pins[3].variant);
    // All taken: the least used one. A lost claim's address is free again.
    let lost: HashSet<_> = (0..30).map(|_| fixture.place(at(1)).unwrap().variant).collect();
    assert!(lost.is_subset(&addresses));
    let second: HashSet<_> = (0..14).map(|_| fixture.pin(at(1)).unwrap().variant).collect();
    assert_eq!(second.len(), 14);
}

#[test]
fn pins_made_at_once_never_share_an_address() {
    let fixture = Fixture::of(vec![prefix("net", "10.0.0.0/20")]);
    let pool = fixture.pool();
    let claim = |thread: u64| {
        let (mut rng, filter) = (StdRng::seed_from_u64(thread), Filter::default());
        let key = SessionKey::from_bytes([0; 16]);
        let ask = NewPin {
            key,
            filter: &filter,
            exit: None,
            ttl: ttl(60),
            not: &[],
            address: None,
            siblings_only: false,
            target: None,
        };
        (0..4094 / 16 * 2)
            .filter_map(|n| {
                let pick = pool.place(&ask, at(0), &mut rng).unwrap();
                (n % 2 == 0).then_some(pick)
            })
            .collect::<Vec<_>>()
    };
    let picks: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|thread| scope.spawn(move || claim(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let addresses: HashSet<_> = picks.iter().map(|pick| pick.variant.clone()).collect();
    assert_eq!((picks.len(), addresses.len()), (4080, 4080));
}

#[test]
fn requests_at_once_keep_the_round_and_the_limits() {
    let one =
        |n: u32| Exit { weight: n % 3 + 1, max_sessions: 5, max_connections: 50, ..exit(&n.to_string()) };
    let fixture = Fixture::of((0..30).map(one).collect());
    let pool = fixture.pool();
    let (user, filter) = (UserName::from("u"), Filter::default());
    let ids: Vec<String> = std::thread::scope(|scope| {
        let rotate = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let ask = Unpinned { user: &user, filter: &filter, exit: None, not: &[], target: None };
            (0..60).map(|_| id_of(pool.rotate(&ask, at(0), &mut rng))).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..8).map(|seed| scope.spawn(move || rotate(seed))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut counts = BTreeMap::<u32, u32>::new();
    ids.iter().for_each(|id| *counts.entry(id.parse().unwrap()).or_default() += 1);
    assert!(counts.iter().all(|(n, count)| *count == 8 * (n % 3 + 1)), "{counts:?}");

    let placed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|seed| {
                let (pool, filter) = (&pool, &filter);
                scope.spawn(move || {
                    let mut rng = StdRng::seed_from_u64(seed);
                    let key = SessionKey::from_bytes([0; 16]);
                    let (ttl, not) = (ttl(60), &[][..]);
                    let ask = NewPin {
                        key,
                        filter,
                        exit: None,
                        ttl,
                        not,
                        address: None,
                        siblings_only: false,
                        target: None,
                    };
                    let picks = (0..40).map_while(|_| pool.place(&ask, at(0), &mut rng).ok());
                    let kept: Vec<_> = picks.filter_map(|mut pick| pick.room.take()).collect();
                    kept
                })
            })
            .collect();
        let rooms: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        rooms.len()
    });
    assert_eq!(placed, 150);
}

#[test]
fn a_template_gives_fresh_tokens_and_a_lost_one_is_renewed() {
    let mut fixture = Fixture::of(vec![Exit { max_sessions: 1, ..template("vendor") }]);
    let tokens: HashSet<_> = (0..10).map(|_| fixture.rotate(at(0)).unwrap().variant).collect();
    assert_eq!(tokens.len(), 10);
    let pin = fixture.pin_with(600, 60, None, at(0)).unwrap();
    let pool = fixture.pool();
    let fail = |variant: &Variant| {
        let pick = pool.resume("vendor", variant, at(0)).unwrap();
        pick.attempt.failed(Blame::Token, &failure(), &target(1), at(0)).token_lost
    };
    let works = |variant: &Variant| {
        pool.resume("vendor", variant, at(0)).unwrap().attempt.succeeded(at(0));
    };
    assert!(!fail(&pin.variant) && !fail(&pin.variant));
    works(&pin.variant);
    assert!(!fail(&pin.variant) && !fail(&Variant::Token("other".into())) && !fail(&pin.variant));
    assert!(fail(&pin.variant));

    let renewed = pool.renew("vendor", at(0), &mut fixture.rng).unwrap();
    assert_ne!(renewed.variant, pin.variant);
    assert_eq!(fixture.state("vendor").pins(), 2);
    let moved = Pin { variant: renewed.variant.clone(), ..pin.clone() };
    renewed.room.unwrap().commit(&moved);
    fixture.exits.left(&pin, None);
    assert_eq!(fixture.state("vendor").pins(), 1);
    fixture.exits.left(&moved, None);
    assert!(fixture.place(at(0)).is_ok(), "what has moved does not rest");
}

#[test]
fn silence_about_different_targets_ejects() {
    let fixture = Fixture::of(vec![exit("a")]);
    let silent = |n| {
        let attempt = fixture.state("a").attempt(&Variant::None, at(0)).unwrap();
        attempt.failed(Blame::Silence, &failure(), &target(n), at(0)).ejected_until
    };
    assert_eq!([silent(1), silent(1), silent(2), silent(2)], [None; 4]);
    assert_eq!(silent(3), Some(at(30)));
}

#[test]
fn a_loser_of_the_race_to_eject_sees_it_too() {
    let fixture = Fixture::of(vec![exit("a")]);
    let attempts: Vec<_> =
        (0..5).map(|_| fixture.state("a").attempt(&Variant::None, at(0)).unwrap()).collect();
    let after: Vec<_> = attempts
        .into_iter()
        .map(|attempt| attempt.failed(Blame::Exit, &failure(), &target(1), at(0)))
        .collect();
    assert_eq!(after.iter().filter(|after| after.change.is_some()).count(), 1);
    assert_eq!(after.iter().filter(|after| after.ejected_until.is_some()).count(), 3);
}

#[test]
fn rendezvous_needs_no_state_to_agree() {
    let make = || {
        let mut pool = pool((0..10).map(|n| exit(&n.to_string())).collect());
        pool.placement = Placement::Rendezvous;
        Fixture::new(pool)
    };
    let (mut one, mut two) = (make(), make());
    two.rng = StdRng::seed_from_u64(99);
    let ids = |fixture: &mut Fixture| (0..100).map(|_| id_of(fixture.place(at(0)))).collect::<Vec<_>>();
    assert_eq!(ids(&mut one), ids(&mut two));
}

#[test]
fn filters_are_kept_in_bounds() {
    let tagged = |n: usize| Exit { labels: Labels::new([("tag", &*n.to_string())]), ..exit(&n.to_string()) };
    let mut fixture = Fixture::of((0..1500).map(tagged).collect());
    for n in 0..1500 {
        fixture.filter = Filter::new([("tag", &*n.to_string())]);
        assert_eq!(id_of(fixture.rotate(at(n))), n.to_string());
    }
    let mut chosen = HashMap::<_, u32>::new();
    fixture.filter = Filter::default();
    (0..1500).for_each(|_| *chosen.entry(id_of(fixture.rotate(at(0)))).or_default() += 1);
    assert_eq!(chosen.len(), 1500);
}

#[test]
fn an_exit_that_nothing_counts_on_is_forgotten() {
    let mut fixture = Fixture::of(vec![Exit { max_sessions: 1, ..exit("a") }, exit("b")]);
    let pin = fixture.pin_with(100, 60, None, at(0)).unwrap();
    let known =
        |fixture: &Fixture| fixture.exits.0.iter().map(|shard| shard.read().unwrap().len()).sum::<usize>();
    fixture.reload(pool(vec![exit("c")]), at(50));
    assert_eq!(known(&fixture), 2, "one has a pin");
    fixture.exits.left(&pin, Some(at(100)));
    fixture.reload(pool(vec![exit("c")]), at(170));
    assert_eq!(known(&fixture), 1);
}

#[test]
fn an_exit_that_is_gone_is_remembered_by_its_address_while_it_has_pins() {
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    let mut fixture = Fixture::of(vec![Exit { address: Some(address), ..exit("a") }]);
    let pin = fixture.pin(at(0)).unwrap();
    fixture.reload(pool(vec![exit("b")]), at(1));
    assert_eq!(fixture.in_force.address(&name("a")), Some(address));
    fixture.exits.left(&pin, Some(at(2)));
    fixture.reload(pool(vec![exit("b"), exit("c")]), at(3));
    assert_eq!(fixture.in_force.address(&name("a")), None);
}

#[test]
fn who_has_closed_an_exit_hears_when_it_opens() {
    let one = |id: &str| Exit { max_sessions: 1, max_connections: 1, ..exit(id) };
    let mut fixture = Fixture::of(vec![one("a"), one("b")]);
    let filter = Filter::new([("city", "rome")]);
    let exits = ["a", "b"].map(|id| Exit { labels: Labels::new([("city", "Rome")]), ..one(id) });
    fixture.reload(pool(exits.into()), at(0));
    for filter in [Filter::default(), filter] {
        fixture.filter = filter;
        // Full of pins, of connections, ejected: each for sessions and for
        // requests, met in vain, then open again.
        let pins = [fixture.pin(at(0)).unwrap(), fixture.pin(at(0)).unwrap()];
        assert!(fixture.place(at(1)).is_err() && fixture.place(at(1)).is_err());
        fixture.exits.left(&pins[0], Some(at(1)));
        assert_eq!(id_of(fixture.place(at(1))), *pins[0].exit.id);
        fixture.exits.left(&pins[1], Some(at(1)));

        let carried = [fixture.rotate(at(1)).unwrap(), fixture.rotate(at(1)).unwrap()];
        assert!(fixture.rotate(at(1)).is_err() && fixture.place(at(1)).is_err());
        let freed = carried[0].exit.name.id.to_string();
        drop(carried);
        assert!(fixture.place(at(1)).is_ok() && fixture.rotate(at(1)).is_ok());

        fixture.eject("a", at(1));
        fixture.eject("b", at(2));
        assert!(fixture.rotate(at(3)).is_err() && fixture.place(at(3)).is_err());
        assert_eq!(id_of(fixture.rotate(at(31))), "a", "by time alone; {freed}");
        let pick = fixture.place(at(32)).unwrap();
        pick.attempt.succeeded(at(32));
        fixture.state("a").attempt(&Variant::None, at(32)).unwrap().succeeded(at(32));
        fixture.state("b").attempt(&Variant::None, at(32)).unwrap().succeeded(at(32));
    }
}

proptest::proptest! {
    /// Whatever happens to exits, a choice finds one if and only if a look at
    /// each would.
    #[test]
    fn lanes_know_what_is_usable(
        steps in proptest::collection::vec((0u8..7, 0usize..6, 0u64..40), 1..120),
        placement in 0usize..3,
    ) {
        let limits = |n: usize| Exit {
            max_sessions: n as u32 % 3,
            max_connections: n as u32 % 2 * 2,
            max_ttl: (n == 4).then(|| ttl(60)),
            weight: n as u32 + 1,
            ..exit(&n.to_string())
        };
        let mut pool = pool((0..6).map(limits).collect());
        pool.placement = [Placement::LeastSessions, Placement::Random, Placement::Rendezvous][placement];
        let mut fixture = Fixture::new(pool);
        let (mut now, mut pins, mut picks) = (at(0), Vec::new(), Vec::new());
        for (step, n, passes_s) in steps {
            let live = fixture.state(&n.to_string());
            match step {
                0 => if let Ok(pin) = fixture.pin_with(600, 10 * (n as u32 % 2), None, now) { pins.push(pin) },
                1 => if !pins.is_empty() {
                    let pin: Pin = pins.swap_remove(n % pins.len());
                    fixture.exits.left(&pin, Some(now));
                },
                2 => picks.extend(fixture.rotate(now).ok()),
                3 => if !picks.is_empty() { drop(picks.swap_remove(n % picks.len())) },
                4 => for _ in 0..3 {
                    if let Some(attempt) = live.attempt(&Variant::None, now) {
                        attempt.failed(Blame::Exit, &failure(), &target(1), now);
                    }
                },
                5 => if let Some(attempt) = live.attempt(&Variant::None, now) { attempt.succeeded(now); },
                _ => now = now.plus(secs(passes_s)),
            }
            let free = |need: lanes::Need| (0..6).any(|n: usize| {
                let short = matches!(need, lanes::Need::Session(_)) && n == 4;
                !short && fixture.state(&n.to_string()).closed(need, now).is_none()
            });
            let (requests, sessions) = (free(lanes::Need::Request), free(lanes::Need::Session(ttl(600))));
            proptest::prop_assert_eq!(fixture.rotate(now).is_ok(), requests);
            proptest::prop_assert_eq!(fixture.place(now).is_ok(), sessions);
        }
    }
}

/// By which exits a round of choices goes for a target; each is told apart
/// from a failure.
fn ids_for(fixture: &mut Fixture, target: &Target, count: usize, now: Timestamp) -> Vec<String> {
    let choose = |_| {
        let ask = Unpinned {
            user: &fixture.user,
            filter: &fixture.filter,
            exit: None,
            not: &[],
            target: Some(target),
        };
        let live = fixture.in_force.snapshot().pool(POOL).unwrap().clone();
        id_of(live.rotate(&ask, now, &mut fixture.rng))
    };
    (0..count).map(choose).collect()
}

#[test]
fn what_cools_for_a_site_takes_no_turn_of_others() {
    let mut fixture = Fixture::of(["a", "b", "c", "d"].map(exit).to_vec());
    let (bad, good) = (Target::parse("w.bad.example:1").unwrap(), Target::parse("good.example:1").unwrap());
    let pool = fixture.pool();
    for id in ["b", "d"] {
        assert_eq!(pool.report(id, &Variant::None, &bad, at(0)), Some(at(600)));
    }
    let mut others = Vec::new();
    for _ in 0..4 {
        let both: HashSet<_> = ids_for(&mut fixture, &bad, 2, at(1)).into_iter().collect();
        assert_eq!(both, HashSet::from(["a".to_owned(), "c".to_owned()]), "a round of what is left");
        others.extend(ids_for(&mut fixture, &good, 1, at(1)));
    }
    others.sort();
    assert_eq!(others, ["a", "b", "c", "d"], "each once a round, whatever others ask for");
    let later: HashSet<_> = ids_for(&mut fixture, &bad, 4, at(600)).into_iter().collect();
    assert_eq!(later.len(), 4, "the time is over");
}

#[test]
fn where_all_cool_the_first_to_be_back_is_told() {
    for placement in [Placement::LeastSessions, Placement::Random, Placement::Rendezvous] {
        let exits: Vec<_> = (0..300).map(|n| exit(&format!("e{n}"))).collect();
        let mut pool = pool(exits);
        pool.placement = placement;
        let mut fixture = Fixture::new(pool);
        let target = Target::parse("bad.example:1").unwrap();
        let live = fixture.pool();
        for n in 0..300 {
            live.report(&format!("e{n}"), &Variant::None, &target, at(n / 10));
        }
        let detail = "no exit of pool us can be used now: 300 reported as no good for this target";
        check_none(fixture.place_for(&target, at(40)), detail, 560);
        let ask = Unpinned {
            user: &fixture.user,
            filter: &fixture.filter,
            exit: None,
            not: &[],
            target: Some(&target),
        };
        check_none(live.rotate(&ask, at(40), &mut StdRng::seed_from_u64(1)), detail, 560);
        let named = Unpinned { exit: Some("e7"), ..ask };
        assert!(
            live.rotate(&named, at(40), &mut StdRng::seed_from_u64(1)).is_ok(),
            "the client's own choice"
        );
        let back = fixture.place_for(&target, at(600));
        assert!(id_of(back).len() == 2, "one of the first ten");
        fixture.place(at(40)).map(drop).unwrap();
    }
}

#[test]
fn a_template_cools_by_nothing_and_a_prefix_by_its_address() {
    let target = Target::parse("bad.example:1").unwrap();
    let mut fixture = Fixture::of(vec![template("t"), prefix("n", "192.0.2.0/30")]);
    let live = fixture.pool();
    assert_eq!(live.report("t", &Variant::Token("x".into()), &target, at(0)), None);
    assert_eq!(live.report("n", &Variant::None, &target, at(0)), None, "which address?");
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    assert!(live.report("n", &Variant::Address(address), &target, at(0)).is_some());
    assert!(!live.is_good(&Variant::Address(address), &target, at(1)));
    for _ in 0..16 {
        let pick = fixture.place_for(&target, at(1)).unwrap();
        assert_ne!(pick.variant, Variant::Address(address));
    }
    assert_eq!(live.cooled(at(1)).len(), 1);
    live.forget_reports("n");
    assert_eq!(live.report("gone", &Variant::None, &target, at(0)), None);
}
