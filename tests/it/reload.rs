//! Pool files that are edited while it runs (SPEC §6).

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::load::Load;
use crate::harness::request::Ask;
use crate::harness::setup::addresses;
use crate::harness::{Gateway, Origin, PATIENCE, Setup, eventually};

/// What is promised, and half a second for a busy machine.
const PICKED_UP: Duration = Duration::from_millis(2500);

fn pools(exits: Value) -> Value {
    json!({ "pools": [{ "name": "p", "exits": exits }] })
}

/// Waits until exit `e<n>` may be asked for.
#[track_caller]
fn joins(gateway: &Gateway, n: u8, within: Duration) {
    eventually(&format!("e{n} is there"), within, || {
        let answer = gateway.connect(&format!("acme-exit-e{n}"), "127.0.0.1:1").1;
        (answer.code() != "exit_unknown").then_some(())
    });
}

#[test]
fn a_file_that_is_written_in_place_is_picked_up() {
    let gateway = Setup::addresses(1).start();
    fs::write(gateway.dir().join("pools/p.json"), pools(addresses(2)).to_string()).unwrap();
    joins(&gateway, 2, PICKED_UP);
}

#[test]
fn a_file_that_is_renamed_over_is_picked_up() {
    let gateway = Setup::addresses(1).start();
    for n in 2..4 {
        gateway.write_pools(&pools(addresses(n)));
        joins(&gateway, n, PICKED_UP);
    }
}

#[test]
fn a_symlink_swap_is_picked_up() {
    // As Kubernetes mounts a ConfigMap: p.json -> ..data/p.json, ..data -> ..1.
    let gateway = Setup::addresses(1)
        .config("pools", "mount")
        .file("mount/..1/p.json", pools(addresses(1)).to_string());
    let gateway = gateway.file("mount/..2/p.json", pools(addresses(2)).to_string());
    let dir = crate::harness::gateway::write(&gateway);
    symlink("..1", dir.path().join("mount/..data")).unwrap();
    symlink("..data/p.json", dir.path().join("mount/p.json")).unwrap();
    let gateway = Gateway::start_in(dir, gateway);
    symlink("..2", gateway.dir().join("mount/..new")).unwrap();
    fs::rename(gateway.dir().join("mount/..new"), gateway.dir().join("mount/..data")).unwrap();
    joins(&gateway, 2, PICKED_UP);
}

#[test]
fn files_come_and_go_in_a_folder() {
    let gateway = Setup::addresses(1).config("users.0.pools", json!(["p", "q"])).start();
    assert_eq!(gateway.connect("acme-pool-q", "127.0.0.1:1").1.code(), "pool_forbidden");
    let more = json!({ "pools": [{ "name": "q", "exits": ["127.0.0.7"] }] });
    gateway.replace("pools/q.json", more.to_string());
    gateway.replace("pools/notes.txt", "no pool file");
    let code = || gateway.connect("acme-pool-q", "127.0.0.1:1").1.code().to_owned();
    eventually("pool q is there", PICKED_UP, || (code() == "target_refused").then_some(()));
    fs::remove_file(gateway.dir().join("pools/q.json")).unwrap();
    eventually("pool q is gone", PICKED_UP, || (code() == "pool_forbidden").then_some(()));
}

#[test]
fn pins_of_a_pool_that_is_away_are_kept() {
    let gateway = Setup::addresses(8).start();
    let origin = Origin::start();
    let first = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    fs::rename(gateway.dir().join("pools/p.json"), gateway.dir().join("away.json")).unwrap();
    gateway.replace("pools/q.json", json!({ "pools": [{ "name": "q", "exits": ["direct"] }] }).to_string());
    let status = || gateway.get("acme-session-a", &origin.url("/ip")).status;
    eventually("the pool is away", PATIENCE, || (status() == 403).then_some(()));
    fs::rename(gateway.dir().join("away.json"), gateway.dir().join("pools/p.json")).unwrap();
    eventually("the pool is back", PATIENCE, || (status() == 200).then_some(()));
    let held = gateway.get("acme-session-a", &origin.url("/ip"));
    assert_eq!((held.news(), held.exit()), ("held", first.exit()));
}

