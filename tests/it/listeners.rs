//! Listeners: what a request means that does not say, and sockets of every
//! kind (SPEC §7).

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::harness::request::{Ask, connect, get};
use crate::harness::setup::addresses;
use crate::harness::{Client, Origin, PATIENCE, Setup, Target, basic};

/// So many free ports in a row, on an address of their own.
fn range(count: u16) -> (std::net::IpAddr, u16, String) {
    let ip = crate::harness::own_address();
    (ip, 20001, format!("{ip}:20001-{}", 20000 + count))
}

fn socks(client: &mut Client, target: &Target) {
    client.send([5, 1, 0]);
    assert_eq!(client.exactly(2), [5, 0]);
    let [high, low] = target.address.port().to_be_bytes();
    client.send([5, 1, 0, 1, 127, 0, 0, 1, high, low]);
    assert_eq!(client.exactly(10)[1], 0);
}

#[test]
fn every_port_of_a_range_is_a_session() {
    let (ip, first, bind) = range(12);
    let listener = json!({
        "bind": bind, "user": "acme", "session": "port", "pool": "p", "ttl": "24h", "idle": "1h"
    });
    let clients = json!(["127.0.0.0/8"]);
    let setup = Setup::addresses(12).config("users.0.clients", clients);
    let gateway = setup.config("listeners", json!([{ "bind": "127.0.0.1:0" }, listener])).start();
    let origin = Origin::start();
    let ask = |port: u16, fields: &str| {
        Client::open((ip, port).into()).send(get(&origin.url("/ip"), fields)).answer("GET").ok()
    };
    let mut exits: Vec<_> = (first..first + 12)
        .map(|port| {
            let answer = ask(port, "");
            assert_eq!((answer.news(), answer.session("idle")), ("new", Some(3600)));
            assert!((86_000..=86_400).contains(&answer.session("expires-in").unwrap()));
            let again = ask(port, "");
            assert_eq!((again.news(), again.exit()), ("held", answer.exit()));
            answer.exit()
        })
        .collect();
    // The same session by its name, through another listener.
    let named = gateway.get("acme-session-20001", &origin.url("/ip")).ok();
    assert_eq!((named.news(), named.exit()), ("held", exits[0].clone()));
    // The request's own win.
    let own = ask(first, &basic("acme-session-mine-ttl-5m"));
    assert_eq!(own.news(), "new");
    assert!(own.session("expires-in").unwrap() <= 300);
    let longer = ask(first + 1, &basic("acme-ttl-5m"));
    assert_eq!(longer.news(), "held", "a ttl is for the session of the port");
    exits.sort();
    exits.dedup();
    assert!(exits.len() >= 6, "least sessions spreads them: {exits:?}");
    // SOCKS5 without a login is the same session.
    let target = Target::open();
    let mut client = Client::open((ip, first).into());
    socks(&mut client, &target);
    client.echo_through(&mut target.accept());
    drop(client);
    let line = gateway.log.wait_for("the tunnel", |line| line.field("kind").as_deref() == Some("tunnel"));
    assert_eq!(
        (line.field("session").as_deref(), line.field("user").as_deref()),
        (Some("20001"), Some("acme"))
    );
}

#[test]
fn a_listeners_user_is_for_its_addresses_alone() {
    let setup = Setup::addresses(1)
        .listener(json!({ "user": "acme" }))
        .listener(json!({ "user": "far" }))
        .listener(json!({ "user": "open" }))
        .config("users.0.clients", json!(["127.0.0.1"]))
        .user(json!({ "name": "far", "password": "x", "clients": ["192.0.2.1"] }))
        .user(json!({ "name": "open", "password": "x" }));
    let gateway = setup.start();
    let origin = Origin::start();
    let ask = |n: usize, fields: &str| {
        Client::open(gateway.listener(n)).send(get(&origin.url("/ip"), fields)).answer("GET")
    };
    ask(0, "").fails(407, "auth_required");
    ask(1, "").ok();
    assert_eq!(ask(1, "Moorgate-Session: a\r\n").ok().news(), "new");
    ask(2, "").fails(407, "auth_required");
    ask(3, "").fails(407, "auth_required");
    // A credential that is there must be right.
    ask(1, &crate::harness::request::basic_as("acme", "wrong")).fails(407, "auth_failed");
    ask(2, &basic("acme")).ok();
    assert_eq!(gateway.access(1).field("user").as_deref(), Some("acme"));
}

