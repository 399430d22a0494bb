//! What is between two neighbours stays between them (RFC 9110 §7.6), and
//! messages that have been here before are known again.

use serde_json::json;

use crate::harness::recorder::Recorder;
use crate::harness::request::{Ask, basic, connect, get, request};
use crate::harness::{Gateway, Mood, Origin, Setup, Upstream};

fn gateway() -> Gateway {
    Setup::addresses(1).start()
}

/// `Connection` takes away what it names, and nothing that framing, routing or
/// the search for loops needs.
#[test]
fn connection_cannot_name_what_is_not_its_own() {
    let (gateway, origin) = (gateway(), Origin::start());
    let fields = format!(
        "{}Connection: close, X-Gone, Host, Content-Length, Transfer-Encoding, Trailer, Via, Max-Forwards, Expect\r\n\
         connection: x-also-gone\r\nX-Gone: 1\r\nX-Also-Gone: 1\r\nX-Stays: 1\r\nVia: 1.1 another\r\n\
         Max-Forwards: 5\r\nContent-Length: 4\r\n",
        basic("acme")
    );
    gateway.client().send(request("OPTIONS", &origin.url("/echo"), &fields) + "body").answer("OPTIONS").ok();
    let seen = origin.last();
    for (name, value) in [
        ("x-gone", None),
        ("x-also-gone", None),
        ("connection", None),
        ("x-stays", Some("1")),
        ("via", Some("1.1 another")),
        ("max-forwards", Some("4")),
        ("content-length", Some("4")),
        ("host", Some(&*origin.address.to_string())),
    ] {
        assert_eq!(seen.field(name), value, "{name} in {}", seen.head);
    }
    assert_eq!(seen.text(), "body");
}

/// In answers, too: a named length still frames, a named exit is still told.
#[test]
fn an_answers_connection_cannot_name_what_is_not_its_own() {
    let gateway = gateway();
    let target = Recorder::answering(
        "HTTP/1.1 200 OK\r\nConnection: X-Gone, Content-Length, Moorgate-Exit, Set-Cookie\r\nX-Gone: 1\r\n\
         Set-Cookie: gone\r\nContent-Length: 2\r\nTE: trailers\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Authenticate: Basic\r\nProxy-Authentication-Info: x\r\nProxy-Connection: keep-alive\r\n\
         Moorgate-Exit: forged\r\nMoorgate-Error: forged\r\nUpgrade: h2c\r\n\r\nok",
    );
    let mut client = gateway.client();
    for _ in 0..2 {
        let answer = client.send(get(&target.url("/"), &basic("acme-session-a"))).answer("GET").ok();
        assert_eq!((&*answer.text(), &*answer.exit()), ("ok", "p/e1"));
        let names: Vec<_> = answer.fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["Content-Length", "Moorgate-Exit", "Moorgate-Exit-Address", "Moorgate-Session"]);
    }
}

/// So many options cost more to compare than any client needs.
#[test]
fn a_flood_of_options_is_refused() {
    let (gateway, origin) = (gateway(), Origin::start());
    let many = (0..65).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
    gateway
        .get_with("acme", &format!("Connection: {many}\r\n"), &origin.url("/ip"))
        .fails(400, "bad_request");
    let target =
        Recorder::answering(format!("HTTP/1.1 200 OK\r\nConnection: {many}\r\nContent-Length: 0\r\n\r\n"));
    gateway.get("acme", &target.url("/")).fails(502, "bad_response");
    assert_eq!(origin.count(), 0);
}

/// TRACE and OPTIONS that may go no further are answered here, once it is
/// known who asks; all others go on with one hop less.
#[test]
fn max_forwards_is_counted() {
    let (gateway, origin) = (gateway(), Origin::start());
    let ask = |method: &str, fields: &str| {
        gateway.client().send(request(method, &origin.url("/ip"), fields)).answer(method)
    };
    for method in ["OPTIONS", "TRACE"] {
        for (hops, left) in
            [("1", "0"), ("70", "69"), ("007", "6"), ("99999999999999999999", "18446744073709551614")]
        {
            ask(method, &format!("{}mAx-FoRwards: {hops}\r\n", basic("acme"))).ok();
            assert_eq!(origin.last().field("max-forwards"), Some(left), "{method} {hops}");
        }
        ask(method, "Max-Forwards: 0\r\n").fails(407, "auth_required");
        ask(method, &format!("{}Max-Forwards: x\r\n", basic("acme"))).fails(400, "bad_request");
    }
    let before = origin.count();
    let answer = ask("OPTIONS", &format!("{}Max-Forwards: 0\r\n", basic("acme"))).ok();
    assert!(answer.has("allow", "OPTIONS") && answer.body.is_empty(), "{answer:?}");
    let fields = "Max-Forwards: 0\r\nX-Seen: yes\r\nCookie: secret\r\nAuthorization: Bearer secret\r\n\
                  Moorgate-Session: a\r\n";
    let answer = ask("TRACE", &format!("{}{fields}", basic("acme"))).ok();
    assert_eq!(answer.field("content-type"), Some("message/http"));
    assert_eq!(
        answer.text(),
        format!(
            "TRACE {} HTTP/1.1\r\nHost: {}\r\nMax-Forwards: 0\r\nX-Seen: yes\r\n\r\n",
            origin.url("/ip"),
            origin.address
        )
    );
    assert_eq!(origin.count(), before, "nothing went on");
    // Of any other method it means nothing.
    ask("GET", &format!("{}Max-Forwards: 0\r\n", basic("acme"))).ok();
    assert_eq!(origin.last().field("max-forwards"), Some("0"));
}

