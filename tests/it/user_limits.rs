//! What one user may use up (SPEC §7, `users[].limits`).

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::operator::look;
use crate::harness::request::{Ask, basic_as, connect, get};
use crate::harness::{Answer, Client, Gateway, Origin, PASSWORD, PATIENCE, Setup, Target, basic, eventually};

/// User `acme` with these limits, and `other` without any.
fn limited(limits: Value) -> Setup {
    let other = json!({ "name": "other", "password": PASSWORD, "pools": ["p"] });
    Setup::addresses(4).config("users.0.limits", limits).user(other)
}

/// Another configuration for the gateway, in force when this returns.
#[track_caller]
fn reload(gateway: &Gateway, change: impl FnOnce(&mut Value)) {
    let text = fs::read_to_string(gateway.dir().join("moorgate.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    change(&mut config);
    let mark = gateway.log.mark();
    gateway.replace("moorgate.json", config.to_string());
    // Without a signal: the file is watched.
    gateway.log.wait_after(mark, "the reload", |line| line.has("configuration reloaded"));
}

fn limit(limits: Value) -> impl FnOnce(&mut Value) {
    move |config| config["users"][0]["limits"] = limits
}

#[track_caller]
fn refused(answer: Answer, code: &str, waits: std::ops::RangeInclusive<u64>) {
    let answer = answer.fails(429, code);
    let wait = answer.retry_after().expect("Retry-After");
    assert!(waits.contains(&wait), "{code} for {wait} s");
}

/// Waits for the access record of a tunnel that ended so.
#[track_caller]
fn ends(gateway: &Gateway, how: &str) {
    gateway.log.wait_for(how, |line| line.field("end").as_deref() == Some(how));
}

#[test]
fn requests_are_held_to_a_rate() {
    // So slow that nothing comes back while the test runs.
    let gateway = limited(json!({ "requests_per_second": 1, "burst": 5 })).start();
    let origin = Origin::start();
    let mut client = gateway.client();
    let mut ask = || client.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET");
    let passed = (0..40).take_while(|_| ask().status == 200).count();
    assert!((5..=20).contains(&passed), "{passed}");
    let (_, tunnel) = gateway.connect("acme", origin.address);
    assert!(tunnel.status == 200 || tunnel.code() == "rate_limited");
    let mut answers = (0..40).map(|_| ask());
    let answer = answers.find(|answer| answer.status == 429).expect("a refusal");
    refused(answer, "rate_limited", 1..=1);
    gateway.get("other", &origin.url("/ip")).ok();

    // What is refused for a reason that comes first costs nothing.
    gateway
        .client()
        .send(get(&origin.url("/ip"), &basic_as("acme", "x")))
        .answer("GET")
        .fails(407, "auth_failed");
}

#[test]
fn tunnels_and_requests_under_way_are_bounded() {
    let gateway = limited(json!({ "connections": 2 })).start();
    let (origin, target) = (Origin::start(), Target::open());
    let (tunnel, _) = gateway.tunnel("acme-session-a", &target);
    let far_end = target.accept();
    let mut plain = gateway.client();
    plain.send(get(&target.url("/"), &basic("acme")));
    let (mut far, _) = target.accept_head();
    refused(gateway.get("acme", &origin.url("/ip")), "too_many_connections", 1..=60);
    refused(gateway.connect("acme", origin.address).1, "too_many_connections", 1..=60);
    gateway.get("other", &origin.url("/ip")).ok();
    // The answer ends the request, though its connection stays.
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(plain.answer("GET").ok().text(), "hi");
    let _one = gateway.tunnel("acme", origin.address);
    refused(gateway.get("acme", &origin.url("/ip")), "too_many_connections", 1..=60);
    drop((tunnel, far_end));
    eventually("the tunnel's place is free", PATIENCE, || {
        (gateway.get("acme", &origin.url("/ip")).status == 200).then_some(())
    });
}

#[test]
fn sessions_are_counted_exactly_and_over_restarts() {
    let gateway = limited(json!({ "sessions": 3 })).on_disk().start();
    let origin = Origin::start();
    let ask = |session: &str| gateway.get(&format!("acme-session-{session}"), &origin.url("/ip"));
    ask("short-ttl-4s").ok();
    ask("a-ttl-1h").ok();
    ask("b-ttl-1h").ok();
    refused(ask("c"), "too_many_sessions", 1..=4);
    refused(gateway.connect("acme-session-c", origin.address).1, "too_many_sessions", 1..=4);
    ask("a").ok();
    gateway.get("acme", &origin.url("/ip")).ok();
    gateway.get("other-session-c", &origin.url("/ip")).ok();
    gateway.crash();
    for session in ["a", "b"] {
        assert_eq!(gateway.get(&format!("acme-session-{session}"), &origin.url("/ip")).ok().news(), "held");
    }
    let made = eventually("the short one ends", PATIENCE, || {
        let answer = gateway.get("acme-session-c-ttl-1h", &origin.url("/ip"));
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(made.news(), "new");
    refused(gateway.get("acme-session-d", &origin.url("/ip")), "too_many_sessions", 3000..=3600);
    reload(&gateway, limit(json!({ "sessions": 4 })));
    gateway.get("acme-session-d-ttl-1h", &origin.url("/ip")).ok();
    refused(gateway.get("acme-session-e", &origin.url("/ip")), "too_many_sessions", 3000..=3600);
}

#[test]
fn first_requests_of_one_session_take_one_place() {
    let gateway = limited(json!({ "sessions": 1 })).start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || gateway.get("acme-session-a", &url).ok().news().to_owned();
        let all: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|news| **news == "new").count(), 1, "{answers:?}");
    refused(gateway.get("acme-session-b", &url), "too_many_sessions", 1..=600);
}

/// A tunnel through which the far end has sent so many bytes.
fn moved(gateway: &Gateway, target: &Target, bytes: usize) -> (Client, Client) {
    let (mut near, _) = gateway.tunnel("acme", target);
    let mut far = target.accept();
    far.send(vec![b'x'; bytes]);
    near.exactly(bytes);
    (near, far)
}

#[test]
fn a_days_bytes_are_bounded_and_what_is_open_ends() {
    let gateway = limited(json!({ "bytes_per_day": "100kB" })).on_disk().start();
    let (origin, target) = (Origin::start(), Target::open());
    let (mut idle, _) = gateway.tunnel("acme", &target);
    let _idle_far = target.accept();
    let (mut near, mut far) = moved(&gateway, &target, 60_000);
    near.send(vec![b'y'; 30_000]);
    far.exactly(30_000);
    gateway.get("acme", &origin.url("/ip")).ok();
    far.try_send(vec![b'z'; 50_000]).ok();
    assert!(near.rest().len() <= 10_000, "more than was left");
    ends(&gateway, "quota");
    // One that moves nothing ends as well.
    idle.end().ok();
    refused(gateway.get("acme", &origin.url("/ip")), "quota_exceeded", 1..=86_400);
    refused(gateway.connect("acme", origin.address).1, "quota_exceeded", 1..=86_400);
    gateway.get("other", &origin.url("/ip")).ok();
    let day = gateway.state().join("bytes-today.json");
    eventually("the day's bytes are kept", PATIENCE, || {
        let kept: Value = serde_json::from_slice(&fs::read(&day).ok()?).ok()?;
        (kept["bytes"]["acme"].as_u64()? >= 100_000).then_some(())
    });
    gateway.crash();
    refused(gateway.get("acme", &origin.url("/ip")), "quota_exceeded", 1..=86_400);
    reload(&gateway, limit(json!({ "bytes_per_day": "1MB" })));
    gateway.get("acme", &origin.url("/ip")).ok();
    gateway.terminate();
    gateway.wait();
    let kept: Value = serde_json::from_slice(&fs::read(&day).unwrap()).unwrap();
    assert!((100_000..200_000).contains(&kept["bytes"]["acme"].as_u64().unwrap()), "{kept}");
}

#[test]
fn a_plain_body_ends_with_the_quota_and_is_no_whole_answer() {
    let gateway = limited(json!({ "bytes_per_day": "100kB" })).start();
    let target = Target::open();
    let mut client = gateway.client();
    client.send(get(&target.url("/"), &basic("acme")));
    let (mut far, _) = target.accept_head();
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n");
    let _ = far.try_send(vec![b'x'; 500_000]);
    let answer = client.answer("GET");
    assert!(!answer.whole && answer.body.len() <= 100_000, "{}", answer.body.len());
    ends(&gateway, "quota");
}

#[test]
fn a_removed_users_tunnels_end() {
    let gateway = limited(json!({})).start();
    let target = Target::open();
    let mut open = Vec::new();
    for user in ["other", "acme"] {
        let (near, _) = gateway.tunnel(user, &target);
        open.push((near, target.accept()));
    }
    let mut plain = gateway.client();
    plain.send(get(&target.url("/"), &basic("other")));
    let (_far, _) = target.accept_head();
    reload(&gateway, |config| drop(config["users"].as_array_mut().unwrap().remove(1)));
    ends(&gateway, "user_removed");
    let (mut gone, mut stays) = (open.remove(0), open.remove(0));
    assert!(gone.0.end().is_err() | gone.1.end().is_err(), "cut off, not ended");
    plain.answer("GET").fails(407, "auth_failed");
    stays.0.echo_through(&mut stays.1);
    gateway.get("other", &target.url("/")).fails(407, "auth_failed");
}

#[test]
fn a_changed_secret_is_for_new_requests() {
    let empty = tempfile::tempdir().unwrap();
    let output = crate::harness::gateway::run(empty.path(), &["hash-password"], "first");
    let hash = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let gateway = Setup::addresses(1).config("users.0.password", &*hash).start();
    let (origin, target) = (Origin::start(), Target::open());
    let ask = |secret: &str| {
        gateway.client().send(get(&origin.url("/ip"), &basic_as("acme", secret))).answer("GET")
    };
    ask("first").ok();
    let mut near = gateway.client();
    near.send(connect(&target, &basic_as("acme", "first"))).answer("CONNECT").ok();
    let mut far = target.accept();
    reload(&gateway, |config| config["users"][0]["password"] = "second".into());
    near.echo_through(&mut far);
    ask("first").fails(407, "auth_failed");
    ask("second").ok();
}

#[test]
fn limits_change_at_a_signal_and_counts_stay() {
    let gateway = limited(json!({ "connections": 3 })).start();
    let target = Target::open();
    let mut open: Vec<_> = (0..3)
        .map(|_| {
            let (near, _) = gateway.tunnel("acme", &target);
            (near, target.accept())
        })
        .collect();
    let text = fs::read_to_string(gateway.dir().join("moorgate.json")).unwrap();
    gateway.replace("moorgate.json", text.replace("\"connections\": 3", "\"connections\": 2"));
    let mark = gateway.log.mark();
    gateway.signal(Signal::HUP);
    gateway.log.wait_after(mark, "the reload", |line| line.has("configuration reloaded"));
    open.pop();
    for (near, far) in &mut open {
        near.echo_through(far);
    }
    refused(gateway.connect("acme", &target).1, "too_many_connections", 1..=60);
    reload(&gateway, limit(json!({ "connections": 0 })));
    gateway.tunnel("acme", &target);
}

/// Nothing is asserted of the time it takes: `figures` measures that.
#[test]
fn a_bandwidth_bounds_what_moves_at_once_and_loses_nothing() {
    let gateway = limited(json!({ "bandwidth": { "down": "200kB/s" } })).start();
    let target = Target::open();
    let (mut near, _) = gateway.tunnel("acme", &target);
    let mut far = target.accept();
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = far.writer();
    let sent = bytes.clone();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &sent).unwrap());
    // Upwards there is no limit, whatever waits downwards.
    near.send("?");
    assert_eq!(far.exactly(1), b"?");
    assert!(near.exactly(100_000) == bytes[..100_000]);
    reload(&gateway, limit(json!({})));
    assert!(near.exactly(200_000) == bytes[100_000..]);
    sending.join().unwrap();
}

