//! The scheduler: what happens next is drawn from a seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moorgate::clock::ManualClock;
use moorgate::core::ask::{Account, AtHand, GatewayBounds, ask, judge};
use moorgate::core::code::Code;
use moorgate::core::fault::{Blame, Fault};
use moorgate::core::pin::{ExitName, Pin};
use moorgate::core::pool::{Affinity, SessionBounds};
use moorgate::core::session::SessionKey;
use moorgate::core::time::{Timestamp, Ttl};
use moorgate::core::username::{Parameters, parse};
use moorgate::state::{Exits, InForce};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::disk::{Content, Death, Receipt, Time, draw};
use super::history::{Died, History, Left, Who};
use super::mistake::Mistake;
use super::pools::Files;
use super::request::{Link, Request, Stage};
use super::store::Store;
use super::truth::Dialled;

/// Client connections.
const CLIENTS: usize = 6;
/// The store is looked after so often.
const TICK_MS: Time = 250;
/// The writer is never longer behind.
const WRITER_MS: Time = 200;
/// The disk has what was written so long after.
const SYNC_MS: Time = 50;
/// A step of the wall clock is noticed and written down so soon.
const NOTICE_MS: Time = 1000;
/// The longest ttl.
const MAX_TTL_S: u64 = 60;

/// A promise was broken.
#[derive(Debug)]
pub struct Breach {
    pub step: u64,
    pub what: String,
    pub story: Vec<String>,
}

/// How an exit does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weather {
    Fine,
    Flaky,
    Down,
}

#[derive(Default)]
struct Client {
    kept: Vec<Link>,
    request: Option<Request>,
    /// What it asked for last: user, parameters, target.
    last: Option<(&'static str, String, &'static str)>,
}

/// A gateway that runs.
struct Gateway {
    store: Store,
    in_force: InForce,
    exits: Arc<Exits>,
    clock: Arc<ManualClock>,
    clients: Vec<Client>,
    /// Ends that are not written yet.
    ending: Vec<(usize, Receipt)>,
    next_tick: Time,
    refuses_since: Option<Time>,
}

/// A gateway that does not.
struct Wreck {
    content: Content,
    died: Died,
    /// How far the wall clock may have been ahead of true time when its
    /// steps were written down last.
    reckoned_ms: Vec<i64>,
}

/// All there is.
pub struct World {
    rng: StdRng,
    events: [(u32, Event); 12],
    /// How likely a death is right after an answer, where it hurts most.
    deadly: f64,
    mistake: Option<Mistake>,
    history: History,
    files: Files,
    weather: BTreeMap<ExitName, Weather>,
    gateway: Result<Gateway, Wreck>,
    /// The wall clock at the beginning.
    start_ms: u64,
    /// How far the wall clock is ahead of true time, and since when.
    wall_ms: Vec<(Time, i64)>,
    requests: u64,
}

#[derive(Clone, Copy)]
enum Event {
    Ask,
    Progress,
    Pass,
    Commit,
    Sync,
    Cancel,
    Weather,
    Reload,
    End,
    StepWall,
    Refuse,
    Die,
}

/// What happens how often; a seed is of one mood, so that in some of them
/// pins live long.
fn events(seed: u64) -> [(u32, Event); 12] {
    let [weather, reload, end, refuse, die, commit] = match seed % 5 {
        0 => [60, 6, 4, 0, 1, 60],
        1 => [25, 12, 8, 0, 3, 60],
        2 => [25, 12, 4, 12, 4, 60],
        3 => [40, 40, 4, 1, 2, 60],
        _ => [5, 2, 20, 2, 3, 25],
    };
    [
        (240, Event::Ask),
        (450, Event::Progress),
        (100, Event::Pass),
        (commit, Event::Commit),
        (10, Event::Sync),
        (6, Event::Cancel),
        (3, Event::StepWall),
        (weather, Event::Weather),
        (reload, Event::Reload),
        (end, Event::End),
        (refuse, Event::Refuse),
        (die, Event::Die),
    ]
}

/// Lets so many things happen.
pub fn run(seed: u64, steps: u64, mistake: Option<Mistake>, tell: bool) -> Result<History, Box<Breach>> {
    let mut world = World::new(seed, mistake, tell);
    for step in 1..=steps {
        world.history.step = step;
        world.step();
        if let Some(what) = world.history.breach() {
            let what = what.to_owned();
            return Err(Box::new(Breach { step, what, story: world.history.story.unwrap_or_default() }));
        }
    }
    Ok(world.history)
}