#[test]
fn what_is_answered_here_keeps_the_connection_in_step() {
    let (gateway, origin) = (gateway(), Origin::start());
    let smuggled = get(&origin.url("/smuggled"), &basic("acme"));
    let fields = format!("{}Max-Forwards: 0\r\nContent-Length: {}\r\n", basic("acme"), smuggled.len());
    let mut client = gateway.client();
    client.send(
        request("OPTIONS", &origin.url("/"), &fields) + &smuggled + &get(&origin.url("/ip"), &basic("acme")),
    );
    client.answer("OPTIONS").ok();
    assert_eq!(client.answer("GET").ok().text(), "127.0.0.2");
    assert_eq!(origin.count(), 1);
}

/// With `via`, every message that is passed on says so, both ways, under a
/// name that no other gateway has.
#[test]
fn via_is_on_requests_answers_and_tunnels() {
    let upstream = Upstream::http();
    let exits = json!([{ "id": "e1", "via": "127.0.0.2" }, { "id": "up", "via": upstream.to_string() }]);
    let gateway = Setup::new(exits.clone()).config("via", true).start();
    let other = Setup::new(exits).config("via", true).start();
    let origin = Origin::start();
    let name_of = |via: &str| via.split(' ').nth(1).expect("a name").to_owned();

    let answer = gateway.get("acme-exit-e1", &origin.url("/ip")).ok();
    let mine = name_of(origin.last().field("via").expect("Via"));
    assert_eq!(answer.field("via"), Some(&*format!("1.1 {mine}")));
    let answer = gateway.get("acme-exit-e1", &origin.url("/http10")).ok();
    assert_eq!(answer.field("via"), Some(&*format!("1.0 {mine}")), "the version that was received");
    other.get("acme-exit-e1", &origin.url("/ip")).ok();
    assert_ne!(name_of(origin.last().field("via").expect("Via")), mine, "each has its own");

    let mut client = gateway.client();
    client.send(get(&origin.url("/early"), &basic("acme-exit-e1")));
    assert_eq!(client.head().field("via"), Some(&*format!("1.1 {mine}")), "of an interim answer");

    gateway.tunnel("acme-exit-up", origin.address);
    assert!(upstream.last().contains(&format!("\r\nVia: 1.1 {mine}\r\n")), "{}", upstream.last());
    // Two in a row are no loop; one twice is.
    let via = |name: &str| format!("Via: 1.0 a, 1.1 {name}\r\n");
    other.get_with("acme", &via(&mine), &origin.url("/ip")).ok();
    gateway.get_with("acme", &via(&mine), &origin.url("/ip")).fails(421, "loop_detected");
    let text = connect(origin.address, &format!("{}{}", basic("acme"), via(&mine)));
    gateway.client().send(text).answer("CONNECT").fails(421, "loop_detected");
}

/// Without it, nothing says where a message has been.
#[test]
fn without_via_nothing_tells_of_the_gateway() {
    let (gateway, origin) = (gateway(), Origin::start());
    let answer = gateway.get("acme", &origin.url("/ip")).ok();
    let head = origin.last().head.to_ascii_lowercase();
    for word in ["via", "forwarded", "moorgate", "x-real-ip", "proxy"] {
        assert!(!head.contains(word), "{word} in {head}");
    }
    assert_eq!(answer.field("via"), None);
}

/// A gateway whose exit leads back to itself: the loop ends, at once.
#[test]
fn a_loop_through_an_upstream_ends() {
    // An upstream proxy whose own upstream is the gateway: it sends what it
    // gets back to where it came from.
    let gateway_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let exits =
        json!([{ "id": "loop", "via": format!("http://acme:{}@{gateway_port}", crate::harness::PASSWORD) }]);
    let gateway = Setup::new(exits)
        .quick()
        .config("via", true)
        .config("listeners", json!([{ "bind": gateway_port.to_string() }]))
        .start();
    let origin = Origin::start();
    let answer = gateway.get("acme", &origin.url("/ip"));
    assert!(answer.status >= 400, "{answer:?}");
    let (_, answer) = gateway.connect("acme", origin.address);
    assert!(answer.status >= 400, "{answer:?}");
    assert_eq!(origin.count(), 0);
}

/// A 407 is between a client and its own proxy: no one else's gets through.
#[test]
fn a_challenge_of_another_is_not_passed_on() {
    let upstream = Upstream::http();
    let exits = json!([{ "id": "e1", "via": "127.0.0.2" }, { "id": "up", "via": upstream.to_string() }]);
    let gateway = Setup::new(exits).quick().start();
    let origin = Origin::start();
    let challenge = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"moorgate\"\r\n\
                     Content-Length: 4\r\n\r\nbait";
    let target = Recorder::answering(challenge);
    let answer = gateway.get("acme-exit-e1", &target.url("/")).fails(502, "bad_response");
    assert_eq!(answer.field("proxy-authenticate"), None);
    assert!(!answer.text().contains("bait"));
    upstream.set(Mood::Answer(challenge.into()));
    let answer = gateway.get("acme-exit-up", &origin.url("/ip")).fails(502, "exit_auth_failed");
    assert_eq!((answer.field("proxy-authenticate"), answer.text().contains("bait")), (None, false));
    let (_, answer) = gateway.connect("acme-exit-up", origin.address);
    assert_eq!((answer.field("proxy-authenticate"), answer.text().contains("bait")), (None, false));
    // A target's own challenge is the target's business.
    let target = Recorder::answering(
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
    );
    let answer = gateway.get("acme-exit-e1", &target.url("/"));
    assert_eq!((answer.status, answer.field("www-authenticate")), (401, Some("Basic realm=\"x\"")));
}
