//! Gateways that share a store (SPEC §3, on every gateway that shares the
//! store; §7, `store` and `store_down`).

use std::collections::HashSet;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::redis::Redis;
use crate::harness::request::{Ask, get};
use crate::harness::{Gateway, Origin, PATIENCE, Setup, Upstream, basic, eventually, operator};

fn on(setup: &Setup, store: &str) -> Gateway {
    setup.clone().config("sessions.store", store).start()
}

/// What a gateway has counted of its shared store.
fn counted(gateway: &Gateway, what: &str) -> u64 {
    let text = operator::ask(gateway, "GET", "/metrics", "", "").ok().text();
    let sample = format!("moorgate_store_{what}_total ");
    text.lines().find_map(|line| line.strip_prefix(&*sample)).expect("the metric").parse().expect("a count")
}

/// So many gateways on one store.
pub fn fleet(setup: &Setup, redis: &Redis, count: usize) -> Vec<Gateway> {
    (0..count).map(|_| on(setup, &redis.url())).collect()
}

#[test]
fn first_requests_on_three_gateways_agree_and_one_is_new() {
    const AT_ONCE: usize = 12;
    let redis = Redis::start();
    let gateways = fleet(&Setup::addresses(8), &redis, 3);
    let origin = Origin::start();
    for n in 0..30 {
        let name = format!("acme-session-s{n}");
        let together = Barrier::new(AT_ONCE);
        let ask = |at: usize| {
            together.wait();
            let answer = gateways[at % 3].get(&name, &origin.url("/ip")).ok();
            (answer.exit(), answer.text(), answer.news().to_owned())
        };
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|at| scope.spawn(move || ask(at))).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        let ways: HashSet<_> = answers.iter().map(|(exit, seen, _)| (exit, seen)).collect();
        let new = answers.iter().filter(|(.., news)| news == "new").count();
        assert_eq!((ways.len(), new), (1, 1), "{name}: {answers:?}");
    }
}

#[test]
fn a_session_survives_the_gateway_that_made_it() {
    let redis = Redis::start();
    let gateways = fleet(&Setup::addresses(8), &redis, 2);
    let origin = Origin::start();
    let of =
        |at: usize, n: u8| gateways[at].get(&format!("acme-session-s{n}-ttl-1h"), &origin.url("/ip")).ok();
    let made: Vec<_> = (0..40).map(|n| of(0, n)).collect();
    gateways[0].kill();
    for (n, made) in (0..40).zip(&made) {
        let held = of(1, n);
        assert_eq!((held.news(), held.text(), held.exit()), ("held", made.text(), made.exit()));
        assert!(held.session("expires-in").is_some_and(|left| (3590..=3600).contains(&left)));
    }
    gateways[0].launch();
    for (n, made) in (0..40).zip(&made) {
        assert_eq!(of(0, n).exit(), made.exit());
    }
}

#[test]
fn a_move_on_one_gateway_holds_on_the_others_at_once() {
    let redis = Redis::start();
    let upstreams: Vec<_> = (0..3).map(|_| Upstream::http()).collect();
    let exits =
        upstreams.iter().enumerate().map(|(n, u)| json!({ "id": format!("u{n}"), "via": u.to_string() }));
    let setup = Setup::new(exits.collect()).quick();
    let gateways = fleet(&setup, &redis, 2);
    let origin = Origin::start();
    let name = "acme-session-a-ttl-1h";
    let named = |exit: &str| &upstreams[exit.trim_start_matches("p/u").parse::<usize>().expect("a number")];
    let ask = |at: usize| gateways[at].get(name, &origin.url("/ip")).ok();
    let first = ask(0);
    assert_eq!((ask(1).exit(), ask(1).news()), (first.exit(), "held"));
    named(&first.exit()).refuse();
    let moved = ask(0);
    assert_eq!(moved.news(), "moved");
    // The old exit works again, so nothing but the message tells the other.
    named(&first.exit()).come_back();
    let start = Instant::now();
    while ask(1).exit() != moved.exit() {
        assert!(start.elapsed() < Duration::from_secs(2), "the other gateway goes on by the old exit");
    }
    assert_eq!((ask(0).exit(), ask(1).exit()), (moved.exit(), moved.exit()));
    assert_eq!(ask(1).news(), "held");
}

#[test]
fn a_first_exit_that_fails_is_replaced_for_all_gateways() {
    let redis = Redis::start();
    for round in 0..4 {
        let (broken, good) = (Upstream::http(), Upstream::http());
        broken.refuse();
        let exits = json!([
            { "id": "broken", "via": broken.to_string(), "weight": 1000 },
            { "id": "good", "via": good.to_string() },
        ]);
        let gateways = fleet(&Setup::new(exits).quick().pool("failover", "off"), &redis, 2);
        let origin = Origin::start();
        let together = Barrier::new(8);
        let ask = |at: usize| {
            together.wait();
            gateways[at % 2].get(&format!("acme-session-r{round}"), &origin.url("/ip")).ok()
        };
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|at| scope.spawn(move || ask(at))).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        let new = answers.iter().filter(|answer| answer.news() == "new").count();
        assert!(answers.iter().all(|answer| answer.exit() == "p/good"), "{answers:?}");
        assert_eq!(new, 1, "{answers:?}");
    }
}

