//! Failover as asked (SPEC §3.6): when a pin moves, where to, how often.

use std::collections::HashSet;
use std::sync::Barrier;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::request::{Ask, get, request};
use crate::harness::{Gateway, Mood, Origin, PATIENCE, Setup, Upstream, basic, eventually};

/// Upstream proxies as exits `u0`, `u1`, ….
struct Fleet {
    upstreams: Vec<Upstream>,
    exits: Value,
}

impl Fleet {
    /// Exits with these addresses as the file tells them ("" for none).
    fn new(addresses: &[&str]) -> Self {
        let upstreams: Vec<_> = addresses.iter().map(|_| Upstream::http()).collect();
        let exit = |(n, address): (usize, &&str)| {
            let mut exit = json!({ "id": format!("u{n}"), "via": upstreams[n].to_string() });
            if !address.is_empty() {
                exit["address"] = (*address).into();
            }
            exit
        };
        let exits = addresses.iter().enumerate().map(exit).collect();
        Self { upstreams, exits }
    }

    fn setup(&self) -> Setup {
        Setup::new(self.exits.clone()).quick()
    }

    /// The upstream behind `p/u<n>`.
    fn named(&self, exit: &str) -> &Upstream {
        let n: usize = exit.trim_start_matches("p/u").parse().expect("a number");
        &self.upstreams[n]
    }
}

#[test]
fn a_session_moves_once_when_its_exit_is_gone_and_never_back() {
    let fleet = Fleet::new(&["", "", ""]);
    let gateway = fleet.setup().on_disk().start();
    let origin = Origin::start();
    let name = "acme-session-a-ttl-1h";
    let first = gateway.get(name, &origin.url("/ip")).ok();
    fleet.named(&first.exit()).refuse();
    let (seen, moved) = gateway.seen_through_tunnel(name, origin.address);
    assert_eq!(moved.news(), "moved");
    assert_eq!(seen, fleet.named(&moved.exit()).ip(), "the request that finds it down succeeds");
    assert_ne!(moved.exit(), first.exit());
    let left = moved.session("expires-in").expect("a ttl");
    assert!((3500..=first.session("expires-in").expect("a ttl")).contains(&left), "keeps its expiry");
    fleet.named(&first.exit()).come_back();
    std::thread::sleep(Duration::from_millis(1200));
    for _ in 0..5 {
        let held = gateway.get(name, &origin.url("/ip")).ok();
        assert_eq!((held.news(), held.exit()), ("held", moved.exit()));
    }
    gateway.crash();
    assert_eq!(gateway.get(name, &origin.url("/ip")).ok().exit(), moved.exit(), "the move is on disk");
}

#[test]
fn a_plain_request_that_was_not_written_succeeds_through_the_new_exit() {
    let fleet = Fleet::new(&["", ""]);
    let gateway = fleet.setup().start();
    let origin = Origin::start();
    let first = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    fleet.named(&first.exit()).refuse();
    let mut client = gateway.client();
    let fields = format!("{}Content-Length: 4\r\n", basic("acme-session-a"));
    client.send(request("POST", &origin.url("/echo"), &fields) + "body");
    let answer = client.answer("POST").ok();
    assert_eq!((answer.news(), &*answer.text()), ("moved", "body"));
    assert_eq!(origin.count(), 2, "sent once");
}

#[test]
fn sixteen_requests_of_one_session_move_it_once() {
    let fleet = Fleet::new(&["", "", "", "", "", ""]);
    let gateway = fleet.setup().start();
    let origin = Origin::start();
    for round in 0..3 {
        let name = format!("acme-session-s{round}");
        let first = gateway.get(&name, &origin.url("/ip")).ok();
        fleet.named(&first.exit()).refuse();
        let together = Barrier::new(16);
        let ask = || {
            together.wait();
            gateway.get(&name, &origin.url("/ip")).ok()
        };
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        let exits: HashSet<_> = answers.iter().map(|answer| answer.exit()).collect();
        let moved = answers.iter().filter(|answer| answer.news() == "moved").count();
        assert_eq!((exits.len(), moved), (1, 1), "{exits:?}");
        assert!(!exits.contains(&first.exit()));
        fleet.named(&first.exit()).come_back();
        std::thread::sleep(Duration::from_millis(1100));
    }
}

