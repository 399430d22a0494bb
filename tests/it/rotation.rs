//! Requests without a session rotate (SPEC §3); new pins are placed (SPEC §6).

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::harness::request::{Ask, get};
use crate::harness::setup::{address, addresses};
use crate::harness::{Client, Gateway, Origin, Setup, basic};

/// So many exits with these weights.
fn weighted(weights: &[u32]) -> Value {
    let exit = |(n, weight): (usize, &u32)| {
        let mut exit = address(n as u8 + 1);
        exit["weight"] = (*weight).into();
        exit
    };
    weights.iter().enumerate().map(exit).collect()
}

/// Which exit each of so many requests on one connection leaves by.
fn exits(client: &mut Client, origin: &Origin, username: &str, count: usize) -> Vec<String> {
    let text = get(&origin.url("/ip"), &basic(username));
    let one = |_| client.send(&text).answer("GET").ok().exit().trim_start_matches("p/").to_owned();
    (0..count).map(one).collect()
}

fn tally(exits: &[String]) -> HashMap<&str, usize> {
    exits.iter().fold(HashMap::new(), |mut tally, exit| {
        *tally.entry(&**exit).or_default() += 1;
        tally
    })
}

#[test]
fn each_exit_is_used_once_a_round_on_one_connection() {
    let gateway = Setup::addresses(7).start();
    let origin = Origin::start();
    let all = exits(&mut gateway.client(), &origin, "acme", 7 * 5);
    for round in all.chunks(7) {
        assert_eq!(tally(round).len(), 7, "each once: {round:?}");
    }
    assert!(all.iter().zip(&all[1..]).all(|(one, next)| one != next), "{all:?}");
    // The same over connections of their own, and for CONNECT.
    let single: Vec<_> = (0..14).map(|_| gateway.tunnel("acme", origin.address).1.exit()).collect();
    assert!(tally(&single).values().all(|count| *count == 2), "{single:?}");
}

#[test]
fn weights_are_respected_in_each_round_and_spread() {
    let gateway = Setup::new(weighted(&[1, 2, 3, 4])).start();
    let origin = Origin::start();
    let all = exits(&mut gateway.client(), &origin, "acme", 30);
    for round in all.chunks(10) {
        let tally = tally(round);
        assert_eq!([tally["e1"], tally["e2"], tally["e3"], tally["e4"]], [1, 2, 3, 4], "{round:?}");
    }
    assert!(all.windows(3).all(|three| tally(three).len() > 1), "no exit three times in a row: {all:?}");
}

#[test]
fn each_set_of_labels_has_its_own_rotation() {
    let mut exits_json = addresses(6);
    for n in 0..6 {
        exits_json[n]["labels"] = json!({ "country": if n % 2 == 0 { "us" } else { "de" } });
    }
    let gateway = Setup::new(exits_json).start();
    let origin = Origin::start();
    let mut client = gateway.client();
    let mut seen: HashMap<&str, Vec<String>> = HashMap::new();
    for _ in 0..6 {
        for username in ["acme-country-us", "acme", "acme-country-de"] {
            seen.entry(username).or_default().extend(exits(&mut client, &origin, username, 1));
        }
    }
    assert!(tally(&seen["acme"]).values().all(|count| *count == 1), "{seen:?}");
    for username in ["acme-country-us", "acme-country-de"] {
        let tally = tally(&seen[username]);
        assert!(tally.len() == 3 && tally.values().all(|count| *count == 2), "{username}: {tally:?}");
    }
}

#[test]
fn sessions_do_not_disturb_the_rotation() {
    let gateway = Setup::addresses(4).start();
    let origin = Origin::start();
    let mut client = gateway.client();
    let mut unpinned = Vec::new();
    for n in 0..8 {
        unpinned.extend(exits(&mut client, &origin, "acme", 1));
        exits(&mut client, &origin, &format!("acme-session-s{n}"), 2);
    }
    assert!(tally(&unpinned).values().all(|count| *count == 2), "{unpinned:?}");
}

#[test]
fn random_rotation_is_random_and_weighted() {
    let gateway = Setup::new(weighted(&[1, 3])).pool("rotation", "random").start();
    let origin = Origin::start();
    let all = exits(&mut gateway.client(), &origin, "acme", 400);
    // 300 expected; seven standard deviations (8.7) either side.
    assert!((240..=360).contains(&tally(&all)["e2"]), "{:?}", tally(&all));
    assert!(!all.chunks(4).all(|four| tally(four).get("e1") == Some(&1)), "no fixed order");
}

