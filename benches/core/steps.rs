//! The steps that are measured, in pools and stores of a size.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use moorgate::clock::ManualClock;
use moorgate::core::exit::{Exit, Labels, Mode, Via};
use moorgate::core::fault::{Blame, Fault};
use moorgate::core::pin::{ExitName, Pin, Variant};
use moorgate::core::pool::{DialTimeouts, HealthPolicy, Placement, Pool, Pools, Rotation};
use moorgate::core::session::{Filter, SessionId, SessionKey, UserName};
use moorgate::core::target::Target;
use moorgate::core::time::{Timestamp, Ttl};
use moorgate::core::username;
use moorgate::http1::head::{self, HeadLimits};
use moorgate::state::{Exits, InForce, LivePool, NewPin, Switches, Unpinned};
use moorgate::store::{Durability, Left, PinObserver, Store, StoreConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Told a step's name and the step.
type Measure<'m> = dyn FnMut(&str, &mut dyn FnMut()) + 'm;

/// Small enough that callgrind is done with it soon, large enough that nothing
/// is met for the first time.
const WARM: usize = 300;

/// The same on every run.
const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// Every step, in one order.
pub(crate) fn each(size: usize, measure: &mut Measure<'_>) {
    parsing(measure);
    pins(size, measure);
    choices(size, measure);
    many_pools(size, measure);
    one_in_use(size, measure);
}

fn warm(name: &str, measure: &mut Measure<'_>, mut step: impl FnMut()) {
    (0..WARM).for_each(|_| step());
    measure(name, &mut step);
}

fn parsing(measure: &mut Measure<'_>) {
    let request = b"CONNECT origin.example:443 HTTP/1.1\r\nHost: origin.example:443\r\n\
        Proxy-Authorization: Basic YWNtZS1zZXNzaW9uLWFiYzEyMy10dGwtMTBtOnNlY3JldA==\r\n\
        User-Agent: curl/8.5.0\r\nProxy-Connection: Keep-Alive\r\n\r\n";
    let limits = HeadLimits { bytes: 65_536, fields: 100 };
    warm("read a head of CONNECT", measure, || {
        let head = head::parse_request(black_box(request), &mut head::Scan::default(), &limits);
        black_box(head.expect("a head"));
    });
    warm("read a username's parameters", measure, || {
        black_box(username::parse(black_box("session-abc123-ttl-10m-country-us")).expect("parameters"));
    });
    let user = moorgate::measured::User::new("acme", "secret");
    let field = b"Basic YWNtZS1zZXNzaW9uLWFiYzEyMy10dGwtMTBtOnNlY3JldA==";
    warm("check a credential", measure, || assert!(user.is_proven_by(black_box(field))));
    let (filter, id) = (Filter::default(), SessionId::new("abc123").expect("an id"));
    warm("make a session key", measure, || {
        black_box(SessionKey::new("acme", "us", &filter, &id));
    });
}

struct Deaf;

impl PinObserver for Deaf {
    fn loaded(&self, _: &Pin) {}
    fn left(&self, _: &Pin, _: Timestamp, _: Left) {}
}

/// With so many pins in memory.
fn pins(size: usize, measure: &mut Measure<'_>) {
    let config = StoreConfig { folder: None, durability: Durability::Journal };
    let clock = Arc::new(ManualClock::new(NOW));
    let (store, _) = Store::open(config, clock, Arc::new(Deaf)).expect("memory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for n in 0..size {
            store.claim(key(n), pin(n, "us", NOW)).await.expect("memory");
        }
    });
    let mut n = 0;
    warm("find a live pin", measure, || {
        n = (n + 7919) % size;
        let hold = std::pin::pin!(store.hold(key(n)));
        assert!(ready(hold).expect("memory").is_some());
    });
    let mut n = size;
    warm("claim a pin", measure, || {
        n += 1;
        let claim = std::pin::pin!(store.claim(key(n), pin(n, "us", NOW)));
        assert!(ready(claim).expect("memory").won);
    });
}

/// What a future gives that waits for nothing.
fn ready<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> T {
    match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("memory makes nobody wait"),
    }
}

