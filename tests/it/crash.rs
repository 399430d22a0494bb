//! What survives: SIGKILL under load, a damaged state file, a full disk
//! (SPEC §3.3).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::load::Load;
use crate::harness::request::{Ask, get};
use crate::harness::{Gateway, Origin, PATIENCE, Setup, basic, eventually};

/// Every session of `seen` is held where it was, unless it may be lost.
#[track_caller]
fn lost(gateway: &Gateway, url: &str, seen: &HashMap<String, String>) -> usize {
    let mut client = gateway.client();
    let mut lost = 0;
    for (session, exit) in seen {
        let fields = basic(&format!("acme-session-{session}-ttl-1h"));
        let answer = client.send(get(url, &fields)).answer("GET").ok();
        match answer.news() {
            "held" => assert_eq!(answer.exit(), *exit, "session {session} moved"),
            "new" => lost += 1,
            other => panic!("session {session} is {other}"),
        }
    }
    lost
}

#[test]
fn twenty_kills_under_load_lose_and_move_no_pin_that_was_seen() {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    let load = Load::start(&gateway, &origin.url("/ip"), 3);
    for round in 0..20_u64 {
        load.wait_answers(10);
        // Any moment is as good as another.
        std::thread::sleep(Duration::from_millis(round * 7 % 40));
        gateway.crash();
        load.follow(&gateway);
    }
    load.wait_answers(10);
    let seen = load.stop();
    assert!(seen.len() > 100, "only {} sessions", seen.len());
    gateway.crash();
    assert_eq!(lost(&gateway, &origin.url("/ip"), &seen), 0, "of {}", seen.len());
}

#[test]
fn a_pin_is_on_disk_before_its_first_answer() {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    for n in 0..5 {
        let name = format!("acme-session-s{n}-ttl-1h");
        let first = gateway.get(&name, &origin.url("/ip")).ok();
        gateway.crash();
        let again = gateway.get(&name, &origin.url("/ip")).ok();
        assert_eq!((again.news(), again.exit()), ("held", first.exit()));
        let (before, after) = (first.session("expires-in"), again.session("expires-in"));
        assert!(after <= before, "at most the ttl is left: {before:?}, {after:?}");
    }
}

#[test]
fn fsync_keeps_pins_too() {
    let gateway = Setup::addresses(8).config("sessions.durability", "fsync").on_disk().start();
    let origin = Origin::start();
    let seen = pin(&gateway, &origin, 0..20);
    gateway.crash();
    assert_eq!(lost(&gateway, &origin.url("/ip"), &seen), 0);
}

#[test]
fn memory_forgets_and_says_so_by_new() {
    let gateway = Setup::addresses(8).start();
    let origin = Origin::start();
    let seen = pin(&gateway, &origin, 0..5);
    assert_eq!(lost(&gateway, &origin.url("/ip"), &seen), 0);
    gateway.crash();
    assert_eq!(lost(&gateway, &origin.url("/ip"), &seen), 5);
}

fn pin(gateway: &Gateway, origin: &Origin, sessions: std::ops::Range<u32>) -> HashMap<String, String> {
    let mut client = gateway.client();
    let one = |n: u32| {
        let fields = basic(&format!("acme-session-s{n}-ttl-1h"));
        let answer = client.send(get(&origin.url("/ip"), &fields)).answer("GET").ok();
        (format!("s{n}"), answer.exit())
    };
    sessions.map(one).collect()
}

/// The file that was written last, and where its written part ends.
fn newest(state: &Path) -> (PathBuf, usize) {
    fn files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() { files(&entry, found) } else { found.push(entry) }
        }
    }
    let mut found = Vec::new();
    files(state, &mut found);
    let time = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).expect("its time");
    let written = |path: &PathBuf| {
        let bytes = fs::read(path).expect("a file");
        bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    };
    found.retain(|path| written(path) > 64);
    let path = found.into_iter().max_by_key(time).expect("a state file");
    let end = written(&path);
    (path, end)
}

