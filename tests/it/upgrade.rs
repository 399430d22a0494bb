//! A new process in the old one's place (SPEC §8, SIGUSR2).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::heir::{gone, lives};
use crate::harness::load::Load;
use crate::harness::operator::look;
use crate::harness::request::{Ask, get};
use crate::harness::{Client, Gateway, Heir, Origin, PATIENCE, Setup, Target, basic, eventually};

/// A line of the log behind `mark`.
#[track_caller]
fn says(gateway: &Gateway, mark: usize, what: &str) -> String {
    gateway.log.wait_after(mark, what, |line| line.has(what)).0
}

#[track_caller]
fn upgrade(gateway: &Gateway) -> Heir {
    Heir::of(gateway, gateway.pid())
}

/// The old process has ended well by itself.
#[track_caller]
fn old_ends(gateway: &Gateway) {
    let status = eventually("the old process ends", PATIENCE, || gateway.try_wait());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn under_load_no_client_notices_and_no_session_moves() {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    let load = Load::start(&gateway, &origin.url("/chunked"), 4);
    load.wait_answers(100);
    let mut heirs = vec![upgrade(&gateway)];
    load.wait_answers(100);
    old_ends(&gateway);
    for _ in 0..3 {
        let last = heirs.last().unwrap().0;
        heirs.push(Heir::of(&gateway, last));
        load.wait_answers(100);
        gone(last);
    }
    assert_eq!(load.noticed(), [] as [&str; 0]);
    for (session, exit) in load.stop() {
        let answer = gateway.get(&format!("acme-session-{session}-ttl-1h"), &origin.url("/ip")).ok();
        assert_eq!((answer.news(), answer.exit()), ("held", exit));
    }
}

#[test]
fn connections_that_come_all_the_time_are_never_refused() {
    let gateway = Setup::addresses(2).on_disk().start();
    let origin = Origin::start();
    let (address, url) = (gateway.listens(), origin.url("/ip"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = || {
            let mut count = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                address.get("acme-session-a-ttl-1h", &url).ok();
                address.get("acme", &url).ok();
                count += 1;
            }
            count
        };
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        let heir = upgrade(&gateway);
        let heir = Heir::of(&gateway, heir.0);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let counts: Vec<u32> = asking.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        heir.stop();
    });
}

#[test]
fn tunnels_and_requests_go_on_in_the_old_process_to_their_end() {
    let gateway = Setup::addresses(4).config("timeouts", json!({ "drain": "1s" })).on_disk().start();
    let origin = Origin::start();
    let (mut tunnel, answer) = gateway.tunnel("acme-session-t-ttl-1h", origin.address);
    let exit = answer.exit();
    let mut waiting = gateway.client();
    let pinned = basic("acme-session-w-ttl-1h");
    // The second one waits behind the first.
    waiting.send(get(&origin.url("/held"), &pinned) + &get(&origin.url("/ip"), &pinned));
    origin.wait_count(1);
    let old = gateway.pid();
    let heir = upgrade(&gateway);
    // The drain's time does not bound them.
    std::thread::sleep(Duration::from_millis(1200));
    tunnel.send("GET /ip HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET").ok();
    // The same session through the new process is the same exit.
    let answer = gateway.get("acme-session-t-ttl-1h", &origin.url("/ip")).ok();
    assert_eq!((answer.news(), answer.exit()), ("held", exit));
    origin.release();
    let first = waiting.answer("GET").ok();
    assert_eq!((&*first.text(), first.news(), first.has("connection", "close")), ("released", "new", false));
    // And the connection goes on in the new process, with what it had sent.
    let second = waiting.answer("GET").ok();
    assert_eq!((second.news(), second.exit()), ("held", first.exit()));
    waiting.send(get(&origin.url("/ip"), &pinned)).answer("GET").ok();
    assert!(lives(old), "the tunnel is still open");
    tunnel.send("GET /ip HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET").ok();
    drop(tunnel);
    old_ends(&gateway);
    waiting.send(get(&origin.url("/ip"), &pinned)).answer("GET").ok();
    heir.stop();
}

/// Of the user `acme`, as whoever serves now counts.
#[track_caller]
fn bytes_today(gateway: &Gateway) -> u64 {
    look(gateway, "/v1/users")["users"][0]["bytes_today"].as_u64().unwrap()
}

