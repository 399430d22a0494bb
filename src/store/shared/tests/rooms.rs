//! Room on exits, addresses of prefixes, users' sessions and bytes, over
//! several nodes.

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU32;

use super::*;
use crate::core::prefix::Addresses;
use crate::store::{Demand, Moved, Placed};

async fn two(redis: &Redis) -> (Node, Node) {
    (Node::at(&redis.url(), WhenAway::Refuse).await, Node::at(&redis.url(), WhenAway::Refuse).await)
}

fn now() -> Timestamp {
    Timestamp::from_ms(SystemClock::new().now().as_ms())
}

fn proposal(session: &str, exit: &str) -> Pin {
    Pin { made: now(), used: now(), expires: now().plus(Duration::from_secs(60)), ..pin(session, exit) }
}

fn with_address(session: &str, address: &str) -> Pin {
    Pin { variant: Variant::Address(address.parse().unwrap()), ..proposal(session, "net") }
}

fn most(exit_most: u32) -> Demand {
    Demand { exit_most, ..Demand::default() }
}

fn of_prefix(net: &str) -> Demand {
    Demand { addresses: Some(Addresses::of(net.parse().unwrap())), ..Demand::default() }
}

async fn place(node: &Node, pin: Pin, demand: &Demand) -> Placed {
    node.place(pin.key(), pin, demand).await.unwrap()
}

/// The pin that is made.
async fn placed(node: &Node, pin: Pin, demand: &Demand) -> Claim {
    match place(node, pin, demand).await {
        Placed::Pinned(claim) => claim,
        full => panic!("{full:?}"),
    }
}