impl World {
    fn new(seed: u64, mistake: Option<Mistake>, tell: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let files = Files::new(seed % 5 == 4, &mut rng);
        let start_ms = 1_800_000_000_000 + rng.random_range(0..1000);
        let wreck = Wreck { content: Content::default(), died: Died::default(), reckoned_ms: vec![0] };
        let mut world = Self {
            rng,
            events: events(seed),
            deadly: [0.0, 0.2, 0.05, 0.0, 0.2][(seed % 5) as usize],
            mistake,
            history: History::new(tell),
            files,
            weather: BTreeMap::new(),
            gateway: Err(wreck),
            start_ms,
            wall_ms: vec![(0, 0)],
            requests: 0,
        };
        world.start();
        world
    }

    fn step(&mut self) {
        if self.gateway.is_err() {
            return self.while_down();
        }
        // A disk that refuses is mended soon.
        let refuses = matches!(&self.gateway, Ok(gateway) if gateway.refuses_since.is_some());
        let event = match refuses.then(|| self.rng.random_range(0..100)) {
            Some(0..5) => Event::Refuse,
            Some(5..7) => Event::Die,
            _ if self.history.answered + 1 == self.history.step && self.rng.random_bool(self.deadly) => {
                Event::Die
            }
            _ => draw(&mut self.rng, &self.events),
        };
        match event {
            Event::Ask => self.ask(),
            Event::Progress => self.progress(),
            Event::Pass => {
                let ms = self.a_while();
                self.pass(ms);
            }
            Event::Weather => self.change_weather(),
            Event::Reload => self.reload(),
            Event::StepWall => self.step_wall(),
            Event::Die => self.die(),
            event => self.trouble(event),
        }
        self.look();
    }

    fn trouble(&mut self, event: Event) {
        let (now, Ok(gateway)) = (self.history.now, &mut self.gateway) else { return };
        match event {
            Event::Commit => {
                let batch = self.rng.random_range(1..6);
                gateway.store.disk().commit(batch, now);
            }
            Event::Sync => gateway.store.disk().sync(),
            Event::Cancel => {
                let at = self.rng.random_range(0..CLIENTS);
                gateway.clients[at] = Client::default();
            }
            Event::End => gateway.end(&mut self.history, &mut self.rng),
            _ => gateway.refuse_or_recover(&mut self.history),
        }
    }

    /// Somebody asks for something.
    fn ask(&mut self) {
        let Ok(gateway) = &mut self.gateway else { return };
        let at = self.rng.random_range(0..CLIENTS);
        if gateway.clients[at].request.is_some() {
            return;
        }
        let again = gateway.clients[at].last.take().filter(|_| self.rng.random_bool(0.6));
        let (user, tail, target) = again.unwrap_or_else(|| wish(&mut self.rng));
        gateway.clients[at].last = Some((user, tail.clone(), target));
        let account = account(user);
        let snapshot = gateway.in_force.snapshot();
        let asked = parse(&tail).map_err(|error| error.fault).and_then(|parameters| {
            judge(&parameters, &account, &bounds())?;
            let at_hand = AtHand { client: [192, 0, 2, 77].into(), target: None };
            ask(parameters, &Parameters::default(), &account, snapshot.pools(), &bounds(), at_hand)
        });
        let out_of_range = ["-ttl-0s", "-ttl-61s", "-ttl-200h"].iter().any(|bad| tail.contains(bad));
        let refused = asked.as_ref().err().map(Fault::code);
        if out_of_range != (refused == Some(Code::TtlOutOfRange)) {
            self.history.broken(|| format!("{user}{tail}: {refused:?}"));
        }
        let Ok(ask) = asked else {
            return self.history.count("refused by its parameters");
        };
        let session = ask.session.as_ref().expect("a session");
        let key = match self.mistake {
            Some(Mistake::UsersShare) => SessionKey::new("", &ask.pool.name, &ask.filter, &session.id),
            _ => session.key,
        };
        let plain = self.rng.random_bool(0.5);
        self.requests += 1;
        self.history.tell(|| format!("{user}{tail} {}: asks, plain: {plain}", self.requests));
        let (waiting, mut stage) = gateway.stage(at, &mut self.history, &mut self.rng, self.mistake);
        let mut request = Request::new(self.requests, ask, key, plain, target, &mut stage);
        request.begin(&mut stage);
        *waiting = Some(request).filter(|request| !request.is_done());
    }

