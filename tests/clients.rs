//! Real clients work: each of `examples/` runs against a real gateway with a
//! sticky session, without one, and with a site that has had enough of an
//! exit after two requests. Loopback alone; the source address tells exits
//! apart.
//!
//! Needs what `.ci/install-test-deps` installs: curl, wget, Go, Java, PHP with
//! curl, Ruby, Chromium and chromedriver, Node with `examples/node`'s packages,
//! Python with `examples/python`'s.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, measures real time, and publishes nothing"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::{Gateway, Origin, PASSWORD, Setup, operator, setup};

#[path = "it/harness/mod.rs"]
#[expect(dead_code, unused_imports, reason = "tests/it uses all of it")]
mod harness;

const INSTALL: &str = ".ci/install-test-deps installs what the tests need";

/// Exits of the gateway: enough for a client that gets one blocked.
const EXITS: u8 = 5;

/// The longest that a client may take: a browser on a busy machine.
const MOST_SECONDS: &str = "150";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a client against a gateway of five exits and a site that serves each
/// address twice and then blocks it.
#[track_caller]
fn check(client: &[&str]) {
    let (gateway, origin) = (Setup::addresses(EXITS).start(), Origin::start());
    let proxy = format!("http://acme:{PASSWORD}@{}", gateway.listener(0));
    let mut command = Command::new("timeout");
    command.arg(MOST_SECONDS).args(client).arg(proxy).arg(origin.url("/limited"));
    let output = run(&mut command);
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client:?}: {}\n{printed}{complaint}", output.status);

    let seen = |name: &str| -> Vec<String> {
        let line = printed.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no line {name} in:\n{printed}{complaint}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    let [first, second] = &seen("sticky:")[..] else { panic!("not two addresses:\n{printed}") };
    assert_eq!(first, second, "one session, two exits");
    let [renewed] = &seen("renewed:")[..] else { panic!("not one address:\n{printed}") };
    assert_ne!(renewed, first, "the blocked exit again");
    let [third, fourth] = &seen("rotating:")[..] else { panic!("not two addresses:\n{printed}") };
    assert_ne!(third, fourth, "no session, one exit twice");
    let exits: Vec<_> = (1..=EXITS).map(|n| setup::address_of(n).to_string()).collect();
    for address in [first, renewed, third, fourth] {
        assert!(exits.contains(address), "{address} is no exit");
    }
    let asked = origin.seen().iter().filter(|seen| seen.line().contains("/limited")).count();
    assert_eq!(asked, 6, "one request was blocked, and asked again once");
    assert_eq!(reports(&gateway), 1, "the blocked exit was reported");
    assert!(!gateway.log.text().contains(PASSWORD));
}

/// How many reports the gateway has counted.
fn reports(gateway: &Gateway) -> u64 {
    let metrics = operator::ask(gateway, "GET", "/metrics", "", "").ok().text();
    let lines = metrics.lines().filter(|line| line.starts_with("moorgate_reports_total{"));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let output = command.current_dir(root()).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("cannot run {command:?} ({error}): {INSTALL}"))
}

/// Fails unless a program runs well with these arguments.
#[track_caller]
fn needs(program: &str, arguments: &[&str], package: &str) {
    let works = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success());
    assert!(works, "{program} {} fails (Debian package {package}): {INSTALL}", arguments.join(" "));
}

#[test]
fn curl() {
    needs("curl", &["--version"], "curl");
    check(&["examples/curl.sh"]);
}

#[test]
fn wget() {
    needs("wget", &["--version"], "wget");
    check(&["examples/wget.sh"]);
}

#[track_caller]
fn check_python(script: &str, module: &str) {
    let python = root().join("tests/.venv-clients/bin/python");
    let python = python.to_string_lossy();
    needs(&python, &["-c", &format!("import {module}")], &format!("none: {module} comes from PyPI"));
    check(&[&python, &format!("examples/python/{script}")]);
}

