//! The metrics.
//!
//! Owns: their names, what each means, and their labels, of which there is a
//! bound: `kind`, `code`, `reason` and the like are closed sets, pools are as
//! many as the operator writes, exits are left out above [`MOST_EXITS`].
//! Never a session, a user or a target.
//! Must not know: where the figures come from.

use std::sync::Arc;

use super::access::Kind;
use super::exposition::{Exposition, Metric, Type};
use super::instruments::{ENDS_US, Instruments, MoveReason, ReportReason, Timer};
use super::process::Taken;
use crate::core::code::Code;

/// So many exits have series of their own. Of more, that a scrape would take
/// megabytes for, the pools' sums are told alone; the operator's API has each.
pub(crate) const MOST_EXITS: usize = 1000;

/// What is told beside what is counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    /// Client connections.
    pub(crate) connections: u32,
    /// Live sessions.
    pub(crate) sessions: usize,
    /// Whether the gateway is shutting down.
    pub(crate) draining: bool,
    /// Whether the last reload is in force; before the first, it counts as
    /// if it were.
    pub(crate) reloaded: bool,
    /// Whether the store refuses to write.
    pub(crate) refusing: bool,
    /// Changes that wait to be written.
    pub(crate) unwritten: u64,
    /// Changes that wait to be synced.
    pub(crate) unsynced: u64,
    /// What a shared store has made necessary.
    pub(crate) fleet: Fleet,
    /// The pools in force.
    pub(crate) pools: Vec<Pool>,
    /// What the process takes.
    pub(crate) taken: Taken,
    /// When it started, in seconds since the Unix epoch.
    pub(crate) started_s: f64,
}

/// What happened between this gateway and a store that others share.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fleet {
    /// Sessions decided here alone, for the store was out of reach.
    pub(crate) alone: u64,
    /// Sessions of which the store had another pin, which counted.
    pub(crate) conflicts: u64,
    /// Sessions that the store had lost and got back.
    pub(crate) written_back: u64,
    /// Times that the store went out of reach.
    pub(crate) outages: u64,
}

/// A pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Its exits.
    pub(crate) exits: Vec<Exit>,
    /// What clients reported of them, in the order of [`ReportReason::ALL`].
    pub(crate) reports: [u64; ReportReason::ALL.len()],
    /// How many exits, or addresses of one, are kept from some site.
    pub(crate) cooling: usize,
}

/// An exit, or several together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exit {
    /// Its id.
    pub(crate) id: Arc<str>,
    /// `active`, `drain` or `off`.
    pub(crate) state: &'static str,
    /// Whether it is out of use after failures.
    pub(crate) ejected: bool,
    /// Live pins.
    pub(crate) pins: u64,
    /// Connections.
    pub(crate) connections: u64,
    /// Dials that reached their target.
    pub(crate) worked: u64,
    /// Dials that failed by its fault.
    pub(crate) failed: u64,
    /// Dials that failed by the target's fault.
    pub(crate) target_failed: u64,
    /// How often it was ejected.
    pub(crate) ejections: u64,
    /// Probes that were answered.
    pub(crate) probes_worked: u64,
    /// Probes that failed by its fault.
    pub(crate) probes_failed: u64,
    /// Bytes from clients.
    pub(crate) up: u64,
    /// Bytes to clients.
    pub(crate) down: u64,
}

/// Writes them all.
pub(crate) fn text(instruments: &Instruments, scene: &Scene) -> String {
    let mut out = Exposition::default();
    requests(&mut out, instruments, scene);
    sessions(&mut out, instruments, scene);
    store(&mut out, instruments, scene);
    pools(&mut out, &scene.pools);
    if scene.pools.iter().map(|pool| pool.exits.len()).sum::<usize>() <= MOST_EXITS {
        exits(&mut out, &scene.pools);
    }
    process(&mut out, instruments, scene);
    out.text()
}