#[test]
fn sixteen_requests_move_together_to_an_exit_that_awaits_its_trial() {
    let fleet = Fleet::new(&["", ""]);
    let gateway = fleet.setup().pool("health", json!({ "eject_after": 3, "eject_for": "200ms" })).start();
    let origin = Origin::start();
    gateway.get("acme-session-a-exit-u0", &origin.url("/ip")).ok();
    // u1 is ejected, comes back, and was not asked since.
    fleet.upstreams[1].refuse();
    eventually("u1 is ejected", PATIENCE, || {
        (gateway.get("acme-exit-u1", &origin.url("/ip")).code() == "no_exit").then_some(())
    });
    fleet.upstreams[1].come_back();
    std::thread::sleep(Duration::from_millis(300));
    fleet.upstreams[0].refuse();
    let together = Barrier::new(16);
    let ask = || {
        together.wait();
        gateway.get("acme-session-a", &origin.url("/ip"))
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let moved = answers.iter().filter(|answer| answer.news() == "moved").count();
    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).map(|one| one.code()).collect();
    assert_eq!((moved, failed), (1, Vec::new()));
}

#[test]
fn off_keeps_the_pin_until_the_exit_comes_back() {
    let fleet = Fleet::new(&["", "", ""]);
    let gateway = fleet.setup().start();
    let origin = Origin::start();
    let name = "acme-session-a-failover-off";
    let first = gateway.get(name, &origin.url("/ip")).ok();
    fleet.named(&first.exit()).refuse();
    for _ in 0..3 {
        let answer = gateway.connect(name, origin.address).1.fails(503, "exit_down");
        assert!(answer.retry_after().is_some_and(|wait| wait >= 1));
        assert!(answer.detail().contains("refused"), "the cause: {}", answer.detail());
        gateway.get(name, &origin.url("/ip")).fails(503, "exit_down");
    }
    fleet.named(&first.exit()).come_back();
    let held = eventually("the exit is tried again", PATIENCE, || {
        let answer = gateway.get(name, &origin.url("/ip"));
        (answer.status == 200).then_some(answer)
    });
    assert_eq!((held.news(), held.exit()), ("held", first.exit()));
}

#[test]
fn address_moves_to_a_sibling_or_not_at_all() {
    let fleet = Fleet::new(&["203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.3"]);
    let gateway = fleet.setup().pool("failover", "address").start();
    let origin = Origin::start();
    let ask = |name: &str| gateway.get(name, &origin.url("/ip"));
    ask("acme-session-a-exit-u0").ok();
    ask("acme-session-b-exit-u2").ok();
    fleet.upstreams[0].refuse();
    fleet.upstreams[2].refuse();
    let moved = ask("acme-session-a").ok();
    assert_eq!((moved.news(), &*moved.exit(), moved.address()), ("moved", "p/u1", Some("203.0.113.1")));
    assert!(
        moved.field("moorgate-session").is_some_and(|value| value.ends_with("; same-address")),
        "{moved:?}"
    );
    ask("acme-session-b").fails(503, "exit_down");
    assert_eq!(ask("acme-session-b-failover-on").ok().news(), "moved", "a request's own word wins");
}

#[test]
fn on_prefers_a_sibling() {
    let fleet = Fleet::new(&["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.1"]);
    let gateway = fleet.setup().start();
    let origin = Origin::start();
    for n in 0..5 {
        gateway.get(&format!("acme-session-s{n}-exit-u0"), &origin.url("/ip")).ok();
    }
    fleet.upstreams[0].refuse();
    for n in 0..5 {
        assert_eq!(gateway.get(&format!("acme-session-s{n}"), &origin.url("/ip")).ok().exit(), "p/u3");
    }
}