#[test]
fn python_requests() {
    check_python("requests_client.py", "requests");
}

#[test]
fn python_httpx() {
    check_python("httpx_client.py", "httpx");
}

#[test]
fn python_aiohttp() {
    check_python("aiohttp_client.py", "aiohttp");
}

#[test]
fn python_scrapy() {
    check_python("scrapy_spider.py", "scrapy");
}

#[test]
fn python_selenium() {
    needs_chromium();
    needs("chromedriver", &["--version"], "chromium-driver");
    check_python("selenium_client.py", "selenium");
}

fn needs_chromium() {
    assert!(Path::new("/usr/bin/chromium").exists(), "no Chromium (Debian package chromium): {INSTALL}");
}

#[track_caller]
fn check_node(script: &str, package: &str) {
    needs("node", &["--version"], "nodejs");
    let folder = root().join("examples/node/node_modules").join(package);
    assert!(folder.exists(), "{} is missing (npm ci --prefix examples/node): {INSTALL}", folder.display());
    check(&["node", &format!("examples/node/{script}")]);
}

#[test]
fn node_undici() {
    check_node("undici.mjs", "undici");
}

#[test]
fn node_axios() {
    check_node("axios.mjs", "axios");
}

#[test]
fn node_got() {
    check_node("got.mjs", "got");
}

#[test]
fn node_crawlee() {
    check_node("crawlee.mjs", "@crawlee/http");
}

#[test]
fn node_playwright() {
    needs_chromium();
    check_node("playwright.mjs", "playwright-core");
}

#[test]
fn node_puppeteer() {
    needs_chromium();
    check_node("puppeteer.mjs", "puppeteer-core");
}

#[test]
fn go() {
    needs("go", &["version"], "golang-go");
    // Built apart, for `go run` wants to be in the module's folder.
    let dir = tempfile::tempdir().expect("a folder");
    let client = dir.path().join("client");
    let output = Command::new("go")
        .args(["build", "-o"])
        .arg(&client)
        .arg(".")
        .current_dir(root().join("examples/go"))
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .output()
        .expect("go runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    check(&[&client.to_string_lossy()]);
}

#[test]
fn java() {
    needs("javac", &["--version"], "default-jdk-headless");
    check(&["java", "examples/java/Client.java"]);
}

#[test]
fn php() {
    needs("php", &["-r", "curl_version();"], "php-cli and php-curl");
    check(&["php", "examples/php/client.php"]);
}

#[test]
fn ruby() {
    needs("ruby", &["-e", "require 'net/http'"], "ruby");
    check(&["ruby", "examples/ruby/client.rb"]);
}

/// In the folder of the gateway's own build, which has most of what it needs.
#[test]
fn rust_reqwest() {
    let profile = Path::new(harness::gateway::MOORGATE).parent().expect("a folder");
    let target: PathBuf = profile.parent().expect("a folder").into();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--offline", "--manifest-path", "examples/rust/Cargo.toml"]);
    build.arg("--target-dir").arg(&target);
    let output = run(&mut build);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "examples/rust is not built: {INSTALL}\n{complaint}");
    let client = target.join("debug/moorgate-example-reqwest");
    check(&[&client.to_string_lossy()]);
}

/// Every example is run here, but the one with a token, which
/// `tests/examples.rs` runs.
#[test]
fn no_example_is_left_out() {
    let text = include_str!("clients.rs");
    let mut examples = 0;
    for (folder, endings) in [("", "sh"), ("python", "py"), ("node", "mjs"), ("java", "java"), ("ruby", "rb")]
    {
        for entry in std::fs::read_dir(root().join("examples").join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.extension().is_some_and(|ending| ending == endings)
                && !name.starts_with("moorgate.")
                && name != "token.sh"
            {
                assert!(text.contains(&name), "{} is not run here", path.display());
                examples += 1;
            }
        }
    }
    assert!(examples >= 15, "{examples}");
}