#[test]
fn least_connections_goes_where_the_fewest_are() {
    let gateway = Setup::addresses(3).pool("rotation", "least_connections").start();
    let origin = Origin::start();
    let open: Vec<_> = (0..9).map(|_| gateway.tunnel("acme", origin.address)).collect();
    let all: Vec<_> = open.iter().map(|(_, answer)| answer.exit()).collect();
    assert!(tally(&all).values().all(|count| *count == 3), "{all:?}");
    // Tunnels that are pinned count, too.
    let pinned: Vec<_> = (0..4).map(|_| gateway.tunnel("acme-session-a", origin.address)).collect();
    let busy = pinned[0].1.exit();
    for _ in 0..4 {
        assert_ne!(gateway.tunnel("acme", origin.address).1.exit(), busy);
    }
}

#[test]
fn rotate_holds_a_users_requests_for_a_while() {
    let gateway = Setup::addresses(4).pool("rotate", json!({ "requests": 5 })).start();
    let origin = Origin::start();
    let all = exits(&mut gateway.client(), &origin, "acme", 20);
    let runs: Vec<_> = all.chunks(5).map(|five| tally(five).len()).collect();
    assert_eq!((runs, tally(&all).len()), (vec![1; 4], 4), "{all:?}");

    let gateway = Setup::addresses(4).pool("rotate", json!({ "every": "1s" })).start();
    let first = exits(&mut gateway.client(), &origin, "acme", 1);
    let next = crate::harness::eventually("the exit changes", crate::harness::PATIENCE, || {
        let now = exits(&mut gateway.client(), &origin, "acme", 1);
        (now != first).then_some(now)
    });
    assert_ne!(first, next);
}

/// Places so many new sessions, and gives how many each exit got.
fn place(gateway: &Gateway, origin: &Origin, prefix: &str, count: usize) -> HashMap<String, usize> {
    let one = |client: &mut Client, n: usize| {
        let fields = basic(&format!("acme-session-{prefix}{n}-ttl-1h"));
        let answer = client.send(get(&origin.url("/ip"), &fields)).answer("GET").ok();
        assert_eq!(answer.news(), "new");
        answer.exit().trim_start_matches("p/").to_owned()
    };
    std::thread::scope(|scope| {
        let half = |odd: usize| {
            let mut client = gateway.client();
            (0..count).filter(|n| n % 2 == odd).map(|n| one(&mut client, n)).collect::<Vec<_>>()
        };
        let threads = [scope.spawn(move || half(0)), scope.spawn(move || half(1))];
        let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        all.into_iter().fold(HashMap::new(), |mut tally, exit| {
            *tally.entry(exit).or_default() += 1;
            tally
        })
    })
}

#[test]
fn least_sessions_spreads_evenly_and_by_weight() {
    let gateway = Setup::addresses(10).pool("slow_start", "0s").start();
    let origin = Origin::start();
    let tally = place(&gateway, &origin, "a", 2000);
    let (least, most) = (tally.values().min().unwrap(), tally.values().max().unwrap());
    assert!(tally.len() == 10 && most * 10 <= least * 12, "{tally:?}");

    let gateway = Setup::new(weighted(&[1, 3])).pool("slow_start", "0s").start();
    let tally = place(&gateway, &origin, "b", 400);
    assert!((85..=115).contains(&tally["e1"]), "{tally:?}");
}

#[test]
fn an_exit_that_joins_is_no_hotspot() {
    let gateway = Setup::addresses(9).start();
    let origin = Origin::start();
    place(&gateway, &origin, "a", 900);
    gateway.write_pools(&json!({ "pools": [{ "name": "p", "exits": addresses(10) }] }));
    let joined = || (gateway.get("acme-exit-e10", &origin.url("/ip")).status == 200).then_some(());
    crate::harness::eventually("e10 joins", crate::harness::PATIENCE, joined);
    let tally = place(&gateway, &origin, "b", 400);
    let got = tally.get("e10").copied().unwrap_or(0);
    assert!(got <= 100, "at most 2.5 times its share of 40: {tally:?}");
}

#[test]
fn rendezvous_agrees_over_nodes_and_moves_few() {
    let origin = Origin::start();
    let start = |count: u8| {
        let setup = Setup::addresses(count).pool("placement", "rendezvous");
        setup.start()
    };
    let (one, two, fewer) = (start(10), start(10), start(9));
    let of = |gateway: &Gateway, n: usize| {
        exits(&mut gateway.client(), &origin, &format!("acme-session-s{n}"), 1).remove(0)
    };
    let mut on_e10 = 0;
    for n in 0..200 {
        let exit = of(&one, n);
        assert_eq!(of(&two, n), exit, "nodes agree without a store");
        match &*exit {
            "e10" => on_e10 += 1,
            _ => assert_eq!(of(&fewer, n), exit, "only its own sessions go elsewhere"),
        }
    }
    assert!((5..=45).contains(&on_e10), "{on_e10} of 200 on one of ten exits");
}

#[test]
fn random_placement_is_random() {
    let gateway = Setup::addresses(2).pool("placement", "random").start();
    let origin = Origin::start();
    let tally = place(&gateway, &origin, "a", 200);
    assert!(tally["e1"].abs_diff(100) <= 50, "{tally:?}");
}