#[test]
fn what_old_processes_still_move_is_of_the_day() {
    let gateway = Setup::addresses(1).config("users.0.limits.bytes_per_day", "1GB").on_disk().start();
    let target = Target::open();
    let mut tunnel = gateway.tunnel("acme", &target).0;
    let mut far = target.accept();
    let mut moves = |bytes: usize| {
        tunnel.send(vec![7; bytes]);
        far.exactly(bytes);
    };
    moves(1000);
    eventually("it is counted", PATIENCE, || (bytes_today(&gateway) == 1000).then_some(()));
    let heir = upgrade(&gateway);
    moves(100_000);
    eventually("the new one counts it", PATIENCE, || (bytes_today(&gateway) == 101_000).then_some(()));
    let second = Heir::of(&gateway, heir.0);
    moves(100_000);
    eventually("so does its own heir", PATIENCE, || (bytes_today(&gateway) == 201_000).then_some(()));
    moves(50);
    drop((tunnel, far));
    old_ends(&gateway);
    gone(heir.0);
    let last = "the last words of the old ones";
    eventually(last, PATIENCE, || (bytes_today(&gateway) == 201_050).then_some(()));
    second.stop();
}

#[test]
fn idle_connections_and_halves_of_a_head_go_to_the_new_process() {
    let gateway = Setup::addresses(1).config("timeouts", json!({ "keep_alive": "60s" })).on_disk().start();
    let origin = Origin::start();
    let text = get(&origin.url("/ip"), &basic("acme-session-a"));
    let mut idle = gateway.client();
    idle.send(&text).answer("GET").ok();
    let mut silent = gateway.client();
    let mut half = gateway.client();
    half.send(&text[..40]);
    // It is served, so what came before it has been accepted.
    gateway.get("acme", &origin.url("/ip")).ok();
    let heir = upgrade(&gateway);
    old_ends(&gateway);
    half.send(&text[40..]).answer("GET").ok();
    silent.send(&text).answer("GET").ok();
    idle.send(&text).answer("GET").ok();
    heir.stop();
    idle.end().expect("the new process has closed it");
}

