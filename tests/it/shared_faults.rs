//! Three gateways on one store, clients spread over them, and faults of every
//! kind meanwhile: gateways killed and stopped, the store stopped and killed
//! (with its append-only file), links to it broken and silent. What clients
//! saw is checked afterwards.
//!
//! `MOORGATE_SEED=n` runs another course. Steps of clocks are `tests/fleet.rs`'s
//! to show: no test can step the clock of this machine.

mod history;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

use self::history::{Fault, History, Op, Saw, Span};
use crate::harness::cut::{Cut, Link};
use crate::harness::redis::Redis;
use crate::harness::request::get;
use crate::harness::{Answer, Client, Gateway, Origin, PATIENCE, Setup, basic, eventually, operator};

const GATEWAYS: usize = 3;
const CLIENTS: usize = 6;
const SESSIONS: usize = 24;
const FAULTS: usize = 12;
/// An answer may take so long at most while the fleet is hurt: what a fault
/// lasts, and the time limits.
const LONGEST: Duration = Duration::from_secs(10);

struct Fleet {
    redis: Redis,
    gateways: Vec<Gateway>,
    links: Vec<Cut>,
    origin: Origin,
    /// By session, as the operator names them.
    keys: Vec<String>,
    start: Instant,
    over: AtomicBool,
    history: Mutex<History>,
}

