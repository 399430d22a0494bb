//! What gateways on one store count together: room on exits, addresses of
//! prefixes, the load that placement sees, users' sessions and bytes.

use std::collections::HashSet;
use std::sync::Barrier;

use serde_json::json;

use crate::harness::redis::Redis;
use crate::harness::request::Ask;
use crate::harness::{Origin, PATIENCE, Setup, Target, eventually, operator};
use crate::shared::fleet;

#[test]
fn max_sessions_holds_on_all_gateways_together() {
    let redis = Redis::start();
    let setup = Setup::addresses(4).pool("max_sessions", 2);
    let gateways = fleet(&setup, &redis, 2);
    let origin = Origin::start();
    let together = Barrier::new(16);
    let ask = |at: usize| {
        together.wait();
        gateways[at % 2].get(&format!("acme-session-s{at}-ttl-1h"), &origin.url("/ip"))
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|at| scope.spawn(move || ask(at))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let mut held = std::collections::BTreeMap::<String, u32>::new();
    for answer in answers {
        match answer.status {
            200 => *held.entry(answer.exit()).or_default() += 1,
            _ => drop(answer.fails(503, "no_exit")),
        }
    }
    assert!(held.values().all(|count| *count <= 2), "{held:?}");
    // What was refused for the others' sake is given away now.
    let full = |at: usize| {
        for n in 0..16 {
            let _ = gateways[at].get(&format!("acme-session-more{n}-ttl-1h"), &origin.url("/ip"));
        }
    };
    full(0);
    full(1);
    eventually("all room is taken", PATIENCE, || {
        let counts: i64 =
            (1..=4).map(|n| redis.ask::<i64>(&["ZCARD", &format!("moorgate:x:{{p/e{n}}}")])).sum();
        (counts == 8).then_some(())
    });
    gateways[1].get("acme-session-last", &origin.url("/ip")).fails(503, "no_exit");
}

#[test]
fn no_two_sessions_of_any_gateway_have_one_address_of_a_prefix() {
    let redis = Redis::start();
    let gateways = fleet(&Setup::new(json!(["127.1.8.0/28"])), &redis, 2);
    let origin = Origin::start();
    let together = Barrier::new(14);
    let ask = |n: usize| {
        together.wait();
        gateways[n % 2].get(&format!("acme-session-s{n}"), &origin.url("/ip")).ok().text()
    };
    let addresses: Vec<_> = std::thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = (0..14).map(|n| scope.spawn(move || ask(n))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let distinct: HashSet<_> = addresses.iter().cloned().collect();
    let usable: HashSet<_> = (1..=14).map(|n| format!("127.1.8.{n}")).collect();
    assert_eq!(distinct, usable, "to the last one");
    for n in 0..14 {
        let other = gateways[(n + 1) % 2].get(&format!("acme-session-s{n}"), &origin.url("/ip")).ok();
        assert_eq!(other.text(), addresses[n]);
    }
    let used = gateways[0].get("acme-session-more", &origin.url("/ip")).ok().text();
    assert!(usable.contains(&used), "a full prefix gives one that is used");
    // One that is free again is found, wherever it is asked for.
    let key = operator::session(&gateways[1], "s5")["key"].as_str().expect("a key").to_owned();
    operator::act(&gateways[1], "DELETE", &format!("/v1/sessions/{key}"));
    if used != addresses[5] {
        eventually("the one free address is given", PATIENCE, || {
            let answer = gateways[0].get("acme-session-next", &origin.url("/ip")).ok();
            if answer.text() == addresses[5] {
                return Some(());
            }
            let key = operator::session(&gateways[0], "next")["key"].as_str()?.to_owned();
            operator::act(&gateways[0], "DELETE", &format!("/v1/sessions/{key}"));
            None
        });
    }
}

#[test]
fn placement_sees_the_load_of_all_gateways() {
    let redis = Redis::start();
    let gateways = fleet(&Setup::addresses(2).pool("slow_start", "0s"), &redis, 2);
    let origin = Origin::start();
    for n in 0..40 {
        gateways[0].get(&format!("acme-session-s{n}-exit-e1"), &origin.url("/ip")).ok();
    }
    // A gateway that has pinned nothing itself learns of it within a second
    // or two, and then takes the other exit.
    let mut n = 0;
    eventually("the second gateway knows", PATIENCE, || {
        n += 1;
        let run = (0..5)
            .map(|m| gateways[1].get(&format!("acme-session-t{n}x{m}"), &origin.url("/ip")).ok().exit());
        run.into_iter().all(|exit| exit == "p/e2").then_some(())
    });
}

#[test]
fn a_users_sessions_are_counted_on_all_gateways() {
    let redis = Redis::start();
    let setup = Setup::addresses(4).config("users.0.limits", json!({ "sessions": 5 }));
    let gateways = fleet(&setup, &redis, 2);
    let origin = Origin::start();
    let together = Barrier::new(16);
    let ask = |at: usize| {
        together.wait();
        gateways[at % 2].get(&format!("acme-session-s{at}-ttl-1h"), &origin.url("/ip"))
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = (0..16).map(|at| scope.spawn(move || ask(at))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let mut live = Vec::new();
    for (n, answer) in answers.into_iter().enumerate() {
        match answer.status {
            200 => live.push(n),
            _ => drop(answer.fails(429, "too_many_sessions")),
        }
    }
    assert_eq!(live.len(), 5, "{live:?}");
    // A live session goes on, also where it was never asked for.
    for n in &live {
        let held = gateways[(n + 1) % 2].get(&format!("acme-session-s{n}"), &origin.url("/ip")).ok();
        assert_eq!(held.news(), "held");
    }
    for gateway in &gateways {
        let refused = gateway.get("acme-session-more", &origin.url("/ip")).fails(429, "too_many_sessions");
        let wait = refused.retry_after().expect("until the first one ends");
        assert!((3500..=3600).contains(&wait), "{wait}");
    }
    // Its end on one gateway makes room on the other.
    let key =
        operator::session(&gateways[0], &format!("s{}", live[0]))["key"].as_str().expect("a key").to_owned();
    operator::act(&gateways[0], "DELETE", &format!("/v1/sessions/{key}"));
    eventually("there is a seat", PATIENCE, || {
        (gateways[1].get("acme-session-more", &origin.url("/ip")).status == 200).then_some(())
    });
    gateways[0].get("acme-session-most", &origin.url("/ip")).fails(429, "too_many_sessions");
    // A gateway that dies takes no seat with it, and gives none away.
    gateways[1].crash();
    gateways[1].get("acme-session-most", &origin.url("/ip")).fails(429, "too_many_sessions");
}

#[test]
fn a_users_bytes_of_the_day_are_counted_on_all_gateways() {
    let redis = Redis::durable();
    let limits = |bytes: &str| json!({ "bytes_per_day": bytes });
    let setup = Setup::addresses(1).config("users.0.limits", limits("100kB"));
    let gateways = fleet(&setup, &redis, 2);
    let (origin, target) = (Origin::start(), Target::open());
    let moved =
        |gateway: usize| operator::look(&gateways[gateway], "/v1/users")["users"][0]["bytes_today"].as_u64();
    // What is open on one ends when both together have moved enough.
    let (mut idle, _) = gateways[1].tunnel("acme", &target);
    let _idle_far = target.accept();
    for (gateway, bytes) in [(0, 40_000), (1, 30_000)] {
        let (mut near, _) = gateways[gateway].tunnel("acme", &target);
        let mut far = target.accept();
        near.send(vec![b'x'; bytes]);
        far.exactly(bytes);
    }
    for (at, gateway) in gateways.iter().enumerate() {
        eventually("each knows of both", PATIENCE, || (moved(at)? >= 70_000).then_some(()));
        gateway.get("acme", &origin.url("/ip")).ok();
    }
    let (mut near, _) = gateways[0].tunnel("acme", &target);
    let mut far = target.accept();
    let _ = near.try_send(vec![b'x'; 60_000]);
    far.rest();
    eventually("the other refuses as well", PATIENCE, || {
        let answer = gateways[1].get("acme", &origin.url("/ip"));
        (answer.status != 200).then(|| answer.fails(429, "quota_exceeded"))
    });
    idle.end().ok();
    // Neither a gateway's death nor the store's makes it begin anew.
    gateways[0].crash();
    redis.kill();
    redis.launch();
    eventually("it is learned again", PATIENCE, || {
        (gateways[0].get("acme", &origin.url("/ip")).status == 429).then_some(())
    });
}
