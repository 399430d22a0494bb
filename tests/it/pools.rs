//! What a pool file can say of its exits (SPEC §6): states, room, vendors'
//! lists, the environment.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::request::Ask;
use crate::harness::setup::{address, addresses};
use crate::harness::{Gateway, Origin, PATIENCE, Setup, Upstream, eventually};

fn ask(gateway: &Gateway, origin: &Origin, username: &str) -> crate::harness::Answer {
    gateway.get(username, &origin.url("/ip"))
}

#[test]
fn a_draining_exit_keeps_its_pins_and_gets_nothing_new() {
    let gateway = Setup::addresses(2).start();
    let origin = Origin::start();
    ask(&gateway, &origin, "acme-session-old-exit-e1").ok();
    let mut exits = addresses(2);
    exits[0]["state"] = "drain".into();
    gateway.write_pools(&json!({ "pools": [{ "name": "p", "exits": exits }] }));
    eventually("e1 drains", PATIENCE, || {
        let seen: HashSet<_> = (0..2).map(|_| ask(&gateway, &origin, "acme").exit()).collect();
        (seen == HashSet::from(["p/e2".to_owned()])).then_some(())
    });
    for n in 0..6 {
        assert_eq!(ask(&gateway, &origin, &format!("acme-session-s{n}")).ok().exit(), "p/e2");
    }
    let held = ask(&gateway, &origin, "acme-session-old").ok();
    assert_eq!((held.news(), &*held.exit()), ("held", "p/e1"));
    ask(&gateway, &origin, "acme-session-other-exit-e1").fails(503, "no_exit");
}

#[test]
fn an_exit_that_is_off_is_as_if_removed() {
    let mut exits = addresses(2);
    exits[0]["state"] = "off".into();
    let gateway = Setup::new(exits).start();
    let origin = Origin::start();
    for n in 0..4 {
        assert_eq!(ask(&gateway, &origin, "acme").ok().exit(), "p/e2");
        assert_eq!(ask(&gateway, &origin, &format!("acme-session-s{n}")).ok().exit(), "p/e2");
    }
}

#[test]
fn max_ttl_keeps_long_sessions_away() {
    let mut exits = addresses(2);
    exits[0]["max_ttl"] = "30m".into();
    let gateway = Setup::new(exits.clone()).start();
    let origin = Origin::start();
    for n in 0..6 {
        assert_eq!(ask(&gateway, &origin, &format!("acme-session-s{n}-ttl-31m")).ok().exit(), "p/e2");
    }
    let answer = ask(&gateway, &origin, "acme-session-x-ttl-31m-exit-e1").fails(503, "no_exit");
    assert!(answer.detail().contains("30m") || answer.detail().contains("max_ttl"), "{}", answer.detail());
    assert_eq!(ask(&gateway, &origin, "acme-session-y-ttl-30m-exit-e1").ok().exit(), "p/e1");
}

#[test]
fn max_sessions_bounds_an_exit_and_a_pool_gives_the_default() {
    let mut exits = addresses(3);
    exits[2]["max_sessions"] = 2.into();
    let gateway = Setup::new(exits).pool("max_sessions", 1).on_disk().start();
    let origin = Origin::start();
    let all: Vec<_> =
        (0..4).map(|n| ask(&gateway, &origin, &format!("acme-session-s{n}-ttl-1h")).ok().exit()).collect();
    let on_e3 = all.iter().filter(|exit| *exit == "p/e3").count();
    assert_eq!((on_e3, all.iter().collect::<HashSet<_>>().len()), (2, 3), "{all:?}");
    let full = ask(&gateway, &origin, "acme-session-more").fails(503, "no_exit");
    assert!(full.retry_after().is_some_and(|wait| (3500..=3601).contains(&wait)), "{full:?}");
    assert_eq!(ask(&gateway, &origin, "acme-session-s0").ok().news(), "held");
    ask(&gateway, &origin, "acme").ok();
    gateway.crash();
    ask(&gateway, &origin, "acme-session-more").fails(503, "no_exit");
}

#[test]
fn reuse_after_lets_an_exit_rest() {
    let setup = Setup::addresses(1).pool("max_sessions", 1).pool("reuse_after", "3s");
    let gateway = setup.start();
    let origin = Origin::start();
    let start = std::time::Instant::now();
    ask(&gateway, &origin, "acme-session-a-ttl-1s").ok();
    let full = ask(&gateway, &origin, "acme-session-b").fails(503, "no_exit");
    assert!(full.retry_after().is_some_and(|wait| (3..=5).contains(&wait)), "{full:?}");
    eventually("it has rested", PATIENCE, || {
        (ask(&gateway, &origin, "acme-session-b").status == 200).then_some(())
    });
    let time = start.elapsed().as_secs_f64();
    assert!((4.0..7.0).contains(&time), "1 s of ttl and 3 s of rest: {time} s");
}

