//! One exit and an atomic claim (SPEC §3.1, §3.2), and sessions kept apart.

use std::collections::HashSet;
use std::sync::Barrier;

use serde_json::json;

use crate::harness::request::{Ask, get};
use crate::harness::setup::{address, address_of};
use crate::harness::{Gateway, Origin, Setup, Upstream, basic};

#[test]
fn a_session_stays_on_its_exit_over_everything() {
    let gateway = Setup::addresses(8).listener(json!({})).on_disk().start();
    let origin = Origin::start();
    for n in 0..20 {
        let name = format!("acme-session-s{n}");
        let first = gateway.get(&name, &origin.url("/ip")).ok();
        let ip = first.text();
        assert_eq!((first.news(), first.address()), ("new", Some(&*ip)));
        for listener in [gateway.listener(0), gateway.listener(1)] {
            let again = listener.get(&name, &origin.url("/ip")).ok();
            assert_eq!((again.news(), &*again.text(), again.exit()), ("held", &*ip, first.exit()));
            let (seen, answer) = listener.seen_through_tunnel(&name, origin.address);
            assert_eq!((answer.news(), seen), ("held", ip.clone()));
        }
    }
}

#[test]
fn sixteen_first_requests_of_each_of_500_sessions_agree() {
    const SESSIONS: usize = 500;
    const AT_ONCE: usize = 16;
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    let together = Barrier::new(AT_ONCE);
    let ask_all = || {
        let mut client = gateway.client();
        let ask = |n: usize| {
            together.wait();
            let fields = basic(&format!("acme-session-s{n}"));
            let answer = client.send(get(&origin.url("/ip"), &fields)).answer("GET").ok();
            assert_eq!(answer.address(), Some(&*answer.text()));
            (answer.exit(), answer.news().to_owned())
        };
        (0..SESSIONS).map(ask).collect::<Vec<_>>()
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(ask_all)).collect();
        threads.into_iter().map(|thread| thread.join().expect("every request succeeds")).collect()
    });
    for n in 0..SESSIONS {
        let of_session: Vec<_> = answers.iter().map(|of_thread| &of_thread[n]).collect();
        let exits: HashSet<_> = of_session.iter().map(|(exit, _)| exit).collect();
        let new = of_session.iter().filter(|(_, news)| news == "new").count();
        let held = of_session.iter().filter(|(_, news)| news == "held").count();
        assert_eq!((exits.len(), new, held), (1, 1, AT_ONCE - 1), "session s{n}: {of_session:?}");
    }
}

#[test]
fn a_first_exit_that_cannot_be_dialled_is_replaced_and_the_answer_is_new() {
    for failover in ["on", "off", "address"] {
        let (broken, good) = (Upstream::http(), Upstream::http());
        broken.refuse();
        let exits = json!([
            { "id": "broken", "via": broken.to_string(), "weight": 1000 },
            { "id": "good", "via": good.to_string() },
        ]);
        let gateway = Setup::new(exits).quick().pool("failover", failover).on_disk().start();
        let origin = Origin::start();
        for n in 0..4 {
            let (seen, answer) = gateway.seen_through_tunnel(&format!("acme-session-s{n}"), origin.address);
            assert_eq!((answer.news(), seen), ("new", good.ip()), "failover {failover}");
        }
    }
}

#[test]
fn a_failure_of_the_target_leaves_the_new_pin() {
    let gateway = Setup::addresses(8).on_disk().start();
    let origin = Origin::start();
    for n in 0..16 {
        let name = format!("acme-session-s{n}");
        for _ in 0..3 {
            gateway.connect(&name, "127.0.0.1:1").1.fails(502, "target_refused");
        }
        let first = gateway.get(&name, &origin.url("/ip")).ok();
        assert_eq!(first.news(), "new", "the first success says so");
        gateway.connect(&name, "127.0.0.1:1").1.fails(502, "target_refused");
        let second = gateway.get(&name, &origin.url("/ip")).ok();
        assert_eq!((second.news(), second.text()), ("held", first.text()));
    }
}