/// Pins, a kill, damage to the tail, and a start that says what it cost.
#[track_caller]
fn check_damage(damage: impl Fn(&mut Vec<u8>, usize)) {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    let early = pin(&gateway, &origin, 0..100);
    let late = pin(&gateway, &origin, 100..110);
    gateway.kill();
    let (path, end) = newest(&gateway.state());
    let mut bytes = fs::read(&path).expect("a file");
    damage(&mut bytes, end);
    fs::write(&path, bytes).expect("the damage is done");
    gateway.launch();
    let file = path.file_name().expect("a name").to_string_lossy().into_owned();
    gateway.log.wait_for("state_damaged and the file", |line| line.has("state_damaged") && line.has(&file));
    assert_eq!(lost(&gateway, &origin.url("/ip"), &early), 0, "old pins are untouched");
    let gone = lost(&gateway, &origin.url("/ip"), &late);
    assert!(gone <= 3, "{gone} pins lost with a few bytes");
    // And it goes on as ever.
    let more = pin(&gateway, &origin, 200..210);
    gateway.crash();
    assert_eq!(lost(&gateway, &origin.url("/ip"), &more), 0);
}

#[test]
fn a_cut_tail_costs_only_itself() {
    check_damage(|bytes, end| bytes.truncate(end - 9));
}

#[test]
fn a_torn_tail_costs_only_itself() {
    // The file kept its length, the last bytes never came.
    check_damage(|bytes, end| bytes[end - 20..].fill(0));
}

#[test]
fn a_zeroed_tail_costs_only_itself() {
    check_damage(|bytes, end| {
        bytes.truncate(end);
        bytes[end - 33..].fill(0);
        bytes.extend([0; 4096]);
    });
}

#[test]
fn a_garbled_tail_costs_only_itself() {
    check_damage(|bytes, end| bytes[end - 40..end].iter_mut().for_each(|byte| *byte ^= 0x5a));
}

#[test]
fn a_second_gateway_on_the_same_state_is_refused() {
    let gateway = Setup::addresses(1).on_disk().start();
    let output = crate::harness::gateway::run(gateway.dir(), &["run", "--config", "moorgate.json"], "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("state"), "{said}");
}

/// Runs the gateway where its state folder is a small file system.
const SMALL_DISK: &str = "mount -t tmpfs -o size=24m,mode=777 none {dir}/state && exec \"$@\"";

#[test]
fn a_full_disk_refuses_new_sessions_and_keeps_the_old() {
    let mut setup = Setup::addresses(8);
    let wrap = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", SMALL_DISK, "sh"];
    setup.wrap = wrap.map(str::to_owned).to_vec();
    let gateway = setup.on_disk().start();
    let origin = Origin::start();
    let seen = pin(&gateway, &origin, 0..20);
    // The namespace's own view of its file system.
    let inside = PathBuf::from(format!("/proc/{}/root", gateway.pid()));
    let filler = inside.join(gateway.state().strip_prefix("/").expect("a full path")).join("filler");
    fill(&filler);
    let mut n = 1000;
    let refused = eventually("a new session is refused", PATIENCE, || {
        n += 1;
        let answer = gateway.get(&format!("acme-session-s{n}-ttl-1h"), &origin.url("/ip"));
        (answer.status != 200).then_some(answer)
    });
    assert!(refused.fails(503, "store_unavailable").retry_after().is_some());
    let url = origin.url("/ip");
    assert_eq!(lost(&gateway, &url, &seen), 0);
    gateway.get("acme", &url).ok();
    gateway.get(&format!("acme-session-s{n}-ttl-1h"), &url).fails(503, "store_unavailable");
    fs::remove_file(filler).expect("room again");
}

fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).expect("a file in the small file system");
    for size in [65_536, 512, 1] {
        let block = vec![b'x'; size];
        while file.write_all(&block).is_ok() {}
    }
}