async fn counted(node: &Node, exit: &str, pins: u32) {
    let exits = [ExitName { pool: "p".into(), id: exit.into() }];
    for _ in 0..2000 {
        if node.counts(&exits).await == Some(vec![pins]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{exit} has {:?} pins, not {pins}", node.counts(&exits).await);
}

/// Scripts that the store has run.
fn steps(redis: &Redis) -> u64 {
    let info: String = redis.ask(&["INFO", "commandstats"]);
    let line = info.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default().to_owned();
    line.split(['=', ',']).nth(1).map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_holds_so_many_pins_of_all_nodes_and_no_more() {
    let redis = Redis::start();
    let (a, b) = two(&redis).await;
    let nodes = [&a, &b];
    let all = (0..20).map(|n| {
        let store = nodes[n % 2].store.clone();
        tokio::spawn(async move {
            let pin = proposal(&format!("s{n}"), "one");
            store.place(pin.key(), pin, &most(3)).await.unwrap()
        })
    });
    let mut pinned = Vec::new();
    for one in all.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Placed::Pinned(claim) => pinned.push(claim.pin),
            Placed::ExitFull => {}
            full => panic!("{full:?}"),
        }
    }
    assert_eq!(pinned.len(), 3);
    counted(&a, "one", 3).await;
    // Who has a pin already asks for no room.
    assert!(!placed(&b, proposal(pinned[0].session.as_str(), "one"), &most(3)).await.won);
    b.end(pinned[0].key()).await.unwrap().unwrap();
    counted(&a, "one", 2).await;
    assert!(placed(&a, proposal("more", "one"), &most(3)).await.won);
    assert!(matches!(place(&b, proposal("most", "one"), &most(3)).await, Placed::ExitFull));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_is_given_away_to_its_last_address() {
    let redis = Redis::start();
    let (a, b) = two(&redis).await;
    let demand = of_prefix("192.0.2.0/28");
    // Both would give the same one.
    let all = (0..14).map(|n| {
        let store = if n % 2 == 0 { a.store.clone() } else { b.store.clone() };
        tokio::spawn(async move {
            let pin = with_address(&format!("s{n}"), "192.0.2.9");
            store.place(pin.key(), pin, &demand).await.unwrap()
        })
    });
    let mut given = HashSet::new();
    for one in all.collect::<Vec<_>>() {
        let Placed::Pinned(claim) = one.await.unwrap() else { panic!("full") };
        assert!(claim.won);
        let key = claim.pin.key();
        let other = a.find(key).await.unwrap().unwrap();
        assert_eq!(other.pin.variant, claim.pin.variant, "both nodes know which it is");
        given.insert(claim.pin.variant.address().unwrap());
    }
    let usable: HashSet<IpAddr> = (1..=14).map(|n| IpAddr::from([192, 0, 2, n])).collect();
    assert_eq!(given, usable);

    // All are taken: the next ones share, each with another.
    let mut shared = HashSet::new();
    for n in 0..14 {
        let claim = placed(&b, with_address(&format!("t{n}"), "192.0.2.3"), &demand).await;
        shared.insert(claim.pin.variant.address().unwrap());
    }
    assert_eq!(shared, usable);

    // One is free again once both of its pins have ended.
    let both: Vec<_> = a.page(None, 100, |_| true).await.pins.into_iter().collect();
    let of_five = both.iter().filter(|(_, pin)| pin.variant == Variant::Address([192, 0, 2, 5].into()));
    for (key, _) in of_five {
        a.end(*key).await.unwrap().unwrap();
    }
    counted(&a, "net", 26).await;
    let claim = placed(&b, with_address("u", "192.0.2.11"), &demand).await;
    assert_eq!(claim.pin.variant, Variant::Address([192, 0, 2, 5].into()));
}

#[tokio::test]
async fn addresses_of_pins_that_ran_out_are_free() {
    let redis = Redis::start();
    let (a, b) = two(&redis).await;
    let demand = of_prefix("2001:db8::/126");
    for (n, address) in ["2001:db8::1", "2001:db8::2", "2001:db8::3"].into_iter().enumerate() {
        let mut pin = with_address(&format!("s{n}"), address);
        pin.expires = pin.made.plus(Duration::from_millis(if n == 1 { 300 } else { 60_000 }));
        assert!(placed(&a, pin, &demand).await.won);
    }
    counted(&b, "net", 2).await;
    let claim = placed(&b, with_address("t", "2001:db8::3"), &demand).await;
    assert_eq!(claim.pin.variant, Variant::Address("2001:db8::2".parse().unwrap()));
}

#[tokio::test]
async fn a_move_reserves_an_address_that_nobody_has() {
    let redis = Redis::start();
    let (a, b) = two(&redis).await;
    let demand = of_prefix("192.0.2.0/30");
    let mine = with_address("a", "192.0.2.1");
    let mine = a.reserve(mine.key(), &mine, &demand).await.unwrap().expect("room");
    assert_eq!(mine.address(), None, "the one that was asked for");
    let other = with_address("b", "192.0.2.1");
    // Exactly that one, for a session that must keep its address: it is taken.
    assert!(b.reserve(other.key(), &other, &Demand::default()).await.unwrap().is_none());
    let its = b.reserve(other.key(), &other, &demand).await.unwrap().expect("room");
    assert_eq!(its.address(), Some([192, 0, 2, 2].into()));
    drop(mine);
    drop(its);
    counted(&a, "net", 0).await;
    let again = b.reserve(other.key(), &other, &Demand::default()).await.unwrap().expect("free again");
    again.keep();
    counted(&a, "net", 1).await;
}

#[tokio::test]
async fn a_user_has_so_many_sessions_on_all_nodes() {
    let redis = Redis::start();
    let (a, b) = two(&redis).await;
    let demand = Demand { user_most: NonZeroU32::new(2), ..Demand::default() };
    let first = placed(&a, proposal("a", "one"), &demand).await;
    assert!(placed(&b, proposal("b", "one"), &demand).await.won);
    for node in [&a, &b] {
        let Placed::UserFull { wait } = place(node, proposal("c", "two"), &demand).await else {
            panic!("not full")
        };
        assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60), "{wait:?}");
        assert!(!placed(node, proposal("a", "two"), &demand).await.won, "a live session goes on");
    }
    b.end(first.pin.key()).await.unwrap().unwrap();
    for n in 0..2000 {
        match place(&a, proposal("c", "two"), &demand).await {
            Placed::Pinned(claim) => return assert!(claim.won),
            _ if n == 1999 => panic!("the seat was not given back"),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test]
async fn a_limit_that_comes_later_counts_the_sessions_that_there_are() {
    let redis = Redis::start();
    let (a, b) = two(&redis).await;
    for n in 0..3 {
        assert!(a.made(&format!("s{n}"), "one").await.won);
    }
    let demand = Demand { user_most: NonZeroU32::new(5), ..Demand::default() };
    assert!(placed(&a, proposal("with", "one"), &demand).await.won);
    for _ in 0..2000 {
        if redis.ask::<i64>(&["ZCARD", "moorgate:u:acme"]) == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(placed(&b, proposal("fifth", "one"), &demand).await.won);
    assert!(matches!(place(&b, proposal("sixth", "one"), &demand).await, Placed::UserFull { .. }));
}

#[tokio::test]
async fn a_new_session_costs_one_round_trip_whatever_is_limited() {
    let redis = Redis::start();
    let a = Node::at(&redis.url(), WhenAway::Refuse).await;
    let user_most = NonZeroU32::new(1000);
    let demand = Demand { exit_most: 1000, user_most, ..of_prefix("10.0.0.0/16") };
    // The store's first moments are for those who know what it lost.
    assert!(placed(&a, with_address("first", "10.0.7.7"), &demand).await.won);
    let (before, start) = (steps(&redis), tokio::time::Instant::now());
    for n in 0..100 {
        // Without an answer nothing is announced, and nothing to be told.
        assert!(placed(&a, with_address(&format!("s{n}"), "10.0.7.7"), &demand).await.won);
    }
    let beats = start.elapsed().as_millis() as u64 / 250 + 8;
    let steps = steps(&redis) - before;
    assert!((100..=100 + beats).contains(&steps), "{steps} steps for 100 sessions");
}

#[tokio::test]
async fn bytes_of_a_day_are_added_up_and_survive_the_stores_loss() {
    let redis = Redis::start();
    let (a, b) = two(&redis).await;
    let moved = |more, known| vec![Moved { user: "acme".into(), more, known }];
    assert_eq!(a.add_bytes(9, &moved(100, 100)).await, Some(vec![100]));
    assert_eq!(b.add_bytes(9, &moved(30, 30)).await, Some(vec![130]));
    assert_eq!(a.add_bytes(9, &moved(0, 100)).await, Some(vec![130]));
    assert_eq!(a.add_bytes(10, &moved(5, 5)).await, Some(vec![5]), "another day");
    redis.ask::<()>(&["FLUSHALL"]);
    assert_eq!(b.add_bytes(9, &moved(10, 140)).await, Some(vec![140]), "what a node knows is back");
    assert_eq!(a.add_bytes(9, &moved(1, 131)).await, Some(vec![141]));
    assert!(redis.ask::<i64>(&["PTTL", "moorgate:b:9"]) > 86_400_000);
}