#[test]
fn ttl_and_idle_are_fixed_when_the_pin_is_made() {
    let gateway = Setup::addresses(1).on_disk().start();
    let origin = Origin::start();
    let left = |name: &str| {
        let answer = gateway.get(name, &origin.url("/ip")).ok();
        (answer.session("expires-in").expect("a ttl"), answer.session("idle"))
    };
    let near = |ttl: u64| ttl - 5..=ttl;
    let (made, idle) = left("acme-session-a-ttl-1h-idle-5m");
    assert!(near(3600).contains(&made) && idle == Some(300), "{made} {idle:?}");
    for later in ["acme-session-a-ttl-5m", "acme-session-a-ttl-24h-idle-1m", "acme-session-a"] {
        let (left, idle) = left(later);
        assert!(near(3600).contains(&left) && idle == Some(300), "{later}: {left} {idle:?}");
    }
    assert!(near(600).contains(&left("acme-session-b").0), "ten minutes without a ttl");
}

#[test]
fn pools_bound_and_default_the_ttl() {
    let gateway = Setup::addresses(1)
        .pool("sessions", json!({ "default_ttl": "30m", "max_ttl": "2h", "min_ttl": "10s", "idle": "20m" }))
        .another_pool(json!({ "name": "q", "exits": ["direct"] }))
        .config("sessions.max_ttl", "168h")
        .on_disk()
        .start();
    let origin = Origin::start();
    let ask = |name: &str| gateway.get(name, &origin.url("/ip"));
    let made = ask("acme-session-a").ok();
    assert!(made.session("expires-in").is_some_and(|left| (1795..=1800).contains(&left)), "{made:?}");
    assert_eq!(made.session("idle"), Some(1200));
    ask("acme-session-b-ttl-2h").ok();
    ask("acme-session-c-ttl-7201s").fails(400, "ttl_out_of_range");
    ask("acme-session-c-ttl-9s").fails(400, "ttl_out_of_range");
    assert_eq!(ask("acme-session-c").news(), "new", "nothing was pinned");
    let longest = ask("acme-session-d-ttl-168h-pool-q").ok();
    assert!(longest.session("expires-in").is_some_and(|left| (604_795..=604_800).contains(&left)));
    ask("acme-session-d-ttl-7d-pool-q").ok();
    ask("acme-session-e-ttl-604801s-pool-q").fails(400, "ttl_out_of_range");
    ask("acme-session-e-ttl-1s-pool-q").ok();
}

#[test]
fn affinity_makes_a_session_of_what_is_at_hand() {
    let other = json!({ "name": "other", "password": crate::harness::PASSWORD, "pools": ["p"] });
    let gateway = Setup::addresses(8).pool("affinity", "user").user(other).on_disk().start();
    let origin = Origin::start();
    let seen = |gateway: &Gateway, name: &str| gateway.get(name, &origin.url("/ip")).ok();
    let first = seen(&gateway, "acme");
    assert_eq!(first.news(), "new");
    for _ in 0..8 {
        assert_eq!(seen(&gateway, "acme").text(), first.text());
    }
    assert_eq!(seen(&gateway, "other").news(), "new");
    assert_eq!(seen(&gateway, "acme-session-own").news(), "new");

    let gateway = Setup::addresses(8).pool("affinity", "target").on_disk().start();
    let far = Origin::start();
    let name = format!("http://localhost:{}/ip", far.address.port());
    let here = seen(&gateway, "acme");
    assert_eq!(gateway.get("acme", &name).ok().news(), "new", "another target");
    assert_eq!((seen(&gateway, "acme").text(), seen(&gateway, "acme").news()), (here.text(), "held"));
}

#[test]
fn another_exit_joins_and_nobody_moves() {
    let gateway = Setup::addresses(4).on_disk().start();
    let origin = Origin::start();
    let of = |n: u8| gateway.get(&format!("acme-session-s{n}"), &origin.url("/ip")).ok().exit();
    let before: Vec<_> = (0..40).map(of).collect();
    let mut pools = json!({ "pools": [{ "name": "p", "exits": (1..=8).map(address).collect::<Vec<_>>() }] });
    pools["pools"][0]["exits"][0]["weight"] = 7.into();
    gateway.write_pools(&pools);
    let joined =
        || (gateway.get("acme", &origin.url("/ip")).text() == address_of(8).to_string()).then_some(());
    crate::harness::eventually("the new exit is used", crate::harness::PATIENCE, joined);
    assert_eq!((0..40).map(of).collect::<Vec<_>>(), before);
}
