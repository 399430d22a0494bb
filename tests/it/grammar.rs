//! The username, from outside (SPEC §2): what is taken, and every way to get
//! it wrong.

use serde_json::json;

use crate::harness::request::{Ask, connect, get};
use crate::harness::{Answer, Gateway, Origin, Setup, basic};

/// Two pools with labels, ids and names that need every rule of §2.
fn gateway() -> Gateway {
    let exits = json!([
        { "id": "e1", "via": "127.0.0.2", "labels": { "country": "us", "city": "New York", "type": "isp" } },
        { "id": "ams-1", "via": "127.0.0.3", "labels": { "country": "nl", "city": "amsterdam" } },
        { "id": "e3", "via": "127.0.0.4", "labels": { "country": ["nl", "de"], "tag": ["fast", "new"] } },
    ]);
    Setup::new(exits)
        .another_pool(json!({ "name": "us-east", "exits": [{ "id": "x", "via": "127.0.0.9" }] }))
        .another_pool(json!({ "name": "secret", "exits": ["direct"] }))
        .config("users.0.pools", json!(["p", "us-east"]))
        .config("sessions.max_ttl", "24h")
        .start()
}

/// Asks as each username over one connection.
fn ask(gateway: &Gateway, origin: &Origin, usernames: &[&str]) -> Vec<Answer> {
    let mut client = gateway.client();
    let mut one = |username: &&str| {
        // 400 `bad_request` alone would close.
        client.send(get(&origin.url("/ip"), &basic(username))).answer("GET")
    };
    usernames.iter().map(&mut one).collect()
}

/// Each username fails with its code.
#[track_caller]
fn check(cases: &[(&str, u16, &str)]) {
    let (gateway, origin) = (gateway(), Origin::start());
    let names: Vec<_> = cases.iter().map(|case| case.0).collect();
    for (answer, (username, status, code)) in ask(&gateway, &origin, &names).iter().zip(cases) {
        assert_eq!((answer.status, answer.code()), (*status, *code), "{username}: {}", answer.text());
    }
    assert_eq!(origin.count(), cases.iter().filter(|case| case.1 == 200).count());
}

#[test]
fn what_is_right_is_taken() {
    let id = "9f2d1c7e-0b6a-4a55-8d2e-3f9b1c2d4e5f";
    let uuid = format!("acme-session-{id}-ttl-5m");
    let long = format!("acme-session-{}", "x".repeat(128));
    let names = [
        "acme",
        "acme-session-a",
        "acme-SESSION-b",
        "acme-sessid-c",
        "acme-sess-d",
        "acme-sid-e",
        "acme-session-a.b_c~D9",
        &uuid,
        &long,
        "acme-session-f-ttl-90s",
        "acme-ttl-1h30m-session-g",
        "acme-session-h-ttl-24h",
        "acme-session-i-idle-30s",
        "acme-session-j-failover-off",
        "acme-session-k-FAILOVER-address",
        "acme-session-pool-ttl-5m",
        "acme-session-l-country-US-city-new_york-type-isp",
        "acme-exit-ams_1",
        "acme-pool-us_east",
        "acme-pool-us_east-session-m-exit-x",
        "acme-country-de-tag-fast",
        "acme-country-nl",
    ];
    check(&names.map(|name| (name, 200, "")));
}

#[test]
fn unknown_keys_are_errors_that_name_what_was_meant() {
    check(&[
        ("acme-sesion-x", 400, "parameter_unknown"),
        ("acme-x", 400, "parameter_unknown"),
        ("acme-", 400, "parameter_unknown"),
        ("acme--session-x", 400, "parameter_unknown"),
        ("acme-session-a-b-c", 400, "parameter_unknown"),
        ("acme-session-a-", 400, "parameter_unknown"),
        ("acme-geo-us", 400, "parameter_unknown"),
        ("acme-session-9f2d1c7e-0b6a-4a55-8d2e", 400, "parameter_unknown"),
    ]);
    let (gateway, origin) = (gateway(), Origin::start());
    let meant = [("sesion", "session"), ("tll", "ttl"), ("contry", "country"), ("failovr", "failover")];
    for (typo, key) in meant {
        let answer = gateway.get(&format!("acme-{typo}-x"), &origin.url("/ip"));
        let detail = answer.fails(400, "parameter_unknown").detail();
        assert!(detail.contains("did you mean") && detail.contains(key), "{typo}: {detail}");
    }
}