#[test]
fn max_connections_bounds_an_exit() {
    let mut exits = addresses(2);
    exits[0]["max_connections"] = 2.into();
    exits[1]["max_connections"] = 1.into();
    let gateway = Setup::new(exits).start();
    let origin = Origin::start();
    let mut open: Vec<_> = (0..3).map(|_| gateway.tunnel("acme", origin.address)).collect();
    let on_e1 = open.iter().filter(|(_, answer)| answer.exit() == "p/e1").count();
    assert_eq!(on_e1, 2);
    gateway.connect("acme", origin.address).1.fails(503, "no_exit");
    open.pop();
    eventually("one is free", PATIENCE, || {
        (gateway.connect("acme", origin.address).1.status == 200).then_some(())
    });
}

#[test]
fn vendors_lists_are_imported() {
    let upstreams: Vec<_> = (0..3).map(|_| Upstream::http()).collect();
    let closed: Vec<_> = (0..4).map(|_| Upstream::http_with("user", "pass")).collect();
    let socks = Upstream::socks5();
    let list = format!(
        "# a vendor's export\n{}\n\n  {}\r\nhttp://{}\nuser:pass@{}\n{}:user:pass\nuser:pass:{}\n\
         http://user:pass@{}  # the last\nsocks5://{}\n",
        upstreams[0].address,
        upstreams[1].address,
        upstreams[2].address,
        closed[0].address,
        closed[1].address,
        closed[2].address,
        closed[3].address,
        socks.address,
    );
    let gateway =
        Setup::addresses(1).pool("import", json!(["list.txt"])).file("pools/list.txt", list).start();
    let origin = Origin::start();
    let seen: HashSet<_> = (0..9).map(|_| ask(&gateway, &origin, "acme").ok().text()).collect();
    let all = upstreams.iter().chain(&closed).chain([&socks]);
    let wanted: HashSet<_> = all.map(Upstream::ip).chain(["127.0.0.2".to_owned()]).collect();
    assert_eq!(seen, wanted);
    // A change of the list is a change of the pool.
    gateway.replace("pools/list.txt", upstreams[0].address.to_string());
    eventually("the list is read again", PATIENCE, || {
        let seen: HashSet<_> = (0..4).map(|_| ask(&gateway, &origin, "acme").ok().text()).collect();
        (seen.len() == 2).then_some(())
    });
}

#[test]
fn the_environment_fills_strings() {
    let upstream = Upstream::http_with("env-user", "env:pass");
    let via = format!("http://${{UP_USER}}:${{UP_PASS}}@{}", upstream.address);
    let gateway = Setup::new(json!([{ "id": "up", "via": via }]))
        .env("UP_USER", "env-user")
        .env("UP_PASS", "env:pass")
        .config("users.0.password", "${ACME_PASSWORD}")
        .env("ACME_PASSWORD", crate::harness::PASSWORD)
        .start();
    let origin = Origin::start();
    assert_eq!(ask(&gateway, &origin, "acme").ok().text(), upstream.ip());
}

#[test]
fn labels_of_the_pool_are_its_exits() {
    let exits: Value = json!([
        address(1),
        { "id": "e2", "via": "127.0.0.3", "labels": { "city": "Boston" } },
        { "id": "e3", "via": "127.0.0.4", "labels": { "country": "ca" } },
    ]);
    let gateway = Setup::new(exits).pool("labels", json!({ "country": "us" })).start();
    let origin = Origin::start();
    let of = |username: &str| {
        let all: HashSet<_> = (0..6).map(|_| ask(&gateway, &origin, username).ok().exit()).collect();
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort();
        all.join(" ")
    };
    assert_eq!(of("acme-country-us"), "p/e1 p/e2");
    assert_eq!(of("acme-country-us-city-boston"), "p/e2");
    assert_eq!(of("acme-country-ca"), "p/e3");
}

#[test]
fn a_pool_without_a_healthy_exit_refuses_with_a_time_to_come_back() {
    let upstream = Upstream::http();
    upstream.refuse();
    let gateway = Setup::new(json!([upstream.to_string()])).quick().start();
    let origin = Origin::start();
    for _ in 0..3 {
        ask(&gateway, &origin, "acme").fails(502, "exit_failed");
    }
    let answer = ask(&gateway, &origin, "acme").fails(503, "no_exit");
    assert_eq!(answer.retry_after(), Some(1));
}
