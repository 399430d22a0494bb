//! docs/performance.json: what a unit of each work costs Moorgate, for programs
//! that reckon with it (benches/scaling.rs).

use std::collections::BTreeMap;
use std::fs;

use crate::document;
use crate::peers::{Kind, Setup};
use crate::report::Report;
use crate::variants::{FRESH, USUAL};

/// Puts in what was measured, and leaves what was not.
pub(crate) fn write(report: &Report) {
    let path = document::path("performance.json");
    let old = fs::read_to_string(&path).unwrap_or_default();
    let mut figures: BTreeMap<String, f64> = serde_json::from_str(&old).unwrap_or_default();
    for (name, figure) in measured(report) {
        if let Some(figure) = figure.filter(|figure| figure.is_finite()) {
            // Three digits are more than the machine is good for.
            let digits = 10f64.powi(2 - figure.abs().max(1e-9).log10().floor() as i32);
            figures.insert(name.to_owned(), (figure * digits).round() / digits);
        }
    }
    let text = serde_json::to_string_pretty(&figures).expect("plain figures");
    fs::write(&path, text + "\n").expect("docs/performance.json");
}

fn measured(report: &Report) -> Vec<(&'static str, Option<f64>)> {
    let ours = Kind::Moorgate(Setup::Usual);
    let cost = |what| report.costs.as_ref()?.samples.median(what, ours);
    let variant = |what| report.variants.as_ref()?.samples.median(what, ours);
    let memory = report.memory.iter().find(|memory| memory.name.starts_with("Moorgate"));
    vec![
        ("tunnel_us", cost("tunnel")),
        ("round_trip_us", cost("echo")),
        ("get_1kb_us", cost("GET 1 kB")),
        ("get_64kb_us", cost("GET 64 kB")),
        ("post_64kb_us", cost("POST 64 kB")),
        ("bulk_down_s_per_gb", cost("64 down")),
        ("bulk_up_s_per_gb", cost("64 up")),
        ("live_session_tunnel_us", variant(USUAL)),
        ("new_session_tunnel_us", variant(FRESH)),
        ("pin_bytes", report.variants.as_ref().map(|variants| variants.pin_bytes)),
        ("idle_tunnel_resident_bytes", memory.map(|memory| memory.resident)),
        ("idle_tunnel_kernel_bytes", memory.map(|memory| memory.kernel)),
    ]
}