#[test]
fn a_unix_socket_serves_and_its_file_is_made_over_when_nobody_listens() {
    let listeners =
        json!([{ "bind": "unix:m.sock", "mode": "0600", "user": "acme" }, { "bind": "127.0.0.1:0" }]);
    let setup = Setup::addresses(1).config("listeners", listeners);
    let gateway = setup.config("users.0.clients", json!(["127.0.0.1"])).start();
    let path = gateway.dir().join("m.sock");
    let origin = Origin::start();
    let ask = || {
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(get(&origin.url("/ip"), "Connection: close\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("127.0.0.2"), "{answer}");
    };
    ask();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(gateway.access(0).field("client").as_deref(), Some("127.0.0.1:0"));

    // Tunnels, with half-close.
    let target = Target::open();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(connect(&target, "").as_bytes()).unwrap();
    let mut far = target.accept();
    let mut got = vec![0; 39];
    client.read_exact(&mut got).unwrap();
    assert_eq!(got, b"HTTP/1.1 200 Connection established\r\nMo");
    client.write_all(b"up").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(far.rest(), b"up");
    far.send("late").half_close();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("late"), "{rest}");

    // Another gateway leaves it alone while this one is there; a crash leaves
    // a file behind that stands in nobody's way.
    let second = crate::harness::gateway::run(gateway.dir(), &["run", "--config", "moorgate.json"], "");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process listens there"));
    ask();
    gateway.crash();
    ask();
}

#[test]
fn an_upgrade_takes_the_unix_socket_along() {
    let listeners = json!([{ "bind": "unix:m.sock", "user": "acme" }]);
    let setup = Setup::addresses(1).config("listeners", listeners);
    let gateway = setup.config("users.0.clients", json!(["127.0.0.1"])).start();
    let path = gateway.dir().join("m.sock");
    let origin = Origin::start();
    let heir = crate::harness::Heir::of(&gateway, gateway.pid());
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(get(&origin.url("/ip"), "Connection: close\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    drop(heir);
}

#[test]
fn an_ipv6_wildcard_takes_both_families_and_is_a_loop_by_all_its_addresses() {
    let gateway = Setup::addresses(1).config("listeners.0.bind", "[::]:0").start();
    let port = gateway.listener(0).port();
    let origin = Origin::start();
    for host in ["127.0.0.1", "::1"] {
        let at = (host.parse::<std::net::IpAddr>().unwrap(), port).into();
        Client::open(at).send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").ok();
        let mut client = Client::open(at);
        for own in [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), format!("localhost:{port}")] {
            client.send(connect(&own, &basic("acme"))).answer("CONNECT").fails(421, "loop_detected");
            client = Client::open(at);
        }
    }
    let clients: Vec<_> = (0..2).map(|n| gateway.access(n * 4).field("client").unwrap()).collect();
    assert!(clients[0].starts_with("127.0.0.1:") && clients[1].starts_with("[::1]:"), "{clients:?}");
}

#[test]
fn every_listener_is_known_as_a_loop() {
    let (ip, first, bind) = range(3);
    let made = crate::harness::tls::certificate(&["127.0.0.1"]);
    let setup = Setup::addresses(1).tls(&made).listener(json!({ "protocol": "socks5" }));
    let mut setup = setup;
    let range = json!({ "bind": bind, "proxy_protocol": true });
    setup.config["listeners"].as_array_mut().unwrap().push(range);
    let gateway = setup.start();
    let ports = [gateway.listener(0), gateway.listener(1), (ip, first + 2).into(), gateway.admin()];
    for own in ports {
        gateway.connect("acme", own).1.fails(421, "loop_detected");
    }
}

#[test]
fn check_prints_what_would_run() {
    let made = crate::harness::tls::certificate(&["127.0.0.1"]);
    let mut setup = Setup::addresses(1).tls(&made).config("users.0.clients", json!(["10.0.0.0/8"]));
    let more = [
        json!({ "bind": "10.0.0.1:20001-20100", "protocol": "socks5", "user": "acme", "session": "port",
                "proxy_protocol": ["10.0.0.0/8"], "ttl": "24h" }),
        json!({ "bind": "unix:m.sock", "proxy_protocol": true }),
    ];
    setup.config["listeners"].as_array_mut().unwrap().extend(more);
    setup.pools = json!({ "pools": [{ "name": "p", "exits": addresses(1) }] });
    let dir = crate::harness::gateway::write(&setup);
    let out = crate::harness::gateway::run(dir.path(), &["check", "--config", "moorgate.json"], "");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for line in [
        "  127.0.0.1:0 auto, tls with 1 certificate\n",
        "  10.0.0.1:20001 to 20100 socks5, behind PROXY headers of 10.0.0.0/8 alone, user acme without a \
         credential, a session for each port, ttl 1day\n",
        "  unix:m.sock auto, behind PROXY headers\n",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn a_gateway_that_is_gone_frees_nothing_of_others() {
    // What is no socket is never removed.
    let setup = Setup::addresses(1).config("listeners.0.bind", "unix:precious").file("precious", "data");
    let dir = crate::harness::gateway::write(&setup);
    let out = crate::harness::gateway::run(dir.path(), &["run", "--config", "moorgate.json"], "");
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("no socket"));
    assert_eq!(std::fs::read(dir.path().join("precious")).unwrap(), b"data");
}
