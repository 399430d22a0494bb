//! The tables.

use std::fmt::Write as _;

use crate::memory::Memory;
use crate::peers::{Kind, Setup};
use crate::rounds::Costs;
use crate::samples::Samples;
use crate::variants::VARIANTS;
use crate::workloads::Unit;

/// All of all that was wanted.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) costs: Option<Costs>,
    pub(crate) variants: Option<Samples>,
    pub(crate) memory: Vec<Memory>,
}

impl Report {
    /// As Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(costs) = &self.costs {
            text.push_str(&costs_table(costs));
        }
        if let Some(samples) = &self.variants {
            text.push_str(&variants_table(samples));
        }
        if !self.memory.is_empty() {
            text.push_str(&memory_table(&self.memory));
        }
        text
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
        row.push(format!("≤ {:.2}", workload.goal));
        row
    });
    table(&head, rows)
}

/// Moorgate's figure stands out.
fn ours(kind: Kind, ratio: Option<f64>) -> String {
    let ratio = ratio.unwrap_or(f64::NAN);
    if kind == Kind::Moorgate(Setup::Usual) { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") }
}

fn variants_table(samples: &Samples) -> String {
    let head = ["W1 with", "µs", "to", "ratio", "goal"].map(str::to_owned);
    let rows = VARIANTS.iter().map(|variant| {
        let to = VARIANTS.iter().find(|other| other.what == variant.to).expect("it is one of them");
        let ratio = samples.ratio((variant.what, variant.kind), (to.what, to.kind));
        let itself = variant.what == variant.to;
        vec![
            variant.what.to_owned(),
            samples.median(variant.what, variant.kind).map_or_else(dash, |figure| format!("{figure:.1}")),
            if itself { dash() } else { variant.to.to_owned() },
            if itself { dash() } else { ratio.map_or_else(dash, |ratio| format!("**{ratio:.2}**")) },
            variant.goal.map_or_else(dash, |goal| format!("≤ {goal:.2}")),
        ]
    });
    table(&head, rows)
}

fn memory_table(found: &[Memory]) -> String {
    let head = [
        "W5, an idle tunnel",
        "resident, KiB",
        "kernel's part, KiB",
        "both, KiB",
        "CPU while idle, µs/s",
        "left after all closed, MB",
    ]
    .map(str::to_owned);
    let rows = found.iter().map(|memory| {
        let kib = |bytes: f64| format!("{:.1}", bytes / 1024.0);
        vec![
            memory.name.clone(),
            kib(memory.resident),
            kib(memory.kernel),
            kib(memory.resident + memory.kernel),
            format!("{:.0}", memory.idle_micros),
            format!("{:.1}", memory.left / 1e6),
        ]
    });
    table(&head, rows)
}

fn dash() -> String {
    "–".to_owned()
}

/// In Markdown, with an empty line behind it.
fn table(head: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).expect("a string takes all");
    }
    text.push('\n');
    text
}
