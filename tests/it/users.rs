//! Users: secrets, pools, client addresses (SPEC §7).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::gateway::run;
use crate::harness::request::{Ask, basic_as, get};
use crate::harness::{Answer, Gateway, Origin, Setup};

fn ask(gateway: &Gateway, origin: &Origin, username: &str, password: &str) -> Answer {
    gateway.client().send(get(&origin.url("/ip"), &basic_as(username, password))).answer("GET")
}

#[test]
fn several_users_with_plain_secrets() {
    let user = |name: &str, password: &str| json!({ "name": name, "password": password, "pools": ["p"] });
    let gateway = Setup::addresses(1).user(user("bob", "p:w with spaces %41")).user(user("eve", "é")).start();
    let origin = Origin::start();
    ask(&gateway, &origin, "bob-session-a", "p:w with spaces %41").ok();
    ask(&gateway, &origin, "eve", "é").ok();
    for (name, password) in
        [("bob", "p:w with spaces A"), ("bob", ""), ("bob", "é"), ("bob", "p"), ("eve", "e"), ("nobody", "é")]
    {
        ask(&gateway, &origin, name, password).fails(407, "auth_failed");
    }
}

#[test]
fn argon2id_secrets_cost_only_once() {
    let empty = tempfile::tempdir().unwrap();
    let output = run(empty.path(), &["hash-password"], "top secret\n");
    assert!(output.status.success(), "{output:?}");
    let hash = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let gateway = Setup::addresses(1).config("users.0.password", &*hash).start();
    let origin = Origin::start();
    ask(&gateway, &origin, "acme-session-a", "top secret").ok();
    let start = Instant::now();
    let mut client = gateway.client();
    for _ in 0..200 {
        let fields = basic_as("acme-session-a", "top secret");
        client.send(get(&origin.url("/ip"), &fields)).answer("GET").ok();
    }
    // 200 checks would take more than 5 s even on a fast machine.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    ask(&gateway, &origin, "acme", "top secret ").fails(407, "auth_failed");
    ask(&gateway, &origin, "acme", &hash).fails(407, "auth_failed");
    assert!(!gateway.log.text().contains("argon2id$v"), "no hash in the log");
}

#[test]
fn wrong_secret_and_unknown_user_get_one_answer() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let mut wrong = ask(&gateway, &origin, "acme", "wrong");
    let mut unknown = ask(&gateway, &origin, "nobody", "wrong");
    for answer in [&mut wrong, &mut unknown] {
        answer.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
    }
    assert_eq!(format!("{wrong:?}"), format!("{unknown:?}"));
    assert_eq!(wrong.code(), "auth_failed");
}