    /// What a request waits for comes.
    fn progress(&mut self) {
        let Ok(gateway) = &mut self.gateway else { return };
        let at = self.rng.random_range(0..CLIENTS);
        let Some(mut request) = gateway.clients[at].request.take() else { return };
        let weather = request.waits_for().map(|exit| {
            let token = &*exit.id == "gate";
            (*self.weather.get(exit).unwrap_or(&Weather::Fine), token)
        });
        let outcome =
            weather.map_or(Dialled::Through, |(weather, token)| outcome(weather, token, &mut self.rng));
        if let Some(exit) = request.waits_for() {
            let who = &request.who;
            self.history.tell(|| format!("{who}: {exit} {outcome:?}"));
        }
        let (waiting, mut stage) = gateway.stage(at, &mut self.history, &mut self.rng, self.mistake);
        request.step(outcome, &mut stage);
        *waiting = Some(request).filter(|request| !request.is_done());
    }

    /// How long nothing happens: often to where something ends.
    fn a_while(&mut self) -> Time {
        let Ok(gateway) = &self.gateway else { return self.rng.random_range(0..5000) };
        let kind = self.rng.random_range(0..100);
        if kind < 70 {
            return self.rng.random_range(0..30);
        }
        let live = gateway.store.live();
        if kind < 85 && !live.is_empty() {
            let (_, held) = &live[self.rng.random_range(0..live.len())];
            let left = held.pin.ends().as_ms() - gateway.store.now().as_ms();
            let around = draw(&mut self.rng, &[(2, -3i64), (2, -1), (2, 0), (1, 1), (1, 400)]);
            return left.saturating_add_signed(around).min(8000);
        }
        self.rng.random_range(0..1500)
    }

    /// Time passes.
    fn pass(&mut self, mut ms: Time) {
        let history = &mut self.history;
        let Ok(gateway) = &mut self.gateway else {
            history.now += ms;
            return;
        };
        while ms > 0 {
            let now = history.now;
            let some = ms.min(gateway.next_tick - now);
            let disk = gateway.store.disk();
            if disk.waits_since().is_some_and(|since| since + WRITER_MS < now + some) {
                disk.commit(usize::MAX, now);
            }
            if disk.unsynced_since().is_some_and(|since| since + SYNC_MS < now + some) {
                disk.sync();
            }
            gateway.clock.advance(Duration::from_millis(some));
            history.now += some;
            ms -= some;
            if history.now == gateway.next_tick {
                gateway.store.keep(history.now);
                gateway.next_tick += TICK_MS;
            }
        }
    }

    fn change_weather(&mut self) {
        let names: Vec<_> = self.files.names().collect();
        let name = names[self.rng.random_range(0..names.len())].clone();
        let weather = draw(&mut self.rng, &[(5, Weather::Fine), (1, Weather::Flaky), (3, Weather::Down)]);
        self.weather.insert(name, weather);
    }

    fn reload(&mut self) {
        match self.rng.random_bool(0.2) {
            true => self.files.mend(),
            false => self.files.change(&mut self.rng),
        }
        self.history.tell(|| "reload".to_owned());
        if let Ok(gateway) = &self.gateway {
            let pools = self.files.read();
            self.history.truth.listed(&pools, self.history.step);
            gateway.in_force.replace(pools, gateway.store.now());
            self.history.count("reload");
        }
    }

    /// Somebody sets the wall clock.
    fn step_wall(&mut self) {
        let by = draw(
            &mut self.rng,
            &[(2, 200i64), (2, -200), (2, 5000), (2, -5000), (1, 3_600_000), (1, -3_600_000)],
        );
        let ahead = self.wall_ms.last().map_or(0, |(_, ahead)| *ahead) + by;
        self.wall_ms.push((self.history.now, ahead));
        self.history.tell(|| format!("the wall clock steps by {by} ms"));
        self.history.count("step of the wall clock");
        let wall = self.wall();
        if let Ok(gateway) = &self.gateway {
            gateway.clock.set_wall(wall);
        }
    }

