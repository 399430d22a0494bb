//! Credentials: where they must never be seen, and what a wrong one tells
//! (SPEC §4, §5, §7).

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::gateway::run;
use crate::harness::request::{Ask, basic_as, connect, get, request};
use crate::harness::{Answer, Client, Gateway, Mood, Origin, PASSWORD, Setup, Upstream, basic};

/// The upstreams' credential.
const UPSTREAM: (&str, &str) = ("vendor-user-Kx2", "vendor-secret-Wp9");

/// In every form in which someone could find it.
fn forms(user: &str, secret: &str) -> Vec<String> {
    let pair = format!("{user}:{secret}");
    // Base64 looks different at each of three places.
    let inner = |shift: usize| {
        let encoded = STANDARD.encode(format!("{}{secret}", "x".repeat(shift)));
        let skip = (shift * 8).div_ceil(6);
        encoded.trim_end_matches('=')[skip + 1..encoded.trim_end_matches('=').len() - 2].to_owned()
    };
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{:?}", secret.as_bytes());
    let mut all =
        vec![secret.to_owned(), STANDARD.encode(&pair), hex, list.trim_matches(['[', ']']).to_owned()];
    all.extend((0..3).map(inner));
    all
}

#[track_caller]
fn hides(what: &str, text: &str, forms: &[String]) {
    for form in forms {
        assert!(!text.contains(form.as_str()), "{what} shows {form:?}:\n{text}");
    }
}

/// Everything that an answer says.
fn all(answer: &Answer) -> String {
    format!("{} {:?} {} {:?}", answer.reason, answer.fields, answer.text(), answer.trailers)
}

/// A gateway that logs all that it can, with every kind of upstream.
fn talkative(upstreams: &[&Upstream]) -> Gateway {
    let (user, secret) = UPSTREAM;
    let exit = |upstream: &&Upstream| {
        let via = upstream.to_string().replacen("://", &format!("://{user}:{secret}@"), 1);
        let id = via.split(':').next().unwrap().to_owned();
        json!({ "id": id, "via": via, "insecure": id == "https" })
    };
    let exits: Vec<_> =
        upstreams.iter().map(exit).chain([json!({ "id": "e1", "via": "127.0.0.2" })]).collect();
    Setup::new(json!(exits)).env("MOORGATE_LOG", "trace").quick().start()
}

#[test]
fn no_credential_is_seen_where_it_does_not_belong() {
    let (user, secret) = UPSTREAM;
    let upstreams = [
        Upstream::http_with(user, secret),
        Upstream::https_with(user, secret),
        Upstream::socks5_with(user, secret),
    ];
    let gateway = talkative(&upstreams.each_ref());
    let origin = Origin::start();
    let (ours, theirs) = (forms("acme", PASSWORD), forms(user, secret));
    let mut told = String::new();
    for exit in ["http", "https", "socks5", "e1"] {
        for name in [format!("acme-exit-{exit}"), format!("acme-session-{exit}-exit-{exit}-failover-off")] {
            told += &all(&gateway.get(&name, &origin.url("/ip")).ok());
            told += &all(&gateway.tunnel(&name, origin.address).1);
            told += &all(&gateway.connect(&name, "127.0.0.1:1").1);
            told += &all(&gateway.get(&name, "http://127.0.0.1:1/"));
            told += &all(&gateway.get(&name, &origin.url("/challenge")));
            told += &all(&gateway.get(&format!("{name}-sesion-x"), &origin.url("/ip")));
        }
    }
    // An upstream that repeats what it was told, or refuses it.
    let encoded = STANDARD.encode(format!("{user}:{secret}"));
    for status in ["403", "407", "502"] {
        for said in [format!("no {secret} here"), format!("no {encoded}"), format!("{user}:{secret}")] {
            let text = format!("HTTP/1.1 {status} {said}\r\nX-Said: none\r\nContent-Length: 0\r\n\r\n");
            upstreams.iter().for_each(|upstream| upstream.set(Mood::Answer(text.clone().into())));
            for exit in ["http", "https", "socks5"] {
                told += &all(&gateway.connect(&format!("acme-exit-{exit}"), origin.address).1);
            }
        }
    }
    upstreams.iter().for_each(|upstream| upstream.set(Mood::Break));
    for exit in ["http", "https", "socks5"] {
        told += &all(&gateway.connect(&format!("acme-exit-{exit}"), origin.address).1);
        told += &all(&gateway.get(&format!("acme-exit-{exit}"), &origin.url("/ip")));
    }
    gateway.get("acme-exit-e1", &origin.url("/ip")).ok();
    hides("an answer", &told, &ours);
    hides("an answer", &told, &theirs);
    for seen in origin.seen() {
        hides("the origin", &seen.head, &ours);
        // (Our upstreams pass on plain requests as they got them.)
        if seen.peer.ip().to_string() == "127.0.0.2" || !seen.line().contains("://") {
            hides("the origin", &seen.head, &theirs);
            assert_eq!(seen.field("proxy-authorization"), None);
        }
    }
    for upstream in &upstreams {
        upstream.seen().iter().for_each(|seen| hides("the upstream", seen, &ours));
        assert!(upstream.count() > 0);
    }
    for line in gateway.log.lines() {
        hides("the log", &line.0, &ours);
        hides("the log", &line.0, &theirs);
    }
    assert!(gateway.log.text().contains("TRACE"), "it logs all that it can");
}