fn requests(out: &mut Exposition, instruments: &Instruments, scene: &Scene) {
    let help =
        "Requests that are over, by kind and by the code of Moorgate's own failure (none: it had none).";
    let mut requests = out.metric("moorgate_requests_total", Type::Counter, help);
    for kind in Kind::ALL {
        requests.is(&[("kind", kind.word()), ("code", "none")], instruments.requests(kind, None));
        for code in Code::all() {
            let count = instruments.requests(kind, Some(code));
            requests.is(&[("kind", kind.word()), ("code", code.name())], count);
        }
    }
    let help = "Requests with wrong credentials.";
    let mut wrong = out.metric("moorgate_auth_failures_total", Type::Counter, help);
    for code in [Code::AuthFailed, Code::AuthThrottled] {
        wrong.is(&[("code", code.name())], instruments.failures(code));
    }
    let help = "Bytes of bodies and tunnels, from clients (up) and to them (down).";
    out.metric("moorgate_bytes_total", Type::Counter, help)
        .is(&[("direction", "up")], instruments.flow.up.get())
        .is(&[("direction", "down")], instruments.flow.down.get());
    out.metric("moorgate_connections", Type::Gauge, "Client connections.").is(&[], scene.connections);
    let help = "From a request's head to the connection to its target.";
    timer(out.metric("moorgate_connect_seconds", Type::Histogram, help), &instruments.connect);
    let help = "From a plain request's head to the first byte of its answer.";
    timer(out.metric("moorgate_first_byte_seconds", Type::Histogram, help), &instruments.first_byte);
    let help = "Life of tunnels that are over, from their CONNECT to their end.";
    timer(out.metric("moorgate_tunnel_seconds", Type::Histogram, help), &instruments.tunnels);
}

fn timer(mut metric: Metric<'_>, timer: &Timer) {
    metric.buckets(ENDS_US.iter().map(|end| *end as f64 / 1e6), &timer.counts(), timer.sum());
}

fn sessions(out: &mut Exposition, instruments: &Instruments, scene: &Scene) {
    out.metric("moorgate_sessions", Type::Gauge, "Live sessions.").is(&[], scene.sessions);
    let help = "Proposals of a pin: won, or lost to one that was made a moment before.";
    out.metric("moorgate_claims_total", Type::Counter, help)
        .is(&[("result", "won")], instruments.claims_won.get())
        .is(&[("result", "lost")], instruments.claims_lost.get());
    let mut moves = out.metric("moorgate_moves_total", Type::Counter, "Sessions that were moved, by reason.");
    for reason in MoveReason::ALL {
        moves.is(&[("reason", reason.word())], instruments.moves(reason));
    }
    let help = "Sessions whose time was over or that were ended.";
    out.metric("moorgate_sessions_ended_total", Type::Counter, help).is(&[], instruments.ended.get());
    let help = "Exits taken out of use after failures.";
    out.metric("moorgate_ejections_total", Type::Counter, help).is(&[], instruments.ejections.get());
    let help = "Exits that were found to have another address than before.";
    out.metric("moorgate_address_changes_total", Type::Counter, help)
        .is(&[], instruments.address_changes.get());
}

fn store(out: &mut Exposition, instruments: &Instruments, scene: &Scene) {
    let help = "Requests that failed because a pin could not be kept.";
    out.metric("moorgate_store_refusals_total", Type::Counter, help)
        .is(&[], instruments.failures(Code::StoreUnavailable));
    let help = "Whether the store refuses to write at the moment.";
    out.metric("moorgate_store_refusing", Type::Gauge, help).is(&[], u8::from(scene.refusing));
    let help = "Sessions decided by this gateway alone while the shared store was out of reach.";
    out.metric("moorgate_store_local_total", Type::Counter, help).is(&[], scene.fleet.alone);
    let help = "Sessions that gave way to another pin that the shared store had.";
    out.metric("moorgate_store_conflicts_total", Type::Counter, help).is(&[], scene.fleet.conflicts);
    let help = "Sessions that the shared store had lost, and got back from this gateway.";
    out.metric("moorgate_store_written_back_total", Type::Counter, help).is(&[], scene.fleet.written_back);
    let help = "Times that the shared store went out of reach.";
    out.metric("moorgate_store_outages_total", Type::Counter, help).is(&[], scene.fleet.outages);
    let help = "Changes of pins that wait to be written: the journal's lag.";
    out.metric("moorgate_journal_unwritten_records", Type::Gauge, help).is(&[], scene.unwritten);
    let help = "Changes of pins that are written and wait for the disk to have them.";
    out.metric("moorgate_journal_unsynced_records", Type::Gauge, help).is(&[], scene.unsynced);
    let help = "Damage that was found in the state folder (state_damaged).";
    out.metric("moorgate_state_damaged_total", Type::Counter, help).is(&[], instruments.damage.get());
    out.metric("moorgate_reloads_total", Type::Counter, "Reloads of configuration and pools, by result.")
        .is(&[("result", "ok")], instruments.reloads.get())
        .is(&[("result", "failed")], instruments.reloads_failed.get());
    let help = "Whether what the files say is in force: 0 after a reload that failed.";
    out.metric("moorgate_last_reload_successful", Type::Gauge, help).is(&[], u8::from(scene.reloaded));
}

