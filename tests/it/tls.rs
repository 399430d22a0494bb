//! A listener with TLS (SPEC §7).

use std::io::{Read, Write};
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::operator;
use crate::harness::request::{PASSWORD, connect, get};
use crate::harness::tls::{self, certificate, half_close, head, open, try_open};
use crate::harness::{Client, Gateway, Origin, PATIENCE, Setup, Target, basic, eventually};

fn curl(gateway: &Gateway, arguments: &[&str], url: &str) -> String {
    let out = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "", "--include"])
        .args(["--proxy", &format!("https://{}", gateway.listener(0))])
        .args(["--proxy-user", &format!("acme-session-c:{PASSWORD}")])
        .args(arguments)
        .arg(url)
        .current_dir(gateway.dir())
        .output()
        .expect("curl runs: install the Debian package curl");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn curl_goes_through_it() {
    let gateway = Setup::addresses(1).tls(&certificate(&["127.0.0.1"])).start();
    let origin = Origin::start();
    for trust in [&["--proxy-cacert", "cert.pem"][..], &["--proxy-insecure"]] {
        let plain = curl(&gateway, trust, &origin.url("/ip"));
        assert!(plain.ends_with("127.0.0.2") && plain.contains("Moorgate-Exit: p/e1"), "{plain}");
        let tunnel = curl(&gateway, &[trust, &["--proxytunnel"]].concat(), &origin.url("/ip"));
        assert!(tunnel.starts_with("HTTP/1.1 200 Connection established"), "{tunnel}");
        assert!(tunnel.ends_with("127.0.0.2"), "{tunnel}");
    }
}

#[test]
fn one_port_speaks_everything_by_the_first_byte() {
    let made = certificate(&["127.0.0.1"]);
    let gateway = Setup::addresses(1).tls(&made).start();
    let origin = Origin::start();
    // HTTP without TLS, HTTP within it, SOCKS5 within it.
    let mut plain = Client::open(gateway.listener(0));
    assert_eq!(plain.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").ok().text(), "127.0.0.2");
    let mut within = open(gateway.listener(0), &made, &[]);
    within.write_all(get(&origin.url("/ip"), &basic("acme")).as_bytes()).unwrap();
    assert!(head(&mut within).starts_with("HTTP/1.1 200 OK"));
    let mut within = open(gateway.listener(0), &made, &["http/1.1"]);
    within.write_all(b"\x05\x01\x02").unwrap();
    let mut answer = [0; 2];
    within.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [5, 2]);
}

#[test]
fn with_a_protocol_of_its_own_a_listener_takes_tls_alone() {
    let made = certificate(&["127.0.0.1"]);
    let tls = json!({ "cert": "cert.pem", "key": "key.pem" });
    let setup = Setup::addresses(1).tls(&made).config("listeners.0.protocol", "http");
    let gateway = setup.listener(json!({ "protocol": "socks5", "tls": tls })).start();
    let origin = Origin::start();
    let mut plain = Client::open(gateway.listener(0));
    let refused = plain.send(get(&origin.url("/ip"), &basic("acme"))).answer("GET").fails(400, "bad_request");
    assert!(refused.detail().contains("TLS"), "{}", refused.detail());
    let mut plain = Client::open(gateway.listener(1));
    assert_eq!(plain.send("\x05\x01\x02").rest(), b"");
    let mut within = open(gateway.listener(1), &made, &[]);
    within.write_all(b"\x05\x01\x02").unwrap();
    within.read_exact(&mut [0; 2]).unwrap();
    let mut within = open(gateway.listener(0), &made, &[]);
    within.write_all(get(&origin.url("/ip"), &basic("acme")).as_bytes()).unwrap();
    assert!(head(&mut within).starts_with("HTTP/1.1 200 OK"));
    assert_eq!(origin.count(), 1);
}

#[test]
fn half_close_farewell_and_reset_are_carried() {
    let made = certificate(&["127.0.0.1"]);
    let gateway = Setup::addresses(1).tls(&made).config("timeouts", json!({ "idle": "1s" })).start();
    let target = Target::open();
    let tunnel = || {
        let mut client = open(gateway.listener(0), &made, &[]);
        client.write_all(connect(&target, &basic("acme")).as_bytes()).unwrap();
        assert!(head(&mut client).starts_with("HTTP/1.1 200 Connection established"));
        (client, target.accept())
    };
    let (mut client, mut far) = tunnel();
    client.write_all(b"up").unwrap();
    half_close(&mut client);
    assert_eq!(far.rest(), b"up");
    far.send("late").half_close();
    let mut all = Vec::new();
    client.read_to_end(&mut all).expect("its end is announced");
    assert_eq!(all, b"late");

    let (client, mut far) = tunnel();
    socket2::SockRef::from(&client.sock).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(far.end().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let (mut client, far) = tunnel();
    far.reset();
    let kind = client.read_to_end(&mut Vec::new()).unwrap_err().kind();
    assert!(
        matches!(kind, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof),
        "{kind}"
    );

    // An idle tunnel ends with a farewell.
    let (mut client, _far) = tunnel();
    assert_eq!(client.read(&mut [0]).expect("its end is announced"), 0);
}

#[test]
fn bulk_goes_both_ways() {
    let made = certificate(&["127.0.0.1"]);
    let gateway = Setup::addresses(1).tls(&made).start();
    let origin = Origin::start();
    let mut client = open(gateway.listener(0), &made, &[]);
    client.write_all(get(&origin.url("/stream/5000000"), &basic("acme")).as_bytes()).unwrap();
    head(&mut client);
    let mut all = vec![0; 5_000_000];
    client.read_exact(&mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == b'x'));
    let fields = format!("{}Content-Length: 5000000\r\n", basic("acme"));
    let post = crate::harness::request::request("POST", &origin.url("/sink"), &fields);
    client.write_all(post.as_bytes()).unwrap();
    client.write_all(&all).unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 200 OK"));
    let mut count = [0; 7];
    client.read_exact(&mut count).unwrap();
    assert_eq!(&count, b"5000000");
}

