//! The command line over the operator's API (SPEC §7): `pools`, `exits`,
//! `sessions`, `users`, `reload`, `top`, completions and manual pages.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::gateway::{MOORGATE, run};
use crate::harness::operator::{look, session};
use crate::harness::request::Ask;
use crate::harness::{Gateway, Origin, Setup, own_address};

/// What a command said.
#[derive(Debug)]
struct Said {
    status: i32,
    out: String,
    err: String,
}

#[track_caller]
fn said(dir: &std::path::Path, arguments: &[&str]) -> Said {
    let output = run(dir, arguments, "");
    Said {
        status: output.status.code().expect("it ended by itself"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Says it to this gateway.
#[track_caller]
fn tell(gateway: &Gateway, arguments: &[&str]) -> Said {
    let admin = gateway.admin().to_string();
    said(gateway.dir(), &[arguments, &["--admin", &admin]].concat())
}

/// What it says when all is well.
#[track_caller]
fn ok(gateway: &Gateway, arguments: &[&str]) -> String {
    let said = tell(gateway, arguments);
    assert!(said.status == 0 && said.err.is_empty(), "{arguments:?}: {said:?}");
    said.out
}

#[track_caller]
fn json(gateway: &Gateway, arguments: &[&str]) -> Value {
    serde_json::from_str(&ok(gateway, &[arguments, &["--json"]].concat())).expect("JSON")
}

#[track_caller]
fn fails(said: &Said, status: i32, words: &[&str]) {
    assert_eq!((said.status, said.out.as_str()), (status, ""), "{said:?}");
    words.iter().for_each(|word| assert!(said.err.contains(word), "no {word:?} in {}", said.err));
    assert!(!said.err.contains("panicked"), "{}", said.err);
}

fn make(gateway: &Gateway, origin: &Origin, name: &str) {
    gateway.get(&format!("acme-session-{name}-ttl-1h"), &origin.url("/ip")).ok();
}

/// The cells of the one line that has this one.
#[track_caller]
fn line<'t>(table: &'t str, cell: &str) -> Vec<&'t str> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|cells| cells.contains(&cell)).unwrap_or_else(|| panic!("no {cell} in\n{table}"))
}

#[test]
fn lists_are_tables_for_people_and_json_for_programs() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    make(&gateway, &origin, "cart42");
    let exit = session(&gateway, "cart42")["exit"].as_str().unwrap().to_owned();

    let pools = ok(&gateway, &["pools"]);
    assert_eq!(line(&pools, "POOL")[..3], ["POOL", "EXITS", "ACTIVE"]);
    assert_eq!(line(&pools, "p")[..7], ["p", "2", "2", "0", "0", "0", "1"]);
    let exits = ok(&gateway, &["exits"]);
    assert_eq!(line(&exits, &format!("p/{exit}"))[1..4], ["active", "healthy", "1"]);
    let sessions = ok(&gateway, &["sessions"]);
    assert_eq!(line(&sessions, "cart42")[1..5], ["acme", "p", "cart42", &exit]);
    let users = ok(&gateway, &["users"]);
    assert_eq!(line(&users, "acme")[..2], ["acme", "1"]);
    // A column begins where its head does.
    let begins = |text: &str, word: &str| text.lines().map(|line| line.find(word)).collect::<Vec<_>>();
    assert_eq!(begins(&sessions, "SESSION")[0], begins(&sessions, "cart42")[1], "{sessions}");

    let listed = json(&gateway, &["sessions"]);
    assert_eq!(listed["sessions"][0]["key"], session(&gateway, "cart42")["key"]);
    assert_eq!(listed["next"], Value::Null);
    assert_eq!(json(&gateway, &["pools"]), look(&gateway, "/v1/pools"));
    assert_eq!(json(&gateway, &["users"]), look(&gateway, "/v1/users"));
    assert_eq!(json(&gateway, &["exits"])["exits"].as_array().unwrap().len(), 2);
}

