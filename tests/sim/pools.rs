//! The pools that the simulated gateway has, and how operators change them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use moorgate::core::exit::{Credential, Exit, Labels, Mode, Scheme, Trust, Upstream, Via};
use moorgate::core::pin::ExitName;
use moorgate::core::pool::{AddressChange, DialTimeouts, Failover, HealthPolicy, Placement, Pool, Pools};
use moorgate::core::target::Host;
use moorgate::core::template::Template;
use moorgate::core::time::Ttl;
use rand::RngExt;
use rand::rngs::StdRng;

use super::disk::draw;

/// Dials that a request may cost, and failures that eject an exit.
pub const ATTEMPTS: u32 = 3;
pub const EJECT_AFTER: u32 = 3;
pub const EJECT_FOR: Duration = Duration::from_secs(4);
/// The addresses of the prefix exit: more than there are sessions.
pub const PREFIX: &str = "2001:db8:7::/120";

/// An exit as the operator's file has it.
#[derive(Clone)]
struct Line {
    exit: Exit,
    listed: bool,
}

/// The operator's files.
#[derive(Clone)]
pub struct Files {
    us: Vec<Line>,
    eu: Vec<Line>,
    placement: Placement,
    failover: Failover,
    /// What happens to sessions on an exit that gets another address.
    pub address_change: AddressChange,
}

impl Files {
    /// `us` has siblings, exits without a known address, one that is full
    /// soon, one that holds no address for long, a prefix and a template;
    /// `eu` has few exits, and so has `us` where `few` says so.
    pub fn new(few: bool, rng: &mut StdRng) -> Self {
        let mut us = vec![
            exit("us", "a1", fixed("192.0.2.1"), "us"),
            exit("us", "a2", fixed("192.0.2.1"), "de"),
            exit("us", "a3", fixed("192.0.2.1"), "us"),
            exit("us", "b", fixed("192.0.2.2"), "us"),
            exit("us", "c", Via::Direct, "de"),
            exit("us", "full", Via::Direct, "us"),
            exit("us", "short", fixed("192.0.2.3"), "us"),
            exit("us", "net", Via::Prefix(PREFIX.parse().unwrap()), "de"),
            exit("us", "gate", template(), "us"),
        ];
        us[5].max_sessions = 2;
        us[6].max_ttl = Ttl::from_secs(10);
        us[8].weight = 3;
        if few {
            us.truncate(2);
        }
        let eu = vec![exit("eu", "x", fixed("192.0.2.9"), "de"), exit("eu", "y", Via::Direct, "us")];
        let lines = |exits: Vec<Exit>| exits.into_iter().map(|exit| Line { exit, listed: true }).collect();
        Self {
            us: lines(us),
            eu: lines(eu),
            placement: draw(
                rng,
                &[(1, Placement::LeastSessions), (1, Placement::Random), (1, Placement::Rendezvous)],
            ),
            failover: Failover::On,
            address_change: draw(
                rng,
                &[(1, AddressChange::Ignore), (2, AddressChange::Move), (1, AddressChange::Fail)],
            ),
        }
    }

    /// Somebody changes something.
    pub fn change(&mut self, rng: &mut StdRng) {
        let lines = if rng.random_bool(0.8) { &mut self.us } else { &mut self.eu };
        // The last one is the vendor's gateway, which has most to lose.
        let at = rng.random_range(0..lines.len() + 2).min(lines.len() - 1);
        let line = &mut lines[at];
        match rng.random_range(0..10) {
            0..3 => line.listed = !line.listed,
            3..6 => {
                line.exit.mode = draw(rng, &[(3, Mode::Active), (1, Mode::Drain), (1, Mode::Off)]);
            }
            6..8 => line.exit.digest = rng.random(),
            8 => line.exit.weight = rng.random_range(1..5),
            _ => self.failover = draw(rng, &[(2, Failover::On), (1, Failover::Off), (1, Failover::Address)]),
        }
    }

    /// Everything is as it was in the beginning.
    pub fn mend(&mut self) {
        for line in self.us.iter_mut().chain(&mut self.eu) {
            line.listed = true;
            line.exit.mode = Mode::Active;
        }
    }

    /// Every exit that is or was listed.
    pub fn names(&self) -> impl Iterator<Item = &ExitName> {
        self.us.iter().chain(&self.eu).map(|line| &line.exit.name)
    }

    /// As the gateway reads them.
    pub fn read(&self) -> Pools {
        Pools::new(vec![self.pool("us", &self.us), self.pool("eu", &self.eu)])
    }

    fn pool(&self, name: &str, lines: &[Line]) -> Arc<Pool> {
        let exits = lines.iter().filter(|line| line.listed).map(|line| Arc::new(line.exit.clone()));
        let never = Duration::ZERO;
        let timeouts = DialTimeouts { dns: never, connect: never, handshake: never, response: never };
        let mut pool = Pool::new(name, exits.collect(), Arc::default(), timeouts);
        pool.placement = self.placement;
        pool.failover = self.failover;
        pool.address_change = self.address_change;
        pool.attempts = ATTEMPTS;
        pool.slow_start = Duration::from_secs(2);
        pool.health = HealthPolicy { eject_after: EJECT_AFTER, eject_for: EJECT_FOR };
        Arc::new(pool)
    }
}

fn exit(pool: &str, id: &str, via: Via, country: &str) -> Exit {
    Exit {
        name: ExitName { pool: pool.into(), id: id.into() },
        address: match via {
            Via::Address(address) => Some(address),
            _ => None,
        },
        via,
        weight: 1,
        labels: Labels::new([("country", country)]),
        max_sessions: 0,
        max_connections: 0,
        max_ttl: None,
        mode: Mode::Active,
        fault_status: Arc::default(),
        digest: 1,
    }
}

fn fixed(address: &str) -> Via {
    Via::Address(address.parse::<IpAddr>().unwrap())
}

fn template() -> Via {
    let parse = |text| Template::parse(text).unwrap();
    Via::Upstream(Arc::new(Upstream {
        scheme: Scheme::Http,
        host: Host::parse("gate.example").unwrap(),
        port: 7777,
        credential: Some(Credential { user: parse("me-sessid-{session}"), password: parse("secret") }),
        trust: Trust::System,
    }))
}