#[test]
fn wrong_credentials_are_not_logged_either() {
    let gateway = Setup::addresses(1).env("MOORGATE_LOG", "trace").start();
    let origin = Origin::start();
    let typed = "right-but-for-one-Letter";
    for fields in [
        basic_as("acme", typed),
        basic_as("nobody", typed),
        format!("Proxy-Authorization: Bearer {typed}\r\n"),
        format!("Proxy-Authorization: Basic {typed}\r\n"),
        format!("{}{}", basic_as("acme", typed), basic_as("acme", typed)),
    ] {
        let answer = gateway.client().send(get(&origin.url("/ip"), &fields)).answer("GET");
        assert_eq!(answer.status, 407, "{fields}");
        hides("an answer", &all(&answer), &forms("acme", typed));
        gateway.client().send(connect(origin.address, &fields)).answer("CONNECT").fails(407, "auth_failed");
    }
    hides("the log", &gateway.log.text(), &forms("acme", typed));
}

#[test]
fn credentials_in_urls_trailers_and_strange_fields_go_nowhere() {
    let gateway = Setup::addresses(1).env("MOORGATE_LOG", "trace").start();
    let origin = Origin::start();
    let url = format!("http://someone:{PASSWORD}@{}/ip", origin.address);
    let text = get(&url, &basic("acme")).replacen(&format!("Host: someone:{PASSWORD}@"), "Host: ", 1);
    let answer = gateway.client().send(text).answer("GET").fails(400, "bad_target");
    hides("an answer", &all(&answer), &forms("someone", PASSWORD));
    let answer = gateway.get("acme", &url).fails(400, "bad_request");
    hides("an answer", &all(&answer), &forms("someone", PASSWORD));
    let text =
        format!("CONNECT someone:{PASSWORD}@{} HTTP/1.1\r\nHost: x\r\n{}\r\n", origin.address, basic("acme"));
    let answer = gateway.client().send(text).answer("CONNECT").fails(400, "bad_target");
    hides("an answer", &all(&answer), &forms("someone", PASSWORD));
    let credential = basic("acme");
    let hidden = "Connection: Proxy-Authorization\r\n";
    gateway.client().send(get(&origin.url("/ip"), &format!("{credential}{hidden}"))).answer("GET").ok();
    let odd = credential.replacen("Proxy-Authorization", "pROXY-aUTHORIZATION", 1);
    gateway.client().send(get(&origin.url("/ip"), &odd)).answer("GET").ok();
    let chunked = format!("{credential}Transfer-Encoding: chunked\r\nTrailer: Proxy-Authorization\r\n");
    let body = format!("1\r\na\r\n0\r\n{credential}\r\n");
    gateway.client().send(request("POST", &origin.url("/sink"), &chunked) + &body).answer("POST").ok();
    assert_eq!(origin.count(), 3);
    for seen in origin.seen() {
        hides("the origin", &format!("{}{}", seen.head, seen.text()), &forms("acme", PASSWORD));
    }
    hides("the log", &gateway.log.text(), &forms("acme", PASSWORD));
}

#[test]
fn a_wrong_configuration_does_not_print_its_secrets() {
    let (user, secret) = UPSTREAM;
    for via in [
        format!("http://{user}:{secret}@host:99999"),
        format!("http://{user}:{secret}@"),
        format!("ftp://{user}:{secret}@host:1"),
        format!("http://{user}:{secret}@host:1/path"),
        format!("http://{user}:{secret}{{nonsense}}@host:1"),
        format!("{user}:{secret}@host"),
    ] {
        let setup = Setup::new(json!([via]));
        let dir = crate::harness::gateway::write(&setup);
        for command in ["check", "run"] {
            let output = run(dir.path(), &[command, "--config", "moorgate.json"], "");
            assert!(!output.status.success(), "{command} {via}");
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            hides(&format!("{command} of {via}"), &said, &forms(user, secret));
            hides(&format!("{command} of {via}"), &said, &forms("acme", PASSWORD));
        }
    }
}

/// A secret hashed as the operator would.
fn hashed(secret: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["hash-password"], &format!("{secret}\n"));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn ask(client: &mut Client, url: &str, user: &str, secret: &str) -> Answer {
    client.send(get(url, &basic_as(user, secret))).answer("GET")
}

/// An answer, but for what differs between any two.
fn content(mut answer: Answer) -> String {
    answer.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
    format!("{answer:?}")
}