#[test]
fn filters_narrow_a_list() {
    let gateway = Setup::addresses(2).another_pool(json!({ "name": "q", "exits": ["127.0.0.9"] })).start();
    let origin = Origin::start();
    make(&gateway, &origin, "a");
    gateway.get("acme-session-b-pool-q", &origin.url("/ip")).ok();
    let names = |arguments: &[&str]| {
        let listed = json(&gateway, &[&["sessions"], arguments].concat());
        let mut names: Vec<_> =
            listed["sessions"].as_array().unwrap().iter().map(|one| one["session"].to_string()).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(&[]), "\"a\" \"b\"");
    assert_eq!(names(&["--pool", "q"]), "\"b\"");
    assert_eq!(names(&["--session", "a", "--user", "acme"]), "\"a\"");
    assert_eq!(names(&["--user", "nobody else"]), "");
    assert_eq!(names(&["--exit", "nowhere & more"]), "");
    assert_eq!(ok(&gateway, &["exits", "--pool", "q"]).lines().count(), 2);
}

#[test]
fn every_page_of_a_list_is_joined() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let user = |at: usize| format!("acme-session-s{at:04}");
    (0..1003).for_each(|at| drop(gateway.get(&user(at), &origin.url("/ip")).ok()));
    let listed = json(&gateway, &["sessions"]);
    let mut names: Vec<_> =
        listed["sessions"].as_array().unwrap().iter().map(|one| one["session"].to_string()).collect();
    names.sort();
    names.dedup();
    assert_eq!((names.len(), &listed["next"]), (1003, &Value::Null));
    assert_eq!(ok(&gateway, &["sessions"]).lines().count(), 1004);
}

#[test]
fn a_session_is_ended_moved_and_extended() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    make(&gateway, &origin, "a");
    let before = session(&gateway, "a");
    let key = before["key"].as_str().unwrap().to_owned();
    let from = before["exit"].as_str().unwrap();
    let to = if from == "e1" { "e2" } else { "e1" };

    let moved = ok(&gateway, &["sessions", "move", &key, "--exit", to]);
    assert_eq!(moved, format!("moved session a of acme in p: it is on {to}\n"));
    assert_eq!(session(&gateway, "a")["exit"], to);
    assert_eq!(json(&gateway, &["sessions", "move", "--session", "a"])["exit"], from);
    let extended = ok(&gateway, &["sessions", "extend", &key, "48h"]);
    assert!(extended.starts_with("extended session a of acme in p: it ends at 2"), "{extended}");
    assert!(session(&gateway, "a")["ends_in"].as_u64().unwrap() > 170_000);
    ok(&gateway, &["sessions", "extend", "--session", "a", "72h"]);
    assert!(session(&gateway, "a")["ends_in"].as_u64().unwrap() > 250_000);
    let ended = ok(&gateway, &["sessions", "--session", "a", "--user", "acme", "end"]);
    assert_eq!(ended, format!("ended session a of acme in p: it was on {from}\n"));
    assert_eq!(look(&gateway, "/v1/sessions")["sessions"], json!([]));
}

#[test]
fn a_name_must_mean_one_session() {
    let gateway = Setup::addresses(1).another_pool(json!({ "name": "q", "exits": ["127.0.0.9"] })).start();
    let origin = Origin::start();
    make(&gateway, &origin, "a");
    gateway.get("acme-session-a-pool-q", &origin.url("/ip")).ok();
    let said = tell(&gateway, &["sessions", "end", "--session", "a"]);
    fails(&said, 1, &["several sessions are called a", "--pool", "KEY", " q "]);
    fails(&tell(&gateway, &["sessions", "end", "--session", "b"]), 1, &["no session is called b"]);
    fails(&tell(&gateway, &["sessions", "end"]), 2, &["--session NAME"]);
    fails(&tell(&gateway, &["sessions", "end", "abc", "--session", "a"]), 2, &["a key says it all"]);
    fails(&tell(&gateway, &["sessions", "end", "abc"]), 1, &["The session key is invalid: ", "32 hex"]);
    fails(&tell(&gateway, &["sessions", "--exit", "e1", "end", "--session", "a"]), 2, &["for the list"]);
    fails(&tell(&gateway, &["sessions", "--watch", "end", "--session", "a"]), 2, &["for the list"]);
    assert_eq!(json(&gateway, &["sessions"])["sessions"].as_array().unwrap().len(), 2);
    ok(&gateway, &["sessions", "end", "--session", "a", "--pool", "q"]);
    assert_eq!(session(&gateway, "a")["pool"], "p");
}