/// An exit, of which every hundredth is in the same city.
pub(crate) fn exit(pool: &str, n: usize) -> Exit {
    let bytes = u32::try_from(n).expect("a small pool").to_be_bytes();
    let address = std::net::IpAddr::from([10, bytes[1], bytes[2], bytes[3]]);
    let city = (n % 100).to_string();
    Exit {
        name: ExitName { pool: pool.into(), id: format!("{address}").as_str().into() },
        via: Via::Address(address),
        weight: 1,
        labels: Labels::new([("country", "us"), ("city", &*city)]),
        address: Some(address),
        max_sessions: 0,
        max_connections: 0,
        max_ttl: None,
        mode: Mode::Active,
        fault_status: Arc::default(),
        digest: 1,
    }
}

pub(crate) fn pool(name: &str, exits: Vec<Exit>) -> Pool {
    let s = Duration::from_secs(5);
    let timeouts = DialTimeouts { dns: s, connect: s, handshake: s, response: s };
    let mut pool = Pool::new(name, exits.into_iter().map(Arc::new).collect(), Arc::default(), timeouts);
    pool.health = HealthPolicy { eject_after: 1, eject_for: Duration::from_secs(3600) };
    pool
}

pub(crate) fn in_force(pools: Vec<Pool>) -> (InForce, Arc<Exits>) {
    in_force_of(Pools::new(pools.into_iter().map(Arc::new).collect()))
}

pub(crate) fn in_force_of(pools: Pools) -> (InForce, Arc<Exits>) {
    let exits = Arc::new(Exits::default());
    (InForce::new(pools, exits.clone(), Switches::default(), NOW), exits)
}

/// The choices of one pool.
struct Chooser {
    pool: Arc<LivePool>,
    exits: Arc<Exits>,
    filter: Filter,
    rng: StdRng,
    user: UserName,
    n: usize,
}

impl Chooser {
    fn of(pool: Pool) -> Self {
        let name = pool.name.clone();
        let (in_force, exits) = in_force(vec![pool]);
        let pool = in_force.snapshot().pool(&name).expect("it").clone();
        let (filter, rng) = (Filter::default(), StdRng::seed_from_u64(1));
        Self { pool, exits, filter, rng, user: "acme".into(), n: 0 }
    }

    fn rotate(&mut self) -> bool {
        let ask = Unpinned { user: &self.user, filter: &self.filter, exit: None, not: &[], target: None };
        black_box(self.pool.rotate(&ask, NOW, &mut self.rng)).is_ok()
    }

    fn place(&mut self) -> bool {
        self.n += 1;
        let ask = NewPin {
            key: key(self.n),
            filter: &self.filter,
            exit: None,
            ttl: Ttl::from_secs(600).expect("a ttl"),
            not: &[],
            address: None,
            siblings_only: false,
            target: None,
        };
        black_box(self.pool.place(&ask, NOW, &mut self.rng)).is_ok()
    }

    fn eject(&self, places: impl Iterator<Item = usize>) {
        let target = Target::parse("origin.example:443").expect("a target");
        let fault = Fault::new(moorgate::core::code::Code::ExitFailed, "refused");
        for place in places {
            let live = self.exits.state(&self.pool.pool.exits[place].name);
            if let Some(attempt) = live.attempt(&Variant::None, NOW) {
                attempt.failed(Blame::Exit, &fault, &target, NOW);
            }
        }
    }

    /// Until it has met what is out of use.
    fn meet(&mut self, times: usize) {
        for _ in 0..times {
            self.rotate();
            self.place();
        }
    }

    fn both(&mut self, rotate: &str, place: &str, measure: &mut Measure<'_>) {
        warm(rotate, measure, || assert!(self.rotate()));
        warm(place, measure, || assert!(self.place()));
    }
}

fn choices(size: usize, measure: &mut Measure<'_>) {
    let exits = |weigh: &dyn Fn(usize) -> u32| {
        let weighed = |n| Exit { weight: weigh(n), ..exit("us", n) };
        (0..size).map(weighed).collect::<Vec<_>>()
    };
    let mut chooser = Chooser::of(pool("us", exits(&|_| 1)));
    let ids: Vec<_> = chooser.pool.pool.exits.iter().map(|exit| exit.name.id.clone()).collect();
    let mut n = 0;
    warm("resume a pin's exit", measure, || {
        n = (n + 7919) % size;
        assert!(chooser.pool.resume(&ids[n], &Variant::None, NOW).is_ok());
    });
    chooser.both("rotate: round_robin", "place: least_sessions", measure);
    chooser.filter = Filter::new([("city", "7")]);
    chooser.both("… of the hundredth part with a label", "… of the hundredth part with a label ", measure);
    chooser.filter = Filter::default();
    if size > 10 {
        chooser.eject((0..size).step_by(2));
        chooser.meet(2 * size);
    } else {
        chooser.eject(0..5);
    }
    chooser.both("… half of them ejected", "… half of them ejected ", measure);

    let ways = [
        (Rotation::Random, Placement::Random, "rotate: random", "place: random"),
        (Rotation::LeastConnections, Placement::Rendezvous, "rotate: least_connections", "place: rendezvous"),
    ];
    for (rotation, placement, rotate, place) in ways {
        let mut made = pool("us", exits(&|_| 1));
        (made.rotation, made.placement) = (rotation, placement);
        Chooser::of(made).both(rotate, place, measure);
    }
    let weights = |n: usize| u32::try_from(n * 7919 % 1000).unwrap_or(0) + 1;
    let mut made = pool("us", exits(&weights));
    made.placement = Placement::Rendezvous;
    let mut chooser = Chooser::of(made);
    chooser.both("rotate: round_robin, weights to 1000", "place: rendezvous, weights to 1000", measure);
    chooser.eject((0..size).filter(|n| n % 2 == 1));
    chooser.meet(size);
    chooser.both("… half of these ejected", "… half of these ejected ", measure);
}