#[test]
fn each_name_is_shown_its_certificate() {
    let (first, second) = (certificate(&["127.0.0.1", "a.test"]), certificate(&["b.test", "*.c.test"]));
    let both = json!([{ "cert": "cert.pem", "key": "key.pem" }, { "cert": "two.pem", "key": "two.key" }]);
    let setup = Setup::addresses(1).tls(&first).config("listeners.0.tls", both);
    let gateway = setup.file("two.pem", second.cert.clone()).file("two.key", second.key.clone()).start();
    let shown = |name: &str, made| try_open(gateway.listener(0), name, made, &[]).is_ok();
    assert!(shown("a.test", &first) && shown("b.test", &second) && shown("x.c.test", &second));
    assert!(!shown("b.test", &first));
}

#[test]
fn a_changed_certificate_is_shown_and_a_bad_one_is_not() {
    let (first, second) = (certificate(&["127.0.0.1"]), certificate(&["127.0.0.1"]));
    let gateway = Setup::addresses(1).tls(&first).start();
    let shown = |made| try_open(gateway.listener(0), "127.0.0.1", made, &[]).is_ok();
    assert!(shown(&first));
    let target = Target::open();
    let mut standing = open(gateway.listener(0), &first, &[]);
    standing.write_all(connect(&target, &basic("acme")).as_bytes()).unwrap();
    head(&mut standing);

    // The certificate alone does not fit the old key.
    std::fs::write(gateway.dir().join("cert.pem"), &second.cert).unwrap();
    let line = gateway.log.wait_for("an error", |line| line.has("configuration not reloaded"));
    assert!(line.has("is not the key of"), "{}", line.0);
    assert!(shown(&first), "the old one stays");
    eventually("it is counted", PATIENCE, || {
        let metrics = operator::ask(&gateway, "GET", "/metrics", "", "").ok().text();
        let failed =
            metrics.lines().find_map(|line| line.strip_prefix("moorgate_reloads_total{result=\"failed\"} "));
        failed.filter(|count| *count != "0").map(drop)
    });

    std::fs::write(gateway.dir().join("key.pem"), &second.key).unwrap();
    eventually("the new one is shown", PATIENCE, || shown(&second).then_some(()));
    assert!(!shown(&first));
    let mut far = target.accept();
    standing.write_all(b"still").unwrap();
    assert_eq!(far.exactly(5), b"still", "what stands goes on");

    // At once on SIGHUP.
    std::fs::write(gateway.dir().join("cert.pem"), &first.cert).unwrap();
    std::fs::write(gateway.dir().join("key.pem"), &first.key).unwrap();
    gateway.signal(Signal::HUP);
    eventually("the first one is shown", PATIENCE, || shown(&first).then_some(()));
}

#[test]
fn what_is_no_handshake_is_refused_in_time() {
    let made = certificate(&["127.0.0.1"]);
    let gateway = Setup::addresses(1).tls(&made).config("timeouts", json!({ "head": "500ms" })).start();
    let cases = [
        (&b"\x16\x03\x01\xff\xffjunk"[..], "bad_request"),
        (b"\x16\x16\x16\x16\x16\x16", "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01", "request_timeout"),
        (b"\x16", "request_timeout"),
    ];
    for (junk, code) in cases {
        let mark = gateway.log.mark();
        let mut client = Client::open(gateway.listener(0));
        client.send(junk);
        let _alert = client.rest();
        let line = gateway.log.wait_after(mark, "a record", crate::harness::gateway::is_access);
        assert_eq!(line.field("code").as_deref(), Some(code), "{}", line.0);
    }
    // Within it, the head's time goes on.
    let mut silent = open(gateway.listener(0), &made, &[]);
    assert!(head(&mut silent).starts_with("HTTP/1.1 408 "));
}

#[test]
fn wrong_files_stop_the_start() {
    let (made, other) = (certificate(&["127.0.0.1"]), certificate(&["127.0.0.1"]));
    for (cert, key, says) in [
        (&*made.cert, &*other.key, "key.pem is not the key of"),
        ("no PEM", &*made.key, "cert.pem holds no certificate"),
        (&*made.cert, "no PEM", "key.pem holds no private key"),
        (&*made.key, &*made.key, "cert.pem holds no certificate"),
    ] {
        let setup = Setup::addresses(1).tls(&made);
        let dir = crate::harness::gateway::write(&setup);
        std::fs::write(dir.path().join("cert.pem"), cert).unwrap();
        std::fs::write(dir.path().join("key.pem"), key).unwrap();
        let out = crate::harness::gateway::run(dir.path(), &["check", "--config", "moorgate.json"], "");
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{text}");
        assert!(text.contains(says) && text.contains("listeners[0].tls"), "{text}");
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
}

#[test]
fn alpn_is_for_http_alone() {
    let made = certificate(&["127.0.0.1"]);
    let tls = json!({ "cert": "cert.pem", "key": "key.pem" });
    let gateway =
        Setup::addresses(1).tls(&made).listener(json!({ "protocol": "socks5", "tls": tls })).start();
    for (listener, offered, agreed) in [
        (0, &["h2", "http/1.1"][..], Some("h2")),
        (0, &["http/1.1"], Some("http/1.1")),
        (0, &[], None),
        (1, &["h2"], None),
    ] {
        let stream = tls::open(gateway.listener(listener), &made, offered);
        assert_eq!(stream.conn.alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}");
    }
}