/// A figure of exits: its metric, and where it stands.
type Figure = (&'static str, Type, &'static str, &'static [Part]);

/// A part of a figure: the value of its last label, and how it is read.
type Part = (&'static str, fn(&Exit) -> u64);

const PINS: &str = "Live pins, those about to be made among them.";
const CONNECTIONS: &str = "Connections through exits.";
const DIALS: &str =
    "Dials for clients, by result: worked, exit_failed by the exit's fault, target_failed by the target's.";
const PROBES: &str = "Probes of exits, by result: worked, exit_failed by the exit's fault.";
const BYTES: &str = "Bytes that went through exits.";

fn pools(out: &mut Exposition, pools: &[Pool]) {
    let help = "Exits, by state; ejected ones are active ones that are out of use after failures.";
    let mut exits = out.metric("moorgate_pool_exits", Type::Gauge, help);
    for pool in pools {
        for state in ["active", "drain", "off"] {
            let count = pool.exits.iter().filter(|exit| exit.state == state).count();
            exits.is(&[("pool", &pool.name), ("state", state)], count);
        }
        let ejected = pool.exits.iter().filter(|exit| exit.ejected && exit.state == "active").count();
        exits.is(&[("pool", &pool.name), ("state", "ejected")], ejected);
    }
    let help = "Reports by clients that an exit is no good for a target, by kind.";
    let mut reports = out.metric("moorgate_reports_total", Type::Counter, help);
    for pool in pools {
        for (reason, count) in ReportReason::ALL.iter().zip(pool.reports) {
            reports.is(&[("pool", &pool.name), ("reason", reason.word())], count);
        }
    }
    let help = "Exits, or addresses of one, that are kept from a site after a report.";
    let mut cooling = out.metric("moorgate_pool_cooling", Type::Gauge, help);
    for pool in pools {
        cooling.is(&[("pool", &pool.name)], pool.cooling);
    }
    let figures: [Figure; 5] = [
        ("moorgate_pool_pins", Type::Gauge, PINS, &[("", |exit| exit.pins)]),
        ("moorgate_pool_connections", Type::Gauge, CONNECTIONS, &[("", |exit| exit.connections)]),
        ("moorgate_pool_dials_total", Type::Counter, DIALS, RESULTS),
        ("moorgate_pool_probes_total", Type::Counter, PROBES, PROBED),
        ("moorgate_pool_bytes_total", Type::Counter, BYTES, DIRECTIONS),
    ];
    for (name, r#type, help, parts) in figures {
        let mut metric = out.metric(name, r#type, help);
        for pool in pools {
            for (part, figure) in parts {
                let sum: u64 = pool.exits.iter().map(figure).sum();
                metric.is(&labels(name, &pool.name, None, part), sum);
            }
        }
    }
}

const RESULTS: &[Part] = &[
    ("worked", |exit| exit.worked),
    ("exit_failed", |exit| exit.failed),
    ("target_failed", |exit| exit.target_failed),
];
const PROBED: &[Part] = &[("worked", |exit| exit.probes_worked), ("exit_failed", |exit| exit.probes_failed)];
const DIRECTIONS: &[Part] = &[("up", |exit| exit.up), ("down", |exit| exit.down)];

fn labels<'a>(name: &str, pool: &'a str, exit: Option<&'a str>, part: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut labels = vec![("pool", pool)];
    labels.extend(exit.map(|exit| ("exit", exit)));
    if !part.is_empty() {
        labels.push((if name.ends_with("_bytes_total") { "direction" } else { "result" }, part));
    }
    labels
}

fn exits(out: &mut Exposition, pools: &[Pool]) {
    let ejected = "Whether the exit is out of use after failures.";
    let ejections = "How often the exit was taken out of use after failures.";
    let figures: [Figure; 7] = [
        ("moorgate_exit_pins", Type::Gauge, PINS, &[("", |exit| exit.pins)]),
        ("moorgate_exit_connections", Type::Gauge, CONNECTIONS, &[("", |exit| exit.connections)]),
        ("moorgate_exit_dials_total", Type::Counter, DIALS, RESULTS),
        ("moorgate_exit_probes_total", Type::Counter, PROBES, PROBED),
        ("moorgate_exit_bytes_total", Type::Counter, BYTES, DIRECTIONS),
        ("moorgate_exit_ejected", Type::Gauge, ejected, &[("", |exit| u64::from(exit.ejected))]),
        ("moorgate_exit_ejections_total", Type::Counter, ejections, &[("", |exit| exit.ejections)]),
    ];
    for (name, r#type, help, parts) in figures {
        let mut metric = out.metric(name, r#type, help);
        for pool in pools {
            for exit in &pool.exits {
                for (part, figure) in parts {
                    metric.is(&labels(name, &pool.name, Some(&exit.id), part), figure(exit));
                }
            }
        }
    }
}

fn process(out: &mut Exposition, instruments: &Instruments, scene: &Scene) {
    let help = "Always 1; its label says which version runs.";
    out.metric("moorgate_build_info", Type::Gauge, help).is(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    out.metric("moorgate_draining", Type::Gauge, "Whether the gateway takes nothing new.")
        .is(&[], u8::from(scene.draining));
    out.metric("moorgate_event_listeners", Type::Gauge, "Streams of events that are open.")
        .is(&[], instruments.events.listeners());
    let taken = &scene.taken;
    out.metric("process_cpu_seconds_total", Type::Counter, "Processor time of user and system.")
        .is(&[], taken.cpu_s);
    out.metric("process_resident_memory_bytes", Type::Gauge, "Memory in use.").is(&[], taken.resident);
    out.metric("process_virtual_memory_bytes", Type::Gauge, "Address space.").is(&[], taken.virtually);
    out.metric("process_open_fds", Type::Gauge, "Open descriptors.").is(&[], taken.descriptors);
    out.metric("process_max_fds", Type::Gauge, "The most descriptors.").is(&[], taken.most_descriptors);
    let help = "When the process started, since the Unix epoch.";
    out.metric("process_start_time_seconds", Type::Gauge, help).is(&[], scene.started_s);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(exits: usize) -> Scene {
        let exit = |n: usize| Exit {
            id: n.to_string().as_str().into(),
            state: "active",
            pins: 2,
            ..Exit::default()
        };
        let pool = Pool { name: "p".into(), exits: (0..exits).map(exit).collect(), ..Pool::default() };
        Scene { pools: vec![pool], ..Scene::default() }
    }

    #[test]
    fn above_the_bound_pools_are_told_alone() {
        let text = |exits| text(&Instruments::default(), &scene(exits));
        let few = text(MOST_EXITS);
        assert!(few.contains("moorgate_exit_pins{pool=\"p\",exit=\"999\"} 2\n"));
        let many = text(MOST_EXITS + 1);
        assert!(many.contains("moorgate_pool_pins{pool=\"p\"} 2002\n") && !many.contains("exit=\""));
    }

    #[test]
    fn each_metric_is_described_once() {
        let text = text(&Instruments::default(), &scene(3));
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len());
    }
}