#[test]
fn an_exit_is_switched_and_a_dry_run_only_says_so() {
    let gateway = Setup::new(json!([{ "id": "a/b?c", "via": "127.0.0.5" }, "127.0.0.6"])).start();
    let state = || look(&gateway, "/v1/exits/p/a%2Fb%3Fc")["state"].clone();
    let would = ok(&gateway, &["exits", "off", "p/a/b?c", "--dry-run"]);
    assert!(would.starts_with("p/a/b?c would be off (was active)\n0 sessions"), "{would}");
    assert_eq!(state(), "active");
    assert!(ok(&gateway, &["exits", "off", "p/a/b?c"]).starts_with("p/a/b?c is off (was active)\n"));
    assert_eq!(state(), "off");
    assert_eq!(json(&gateway, &["exits", "drain", "p/a/b?c"])["state"], "drain");
    ok(&gateway, &["exits", "active", "p/a/b?c"]);
    ok(&gateway, &["exits", "reset", "p/a/b?c"]);
    assert_eq!(state(), "active");
    fails(&tell(&gateway, &["exits", "off", "nowhere"]), 2, &["expected POOL/ID"]);
    fails(&tell(&gateway, &["exits", "--pool", "p", "off", "p/a/b?c"]), 2, &["for the list"]);
    fails(&tell(&gateway, &["exits", "off", "q/x"]), 1, &["There is no such pool: "]);
    let said = tell(&gateway, &["exits", "off", "q/x", "--json"]);
    let problem: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.status, said.err.as_str(), &problem["code"]), (1, "", &json!("pool_unknown")));
}

#[test]
fn a_reload_says_what_is_wrong_in_the_files() {
    let gateway = Setup::addresses(1).start();
    assert_eq!(ok(&gateway, &["reload"]), "reloaded: 1 pools are in force\n");
    gateway.replace("pools/p.json", r#"{"pools": [{"name": "p", "exists": []}]}"#);
    fails(&tell(&gateway, &["reload"]), 1, &["The files are wrong: ", "\n  ", "p.json:1:", "exists"]);
    let pools = ok(&gateway, &["pools"]);
    assert!(pools.contains("files were wrong at 2") && pools.contains("exists"), "{pools}");
}

#[test]
fn the_token_comes_from_a_file_or_the_environment() {
    let gateway = Setup::addresses(1).config("admin.token", "t0ken-of-the-operator").start();
    fails(&tell(&gateway, &["pools"]), 1, &["token", "--token-file", "MOORGATE_ADMIN_TOKEN"]);
    gateway.replace("token", "t0ken-of-the-operator\n");
    ok(&gateway, &["pools", "--token-file", "token"]);
    gateway.replace("token", "another");
    let said = tell(&gateway, &["pools", "--token-file", "token"]);
    fails(&said, 1, &["token"]);
    assert!(!said.err.contains("another"), "{}", said.err);
    fails(&tell(&gateway, &["pools", "--token-file", "nowhere"]), 2, &["nowhere: cannot read the token"]);
    fails(&tell(&gateway, &["pools", "--token", "x"]), 2, &["unexpected argument"]);
    let admin = gateway.admin().to_string();
    let with = Command::new(MOORGATE)
        .args(["pools", "--admin", &admin])
        .env("MOORGATE_ADMIN_TOKEN", "t0ken-of-the-operator")
        .output();
    assert!(with.unwrap().status.success());
}

#[test]
fn a_gateway_that_is_not_there_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody else may take this address in between.
    let nobody = format!("{}:9", own_address());
    let gone = said(dir.path(), &["pools", "--admin", &nobody]);
    fails(&gone, 1, &["no gateway answers", &nobody, "--admin", "--config", "moorgate run"]);
    fails(&said(dir.path(), &["pools", "--admin", "https://x:1"]), 2, &["without TLS", "http://x:1"]);
    fails(&said(dir.path(), &["pools", "--admin", "x:0"]), 2, &["expected HOST:PORT"]);
    fails(&said(dir.path(), &["pools", "--config", "none.json"]), 2, &["none.json"]);
    std::fs::write(dir.path().join("m.json"), r#"{"admin": null}"#).unwrap();
    fails(&said(dir.path(), &["pools", "--config", "m.json"]), 2, &["no admin listener"]);
    let at = format!(r#"{{"admin": {{"bind": "{nobody}"}}}}"#);
    std::fs::write(dir.path().join("m.json"), at).unwrap();
    fails(&said(dir.path(), &["sessions", "end", "x", "--config", "m.json"]), 1, &[&nobody]);
    // Not everything that listens is a gateway.
    let origin = Origin::start();
    let other = origin.url("").replace("http://", "");
    fails(&said(dir.path(), &["pools", "--admin", &other]), 1, &["no admin listener of Moorgate"]);
}

#[test]
fn a_watch_shows_it_again_until_it_is_interrupted() {
    let gateway = Setup::addresses(1).start();
    let admin = gateway.admin().to_string();
    let mut child = Command::new(MOORGATE)
        .args(["pools", "--watch=1", "--json", "--admin", &admin])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).expect("JSON on a line");
        assert_eq!(line["pools"][0]["name"], "p");
    }
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "");
    // A reader that goes away ends it, too.
    let mut child = Command::new(MOORGATE)
        .args(["exits", "--watch=1", "--admin", &admin])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("EXIT  "), "{first}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// `script` (of the essential package bsdutils) is the terminal.
