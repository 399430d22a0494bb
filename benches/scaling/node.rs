//! One node: what a core does, and what runs out first.

use crate::costs::{Costs, about};
use crate::table::table;

const GIB: f64 = (1u64 << 30) as f64;
/// Ports of Linux's `ip_local_port_range` as it comes, and at its widest.
const PORTS: [(&str, f64); 2] = [("32768–60999, the default", 28_232.0), ("1024–65535", 64_512.0)];
/// How long a port rests after the side that had it closed first, in seconds.
const TIME_WAIT: f64 = 60.0;

/// What one core does in a second.
pub(crate) fn of_a_core(costs: &Costs) -> String {
    let head = ["a core, at most", "", "formula"].map(str::to_owned);
    let gbit = |name| 8.0 / costs.of(name);
    let rows = [
        ("tunnels a second, live sessions", about(costs.rate("tunnel_us")), "1 s / W1"),
        (
            "tunnels a second, each a new session",
            about(costs.rate("new_session_tunnel_us")),
            "1 s / W1 with a new pin",
        ),
        ("plain GETs of 1 kB a second", about(costs.rate("get_1kb_us")), "1 s / W4"),
        ("plain GETs of 64 kB a second", about(costs.rate("get_64kb_us")), "1 s / W4"),
        ("round trips of 100 bytes a second", about(costs.rate("round_trip_us")), "1 s / W3"),
        ("Gbit/s through tunnels, down", about(gbit("bulk_down_s_per_gb")), "8 / W2"),
        ("Gbit/s through tunnels, up", about(gbit("bulk_up_s_per_gb")), "8 / W2"),
        ("live sessions in a GiB", about(GIB / costs.of("pin_bytes")), "1 GiB / bytes of a pin"),
        (
            "idle tunnels in a GiB",
            about(GIB / costs.tunnel_bytes()),
            "1 GiB / (resident + kernel's part + 2.4 kB)",
        ),
    ];
    table(
        &head,
        rows.into_iter().map(|(what, figure, formula)| vec![what.to_owned(), figure, formula.to_owned()]),
    )
}

/// What source ports allow.
pub(crate) fn of_ports() -> String {
    let head = [
        "`ip_local_port_range`",
        "open at a time",
        "new a second, closed by the gateway first",
        "with 64 exit addresses",
    ];
    let rows = PORTS.map(|(range, ports)| {
        vec![
            range.to_owned(),
            about(ports),
            about(ports / TIME_WAIT),
            format!("{} and {}", about(ports * 64.0), about(ports * 64.0 / TIME_WAIT)),
        ]
    });
    table(&head.map(str::to_owned), rows.into_iter())
}

/// What clients do, and what the node has for them.
struct Scene {
    what: &'static str,
    /// How long a tunnel is open, in seconds.
    lasts: f64,
    /// What it moves meanwhile, in bytes.
    bytes: f64,
    /// Exit addresses, and targets that are asked for at a time.
    addresses: f64,
    targets: f64,
    descriptors: f64,
    memory_gib: f64,
    cores: f64,
}

const SCENES: [Scene; 5] = [
    Scene {
        what: "one address, one target, 2 s each",
        lasts: 2.0,
        bytes: 50e3,
        addresses: 1.0,
        targets: 1.0,
        descriptors: 1_048_576.0,
        memory_gib: 4.0,
        cores: 4.0,
    },
    Scene {
        what: "64 addresses, one target, 2 s each",
        lasts: 2.0,
        bytes: 50e3,
        addresses: 64.0,
        targets: 1.0,
        descriptors: 1_048_576.0,
        memory_gib: 4.0,
        cores: 4.0,
    },
    Scene {
        what: "64 addresses, 1,000 targets, 10 s and 1 MB each",
        lasts: 10.0,
        bytes: 1e6,
        addresses: 64.0,
        targets: 1e3,
        descriptors: 1_048_576.0,
        memory_gib: 4.0,
        cores: 4.0,
    },
    Scene {
        what: "… the same with `ulimit -n` of 20,000",
        lasts: 10.0,
        bytes: 1e6,
        addresses: 64.0,
        targets: 1e3,
        descriptors: 20_000.0,
        memory_gib: 4.0,
        cores: 4.0,
    },
    Scene {
        what: "64 addresses, 1,000 targets, open for an hour, 1 MB each",
        lasts: 3_600.0,
        bytes: 1e6,
        addresses: 64.0,
        targets: 1e3,
        descriptors: 1_048_576.0,
        memory_gib: 4.0,
        cores: 4.0,
    },
];

/// Half of the CPU is left for bursts; a few descriptors are not for tunnels.
const CPU_SHARE: f64 = 0.5;
const OTHER_DESCRIPTORS: f64 = 200.0;

/// Tunnels open at a time, by each bound; the least of them holds.
pub(crate) fn bounds(costs: &Costs) -> String {
    let head = [
        "clients, on 4 cores and 4 GiB",
        "CPU at half",
        "ports",
        "descriptors",
        "memory",
        "so, tunnels open",
        "new a second",
        "what binds",
    ];
    let rows = SCENES.iter().map(|scene| {
        let bulk = (costs.of("bulk_down_s_per_gb") / 1e9) * scene.bytes;
        let seconds = costs.of("tunnel_us") / 1e6 + bulk;
        // Little's law: open at a time = new a second × how long each lasts.
        let all = [
            ("CPU", CPU_SHARE * scene.cores / seconds * scene.lasts),
            ("ports", ports_allow(scene)),
            ("descriptors", (scene.descriptors - OTHER_DESCRIPTORS) / 2.0),
            ("memory", scene.memory_gib * GIB / costs.tunnel_bytes()),
        ];
        let (binds, least) = all.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are four");
        let mut row = vec![scene.what.to_owned()];
        row.extend(all.iter().map(|(_, open)| about(*open)));
        row.extend([about(least), about(least / scene.lasts), binds.to_owned()]);
        row
    });
    table(&head.map(str::to_owned), rows)
}

/// A port is taken while its tunnel is open, and rests after that.
fn ports_allow(scene: &Scene) -> f64 {
    let pairs = scene.addresses * scene.targets;
    PORTS[0].1 * pairs * scene.lasts / (scene.lasts + TIME_WAIT)
}