#[test]
fn without_the_store_unknown_sessions_are_refused_and_known_ones_go_on() {
    let redis = Redis::start();
    let gateway = on(&Setup::addresses(4), &redis.url());
    let origin = Origin::start();
    let known = gateway.get("acme-session-known", &origin.url("/ip")).ok();
    for hangs in [false, true] {
        if hangs {
            redis.signal(Signal::STOP)
        } else {
            redis.kill()
        }
        for n in 0..6 {
            let start = Instant::now();
            let refused = gateway.get(&format!("acme-session-n{n}"), &origin.url("/ip"));
            refused.fails(503, "store_unavailable");
            assert!(start.elapsed() < Duration::from_secs(2), "an answer within 2 s");
            let start = Instant::now();
            let held = gateway.get("acme-session-known", &origin.url("/ip")).ok();
            assert_eq!((held.news(), held.exit()), ("held", known.exit()));
            assert!(start.elapsed() < Duration::from_secs(2), "an answer within 2 s");
            gateway.get("acme", &origin.url("/ip")).ok();
        }
        if hangs {
            redis.signal(Signal::CONT)
        } else {
            redis.launch()
        }
        eventually("the store is back", PATIENCE, || {
            let answer = gateway.get("acme-session-again", &origin.url("/ip"));
            (answer.status == 200).then_some(())
        });
        let held = gateway.get("acme-session-known", &origin.url("/ip")).ok();
        assert_eq!((held.news(), held.exit()), ("held", known.exit()));
    }
}

#[test]
fn without_the_store_a_gateway_may_decide_alone() {
    let redis = Redis::durable();
    let setup = Setup::addresses(8).config("sessions.store_down", "local");
    let gateways = fleet(&setup, &redis, 2);
    let origin = Origin::start();
    let ask = |at: usize, name: &str| gateways[at].get(name, &origin.url("/ip")).ok();
    let known = ask(0, "acme-session-known");
    redis.kill();
    let mut differing = Vec::new();
    for n in 0..12 {
        let name = format!("acme-session-both{n}");
        let (one, two) = (ask(0, &name), ask(1, &name));
        assert_eq!((one.news(), two.news()), ("new", "new"));
        assert_eq!(ask(0, &name).exit(), one.exit());
        if one.exit() != two.exit() {
            differing.push((name, one.exit(), two.exit()));
        }
    }
    assert!(!differing.is_empty());
    let alone = ask(0, "acme-session-alone");
    assert_eq!(ask(0, "acme-session-known").exit(), known.exit());
    gateways[0].log.wait_for("store_local", |line| line.has("store_local"));
    assert_eq!(counted(&gateways[0], "local"), 13, "twelve and one");
    redis.launch();
    // Twelve that both have made, one that one has, and the one from before.
    eventually("what was decided alone is told", PATIENCE, || (redis.pins() == 14).then_some(()));
    eventually("the gateways agree", PATIENCE, || {
        let agree = |(name, ..): &(String, String, String)| ask(0, name).exit() == ask(1, name).exit();
        differing.iter().all(agree).then_some(())
    });
    // Each kept the exit of one of the two.
    for (name, one, two) in &differing {
        let exit = ask(0, name).exit();
        assert!(exit == *one || exit == *two, "{name}");
    }
    eventually("of each that both have made, one gave way", PATIENCE, || {
        let conflicts = counted(&gateways[0], "conflicts") + counted(&gateways[1], "conflicts");
        (conflicts == 12).then_some(())
    });
    assert_eq!(ask(1, "acme-session-alone").exit(), alone.exit());
    assert_eq!(ask(1, "acme-session-known").exit(), known.exit());
}

#[test]
fn a_session_that_gives_way_says_moved() {
    let redis = Redis::durable();
    let setup = Setup::addresses(2).config("sessions.store_down", "local");
    let gateway = on(&setup, &redis.url());
    let origin = Origin::start();
    let before = on(&setup, &redis.url());
    redis.kill();
    let ask = |gateway: &Gateway, n: u8| gateway.get(&format!("acme-session-s{n}"), &origin.url("/ip")).ok();
    let mut alone = Vec::new();
    for n in 0..10 {
        alone.push(ask(&gateway, n).exit());
    }
    // The other comes back first, with pins of its own.
    let others: Vec<_> = (0..10).map(|n| ask(&before, n).exit()).collect();
    gateway.signal(Signal::STOP);
    redis.launch();
    eventually("the first has told", PATIENCE, || (redis.pins() == 10).then_some(()));
    gateway.signal(Signal::CONT);
    for n in 0..10 {
        let (was, is) = (&alone[usize::from(n)], &others[usize::from(n)]);
        let answer = eventually("the store's pin counts", PATIENCE, || {
            let answer = ask(&gateway, n);
            (answer.exit() == *is).then_some(answer)
        });
        if was != is {
            assert_eq!(answer.news(), "moved", "session s{n}");
        }
    }
}

