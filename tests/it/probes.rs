//! Probes of exits (SPEC §6, `health.probe`).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::client::find;
use crate::harness::request::Ask;
use crate::harness::{Gateway, Mood, Origin, PATIENCE, RUNTIME, Setup, Upstream, eventually};

/// What probes ask: it answers each exit with the address that it comes from,
/// or with what it is told to.
struct Mirror {
    address: SocketAddr,
    told: Arc<Mutex<HashMap<IpAddr, String>>>,
    seen: Arc<Mutex<Vec<(IpAddr, String)>>>,
}

impl Mirror {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mirror =
            Self { address: listener.local_addr().unwrap(), told: Arc::default(), seen: Arc::default() };
        let (told, seen) = (mirror.told.clone(), mirror.seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (told, seen) = (told.clone(), seen.clone());
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let peer = stream.peer_addr().unwrap().ip();
                    let mut head = Vec::new();
                    let mut chunk = [0; 1024];
                    while find(&head, b"\r\n\r\n").is_none() {
                        match stream.read(&mut chunk) {
                            Ok(0) | Err(_) => return,
                            Ok(count) => head.extend_from_slice(&chunk[..count]),
                        }
                    }
                    let body = told.lock().unwrap().get(&peer).cloned().unwrap_or_else(|| peer.to_string());
                    let length = body.len();
                    seen.lock().unwrap().push((peer, String::from_utf8_lossy(&head).into_owned()));
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                });
            }
        });
        mirror
    }

    /// What the probes of this exit are answered from now on.
    fn tell(&self, exit: &Upstream, body: &str) {
        self.told.lock().unwrap().insert(exit.address.ip(), body.to_owned());
    }

    /// How many probes of this exit there were.
    fn count(&self, ip: IpAddr) -> usize {
        self.seen.lock().unwrap().iter().filter(|(peer, _)| *peer == ip).count()
    }

    #[track_caller]
    fn wait(&self, ip: IpAddr, more: usize) {
        let start = self.count(ip);
        eventually("probes come", PATIENCE, || (self.count(ip) >= start + more).then_some(()));
    }

    fn health(&self, more: Value) -> Value {
        let url = format!("http://{}/ip", self.address);
        let mut health = json!({ "eject_after": 2, "eject_for": "200ms", "probe": { "url": url, "every": "1s", "timeout": "500ms" } });
        health.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        health
    }
}

fn exits(upstreams: &[&Upstream]) -> Value {
    (1..)
        .zip(upstreams)
        .map(|(n, up)| json!({ "id": format!("u{n}"), "via": format!("http://{}", up.address) }))
        .collect()
}

fn pool(upstreams: &[&Upstream], mirror: &Mirror, more: Value) -> Setup {
    let timeouts = json!({ "connect": "500ms", "handshake": "500ms" });
    Setup::new(exits(upstreams)).pool("health", mirror.health(more)).pool("timeouts", timeouts)
}

#[track_caller]
fn says(gateway: &Gateway, mark: usize, words: &[&str]) -> String {
    let all = |line: &crate::harness::log::Line| words.iter().all(|word| line.has(word));
    gateway.log.wait_after(mark, &words.join(" "), all).0
}

#[test]
fn an_exit_goes_and_comes_back_without_a_client() {
    let (good, bad, mirror) = (Upstream::http(), Upstream::http(), Mirror::start());
    let gateway = pool(&[&good, &bad], &mirror, json!({})).start();
    mirror.wait(bad.address.ip(), 1);
    bad.refuse();
    says(&gateway, 0, &["exit ejected", "u2"]);
    let origin = Origin::start();
    for _ in 0..4 {
        assert_eq!(gateway.get("acme", &origin.url("/ip")).ok().exit(), "p/u1");
    }
    bad.come_back();
    says(&gateway, 0, &["exit is back", "u2"]);
    let used = eventually("the exit is used again", PATIENCE, || {
        let answer = gateway.get("acme", &origin.url("/ip")).ok();
        (answer.exit() == "p/u2").then_some(answer)
    });
    assert_eq!(used.address(), Some(&*bad.address.ip().to_string()));
    // A probe is a request of the gateway's own: it tells nothing of clients.
    let (_, head) = mirror.seen.lock().unwrap()[0].clone();
    assert!(head.contains("user-agent: moorgate/") || head.contains("User-Agent: moorgate/"), "{head}");
}