#[test]
fn a_new_process_that_fails_leaves_the_old_one_serving() {
    let mut setup = Setup::addresses(2).on_disk();
    setup.program = Some("gateway".to_owned());
    let gateway = Gateway::start(setup);
    let origin = Origin::start();
    let load = Load::start(&gateway, &origin.url("/ip"), 2);
    load.wait_answers(20);
    let (mut tunnel, _) = gateway.tunnel("acme-session-t", origin.address);
    let good = fs::read_to_string(gateway.dir().join("moorgate.json")).unwrap();
    let program = gateway.dir().join("gateway");
    let mut fails = |why: &str| {
        let mark = gateway.log.mark();
        gateway.signal(Signal::USR2);
        let line = says(&gateway, mark, "not upgraded");
        assert!(line.contains(why), "{line}");
        load.wait_answers(20);
        tunnel.send("GET /ip HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET").ok();
    };
    // A configuration with a mistake, and one that cannot be bound.
    gateway.replace("moorgate.json", good.replace("\"users\"", "\"usres\""));
    fails("exit status: 2");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_at = taken.local_addr().unwrap().to_string();
    gateway.replace("moorgate.json", good.replacen("127.0.0.1:0", &taken_at, 1));
    fails("exit status: 1");
    gateway.replace("moorgate.json", &good);
    // Another program, and none.
    let binary = fs::read(&program).unwrap();
    let put = |bytes: &[u8]| {
        gateway.replace("gateway", bytes);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    put(b"#!/bin/sh\nexit 7\n");
    fails("exit status: 7");
    fs::remove_file(&program).unwrap();
    fails("cannot be started");
    assert_eq!(load.noticed(), [] as [&str; 0]);
    // Then the right one.
    put(&binary);
    let heir = upgrade(&gateway);
    load.wait_answers(20);
    assert_eq!(load.noticed(), [] as [&str; 0]);
    drop(load);
    heir.stop();
}

/// The worst moment: the old process has let go of the state folder.
#[test]
fn a_new_process_that_cannot_open_the_state_gives_it_back() {
    let gateway = Setup::addresses(4).on_disk().start();
    let other = Setup::addresses(1).on_disk().start();
    let origin = Origin::start();
    let load = Load::start(&gateway, &origin.url("/ip"), 3);
    load.wait_answers(50);
    // The new process wants a folder that another gateway has.
    let good = fs::read_to_string(gateway.dir().join("moorgate.json")).unwrap();
    let taken = format!("file:{}", other.state().display());
    gateway.replace("moorgate.json", good.replace("file:state", &taken));
    for _ in 0..3 {
        let mark = gateway.log.mark();
        gateway.signal(Signal::USR2);
        let line = says(&gateway, mark, "not upgraded");
        assert!(line.contains("ended before it served"), "{line}");
        load.wait_answers(50);
    }
    assert_eq!(load.noticed(), [] as [&str; 0]);
    let seen = load.stop();
    gateway.replace("moorgate.json", &good);
    // All that was promised before, meanwhile and after is on disk.
    gateway.crash();
    for (session, exit) in seen {
        let answer = gateway.get(&format!("acme-session-{session}-ttl-1h"), &origin.url("/ip")).ok();
        assert_eq!((answer.news(), answer.exit()), ("held", exit));
    }
}

#[test]
fn a_second_signal_changes_nothing() {
    let gateway = Setup::addresses(1).on_disk().start();
    let origin = Origin::start();
    let (tunnel, _) = gateway.tunnel("acme", origin.address);
    let mark = gateway.log.mark();
    gateway.signal(Signal::USR2);
    says(&gateway, mark, "upgrading");
    gateway.signal(Signal::USR2);
    let line = says(&gateway, mark, "upgraded: the new process");
    let pid = line.split("pid=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let heir = Heir(pid.parse().unwrap());
    gateway.signal(Signal::USR2);
    says(&gateway, mark, "on its way out");
    drop(tunnel);
    old_ends(&gateway);
    gateway.get("acme", &origin.url("/ip")).ok();
    heir.stop();
}

#[test]
fn sigterm_ends_the_old_process_before_and_after() {
    // While the new one starts: it does not come to serve.
    let mut setup = Setup::addresses(1).on_disk();
    setup.program = Some("gateway".to_owned());
    let gateway = Gateway::start(setup);
    let program = gateway.dir().join("gateway");
    let binary = fs::read(&program).unwrap();
    gateway.replace("gateway", "#!/bin/sh\nexec sleep 60\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mark = gateway.log.mark();
    gateway.signal(Signal::USR2);
    says(&gateway, mark, "upgrading");
    gateway.terminate();
    says(&gateway, mark, "told to end meanwhile");
    assert_eq!(gateway.wait().code(), Some(0));
    // Once the new one serves, the old one's drain is its own.
    gateway.replace("gateway", &binary);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    gateway.launch();
    let origin = Origin::start();
    let (mut tunnel, _) = gateway.tunnel("acme", origin.address);
    let heir = upgrade(&gateway);
    let mark = gateway.log.mark();
    gateway.terminate();
    says(&gateway, mark, "draining");
    gateway.terminate();
    old_ends(&gateway);
    let _ = tunnel.end();
    gateway.get("acme", &origin.url("/ip")).ok();
    heir.stop();
}

#[test]
fn a_changed_configuration_comes_into_force_with_the_new_process() {
    let gateway = Setup::addresses(2).listener(json!({ "pool": "p", "ttl": "1h" })).on_disk().start();
    let origin = Origin::start();
    let (kept, left) = (gateway.listener(0), gateway.listener(1));
    let mut idle = left.client();
    idle.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").ok();
    let config = fs::read_to_string(gateway.dir().join("moorgate.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["listeners"] = json!([{ "bind": "127.0.0.1:0" }, { "bind": "127.0.0.2:0" }]);
    config["users"][0]["password"] = "another-secret".into();
    gateway.replace("moorgate.json", config.to_string());
    let mark = gateway.log.mark();
    let heir = upgrade(&gateway);
    let new = gateway
        .log
        .wait_after(mark, "another listener", |line| line.has("listening") && line.has("127.0.0.2"));
    old_ends(&gateway);
    idle.end().expect("its listener is gone, and so is it");
    Client::try_open(left).err().expect("nobody listens there");
    gateway.get("acme", &origin.url("/ip")).fails(407, "auth_failed");
    for address in [kept, new.field("address").unwrap().parse().unwrap()] {
        let fields = crate::harness::request::basic_as("acme", "another-secret");
        address.client().send(get(&origin.url("/ip"), &fields)).answer("GET").ok();
    }
    heir.stop();
}

#[test]
fn the_operators_listener_goes_on_without_a_gap() {
    let gateway = Setup::addresses(1).on_disk().start();
    let origin = Origin::start();
    let (_tunnel, _) = gateway.tunnel("acme", origin.address);
    let ask = || {
        let mut client = gateway.admin().client();
        client.send("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").answer("GET").status
    };
    assert_eq!(ask(), 200);
    let heir = upgrade(&gateway);
    assert_eq!(ask(), 200);
    assert!(lives(gateway.pid()));
    heir.stop();
    assert!(Client::try_open(gateway.admin()).is_err(), "nobody has a copy of the socket");
    assert!(Client::try_open(gateway.listens()).is_err());
}

#[test]
fn nothing_is_inherited_but_what_is_meant() {
    let gateway = Setup::addresses(1).on_disk().start();
    let origin = Origin::start();
    let (_tunnel, _) = gateway.tunnel("acme", origin.address);
    let heir = upgrade(&gateway);
    let sockets = |pid: u32| -> Vec<String> {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        links
            .map(|link| link.to_string_lossy().into_owned())
            .filter(|link| link.starts_with("socket:"))
            .collect()
    };
    // What it gives away it lets go of, in a moment.
    eventually("the old process has none of the new one's sockets", PATIENCE, || {
        let (old, new) = (sockets(gateway.pid()), sockets(heir.0));
        (!old.iter().any(|socket| new.contains(socket))).then_some(())
    });
    assert_eq!(fs::read_link(format!("/proc/{}/fd/0", heir.0)).unwrap().to_string_lossy(), "/dev/null");
    heir.stop();
}
