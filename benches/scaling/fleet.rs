//! A fleet on one store: how often its nodes have to ask.
//!
//! Sessions are simulated one by one: each has so many tunnels, at moments
//! drawn evenly over its life, and each tunnel goes to the node that the
//! balancer picks. A node asks the store once to claim a session that it does
//! not know, whether or not another has it; what it knows costs nothing until
//! it is told of a change. A session with `idle` is touched at most once a
//! second by each node that uses it. A session that moves costs one step, and
//! one message to each node.

use std::collections::HashSet;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::costs::{Costs, about};
use crate::table::table;

/// Sessions that are simulated for each row: enough for three digits.
const SESSIONS: u64 = 20_000;
/// Tunnels of a session on average, and its life in seconds.
const TUNNELS: u64 = 20;
const LIFE: f64 = 600.0;
/// Sessions that lose their exit during their life, of a thousand.
const MOVED: u64 = 10;
/// CPU of a node that is in use: half of four cores.
const CORES: f64 = 2.0;
const NODES: [u64; 3] = [1, 10, 100];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Balancer {
    /// The client's address, or a hash of its session, decides.
    Sticky,
    /// Any node.
    Any,
}

#[derive(Default)]
struct Steps {
    claims: u64,
    touches: u64,
    moves: u64,
    messages: u64,
}

/// Steps at the store for each second, at a node's full measure on each.
pub(crate) fn operations(costs: &Costs) -> String {
    let head = [
        "nodes",
        "balancer",
        "tunnels a second",
        "live sessions",
        "store steps a second",
        "… with `idle`",
        "messages a second to each node",
    ];
    let mut rows = Vec::new();
    for nodes in NODES {
        for balancer in [Balancer::Sticky, Balancer::Any] {
            if nodes == 1 && balancer == Balancer::Any {
                continue;
            }
            let steps = simulate(nodes, balancer);
            let tunnels = nodes as f64 * CORES * costs.rate("tunnel_us");
            let sessions = tunnels / TUNNELS as f64;
            let each = |count: u64| count as f64 / SESSIONS as f64 * sessions;
            let fixed = each(steps.claims + steps.moves);
            rows.push(vec![
                nodes.to_string(),
                if balancer == Balancer::Sticky { "by client" } else { "any node" }.to_owned(),
                about(tunnels),
                about(sessions * LIFE),
                about(fixed),
                about(fixed + each(steps.touches)),
                about(each(steps.messages) / nodes as f64),
            ]);
        }
    }
    table(&head.map(str::to_owned), rows.into_iter())
}

fn simulate(nodes: u64, balancer: Balancer) -> Steps {
    let mut random = SmallRng::seed_from_u64(nodes);
    let mut steps = Steps::default();
    for _ in 0..SESSIONS {
        let home = random.random_range(0..nodes);
        let (mut knowing, mut touched) = (HashSet::new(), HashSet::new());
        for _ in 0..random.random_range(1..2 * TUNNELS) {
            let node = if balancer == Balancer::Sticky { home } else { random.random_range(0..nodes) };
            let second = random.random_range(0..LIFE as u64);
            steps.claims += u64::from(knowing.insert(node));
            steps.touches += u64::from(touched.insert((node, second)));
        }
        if random.random_range(0..1_000) < MOVED {
            steps.moves += 1;
            steps.messages += nodes;
        }
    }
    steps
}