    fn wall(&self) -> Timestamp {
        let ahead = self.wall_ms.last().map_or(0, |(_, ahead)| *ahead);
        Timestamp::from_ms((self.start_ms + self.history.now).saturating_add_signed(ahead))
    }

    fn die(&mut self) {
        let death = draw(&mut self.rng, &[(3, Death::Kill), (2, Death::Power)]);
        let now = self.history.now;
        let wreck = Wreck { content: Content::default(), died: Died::default(), reckoned_ms: Vec::new() };
        let Ok(gateway) = std::mem::replace(&mut self.gateway, Err(wreck)) else { return };
        self.history.tell(|| format!("{death:?}"));
        self.history.count(match death {
            Death::Kill => "kill",
            Death::Power => "loss of power",
        });
        let told_by = if death == Death::Power { now.saturating_sub(SYNC_MS) } else { now };
        // While the disk refuses live pins go on, and their uses wait.
        let written_by = gateway.refuses_since.map_or(now, |since| since.saturating_sub(1));
        let uses_by = written_by.min(told_by);
        let noticed_by = uses_by.saturating_sub(NOTICE_MS);
        let known = self.wall_ms.iter().rposition(|(at, _)| *at <= noticed_by).unwrap_or(0);
        let reckoned_ms = self.wall_ms[known..].iter().map(|(_, ahead)| *ahead).collect();
        // Connections and guards go with the process.
        drop(gateway.clients);
        let content = gateway.store.die(death, &mut self.rng);
        self.gateway = Err(Wreck { content, died: Died { at: now, told_by, uses_by }, reckoned_ms });
    }

    fn while_down(&mut self) {
        match self.rng.random_range(0..20) {
            0..6 => {
                let ms = draw(&mut self.rng, &[(3, 30), (2, 400), (1, 3000)]);
                self.pass(ms);
            }
            6 => self.reload(),
            7 if self.rng.random_bool(0.5) => self.step_wall(),
            _ => self.start(),
        }
    }

    fn start(&mut self) {
        let Err(wreck) = &mut self.gateway else { return };
        let content = std::mem::take(&mut wreck.content);
        let died = wreck.died;
        let ahead = self.wall_ms.last().map_or(0, |(_, ahead)| *ahead);
        let shifts = wreck.reckoned_ms.iter().map(|then| then - ahead);
        let shift = (shifts.clone().min().unwrap_or(0), shifts.max().unwrap_or(0));
        let clock = Arc::new(ManualClock::new(self.wall()));
        let exits = Arc::new(Exits::default());
        let store = Store::open(content, clock.clone(), exits.clone(), self.mistake);
        let pools = self.files.read();
        self.history.truth.forget();
        self.history.truth.listed(&pools, self.history.step);
        let in_force = InForce::new(pools, exits.clone(), store.now());
        let left = what_is_left(&store);
        let ends = left.len();
        self.history.tell(|| format!("starts with {ends} pins, clock shifted by {shift:?}"));
        self.history.restarted(&left, &died, shift);
        let clients = (0..CLIENTS).map(|_| Client::default()).collect();
        let next_tick = self.history.now + TICK_MS;
        let ending = Vec::new();
        let gateway =
            Gateway { store, in_force, exits, clock, clients, ending, next_tick, refuses_since: None };
        self.gateway = Ok(gateway);
    }

    /// What holds at every instant.
    fn look(&mut self) {
        let Ok(gateway) = &mut self.gateway else { return };
        let (history, store) = (&mut self.history, &gateway.store);
        gateway.ending.retain(|(life, receipt)| match store.ended(*receipt) {
            None => true,
            Some(written) => {
                if written {
                    history.ended(*life);
                }
                false
            }
        });
        if history.step % 16 != 0 {
            return;
        }
        store.pins().check_invariants();
        let mut on = BTreeMap::<ExitName, u32>::new();
        for (_, held) in store.pins().iter() {
            *on.entry(held.pin.exit).or_default() += 1;
        }
        for name in self.files.names() {
            let requests = gateway.clients.iter().filter_map(|client| client.request.as_ref());
            let reserved: u32 = requests.map(|request| request.reserves(name)).sum();
            let (counted, is) = (gateway.exits.state(name).pins(), on.remove(name).unwrap_or(0) + reserved);
            if counted != is {
                history.broken(|| format!("{name} holds {is} pins, and {counted} are counted"));
            }
        }
    }
}

