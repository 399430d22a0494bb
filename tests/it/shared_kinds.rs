//! Kinds of shared stores: over TLS with an ACL user, behind sentinels, a
//! cluster.

use std::time::{Duration, Instant};

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustix::process::Signal;

use crate::harness::redis::Redis;
use crate::harness::request::Ask;
use crate::harness::{Answer, Gateway, Origin, PATIENCE, Setup, eventually, operator};

fn ask(gateway: &Gateway, origin: &Origin, session: &str) -> Answer {
    gateway.get(&format!("acme-session-{session}-ttl-1h"), &origin.url("/ip"))
}

/// What an ACL user needs, as `docs/shared-store.md` says.
fn rights() -> Vec<&'static str> {
    let text = include_str!("../../docs/shared-store.md");
    let (_, text) = text.split_once("An ACL user needs\n\n").expect("the paragraph");
    text.lines().take_while(|line| line.starts_with("    ")).flat_map(str::split_whitespace).collect()
}

#[test]
fn over_tls_with_an_acl_user() {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    // The server's address is known only once it runs; its name is enough.
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (cert, key) = (write("cert.pem", &certificate.pem()), write("key.pem", &key.serialize_pem()));
    let tls_port = free_port().to_string();
    let redis = Redis::with(&[
        "--bind",
        "127.0.0.1",
        "{ip}",
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ]);
    let mut user = vec!["ACL", "SETUSER", "moor", "reset", "on", ">p@ss:w/rd"];
    user.extend(rights());
    redis.ask::<()>(&user);

    let at = |host: &str, login: &str| format!("rediss://{login}@{host}:{tls_port}?ca=ca.pem");
    let setup = |url: String| {
        // All that is counted at the store, so that all its steps are asked for.
        let exits = serde_json::json!(["127.1.9.0/24"]);
        let limits = serde_json::json!({ "sessions": 500, "bytes_per_day": "1GB" });
        Setup::new(exits)
            .pool("max_sessions", 200)
            .config("users.0.limits", limits)
            .file("ca.pem", ca_pem.clone())
            .config("sessions.store", url)
    };
    let gateways: Vec<_> = (0..2).map(|_| setup(at("localhost", "moor:p%40ss%3Aw%2Frd")).start()).collect();
    let origin = Origin::start();
    for n in 0..20 {
        let made = ask(&gateways[0], &origin, &format!("s{n}")).ok();
        let held = ask(&gateways[1], &origin, &format!("s{n}")).ok();
        assert_eq!((made.news(), held.news(), held.exit()), ("new", "held", made.exit()));
    }
    // Moved, extended, ended: every step is asked for.
    let key = operator::session(&gateways[0], "s0")["key"].as_str().expect("a key").to_owned();
    let path = format!("/v1/sessions/{key}");
    operator::act(&gateways[1], "POST", &format!("{path}/move"));
    operator::tell(&gateways[0], &format!("{path}/extend"), &serde_json::json!({ "ttl": "5h" })).ok();
    operator::act(&gateways[1], "DELETE", &path);
    assert_eq!(gateways[0].get("acme-session-idle-idle-1h", &origin.url("/ip")).ok().news(), "new");
    let used: String = redis.ask(&["CLIENT", "LIST"]);
    assert_eq!(
        used.lines().filter(|line| line.contains("user=moor")).count(),
        2,
        "one connection each: {used}"
    );
    let denied: Vec<redis::Value> = redis.ask(&["ACL", "LOG"]);
    assert!(denied.is_empty(), "it asks for no more than it needs: {denied:?}");

    // A wrong password, and a certificate for another name: neither is let in.
    for (url, what) in
        [(at("localhost", "moor:wrong"), "password"), (at("127.0.0.1", "moor:p%40ss%3Aw%2Frd"), "name")]
    {
        let gateway = setup(url).start();
        ask(&gateway, &origin, "s0").fails(503, "store_unavailable");
        gateway.log.wait_for(what, |line| line.has("the shared store cannot be reached yet"));
        assert!(!gateway.log.text().contains("p@ss") && !gateway.log.text().contains("p%40ss"), "no secret");
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn behind_sentinels_a_failover_is_followed() {
    let master = Redis::start();
    let replica = Redis::with(&["--replicaof", &master.ip.to_string(), "6379"]);
    let synced = |text: String| text.contains("master_link_status:up");
    replica.wait("it follows", || synced(replica.ask(&["INFO", "replication"])));
    let sentinel = Redis::sentinel(&master);
    sentinel
        .wait("it knows the replica", || sentinel.ask::<String>(&["INFO", "sentinel"]).contains("slaves=1"));
    let url = format!("redis-sentinel://{}/mymaster/0", sentinel.host());
    let gateways: Vec<_> =
        (0..2).map(|_| Setup::addresses(8).config("sessions.store", &*url).start()).collect();
    let origin = Origin::start();
    let made: Vec<_> = (0..30).map(|n| ask(&gateways[0], &origin, &format!("s{n}")).ok().exit()).collect();
    // The last of them may never reach the replica.
    replica.signal(Signal::STOP);
    let late: Vec<_> = (30..40).map(|n| ask(&gateways[0], &origin, &format!("s{n}")).ok().exit()).collect();
    master.kill();
    replica.signal(Signal::CONT);
    let start = Instant::now();
    eventually("the replica takes pins", PATIENCE, || {
        let answer = ask(&gateways[1], &origin, "after");
        if answer.status != 200 {
            answer.fails(503, "store_unavailable");
            return None;
        }
        Some(())
    });
    assert!(start.elapsed() < Duration::from_secs(15));
    for (n, exit) in made.iter().chain(&late).enumerate() {
        let held = ask(&gateways[1], &origin, &format!("s{n}")).ok();
        assert_eq!(held.exit(), *exit, "s{n}: what the replica lacked was told again");
        // It may have lacked no more than that `new` was said of the last.
        assert!(held.news() == "held" || n >= made.len(), "s{n}: {}", held.news());
    }
}

#[test]
fn in_a_cluster_sessions_are_spread_and_agree() {
    let masters = cluster();
    let hosts: Vec<_> = masters.iter().map(Redis::host).collect();
    let url = format!("redis-cluster://{}", hosts.join(","));
    let setup = Setup::addresses(8)
        .pool("max_sessions", 200)
        .config("users.0.limits", serde_json::json!({ "sessions": 500, "bytes_per_day": "1GB" }))
        .config("sessions.store", &*url)
        .env("MOORGATE_LOG", "info,moorgate::store=debug");
    let gateways: Vec<_> = (0..2).map(|_| setup.clone().start()).collect();
    let origin = Origin::start();
    let made: Vec<_> = (0..60).map(|n| ask(&gateways[n % 2], &origin, &format!("s{n}")).ok()).collect();
    for (n, made) in made.iter().enumerate() {
        assert_eq!(made.news(), "new");
        let held = ask(&gateways[(n + 1) % 2], &origin, &format!("s{n}")).ok();
        assert_eq!((held.news(), held.exit()), ("held", made.exit()));
    }
    assert!(masters.iter().all(|master| master.pins() > 0), "each has some");
    assert_eq!(masters.iter().map(Redis::pins).sum::<usize>(), 60);

    // One of three is gone: its sessions go on where they are known.
    masters[0].kill();
    let mut refused = 0;
    for (n, made) in made.iter().enumerate() {
        let start = Instant::now();
        let held = ask(&gateways[0], &origin, &format!("s{n}")).ok();
        assert_eq!((held.news(), held.exit()), ("held", made.exit()));
        assert!(start.elapsed() < Duration::from_secs(2), "an answer within 2 s");
        if n < 12 {
            refused += u32::from(ask(&gateways[0], &origin, &format!("t{n}")).status != 200);
        }
    }
    assert!(refused > 0, "its part of new sessions is refused");
    masters[0].launch();
    eventually("all take pins again", PATIENCE, || {
        (0..12).all(|n| ask(&gateways[0], &origin, &format!("u{n}")).status == 200).then_some(())
    });
}

/// Three masters that know each other.
fn cluster() -> Vec<Redis> {
    let start = |_| {
        Redis::with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-config-file",
            "nodes.conf",
            "--cluster-node-timeout",
            "1000",
            "--cluster-require-full-coverage",
            "no",
            "--cluster-announce-ip",
            "{ip}",
            "--appendonly",
            "yes",
        ])
    };
    let masters: Vec<_> = (0..3).map(start).collect();
    for (at, (first, last)) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")].into_iter().enumerate()
    {
        masters[at].ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        masters[at].ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
    }
    for other in &masters[1..] {
        masters[0].ask::<()>(&["CLUSTER", "MEET", &other.ip.to_string(), "6379"]);
    }
    let whole = |text: String| text.contains("cluster_state:ok") && text.contains("cluster_size:3");
    for master in &masters {
        master.wait("the cluster is whole", || whole(master.ask(&["CLUSTER", "INFO"])));
    }
    masters
}