#[test]
fn sighup_reloads_at_once() {
    let gateway = Setup::addresses(1).start();
    for n in 2..5 {
        // Sooner than any look at the file could be.
        gateway.write_pools(&pools(addresses(n)));
        let start = Instant::now();
        gateway.signal(Signal::HUP);
        joins(&gateway, n, PATIENCE);
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
}

#[test]
fn an_invalid_file_leaves_the_old_pools_in_force_and_says_where() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    let pinned = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    for (text, line, column, path) in [
        (
            "{\"pools\": [\n {\"name\": \"p\",\n  \"exits\": [{\"via\": \"127.0.0.300\"}]}]}",
            3,
            21,
            "pools[0].exits[0].via",
        ),
        ("{\"pools\": [\n {\"name\": \"p\", \"exit\": []}]}", 2, 16, "pools[0].exit"),
        (
            "{\"pools\": [{\"name\": \"p\",\n\"attempts\": \"three\", \"exits\": [\"direct\"]}]}",
            2,
            13,
            "pools[0].attempts",
        ),
        ("{\"pools\": [", 1, 11, ""),
    ] {
        let mark = gateway.log.mark();
        gateway.replace("pools/p.json", text);
        let found = gateway.log.wait_after(mark, "where it is wrong", |log| {
            log.has("p.json") && log.has(path) && log.has(&format!("{line}:{column}"))
        });
        assert!(found.has("ERROR") || found.has("WARN"), "{}", found.0);
        let held = gateway.get("acme-session-a", &origin.url("/ip")).ok();
        assert_eq!((held.news(), held.exit()), ("held", pinned.exit()));
    }
    gateway.write_pools(&pools(addresses(3)));
    joins(&gateway, 3, PATIENCE);
}

#[test]
fn a_half_written_file_never_takes_effect() {
    use std::io::Write;
    let gateway = Setup::addresses(1).start();
    let text = pools(addresses(9)).to_string();
    let mut file = fs::File::create(gateway.dir().join("pools/p.json")).unwrap();
    for part in text.as_bytes().chunks(text.len() / 12) {
        file.write_all(part).unwrap();
        file.flush().unwrap();
        gateway.get("acme", "http://127.0.0.1:1/").fails(502, "target_refused");
        std::thread::sleep(Duration::from_millis(60));
    }
    drop(file);
    joins(&gateway, 9, PATIENCE);
}

#[test]
fn reloads_under_load_break_no_tunnel_and_move_no_pin() {
    let gateway = Setup::addresses(6).start();
    let origin = Origin::start();
    let mut tunnels: Vec<_> = (0..6)
        .map(|n| gateway.tunnel(&format!("acme-session-t{n}-exit-e{}", n + 1), origin.address))
        .collect();
    let load = Load::start(&gateway, &origin.url("/ip"), 2);
    for round in 0..10_u8 {
        let mut exits = addresses(8);
        for exit in exits.as_array_mut().unwrap() {
            exit["weight"] = (1 + round % 3).into();
        }
        gateway.write_pools(&pools(exits));
        gateway.signal(Signal::HUP);
        load.wait_answers(20);
    }
    // Even without its exit a tunnel goes on.
    load.stop();
    gateway.write_pools(&pools(json!([crate::harness::setup::address(7)])));
    gateway.signal(Signal::HUP);
    eventually("e1 is gone", PATIENCE, || {
        (gateway.connect("acme-exit-e1", origin.address).1.code() == "exit_unknown").then_some(())
    });
    for (client, answer) in &mut tunnels {
        let seen = client.send("GET /ip HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET").ok();
        assert_eq!(Some(&*seen.text()), answer.address());
    }
}
