//! Files in, findings or meaning out.

use super::*;
use crate::config::Loaded;

mod config;
mod exits;
mod pools;

/// Files in a folder of their own, and a configuration there: `moorgate.json`
/// where that is one of them, else the defaults with `pools.json`.
struct Given {
    folder: tempfile::TempDir,
    source: ConfigSource,
}

impl Given {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut source = ConfigSource::default();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            match *name {
                "moorgate.json" => source.config = Some(path),
                "pools.json" => source.pools = Some(path),
                _ => {}
            }
        }
        Self { folder, source }
    }

    fn config(&self) -> Result<(Config, Vec<Finding>), Findings> {
        config(&self.source, &Environment::of(&[("WORD", "word"), ("VIA", "http://u:hunter2@h.example:80")]))
    }

    fn load(&self) -> Result<(Config, Loaded), Findings> {
        let (config, _) = self.config()?;
        let loaded = load_pools(&config, &Environment::of(&[("VIA", "http://u:hunter2@h.example:80")]))?;
        Ok((config, loaded))
    }

    /// One line for each, without the folder.
    fn lines(&self, findings: impl ToString) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        findings.to_string().replace(&folder, "").lines().map(str::to_owned).collect()
    }
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&str]) {
    let given = Given::new(files);
    let found = given.load().map(|_| Vec::new()).unwrap_or_else(|findings| given.lines(findings));
    assert_eq!(found, expected);
    assert!(!found.concat().contains("hunter2"));
}

#[track_caller]
fn check_config(text: &str, expected: &[&str]) {
    check(
        &[("moorgate.json", text), ("pools/p.json", r#"{"pools":[{"name":"p","exits":["direct"]}]}"#)],
        expected,
    );
}

#[track_caller]
fn check_pools(text: &str, expected: &[&str]) {
    check(&[("pools.json", text)], expected);
}

/// An exit as an object, in a pool of its own.
#[track_caller]
fn check_exit(exit: &str, expected: &[&str]) {
    check_pools(&format!("{{\"pools\":[{{\"name\":\"p\",\"exits\":[\n{exit}\n]}}]}}"), expected);
}

#[track_caller]
fn fine(files: &[(&str, &str)]) -> (Config, Loaded) {
    Given::new(files).load().unwrap_or_else(|findings| panic!("{findings}"))
}