#[test]
fn top_takes_a_terminal_and_gives_it_back() {
    let gateway = Setup::addresses(1).start();
    fails(&tell(&gateway, &["top"]), 2, &["needs a terminal"]);
    let command = format!("stty rows 20 cols 100; exec {MOORGATE} top --admin {}", gateway.admin());
    let mut child = Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script (Debian package bsdutils)");
    let mut keys = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut drawn = Vec::new();
    let mut until = |word: &str| {
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&drawn).contains(word) {
            let read = screen.read(&mut piece).unwrap();
            assert!(read > 0, "no {word:?} in {}", String::from_utf8_lossy(&drawn));
            drawn.extend_from_slice(&piece[..read]);
        }
    };
    until("ROTATION");
    keys.write_all(b"2").unwrap();
    until("healthy");
    keys.write_all(b"q").unwrap();
    until("\u{1b}[?1049l");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn completions_and_manual_pages_are_made_of_the_arguments() {
    let dir = tempfile::tempdir().unwrap();
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef moorgate"), ("fish", "complete -c moorgate")]
    {
        let said = said(dir.path(), &["completions", shell]);
        assert!(said.status == 0 && said.out.contains(word) && said.out.contains("extend"), "{shell}");
    }
    let bash = said(dir.path(), &["completions", "bash"]).out;
    std::fs::write(dir.path().join("moorgate.bash"), bash).unwrap();
    let parsed = Command::new("bash").arg("-n").arg(dir.path().join("moorgate.bash")).status();
    assert!(parsed.expect("bash (Debian package bash)").success());
    let page = said(dir.path(), &["man"]);
    assert!(page.out.contains(".TH moorgate 1") && page.out.contains("sessions"), "{page:?}");
    std::fs::create_dir(dir.path().join("man1")).unwrap();
    assert_eq!(said(dir.path(), &["man", "--out", "man1"]).status, 0);
    for name in ["moorgate.1", "moorgate-exits.1", "moorgate-sessions-extend.1"] {
        let page = std::fs::read_to_string(dir.path().join("man1").join(name)).expect(name);
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    fails(&said(dir.path(), &["man", "--out", "nowhere"]), 1, &["nowhere"]);
}