#[test]
fn a_move_keeps_to_the_keys_labels() {
    let mut fleet = Fleet::new(&["", "", ""]);
    for (n, country) in [(0, "us"), (1, "de"), (2, "us")] {
        fleet.exits[n]["labels"] = json!({ "country": country });
    }
    let gateway = fleet.setup().start();
    let origin = Origin::start();
    let ask = |name: &str| gateway.get(name, &origin.url("/ip"));
    let first = ask("acme-session-a-country-us").ok();
    let other = if first.exit() == "p/u0" { "p/u2" } else { "p/u0" };
    fleet.named(&first.exit()).refuse();
    let moved = ask("acme-session-a-country-us").ok();
    assert_eq!((moved.news(), &*moved.exit()), ("moved", other));
    fleet.named(other).refuse();
    ask("acme-session-a-country-us").fails(503, "exit_down");
}

#[test]
fn none_left_to_move_to_is_exit_down_and_the_pin_stays() {
    let fleet = Fleet::new(&["", ""]);
    let gateway = fleet.setup().start();
    let origin = Origin::start();
    let first = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    fleet.upstreams.iter().for_each(Upstream::refuse);
    // The pin may move while the other exit still counts as healthy.
    for _ in 0..3 {
        assert_eq!(gateway.get("acme-session-a", &origin.url("/ip")).status / 100, 5);
    }
    gateway.get("acme-session-a", &origin.url("/ip")).fails(503, "exit_down");
    gateway.get("acme-session-new", &origin.url("/ip")).fails(503, "no_exit");
    gateway.get("acme", &origin.url("/ip")).fails(503, "no_exit");
    fleet.upstreams.iter().for_each(Upstream::come_back);
    let back = eventually("the exits are tried again", PATIENCE, || {
        let answer = gateway.get("acme-session-a", &origin.url("/ip"));
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(back.session("expires-in").is_some(), first.session("expires-in").is_some());
    assert_ne!(back.news(), "new");
}

#[test]
fn attempts_without_ejection_fail_the_request_and_keep_the_pin() {
    let fleet = Fleet::new(&["", ""]);
    let setup =
        fleet.setup().pool("attempts", 2).pool("health", json!({ "eject_after": 5, "eject_for": "1h" }));
    let gateway = setup.start();
    let origin = Origin::start();
    let first = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    let down = fleet.named(&first.exit());
    down.set(Mood::Break);
    let before = down.count();
    for round in 1..=2 {
        gateway.connect("acme-session-a", origin.address).1.fails(502, "exit_failed");
        assert_eq!(down.count(), before + 2 * round, "so many attempts");
    }
    down.set(Mood::Serve);
    let held = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    assert_eq!((held.news(), held.exit()), ("held", first.exit()));
    // A success ended the count: four more failures are not enough.
    down.set(Mood::Break);
    for _ in 0..2 {
        gateway.connect("acme-session-a", origin.address).1.fails(502, "exit_failed");
    }
    let moved = gateway.tunnel("acme-session-a", origin.address).1;
    assert_eq!(moved.news(), "moved", "the fifth in a row ejects");
}

#[test]
fn eject_after_zero_never_moves() {
    let fleet = Fleet::new(&["", ""]);
    let gateway = fleet.setup().pool("health", json!({ "eject_after": 0 })).start();
    let origin = Origin::start();
    let first = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    fleet.named(&first.exit()).refuse();
    for _ in 0..5 {
        gateway.get("acme-session-a", &origin.url("/ip")).fails(502, "exit_failed");
    }
    fleet.named(&first.exit()).come_back();
    assert_eq!(gateway.get("acme-session-a", &origin.url("/ip")).ok().exit(), first.exit());
}

#[test]
fn an_ejected_exit_gets_one_trial_after_its_time() {
    let fleet = Fleet::new(&["", ""]);
    let gateway = fleet.setup().start();
    let origin = Origin::start();
    let name = "acme-session-a-exit-u0-failover-off";
    gateway.get(name, &origin.url("/ip")).ok();
    fleet.upstreams[0].set(Mood::Break);
    gateway.connect(name, origin.address).1.fails(503, "exit_down");
    let ejected = fleet.upstreams[0].count();
    gateway.connect(name, origin.address).1.fails(503, "exit_down");
    assert_eq!(fleet.upstreams[0].count(), ejected, "not even asked");
    eventually("a trial", PATIENCE, || {
        gateway.connect(name, origin.address).1.fails(503, "exit_down");
        (fleet.upstreams[0].count() > ejected).then_some(())
    });
    let tried = fleet.upstreams[0].count();
    gateway.connect(name, origin.address).1.fails(503, "exit_down");
    assert_eq!((tried - ejected, fleet.upstreams[0].count()), (1, tried), "one trial, then ejected again");
}

#[test]
fn unpinned_requests_pass_over_an_exit_that_fails() {
    let fleet = Fleet::new(&["", "", ""]);
    let gateway = fleet.setup().start();
    let origin = Origin::start();
    fleet.upstreams[1].refuse();
    let mut client = gateway.client();
    for _ in 0..12 {
        let answer = client.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").ok();
        assert_ne!(answer.exit(), "p/u1");
    }
    // One exit named by the request cannot be passed over.
    assert_eq!(gateway.get("acme-exit-u1", &origin.url("/ip")).status / 100, 5);
}

#[test]
fn a_request_that_was_written_fails_and_is_not_repeated() {
    let fleet = Fleet::new(&["", ""]);
    let gateway = fleet.setup().pool("attempts", 1).start();
    let origin = Origin::start();
    let first = gateway.get("acme-session-a", &origin.url("/ip")).ok();
    fleet.named(&first.exit()).set(Mood::Break);
    let before: usize = fleet.upstreams.iter().map(Upstream::count).sum();
    let answer = gateway.get("acme-session-a", &origin.url("/ip"));
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(fleet.upstreams.iter().map(Upstream::count).sum::<usize>(), before + 1);
}

/// A pool file edited under a session: what counts as the same exit.
fn edited(gateway: &Gateway, fleet: &Fleet, change: impl Fn(&mut Value)) {
    let mut exits = fleet.exits.clone();
    change(&mut exits);
    gateway.write_pools(&json!({ "pools": [{ "name": "p", "exits": exits, "slow_start": "0s" }] }));
}

#[test]
fn pins_follow_promise_6_when_their_exit_is_removed_or_turned_off() {
    for change in
        [(|exits: &mut Value| drop(exits.as_array_mut().unwrap().remove(0))) as fn(&mut Value), |exits| {
            exits[0]["state"] = "off".into()
        }]
    {
        let fleet = Fleet::new(&["", ""]);
        let gateway = fleet.setup().start();
        let origin = Origin::start();
        gateway.get("acme-session-a-exit-u0", &origin.url("/ip")).ok();
        gateway.get("acme-session-b-exit-u0", &origin.url("/ip")).ok();
        edited(&gateway, &fleet, change);
        let moved = eventually("the session moves", PATIENCE, || {
            let answer = gateway.get("acme-session-a", &origin.url("/ip")).ok();
            (answer.news() != "held").then_some(answer)
        });
        assert_eq!((moved.news(), &*moved.exit()), ("moved", "p/u1"));
        gateway.get("acme-session-b-failover-off", &origin.url("/ip")).fails(503, "exit_down");
        edited(&gateway, &fleet, |_| ());
        let back = eventually("the exit is back", PATIENCE, || {
            let answer = gateway.get("acme-session-b-failover-off", &origin.url("/ip"));
            (answer.status == 200).then_some(answer)
        });
        assert_eq!((back.news(), &*back.exit()), ("held", "p/u0"));
    }
}

#[test]
fn pins_follow_an_exit_whose_via_changes_and_say_so_once() {
    let fleet = Fleet::new(&["", ""]);
    let gateway = fleet.setup().start();
    let origin = Origin::start();
    gateway.get("acme-session-a-exit-u0", &origin.url("/ip")).ok();
    let new = Upstream::http();
    edited(&gateway, &fleet, |exits| exits[0]["via"] = new.to_string().into());
    let moved = eventually("the exit changes", PATIENCE, || {
        let answer = gateway.get("acme-session-a", &origin.url("/ip")).ok();
        (answer.text() == new.ip()).then_some(answer)
    });
    assert_eq!((moved.news(), &*moved.exit()), ("moved", "p/u0"));
    assert_eq!(gateway.get("acme-session-a", &origin.url("/ip")).ok().news(), "held");
}
