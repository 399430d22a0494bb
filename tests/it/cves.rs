//! Faults of other proxies, tried against this one. Each test says what the
//! fault was; the desyncs of 2025 are in `refused`, h2c smuggling and chunk
//! extensions in `smuggling`.

use std::time::Duration;

use serde_json::json;

use crate::harness::client::find;
use crate::harness::recorder::Recorder;
use crate::harness::request::{Ask, basic, basic_as, connect, get, request};
use crate::harness::{Origin, PASSWORD, Setup, Upstream};

/// CVE-2023-49606, tinyproxy 1.10.0 and 1.11.1 (TALOS-2023-1889): removing the
/// fields that `Connection` names, it removed `Connection` itself where that
/// was named, and went on reading the value that it had freed: memory of an
/// unauthenticated request used after it was given back.
#[test]
fn cve_2023_49606_connection_names_itself() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    for fields in [
        "Connection: Connection\r\n",
        "Connection: connection, Connection, CONNECTION\r\n",
        "Proxy-Connection: Proxy-Connection\r\n",
        "Connection: Proxy-Connection\r\nProxy-Connection: Connection\r\n",
        "Connection: X, Connection, X\r\nConnection: Connection\r\nX: 1\r\nX: 2\r\n",
        "Connection: Connection, close, keep-alive, , ,\r\nKeep-Alive: Connection\r\n",
        "Connection:\r\n",
        "Connection: ,\r\n",
        "Connection: proxy-authorization, host\r\n",
    ] {
        for credential in [String::new(), basic("acme")] {
            let answer = gateway
                .client()
                .send(get(&origin.url("/ip"), &format!("{credential}{fields}")))
                .answer("GET");
            assert_eq!(answer.status, if credential.is_empty() { 407 } else { 200 }, "{fields:?}");
            let text = connect(origin.address, &format!("{credential}{fields}"));
            let answer = gateway.client().send(text).answer("CONNECT");
            assert_eq!(answer.status, if credential.is_empty() { 407 } else { 200 }, "{fields:?}");
        }
        let seen = origin.last();
        assert!(
            ["connection", "proxy-connection", "x", "keep-alive"]
                .iter()
                .all(|name| seen.field(name).is_none())
        );
    }
    // In an answer, too.
    let target = Recorder::answering(
        "HTTP/1.1 200 OK\r\nConnection: Connection, X\r\nConnection: connection\r\nX: 1\r\nContent-Length: 2\r\n\r\nok",
    );
    let answer = gateway.get("acme", &target.url("/")).ok();
    assert_eq!((&*answer.text(), answer.field("connection"), answer.field("x")), ("ok", None, None));
}

/// CVE-2025-4366, Pingora before 0.5.0: an answer from the cache was sent
/// without the request's body being read, and on a connection that lived on
/// the body was taken for the next request. There is no cache here, but there
/// are answers of our own: refusals, and what `Max-Forwards` ends.
#[test]
fn cve_2025_4366_a_body_unread_by_an_answer_of_our_own() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    let smuggled = get(&origin.url("/smuggled"), &basic("acme"));
    let after = get(&origin.url("/ip"), &basic("acme"));
    let length = format!("Content-Length: {}\r\n", smuggled.len());
    for (method, fields, status) in [
        ("POST", length.clone(), 407),
        ("POST", format!("{}{length}", basic("acme-exit-nope")), 400),
        ("POST", format!("{}{length}", basic("acme-pool-nope")), 403),
        ("OPTIONS", format!("{}{length}Max-Forwards: 0\r\n", basic("acme")), 200),
        ("GET", length.clone(), 407),
        ("HEAD", length.clone(), 407),
    ] {
        // At once, and in two parts, so that the answer is sent before the body.
        for at_once in [true, false] {
            let mut client = gateway.client();
            client.send(request(method, &origin.url("/"), &fields));
            if at_once {
                client.send([&*smuggled, &*after].concat());
                assert_eq!(client.answer(method).status, status);
            } else {
                assert_eq!(client.answer(method).status, status);
                client.send(&smuggled[..10]).send(&smuggled[10..]).send(&after);
            }
            assert_eq!(client.answer("GET").ok().text(), "127.0.0.2", "{method} {status}");
            client.stays_silent(Duration::from_millis(10));
        }
    }
    assert!(origin.seen().iter().all(|seen| seen.line().starts_with("GET /ip ")));
}

