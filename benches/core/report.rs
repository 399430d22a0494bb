//! The tables, on the terminal and in docs/performance.md.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Steps by sizes.
pub(crate) struct Table {
    columns: Vec<String>,
    /// A step's name and its figures.
    rows: Vec<(String, Vec<String>)>,
}

/// Where the tables stand in the document.
const BEGIN: &str = "<!-- written by benches/core.rs -->\n";
const END: &str = "<!-- end of benches/core.rs -->\n";

impl Table {
    /// From each size's steps, which are the same and in the same order.
    pub(crate) fn new(columns: &[(String, Vec<(String, String)>)]) -> Self {
        let mut rows: Vec<(String, Vec<String>)> = Vec::new();
        for (column, (_, figures)) in columns.iter().enumerate() {
            for (at, (name, figure)) in figures.iter().enumerate() {
                if column == 0 {
                    rows.push((name.clone(), Vec::new()));
                }
                rows[at].1.push(figure.clone());
            }
        }
        Self { columns: columns.iter().map(|(name, _)| name.clone()).collect(), rows }
    }
}

/// As Markdown.
pub(crate) fn text(tables: &[(String, Table)], loads: &[String]) -> String {
    let mut text = String::new();
    for (unit, table) in tables {
        let columns = table.columns.join(" | ");
        write!(text, "| {unit}; exits or pins: | {columns} |\n|---|{}\n", "---|".repeat(table.columns.len()))
            .expect("a string takes all");
        for (name, figures) in &table.rows {
            writeln!(text, "| {} | {} |", name.trim(), figures.join(" | ")).expect("a string takes all");
        }
        text.push('\n');
    }
    text.push_str("| CPU seconds | read and compiled | put into force | all |\n|---|---|---|---|\n");
    loads.iter().for_each(|line| writeln!(text, "{line}").expect("a string takes all"));
    text
}

/// Puts the text between its marks.
pub(crate) fn write(text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let document = fs::read_to_string(&path).expect("the document");
    let (before, rest) = document.split_once(BEGIN).expect("the first mark");
    let (_, after) = rest.split_once(END).expect("the last mark");
    fs::write(&path, format!("{before}{BEGIN}\n{text}\n{END}{after}")).expect("the document");
}
