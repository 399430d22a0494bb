//! What a unit of work costs, as it was measured last.

use std::collections::BTreeMap;
use std::fs;

use crate::document;

/// Microseconds of CPU, seconds of CPU a GB, bytes.
pub(crate) struct Costs(BTreeMap<String, f64>);

/// What the socket of an accepted connection takes in the kernel, in bytes:
/// the memory controller does not charge it to the process, but the machine
/// has to have it.
const ACCEPTED_SOCKET: f64 = 2_400.0;

impl Costs {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(document::path("performance.json"));
        let text = text.expect("docs/performance.json; `cargo bench --bench proxy -- --write` makes it");
        Self(serde_json::from_str(&text).expect("docs/performance.json, as the bench writes it"))
    }

    pub(crate) fn of(&self, name: &str) -> f64 {
        *self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("docs/performance.json has no {name}: measure all workloads"))
    }

    /// Units a second that one core can do and nothing else.
    pub(crate) fn rate(&self, micros: &str) -> f64 {
        1e6 / self.of(micros)
    }

    /// Bytes of an idle tunnel, the kernel's and ours.
    pub(crate) fn tunnel_bytes(&self) -> f64 {
        self.of("idle_tunnel_resident_bytes") + self.of("idle_tunnel_kernel_bytes") + ACCEPTED_SOCKET
    }
}

/// A figure with two digits, and commas: it says no more than is known.
pub(crate) fn about(figure: f64) -> String {
    if figure < 10.0 {
        return format!("{figure:.1}");
    }
    let digits = 10f64.powi(figure.log10().floor() as i32 - 1);
    let whole = ((figure / digits).round() * digits) as u64;
    let text = whole.to_string();
    let (mut grouped, first) = (String::new(), text.len() % 3);
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && at % 3 == first {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
