//! SOCKS5 at a listener: RFC 1928, RFC 1929 and the mapped replies (SPEC §4).

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::request::{Ask, PASSWORD, connect};
use crate::harness::{Client, Gateway, Origin, Setup, Target, Upstream, basic};

/// A connection that has logged in.
#[track_caller]
fn logged_in(gateway: &Gateway, username: &str) -> Client {
    let mut client = gateway.client();
    client.send([5, 1, 2]);
    assert_eq!(client.exactly(2), [5, 2]);
    client.send(login(username, PASSWORD));
    assert_eq!(client.exactly(2), [1, 0], "{username}");
    client
}

fn login(username: &str, password: &str) -> Vec<u8> {
    let counted = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![1], counted(username), counted(password)].concat()
}

/// A request for a name or an address as text.
fn request(command: u8, host: &str, port: u16) -> Vec<u8> {
    let address = match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => [&[1][..], &ip.octets()].concat(),
        Ok(std::net::IpAddr::V6(ip)) => [&[4][..], &ip.octets()].concat(),
        Err(_) => [&[3, u8::try_from(host.len()).unwrap()][..], host.as_bytes()].concat(),
    };
    [vec![5, command, 0], address, port.to_be_bytes().to_vec()].concat()
}

/// The reply's code.
#[track_caller]
fn reply(client: &mut Client) -> u8 {
    let reply = client.exactly(10);
    assert_eq!((reply[0], &reply[2..]), (5, &[0, 1, 0, 0, 0, 0, 0, 0][..]));
    reply[1]
}

/// What a request of a proven client is answered.
#[track_caller]
fn replies(gateway: &Gateway, username: &str, request: &[u8], expected: u8, code: &str) {
    let mark = gateway.log.mark();
    let mut client = logged_in(gateway, username);
    client.send(request);
    assert_eq!(reply(&mut client), expected, "{code}");
    client.end().expect("it is closed");
    let line = gateway.log.wait_after(mark, "a record", crate::harness::gateway::is_access);
    assert_eq!(line.field("code").as_deref(), Some(code), "{}", line.0);
}

#[test]
fn a_tunnel_stands_by_name_and_by_address() {
    let gateway = Setup::addresses(1).start();
    let target = Target::open();
    for host in ["127.0.0.1", "::ffff:127.0.0.1", "localhost"] {
        let mut client = logged_in(&gateway, "acme-session-a");
        client.send(request(1, host, target.address.port()));
        assert_eq!(reply(&mut client), 0, "{host}");
        let mut far = target.accept();
        client.echo_through(&mut far);
        client.half_close();
        assert_eq!(far.rest(), b"");
        far.send("late").half_close();
        assert_eq!(client.rest(), b"late");
        client.end().unwrap();
    }
    let line = gateway.access(0);
    assert_eq!(line.field("kind").as_deref(), Some("tunnel"));
    assert_eq!(line.field("session").as_deref(), Some("a"));
    assert_eq!(line.field("status").as_deref(), Some("200"));
}

#[test]
fn all_at_once_and_byte_by_byte_are_the_same() {
    let gateway = Setup::addresses(1).start();
    let target = Target::open();
    let port = target.address.port();
    let all =
        [&[5, 2, 0, 2][..], &login("acme", PASSWORD), &request(1, "127.0.0.1", port), b"early"].concat();
    for by in [1, 5, all.len()] {
        let mut client = gateway.client();
        for piece in all.chunks(by) {
            client.send(piece);
        }
        let mut far = target.accept();
        assert_eq!(far.exactly(5), b"early", "by {by}");
        assert_eq!(client.exactly(4), [5, 2, 1, 0]);
        assert_eq!(reply(&mut client), 0);
        client.echo_through(&mut far);
    }
}

#[test]
fn sessions_are_the_same_as_over_http() {
    let gateway = Setup::addresses(8).start();
    let origin = Origin::start();
    let (seen, _) = gateway.seen_through_tunnel("acme-session-x", origin.address);
    for _ in 0..4 {
        let mut client = logged_in(&gateway, "acme-session-x");
        client.send(request(1, "127.0.0.1", origin.address.port()));
        assert_eq!(reply(&mut client), 0);
        client.send(format!("GET /ip HTTP/1.1\r\nHost: {}\r\n\r\n", origin.address));
        assert_eq!(client.answer("GET").ok().text(), seen);
    }
}