/// A request finds its pool among a thousand, of 100 exits each at most.
fn many_pools(size: usize, measure: &mut Measure<'_>) {
    let names: Vec<_> = (0..1000.min(size)).map(|n| format!("p{n}")).collect();
    let pools = names.iter().map(|name| pool(name, (0..size / names.len()).map(|n| exit(name, n)).collect()));
    let (in_force, _) = in_force(pools.collect());
    let (mut rng, mut n) = (StdRng::seed_from_u64(1), 0);
    let (user, filter) = (UserName::from("acme"), Filter::default());
    warm("find the pool, rotate; as many pools, up to 1,000", measure, || {
        n = (n + 7919) % names.len();
        let snapshot = in_force.snapshot();
        let ask = Unpinned { user: &user, filter: &filter, exit: None, not: &[], target: None };
        let pool = snapshot.pool(&names[n]).expect("a pool");
        assert!(pool.rotate(&ask, NOW, &mut rng).is_ok());
    });
}

/// All but one exit are out of use, and then that one, too.
fn one_in_use(size: usize, measure: &mut Measure<'_>) {
    let mut made = pool("us", (0..size).map(|n| exit("us", n)).collect());
    made.placement = Placement::Rendezvous;
    let mut chooser = Chooser::of(made);
    chooser.eject((0..size).filter(|n| *n != size / 3));
    chooser.meet(10);
    chooser.both(
        "rotate: round_robin, all but one ejected",
        "place: rendezvous, all but one ejected",
        measure,
    );
    chooser.eject(size / 3..size / 3 + 1);
    chooser.meet(1);
    warm("rotate: all ejected, say why", measure, || assert!(!chooser.rotate()));

    let full = |n| Exit { max_sessions: 1, ..exit("full", n) };
    let mut chooser = Chooser::of(pool("full", (0..size).map(full).collect()));
    for (n, exit) in chooser.pool.pool.exits.iter().enumerate() {
        let mut held = pin(n, "full", NOW);
        held.exit = exit.name.clone();
        chooser.exits.loaded(&held);
    }
    chooser.meet(1);
    warm("place: least_sessions, all full, say why", measure, || assert!(!chooser.place()));
    let mut held = pin(size / 3, "full", NOW);
    held.exit = chooser.pool.pool.exits[size / 3].name.clone();
    warm("a pin ends and its exit is found", measure, || {
        chooser.exits.left(&held, Some(NOW));
        assert!(chooser.place());
        chooser.exits.loaded(&held);
    });
}

/// Keys are spread as digests are, and cheaper.
fn key(n: usize) -> SessionKey {
    let a = (n as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(b ^ (b >> 32)).to_le_bytes());
    bytes[8..].copy_from_slice(&a.swap_bytes().to_le_bytes());
    SessionKey::from_bytes(bytes)
}

fn pin(n: usize, pool: &str, now: Timestamp) -> Pin {
    Pin {
        user: "acme".into(),
        session: SessionId::new(&format!("s{n:011}")).expect("printable"),
        filter: Filter::default(),
        exit: ExitName { pool: pool.into(), id: format!("198.51.100.{}", n % 100).as_str().into() },
        variant: Variant::None,
        via: 1,
        made: now,
        expires: now.plus(Duration::from_secs(24 * 3600)),
        idle: None,
        used: now,
        rest_s: 0,
        moves: 0,
        same_address: false,
        version: 0,
    }
}
