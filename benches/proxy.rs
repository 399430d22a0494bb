//! What Moorgate costs beside the kernel's own charge, and beside other proxies.
//!
//!     cargo bench --bench proxy                       # at most five minutes
//!     cargo bench --bench proxy -- --write            # and into docs/performance.md and .svg
//!     cargo bench --bench proxy -- --rounds 20 --only moorgate --workloads W1,W3
//!     cargo bench --bench proxy -- --calls            # system calls, by strace
//!
//! The release binary runs with live sessions beside the *limit* (see
//! [`limit`]), the least proxy that one writes with tokio, and every other
//! that is installed: nginx and HAProxy as relays to a fixed backend, Squid,
//! tinyproxy. All is on loopback; clients run in this process, an origin for
//! each proxy in one of its own, and so do the limit and the bare proxy, which
//! are this program in another role. What is measured is the CPU time, user
//! and system, of the proxy's process and its descendants. Rounds are
//! interleaved, so that what else the machine does falls on all alike; figures
//! are medians, and ratios are medians of each round's ratio. Nothing is
//! asserted on time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use crate::options::{Options, Role};
use crate::peers::{Kind, Setup};
use crate::report::Report;

#[path = "proxy/bare.rs"]
mod bare;
#[path = "proxy/calls.rs"]
mod calls;
#[path = "proxy/cost.rs"]
mod cost;
#[path = "proxy/document.rs"]
mod document;
#[path = "proxy/figures.rs"]
mod figures;
#[path = "proxy/kernel.rs"]
mod kernel;
#[path = "proxy/latency.rs"]
mod latency;
#[path = "proxy/limit.rs"]
mod limit;
#[path = "proxy/load.rs"]
mod load;
#[path = "proxy/memory.rs"]
mod memory;
#[path = "proxy/options.rs"]
mod options;
#[path = "proxy/origin.rs"]
mod origin;
#[path = "proxy/peers.rs"]
mod peers;
#[path = "proxy/plot.rs"]
mod plot;
#[path = "proxy/provenance.rs"]
mod provenance;
#[path = "proxy/report.rs"]
mod report;
#[path = "proxy/rounds.rs"]
mod rounds;
#[path = "proxy/samples.rs"]
mod samples;
#[path = "proxy/table.rs"]
mod table;
#[path = "proxy/variants.rs"]
mod variants;
#[path = "proxy/workloads.rs"]
mod workloads;

fn main() {
    let Some(role) = options::role() else { return };
    cost::raise_descriptor_limit();
    // One thread: there are few cores, and the proxy needs some too.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match role {
        Role::Limit { address, upstream } => limit::run(address, upstream),
        Role::Bare { address } => {
            drop(runtime);
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(bare::serve(address));
        }
        Role::Origin => runtime.block_on(origin::serve()),
        Role::Measure(options) => runtime.block_on(measure(&options)),
    }
}

async fn measure(options: &Options) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    if options.calls {
        return calls::show(options, folder.path()).await;
    }
    let rivals = options.rivals();
    let moorgate = rivals.contains(&Kind::Moorgate(Setup::Usual));
    let costs = rounds::costs(options, &rivals, folder.path()).await;
    let mut report = Report { costs, ..Report::default() };
    if moorgate && (options.wants("W1") || options.wants("W6")) {
        report.variants = Some(variants::measure(options, folder.path()).await);
    }
    if options.wants("W5") {
        report.memory = memory::measure(&rivals, folder.path()).await;
    }
    if options.wants("W7") {
        report.latency = Some(latency::measure(options, &rivals, folder.path()).await);
    }
    if moorgate && options.wants_by_name("reload") {
        report.reload = Some(latency::reload(options, folder.path()).await);
    }
    let sections = report.sections();
    for (_, text) in &sections {
        println!("\n{text}");
    }
    if options.write {
        document::write("performance.md", &sections, &provenance::line(options.rounds));
        plot::write(&report);
        figures::write(&report);
    }
}