#[test]
fn strange_credentials_are_no_credentials() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    for fields in [
        "",
        "Authorization: Basic YWNtZTp4\r\n",
        "Proxy-Authorization: Basic\r\n",
        "Proxy-Authorization: Basic !!!\r\n",
        "Proxy-Authorization: Basic YWNtZQ==\r\n",
        "Proxy-Authorization: Digest username=\"acme\"\r\n",
    ] {
        let answer = gateway.client().send(get(&origin.url("/ip"), fields)).answer("GET");
        assert_eq!(answer.status, 407, "{fields}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn pools_of_a_user() {
    let pool = |name: &str| json!({ "name": name, "exits": [{ "id": "e", "via": "127.0.0.5" }] });
    let gateway = Setup::addresses(1)
        .another_pool(pool("q"))
        .another_pool(pool("r"))
        .config("users.0.pools", json!(["q", "p"]))
        .config("users.0.default_pool", "q")
        .user(json!({ "name": "one", "password": crate::harness::PASSWORD, "pools": ["r"] }))
        .start();
    let origin = Origin::start();
    let ask = |username: &str| gateway.get(username, &origin.url("/ip"));
    assert_eq!(ask("acme").ok().exit(), "q/e", "the default pool");
    assert_eq!(ask("acme-pool-p").ok().exit(), "p/e1");
    let (hidden, missing) = (ask("acme-pool-r"), ask("acme-pool-s"));
    assert_eq!((hidden.code(), missing.code()), ("pool_forbidden", "pool_forbidden"));
    assert_eq!(
        hidden.detail().replace("\"r\"", ""),
        missing.detail().replace("\"s\"", ""),
        "one answer for both"
    );
    assert_eq!(ask("one").ok().exit(), "r/e", "the only pool");
}

#[test]
fn users_never_share_a_session() {
    let other = json!({ "name": "other", "password": crate::harness::PASSWORD, "pools": ["p"] });
    let gateway = Setup::addresses(8).user(other).start();
    let origin = Origin::start();
    for n in 0..8 {
        let session = format!("session-s{n}");
        let one = gateway.get(&format!("acme-{session}"), &origin.url("/ip")).ok();
        let two = gateway.get(&format!("other-{session}"), &origin.url("/ip")).ok();
        assert_eq!((one.news(), two.news()), ("new", "new"));
    }
}

#[test]
fn clients_bound_where_a_user_comes_from() {
    let gateway = Setup::addresses(1).config("users.0.clients", json!(["10.0.0.0/8", "::1"])).start();
    let origin = Origin::start();
    let ask = |username: &str, password: &str| ask(&gateway, &origin, username, password);
    ask("acme", crate::harness::PASSWORD).fails(403, "client_forbidden");
    ask("acme", "wrong").fails(407, "auth_failed");
    ask("acme-sesion-x", crate::harness::PASSWORD).fails(403, "client_forbidden");
    let gateway = Setup::addresses(1).config("users.0.clients", json!(["127.0.0.0/8"])).start();
    gateway.get("acme", &origin.url("/ip")).ok();
}

#[test]
fn a_listener_may_have_defaults() {
    let setup = Setup::new(json!([
        { "id": "e1", "via": "127.0.0.2", "labels": { "country": "us" } },
        { "id": "e2", "via": "127.0.0.3", "labels": { "country": "nl" } },
    ]));
    let gateway = setup.listener(json!({ "ttl": "90s", "labels": { "country": "nl" } })).start();
    let origin = Origin::start();
    let second = gateway.listener(1);
    assert_eq!(second.get("acme", &origin.url("/ip")).ok().exit(), "p/e2", "the label of the listener");
    let made = second.get("acme-session-a", &origin.url("/ip")).ok();
    assert!(made.session("expires-in").is_some_and(|left| (85..=90).contains(&left)), "{made:?}");
    let own = second.get("acme-session-b-ttl-30s-country-us", &origin.url("/ip")).ok();
    assert_eq!(own.exit(), "p/e1", "the request's own win");
    assert!(own.session("expires-in").is_some_and(|left| left <= 30));
}

#[test]
fn missing_credentials_are_cheap_and_no_failure() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let mut client = gateway.client();
    for _ in 0..100 {
        client.send(get(&origin.url("/ip"), "")).answer("GET").fails(407, "auth_required");
    }
    gateway.get("acme", &origin.url("/ip")).ok();
}

#[test]
fn without_users_there_is_demo_with_a_ready_line() {
    let setup = Setup::addresses(1).config("users", json!([]));
    let gateway = setup.on_disk().start();
    let line = gateway.out.wait_for("a curl line", |line| line.has("curl") && line.has("demo"));
    let origin = Origin::start();
    let credential = line.0.split("demo").nth(1).expect("a name").split(['@', ' ', '\'', '"']).next();
    let password = credential.and_then(|text| text.split_once(':')).expect("a secret").1.to_owned();
    ask(&gateway, &origin, "demo", &password).ok();
    gateway.terminate();
    gateway.wait();
    gateway.launch();
    ask(&gateway, &origin, "demo", &password).ok();
}
