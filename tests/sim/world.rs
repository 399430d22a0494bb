//! The scheduler: what happens next is drawn from a seed.

use std::collections::BTreeMap;

use moorgate::core::code::Code;
use moorgate::core::fault::Fault;
use moorgate::core::pin::ExitName;
use moorgate::core::session::SessionKey;
use moorgate::core::time::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::aftermath::Died;
use super::disk::{Content, Death, Time, draw};
use super::gateway::{CLIENTS, Client, Gateway, SYNC_MS};
use super::history::History;
use super::mistake::Mistake;
use super::pools::Files;
use super::request::Request;
use super::truth::Dialled;
use super::wish::{Weather, Wish};

/// A step of the wall clock is noticed and written down so soon.
const NOTICE_MS: Time = 1000;
/// A promise was broken.
#[derive(Debug)]
pub struct Breach {
    pub step: u64,
    pub what: String,
    pub story: Vec<String>,
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
    events: [(u32, Event); 13],
    /// Trouble where it hurts most: how likely a death is right after an
    /// answer, and a refusal soon after a move.
    die_after_answer: f64,
    refuse_after_move: f64,
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
    Probe,
}

/// What happens how often; a seed is of one mood, so that in some of them
/// pins live long.
fn events(seed: u64) -> [(u32, Event); 13] {
    let [weather, reload, end, refuse, die, commit] = match seed % 5 {
        0 => [60, 6, 4, 0, 1, 60],
        1 => [25, 12, 8, 0, 3, 60],
        2 => [60, 12, 4, 4, 2, 12],
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
        (15, Event::Probe),
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
            die_after_answer: [0.0, 0.2, 0.05, 0.0, 0.2][(seed % 5) as usize],
            refuse_after_move: [0.0, 0.0, 0.04, 0.0, 0.0][(seed % 5) as usize],
            mistake,
            history: History::new(tell, files.address_change),
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
        let step = self.history.step;
        let event = match refuses.then(|| self.rng.random_range(0..100)) {
            Some(0..5) => Event::Refuse,
            Some(5..7) => Event::Die,
            _ if step - self.history.answered_at == 1 && self.rng.random_bool(self.die_after_answer) => {
                Event::Die
            }
            _ if step - self.history.moved_at < 50 && self.rng.random_bool(self.refuse_after_move) => {
                Event::Refuse
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
            Event::Probe => self.probe(),
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

    /// Somebody asks for something, often what it asked for before.
    fn ask(&mut self) {
        let Ok(gateway) = &mut self.gateway else { return };
        let at = self.rng.random_range(0..CLIENTS);
        let client = &mut gateway.clients[at];
        if client.request.is_some() {
            return;
        }
        let again = client.last.take().filter(|_| self.rng.random_bool(0.6));
        let wish = again.unwrap_or_else(|| Wish::any(&mut self.rng));
        client.last = Some(wish.clone());
        let asked = wish.read(gateway.in_force.snapshot().pools());
        let refused = asked.as_ref().err().map(Fault::code);
        if wish.is_beyond() != (refused == Some(Code::TtlOutOfRange)) {
            self.history.broken(|| format!("{}{}: {refused:?}", wish.user, wish.tail));
        }
        let Ok(ask) = asked else {
            return self.history.count("refused by its parameters");
        };
        let session = ask.session.as_ref().expect("a session");
        let key = match self.mistake {
            Some(Mistake::UsersShare) => SessionKey::new("", &ask.pool.name, &ask.filter, &session.id),
            _ => session.key,
        };
        let plain = self.rng.random();
        self.requests += 1;
        self.history.tell(|| format!("{}{} {}: asks, plain: {plain}", wish.user, wish.tail, self.requests));
        let (waiting, mut stage) = gateway.stage(at, &mut self.history, &mut self.rng, self.mistake);
        let mut request = Request::new(self.requests, ask, key, plain, wish.target, &mut stage);
        request.begin(&mut stage);
        *waiting = Some(request).filter(|request| !request.is_done());
    }

    /// What a request waits for comes.
    fn progress(&mut self) {
        let Ok(gateway) = &mut self.gateway else { return };
        let at = self.rng.random_range(0..CLIENTS);
        let Some(mut request) = gateway.clients[at].request.take() else { return };
        let mut outcome = Dialled::Through;
        if let Some(exit) = request.waits_for() {
            let weather = self.weather.get(exit).unwrap_or(&Weather::Fine);
            outcome = weather.dial(&*exit.id == "gate", &mut self.rng);
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
    fn pass(&mut self, ms: Time) {
        match &mut self.gateway {
            Ok(gateway) => gateway.pass(ms, &mut self.history),
            Err(_) => self.history.now += ms,
        }
    }

    fn change_weather(&mut self) {
        let names: Vec<_> = self.files.names().collect();
        let name = names[self.rng.random_range(0..names.len())].clone();
        self.weather.insert(name, Weather::any(&mut self.rng));
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
            gateway.in_force.replace(pools, gateway.store.now()).end(gateway.store.now());
            self.history.count("reload");
        }
    }

    /// A probe sees the address of an exit: that which the last one saw, or
    /// one that nobody has had before.
    fn probe(&mut self) {
        let (history, rng, Ok(gateway)) = (&mut self.history, &mut self.rng, &mut self.gateway) else {
            return;
        };
        let snapshot = gateway.in_force.snapshot();
        let pool = snapshot.pool(draw(rng, &[(4, "us"), (1, "eu")])).expect("the pool");
        let place = rng.random_range(0..pool.pool.exits.len().max(1)) as u32;
        let now = gateway.store.now();
        let Some(pick) = pool.probe(place, now, rng) else { return };
        let name = &pick.exit.name;
        let again = history.truth.seen(name).filter(|_| rng.random_bool(0.4));
        let address =
            again.unwrap_or_else(|| std::net::Ipv4Addr::from_bits(0x0a00_0000 + history.step as u32).into());
        let changed = pick.attempt.learn(&pick.exit, address, now).is_some();
        let at = (history.step, history.now);
        history.truth.probed(name, address, at, changed);
        if changed {
            history.tell(|| format!("{name}: same exit, new address {address}"));
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
        let told_by = if death == Death::Power { now - SYNC_MS - 1 } else { now };
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
        let pools = self.files.read();
        self.history.truth.forget();
        self.history.truth.listed(&pools, self.history.step);
        let gateway = Gateway::start(content, self.wall(), pools, self.history.now, self.mistake);
        let left = gateway.left();
        self.history.tell(|| format!("starts with {} pins, clock shifted by {shift:?}", left.len()));
        self.history.restarted(&left, &died, shift);
        self.gateway = Ok(gateway);
    }

    /// What holds at every instant.
    fn look(&mut self) {
        let Ok(gateway) = &mut self.gateway else { return };
        gateway.tell_ends(&mut self.history);
        if self.history.step.is_multiple_of(16) {
            gateway.check(self.files.names(), &mut self.history);
        }
    }
}
