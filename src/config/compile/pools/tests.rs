use crate::config::compile::tests::{Given, check, check_pools, fine};
use crate::core::exit::{Mode, Trust, Via};
use crate::core::policy::Private;
use crate::core::pool::{Affinity, Failover, NameRef, Placement, Rotation};
use crate::core::time::Ttl;

#[test]
fn files_that_cannot_be_read_are_findings() {
    let mut given = Given::new(&[]);
    given.source.config = Some(given.folder.path().join("none.json"));
    let found = given.lines(given.config().unwrap_err());
    assert_eq!(found, ["none.json: cannot be read: No such file or directory (os error 2)"]);
    check(
        &[("moorgate.json", r#"{"pools": "gone"}"#)],
        &["gone: cannot be read: No such file or directory (os error 2)"],
    );
    check(
        &[("moorgate.json", r#"{"pools": "pools"}"#), ("pools/x.schema.json", "{}"), ("pools/.x.json", "")],
        &["pools: expected a pool file (*.json), found none"],
    );
    let given = Given::new(&[("moorgate.json", "{}")]);
    std::fs::write(given.folder.path().join("moorgate.json"), b"{\n\"a\": \xff}").unwrap();
    assert_eq!(given.lines(given.config().unwrap_err()), ["moorgate.json: is not UTF-8 from line 2 on"]);
}

#[test]
fn a_pool_of_the_contract_is_read() {
    let text = r#"{ "$schema": "./pools.schema.json", "pools": [ {
      "name": "us", "rotation": "least_connections", "placement": "rendezvous", "failover": "off",
      "affinity": "user", "sessions": { "default_ttl": "30m", "max_ttl": "168h", "idle": null },
      "max_sessions": 5, "max_connections": 6, "reuse_after": "1h", "attempts": 4, "slow_start": "2m",
      "rotate": { "requests": 20, "every": "10m" }, "exit_fault_status": [502, 503],
      "labels": { "country": "us", "tag": ["a", "b"] },
      "targets": { "ports": [80, 443] },
      "health": { "eject_after": 0, "eject_for": "40s" },
      "timeouts": { "connect": "10s" },
      "exits": [
        "direct", "203.0.113.10", "2001:db8:7::/64", "http://user:hunter2@198.51.100.7:3128",
        { "id": "ams-1", "via": "socks5://198.51.100.9:1080", "weight": 3, "labels": { "city": "amsterdam", "tag": "c" },
          "address": "198.51.100.9", "max_sessions": 500, "max_connections": 2000, "max_ttl": "24h", "state": "drain",
          "exit_fault_status": [] },
        { "via": "https://up.example:443", "insecure": true },
        { "id": "t", "via": "http://me-{country}-{session}-{ttl_minutes}:a%40b@gate.example:7777/" },
        "${VIA}", "192.0.2.7/32"
      ],
      "import": ["list.txt"] } ] }"#;
    let list = "# a list\n203.0.113.99:8080\ngate.example:7777:bob:hunter2\ngate.example:7777:eve:hunter2\n";
    let (config, loaded) = fine(&[("pools.json", text), ("list.txt", list)]);
    let pool = loaded.pools.pool("us").unwrap();
    assert_eq!((pool.rotation, pool.placement), (Rotation::LeastConnections, Placement::Rendezvous));
    assert_eq!((pool.failover, pool.affinity), (Failover::Off, Some(Affinity::User)));
    assert_eq!((pool.reuse_after.as_secs(), pool.attempts, pool.slow_start.as_secs()), (3600, 4, 120));
    assert_eq!((pool.health.eject_after, pool.health.eject_for.as_secs()), (0, 40));
    assert_eq!((pool.timeouts.connect.as_secs(), pool.timeouts.dns), (10, config.timeouts.dial.dns));
    assert_eq!(pool.targets.ports.as_ref().unwrap().len(), 2);
    assert_eq!(pool.rotate.unwrap().requests, Some(20));
    let ids: Vec<_> = pool.exits.iter().map(|exit| &*exit.name.id).collect();
    assert_eq!(
        ids[..9],
        [
            "direct",
            "203.0.113.10",
            "2001:db8:7::/64",
            "http://198.51.100.7:3128",
            "ams-1",
            "https://up.example:443",
            "t",
            "http://h.example:80",
            "192.0.2.7",
        ]
    );
    assert_eq!(ids[9], "http://203.0.113.99:8080");
    assert!(ids[10].starts_with("http://gate.example:7777#") && ids[10] != ids[11]);
    assert!(pool.find_exit(&NameRef::Folded("http___203.0.113.99_8080".into())).is_some());

    let exit = |id| pool.exit(id).unwrap();
    assert_eq!(exit("203.0.113.10").address, Some("203.0.113.10".parse().unwrap()));
    assert_eq!(exit("192.0.2.7").via, Via::Address("192.0.2.7".parse().unwrap()));
    assert_eq!(exit("direct").address, None);
    assert_eq!(
        (exit("direct").max_sessions, exit("direct").max_connections, exit("direct").weight),
        (5, 6, 1)
    );
    assert_eq!(*exit("direct").fault_status, [502, 503]);
    let ams = exit("ams-1");
    assert_eq!((ams.max_sessions, ams.max_connections, ams.weight, ams.mode), (500, 2000, 3, Mode::Drain));
    assert_eq!((&*ams.fault_status, ams.max_ttl), (&[][..], Ttl::from_secs(86_400)));
    let labels: Vec<_> = ams.labels.iter().collect();
    assert_eq!(labels, [("city", "amsterdam"), ("country", "us"), ("tag", "c")]);
    assert_eq!(exit("https://up.example:443").via.upstream().unwrap().trust, Trust::Anything);
    assert!(exit("t").via.is_template());
}

#[test]
fn a_pools_targets_win_field_by_field() {
    let config = r#"{"targets": {"deny": ["x.example"], "private": true}}"#;
    let pools = r#"{"pools":[{"name":"p","exits":["direct"],"targets":{"ports":[80]}},{"name":"q","exits":["direct"]}]}"#;
    let (config, loaded) = fine(&[("moorgate.json", config), ("pools/p.json", pools)]);
    let targets = &loaded.pools.pool("p").unwrap().targets;
    assert_eq!((targets.deny.len(), &targets.private), (1, &Private::Yes));
    assert_eq!(targets.ports.as_ref().map(Vec::len), Some(1));
    assert_eq!(loaded.pools.pool("q").unwrap().targets, config.targets);
}

#[test]
fn a_pool_without_exits_or_a_file_without_pools_is_a_finding() {
    check_pools(
        r#"{"pools":[{"name":"p","exits":[]}]}"#,
        &["pools.json:1:31: pools[0].exits: the pool p has no exit: expected \"exits\" or \"import\""],
    );
    check_pools(r#"{"pools":[]}"#, &["pools.json: expected at least one pool, found none"]);
    check_pools(
        r#"{"pools":[{"name":"p","exits":["direct"],"rotate":{},"attempts":0,"health":{"eject_for":"0s"}}]}"#,
        &[
            "pools.json:1:51: pools[0].rotate: expected \"requests\" or \"every\" or both",
            "pools.json:1:65: pools[0].attempts: expected a whole number from 1 to 100",
            "pools.json:1:89: pools[0].health.eject_for: expected a duration above zero",
        ],
    );
}

#[test]
fn all_files_are_told_of_and_watched() {
    let given = Given::new(&[
        ("moorgate.json", "{}"),
        ("pools/a.json", "{"),
        (
            "pools/b.json",
            r#"{"pools":[{"name":"p","import":["list.txt"],"exits":[{"via":"https://h:1","ca":"c"}]}]}"#,
        ),
        ("pools/list.txt", "bad"),
    ]);
    let findings = given.load().unwrap_err();
    let files: Vec<_> = findings.iter().map(|finding| finding.file().rsplit('/').next().unwrap()).collect();
    assert_eq!(files, ["a.json", "b.json", "list.txt"]);
    let before = findings.watched().clone();
    assert_eq!(before.now(), before);
    for name in ["pools/c.json", "pools/list.txt", "pools/c"] {
        let before = before.now();
        std::fs::write(given.folder.path().join(name), "x: changed").unwrap();
        assert_ne!(before.now(), before, "{name}");
    }
}

#[test]
fn no_debug_output_shows_a_secret() {
    let config = r#"{"users": [{"name": "a", "password": "hunter2"}]}"#;
    let pools = r#"{"pools":[{"name":"p","exits":["http://u:hunter2@h:1"]}]}"#;
    let (config, loaded) = fine(&[("moorgate.json", config), ("pools/p.json", pools)]);
    assert!(!format!("{config:?} {loaded:?}").contains("hunter2"));
}

#[test]
fn probes_are_read_and_judged() {
    let pool = |health: &str| format!(r#"{{"pools":[{{"name":"p","exits":["direct"],"health":{health}}}]}}"#);
    let text = pool(r#"{"probe":{"url":"https://probe.example/ip","every":"5s"},"address_change":"move"}"#);
    let (_, loaded) = fine(&[("pools.json", &text)]);
    let pool_read = loaded.pools.pool("p").unwrap();
    let probe = pool_read.probe.as_ref().unwrap();
    assert_eq!((probe.every.as_secs(), probe.timeout.as_secs(), probe.url.tls), (5, 5, true));
    assert_eq!(pool_read.address_change, crate::core::pool::AddressChange::Move);
    check_pools(
        &pool(
            r#"{"probe":{"url":"probe.example","every":"10ms","timeout":"0s","x":1},"address_change":"no"}"#,
        ),
        &[
            "pools.json:1:67: pools[0].health.probe.url: expected a URL such as \"http://probe.example/ip\"",
            "pools.json:1:113: pools[0].health.probe.x: unknown field \"x\": expected one of url, every, timeout",
            "pools.json:1:137: pools[0].health.address_change: expected \"ignore\" or \"move\" or \"fail\"",
        ],
    );
    check_pools(
        &pool(r#"{"probe":{"url":"http://probe.example","every":"10ms","timeout":"0s"}}"#),
        &[
            "pools.json:1:98: pools[0].health.probe.every: expected a duration of at least 1s",
            "pools.json:1:115: pools[0].health.probe.timeout: expected a duration above zero",
        ],
    );
    check_pools(
        &pool(r#"{"address_change":"fail"}"#),
        &[
            "pools.json:1:69: pools[0].health.address_change: expected \"probe\" beside it: without probes no change is seen",
        ],
    );
    check_pools(
        &pool(r#"{"probe":{}}"#),
        &["pools.json:1:60: pools[0].health.probe: the field \"url\" is missing"],
    );
}
