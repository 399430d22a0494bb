//! Sessions and exits that an operator acts on (SPEC §8).

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::harness::operator::{act, ask, is_problem, json as body, look, session, tell};
use crate::harness::request::{Ask, get};
use crate::harness::{Gateway, Origin, PASSWORD, Setup, Upstream, basic};

/// Makes a session, and says on which exit it is.
#[track_caller]
fn make(gateway: &Gateway, origin: &Origin, name: &str) -> String {
    gateway.get(&format!("acme-session-{name}-ttl-1h"), &origin.url("/ip")).ok().exit()
}

#[track_caller]
fn exit(gateway: &Gateway, id: &str) -> Value {
    look(gateway, &format!("/v1/exits/p/{id}"))
}

#[test]
fn sessions_are_shown_as_they_are() {
    let gateway = Setup::addresses(2).pool(
        "exits",
        json!([
            { "id": "e1", "via": "127.0.0.2", "labels": { "city": "New York" } },
            { "id": "e2", "via": "127.0.0.3" },
        ]),
    );
    let gateway = gateway.start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    gateway.get("acme-session-one-ttl-90s-city-new_york-idle-60s", &url).ok();
    let shown = session(&gateway, "one");
    assert_eq!(shown["user"], "acme");
    assert_eq!((&shown["pool"], &shown["exit"]), (&json!("p"), &json!("e1")));
    assert_eq!(shown["exit_address"], "127.0.0.2");
    assert_eq!(shown["labels"], json!({ "city": "newyork" }));
    assert_eq!((&shown["idle"], &shown["moves"]), (&json!(60), &json!(0)));
    let left = shown["ends_in"].as_u64().unwrap();
    assert!((50..=60).contains(&left), "{left}");
    assert!(
        shown["made"].as_str() < shown["ends"].as_str() && shown["ends"].as_str() < shown["expires"].as_str()
    );
    let key = shown["key"].as_str().unwrap();
    assert_eq!(look(&gateway, &format!("/v1/sessions/{key}"))["key"], key);
    assert_eq!(look(&gateway, &format!("/v1/sessions/{}", key.to_uppercase()))["key"], key);

    assert_eq!(look(&gateway, "/v1/users")["users"][0]["sessions"], 1);
    let pools = look(&gateway, "/v1/pools");
    assert_eq!((&pools["pools"][0]["name"], &pools["pools"][0]["pins"]), (&json!("p"), &json!(1)));
    assert_eq!((&pools["pools"][0]["dials"], &pools["last_reload"]), (&json!(1), &Value::Null));
}

#[test]
fn lists_are_searched_and_paged_while_sessions_come_and_go() {
    let gateway = Setup::addresses(3).user(json!({ "name": "other", "password": PASSWORD })).start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    let mut client = gateway.client();
    let mut make = |user: &str, n: usize| {
        let fields = basic(&format!("{user}-session-s{n}-pool-p-ttl-1h"));
        client.send(get(&url, &fields)).answer("GET").ok().exit()
    };
    let exits: HashMap<_, _> = (0..60).map(|n| (format!("s{n}"), make("acme", n))).collect();
    (0..10).for_each(|n| drop(make("other", n)));
    for (query, count) in [
        ("", 70),
        ("?user=acme", 60),
        ("?user=other&pool=p", 10),
        ("?session=s3", 2),
        ("?session=s3&user=acme", 1),
        ("?session=s", 0),
        ("?pool=q", 0),
        ("?user=acm", 0),
    ] {
        let list = look(&gateway, &format!("/v1/sessions{query}"));
        assert_eq!(list["sessions"].as_array().unwrap().len(), count, "{query}");
        assert_eq!(list["next"], Value::Null);
    }
    let on_e2 = look(&gateway, "/v1/sessions?user=acme&exit=e2");
    let expected = exits.values().filter(|exit| *exit == "p/e2").count();
    assert_eq!(on_e2["sessions"].as_array().unwrap().len(), expected);

    // Between two pages, one that was shown goes and a new one comes.
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = look(&gateway, &format!("/v1/sessions?user=acme&limit=7{cursor}"));
        for shown in page["sessions"].as_array().unwrap() {
            seen.push(shown["session"].as_str().unwrap().to_owned());
        }
        if let Some(shown) = page["sessions"].get(0) {
            act(&gateway, "DELETE", &format!("/v1/sessions/{}", shown["key"].as_str().unwrap()));
        }
        make("acme", 1000 + pages);
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let old: Vec<_> = seen.iter().filter(|name| exits.contains_key(*name)).collect();
    assert_eq!(old.len(), 60, "each once");
    assert_eq!(old.iter().collect::<BTreeSet<_>>().len(), 60);
}

