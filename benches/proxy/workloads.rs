//! What the proxies are given to do, and what Moorgate's part may be.

use crate::load::{Meter, Name, Through, bulk, plain, short};
use crate::origin::{Order, Service};
use crate::peers::{Kind, USER};

/// A kind of load that every proxy gets.
pub(crate) struct Workload {
    /// Which it is, `W1` to `W4`.
    pub(crate) group: &'static str,
    /// What it is, in the table; unique.
    pub(crate) what: &'static str,
    pub(crate) load: Load,
    /// What Moorgate may cost, to the limit.
    pub(crate) goal: f64,
}

#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// So many short tunnels.
    Tunnels(u64),
    /// So many tunnels that carry so many bytes each.
    Bulk(u64, Order, u64),
    /// So many round trips on 64 tunnels.
    Echo(u64),
    /// So many requests.
    Plain(plain::Request, u64),
}

/// What is measured of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Micros,
    SecondsPerGb,
}

/// Tunnels of bulk and echo where they are many.
const MANY: u64 = 64;
const MB: u64 = 1_000_000;

pub(crate) const WORKLOADS: [Workload; 10] = [
    Workload { group: "W1", what: "tunnel", load: Load::Tunnels(1_000), goal: 1.10 },
    Workload { group: "W2", what: "64 down", load: Load::Bulk(MANY, Order::Down, 4 * MB), goal: 1.05 },
    Workload { group: "W2", what: "64 up", load: Load::Bulk(MANY, Order::Up, 4 * MB), goal: 1.05 },
    Workload { group: "W2", what: "64 both", load: Load::Bulk(MANY, Order::Both, 4 * MB), goal: 1.05 },
    Workload { group: "W2", what: "1 down", load: Load::Bulk(1, Order::Down, 256 * MB), goal: 1.05 },
    Workload { group: "W2", what: "1 up", load: Load::Bulk(1, Order::Up, 256 * MB), goal: 1.05 },
    Workload { group: "W3", what: "echo", load: Load::Echo(20_000), goal: 1.03 },
    Workload {
        group: "W4",
        what: "GET 1 kB",
        load: Load::Plain(plain::Request::Get(1_000), 5_000),
        goal: 1.25,
    },
    Workload {
        group: "W4",
        what: "GET 64 kB",
        load: Load::Plain(plain::Request::Get(64_000), 2_500),
        goal: 1.15,
    },
    Workload {
        group: "W4",
        what: "POST 64 kB",
        load: Load::Plain(plain::Request::Post(64_000), 2_500),
        goal: 1.15,
    },
];

impl Workload {
    pub(crate) fn unit(&self) -> Unit {
        if matches!(self.load, Load::Bulk(..)) { Unit::SecondsPerGb } else { Unit::Micros }
    }
}

impl Load {
    pub(crate) fn service(self) -> Service {
        match self {
            Self::Tunnels(_) => Service::Short,
            Self::Bulk(..) => Service::Bulk,
            Self::Echo(_) => Service::Echo,
            Self::Plain(..) => Service::Http,
        }
    }

    /// How many units it is of; of bulk, bytes.
    pub(crate) fn units(self) -> u64 {
        match self {
            Self::Tunnels(units) | Self::Echo(units) | Self::Plain(_, units) => units,
            Self::Bulk(tunnels, _, bytes) => tunnels * bytes,
        }
    }

    /// The same, with those that warm up.
    pub(crate) fn units_in_all(self) -> u64 {
        self.units() + if matches!(self, Self::Echo(_)) { MANY * bulk::WARM_TRIPS } else { 0 }
    }

    /// tinyproxy writes a head in pieces, so that each of its clients waits
    /// for delayed acknowledgements: it gets less to do.
    pub(crate) fn for_kind(self, kind: Kind) -> Self {
        match self {
            Self::Plain(request, units) if kind == Kind::Tinyproxy => Self::Plain(request, units / 8),
            other => other,
        }
    }

    /// Runs it; the CPU of one unit, in microseconds, or in seconds a GB.
    pub(crate) async fn run(self, through: Through, pid: u32) -> f64 {
        let mut meter = Meter::new(pid);
        match self {
            Self::Tunnels(all) => short::run(through, all, &mut meter).await,
            Self::Bulk(tunnels, order, bytes) => bulk::run(through, tunnels, order, bytes, &mut meter).await,
            Self::Echo(trips) => bulk::echo(through, MANY, trips, &mut meter).await,
            Self::Plain(request, all) => plain::run(through, request, all, &mut meter).await,
        }
        let scale = if matches!(self, Self::Bulk(..)) { 1e9 } else { 1e6 };
        meter.seconds() * scale / self.units() as f64
    }
}

/// One of a few live sessions.
pub(crate) fn live(n: u64) -> String {
    format!("{USER}-session-cart{}-ttl-1h", n % 8)
}

/// One session.
fn single(_: u64) -> String {
    format!("{USER}-session-cart42-ttl-1h")
}

pub(crate) fn none(_: u64) -> String {
    USER.to_owned()
}

/// Other proxies know users, but no sessions.
pub(crate) fn name_for(kind: Kind, load: Load) -> Name {
    match load {
        _ if !kind.is_moorgate() => none,
        Load::Plain(..) => single,
        _ => live,
    }
}
