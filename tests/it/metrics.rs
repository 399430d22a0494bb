//! Metrics, and what is made of them (SPEC §8).
//!
//! Needs the Debian package `prometheus` (`promtool`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::operator::{act, ask, session};
use crate::harness::request::{Ask, get};
use crate::harness::{Gateway, Origin, PATIENCE, Setup, Target, Upstream, basic, eventually};

fn scrape(gateway: &Gateway) -> String {
    let answer = ask(gateway, "GET", "/metrics", "", "").ok();
    assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    answer.text()
}

/// A sample's value, by its name with labels.
#[track_caller]
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse().unwrap()
}

/// Waits until a sample is what it is to be: a record is written when its
/// request is over, a moment after its answer.
#[track_caller]
fn becomes(gateway: &Gateway, sample: &str, expected: f64) {
    eventually(&format!("{sample} is {expected}"), PATIENCE, || {
        (value(&scrape(gateway), sample) == expected).then_some(())
    });
}

#[track_caller]
fn promtool(arguments: &[&str], folder: &Path, input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot run promtool ({error}): install the Debian package prometheus")
        });
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_text_is_what_prometheus_wants() {
    let odd = json!({ "name": "a\"b\\c", "exits": ["127.0.0.9"] });
    let gateway = Setup::addresses(2).another_pool(odd);
    let gateway = gateway.config("users.0.pools", json!(["p"])).start();
    let origin = Origin::start();
    gateway.get("acme-session-a", &origin.url("/ip")).ok();
    promtool(&["check", "metrics"], &repository(""), &scrape(&gateway));
}

#[test]
fn figures_agree_with_what_was_done() {
    let upstream = Upstream::http();
    let gateway =
        Setup::new(json!([{ "id": "up", "via": upstream.to_string() }, { "id": "e1", "via": "127.0.0.2" }]))
            .quick()
            .pool("placement", "rendezvous")
            .start();
    let origin = Origin::start();
    let mut client = gateway.client();
    let mut made = 0;
    let name = loop {
        let name = format!("s{made}");
        made += 1;
        let fields = basic(&format!("acme-session-{name}-ttl-1h"));
        if client.send(get(&origin.url("/ip"), &fields)).answer("GET").ok().exit() == "p/up" {
            break name;
        }
    };
    let (made, url) = (f64::from(made), origin.url("/ip"));
    becomes(&gateway, "moorgate_requests_total{kind=\"forward\",code=\"none\"}", made);
    let text = scrape(&gateway);
    assert_eq!(value(&text, "moorgate_sessions"), made);
    assert_eq!(value(&text, "moorgate_claims_total{result=\"won\"}"), made);
    assert_eq!(value(&text, "moorgate_pool_pins{pool=\"p\"}"), made);
    assert_eq!(value(&text, "moorgate_exit_pins{pool=\"p\",exit=\"up\"}"), 1.0);
    assert_eq!(value(&text, "moorgate_connections"), 1.0);
    assert_eq!(value(&text, "moorgate_first_byte_seconds_count"), made);
    assert_eq!(value(&text, "moorgate_connect_seconds_bucket{le=\"+Inf\"}"), made);
    assert_eq!(value(&text, "moorgate_exit_dials_total{pool=\"p\",exit=\"up\",result=\"worked\"}"), 1.0);
    assert!(value(&text, "moorgate_bytes_total{direction=\"down\"}") > 0.0);
    assert!(value(&text, "process_resident_memory_bytes") > 1e6);
    assert!(value(&text, "process_start_time_seconds") > 1.7e9);

    // A failed exit, and what moves away from it.
    upstream.refuse();
    gateway.get(&format!("acme-session-{name}"), &url).ok();
    for (sample, expected) in [
        ("moorgate_moves_total{reason=\"exit_down\"}", 1.0),
        ("moorgate_ejections_total", 1.0),
        ("moorgate_exit_ejections_total{pool=\"p\",exit=\"up\"}", 1.0),
        ("moorgate_exit_dials_total{pool=\"p\",exit=\"up\",result=\"exit_failed\"}", 3.0),
        ("moorgate_exit_pins{pool=\"p\",exit=\"up\"}", 0.0),
        ("moorgate_exit_pins{pool=\"p\",exit=\"e1\"}", made),
    ] {
        becomes(&gateway, sample, expected);
    }
    // Failures by code; a wrong secret; a tunnel; operator's acts; reloads.
    gateway.get("acme-ttl-x", &url).fails(400, "ttl_invalid");
    becomes(&gateway, "moorgate_requests_total{kind=\"forward\",code=\"ttl_invalid\"}", 1.0);
    gateway.client().send(get(&url, &crate::harness::request::basic_as("acme", "wrong"))).answer("GET");
    becomes(&gateway, "moorgate_auth_failures_total{code=\"auth_failed\"}", 1.0);
    drop(gateway.tunnel("acme-exit-e1", origin.address));
    becomes(&gateway, "moorgate_tunnel_seconds_count", 1.0);
    act(&gateway, "POST", "/v1/exits/p/e1/drain");
    becomes(&gateway, "moorgate_pool_exits{pool=\"p\",state=\"drain\"}", 1.0);
    let key = session(&gateway, &name)["key"].as_str().unwrap().to_owned();
    act(&gateway, "DELETE", &format!("/v1/sessions/{key}"));
    becomes(&gateway, "moorgate_sessions_ended_total", 1.0);
    becomes(&gateway, "moorgate_sessions", made - 1.0);
    act(&gateway, "POST", "/v1/reload");
    becomes(&gateway, "moorgate_reloads_total{result=\"ok\"}", 1.0);
    gateway.replace("pools/p.json", "{");
    ask(&gateway, "POST", "/v1/reload", "", "");
    becomes(&gateway, "moorgate_last_reload_successful", 0.0);
}

