//! What clients ask for, and how exits do by the weather.

use moorgate::core::ask::{Account, Ask, AtHand, GatewayBounds, ask, judge};
use moorgate::core::fault::{Blame, Fault};
use moorgate::core::pool::{Affinity, Pools, SessionBounds};
use moorgate::core::time::Ttl;
use moorgate::core::username::{Parameters, parse};
use rand::RngExt;
use rand::rngs::StdRng;

use super::disk::draw;
use super::truth::Dialled;

/// What a client asks for.
#[derive(Clone)]
pub struct Wish {
    pub user: &'static str,
    /// What follows the user's name.
    pub tail: String,
    pub target: &'static str,
}

impl Wish {
    /// Anything, often the same session.
    pub fn any(rng: &mut StdRng) -> Self {
        let mut tail = format!("-session-s{}", draw(rng, &[(5, 1), (2, 2), (1, 3)]));
        tail += draw(rng, &[(6, ""), (1, "-pool-eu")]);
        tail += draw(rng, &[(5, ""), (2, "-country-us"), (1, "-country-de")]);
        tail += draw(rng, &[(8, "-ttl-20s"), (6, "-ttl-5s"), (3, "-ttl-2s"), (2, "-ttl-1s"), (4, "")]);
        tail += draw(rng, &[(4, ""), (1, "-idle-1s"), (3, "-idle-3s")]);
        tail += draw(rng, &[(5, ""), (2, "-failover-on"), (3, "-failover-off"), (3, "-failover-address")]);
        tail += draw(rng, &[(40, ""), (1, "-exit-a1"), (1, "-exit-b")]);
        if rng.random_ratio(1, 60) {
            tail = draw(rng, &BEYOND).to_owned();
        }
        let target = draw(rng, &[(1, "one.example:80"), (1, "two.example:80"), (1, "three.example:80")]);
        Self { user: draw(rng, &[(3, "acme"), (1, "beta")]), tail, target }
    }

    /// As the gateway reads it.
    pub fn read(&self, pools: &Pools) -> Result<Ask, Fault> {
        let (account, bounds) = (account(self.user), bounds());
        let parameters = parse(&self.tail).map_err(|error| error.fault)?;
        judge(&parameters, &account, &bounds)?;
        let at_hand = AtHand { client: [192, 0, 2, 77].into(), target: None };
        ask(parameters, &Parameters::default(), &account, pools, &bounds, at_hand)
    }

    /// Whether its ttl is outside the bounds.
    pub fn is_beyond(&self) -> bool {
        BEYOND.iter().any(|(_, beyond)| self.tail == *beyond)
    }
}

/// Wishes for a ttl outside the bounds.
const BEYOND: [(u32, &str); 3] =
    [(1, "-session-s1-ttl-0s"), (1, "-session-s1-ttl-61s"), (1, "-session-s1-ttl-200h")];

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
    GatewayBounds { default_ttl: ttl(10), min_ttl: Ttl::MIN, max_ttl: ttl(60), idle: None }
}

/// How an exit does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fine,
    Flaky,
    Down,
}

impl Weather {
    pub fn any(rng: &mut StdRng) -> Self {
        draw(rng, &[(5, Self::Fine), (1, Self::Flaky), (3, Self::Down)])
    }

    /// How a dial ends. `gate`: it is through a vendor's gateway, which may
    /// refuse a single session.
    pub fn dial(self, gate: bool, rng: &mut StdRng) -> Dialled {
        let exits = if gate && rng.random_bool(0.7) { Blame::Token } else { Blame::Exit };
        let bad = match self {
            Self::Fine => 0,
            Self::Flaky => 40,
            Self::Down => 100,
        };
        match rng.random_range(0..100) {
            n if n < bad => Dialled::Failed(exits),
            90..95 => Dialled::Failed(Blame::Target),
            95..98 => Dialled::Failed(Blame::Silence),
            _ => Dialled::Through,
        }
    }
}