#[test]
fn an_unknown_user_and_a_wrong_secret_get_the_same_bytes() {
    let users = json!([
        { "name": "acme", "password": PASSWORD, "pools": ["p"] },
        { "name": "hash", "password": hashed("right"), "pools": ["p"], "clients": ["10.0.0.0/8"] },
    ]);
    let gateway = Setup::addresses(1).config("users", users).start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    let mut client = gateway.client();
    let expected = content(ask(&mut client, &url, "nobody", "wrong").fails(407, "auth_failed"));
    for (user, secret) in [
        ("acme", "wrong"),
        ("hash", "wrong"),
        ("acme-session-a", ""),
        ("acme-sesion-typo", "wrong"),
        ("hash-pool-none", "wrong"),
        ("", ""),
        ("nobody-session-a", PASSWORD),
        ("acme", "right"),
        ("hash", PASSWORD),
    ] {
        assert_eq!(content(ask(&mut client, &url, user, secret)), expected, "{user}");
    }
    let tunnel = |user: &str| {
        let mut client = gateway.client();
        content(client.send(connect("127.0.0.1:9", &basic_as(user, "wrong"))).answer("CONNECT"))
    };
    assert_eq!(tunnel("acme"), tunnel("nobody"));
    assert_eq!(tunnel("hash"), tunnel("nobody"));
}

/// From an address of its own.
fn from(gateway: &Gateway, ip: [u8; 4]) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((ip, 0)).into()).unwrap();
    socket.connect(&gateway.listens().into()).unwrap();
    Client::over(socket.into()).unwrap()
}

#[test]
fn guessing_is_throttled_for_a_network_and_locks_nobody_out() {
    let gateway = Setup::addresses(1).config("limits", json!({ "auth_failures_per_minute": 5 })).start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    let mut guesser = from(&gateway, [127, 0, 9, 1]);
    // Requests without a credential, and right ones, never count.
    for _ in 0..20 {
        guesser.send(get(&url, "")).answer("GET").fails(407, "auth_required");
        ask(&mut guesser, &url, "acme", PASSWORD).ok();
    }
    for _ in 0..5 {
        ask(&mut guesser, &url, "acme", "wrong").fails(407, "auth_failed");
    }
    for user in ["acme", "nobody", "acme-session-x"] {
        let answer = ask(&mut guesser, &url, user, "wrong").fails(429, "auth_throttled");
        assert!(answer.retry_after().is_some_and(|seconds| (1..=60).contains(&seconds)), "{answer:?}");
        assert_eq!(answer.field("proxy-authenticate"), None);
    }
    // The right secret passes, from there as from elsewhere, and others are
    // told of their own mistakes.
    ask(&mut guesser, &url, "acme-session-a", PASSWORD).ok();
    guesser.send(get(&url, "")).answer("GET").fails(407, "auth_required");
    let mut other = from(&gateway, [127, 0, 9, 2]);
    ask(&mut other, &url, "acme", "wrong").fails(407, "auth_failed");
    ask(&mut other, &url, "acme", PASSWORD).ok();
    // Parameters are of no account before the credential.
    ask(&mut guesser, &url, "acme-nonsense-x", "wrong").fails(429, "auth_throttled");
}

#[test]
fn a_crowd_of_guessers_does_not_keep_others_from_their_first_login() {
    let users = json!([{ "name": "slow", "password": hashed("right"), "pools": ["p"] }]);
    let gateway = Setup::addresses(1)
        .config("users", users)
        .config("limits", json!({ "auth_failures_per_minute": 3 }))
        .config("log.access", false)
        .start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    // Known as guessers first.
    let mut one = from(&gateway, [127, 0, 9, 1]);
    (0..4).for_each(|_| drop(ask(&mut one, &url, "slow", "wrong")));
    // Their checks wait for each other.
    let mut crowd: Vec<_> = (0..200).map(|_| from(&gateway, [127, 0, 9, 1])).collect();
    for guesser in &mut crowd {
        guesser.send(get(&url, &basic_as("slow", "wrong")));
    }
    let start = Instant::now();
    ask(&mut from(&gateway, [127, 0, 9, 2]), &url, "slow", "right").ok();
    let time = start.elapsed();
    // 200 checks, two at a time, would take seconds.
    assert!(time < Duration::from_millis(1500), "{time:?}");
    // They get an answer, too, in time.
    for guesser in &mut crowd {
        let answer = guesser.answer("GET");
        assert_eq!((answer.status, answer.code()), (429, "auth_throttled"));
    }
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
}

#[test]
fn whoever_leaves_its_check_behind_does_not_make_room_for_more() {
    let users = json!([{ "name": "slow", "password": hashed("right"), "pools": ["p"] }]);
    let gateway = Setup::addresses(1).config("users", users).config("log.access", false).start();
    let origin = Origin::start();
    let url = origin.url("/ip");
    let peak = crate::harness::measure::Peak::watch(gateway.pid());
    for n in 0..300 {
        let mut client = from(&gateway, [127, 0, 10, n as u8]);
        client.send(get(&url, &basic_as("slow", "wrong")));
        client.reset();
    }
    let mut client = gateway.client();
    ask(&mut client, &url, "slow", "right").ok();
    // Each check takes 19 MiB.
    assert!(peak.grown_kib() < 3 * 20 * 1024, "{} KiB: too many checks at a time", peak.grown_kib());
}