#[test]
fn failures_are_mapped() {
    let refused = Target::open().address.port();
    let setup = Setup::new(json!([
        { "id": "e", "via": "127.0.0.2" }, { "id": "dead", "via": "http://127.0.0.1:1" }
    ]));
    let setup = setup.quick().config("targets.deny", json!(["denied.test"])).config("announce", false);
    let gateway = setup.start();
    let own = gateway.listener(0).port();
    let to = |host: &str, port| request(1, host, port);
    replies(&gateway, "acme-exit-e", &to("127.0.0.1", refused), 5, "target_refused");
    replies(&gateway, "acme-exit-e", &to("denied.test", 80), 2, "target_forbidden");
    replies(&gateway, "acme-exit-e", &to("127.0.0.1", own), 2, "loop_detected");
    replies(&gateway, "acme-exit-e", &to("nowhere.invalid", 80), 4, "target_unresolvable");
    replies(&gateway, "acme-exit-dead", &to("127.0.0.1", refused), 4, "exit_failed");
    replies(&gateway, "acme-country-xx", &to("127.0.0.1", refused), 3, "no_exit");
    replies(&gateway, "acme-pool-other", &to("127.0.0.1", refused), 2, "pool_forbidden");
    replies(&gateway, "acme-sesion-x", &to("127.0.0.1", refused), 1, "parameter_unknown");
    replies(&gateway, "acme-session-x-ttl-999h", &to("127.0.0.1", refused), 1, "ttl_out_of_range");
    replies(&gateway, "acme", &to("127.1", 80), 1, "bad_target");
    replies(&gateway, "acme", &to("127.0.0.1", 0), 1, "bad_target");
    replies(&gateway, "acme", &request(2, "127.0.0.1", 80), 7, "bad_request");
    replies(&gateway, "acme", &request(3, "127.0.0.1", 80), 7, "bad_request");
    replies(&gateway, "acme", &[5, 1, 0, 9, 1, 1], 8, "bad_request");
}

#[test]
fn wrong_logins_fail_alike_and_are_throttled() {
    let setup = Setup::addresses(1).config("limits", json!({ "auth_failures_per_minute": 3 }));
    let gateway = setup.start();
    let try_login = |username: &str, password: &str| {
        let mut client = gateway.client();
        client.send([5, 1, 2]).send(login(username, password));
        let answer = client.exactly(4);
        (answer[3], client)
    };
    let codes = ["auth_failed", "auth_failed", "auth_failed", "auth_throttled"];
    for (n, (user, code)) in ["acme", "nobody", "acme-session-x", ""].into_iter().zip(codes).enumerate() {
        let (status, mut client) = try_login(user, "wrong");
        assert_eq!(status, 1, "{user}");
        client.end().expect("it is closed");
        assert_eq!(gateway.access(n).field("code").as_deref(), Some(code));
    }
    // The right one still passes, and HTTP counts the same failures.
    assert_eq!(try_login("acme", PASSWORD).0, 0);
    let wrong = crate::harness::request::basic_as("acme", "wrong");
    gateway.client().send(connect("127.0.0.1:9", &wrong)).answer("CONNECT").fails(429, "auth_throttled");
    assert!(!gateway.log.text().contains(PASSWORD));
}

#[test]
fn a_forbidden_client_is_told_behind_its_login() {
    let gateway = Setup::addresses(1).config("users.0.clients", json!(["192.0.2.0/24"])).start();
    replies(&gateway, "acme", &request(1, "127.0.0.1", 80), 2, "client_forbidden");
}

#[test]
fn without_a_login_only_at_home() {
    let user = json!({ "protocol": "socks5", "user": "acme" });
    let gateway = Setup::addresses(1).listener(user).config("users.0.clients", json!(["127.0.0.1"])).start();
    let target = Target::open();
    // No method of the first listener's goes without one.
    for methods in [&[5, 1, 0][..], &[5, 0], &[5, 3, 1, 3, 0x80]] {
        let mut client = gateway.client();
        client.send(methods);
        assert_eq!(client.exactly(2), [5, 0xff], "{methods:?}");
        client.end().unwrap();
    }
    let mut client = Client::open(gateway.listener(1));
    client.send([5, 1, 0]);
    assert_eq!(client.exactly(2), [5, 0]);
    client.send(request(1, "127.0.0.1", target.address.port()));
    assert_eq!(reply(&mut client), 0);
    client.echo_through(&mut target.accept());
    drop(client);
    let line = gateway.log.wait_for("the tunnel", |line| line.field("kind").as_deref() == Some("tunnel"));
    assert_eq!(line.field("user").as_deref(), Some("acme"));
    // Whoever can log in is asked to.
    let mut client = Client::open(gateway.listener(1));
    client.send([5, 2, 0, 2]);
    assert_eq!(client.exactly(2), [5, 2]);
}

