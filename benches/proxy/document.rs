//! docs/performance.md: tables in their places, and nothing else of it changed.

use std::fs;
use std::path::PathBuf;

/// What stands around a table: `<!-- bench: costs -->` and [`END`].
const END: &str = "<!-- end -->";

/// A file of the documentation.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// Puts each table in the place of the last one, and below it where it comes
/// from.
pub(crate) fn write(sections: &[(&str, String)], rounds: usize) {
    let path = path("performance.md");
    let mut text = fs::read_to_string(&path).expect("docs/performance.md");
    let rounds = if rounds > 1 { format!(", {rounds} rounds") } else { String::new() };
    let origin = format!("{}{rounds}: `{}`", machine(), command());
    for (place, table) in sections {
        let begin = format!("<!-- bench: {place} -->\n");
        let (before, rest) =
            text.split_once(&begin).unwrap_or_else(|| panic!("no place for {place} in the document"));
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("no end of {place} in the document"));
        text = format!("{before}{begin}\n{table}\n{origin}\n\n{END}{after}");
    }
    fs::write(&path, text).expect("docs/performance.md");
    println!("written to {}", path.display());
}

fn command() -> String {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    format!("cargo bench --bench proxy -- {}", arguments.join(" "))
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let information = read("/proc/cpuinfo");
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = model.map_or("an unknown processor", |(_, name)| name);
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}