#[test]
fn silence_of_the_probes_target_ejects_nobody() {
    let (one, two) = (Upstream::http(), Upstream::http());
    let mirror = Mirror::start();
    // Whatever it is asked for, this one is not there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let probe = json!({ "probe": { "url": format!("http://{nobody}/"), "every": "1s", "timeout": "300ms" } });
    let gateway = pool(&[&one, &two], &mirror, probe).start();
    let asked = |up: &Upstream| up.seen().len();
    eventually("both are probed", PATIENCE, || (asked(&one) > 3 && asked(&two) > 3).then_some(()));
    assert!(!gateway.log.text().contains("exit ejected"));
}

#[test]
fn silence_through_one_exit_alone_is_its_fault() {
    let (good, bad, mirror) = (Upstream::http(), Upstream::http(), Mirror::start());
    let gateway = pool(&[&good, &bad], &mirror, json!({})).start();
    mirror.wait(good.address.ip(), 1);
    bad.set(Mood::status(503));
    says(&gateway, 0, &["exit ejected", "u2", "503"]);
    bad.set(Mood::Serve);
    says(&gateway, 0, &["exit is back", "u2"]);
}

#[test]
fn the_address_is_learned_and_makes_siblings() {
    let (a, b, c, mirror) = (Upstream::http(), Upstream::http(), Upstream::http(), Mirror::start());
    mirror.tell(&a, "203.0.113.7\n");
    mirror.tell(&b, r#"{"ip":"203.0.113.7"}"#);
    mirror.tell(&c, "203.0.113.8");
    let gateway = pool(&[&a, &b, &c], &mirror, json!({})).pool("failover", "address").start();
    let origin = Origin::start();
    let get = |exit: &str, session: &str| {
        gateway.get(&format!("acme-exit-{exit}-session-{session}"), &origin.url("/ip")).ok()
    };
    for (exit, address) in [("u1", "203.0.113.7"), ("u2", "203.0.113.7"), ("u3", "203.0.113.8")] {
        eventually("the address is announced", PATIENCE, || {
            (get(exit, exit).address() == Some(address)).then_some(())
        });
    }
    // Its sibling is the one exit to move to.
    a.refuse();
    let moved = eventually("the session moves", PATIENCE, || {
        let answer = gateway.get("acme-session-u1", &origin.url("/ip"));
        (answer.status == 200).then_some(answer)
    });
    assert_eq!((moved.exit(), moved.news()), ("p/u2".to_owned(), "moved"));
    assert!(moved.field("moorgate-session").unwrap().contains("same-address"), "{moved:?}");
    c.refuse();
    eventually("the session without a sibling fails", PATIENCE, || {
        (gateway.get("acme-session-u3", &origin.url("/ip")).code() == "exit_down").then_some(())
    });
}

/// A session on `u1`, whose address then changes from .7 to .9.
fn changed(policy: &str, failover: &str, others: &[&str]) -> (Gateway, Vec<Upstream>, Mirror, Origin) {
    let mirror = Mirror::start();
    let upstreams: Vec<_> = (0..=others.len()).map(|_| Upstream::http()).collect();
    mirror.tell(&upstreams[0], "203.0.113.7");
    for (upstream, told) in upstreams[1..].iter().zip(others) {
        mirror.tell(upstream, told);
    }
    let all: Vec<_> = upstreams.iter().collect();
    let change = json!({ "address_change": policy });
    let gateway = pool(&all, &mirror, change).pool("failover", failover).start();
    let origin = Origin::start();
    for upstream in &upstreams {
        mirror.wait(upstream.address.ip(), 1);
    }
    let session = || gateway.get("acme-exit-u1-session-s", &origin.url("/ip")).ok();
    eventually("the address is known", PATIENCE, || {
        (session().address() == Some("203.0.113.7")).then_some(())
    });
    mirror.tell(&upstreams[0], "203.0.113.9");
    says(&gateway, 0, &["same exit, new address", "203.0.113.7", "203.0.113.9", "sessions=1"]);
    (gateway, upstreams, mirror, origin)
}

#[test]
fn a_new_address_may_be_ignored() {
    let (gateway, _ups, _mirror, origin) = changed("ignore", "on", &["203.0.113.7"]);
    let answer = gateway.get("acme-session-s", &origin.url("/ip")).ok();
    assert_eq!(
        (answer.exit(), answer.news(), answer.address()),
        ("p/u1".into(), "held", Some("203.0.113.9"))
    );
}

#[test]
fn a_new_address_may_move_the_session_to_where_the_old_one_is() {
    let (gateway, _ups, _mirror, origin) = changed("move", "on", &["203.0.113.8", "203.0.113.7"]);
    let answer = gateway.get("acme-session-s", &origin.url("/ip")).ok();
    assert_eq!(
        (answer.exit(), answer.news(), answer.address()),
        ("p/u3".into(), "moved", Some("203.0.113.7"))
    );
    assert!(answer.field("moorgate-session").unwrap().contains("same-address"), "{answer:?}");
    assert_eq!(gateway.get("acme-session-s", &origin.url("/ip")).ok().news(), "held");
    // A session of its own begins with what is.
    let new = gateway.get("acme-exit-u1-session-new", &origin.url("/ip")).ok();
    assert_eq!((new.news(), new.address()), ("new", Some("203.0.113.9")));
    assert_eq!(gateway.get("acme-session-new", &origin.url("/ip")).ok().news(), "held");
}

#[test]
fn a_session_that_has_nowhere_to_move_is_told_once() {
    let (gateway, _ups, _mirror, origin) = changed("move", "on", &[]);
    let answer = gateway.get("acme-session-s", &origin.url("/ip")).ok();
    assert_eq!(
        (answer.exit(), answer.news(), answer.address()),
        ("p/u1".into(), "moved", Some("203.0.113.9"))
    );
    assert!(!answer.field("moorgate-session").unwrap().contains("same-address"), "{answer:?}");
    assert_eq!(gateway.get("acme-session-s", &origin.url("/ip")).ok().news(), "held");
}

#[test]
fn failover_says_where_a_session_may_move_to() {
    let (gateway, _ups, _mirror, origin) = changed("move", "address", &["203.0.113.8"]);
    let failed = gateway.get("acme-session-s", &origin.url("/ip")).fails(503, "exit_down");
    assert!(failed.detail().contains("address behind exit u1 has changed"), "{}", failed.detail());
    let moved = gateway.get("acme-session-s-failover-on", &origin.url("/ip")).ok();
    assert_eq!((moved.exit(), moved.news()), ("p/u2".into(), "moved"));
}

#[test]
fn a_new_address_may_fail_the_session() {
    let (gateway, _ups, mirror, origin) = changed("fail", "on", &["203.0.113.7"]);
    let failed = gateway.get("acme-session-s", &origin.url("/ip")).fails(503, "exit_down");
    assert!(failed.detail().contains("has changed"), "{}", failed.detail());
    assert_eq!(gateway.get("acme-session-other", &origin.url("/ip")).ok().news(), "new");
    drop(mirror);
}

#[test]
fn a_changed_probe_comes_into_force_with_a_reload() {
    let (up, first, second) = (Upstream::http(), Mirror::start(), Mirror::start());
    let setup = pool(&[&up], &first, json!({}));
    let gateway = setup.clone().start();
    first.wait(up.address.ip(), 2);
    let mut pools = setup.pools.clone();
    pools["pools"][0]["health"] = second.health(json!({}));
    gateway.write_pools(&pools);
    second.wait(up.address.ip(), 2);
    pools["pools"][0]["health"] = json!({});
    gateway.write_pools(&pools);
    gateway.log.wait_count(0, 2, "reloads", |line| line.has("pools reloaded"));
    let before = second.count(up.address.ip());
    std::thread::sleep(std::time::Duration::from_millis(2500));
    // One may have been under way.
    assert!(second.count(up.address.ip()) <= before + 1);
}

/// An `https:` target that answers every connection with an address.
fn secure_mirror() -> (SocketAddr, String) {
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = RUNTIME.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    RUNTIME.spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let mut head = [0; 1024];
            let _ = tls.read(&mut head).await;
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"ip\": \"203.0.113.5\"}").await;
            let _ = tls.shutdown().await;
        }
    });
    (address, key.cert.pem())
}

#[test]
fn a_probe_may_ask_over_tls_through_every_kind_of_exit() {
    let (address, pem) = secure_mirror();
    let (http, socks) = (Upstream::http_with("u", "s3cret-probe"), Upstream::socks5());
    let exits = json!([
        { "id": "http", "via": format!("http://u:s3cret-probe@{}", http.address) },
        { "id": "socks", "via": format!("socks5://{}", socks.address) },
        "direct",
    ]);
    let probe = json!({ "url": format!("https://{address}/"), "every": "1s" });
    let setup = Setup::new(exits).pool("health", json!({ "probe": probe })).file("ca.pem", pem);
    let dir = crate::harness::gateway::write(&setup);
    let roots = dir.path().join("ca.pem");
    let gateway = Gateway::start_in(dir, setup.env("SSL_CERT_FILE", roots.to_str().unwrap()));
    let origin = Origin::start();
    for exit in ["http", "socks", "direct"] {
        eventually("the address is learned", PATIENCE, || {
            let answer = gateway.get(&format!("acme-exit-{exit}"), &origin.url("/ip")).ok();
            (answer.address() == Some("203.0.113.5")).then_some(())
        });
    }
    assert!(!gateway.log.text().contains("s3cret-probe"));
}