#[test]
fn twice_is_an_error() {
    check(&[
        ("acme-session-a-session-a", 400, "parameter_duplicate"),
        ("acme-session-a-sid-b", 400, "parameter_duplicate"),
        ("acme-country-us-COUNTRY-us", 400, "parameter_duplicate"),
        ("acme-session-a-ttl-5m-ttl-5m", 400, "parameter_duplicate"),
    ]);
}

#[test]
fn sessions_have_an_alphabet_and_a_length() {
    let long = format!("acme-session-{}", "x".repeat(129));
    check(&[
        ("acme-session-", 400, "session_invalid"),
        ("acme-session", 400, "session_invalid"),
        ("acme-sid", 400, "session_invalid"),
        ("acme-session-a%20b", 400, "session_invalid"),
        ("acme-session-a b", 400, "session_invalid"),
        ("acme-session-a/b", 400, "session_invalid"),
        ("acme-session-é", 400, "session_invalid"),
        (&long, 400, "session_invalid"),
    ]);
}

#[test]
fn durations_need_a_unit_and_have_bounds() {
    check(&[
        ("acme-session-a-ttl-5", 400, "ttl_invalid"),
        ("acme-session-a-ttl-", 400, "ttl_invalid"),
        ("acme-session-a-ttl", 400, "ttl_invalid"),
        ("acme-session-a-ttl-5x", 400, "ttl_invalid"),
        ("acme-session-a-ttl-m5", 400, "ttl_invalid"),
        ("acme-session-a-ttl-five", 400, "ttl_invalid"),
        ("acme-session-a-ttl-0s", 400, "ttl_out_of_range"),
        ("acme-session-a-ttl-500ms", 400, "ttl_out_of_range"),
        ("acme-session-a-ttl-86401s", 400, "ttl_out_of_range"),
        ("acme-session-a-ttl-99999999999999999999h", 400, "ttl_out_of_range"),
        ("acme-ttl-5m", 400, "ttl_without_session"),
        ("acme-idle-5m", 400, "ttl_without_session"),
        ("acme-session-a-idle-5", 400, "idle_invalid"),
        ("acme-session-a-idle", 400, "idle_invalid"),
        ("acme-session-a-idle-0s", 400, "ttl_out_of_range"),
    ]);
}

#[test]
fn other_values_are_judged_too() {
    check(&[
        ("acme-session-a-failover-maybe", 400, "failover_invalid"),
        ("acme-failover-", 400, "failover_invalid"),
        ("acme-failover", 400, "failover_invalid"),
        ("acme-pool-", 400, "parameter_invalid"),
        ("acme-pool", 400, "parameter_invalid"),
        ("acme-country-", 400, "parameter_invalid"),
        ("acme-city", 400, "parameter_invalid"),
        ("acme-exit-", 400, "exit_unknown"),
        ("acme-exit", 400, "exit_unknown"),
        ("acme-exit-nope", 400, "exit_unknown"),
        ("acme-exit-AMS_1", 400, "exit_unknown"),
        ("acme-pool-us_east-exit-e1", 400, "exit_unknown"),
        ("acme-pool-nope", 403, "pool_forbidden"),
        ("acme-pool-secret", 403, "pool_forbidden"),
        ("acme-pool-us.east", 403, "pool_forbidden"),
        ("acme-country-fr", 503, "no_exit"),
        ("acme-exit-e1-country-nl", 503, "no_exit"),
    ]);
}

