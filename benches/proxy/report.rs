//! The tables: what was found, in words and figures.

use crate::latency::{Latency, P99, RATE, Reload};
use crate::memory::Memory;
use crate::peers::{Kind, Setup};
use crate::rounds::Costs;
use crate::table::table;
use crate::variants::{FRESH, USUAL, VARIANTS, Variants};
use crate::workloads::Unit;

/// All of all that was wanted.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) costs: Option<Costs>,
    pub(crate) variants: Option<Variants>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) latency: Option<Latency>,
    pub(crate) reload: Option<Reload>,
}

impl Report {
    /// Each table, in Markdown, and the place in the document that it has.
    pub(crate) fn sections(&self) -> Vec<(&'static str, String)> {
        let memory = Some(&self.memory).filter(|memory| !memory.is_empty());
        let all = [
            ("costs", self.costs.as_ref().map(costs_table)),
            ("variants", self.variants.as_ref().map(variants_table)),
            ("memory", memory.map(|memory| memory_table(memory))),
            ("latency", self.latency.as_ref().map(latency_table)),
            ("reload", self.reload.as_ref().map(reload_table)),
        ];
        all.into_iter().filter_map(|(place, text)| Some((place, text?))).collect()
    }
}

fn costs_table(costs: &Costs) -> String {
    let mut head = vec!["CPU, to the limit".to_owned()];
    head.extend(costs.kinds.iter().map(|(_, name)| name.clone()));
    head.push("goal".to_owned());
    let rows = costs.workloads.iter().map(|workload| {
        let mut row = vec![format!("{} {}", workload.group, workload.what)];
        for (kind, _) in &costs.kinds {
            let this = (workload.what, *kind);
            row.push(match (costs.samples.median(workload.what, *kind), workload.unit()) {
                (None, _) => "–".to_owned(),
                (Some(figure), Unit::Micros) if *kind == Kind::Limit => format!("1.00 ({figure:.1} µs)"),
                (Some(figure), Unit::SecondsPerGb) if *kind == Kind::Limit => {
                    format!("1.00 ({figure:.2} s/GB)")
                }
                (Some(_), _) => ours(*kind, costs.samples.ratio(this, (workload.what, Kind::Limit))),
            });
        }
        let moorgate = (workload.what, Kind::Moorgate(Setup::Usual));
        row.push(goal(workload.goal, costs.samples.ratio(moorgate, (workload.what, Kind::Limit))));
        row
    });
    table(&head, rows)
}

/// A goal, and whether it is met.
fn goal(limit: f64, ratio: Option<f64>) -> String {
    // As it is shown, not as it is calculated.
    let missed = ratio.is_some_and(|ratio| (ratio * 100.0).round() > (limit * 100.0).round());
    most(&format!("{limit:.2}"), missed)
}

fn most(figure: &str, missed: bool) -> String {
    format!("≤ {figure}{}", if missed { ", missed" } else { "" })
}

/// Moorgate's figure stands out.
fn ours(kind: Kind, ratio: Option<f64>) -> String {
    let ratio = ratio.unwrap_or(f64::NAN);
    if kind == Kind::Moorgate(Setup::Usual) { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") }
}

fn variants_table(Variants { samples, pin_bytes }: &Variants) -> String {
    let head = ["W1 with", "µs", "to", "ratio", "goal"].map(str::to_owned);
    let mut rows: Vec<_> = VARIANTS
        .iter()
        .map(|variant| {
            let to = VARIANTS.iter().find(|other| other.what == variant.to).expect("it is one of them");
            let ratio = samples.ratio((variant.what, variant.kind), (to.what, to.kind));
            let itself = variant.what == variant.to;
            vec![
                variant.what.to_owned(),
                samples.median(variant.what, variant.kind).map_or_else(dash, |figure| format!("{figure:.1}")),
                if itself { dash() } else { variant.to.to_owned() },
                if itself { dash() } else { ratio.map_or_else(dash, |ratio| format!("**{ratio:.2}**")) },
                variant.goal.map_or_else(dash, |most| goal(most, ratio)),
            ]
        })
        .collect();
    let kind = Kind::Moorgate(Setup::Usual);
    let more = samples.difference((FRESH, kind), (USUAL, kind)).unwrap_or(f64::NAN);
    rows.push(
        ["a new pin", "", USUAL, &format!("**{more:+.1} µs**"), &most("+6.0 µs", more > 6.05)]
            .map(str::to_owned)
            .to_vec(),
    );
    let bytes = format!("**{pin_bytes:.0} bytes**");
    rows.push(
        ["memory of a pin", "", "", &bytes, &most("200 bytes", *pin_bytes > 200.5)]
            .map(str::to_owned)
            .to_vec(),
    );
    table(&head, rows.into_iter())
}

fn memory_table(found: &[Memory]) -> String {
    let kernel = if found.iter().all(|memory| memory.exact) {
        "kernel's part, KiB"
    } else {
        "kernel's part, about, KiB"
    };
    let head = [
        "W5, an idle tunnel",
        "resident, KiB",
        kernel,
        "both, KiB",
        "CPU without any, µs/s",
        "CPU with all, µs/s",
        "left after all closed, MB",
    ];
    let rows = found.iter().map(|memory| {
        let kib = |bytes: f64| format!("{:.1}", bytes / 1024.0);
        vec![
            memory.name.clone(),
            kib(memory.resident),
            kib(memory.kernel),
            kib(memory.resident + memory.kernel),
            format!("{:.0}", memory.idle.0),
            format!("{:.0}", memory.idle.1),
            format!("{:.1}", memory.left / 1e6),
        ]
    });
    let goal = ["goal", "", "", "≤ 7.5", "", "as without", "≤ 20"].map(str::to_owned).to_vec();
    table(&head.map(str::to_owned), rows.chain([goal]))
}

fn latency_table(Latency { kinds, samples }: &Latency) -> String {
    let head = ["W7", "tunnels a second", "p99, µs", "to the limit"].map(str::to_owned);
    let rows = kinds.iter().map(|(kind, name)| {
        let figure = |row| samples.median(row, *kind).map_or_else(dash, |figure| format!("{figure:.0}"));
        let ratio = samples.ratio((P99, *kind), (P99, Kind::Limit));
        vec![name.clone(), figure(RATE), figure(P99), ours(*kind, ratio)]
    });
    table(&head, rows)
}

fn reload_table(reload: &Reload) -> String {
    let head = ["100,000 exits in 1,000 pools", "", "goal"].map(str::to_owned);
    let rows = [
        ("p99 of W1 without a reload", format!("{:.0} µs", reload.without), dash()),
        ("p99 of W1 during a reload", format!("{:.0} µs", reload.with), dash()),
        ("ratio", format!("**{:.2}**", reload.ratio), goal(1.2, Some(reload.ratio))),
        (
            "a reload, from the signal to the log",
            format!("{:.0} ms", reload.took_ms),
            "≤ 1,000 ms".to_owned(),
        ),
        ("CPU of a reload", format!("{:.0} ms", reload.cpu_ms), dash()),
    ];
    table(&head, rows.into_iter().map(|(what, figure, goal)| vec![what.to_owned(), figure, goal]))
}

fn dash() -> String {
    "–".to_owned()
}