#[test]
fn a_session_that_is_ended_is_made_anew() {
    let gateway = Setup::addresses(4).on_disk().start();
    let origin = Origin::start();
    make(&gateway, &origin, "a");
    let (mut tunnel, _) = gateway.tunnel("acme-session-a-ttl-1h", origin.address);
    let key = session(&gateway, "a")["key"].as_str().unwrap().to_owned();
    let path = format!("/v1/sessions/{key}");
    assert_eq!(act(&gateway, "DELETE", &path)["session"], "a");
    gateway.crash_after(|| {
        is_problem(&ask(&gateway, "DELETE", &path, "", ""), 404, "session_unknown");
        tunnel.send("GET /ip HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET").ok();
    });
    is_problem(&ask(&gateway, "GET", &path, "", ""), 404, "session_unknown");
    let answer = gateway.get("acme-session-a-ttl-1h", &origin.url("/ip")).ok();
    assert_eq!(answer.news(), "new");
}

#[test]
fn a_session_that_is_moved_stays_there_over_a_crash() {
    let gateway = Setup::addresses(4).on_disk().start();
    let origin = Origin::start();
    let was = make(&gateway, &origin, "a");
    let (mut tunnel, _) = gateway.tunnel("acme-session-a-ttl-1h", origin.address);
    let before = session(&gateway, "a");
    let path = format!("/v1/sessions/{}/move", before["key"].as_str().unwrap());
    let moved = act(&gateway, "POST", &path);
    assert_ne!(format!("p/{}", moved["exit"].as_str().unwrap()), was);
    assert_eq!((&moved["moves"], &moved["expires"]), (&json!(1), &before["expires"]));
    gateway.crash_after(|| {
        tunnel.send("GET /ip HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET").ok();
    });
    let after = session(&gateway, "a");
    assert_eq!((&after["exit"], &after["moves"]), (&moved["exit"], &json!(1)));

    // By name, and back by name; naming where it is changes nothing.
    for id in ["e2", "e2", "e3"] {
        let answer = tell(&gateway, &path, &json!({ "exit": id })).ok();
        assert_eq!(body(&answer)["exit"], id);
        let answer = gateway.get("acme-session-a-ttl-1h", &origin.url("/ip")).ok();
        assert_eq!(answer.exit(), format!("p/{id}"));
    }
    is_problem(&tell(&gateway, &path, &json!({ "exit": "e9" })), 404, "exit_unknown");
    act(&gateway, "POST", "/v1/exits/p/e1/off");
    is_problem(&tell(&gateway, &path, &json!({ "exit": "e1" })), 409, "no_exit");
    assert_eq!(session(&gateway, "a")["exit"], "e3");
}

#[test]
fn the_next_answer_after_a_move_says_so_once() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    let was = make(&gateway, &origin, "a");
    let key = session(&gateway, "a")["key"].as_str().unwrap().to_owned();
    act(&gateway, "POST", &format!("/v1/sessions/{key}/move"));
    let ask = || gateway.get("acme-session-a-ttl-1h", &origin.url("/ip")).ok();
    let (first, second) = (ask(), ask());
    assert_ne!(first.exit(), was);
    assert_eq!((first.news(), second.news()), ("moved", "held"));
}