#[test]
fn a_configuration_that_is_wrong_changes_no_limit() {
    let gateway = limited(json!({ "connections": 1 })).start();
    let target = Target::open();
    let (mut near, _) = gateway.tunnel("acme", &target);
    let mut far = target.accept();
    let text = fs::read_to_string(gateway.dir().join("moorgate.json")).unwrap();
    let mark = gateway.log.mark();
    gateway.replace("moorgate.json", text.replace("\"connections\": 1", "\"connections\": \"many\""));
    let line = gateway.log.wait_after(mark, "what is wrong", |line| line.has("users[0].limits.connections"));
    assert!(line.has("moorgate.json:") && line.has("whole number"), "{}", line.0);
    refused(gateway.connect("acme", &target).1, "too_many_connections", 1..=60);
    near.echo_through(&mut far);
    // And is mended like it was broken: without a signal.
    let mark = gateway.log.mark();
    gateway.replace("moorgate.json", text.replace("\"connections\": 1", "\"connections\": 2"));
    gateway.log.wait_after(mark, "the reload", |line| line.has("configuration reloaded"));
    gateway.tunnel("acme", &target);
}

#[test]
fn the_operator_sees_what_users_use() {
    let limits = json!({ "connections": 9, "bytes_per_day": "1GB", "bandwidth": { "up": "1MB/s" } });
    let gateway = limited(limits).start();
    let target = Target::open();
    let (mut near, _) = gateway.tunnel("acme-session-a", &target);
    let mut far = target.accept();
    near.send("12345");
    far.exactly(5);
    far.send("123");
    near.exactly(3);
    // Bytes are counted when they are written, so a moment after they came.
    let users = eventually("all is counted", PATIENCE, || {
        let users = look(&gateway, "/v1/users");
        (users["users"][0]["bytes_today"] == 8).then_some(users)
    });
    let acme = &users["users"][0];
    assert_eq!((&acme["name"], &acme["configured"]), (&json!("acme"), &json!(true)));
    assert_eq!((&acme["connections"], &acme["sessions"]), (&json!(1), &json!(1)));
    assert_eq!((&acme["bytes_up"], &acme["bytes_down"]), (&json!(5), &json!(3)));
    assert_eq!(
        acme["limits"],
        json!({ "requests_per_second": null, "burst": null, "connections": 9, "sessions": null,
                "bytes_per_day": 1_000_000_000, "bandwidth_up": 1_000_000, "bandwidth_down": null })
    );
    assert_eq!((&users["users"][1]["name"], &users["users"][1]["connections"]), (&json!("other"), &json!(0)));
}
