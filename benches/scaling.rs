//! What a node and a fleet carry, from what `benches/proxy.rs` has measured.
//!
//!     cargo bench --bench scaling               # prints the tables
//!     cargo bench --bench scaling -- --write    # and puts them into docs/scaling.md
//!
//! Unit costs are read from docs/performance.json, so the tables are no older
//! than the measurement. The fleet is a simulation with a fixed seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use crate::costs::Costs;

#[path = "scaling/costs.rs"]
mod costs;
#[path = "proxy/document.rs"]
mod document;
#[path = "scaling/fleet.rs"]
mod fleet;
#[path = "scaling/node.rs"]
mod node;
#[path = "proxy/table.rs"]
mod table;

const ORIGIN: &str = "From docs/performance.json: `cargo bench --bench scaling -- --write`";

fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    // Cargo says so when it runs benchmarks, and not when it runs tests.
    if !has("--bench") {
        return;
    }
    let costs = Costs::read();
    let sections = [
        ("core", node::of_a_core(&costs)),
        ("ports", node::of_ports()),
        ("bounds", node::bounds(&costs)),
        ("fleet", fleet::operations(&costs)),
    ];
    for (_, text) in &sections {
        println!("\n{text}");
    }
    if has("--write") {
        document::write("scaling.md", &sections, ORIGIN);
    }
}