#[test]
fn one_of_many_addresses_is_left_for_another() {
    let gateway = Setup::new(json!([{ "id": "net", "via": "127.0.0.0/28" }])).start();
    let origin = Origin::start();
    make(&gateway, &origin, "a");
    let before = session(&gateway, "a");
    let moved = act(&gateway, "POST", &format!("/v1/sessions/{}/move", before["key"].as_str().unwrap()));
    assert_eq!(moved["exit"], "net");
    assert_ne!(moved["exit_address"], before["exit_address"]);
    assert_eq!(exit(&gateway, "net")["pins"], 1);
}

#[test]
fn a_session_is_extended_to_a_week_and_no_further() {
    let gateway = Setup::addresses(2).on_disk().start();
    let origin = Origin::start();
    gateway.get("acme-session-a-ttl-60s", &origin.url("/ip")).ok();
    let path = format!("/v1/sessions/{}/extend", session(&gateway, "a")["key"].as_str().unwrap());
    let extended = body(&tell(&gateway, &path, &json!({ "ttl": "2h" })).ok());
    assert!((7190..=7200).contains(&extended["ends_in"].as_u64().unwrap()), "{extended:#}");
    gateway.crash();
    assert_eq!(session(&gateway, "a")["expires"], extended["expires"]);
    let same = body(&tell(&gateway, &path, &json!({ "ttl": "1m" })).ok());
    assert_eq!(same["expires"], extended["expires"], "never shorter");
    for (ttl, code) in [
        ("168h", "ttl_out_of_range"),
        ("8d", "ttl_out_of_range"),
        ("0s", "ttl_out_of_range"),
        ("99999999999999999999h", "ttl_out_of_range"),
        ("10", "ttl_invalid"),
        ("", "ttl_invalid"),
        ("ever", "ttl_invalid"),
    ] {
        is_problem(&tell(&gateway, &path, &json!({ "ttl": ttl })), 400, code);
        assert_eq!(session(&gateway, "a")["expires"], extended["expires"]);
    }
    let answer = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    assert_eq!(answer.news(), "held");
    assert!(answer.session("expires-in").unwrap() > 7000);
}

#[test]
fn a_switched_exit_says_what_moves_and_stays_switched() {
    let gateway = Setup::addresses(2).on_disk().start();
    let origin = Origin::start();
    let names: Vec<_> = (0..8).map(|n| format!("s{n}")).collect();
    let on_e1 = names.iter().filter(|name| make(&gateway, &origin, name) == "p/e1").count();
    let plan = act(&gateway, "POST", "/v1/exits/p/e1/off?dry_run");
    assert_eq!(
        (&plan["dry_run"], &plan["pins"], &plan["moves"]),
        (&json!(true), &json!(on_e1), &json!(on_e1))
    );
    assert_eq!(exit(&gateway, "e1")["state"], "active", "nothing was done");
    assert_eq!(act(&gateway, "POST", "/v1/exits/p/e1/drain?dry_run=true")["moves"], 0);

    let done = act(&gateway, "POST", "/v1/exits/p/e1/off");
    assert_eq!(
        (&done["before"], &done["state"], &done["moves"]),
        (&json!("active"), &json!("off"), &json!(on_e1))
    );
    let url = origin.url("/ip");
    for name in &names {
        assert_eq!(gateway.get(&format!("acme-session-{name}"), &url).ok().exit(), "p/e2");
    }
    let is = |state: &str, in_file: &str, switched: Value| {
        let shown = exit(&gateway, "e1");
        let states = (&shown["state"], &shown["state_in_file"], &shown["state_switched"]);
        assert_eq!(states, (&json!(state), &json!(in_file), &switched));
    };
    is("off", "active", json!("off"));
    // A reload that says nothing new, and a crash, change nothing.
    act(&gateway, "POST", "/v1/reload");
    is("off", "active", json!("off"));
    gateway.crash();
    is("off", "active", json!("off"));
    // The file's own word does.
    let with = |state: &str| {
        let mut pools = Setup::addresses(2).pools;
        pools["pools"][0]["exits"][0]["state"] = state.into();
        gateway.write_pools(&pools);
        act(&gateway, "POST", "/v1/reload");
    };
    with("drain");
    is("drain", "drain", Value::Null);
    with("active");
    gateway.crash();
    is("active", "active", Value::Null);
    // Taken back, by switching and by reset.
    for back in ["active", "reset"] {
        act(&gateway, "POST", "/v1/exits/p/e1/drain");
        is("drain", "active", json!("drain"));
        assert_eq!(act(&gateway, "POST", &format!("/v1/exits/p/e1/{back}"))["state"], "active");
        is("active", "active", Value::Null);
    }
}