#[test]
fn bytes_are_told_while_they_move() {
    let gateway = Setup::addresses(1).start();
    let target = Target::open();
    let (mut client, _) = gateway.tunnel("acme", target.address);
    let mut far = target.accept();
    client.send(vec![7; 200_000]);
    far.exactly(200_000);
    eventually("most of it is told", PATIENCE, || {
        let told =
            value(&scrape(&gateway), "moorgate_exit_bytes_total{pool=\"p\",exit=\"e1\",direction=\"up\"}");
        (told >= 131_072.0).then_some(())
    });
    drop((client, far));
    becomes(&gateway, "moorgate_bytes_total{direction=\"up\"}", 200_000.0);
}

#[test]
fn no_session_user_or_target_is_a_label() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    gateway.get("acme-session-verysecretname", &origin.url("/ip")).ok();
    becomes(&gateway, "moorgate_requests_total{kind=\"forward\",code=\"none\"}", 1.0);
    let text = scrape(&gateway);
    for word in ["verysecretname", "acme", &origin.address.to_string()] {
        assert!(!text.contains(word), "{word}");
    }
}

#[test]
fn the_alert_rules_hold_and_fire() {
    let folder = repository("examples/monitoring");
    promtool(&["check", "rules", "alerts.yml"], &folder, "");
    promtool(&["check", "config", "prometheus.yml"], &folder, "");
    promtool(&["test", "rules", "alerts_test.yml"], &repository("tests"), "");
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("moorgate_") || word.starts_with("process_"));
    ours.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn every_metric_that_is_named_is_there() {
    let gateway = Setup::addresses(2).start();
    let text = scrape(&gateway);
    let there: BTreeMap<_, _> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    for path in ["examples/monitoring/grafana.json", "examples/monitoring/alerts.yml", "docs/operations.md"] {
        for name in named(&fs::read_to_string(repository(path)).unwrap()) {
            assert!(there.contains_key(&*name), "{path} names {name}, and there is none");
        }
    }
    // The dashboard is whole: every panel asks, and from the chosen source.
    let board = fs::read_to_string(repository("examples/monitoring/grafana.json")).unwrap();
    let board: Value = serde_json::from_str(&board).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert!(panels.len() > 15 && ids.len() == panels.len());
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        assert_eq!(target["datasource"]["uid"], "${datasource}");
        assert!(target["expr"].as_str().unwrap().contains("instance=~\"$instance\""), "{target}");
    }
}

#[test]
fn every_alert_has_its_part_in_the_runbook() {
    let alerts = fs::read_to_string(repository("examples/monitoring/alerts.yml")).unwrap();
    let runbook = fs::read_to_string(repository("docs/operations.md")).unwrap();
    let anchors: BTreeSet<_> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|title| format!("docs/operations.md#{}", title.to_lowercase().replace(' ', "-")))
        .collect();
    let urls: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    assert_eq!(urls.len(), alerts.matches("- alert: ").count());
    for url in urls {
        assert!(anchors.contains(url.trim_matches('"')), "no part for {url} in {anchors:?}");
    }
}
