//! Addresses where requests may not go, in every spelling (SPEC §7,
//! `targets`).

use std::net::Ipv4Addr;

use serde_json::json;

use crate::harness::request::{Ask, connect, get};
use crate::harness::{Gateway, Mood, Setup, Upstream, basic};

/// One of each kind of IPv4 address that is not public, at its edges.
const SPECIAL: [&str; 34] = [
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.192",
    "192.0.0.255",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.0",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.0",
    "254.1.1.1",
    "255.255.255.254",
    "255.255.255.255",
    "100.64.0.1",
    "172.20.1.1",
];

/// The same for IPv6 addresses of their own.
const SPECIAL_V6: [&str; 19] = [
    "::",
    "::1",
    "fc00::1",
    "fdff:ffff::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "feff::1",
    "ff02::1",
    "ff05::2",
    "2001:db8::1",
    "3fff::1",
    "2001:2::1",
    "100::1",
    "5f00::1",
    "4000::1",
    "2001:10::1",
];

/// Public ones, which must pass in every spelling.
const PUBLIC: [&str; 6] =
    ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.0", "192.0.1.0", "223.255.255.255"];

/// Every way to write an IPv4 address that some resolver, router or host
/// takes for it.
fn spellings(ip: &str) -> Vec<String> {
    let v4: Ipv4Addr = ip.parse().unwrap();
    let [a, b, c, d] = v4.octets();
    let hex = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
    let turned = Ipv4Addr::from(!u32::from(v4));
    let mut all = vec![
        ip.to_owned(),
        format!("{ip}."),
        format!("[::ffff:{ip}]"),
        format!("[::FFFF:{hex}]"),
        format!("[0:0:0:0:0:ffff:{hex}]"),
        format!("[::ffff:0:{ip}]"),
        format!("[64:ff9b::{ip}]"),
        format!("[0064:ff9b:0:0:0:0:{hex}]"),
        format!("[2002:{hex}::1]"),
        format!("[2001:0:808:808::{turned}]"),
        format!("[2a00::5efe:{ip}]"),
        format!("[2a00::200:5efe:{ip}]"),
    ];
    // `::` and `::1` are addresses of their own.
    if u32::from(v4) > 1 {
        all.push(format!("[::{ip}]"));
    }
    // Where a provider's own NAT64 prefix puts it is not known.
    if a > 0 {
        all.push(format!("[64:ff9b:1::{ip}]"));
    }
    all
}

/// Asks on one connection as long as it is kept; gives what does not have
/// this code.
fn without(gateway: &Gateway, targets: &[String], code: &str) -> Vec<String> {
    let mut client = gateway.client();
    let mut wrong = Vec::new();
    for target in targets {
        let plain = client.send(get(&format!("http://{target}/"), &basic("acme"))).answer("GET");
        if plain.code() != code {
            wrong.push(format!("GET {target}: {} {}", plain.status, plain.code()));
        }
        if plain.has("connection", "close") {
            client = gateway.client();
        }
    }
    for target in targets.iter().step_by(7) {
        let text = connect(format!("{target}:443"), &basic("acme"));
        let answer = gateway.client().send(text).answer("CONNECT");
        if answer.code() != code {
            wrong.push(format!("CONNECT {target}: {} {}", answer.status, answer.code()));
        }
    }
    wrong
}

/// Gateways whose exits would tell at once where they are asked to go.
fn each_kind(test: impl Fn(&str, &Gateway)) {
    for upstream in [Upstream::http(), Upstream::socks5()] {
        let refusal =
            if upstream.to_string().starts_with("http") { Mood::status(403) } else { Mood::Reply(2) };
        upstream.set(refusal);
        let vias = match upstream.to_string() {
            http if http.starts_with("http") => vec![http],
            socks => vec![socks.clone(), socks.replacen("socks5", "socks5h", 1)],
        };
        for via in vias {
            let setup = Setup::new(json!([via])).config("targets", json!({})).config("log.access", false);
            test(&via, &setup.start());
        }
    }
}

#[test]
fn no_special_address_is_reached_in_any_spelling() {
    let v6 = SPECIAL_V6.iter().map(|ip| format!("[{ip}]"));
    let targets: Vec<_> = SPECIAL.iter().flat_map(|ip| spellings(ip)).chain(v6).collect();
    assert!(targets.len() > 450, "{}", targets.len());
    each_kind(|via, gateway| {
        let wrong = without(gateway, &targets, "target_forbidden");
        assert!(wrong.is_empty(), "{via}: {} of {}: {wrong:#?}", wrong.len(), targets.len());
    });
    let direct =
        Setup::new(json!(["direct"])).config("targets", json!({})).config("log.access", false).start();
    let wrong = without(&direct, &targets, "target_forbidden");
    assert!(wrong.is_empty(), "direct: {wrong:#?}");
}

#[test]
fn public_addresses_pass_in_the_same_spellings() {
    let targets: Vec<_> = PUBLIC.iter().flat_map(|ip| spellings(ip)).collect();
    each_kind(|via, gateway| {
        let wrong: Vec<_> = targets.iter().filter(|target| !is_asked_for(gateway, target)).collect();
        assert!(wrong.is_empty(), "{via}: {wrong:?}");
    });
}

/// The upstream, which refuses everything, was asked.
fn is_asked_for(gateway: &Gateway, target: &str) -> bool {
    gateway.connect("acme", format!("{target}:443")).1.code() == "exit_refused_target"
}

#[test]
fn spellings_that_only_some_read_as_an_address_are_no_target() {
    let gateway = Setup::new(json!(["direct"])).config("targets", json!({})).start();
    for host in [
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.01",
        "127.0.0.0x1",
        "127.000.000.001",
        "0.0.0.0.0",
        "1.2.3.4.5",
        "256.256.256.256",
        "127.0.0.1..",
        "a.0x7f",
        "1.2.3.08",
        "[::1%25lo]",
        "[fe80::1%eth0]",
        "[::1",
        "::1",
        "[127.0.0.1]",
        "[::127.1]",
        "[v1.x]",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "127.0.0.1%00.example.com",
        "example.com%2f@127.0.0.1",
    ] {
        let text = format!("CONNECT {host}:80 HTTP/1.1\r\nHost: x\r\n{}\r\n", basic("acme"));
        let answer = gateway.client().send(text).answer("CONNECT");
        assert_eq!(answer.status, 400, "{host}: {answer:?}");
        assert!(["bad_target", "bad_request"].contains(&answer.code()), "{host}: {answer:?}");
    }
}