impl Fleet {
    fn start() -> Self {
        let redis = Redis::durable();
        let links: Vec<_> = (0..GATEWAYS).map(|_| Cut::before((redis.ip, redis.port).into())).collect();
        let on = |link: &Cut| {
            Setup::addresses(8).config("sessions.store", format!("redis://{}", link.address)).start()
        };
        let gateways = links.iter().map(on).collect();
        Self {
            redis,
            gateways,
            links,
            origin: Origin::start(),
            keys: Vec::new(),
            start: Instant::now(),
            over: AtomicBool::new(false),
            history: Mutex::default(),
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Does something, and writes down what came of it.
    fn record(&self, gateway: usize, session: usize, act: impl FnOnce() -> Saw) -> Saw {
        let (from, start) = (self.now(), Instant::now());
        let saw = act();
        assert!(start.elapsed() < LONGEST, "nothing hangs: {saw:?} after {:?}", start.elapsed());
        let op = Op { span: Span { from, to: self.now() }, gateway, session, saw: saw.clone() };
        self.history.lock().unwrap().ops.push(op);
        saw
    }

    /// A client's request of a session.
    fn ask(&self, gateway: usize, session: usize) -> Saw {
        self.record(gateway, session, || {
            let name = format!("acme-session-s{session}-ttl-2h");
            let request = get(&self.origin.url("/ip"), &basic(&name));
            match send(self.gateways[gateway].listener(0), &request, "GET") {
                Some(answer) if answer.status == 200 => Saw::Exit(answer.exit(), answer.news() == "new"),
                _ => Saw::Nothing,
            }
        })
    }

    /// The operator moves it or ends it.
    fn change(&self, gateway: usize, session: usize, moves: bool) {
        self.record(gateway, session, || {
            let admin = self.gateways[gateway].admin();
            let (method, act) = if moves { ("POST", "/move") } else { ("DELETE", "") };
            let path = format!("/v1/sessions/{}{act}", self.keys[session]);
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
            match send(admin, &request, method) {
                Some(answer) if answer.status == 200 && moves => {
                    let exit = operator::json(&answer)["exit"].as_str().expect("an exit").to_owned();
                    Saw::Moved(format!("p/{exit}"))
                }
                Some(answer) if answer.status == 200 => Saw::Ended,
                Some(answer) if answer.status == 404 => Saw::Nothing,
                _ => Saw::Unknown,
            }
        });
    }

    fn client(&self, mut rng: StdRng) {
        while !self.over.load(Relaxed) {
            let (gateway, session) = (rng.random_range(0..GATEWAYS), rng.random_range(0..SESSIONS));
            match rng.random_range(0..200) {
                0 => self.change(gateway, session, true),
                1 => self.change(gateway, session, false),
                _ => drop(self.ask(gateway, session)),
            }
            std::thread::sleep(Duration::from_millis(rng.random_range(0..30)));
        }
    }

    /// A fault from its beginning to its end.
    fn hurt(&self, kind: usize, rng: &mut StdRng) {
        let (gateway, from) = (rng.random_range(0..GATEWAYS), self.now());
        let lasts = Duration::from_millis(rng.random_range(300..1800));
        let one = &self.gateways[gateway];
        let whose = match kind {
            0 => {
                one.kill();
                std::thread::sleep(lasts / 4);
                one.launch();
                Some(gateway)
            }
            1 => {
                one.signal(Signal::STOP);
                std::thread::sleep(lasts);
                one.signal(Signal::CONT);
                Some(gateway)
            }
            2 => {
                self.redis.signal(Signal::STOP);
                std::thread::sleep(lasts);
                self.redis.signal(Signal::CONT);
                None
            }
            3 => {
                self.redis.kill();
                std::thread::sleep(lasts / 4);
                self.redis.launch();
                None
            }
            how => {
                self.links[gateway].set(if how == 4 { Link::Broken } else { Link::Silent });
                std::thread::sleep(lasts);
                self.links[gateway].set(Link::Whole);
                Some(gateway)
            }
        };
        let span = Span { from, to: self.now() };
        self.history.lock().unwrap().faults.push(Fault { span, gateway: whose, kill: kind == 0 });
    }
}

fn send(to: std::net::SocketAddr, request: &str, method: &str) -> Option<Answer> {
    let mut client = Client::try_open(to).ok()?;
    client.try_send(request).ok()?;
    client.try_answer(method).ok()
}

#[test]
fn whatever_fails_a_session_has_one_exit() {
    let seed = std::env::var("MOORGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(6);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::start();
    for session in 0..SESSIONS {
        eventually("the store takes pins", PATIENCE, || {
            matches!(fleet.ask(session % GATEWAYS, session), Saw::Exit(..)).then_some(())
        });
    }
    fleet.keys = (0..SESSIONS)
        .map(|n| operator::session(&fleet.gateways[0], &format!("s{n}"))["key"].as_str().unwrap().to_owned())
        .collect();
    let fleet = &fleet;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let rng = StdRng::from_rng(&mut rng);
            scope.spawn(move || fleet.client(rng));
        }
        // Each kind, in an order of the seed's, and again.
        let mut kinds: Vec<_> = (0..FAULTS).map(|n| n % 6).collect();
        for at in (1..kinds.len()).rev() {
            kinds.swap(at, rng.random_range(0..=at));
        }
        for kind in kinds {
            fleet.hurt(kind, &mut rng);
            std::thread::sleep(Duration::from_millis(rng.random_range(200..1500)));
        }
        fleet.over.store(true, Relaxed);
    });
    // When all is well again, all agree on every session.
    for session in 0..SESSIONS {
        eventually("all gateways agree", PATIENCE, || {
            let saw: Vec<_> = (0..GATEWAYS).map(|gateway| fleet.ask(gateway, session)).collect();
            let exit = |saw: &Saw| match saw {
                Saw::Exit(exit, _) => Some(exit.clone()),
                _ => None,
            };
            let exits: Vec<_> = saw.iter().map(exit).collect();
            (exits[0].is_some() && exits.iter().all(|exit| *exit == exits[0])).then_some(())
        });
    }
    let history = fleet.history.lock().unwrap();
    let proof =
        history.check().unwrap_or_else(|breach| panic!("seed {seed}: {breach}\n{:#?}", history.faults));
    println!("{} requests, {proof:?}", history.ops.len());
    assert!(proof.answers > history.ops.len() / 4, "much was proven: {proof:?} of {}", history.ops.len());
    assert!(proof.periods >= SESSIONS, "of several gateways: {proof:?}");
}
