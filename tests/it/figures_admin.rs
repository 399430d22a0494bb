//! Figures for `docs/admin.md`: what the operator's lists take with a million
//! sessions and 100,000 exits, and what clients notice of it. Run with `cargo
//! test --release --test it figures_admin -- --ignored --nocapture`.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::operator::look;
use crate::harness::request::{Ask, get};
use crate::harness::{Client, Gateway, Origin, Setup, basic};

/// Clients that make sessions.
const CLIENTS: u32 = 4;

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn gateway(exits: u32) -> Gateway {
    let address = |n: u32| format!("127.{}.{}.{}", 1 + n / 62_500, n / 250 % 250, 1 + n % 250);
    let exits: Vec<_> = (0..exits).map(|n| json!({ "id": format!("exit-{n}"), "via": address(n) })).collect();
    Setup::new(json!(exits)).config("log.access", false).start()
}

fn make(gateway: &Gateway, sessions: u32) {
    // A port that nobody listens at: a refused target leaves the pin.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut connection = gateway.client();
                for n in (client..sessions).step_by(CLIENTS as usize) {
                    let fields = basic(&format!("acme-session-s{n}-ttl-24h"));
                    connection.send(get(&format!("http://{closed}/"), &fields)).answer("GET");
                }
            });
        }
    });
    let sum = look(gateway, "/v1/pools")["pools"][0]["pins"].clone();
    println!("FIGURE {sum} sessions on {} exits", look(gateway, "/v1/pools")["pools"][0]["exits"]);
}

/// Asks over one connection, as a program would.
fn ask(client: &mut Client, gateway: &Gateway, path: &str) -> Vec<u8> {
    let host = gateway.admin();
    let answer = client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).answer("GET");
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.body
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |of: f64| times[((times.len() - 1) as f64 * of) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms of {}", at(0.5), at(0.99), at(1.0), times.len())
}

/// A client's requests, one after the other, until `over`.
fn client(gateway: &Gateway, url: &str, over: &AtomicBool) -> Vec<Duration> {
    let (text, mut connection) = (get(url, &basic("acme-session-s1-ttl-24h")), gateway.client());
    let mut times = Vec::new();
    while !over.load(Relaxed) {
        let start = Instant::now();
        connection.send(&text).answer("GET").ok();
        times.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    times
}

/// What one request for a list takes, again and again, and what a client
/// notices meanwhile.
fn measure(gateway: &Gateway, url: &str, path: &str) {
    let over = AtomicBool::new(false);
    let (times, length, noticed) = std::thread::scope(|scope| {
        let clients = scope.spawn(|| client(gateway, url, &over));
        let mut operator = Client::open(gateway.admin());
        let (start, mut times, mut length) = (Instant::now(), Vec::new(), 0);
        while start.elapsed() < Duration::from_secs(3) || times.len() < 3 {
            let begun = Instant::now();
            length = if path.is_empty() { 0 } else { ask(&mut operator, gateway, path).len() };
            times.push(begun.elapsed());
            std::thread::sleep(Duration::from_millis(if path.is_empty() { 100 } else { 0 }));
        }
        over.store(true, Relaxed);
        (times, length, clients.join().expect("a client"))
    });
    let name = if path.is_empty() { "(nothing)" } else { path };
    println!("FIGURE {name}: {}; {length} bytes; a client: {}", quantiles(times), quantiles(noticed));
}

#[test]
#[ignore = "prints figures"]
fn the_lists_of_a_large_gateway() {
    let gateway = gateway(number("EXITS", 100_000));
    let origin = Origin::start();
    let url = origin.url("/ip");
    make(&gateway, number("SESSIONS", 1_000_000));
    for path in [
        "",
        "/v1/sessions?limit=100",
        "/v1/sessions?limit=1000",
        "/v1/sessions?session=s77777",
        "/v1/sessions?user=nobody",
        "/v1/sessions?exit=exit-77&limit=1000",
        "/v1/exits?limit=100",
        "/v1/exits?limit=1000",
        "/v1/exits?limit=10000",
        "/v1/exits?limit=500&order=pins",
        "/v1/pools",
        "/v1/users",
        "/metrics",
    ] {
        measure(&gateway, &url, path);
    }
    let (start, mut pages, mut seen, mut cursor) = (Instant::now(), 0, 0, String::new());
    let mut operator = Client::open(gateway.admin());
    loop {
        let body = ask(&mut operator, &gateway, &format!("/v1/sessions?limit=1000{cursor}"));
        let page: Value = serde_json::from_slice(&body).expect("JSON");
        (pages, seen) = (pages + 1, seen + page["sessions"].as_array().map_or(0, Vec::len));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    println!("FIGURE all {seen} sessions in {pages} pages: {:.1} s", start.elapsed().as_secs_f64());
}