#[test]
fn a_store_that_was_emptied_gets_back_what_gateways_know() {
    let redis = Redis::start();
    let gateways = fleet(&Setup::addresses(8), &redis, 2);
    let origin = Origin::start();
    let ask =
        |at: usize, n: u16| gateways[at].get(&format!("acme-session-s{n}-ttl-1h"), &origin.url("/ip")).ok();
    let made: Vec<_> = (0..60).map(|n| ask(0, n).exit()).collect();
    for restart in [false, true, false] {
        if restart {
            redis.kill();
            redis.launch();
        } else {
            redis.ask::<()>(&["FLUSHALL"]);
        }
        for (n, made) in made.iter().enumerate() {
            let answer = eventually("an answer", PATIENCE, || {
                let answer = gateways[1].get(&format!("acme-session-s{n}-ttl-1h"), &origin.url("/ip"));
                (answer.status == 200).then_some(answer)
            });
            assert_eq!((answer.exit(), answer.news()), (made.clone(), "held"), "s{n}");
        }
    }
}

#[test]
fn without_a_shared_store_rendezvous_agrees() {
    let setup = Setup::addresses(8).pool("placement", "rendezvous");
    let (one, two) = (setup.clone().start(), setup.start());
    let origin = Origin::start();
    for n in 0..60 {
        let name = format!("acme-session-s{n}");
        let (one, two) = (one.get(&name, &origin.url("/ip")).ok(), two.get(&name, &origin.url("/ip")).ok());
        assert_eq!(one.exit(), two.exit(), "{name}");
    }
}

#[test]
fn ends_are_the_stores_and_on_time() {
    let redis = Redis::start();
    let gateways = fleet(&Setup::addresses(8), &redis, 2);
    let origin = Origin::start();
    let mut client = gateways[0].client();
    let made = client.send(get(&origin.url("/ip"), &basic("acme-session-a-ttl-3s"))).answer("GET").ok();
    assert_eq!(made.news(), "new");
    let start = Instant::now();
    let ask = || gateways[1].get("acme-session-a-ttl-3s", &origin.url("/ip")).ok();
    while ask().news() == "held" {
        assert!(start.elapsed() < Duration::from_secs(5), "at most a second late");
    }
    assert!(start.elapsed() > Duration::from_millis(2900), "never early");
}

#[test]
fn what_an_operator_does_on_one_gateway_holds_on_all() {
    let redis = Redis::start();
    let gateways = fleet(&Setup::addresses(8), &redis, 2);
    let origin = Origin::start();
    let ask = |at: usize, name: &str| gateways[at].get(name, &origin.url("/ip")).ok();
    let made = ask(0, "acme-session-a-ttl-1h");
    ask(1, "acme-session-b-ttl-1h");
    // The list is of all gateways' sessions, and so are looks and acts.
    for gateway in &gateways {
        let listed = operator::look(gateway, "/v1/sessions");
        assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(2), "{listed:#}");
    }
    let key = operator::session(&gateways[1], "a")["key"].as_str().expect("a key").to_owned();
    let path = format!("/v1/sessions/{key}");
    assert_eq!(operator::look(&gateways[1], &path)["exit"], made.exit().trim_start_matches("p/"));
    assert_eq!(ask(1, "acme-session-a-ttl-1h").exit(), made.exit());

    operator::act(&gateways[1], "POST", &format!("{path}/move"));
    let start = Instant::now();
    let moved = loop {
        let answer = ask(0, "acme-session-a-ttl-1h");
        if answer.exit() != made.exit() {
            break answer;
        }
        assert!(start.elapsed() < Duration::from_secs(2), "the move is known on the other gateway");
    };
    assert_eq!(moved.news(), "moved");
    assert_eq!((ask(1, "acme-session-a").exit(), ask(1, "acme-session-a").news()), (moved.exit(), "held"));

    operator::tell(&gateways[0], &format!("{path}/extend"), &json!({ "ttl": "5h" })).ok();
    eventually("the other gateway knows how long it lasts", PATIENCE, || {
        let left = ask(1, "acme-session-a").session("expires-in");
        left.is_some_and(|left| (17_990..=18_000).contains(&left)).then_some(())
    });

    operator::act(&gateways[0], "DELETE", &path);
    let start = Instant::now();
    while ask(1, "acme-session-a").news() != "new" {
        assert!(start.elapsed() < Duration::from_secs(2), "the end is known on the other gateway");
    }
}