#[test]
fn a_draining_exit_keeps_its_pins_and_takes_nothing_new() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    let pinned =
        (0..20).map(|n| format!("s{n}")).find(|name| make(&gateway, &origin, name) == "p/e1").unwrap();
    act(&gateway, "POST", "/v1/exits/p/e1/drain");
    assert_eq!(gateway.get(&format!("acme-session-{pinned}"), &url).ok().exit(), "p/e1");
    for n in 0..5 {
        assert_eq!(gateway.get("acme", &url).ok().exit(), "p/e2");
        assert_eq!(make(&gateway, &origin, &format!("new{n}")), "p/e2");
    }
}

#[test]
fn an_exit_shows_how_it_does_and_is_reset() {
    let upstream = Upstream::http();
    let gateway = Setup::new(json!([{ "id": "up", "via": upstream.to_string() }]))
        .quick()
        .pool("health", json!({ "eject_after": 3, "eject_for": "1h" }))
        .start();
    let origin = Origin::start();
    gateway.get("acme", &origin.url("/ip")).ok();
    let shown = exit(&gateway, "up");
    assert_eq!(
        (&shown["health"], &shown["dials"], &shown["failures"]),
        (&json!("healthy"), &json!(1), &json!(0))
    );
    assert!(
        shown["connect_ms"]["p50"].as_f64().unwrap() >= 0.0 && shown["last_error"].is_null(),
        "{shown:#}"
    );
    assert!(!shown.to_string().contains("secret"));
    upstream.refuse();
    (0..3).for_each(|_| drop(gateway.get("acme", &origin.url("/ip")).fails(502, "exit_failed")));
    let shown = exit(&gateway, "up");
    assert_eq!(
        (&shown["health"], &shown["failures"], &shown["ejections"]),
        (&json!("ejected"), &json!(3), &json!(1))
    );
    assert_eq!(shown["last_error"]["code"], "exit_failed");
    assert!(shown["ejected_until"].is_string());
    upstream.come_back();
    gateway.get("acme", &origin.url("/ip")).fails(503, "no_exit");
    act(&gateway, "POST", "/v1/exits/p/up/reset");
    assert_eq!(exit(&gateway, "up")["health"], "healthy");
    gateway.get("acme", &origin.url("/ip")).ok();
}

#[test]
fn exits_with_slashes_in_their_ids_are_found_either_way() {
    let gateway = Setup::new(json!(["127.0.0.0/28", "127.0.1.1"])).start();
    for id in ["127.0.0.0%2F28", "127.0.0.0/28"] {
        assert_eq!(exit(&gateway, id)["kind"], "prefix");
        assert_eq!(act(&gateway, "POST", &format!("/v1/exits/p/{id}/drain"))["state"], "drain");
    }
}

#[test]
fn exits_are_paged() {
    let gateway = Setup::addresses(9).start();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = look(&gateway, &format!("/v1/exits?pool=p&limit=4{cursor}"));
        seen.extend(
            page["exits"].as_array().unwrap().iter().map(|exit| exit["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (1..=9).map(|n| format!("e{n}")).collect::<Vec<_>>());
    assert_eq!(look(&gateway, "/v1/exits?pool=none")["exits"], json!([]));
}

#[test]
fn a_damaged_file_of_switches_costs_only_itself() {
    let gateway = Setup::addresses(2).on_disk().start();
    let origin = Origin::start();
    make(&gateway, &origin, "a");
    act(&gateway, "POST", "/v1/exits/p/e1/off");
    gateway.kill();
    gateway.replace("state/switches.json", "{");
    gateway.launch();
    gateway.log.wait_for("the damage", |line| line.has("state_damaged") && line.has("switches"));
    assert_eq!(exit(&gateway, "e1")["state"], "active");
    assert_eq!(session(&gateway, "a")["session"], "a");
}
