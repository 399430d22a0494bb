//! The command line: `run` that refuses, `check`, `schema`,
//! `hash-password`, `explain` (SPEC §7, §8).

use serde_json::{Value, json};

use crate::harness::gateway::{run, write};
use crate::harness::setup::addresses;
use crate::harness::{PASSWORD, Setup};

/// Exit status, standard output and standard error.
fn moorgate(setup: &Setup, arguments: &[&str]) -> (i32, String, String) {
    let dir = write(setup);
    let output = run(dir.path(), arguments, "");
    (
        output.status.code().expect("it ended by itself"),
        String::from_utf8(output.stdout).expect("text"),
        String::from_utf8(output.stderr).expect("text"),
    )
}

/// `run` and `check` end with status 2 and say all of this.
#[track_caller]
fn refuses(setup: &Setup, findings: &[&str]) {
    for command in ["run", "check"] {
        let (status, out, err) = moorgate(setup, &[command, "--config", "moorgate.json"]);
        let said = format!("{out}{err}");
        assert_eq!(status, 2, "{command}: {said}");
        for finding in findings {
            assert!(said.contains(finding), "{command}: no {finding:?} in\n{said}");
        }
        assert!(!said.contains("panicked") && !said.contains(PASSWORD), "{said}");
    }
}

#[test]
fn every_finding_is_named_at_once_with_its_place() {
    let text = "{\n  \"pools\": [\n    {\n      \"name\": \"p\",\n      \"exits\": [\n        \"127.0.0.300\",\n        \
                { \"id\": \"a\", \"via\": \"direct\", \"weigth\": 2 },\n        { \"id\": \"a\", \"via\": \"127.0.0.2\" }\n      ],\n      \
                \"attempts\": -1\n    }\n  ]\n}\n";
    let setup = Setup::addresses(1).file("pools/p.json", text);
    refuses(
        &setup,
        &[
            "p.json:6:9",
            "pools[0].exits[0]",
            "p.json:7",
            "weigth",
            "p.json:8",
            "pools[0].exits[2]",
            "p.json:10",
            "pools[0].attempts",
        ],
    );
}

#[test]
fn findings_of_the_configuration_do_not_hide_those_of_its_pools() {
    let mut setup = Setup::new(json!(["127.0.0.300"]));
    setup.config["sessions"]["default_ttl"] = "soon".into();
    setup.config["limits"] = json!({ "connection": 1 });
    refuses(&setup, &["sessions.default_ttl", "limits.connection", "p.json", "pools[0].exits[0]"]);
}

#[test]
fn each_fault_of_a_pool_file_is_refused() {
    let pool = |key: &str, value: Value| Setup::addresses(1).pool(key, value);
    let exit = |exit: Value| Setup::new(json!([exit]));
    refuses(&pool("rotation", "sometimes".into()), &["pools[0].rotation", "round_robin"]);
    refuses(&pool("placement", 3.into()), &["pools[0].placement"]);
    refuses(&pool("failover", "maybe".into()), &["pools[0].failover"]);
    refuses(&pool("reuse_after", "5".into()), &["pools[0].reuse_after"]);
    refuses(&pool("health", json!({ "eject_for": "x" })), &["pools[0].health.eject_for"]);
    refuses(&pool("labels", json!({ "planet": "mars" })), &["pools[0].labels", "planet"]);
    refuses(&pool("import", json!(["missing.txt"])), &["missing.txt"]);
    refuses(&exit("10.0.0.0/33".into()), &["pools[0].exits[0]"]);
    refuses(&exit("ftp://h:1".into()), &["pools[0].exits[0]"]);
    refuses(&exit("http://h:99999".into()), &["pools[0].exits[0]"]);
    refuses(&exit(json!({ "id": "x" })), &["pools[0].exits[0]", "via"]);
    refuses(&exit(json!({ "via": "direct", "weight": 0 })), &["weight"]);
    refuses(&exit(json!({ "via": "direct", "max_ttl": "200h" })), &["max_ttl"]);
    refuses(&exit(json!({ "via": "direct", "state": "asleep" })), &["state"]);
    refuses(&exit("http://u:${MISSING_SECRET}@127.0.0.1:1".into()), &["MISSING_SECRET"]);
    refuses(
        &exit("http://u-{sesion}:p@127.0.0.1:1".into()),
        &["pools[0].exits[0]", "did you mean {session}"],
    );
    refuses(&Setup::new(json!(["127.0.0.2", "127.0.0.2"])), &["pools[0].exits[1]", "127.0.0.2"]);
    let alike = json!([{ "id": "a-b", "via": "direct" }, { "id": "a_b", "via": "127.0.0.2" }]);
    refuses(&Setup::new(alike), &["a_b"]);
    let twice = Setup::addresses(1).another_pool(json!({ "name": "p", "exits": addresses(1) }));
    refuses(&twice, &["pools[1].name"]);
    let list =
        Setup::addresses(1).pool("import", json!(["l.txt"])).file("pools/l.txt", "127.0.0.1:1\n\nnonsense\n");
    refuses(&list, &["l.txt", "3"]);
}

