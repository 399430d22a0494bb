//! A service manager's sockets and messages, as systemd passes them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::gateway::MOORGATE;
use crate::harness::request::{Ask, get};
use crate::harness::{Client, Gateway, Heir, Origin, PATIENCE, Setup, basic};

/// Passes standard input on as systemd passes a socket.
fn activated(mut setup: Setup, socket: TcpListener, name: &str) -> Setup {
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    setup.wrap = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    setup.stdin = Some(Arc::new(socket.into()));
    setup.env("LISTEN_FDNAMES", name)
}

#[test]
fn a_passed_socket_serves_the_listener_of_its_address() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let origin = Origin::start();
    // Who comes before the gateway is there waits with the kernel.
    let mut early = Client::open(address);
    early.send(get(&origin.url("/ip"), &basic("acme")));
    let setup = Setup::addresses(1).config(
        "listeners",
        json!([{ "bind": address.to_string(), "ttl": "1h" }, { "bind": "127.0.0.1:0" }]),
    );
    let gateway = activated(setup, socket, "moorgate.socket").on_disk().start();
    assert_eq!(gateway.listener(0), address);
    early.answer("GET").ok();
    let (tunnel, answer) = gateway.tunnel("acme-session-a", origin.address);
    // The passed one is handed on as any other.
    let heir = Heir::of(&gateway, gateway.pid());
    let held = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    assert_eq!((held.news(), held.exit()), ("held", answer.exit()));
    drop(tunnel);
    heir.stop();
}

#[test]
fn a_name_finds_its_listener_wherever_it_is_bound() {
    for (name, is_admin) in [("listener-1", false), ("admin", true)] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let gateway = activated(Setup::addresses(1), socket, name).start();
        assert_eq!((gateway.listener(0) == address, gateway.admin() == address), (!is_admin, is_admin));
    }
}

#[test]
fn a_passed_socket_that_nothing_is_configured_for_stops_the_start() {
    let setup = Setup::addresses(1);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let dir = crate::harness::gateway::write(&setup);
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=x exec \"$0\" \"$@\"";
    let out = Command::new("sh")
        .args(["-c", script, MOORGATE, "run", "--config", "moorgate.json"])
        .current_dir(dir.path())
        .stdin(std::os::fd::OwnedFd::from(socket))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    let wanted = format!("nothing is configured for the passed sockets: {address} (x)");
    assert!(said.contains(&wanted), "{said}");
}

#[test]
fn what_was_passed_to_another_process_is_let_alone() {
    let setup = Setup::addresses(1).env("LISTEN_PID", "1").env("LISTEN_FDS", "3");
    let gateway = setup.start();
    let origin = Origin::start();
    gateway.get("acme", &origin.url("/ip")).ok();
}

/// A service manager's ear.
struct Ear(UnixDatagram);

impl Ear {
    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The next message that is no sign of life.
    #[track_caller]
    fn next(&self) -> String {
        loop {
            let heard = self.hears();
            if heard != "WATCHDOG=1" {
                return heard;
            }
        }
    }
}

fn managed(setup: Setup) -> (Gateway, Ear, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let gateway = setup.env("NOTIFY_SOCKET", path.to_str().unwrap()).start();
    (gateway, Ear(socket), dir)
}

#[test]
fn the_manager_hears_of_start_reload_and_end() {
    let (gateway, ear, _dir) = managed(Setup::addresses(1));
    assert_eq!(ear.next(), "READY=1\nSTATUS=serving");
    for _ in 0..2 {
        gateway.signal(Signal::HUP);
        let reloading = ear.next();
        let mut lines = reloading.lines();
        assert_eq!(lines.next(), Some("RELOADING=1"));
        let time = lines.next().and_then(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(time.is_some_and(|time| time.parse::<u64>().is_ok()), "{reloading}");
        assert!(ear.next().starts_with("READY=1"));
    }
    // Also of one that changes nothing because it is wrong.
    gateway.replace("moorgate.json", "{");
    gateway.signal(Signal::HUP);
    assert!(ear.next().starts_with("RELOADING=1"));
    assert!(ear.next().starts_with("READY=1"));
    gateway.terminate();
    assert!(ear.next().starts_with("STOPPING=1"));
    gateway.wait();
}

#[test]
fn the_manager_hears_who_is_the_service_and_only_from_it() {
    let (gateway, ear, _dir) = managed(Setup::addresses(1).on_disk());
    assert!(ear.next().starts_with("READY=1"));
    let origin = Origin::start();
    let (tunnel, _) = gateway.tunnel("acme", origin.address);
    let heir = Heir::of(&gateway, gateway.pid());
    assert_eq!(ear.next(), format!("MAINPID={}", heir.0));
    assert!(ear.next().starts_with("READY=1"));
    // The old one's end is none of the service's.
    let mark = gateway.log.mark();
    drop(tunnel);
    gateway.log.wait_after(mark, "the old process stops", |line| line.has("stopped"));
    heir.signal(Signal::HUP);
    assert!(ear.next().starts_with("RELOADING=1"));
    assert!(ear.next().starts_with("READY=1"));
    heir.stop();
    assert!(ear.next().starts_with("STOPPING=1"));
}

#[test]
fn a_watchdog_gets_signs_of_life() {
    let (gateway, ear, _dir) = managed(Setup::addresses(1).env("WATCHDOG_USEC", "100000"));
    for _ in 0..3 {
        while ear.hears() != "WATCHDOG=1" {}
    }
    drop(gateway);
}

#[test]
fn the_units_are_what_systemd_understands() {
    understood(&["examples/systemd/moorgate.service", "examples/systemd/moorgate.socket"]);
    understood(&["packaging/debian/moorgate.service"]);
}

fn understood(units: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for unit in units {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(unit);
        let text = fs::read_to_string(&source).unwrap();
        let path = dir.path().join(source.file_name().unwrap());
        // It looks whether the program is there.
        let text = text.replace("/usr/local/bin/moorgate", MOORGATE).replace("/usr/bin/moorgate", MOORGATE);
        fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let out = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&paths)
        .output()
        .unwrap_or_else(|error| panic!("systemd-analyze ({error}): install the Debian package systemd"));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("moorgate")).collect();
    assert!(out.status.success() && ours.is_empty(), "{said}");
}
