//! Names that resolve to where requests may not go, or to something else at
//! the second look (SPEC §7, `targets`); name servers that say nothing.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::names::Names;
use crate::harness::request::{Ask, connect};
use crate::harness::{Gateway, Mood, Origin, Setup, Upstream, basic, namespace};

/// Gives this host a public address, inside the namespace.
fn own(ip: &str) {
    let done = Command::new("ip").args(["addr", "add", ip, "dev", "lo"]).status().expect("ip, of iproute2");
    assert!(done.success());
}

/// A gateway that asks `names`, with these exits and targets.
fn gateway(names: &Names, exits: Value, targets: Value) -> Gateway {
    names
        .used_by(Setup::new(exits).config("targets", targets))
        .config("timeouts", json!({ "dns": "1s" }))
        .start()
}

#[test]
fn names_that_resolve_to_special_addresses_are_refused() {
    namespace::within(|| {
        let names = Names::start();
        let all = [
            "127.0.0.1",
            "10.1.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "fd00:ec2::254",
            "64:ff9b::a00:1",
            "2002:7f00:1::1",
            "::7f00:1",
        ];
        for (n, ip) in all.iter().enumerate() {
            names.set(&format!("n{n}.example"), &[&[ip]]);
        }
        names.set("several.example", &[&["10.0.0.1", "fd00::1", "127.0.0.1"]]);
        let upstream = Upstream::socks5();
        // What the upstream asks of, if it is asked, is seen.
        upstream.set(Mood::Reply(2));
        for via in ["direct".to_owned(), "127.0.0.2".to_owned(), upstream.to_string()] {
            let gateway = gateway(&names, json!([via]), json!({}));
            let hosts = (0..all.len()).map(|n| format!("n{n}.example")).chain(["several.example".to_owned()]);
            for host in hosts {
                let answer = gateway.connect("acme", format!("{host}:80")).1;
                let other_family = via == "127.0.0.2" && answer.code() == "target_unreachable";
                assert!(answer.code() == "target_forbidden" || other_family, "{via}, {host}: {answer:?}");
            }
            gateway.connect("acme", "none.example:80").1.fails(502, "target_unresolvable");
        }
        assert_eq!(upstream.count(), 0);
    });
}

#[test]
fn a_name_that_changes_between_check_and_dial_gains_nothing() {
    namespace::within(|| {
        own("9.9.9.9/32");
        let names = Names::start();
        let public = Origin::at("9.9.9.9".parse().unwrap());
        let port = public.address.port();
        let trap = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        trap.set_nonblocking(true).unwrap();
        let gateway = gateway(&names, json!(["direct"]), json!({}));
        for n in 0..20 {
            // At first public, from the second look on not.
            let host = format!("r{n}.example");
            names.set(&host, &[&["9.9.9.9"], &["127.0.0.1"]]);
            let url = format!("http://{host}:{port}/ip");
            gateway.get("acme", &url).ok();
            gateway.get("acme", &url).fails(403, "target_forbidden");
        }
        // Where it has both kinds at once, only the public one is dialled.
        for n in 0..20 {
            let host = format!("b{n}.example");
            names.set(&host, &[&["127.0.0.1", "9.9.9.9", "::1"]]);
            gateway.get("acme", &format!("http://{host}:{port}/ip")).ok();
        }
        assert_eq!(public.count(), 40);
        assert!(trap.accept().is_err(), "the private one was dialled");
    });
}