/// CVE-2026-2833, Pingora before 0.8.0: a request with `Upgrade` turned both
/// connections into a raw tunnel before the target had answered 101, so that
/// bytes behind it, such as a second request, reached the target unjudged.
#[test]
fn cve_2026_2833_nothing_passes_before_the_101() {
    let gateway = Setup::addresses(1).start();
    let fields = format!("{}Connection: Upgrade\r\nUpgrade: websocket\r\n", basic("acme"));
    for refusal in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno",
    ] {
        let target = Recorder::answering(refusal);
        let mut client = gateway.client();
        // Without a credential: judged, it is refused.
        let second = get(&target.url("/admin"), "");
        client.send(get(&target.url("/"), &fields) + &second);
        assert_eq!(client.answer("GET").text(), "no");
        client.answer("GET").fails(407, "auth_required");
        drop(client);
        assert!(!target.seen().concat().contains("/admin"), "{:?}", target.seen());
    }
    let silent = Recorder::start();
    let mut client = gateway.client();
    client.send(get(&silent.url("/"), &fields) + "behind");
    let seen = silent.wait("the head", |seen| seen.ends_with("\r\n\r\n"));
    client.stays_silent(Duration::from_millis(100));
    assert_eq!(silent.seen(), [seen], "nothing more before an answer");
    // After the 101 they pass: the client may have sent them too early.
    let target = Recorder::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let mut client = gateway.client();
    client.send(get(&target.url("/"), &fields) + "behind");
    assert_eq!(client.head().status, 101);
    target.wait("the bytes behind", |seen| seen.ends_with("\r\n\r\nbehind"));
}

/// CVE-2026-58055, nghttpx up to 1.69.0: an upgrade that also had a body went
/// on with both, on connections that were used again. Here a request with a
/// body asks for no upgrade.
#[test]
fn cve_2026_58055_an_upgrade_with_a_body_is_a_plain_request() {
    let gateway = Setup::addresses(1).start();
    let origin = Origin::start();
    for (framing, body) in
        [("Content-Length: 4\r\n", "body"), ("Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n")]
    {
        let fields =
            format!("{}Connection: Upgrade\r\nUpgrade: websocket\r\n{framing}", basic("acme-session-a"));
        let mut client = gateway.client();
        client.send(request("POST", &origin.url("/echo"), &fields) + body).answer("POST").ok();
        let seen = origin.last();
        assert_eq!((seen.field("upgrade"), seen.field("connection"), &*seen.text()), (None, None, body));
        client.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").ok();
    }
}

/// CVE-2023-45539, HAProxy before 2.8.2: `#` was taken as a part of the URI, so
/// that rules on a path's end (`/index.html#.png`) judged another path than
/// the server served. Here no fragment gets past the first reader, nor does
/// an authority that two readers would end in two places.
#[test]
fn cve_2023_45539_a_fragment_is_no_part_of_a_target() {
    let gateway = Setup::addresses(1).start();
    let target = Recorder::start();
    let at = target.address;
    for url in [
        format!("http://{at}/index.html#.png"),
        format!("http://{at}/#"),
        format!("http://{at}#"),
        format!("http://{at}?#"),
        format!("http://allowed.example#@{at}/"),
        format!("http://{at}#@allowed.example/"),
        format!("http://allowed.example@{at}/"),
        format!("http://allowed.example:80@{at}/"),
        format!("http://{at}\\@allowed.example/"),
        format!("http://{at}\\.allowed.example/"),
        format!("http://{at}:80/"),
        format!("http://{at};allowed.example/"),
        format!("http://[{at}]/"),
        format!("http:/{at}/"),
        format!("http:///{at}/"),
        format!("http:{at}/"),
        "http://127.0.0.1%2f/".to_owned(),
        "http://127.0.0.1%00.allowed.example/".to_owned(),
        "http://%31%32%37.0.0.1/".to_owned(),
    ] {
        let answer = gateway
            .client()
            .send(format!("GET {url} HTTP/1.1\r\nHost: h\r\n{}\r\n", basic("acme")))
            .answer("GET");
        assert!(answer.status == 400, "{url}: {answer:?}");
        assert_eq!(target.count(), 0, "{url}");
    }
    for authority in [
        format!("{at}#"),
        format!("{at}/"),
        format!("{at}?"),
        format!("a@{at}"),
        format!("{at}\\"),
        format!("{at},{at}"),
    ] {
        let answer = gateway.client().send(connect(&authority, &basic("acme"))).answer("CONNECT");
        assert!(answer.status == 400, "{authority}: {answer:?}");
        assert_eq!(target.count(), 0, "{authority}");
    }
}

