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

/// What a program prints that ends well.
#[track_caller]
fn printed(command: &mut Command) -> String {
    let output = run(command);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{printed}{complaint}");
    printed
}

/// The two addresses of a line.
#[track_caller]
fn pair<'p>(printed: &'p str, name: &str) -> (&'p str, &'p str) {
    let line = printed.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no line {name} in:\n{printed}"));
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(first), Some(second), None) => (first, second),
        _ => panic!("not two addresses: {line}"),
    }
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
fn tokens() {
    let dir = tempfile::tempdir().expect("a folder");
    let key = dir.path().join("ci.pem");
    let mut make = Command::new(harness::gateway::MOORGATE);
    let public = printed(make.args(["token", "--new-key", "--key"]).arg(&key));
    let tokens = serde_json::json!({ "keys": ["jwks.json"], "audience": "moorgate" });
    let gateway = Setup::addresses(3).config("tokens", tokens).file("jwks.json", public).start();
    let origin = Origin::start();
    let proxy = format!("http://{}", gateway.listener(0));
    let mut client = Command::new("examples/token.sh");
    client.env("MOORGATE", harness::gateway::MOORGATE).arg(&key).args(["acme", &proxy]);
    let printed = printed(client.arg(origin.url("/ip")));
    let (first, second) = pair(&printed, "sticky:");
    assert_eq!(first, second, "one session, two exits");
    let (third, fourth) = pair(&printed, "rotating:");
    assert_ne!(third, fourth, "no session, one exit twice");
    let (first, second) = pair(&printed, "fixed:");
    assert_eq!(first, second, "the token's session, two exits");
    assert_eq!(origin.count(), 6);
}

#[test]
fn embed() {
    let dir = harness::gateway::write(&Setup::addresses(3));
    let mut example = Example::start(dir.path(), &["moorgate.json"]);
    let embedded = Embedded(example.address());
    let origin = Origin::start();
    let answer = embedded.get("acme-session-embedded", &origin.url("/ip"));
    assert_eq!(answer.status, 200);
    example.stop();
}

#[test]
fn embed_with_its_own_choice_of_settings() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut example = Example::start(dir.path(), &[]);
    let embedded = Embedded(example.address());
    let line = example.line();
    let secret = line.strip_prefix("user demo, secret ").unwrap_or_else(|| panic!("no secret: {line}"));
    let origin = Origin::start();
    let get = |username: &str| {
        let fields = harness::request::basic_as(username, secret);
        embedded.client().send(harness::request::get(&origin.url("/ip"), &fields)).answer("GET").ok()
    };
    let first = get("demo-session-a1");
    assert!(first.exit().starts_with("own/"), "{}", first.exit());
    assert!(first.session("expires-in").is_some_and(|left| (3590..=3600).contains(&left)), "an hour");
    assert_eq!(get("demo-session-a1").exit(), first.exit());
    example.stop();
    assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 0, "no file at all");
}

/// The example as a program.
struct Example {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Example {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(built_embed())
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the example runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("text")
    }

    fn address(&mut self) -> SocketAddr {
        let line = self.line();
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("not an address: {line}"));
        address.parse().expect("an address")
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the signal is sent");
        assert_eq!(self.line(), "drained");
        assert!(self.child.wait().expect("its status").success());
    }
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
    for (schema, pages) in [
        ("config", &["docs/configuration.md", "docs/profiles.md"][..]),
        ("pools", &["docs/pools.md"]),
        ("profile", &["docs/profiles.md"]),
    ] {
        let output = moorgate(&["schema", schema]);
        assert!(output.status.success());
        let schema: Value = serde_json::from_slice(&output.stdout).expect("a JSON Schema");
        let text = pages.iter().map(|page| fs::read_to_string(root().join(page)).expect("a page"));
        let text = text.collect::<String>();
        let mut keys = Vec::new();
        collect_keys(&schema, &mut keys);
        assert!(keys.len() > 20, "{keys:?}");
        for key in keys.iter().filter(|key| *key != "$schema") {
            let named = ["`", "\"", "."].iter().any(|mark| text.contains(&format!("{mark}{key}")));
            assert!(named, "{pages:?} do not name {key}");
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
