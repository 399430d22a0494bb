//! The table, on the terminal and in docs/performance.md.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::median;

/// One workload's samples through one proxy, in microseconds.
pub(crate) type Cell = Vec<f64>;

/// All of one proxy.
pub(crate) struct Column {
    name: String,
    pub(crate) cells: Vec<Cell>,
    /// Bytes of an idle tunnel: resident, and the kernel's.
    pub(crate) memory: Option<(f64, f64)>,
}

impl Column {
    pub(crate) fn new(name: &str, rows: usize) -> Self {
        Self { name: name.to_owned(), cells: vec![Cell::new(); rows], memory: None }
    }
}

/// All of all; the first proxy is what the others are compared to.
pub(crate) struct Report {
    pub(crate) rows: Vec<&'static str>,
    pub(crate) columns: Vec<Column>,
}

/// Where the table stands in the document.
const BEGIN: &str = "<!-- written by benches/proxy.rs -->\n";
const END: &str = "<!-- end -->\n";

impl Report {
    /// As Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("| |");
        for column in &self.columns {
            write!(text, " {} |", column.name).expect("a string takes all");
        }
        text.push_str("\n|---|");
        text.push_str(&"---|".repeat(self.columns.len()));
        for (at, row) in self.rows.iter().enumerate() {
            write!(text, "\n| {row}, µs |").expect("a string takes all");
            for column in &self.columns {
                write!(text, " {} |", self.cost(at, column)).expect("a string takes all");
            }
        }
        for (what, part) in [("idle tunnel, resident, KiB", 0), ("… the kernel's part, about, KiB", 1)] {
            write!(text, "\n| {what} |").expect("a string takes all");
            for column in &self.columns {
                let bytes = column.memory.map(|memory| [memory.0, memory.1][part]);
                let shown = bytes.map_or_else(|| "–".to_owned(), |bytes| format!("{:.1}", bytes / 1024.0));
                write!(text, " {shown} |").expect("a string takes all");
            }
        }
        text.push('\n');
        text
    }

    fn cost(&self, row: usize, column: &Column) -> String {
        let (cell, first) = (&column.cells[row], &self.columns[0].cells[row]);
        if cell.is_empty() {
            return "–".to_owned();
        }
        if std::ptr::eq(cell, first) {
            return format!("{:.1}", median(cell));
        }
        let ratios = cell.iter().zip(first).map(|(this, first)| this / first).collect();
        format!("{:.1} (×{:.2})", median(cell), median(&ratios))
    }

    /// Puts the table into docs/performance.md, in the place of the last one.
    pub(crate) fn write(&self, rounds: usize) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
        let old = fs::read_to_string(&path).expect("docs/performance.md");
        let (before, rest) = old.split_once(BEGIN).unwrap_or((&old, ""));
        let after = rest.split_once(END).map_or("", |(_, after)| after);
        let new = format!(
            "{before}{BEGIN}\n{}\n\n    cargo bench --bench proxy -- --write\n\n{rounds} rounds, medians.\n\n{}\n{END}{after}",
            machine(),
            self.table()
        );
        fs::write(&path, new).expect("docs/performance.md");
        println!("written to {}", path.display());
    }
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let information = read("/proc/cpuinfo");
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{cores} cores of {}, Linux {}.",
        model.map_or("an unknown processor", |(_, name)| name),
        kernel.trim()
    )
}