impl Gateway {
    fn stage<'a>(
        &'a mut self,
        client: usize,
        history: &'a mut History,
        rng: &'a mut StdRng,
        mistake: Option<Mistake>,
    ) -> (&'a mut Option<Request>, Stage<'a>) {
        let (at, Client { kept, request, .. }) = (history.now, &mut self.clients[client]);
        let (store, in_force) = (&mut self.store, &self.in_force);
        (request, Stage { store, in_force, history, kept, rng, at, mistake })
    }

    fn end(&mut self, history: &mut History, rng: &mut StdRng) {
        let live = self.store.live();
        if live.is_empty() {
            return;
        }
        let (key, _) = &live[rng.random_range(0..live.len())];
        if let Ok(Some((pin, receipt))) = self.store.end(*key, history.now) {
            history.tell(|| format!("{} is ended", Who::of(&pin)));
            history.count("ended on demand");
            self.ending.extend(history.ending(&Who::of(&pin)).map(|life| (life, receipt)));
        }
    }

    fn refuse_or_recover(&mut self, history: &mut History) {
        if self.refuses_since.take().is_some() {
            history.tell(|| "the disk takes pins again".to_owned());
            return self.store.recover();
        }
        history.tell(|| "the disk refuses".to_owned());
        history.count("the disk refused");
        self.refuses_since = Some(history.now);
        self.store.refuse();
        let left = what_is_left(&self.store);
        history.refused(&left);
    }
}

fn what_is_left(store: &Store) -> Vec<Left> {
    let now = store.now();
    let left = |pin: Pin| Left { left_ms: pin.ends().as_ms() - now.as_ms(), pin };
    store.live().into_iter().map(|(_, held)| left(held.pin)).collect()
}

/// A user, what follows its name, and a target.
fn wish(rng: &mut StdRng) -> (&'static str, String, &'static str) {
    let mut tail = format!("-session-s{}", draw(rng, &[(5, 1), (2, 2), (1, 3)]));
    tail += draw(rng, &[(6, ""), (1, "-pool-eu")]);
    tail += draw(rng, &[(5, ""), (2, "-country-us"), (1, "-country-de")]);
    tail += draw(
        rng,
        &[
            (60, "-ttl-20s"),
            (20, ""),
            (40, "-ttl-5s"),
            (20, "-ttl-2s"),
            (10, "-ttl-1s"),
            (1, "-ttl-0s"),
            (1, "-ttl-61s"),
            (1, "-ttl-200h"),
        ],
    );
    tail += draw(rng, &[(4, ""), (1, "-idle-1s"), (3, "-idle-3s")]);
    tail += draw(rng, &[(5, ""), (2, "-failover-on"), (3, "-failover-off"), (3, "-failover-address")]);
    tail += draw(rng, &[(40, ""), (1, "-exit-a1"), (1, "-exit-b")]);
    let target = draw(rng, &[(1, "one.example:80"), (1, "two.example:80"), (1, "three.example:80")]);
    (draw(rng, &[(3, "acme"), (1, "beta")]), tail, target)
}

fn account(user: &str) -> Account {
    Account {
        name: user.into(),
        pools: None,
        default_pool: Some("us".into()),
        sessions: SessionBounds::default(),
        affinity: Affinity::None,
    }
}

fn bounds() -> GatewayBounds {
    let ttl = |secs| Ttl::from_secs(secs).expect("a ttl");
    GatewayBounds { default_ttl: ttl(10), min_ttl: Ttl::MIN, max_ttl: ttl(MAX_TTL_S), idle: None }
}

fn outcome(weather: Weather, token: bool, rng: &mut StdRng) -> Dialled {
    let exits = if token && rng.random_bool(0.7) { Blame::Token } else { Blame::Exit };
    let bad = match weather {
        Weather::Fine => 0,
        Weather::Flaky => 40,
        Weather::Down => 100,
    };
    match rng.random_range(0..100) {
        n if n < bad => Dialled::Failed(exits),
        90..95 => Dialled::Failed(Blame::Target),
        95..98 => Dialled::Failed(Blame::Silence),
        _ => Dialled::Through,
    }
}