#[test]
fn each_fault_of_a_configuration_is_refused() {
    let config = |path: &str, value: Value| Setup::addresses(1).config(path, value);
    refuses(&config("listen", json!([])), &["moorgate.json", "listen", "listeners"]);
    refuses(&config("listeners", json!([{ "bind": "nowhere" }])), &["listeners[0].bind"]);
    refuses(&config("users.0.name", "a b".into()), &["users[0].name"]);
    refuses(&config("users.0.password", "".into()), &["users[0].password"]);
    refuses(&config("users.0.clients", json!(["10.0.0.0/99"])), &["users[0].clients[0]"]);
    refuses(&config("sessions.max_ttl", "169h".into()), &["sessions.max_ttl", "168h"]);
    refuses(&config("sessions.store", "tape:x".into()), &["sessions.store"]);
    refuses(&config("targets.private", "sure".into()), &["targets.private"]);
    refuses(&config("targets.ports", json!(["9-1"])), &["targets.ports[0]"]);
    refuses(&config("targets.deny", json!(["300.1.1.1"])), &["targets.deny[0]"]);
    refuses(&config("timeouts", json!({ "head": "10" })), &["timeouts.head"]);
    refuses(&config("limits", json!({ "head_bytes": "big" })), &["limits.head_bytes"]);
    refuses(&config("log", json!({ "format": "xml" })), &["log.format"]);
    refuses(&config("pools", "missing-folder".into()), &["missing-folder"]);
    let twin = json!({ "name": "acme", "password": "x" });
    refuses(&Setup::addresses(1).user(twin), &["users[1].name", "acme"]);
    let open =
        Setup::addresses(1).config("users", json!([])).config("listeners", json!([{ "bind": "0.0.0.0:0" }]));
    refuses(&open, &["0.0.0.0", "users"]);
}

