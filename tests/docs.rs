//! The documentation says what the code does, as far as a program can tell.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use moorgate::core::code::Code;
use moorgate::core::session::LABEL_KEYS;

#[test]
fn every_failure_code_has_its_row() {
    let codes = read("docs/codes.md");
    for code in Code::all() {
        let closes = if code.closes() { "yes" } else { "no" };
        let row = format!(
            "| `{code}` | {} | {} | {} | {closes} | ",
            code.status(),
            code.proxy_status(),
            code.socks_reply()
        );
        assert_eq!(codes.matches(&row).count(), 1, "docs/codes.md needs one row that begins: {row}");
    }
    let rows = codes.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, Code::all().count(), "docs/codes.md has a row for a code that there is not");
}

#[test]
fn the_readme_names_every_failure_code_beside_its_status() {
    let readme = read("README.md");
    for code in Code::all() {
        let status = format!("| {} |", code.status());
        let named = format!("`{code}`");
        let found = readme.lines().any(|line| line.starts_with(&status) && line.contains(&named));
        assert!(found, "README.md does not name `{code}` in a row of {}", code.status());
    }
}

#[test]
fn the_runbook_has_every_failure_code() {
    let operations = read("docs/operations.md");
    let runbook = operations.split("### Failure codes\n").nth(1).expect("a table of codes");
    let cells: Vec<_> =
        runbook.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next()).collect();
    let named: Vec<_> =
        cells.iter().flat_map(|cell| cell.split(", ")).map(|code| code.trim_matches('`')).collect();
    for code in Code::all() {
        let rows = named.iter().filter(|named| **named == code.name()).count();
        assert_eq!(rows, 1, "the runbook of docs/operations.md needs one row for {code}");
    }
    assert_eq!(named.len(), Code::all().count(), "the runbook has a row for a code that there is not");
}

#[test]
fn every_label_is_documented() {
    for path in ["README.md", "docs/username.md", "docs/pools.md"] {
        let text = read(path);
        for key in LABEL_KEYS {
            assert!(text.contains(&format!("`{key}`")), "{path} does not name `{key}`");
        }
    }
}

/// What a newcomer is told to run is what is checked.
#[test]
fn the_check_script_runs_what_the_readme_says() {
    let readme = read("README.md");
    let script = read(".ci/run");
    for command in [".ci/install-test-deps", "cargo test"] {
        assert!(readme.lines().any(|line| line.trim() == command), "README.md does not say: {command}");
        assert!(script.lines().any(|line| line == command), ".ci/run does not run: {command}");
    }
    for command in ["cargo fmt --check", "cargo clippy --all-targets -- -D warnings"] {
        assert!(script.lines().any(|line| line == command), ".ci/run does not run: {command}");
    }
}

#[test]
fn links_lead_somewhere() {
    for file in markdown() {
        let text = fs::read_to_string(&file).unwrap();
        for target in links(&text) {
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let there = file.parent().unwrap().join(path).exists();
            assert!(there, "{}: nothing at {target}", file.display());
        }
    }
}

#[test]
fn json_blocks_are_json() {
    let mut blocks = 0;
    for file in markdown() {
        let text = fs::read_to_string(&file).unwrap();
        for block in text.split("```json\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let read: Result<serde_json::Value, _> = serde_json::from_str(block);
            assert!(read.is_ok(), "{}: {} in\n{block}", file.display(), read.unwrap_err());
            blocks += 1;
        }
    }
    assert!(blocks > 0, "there is no JSON in the documentation");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The README and its neighbours, and all below docs/.
fn markdown() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("docs")];
    collect(&root(), &mut found, &mut Vec::new());
    while let Some(folder) = folders.pop() {
        collect(&folder, &mut found, &mut folders);
    }
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>, folders: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            folders.push(path);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The Debian package's unit is the example's, but for where it is installed
/// and the words about that.
#[test]
fn the_package_has_the_unit_of_the_example() {
    let lines = |path: &str| {
        let text = read(path).replace("/usr/local/", "/usr/");
        let said = |line: &&str| !line.starts_with('#') && !line.is_empty();
        text.lines().filter(said).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines("packaging/debian/moorgate.service"), lines("examples/systemd/moorgate.service"));
}

/// What the manifest packs is there, but for what `packaging/build-deb` makes.
#[test]
fn what_is_packed_is_there() {
    let manifest = read("Cargo.toml");
    let sources = manifest.lines().filter_map(|line| line.split_once("{ source = \"")?.1.split('"').next());
    let ours: Vec<_> = sources.filter(|source| !source.starts_with("target/")).collect();
    assert!(ours.len() > 5, "{ours:?}");
    for source in ours {
        let folder = root().join(source.rsplit_once('/').map_or("", |(folder, _)| folder));
        let (start, end) = source.rsplit('/').next().unwrap().split_once('*').unwrap_or((source, ""));
        let found = fs::read_dir(&folder).unwrap().any(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name == start.rsplit('/').next().unwrap()
                || source.contains('*') && name.starts_with(start) && name.ends_with(end)
        });
        assert!(found, "Cargo.toml packs {source}, which is not there");
    }
    let script = read("packaging/build-deb");
    for made in ["man/*.1", "moorgate.bash", "_moorgate", "moorgate.fish", "changelog.Debian"] {
        assert!(
            script.contains(made.rsplit('/').next().unwrap()),
            "packaging/build-deb does not make {made}"
        );
    }
}