#[test]
fn allow_and_deny_hold_for_names_and_for_what_they_resolve_to() {
    namespace::within(|| {
        own("9.9.9.9/32");
        own("9.9.8.8/32");
        let names = Names::start();
        let origins = ["9.9.9.9", "9.9.8.8"].map(|ip| Origin::at(ip.parse::<IpAddr>().unwrap()));
        let port = origins[0].address.port();
        for (name, ips) in [
            ("a.good.example", &["9.9.9.9"][..]),
            ("good.example", &["9.9.9.9"]),
            ("bad.good.example", &["9.9.9.9"]),
            ("elsewhere.example", &["9.9.8.8"]),
            ("inside.example", &["9.9.9.9"]),
            ("mixed.example", &["9.9.8.8", "9.9.9.9"]),
        ] {
            names.set(name, &[ips]);
        }
        let codes = |targets: Value| {
            let gateway = gateway(&names, json!(["direct"]), targets);
            let of = |host: &str| {
                let answer = gateway.get("acme", &format!("http://{host}:{port}/ip"));
                if answer.status == 200 { "ok".to_owned() } else { answer.code().to_owned() }
            };
            [
                "a.good.example",
                "GOOD.example.",
                "bad.good.example",
                "elsewhere.example",
                "inside.example",
                "mixed.example",
                "9.9.9.9",
            ]
            .map(of)
        };
        const NO: &str = "target_forbidden";
        assert_eq!(codes(json!({ "deny": ["9.9.8.0/24"] })), ["ok", "ok", "ok", NO, "ok", "ok", "ok"]);
        assert_eq!(codes(json!({ "allow": ["9.9.9.0/24"] })), ["ok", "ok", "ok", NO, "ok", "ok", "ok"]);
        assert_eq!(
            codes(json!({ "allow": ["*.good.example"], "deny": ["bad.good.example"] })),
            ["ok", NO, NO, NO, NO, NO, NO]
        );
        assert_eq!(
            codes(json!({ "allow": [format!("good.example:{port}")] })),
            [NO, "ok", NO, NO, NO, NO, NO]
        );
        assert_eq!(codes(json!({ "allow": ["good.example:1"] })), [NO; 7]);
        assert_eq!(
            codes(json!({ "deny": ["9.9.9.9"], "allow": ["*.example"] })),
            [NO, NO, NO, NO_ROUTE, NO, NO_ROUTE, NO]
        );
        assert_eq!(codes(json!({ "ports": [1] })), [NO; 7]);
    });
}

/// Nothing listens at that port there.
const NO_ROUTE: &str = "target_refused";

#[test]
fn what_an_upstream_resolves_is_held_to_what_can_be_told() {
    namespace::within(|| {
        let names = Names::start();
        names.set("inside.example", &[&["10.0.0.1"]]);
        names.set("outside.example", &[&["9.9.9.9"]]);
        names.set("both.example", &[&["9.9.9.9", "10.0.0.1"]]);
        for upstream in [Upstream::http(), Upstream::socks5()] {
            upstream.set(if upstream.to_string().starts_with("http") {
                Mood::status(403)
            } else {
                Mood::Reply(2)
            });
            let via = upstream.to_string().replacen("socks5", "socks5h", 1);
            let asked = |targets: Value, host: &str| {
                let gateway = gateway(&names, json!([via]), targets);
                let before = upstream.count();
                let answer = gateway.connect("acme", format!("{host}:443")).1;
                let asked = upstream.count() > before;
                assert_eq!(asked, answer.code() == "exit_refused_target", "{host}: {answer:?}");
                asked
            };
            // It stands in our own network: names are looked at here first.
            for (host, passes) in
                [("inside.example", false), ("both.example", false), ("outside.example", true)]
            {
                assert_eq!(asked(json!({}), host), passes, "{via}: {host}");
                assert_eq!(asked(json!({ "resolve": "always" }), host), passes, "{via}: {host}");
            }
            // What does not exist here may exist there, unless it must not.
            assert!(asked(json!({}), "unknown.example"));
            assert!(!asked(json!({ "resolve": "always" }), "unknown.example"));
            // It is trusted: then only the name counts, and an allow list of
            // addresses lets no name through.
            assert!(asked(json!({ "resolve": "never" }), "inside.example"));
            assert!(!asked(json!({ "resolve": "never", "deny": ["*.example"] }), "inside.example"));
            assert!(!asked(json!({ "resolve": "never", "allow": ["9.9.9.9"] }), "outside.example"));
            assert!(!asked(json!({ "resolve": "never" }), "localhost"));
        }
    });
}

#[test]
fn a_name_server_that_says_nothing_is_waited_for_so_long_and_slows_no_other() {
    namespace::within(|| {
        let names = Names::start();
        names.set("silent.example", &[&[]]);
        names.set("quick.example", &[&["127.0.0.1"]]);
        let gateway = gateway(&names, json!(["direct"]), json!({ "private": true }));
        let origin = Origin::start();
        let start = Instant::now();
        let mut waiting: Vec<_> = (0..100).map(|_| gateway.client()).collect();
        for client in &mut waiting {
            client.send(connect("silent.example:80", &basic("acme")));
        }
        gateway.get("acme", &format!("http://quick.example:{}/ip", origin.address.port())).ok();
        assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
        for client in &mut waiting {
            client.answer("CONNECT").fails(504, "target_timeout");
        }
        let time = start.elapsed();
        assert!(time >= Duration::from_millis(900) && time < Duration::from_secs(5), "{time:?}");
        // An upstream's own name.
        let gateway = super::rebinding::gateway(&names, json!(["http://silent.example:3128"]), json!({}));
        gateway.connect("acme", "quick.example:80").1.fails(504, "exit_timeout");
    });
}