#[test]
fn a_missing_file_is_bad_configuration() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["run", "check"] {
        let output = run(dir.path(), &[command, "--config", "nothing.json"], "");
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing.json"), "{output:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_a_failure_at_run_time() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let setup = Setup::addresses(1).config("listeners.0.bind", &*address);
    let (status, _, err) = moorgate(&setup, &["run", "--config", "moorgate.json"]);
    assert_eq!(status, 1, "{err}");
    assert!(err.contains(&address), "{err}");
}

#[test]
fn check_prints_what_would_run() {
    let mut setup = Setup::new(json!(["127.0.0.2", "http://user:hidden@127.0.0.1:3128"]));
    setup = setup.config("users.0.pools", json!(["p", "later"]));
    let (status, out, err) = moorgate(&setup, &["check", "--config", "moorgate.json"]);
    let said = format!("{out}{err}");
    assert_eq!(status, 0, "{said}");
    for part in
        ["127.0.0.1:0", "acme", "127.0.0.2", "http://127.0.0.1:3128", "later", "may change their address"]
    {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    assert!(!said.contains("hidden") && !said.contains(PASSWORD), "{said}");
}

#[test]
fn schemas_are_json_schemas_of_what_is_documented() {
    let dir = tempfile::tempdir().unwrap();
    for (which, keys) in
        [("config", ["listeners", "users", "sessions"]), ("pools", ["pools", "exits", "placement"])]
    {
        let output = run(dir.path(), &["schema", which], "");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        assert!(schema["$schema"].as_str().is_some_and(|name| name.contains("json-schema.org")), "{text}");
        assert!(keys.iter().all(|key| text.contains(&format!("\"{key}\""))), "{text}");
    }
    assert_eq!(run(dir.path(), &["schema", "nothing"], "").status.code(), Some(2));
}

#[test]
fn hash_password_makes_a_phc_string_of_what_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let hash = |input: &str| {
        let output = run(dir.path(), &["hash-password"], input);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (one, two) = (hash("secret\n"), hash("secret"));
    assert!(one.starts_with("$argon2id$") && one.ends_with('\n') && !one.contains("secret"), "{one}");
    assert_ne!(one, two, "salted");
    assert!(!run(dir.path(), &["hash-password"], "").status.success(), "an empty secret");
}

/// What `explain --json` says of a credential.
fn explain(setup: &Setup, credential: &str) -> (i32, Value) {
    let (status, out, err) = moorgate(setup, &["explain", "--config", "moorgate.json", "--json", credential]);
    (status, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
}

#[test]
fn explain_says_what_a_credential_means() {
    let mut setup = Setup::addresses(3);
    setup.pools["pools"][0]["labels"] = json!({ "country": "us" });
    let name = "acme-session-a1-ttl-1h30m-idle-5m-exit-e2-failover-off-country-US";
    let (status, meaning) = explain(&setup, name);
    assert_eq!(status, 0, "{meaning}");
    assert_eq!((&meaning["user"], &meaning["session"]), (&json!("acme"), &json!("a1")));
    assert_eq!((&meaning["ttl_seconds"], &meaning["idle_seconds"]), (&json!(5400), &json!(300)));
    assert_eq!(
        (&meaning["pool"], &meaning["exit"], &meaning["failover"]),
        (&json!("p"), &json!("e2"), &json!("off"))
    );
    assert_eq!(meaning["labels"]["country"].as_str().map(str::to_lowercase).as_deref(), Some("us"));
    let (status, meaning) = explain(&setup, &format!("acme-session-a1:{PASSWORD}"));
    assert_eq!((status, &meaning["user"]), (0, &json!("acme")));
    assert!(!meaning.to_string().contains(PASSWORD));
}

#[test]
fn explain_says_where_a_credential_is_wrong() {
    let setup = Setup::addresses(1);
    for (credential, code) in [
        ("acme-sesion-x", "parameter_unknown"),
        ("acme-session-a-ttl-5", "ttl_invalid"),
        ("acme-session-a-ttl-200h", "ttl_out_of_range"),
        ("acme-ttl-5m", "ttl_without_session"),
        ("acme-pool-nope", "pool_forbidden"),
        ("acme-exit-nope", "exit_unknown"),
        ("nobody", "auth_failed"),
        ("acme:wrong", "auth_failed"),
    ] {
        let (status, meaning) = explain(&setup, credential);
        assert_eq!(meaning["code"], json!(code), "{credential}: {meaning}");
        assert_ne!(status, 0, "{credential}");
    }
    let (_, meaning) = explain(&setup, "acme-session-a-ttl-5");
    assert!(!meaning["at"].is_null(), "{meaning}");
    let (_, out, err) = moorgate(&setup, &["explain", "--config", "moorgate.json", "acme-sesion-x"]);
    assert!(format!("{out}{err}").contains("session"), "{out}{err}");
}

#[test]
fn explain_without_a_configuration_ends_the_name_at_the_first_key() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["explain", "--json", "my-team-session-x-ttl-5m"], "");
    let meaning: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!((&meaning["user"], &meaning["session"]), (&json!("my-team"), &json!("x")));
    assert_eq!(meaning["ttl_seconds"], json!(300));
}

#[test]
fn help_and_version_are_no_errors() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [["--help"], ["--version"]] {
        let output = run(dir.path(), &arguments, "");
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("moorgate"));
    }
    assert_eq!(run(dir.path(), &["no-such-command"], "").status.code(), Some(2));
}

#[test]
fn the_demo_tells_its_story_and_all_of_it_holds() {
    let (status, out, err) = moorgate(&Setup::addresses(1), &["demo"]);
    assert_eq!(status, 0, "{out}{err}");
    for act in ["rotation", "stickiness", "failover", "restart", "All of it held."] {
        assert!(out.contains(act), "no {act} in\n{out}");
    }
    assert!(out.lines().count() < 15, "a report that is read at a glance:\n{out}");
}
