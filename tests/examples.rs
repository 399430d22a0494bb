//! The examples work: the embedded gateway serves, each file is taken by
//! `moorgate check`. Clients are run by `tests/clients.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, measures real time, and publishes nothing"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::request::Ask;
use harness::{Origin, Setup};
use serde_json::Value;

#[path = "it/harness/mod.rs"]
#[expect(dead_code, unused_imports, reason = "tests/it uses all of it")]
mod harness;

/// What the examples' files take from the environment.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("ACME_PASSWORD", "hidden-acme"),
    ("UPSTREAM_USER", "hidden-user"),
    ("UPSTREAM_PASSWORD", "hidden-upstream"),
    ("VENDOR_PASSWORD", "hidden-vendor"),
    ("MOORGATE_PASSWORD", "hidden-demo"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let output = command.current_dir(root()).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

#[test]
fn embed() {
    let dir = harness::gateway::write(&Setup::addresses(3));
    let mut child = Command::new(built_embed())
        .arg("moorgate.json")
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the example runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = lines.next().expect("a line").expect("text");
    let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("not an address: {line}"));
    let embedded = Embedded(address.parse().expect("an address"));

    let origin = Origin::start();
    let answer = embedded.get("acme-session-embedded", &origin.url("/ip"));
    assert_eq!(answer.status, 200);

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the signal is sent");
    assert_eq!(lines.next().expect("a line").expect("text"), "drained");
    assert!(child.wait().expect("its status").success());
}

struct Embedded(SocketAddr);

impl Ask for Embedded {
    fn listens(&self) -> SocketAddr {
        self.0
    }
}

/// Cargo builds examples before it runs tests, unless it was asked for this
/// file alone.
fn built_embed() -> PathBuf {
    let folder = Path::new(harness::gateway::MOORGATE).parent().expect("a folder");
    let embed = folder.join("examples/embed");
    if !embed.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", "embed"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let status = build.current_dir(root()).status().expect("cargo runs");
        assert!(status.success(), "the example is not built");
    }
    embed
}

#[track_caller]
fn moorgate(arguments: &[&str]) -> Output {
    run(Command::new(harness::gateway::MOORGATE).args(arguments).envs(ENVIRONMENT))
}

/// Checks that `moorgate check` takes a file, names these pools and shows no
/// secret.
#[track_caller]
fn check_file(arguments: &[&str], pools: &[&str]) {
    let mut words = vec!["check"];
    words.extend(arguments);
    let output = moorgate(&words);
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}:\n{printed}{complaint}");
    for pool in pools {
        assert!(printed.contains(pool), "no pool {pool} in:\n{printed}");
    }
    for secret in ["hidden-", "list-password", "argon2id"] {
        assert!(
            !printed.contains(secret) && !complaint.contains(secret),
            "{secret} in:\n{printed}{complaint}"
        );
    }
}

#[test]
fn pool_files_are_taken() {
    let expected = [
        ("source-addresses.json", &["addresses", "exclusive"][..]),
        ("ipv6-prefix.json", &["v6"]),
        ("upstream-proxies.json", &["upstreams"]),
        ("vendor-template.json", &["vendor"]),
    ];
    for (file, pools) in expected {
        check_file(&["--pools", &format!("examples/pools/{file}")], pools);
    }
    let files = fs::read_dir(root().join("examples/pools")).expect("a folder");
    let files = files.filter(|entry| {
        let path = entry.as_ref().expect("an entry").path();
        path.extension().is_some_and(|extension| extension == "json")
    });
    assert_eq!(files.count(), expected.len(), "a pool file of examples/pools is not checked here");
}

#[test]
fn configurations_are_taken() {
    check_file(
        &["--config", "examples/moorgate.json"],
        &["addresses", "exclusive", "v6", "upstreams", "vendor"],
    );
    check_file(&["--config", "examples/docker/moorgate.json", "--pools", "pools"], &["default"]);
}

#[test]
fn the_container_says_which_secret_is_missing() {
    let mut command = Command::new(harness::gateway::MOORGATE);
    command.args(["check", "--config", "examples/docker/moorgate.json", "--pools", "pools"]);
    let output = run(command.env_remove("MOORGATE_PASSWORD"));
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("MOORGATE_PASSWORD"), "{complaint}");
}

/// Every pool file that the documentation shows is one.
#[test]
fn pool_files_in_the_documentation_are_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("vendor-list.txt"), "198.51.100.21:3128\n").expect("a file");
    let file = dir.path().join("pools.json");
    let mut checked = 0;
    for page in ["README.md", "docs/pools.md"] {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        for block in text.split("```json\n").skip(1) {
            let block = block.split("```").next().expect("a block");
            fs::write(&file, block).expect("a file");
            check_file(&["--pools", &file.to_string_lossy()], &[]);
            checked += 1;
        }
    }
    assert!(checked >= 2);
}

/// Every key of the files is documented.
#[test]
fn every_key_is_documented() {
    for (schema, page) in [("config", "docs/configuration.md"), ("pools", "docs/pools.md")] {
        let output = moorgate(&["schema", schema]);
        assert!(output.status.success());
        let schema: Value = serde_json::from_slice(&output.stdout).expect("a JSON Schema");
        let text = fs::read_to_string(root().join(page)).expect("a page");
        let mut keys = Vec::new();
        collect_keys(&schema, &mut keys);
        assert!(keys.len() > 20, "{keys:?}");
        for key in keys.iter().filter(|key| *key != "$schema") {
            let named = ["`", "\"", "."].iter().any(|mark| text.contains(&format!("{mark}{key}")));
            assert!(named, "{page} does not name {key}");
        }
    }
}

fn collect_keys(schema: &Value, keys: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| collect_keys(value, keys));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}
