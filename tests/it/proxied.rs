//! Clients behind a balancer that says who they are: the PROXY protocol,
//! versions 1 and 2 (SPEC §7).

use serde_json::{Value, json};

use crate::harness::gateway::is_access;
use crate::harness::request::{connect, get};
use crate::harness::{Answer, Client, Gateway, Origin, Setup, Target, basic};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn gateway(proxy_protocol: Value) -> Gateway {
    let clients = json!(["203.0.113.0/24", "2001:db8::/32"]);
    let setup = Setup::addresses(1).config("listeners.0.proxy_protocol", proxy_protocol);
    setup
        .config("users.0.clients", clients)
        .config("limits", json!({ "auth_failures_per_minute": 2 }))
        .start()
}

/// Header of version 2 for a client at 203.0.113.7, port 4660.
fn v2(command: u8) -> Vec<u8> {
    let addresses = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    let extension = [4, 0, 3, b'n', b'o', b'p'];
    [V2, &[command, 0x11, 0, 18], &addresses, &extension].concat()
}

/// The answer to a GET behind this header.
fn ask(gateway: &Gateway, header: impl AsRef<[u8]>, origin: &Origin) -> Answer {
    let mut client = Client::open(gateway.listener(0));
    let get = get(&origin.url("/ip"), &basic("acme"));
    client.send([header.as_ref(), get.as_bytes()].concat()).answer("GET")
}

#[test]
fn the_header_says_who_the_client_is() {
    let gateway = gateway(json!(true));
    let origin = Origin::start();
    let cases: [(&[u8], &str); 4] = [
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 80\r\n", "203.0.113.7:4660"),
        (b"PROXY TCP6 2001:db8::7 ::1 4660 80\r\n", "[2001:db8::7]:4660"),
        (b"PROXY TCP6 ::ffff:203.0.113.8 ::1 4660 80\r\n", "203.0.113.8:4660"),
        (&v2(0x21), "203.0.113.7:4660"),
    ];
    for (n, (header, client)) in cases.into_iter().enumerate() {
        ask(&gateway, header, &origin).ok();
        assert_eq!(gateway.access(n).field("client").as_deref(), Some(client));
    }
    // Whoever is none of the user's is not let in, the balancer neither.
    ask(&gateway, "PROXY TCP4 198.51.100.1 10.0.0.1 1 80\r\n", &origin).fails(403, "client_forbidden");
    for own in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ff:: a b\r\n", &v2(0x20)] {
        ask(&gateway, own, &origin).fails(403, "client_forbidden");
    }
    assert!(gateway.access(5).field("client").unwrap().starts_with("127.0.0.1:"));
}

#[test]
fn it_may_come_in_pieces_and_before_anything() {
    let gateway = gateway(json!(true));
    let target = Target::open();
    let connect = connect(&target, &basic("acme"));
    for header in [v2(0x21), b"PROXY TCP4 203.0.113.7 10.0.0.1 1 80\r\n".to_vec()] {
        let mut client = Client::open(gateway.listener(0));
        for byte in &header {
            client.send([*byte]);
        }
        client.send(&connect).answer("CONNECT").ok();
        client.echo_through(&mut target.accept());
        let mut client = Client::open(gateway.listener(0));
        client.send(&header).send([5, 1, 2]);
        assert_eq!(client.exactly(2), [5, 2], "SOCKS5 behind it");
    }
}

#[test]
fn wrong_logins_count_for_the_client() {
    let gateway = gateway(json!(["127.0.0.0/8"]));
    let wrong = crate::harness::request::basic_as("acme", "wrong");
    let fails = |ip: &str| {
        let mut client = Client::open(gateway.listener(0));
        let header = format!("PROXY TCP4 {ip} 10.0.0.1 1 80\r\n");
        client.send(header + &connect("127.0.0.1:9", &wrong)).answer("CONNECT").code().to_owned()
    };
    let codes = ["203.0.113.7", "203.0.113.7", "203.0.113.7", "203.0.113.8"].map(fails);
    assert_eq!(codes, ["auth_failed", "auth_failed", "auth_throttled", "auth_failed"]);
}