#[test]
fn a_slow_handshake_ends_with_the_heads_time() {
    let gateway = Setup::addresses(1).config("timeouts", json!({ "head": "400ms" })).start();
    for part in [&[5][..], &[5, 1, 2], &[5, 1, 2, 1, 4, b'a']] {
        let mark = gateway.log.mark();
        let mut client = gateway.client();
        client.send(part);
        client.end().expect("it is closed");
        let line = gateway.log.wait_after(mark, "a record", crate::harness::gateway::is_access);
        assert_eq!(line.field("code").as_deref(), Some("request_timeout"));
    }
}

#[test]
fn whoever_says_nothing_is_told_nothing() {
    let setup = Setup::addresses(1).config("timeouts", json!({ "head": "300ms" }));
    let gateway = setup.listener(json!({ "protocol": "socks5" })).start();
    assert_eq!(Client::open(gateway.listener(1)).rest(), b"");
    assert_eq!(gateway.access(0).field("code").as_deref(), Some("request_timeout"));
    assert!(Client::open(gateway.listener(0)).rest().starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn other_protocols_are_sent_away_at_once() {
    let gateway = Setup::addresses(1)
        .listener(json!({ "protocol": "socks5" }))
        .listener(json!({ "protocol": "http" }))
        .start();
    let refused = |n: usize, sent: &[u8]| {
        let mark = gateway.log.mark();
        let mut client = Client::open(gateway.listener(n));
        client.send(sent);
        let got = client.rest();
        let line = gateway.log.wait_after(mark, "a record", crate::harness::gateway::is_access);
        assert_eq!(line.field("kind").as_deref(), Some("refused"), "{}", line.0);
        assert_eq!(line.field("code").as_deref(), Some("bad_request"), "{}", line.0);
        got
    };
    let socks4 = b"\x04\x01\x00\x50\x7f\x00\x00\x01user\x00";
    for n in [0, 1] {
        assert_eq!(refused(n, socks4), [0, 91, 0, 0, 0, 0, 0, 0]);
    }
    assert!(refused(2, socks4).starts_with(b"HTTP/1.1 400 "));
    assert!(refused(0, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").starts_with(b"HTTP/1.1 400 "));
    assert_eq!(refused(1, b"GET http://a/ HTTP/1.1\r\n\r\n"), b"");
    assert_eq!(refused(1, b"\x05\x01\x02\x05\x01a\x01b"), [5, 2], "the login has a version of its own");
    assert!(refused(2, b"\x05\x01\x02").starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn a_client_that_leaves_frees_its_dial() {
    let upstream = Upstream::socks5();
    upstream.set(crate::harness::Mood::Hang);
    let gateway = Setup::new(json!([upstream.to_string()])).start();
    let mut client = logged_in(&gateway, "acme");
    client.send(request(1, "127.0.0.1", 9));
    crate::harness::eventually("the upstream is asked", Duration::from_secs(10), || upstream.seen().pop());
    drop(client);
    assert_eq!(gateway.access(0).field("end").as_deref(), Some("client_gone"));
}

#[test]
fn curl_speaks_it_in_both_ways() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    for scheme in ["socks5", "socks5h"] {
        let out = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--noproxy", ""])
            .args(["--proxy", &format!("{scheme}://{}", gateway.listener(0))])
            .args(["--proxy-user", &format!("acme-session-c:{PASSWORD}")])
            .arg(format!("http://localhost:{}/ip", origin.address.port()))
            .output()
            .expect("curl runs: install the Debian package curl");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(String::from_utf8_lossy(&out.stdout), "127.0.0.2");
    }
    assert!(basic("acme").contains("Basic"));
}