/// CVE-2022-31813, Apache httpd up to 2.4.53: fields that the proxy itself had
/// added (`X-Forwarded-*`) were removed again where the client's `Connection`
/// named them, and with them what the server decided by. Here the fields that
/// we add are not the client's to name: the host, the way, the upstream's
/// credential; and of an answer, what we tell of the exit.
#[test]
fn cve_2022_31813_what_we_add_cannot_be_named_away() {
    let upstream = Upstream::http_with("up", "stream");
    let exits =
        json!([{ "id": "e1", "via": "127.0.0.2" }, { "id": "up", "via": upstream.via("http://up:stream@") }]);
    let gateway = Setup::new(exits).config("via", true).start();
    let origin = Origin::start();
    let names = "Connection: Host, Via, Proxy-Authorization, Connection, Upgrade, Content-Length\r\n";
    let text = format!("GET {} HTTP/1.1\r\nHost: forged.example\r\n{names}", origin.url("/ip"));
    for (credential, through) in [(basic("acme-exit-e1"), "e1"), (basic("acme-exit-up"), "up")] {
        let answer = gateway.client().send(format!("{text}{credential}\r\n")).answer("GET").ok();
        assert_eq!(answer.exit(), format!("p/{through}"));
        let seen = origin.last();
        assert_eq!(seen.field("host"), Some(&*origin.address.to_string()));
        assert!(seen.field("via").is_some_and(|via| via.starts_with("1.1 moorgate-")), "{}", seen.head);
    }
    assert!(upstream.last().contains(&basic_as("up", "stream")), "{}", upstream.last());
    assert!(!upstream.last().contains("forged"), "{}", upstream.last());
}

/// CVE-2025-62168, Squid before 7.2: the page for a failed request had a link
/// to write to the administrator, and in it the whole request with its
/// `Authorization`, for any script on the page's origin to read. Here no
/// failure repeats anything of a request but its own parameters, and no
/// secret.
#[test]
fn cve_2025_62168_a_failure_shows_nothing_of_the_request() {
    let upstream = Upstream::http_with("x", "up-secret");
    let exits = json!([{ "id": "e1", "via": "127.0.0.2" }, { "id": "up", "via": upstream.via("http://up:up-secret@") }]);
    let gateway = Setup::new(exits).quick().start();
    let fields = "Authorization: Bearer s3cret-bearer\r\nCookie: id=s3cret-cookie\r\nX-Api-Key: s3cret-key\r\n\
                  Proxy-Connection: s3cret-hop\r\n";
    let encoded = basic("acme").trim_end().rsplit(' ').next().unwrap().to_owned();
    let secrets = ["s3cret", PASSWORD, "wr0ng", "up-secret", &encoded];
    let wrong = basic_as("acme", "wr0ng");
    for (credential, target) in [
        (basic("acme"), "127.0.0.1:1"),
        (basic("acme"), "no.such.name.invalid:80"),
        (basic("acme"), "bad target:s3cret@h:x"),
        (basic("acme"), "user:s3cret@127.0.0.1:1"),
        (basic("acme-exit-up"), "127.0.0.1:1"),
        (basic("acme-exit-e9"), "127.0.0.1:1"),
        (basic("acme-sesion-x"), "127.0.0.1:1"),
        (wrong.clone(), "127.0.0.1:1"),
        (format!("{wrong}{wrong}"), "127.0.0.1:1"),
        (String::new(), "127.0.0.1:1"),
        (wrong.replace("Basic ", "Bearer "), "127.0.0.1:1"),
        (wrong.replace("Basic ", "Basic !"), "127.0.0.1:1"),
        (format!("{} Folded: s3cret\r\n", basic("acme")), "127.0.0.1:1"),
        (format!("{}Content-Length: s3cret\r\n", basic("acme")), "127.0.0.1:1"),
        (format!("{}s3cret\r\n", basic("acme")), "127.0.0.1:1"),
    ] {
        let url = format!("http://{target}/path-s3cret?query=s3cret");
        for text in
            [connect(target, &format!("{credential}{fields}")), get(&url, &format!("{credential}{fields}"))]
        {
            let mut client = gateway.client();
            let _ = client.try_send(&text);
            client.half_close();
            let said = client.rest();
            assert!(find(&said, b"\r\nMoorgate-Error: ").is_some(), "{text}");
            for secret in secrets {
                assert!(
                    find(&said, secret.as_bytes()).is_none(),
                    "{secret} for {text}: {}",
                    String::from_utf8_lossy(&said)
                );
            }
        }
    }
    gateway.terminate();
    gateway.wait();
    for secret in secrets {
        assert!(!gateway.log.text().contains(secret), "{secret} in the log");
    }
}
