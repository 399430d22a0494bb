//! Files of docs/: tables in their places, and nothing else of them changed.

use std::fs;
use std::path::PathBuf;

/// What stands below a table; above it is `<!-- bench: costs -->`.
const END: &str = "<!-- end -->";

/// A file of the documentation.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// Puts each table in the place of the last one, and below it where it comes
/// from.
pub(crate) fn write(name: &str, sections: &[(&str, String)], origin: &str) {
    let path = path(name);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
    for (place, table) in sections {
        let begin = format!("<!-- bench: {place} -->\n");
        let (before, rest) =
            text.split_once(&begin).unwrap_or_else(|| panic!("no place for {place} in docs/{name}"));
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("no end of {place} in docs/{name}"));
        text = format!("{before}{begin}\n{table}\n{origin}\n\n{END}{after}");
    }
    fs::write(&path, text).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
    println!("written to {}", path.display());
}
