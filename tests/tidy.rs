//! Rules of the house that no compiler checks: which module may import
//! which, how long a file may grow, what must not be left behind.

#![expect(clippy::expect_used, reason = "a rule that cannot be checked is a breach")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rank rule of `docs/architecture.md`: a module imports only from
/// modules of a lower rank, never from its own or a higher one.
const RANKS: [(&str, u8); 20] = [
    ("core", 0),
    ("handshake", 1),
    ("http1", 1),
    ("clock", 1),
    ("drain", 1),
    ("observe", 1),
    ("net", 2),
    ("state", 2),
    ("store", 2),
    ("config", 2),
    ("admit", 3),
    ("steer", 3),
    ("dial", 3),
    ("relay", 3),
    ("serve", 4),
    ("admin", 4),
    ("gateway", 5),
    ("cli", 6),
    ("lib", 7),
    ("main", 7),
];

/// Lines of code that a file may have, its tests left out.
const MOST_LINES: usize = 400;
/// Lines of tests that a file may hold beside its code.
const MOST_TEST_LINES: usize = 150;

struct Source {
    path: PathBuf,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &str, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                let text = fs::read_to_string(&path).expect("a text file");
                found.push(Source { path: path.strip_prefix(root()).expect("below").into(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    /// The top-level module: `src/net/wire.rs` is of `net`.
    fn module(&self) -> String {
        let part = self.path.components().nth(1).expect("a file below src").as_os_str();
        Path::new(part).file_stem().expect("a name").to_string_lossy().into_owned()
    }

    fn is_test_file(&self) -> bool {
        self.path.components().any(|part| part.as_os_str() == "tests.rs")
            || self.path.components().skip(1).any(|part| part.as_os_str() == "tests")
    }

    /// The lines before the tests.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }

    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().lines().enumerate().map(|(at, line)| (at + 1, line))
    }
}

/// The modules that a file's code names as `crate::module`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let names = rest.strip_prefix('{').and_then(|r| r.split('}').next()).unwrap_or(rest);
        let ends = |c: char| !(c.is_alphanumeric() || c == '_');
        let names = if rest.starts_with('{') { names } else { names.split(ends).next().unwrap_or("") };
        for name in names.split(',') {
            let name = name.trim().split(ends).next().unwrap_or("");
            if !name.is_empty() && name.starts_with(char::is_lowercase) {
                found.push(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn a_module_imports_only_from_lower_ranks() {
    let ranks: HashMap<_, _> = RANKS.into_iter().collect();
    let mut breaches = Vec::new();
    for source in files_below("src", "rs") {
        let module = source.module();
        let rank = *ranks.get(module.as_str()).unwrap_or_else(|| panic!("no rank for src/{module}"));
        for import in imports(&source.text) {
            let allowed = import == module || ranks.get(import.as_str()).is_none_or(|other| *other < rank);
            if !allowed {
                breaches.push(format!("{}: {module} imports {import}", source.path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn imports_are_seen_in_every_way_of_writing() {
    let code = "use crate::net::wire; use crate::{store, state::exits}; crate::dial::x(); $crate::no";
    assert_eq!(imports(code), ["net", "store", "state", "dial"]);
}

#[test]
fn the_core_has_no_imports_from_outside() {
    let banned = [
        "tokio",
        "std::net::Tcp",
        "std::fs",
        "std::time::Instant",
        "SystemTime",
        "rand::rng()",
        "tracing",
        "std::sync::atomic",
    ];
    for source in files_below("src/core", "rs").iter().filter(|source| !source.is_test_file()) {
        for (at, line) in source.code_lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let found = banned.iter().find(|word| line.contains(**word));
            assert!(
                found.is_none(),
                "{}:{at}: the core must not know {}",
                source.path.display(),
                found.unwrap()
            );
        }
    }
}

#[test]
fn files_stay_small() {
    for source in files_below("src", "rs")
        .iter()
        .chain(&files_below("tests", "rs"))
        .chain(&files_below("benches", "rs"))
    {
        let (code, all) = (source.code_lines().count(), source.text.lines().count());
        let path = source.path.display();
        if source.is_test_file() {
            continue;
        }
        assert!(code <= MOST_LINES, "{path}: {code} lines of code, {MOST_LINES} at most");
        let tests = all - code;
        assert!(tests <= MOST_TEST_LINES, "{path}: {tests} lines of tests: move them to a tests.rs");
    }
}

#[test]
fn every_file_says_what_it_owns() {
    for source in files_below("src", "rs").iter().filter(|source| !source.is_test_file()) {
        let path = source.path.display();
        assert!(source.text.starts_with("//!"), "{path}: no module doc");
        let bare = ["src/lib.rs", "src/main.rs"].iter().any(|name| source.path == Path::new(name));
        let says = ["Owns:", "Must not know:"].iter().all(|words| source.text.contains(words));
        assert!(bare || says, "{path}: the module doc says what it owns and what it must not know");
    }
}

#[test]
fn unsafe_stands_in_one_module() {
    for source in files_below("src", "rs") {
        if source.path == Path::new("src/net/sockopt.rs") {
            continue;
        }
        for (at, line) in source.code_lines() {
            let code = line.split("//").next().unwrap_or("");
            let found = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe");
            assert!(!found, "{}:{at}: unsafe", source.path.display());
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    let marks =
        ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "XX".to_owned() + "X", "dbg".to_owned() + "!("];
    for folder in ["src", "tests", "benches", "examples"] {
        for source in files_below(folder, "rs") {
            for (at, line) in source.text.lines().enumerate() {
                let found = marks.iter().find(|mark| line.contains(mark.as_str()));
                assert!(found.is_none(), "{}:{}: {}", source.path.display(), at + 1, found.unwrap());
            }
        }
    }
}

#[test]
fn headers_are_not_removed_by_swapping() {
    for source in files_below("src", "rs") {
        let found = source.code().contains("HeaderMap") && source.code().contains(".remove(");
        assert!(!found, "{}: HeaderMap::remove moves the last field into the gap", source.path.display());
    }
}

#[test]
fn every_code_is_documented() {
    let docs = fs::read_to_string(root().join("docs/codes.md")).expect("docs/codes.md");
    for code in moorgate::core::code::Code::all() {
        assert!(docs.contains(&format!("`{code}`")), "docs/codes.md does not name {code}");
    }
}