#[test]
fn connections_count_for_the_client() {
    let setup = Setup::addresses(1).config("listeners.0.proxy_protocol", true);
    let gateway = setup.config("limits", json!({ "connections_per_client": 1 })).start();
    let target = Target::open();
    let ask = |ip: &str| {
        let mut client = Client::open(gateway.listener(0));
        let header = format!("PROXY TCP4 {ip} 10.0.0.1 1 80\r\n");
        let answer = client.send(header + &connect(&target, &basic("acme"))).answer("CONNECT");
        (client, answer)
    };
    let (_first, answer) = ask("203.0.113.7");
    answer.ok();
    ask("203.0.113.7").1.fails(429, "too_many_connections");
    ask("203.0.113.8").1.ok();
}

#[test]
fn what_is_no_header_closes_at_once() {
    let gateway = gateway(json!(true));
    let cases: [&[u8]; 8] = [
        b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n",
        b"\x05\x01\x02",
        b"\x16\x03\x01",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 1\r\n",
        b"PROXY TCP4 203.0.113.777 10.0.0.1 1 80\r\n",
        &[V2, &[0x21, 0x12, 0, 0]].concat(),
        &[V2, &[0x21, 0x11, 0, 4, 1, 2, 3, 4]].concat(),
        &[V2, &[0x21, 0x11, 0xff, 0xff]].concat(),
    ];
    for wrong in cases {
        let mark = gateway.log.mark();
        let mut client = Client::open(gateway.listener(0));
        client.send(wrong);
        assert_eq!(client.rest(), b"", "{:?}", wrong.escape_ascii().to_string());
        let line = gateway.log.wait_after(mark, "a record", is_access);
        assert_eq!(line.field("code").as_deref(), Some("bad_request"), "{}", line.0);
        assert!(line.has("PROXY header"), "{}", line.0);
    }
    let mut long = Client::open(gateway.listener(0));
    long.send([&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat());
    assert_eq!(long.rest(), b"");
}

#[test]
fn a_header_that_does_not_come_ends_with_the_heads_time() {
    let setup = Setup::addresses(1).config("listeners.0.proxy_protocol", true);
    let gateway = setup.config("timeouts", json!({ "head": "300ms" })).start();
    for part in [&b""[..], b"PROXY TCP4 203.0"] {
        let mark = gateway.log.mark();
        let mut client = Client::open(gateway.listener(0));
        client.send(part);
        assert_eq!(client.rest(), b"");
        let line = gateway.log.wait_after(mark, "a record", is_access);
        assert_eq!(line.field("code").as_deref(), Some("request_timeout"));
    }
}

#[test]
fn others_than_the_balancers_are_refused() {
    let gateway = gateway(json!(["10.0.0.0/8", "192.0.2.1"]));
    let mut client = Client::open(gateway.listener(0));
    let _ = client.try_send("PROXY TCP4 203.0.113.7 10.0.0.1 1 80\r\nGET http://a/ HTTP/1.1\r\n\r\n");
    assert_eq!(client.rest(), b"");
    let line = gateway.access(0);
    assert_eq!(line.field("code").as_deref(), Some("client_forbidden"));
    assert!(line.field("client").unwrap().starts_with("127.0.0.1:"), "its own address counts: {}", line.0);
}

#[test]
fn a_balancer_that_only_looks_leaves_no_record() {
    let gateway = gateway(json!(true));
    drop(Client::open(gateway.listener(0)));
    let origin = Origin::start();
    ask(&gateway, v2(0x21), &origin).ok();
    assert_eq!(gateway.access(0).field("status").as_deref(), Some("200"), "the first record");
}

#[test]
fn tls_stands_behind_the_header() {
    use std::io::Write;
    let made = crate::harness::tls::certificate(&["127.0.0.1"]);
    let setup = Setup::addresses(1).tls(&made).config("listeners.0.proxy_protocol", true);
    let gateway = setup.start();
    // A forwarder that writes the header first.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (front, back) = (listener.local_addr().unwrap(), gateway.listener(0));
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let mut server = std::net::TcpStream::connect(back).unwrap();
        server.write_all(b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 80\r\n").unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut client = client;
        let _ = std::io::copy(&mut server, &mut client);
    });
    let origin = Origin::start();
    let mut client = crate::harness::tls::open(front, &made, &[]);
    client.write_all(get(&origin.url("/ip"), &basic("acme")).as_bytes()).unwrap();
    assert!(crate::harness::tls::head(&mut client).starts_with("HTTP/1.1 200 OK"));
    drop(client);
    assert_eq!(gateway.access(0).field("client").as_deref(), Some("203.0.113.7:4660"));
}