#[test]
fn unknown_and_too_long_names_are_wrong_credentials() {
    let long = format!("acme-session-{}", "x".repeat(500));
    check(&[
        ("acm", 407, "auth_failed"),
        ("acme2", 407, "auth_failed"),
        ("ACME", 407, "auth_failed"),
        ("", 407, "auth_failed"),
        ("-session-x", 407, "auth_failed"),
        (&long, 407, "auth_failed"),
    ]);
}

#[test]
fn the_longest_user_name_that_fits_is_the_user() {
    let user = |name: &str| json!({ "name": name, "password": crate::harness::PASSWORD, "pools": ["p"] });
    let gateway = Setup::addresses(1).user(user("acme-session")).user(user("acme-eu")).start();
    let origin = Origin::start();
    let ask = |username: &str| gateway.get(username, &origin.url("/ip"));
    ask("acme-eu-session-x").ok();
    assert_eq!(ask("acme-session-x").code(), "parameter_unknown", "user acme-session, key x");
    assert_eq!(ask("acme-session").ok().news(), "", "user acme-session, no session");
    assert_eq!(ask("acme-europe-x").code(), "parameter_unknown", "user acme");
}

#[test]
fn labels_choose_exits_and_belong_to_the_session() {
    let (gateway, origin) = (gateway(), Origin::start());
    let exit = |name: &str| gateway.get(name, &origin.url("/ip")).ok().exit();
    assert_eq!(exit("acme-city-newyork"), "p/e1");
    assert_eq!(exit("acme-session-s-country-NL-city-AMSTERDAM"), "p/ams-1");
    assert_eq!(exit("acme-session-s-country-de"), "p/e3", "other labels, another session");
    let held = gateway.get("acme-city-amsterdam-session-s-country-nl", &origin.url("/ip"));
    assert_eq!((held.news(), &*held.exit()), ("held", "p/ams-1"), "in any order and spelling");
}

#[test]
fn exit_asks_for_that_exit_and_never_moves_a_pin() {
    let (gateway, origin) = (gateway(), Origin::start());
    let ask = |name: &str| gateway.get(name, &origin.url("/ip"));
    for _ in 0..3 {
        assert_eq!(ask("acme-exit-e3").ok().exit(), "p/e3");
    }
    let made = ask("acme-session-s-exit-ams_1").ok();
    assert_eq!((made.news(), &*made.exit()), ("new", "p/ams-1"));
    assert_eq!(ask("acme-session-s").ok().exit(), "p/ams-1");
    assert_eq!(ask("acme-session-s-exit-ams_1").ok().news(), "held");
    ask("acme-session-s-exit-e1").fails(400, "parameter_conflict");
    assert_eq!(ask("acme-session-s").ok().exit(), "p/ams-1");
}

#[test]
fn the_order_of_judgement() {
    let (gateway, origin) = (gateway(), Origin::start());
    let wrong = |name: &str| crate::harness::request::basic_as(name, "wrong");
    let ask = |fields: String, target: &str| {
        let answer = gateway.client().send(connect(target, &fields)).answer("CONNECT");
        (answer.status, answer.code().to_owned())
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    let live = origin.address.to_string();
    // The secret before anything else.
    assert_eq!(ask(wrong("acme-sesion-x"), &live), is(407, "auth_failed"));
    assert_eq!(ask(wrong("acme-pool-secret"), &live), is(407, "auth_failed"));
    assert_eq!(ask("Moorgate-TTL: 5\r\n".to_owned(), &live), is(407, "auth_required"));
    // Parameters before the pool, the pool before what only it can tell.
    assert_eq!(ask(basic("acme-ttl-5-pool-secret"), &live).0, 400);
    assert_eq!(ask(basic("acme-pool-secret-exit-nope"), &live), is(403, "pool_forbidden"));
    // All of them before the target, and the target before the exit.
    assert_eq!(ask(basic("acme-exit-nope"), "0.0.0.0:25"), is(400, "exit_unknown"));
    assert_eq!(ask(basic("acme-country-fr"), "127.0.0.1:25"), is(403, "target_forbidden"));
    assert_eq!(ask(basic("acme-country-fr"), &live), is(503, "no_exit"));
}
