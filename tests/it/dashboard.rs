//! The dashboard at `/` of the admin listener, in a real browser.

use serde_json::json;

use crate::harness::browser::Browser;
use crate::harness::operator::{act, ask, look, session};
use crate::harness::request::{Ask, get};
use crate::harness::{Gateway, Origin, PASSWORD, Setup, Upstream, basic};

/// Two addresses, and an upstream that refuses connections.
fn setup() -> Setup {
    let gone = Upstream::http();
    gone.refuse();
    Setup::new(json!([
        { "id": "e1", "via": "127.0.0.2", "labels": { "type": "own" } },
        { "id": "e2", "via": "127.0.0.3", "weight": 2, "labels": { "type": "own" } },
        { "id": "gone", "via": format!("http://{}", gone.address), "labels": { "type": "gone" } },
    ]))
}

#[track_caller]
fn open(gateway: &Gateway, browser: &Browser) {
    browser.go(&format!("http://{}/", gateway.admin()));
    browser.wait("the stream of events", "document.querySelector('#status.live')");
    browser.wait("the pools", "document.querySelector('.exit')");
}

fn rows() -> &'static str {
    "[...document.querySelectorAll('#session-rows tr')].map((row) => row.dataset.session)"
}

#[test]
fn a_click_ends_moves_and_switches_and_numbers_agree() {
    let gateway = setup().start();
    let origin = Origin::start();
    for name in ["one", "two", "three"] {
        gateway.get(&format!("acme-type-own-session-{name}-ttl-1h"), &origin.url("/ip")).ok();
    }
    let browser = Browser::open(1280, 1600, false);
    open(&gateway, &browser);
    browser.wait("three sessions", &format!("{}.length === 3", rows()));
    browser.wait("their count", "document.getElementById('tile-sessions').textContent === '3'");
    let failed = gateway.get("acme-type-gone", &origin.url("/ip"));
    assert!(failed.status >= 500, "{failed:?}");
    browser.wait("the failure", "document.querySelector('#failures .code')?.textContent.includes('50')");

    browser.click("//tr[@data-session='two']//button[text()='end']");
    browser.wait("the question", "document.querySelector('dialog[open]')");
    browser.click("//dialog//button[text()='Cancel']");
    assert_eq!(session(&gateway, "two")["session"], "two", "cancelled");
    browser.click("//tr[@data-session='two']//button[text()='end']");
    browser.click("//dialog//button[@id='ask-yes']");
    browser.wait("two to be gone", &format!("!{}.includes('two')", rows()));
    let left = look(&gateway, "/v1/sessions?session=two");
    assert_eq!(left["sessions"], json!([]), "it has ended");

    let before = session(&gateway, "one")["exit"].clone();
    browser.click("//tr[@data-session='one']//button[text()='move']");
    browser.click("//dialog//button[@id='ask-yes']");
    browser
        .wait("the move to be told", "document.getElementById('notice').textContent.includes('leaves by')");
    assert_ne!(session(&gateway, "one")["exit"], before);

    browser.click("//div[@data-exit='p/e2']//button[text()='drain']");
    browser.wait("the plan", "document.getElementById('ask-detail').textContent.includes('would move')");
    browser.click("//dialog//button[@id='ask-yes']");
    browser.wait("the switch", "document.querySelector('[data-exit=\"p/e2\"] .dot.drain')");
    assert_eq!(look(&gateway, "/v1/exits/p/e2")["state"], "drain");

    numbers_agree(&gateway, &browser);
    browser.picture("dashboard-light");
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
}

/// What the page shows is what `/metrics` says.
#[track_caller]
fn numbers_agree(gateway: &Gateway, browser: &Browser) {
    let metrics = ask(gateway, "GET", "/metrics", "", "").ok();
    let metrics = String::from_utf8(metrics.body).unwrap();
    let pins: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("moorgate_exit_pins{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    let shown =
        "[...document.querySelectorAll('.bar span')].map((bar) => parseInt(bar.textContent)).slice(0, 3)";
    browser.wait("the same pins", &format!("{shown}.reduce((a, b) => a + b, 0) === {pins}"));
    browser.wait(
        "the same sessions",
        &format!("document.getElementById('tile-sessions').textContent === '{pins}'"),
    );
}

/// Twelve exits, of which one has most of the pins, one is ejected, one
/// drained and one off; users near their limits; failures.
fn busy() -> (Gateway, Origin) {
    let gone = Upstream::http();
    gone.refuse();
    let mut exits: Vec<_> = (2..12)
        .map(|n| json!({ "id": format!("ams-{n}"), "via": format!("127.0.0.{n}"), "max_sessions": 400 }))
        .collect();
    exits.push(
        json!({ "id": "gone", "via": format!("http://{}", gone.address), "labels": { "type": "gone" } }),
    );
    let limits = json!({ "sessions": 70, "connections": 10, "bytes_per_day": "2kB" });
    let gateway = Setup::new(json!(exits))
        .another_pool(json!({ "name": "quiet", "exits": ["direct"] }))
        .config("users.0.limits", limits)
        .config("log.access", false)
        .user(json!({ "name": "other", "password": PASSWORD }))
        .start();
    let origin = Origin::start();
    let mut client = gateway.client();
    let mut make = |name: &str| {
        client.send(get(&origin.url("/ip"), &basic(name))).answer("GET").ok();
    };
    (0..25).for_each(|n| make(&format!("acme-session-hot{n}-exit-ams_5-ttl-2h")));
    (0..40).for_each(|n| make(&format!("acme-session-s{n}-ttl-1h")));
    for _ in 0..3 {
        gateway.get("acme-type-gone", &origin.url("/ip"));
    }
    gateway.get("other-sesion-x", &origin.url("/ip"));
    gateway.get("other-pool-nowhere", &origin.url("/ip"));
    act(&gateway, "POST", "/v1/exits/p/ams-7/drain");
    act(&gateway, "POST", "/v1/exits/p/ams-8/off");
    (gateway, origin)
}

#[test]
fn what_is_not_well_is_seen_at_a_glance_in_any_window() {
    let (gateway, _origin) = busy();
    let failed = look(&gateway, "/v1/exits/p/gone")["health"].clone();
    assert_eq!(failed, "ejected");
    for (width, height, dark, name) in [
        (1280, 1500, false, "dashboard-busy-light"),
        (1280, 1500, true, "dashboard-busy-dark"),
        (400, 3600, false, "dashboard-busy-light-narrow"),
        (400, 3600, true, "dashboard-busy-dark-narrow"),
    ] {
        let browser = Browser::open(width, height, dark);
        open(&gateway, &browser);
        browser.wait("the hotspot", "document.querySelector('[data-exit=\"p/ams-5\"] .bar i.hot')");
        assert_eq!(browser.run("return document.querySelectorAll('.exit .bar i.hot').length"), 1);
        for state in ["ejected", "drain", "off"] {
            browser.wait(state, &format!("document.querySelectorAll('.dot.{state}').length === 1"));
        }
        // What happened before the page was opened is there, with what to do.
        let told = |text: &str| {
            let inside = format!("document.getElementById('failures').textContent.includes('{text}')");
            browser.wait(text, &inside);
        };
        ["parameter_unknown", "did you mean session", "pool_forbidden", "no_exit", "add exits or room"]
            .into_iter()
            .for_each(told);
        browser.wait(
            "use against limits",
            "document.querySelector('tr[data-user=acme] .bar i.hot') && \
             document.querySelector('tr[data-user=acme]').textContent.includes('65 of 70')",
        );
        let drawn = "[...document.querySelectorAll('.plot-line')].every((line) => \
                     line.getAttribute('points').split(' ').length > 1)";
        browser.wait("plots of what was", drawn);
        let overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.run(overflow), 0, "no scrolling sideways");
        browser.picture(name);
        assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
    }
}

#[test]
fn what_clients_send_is_text() {
    let gateway = setup().config("admin.token", "let-me/in").start();
    let origin = Origin::start();
    gateway.get("acme-type-own-session-plain", &origin.url("/ip")).ok();
    let browser = Browser::open(400, 900, true);
    let address = gateway.admin();
    browser.go(&format!("http://operator:let-me%2Fin@{address}/"));
    browser.wait("the stream of events", "document.querySelector('#status.live')");
    browser.wait("the session", &format!("{}.length === 1", rows()));
    gateway.get("acme-session-x-<img~src=x~onerror=alert(1)>-1", &origin.url("/ip"));
    browser.wait("the failure", "document.querySelector('#failures .code')");
    assert_eq!(browser.run("return document.querySelectorAll('img').length"), 0);
    let overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.run(overflow), 0, "a narrow window needs no scrolling sideways");
    assert_eq!(browser.run("return matchMedia('(prefers-color-scheme: dark)').matches"), true);
    browser.picture("dashboard-dark-narrow");
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
}

#[test]
fn the_page_needs_the_token_and_nothing_from_elsewhere() {
    let gateway = setup().config("admin.token", "let-me/in").start();
    for path in ["/", "/page/main.js"] {
        let answer = ask(&gateway, "GET", path, "", "");
        assert_eq!(answer.status, 401, "{path}");
        let asks =
            |(name, value): &(String, String)| name == "www-authenticate" && value.starts_with("Basic ");
        assert!(answer.fields.iter().any(asks), "a browser asks for it: {answer:?}");
        let answer = ask(&gateway, "GET", path, "Authorization: Bearer let-me/in\r\n", "").ok();
        let policy = answer.field("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
    }
    let answer = ask(&gateway, "GET", "/v1/pools", "", "");
    assert_eq!(answer.field("www-authenticate"), Some("Bearer realm=\"moorgate\""));
    let answer = ask(&gateway, "GET", "/page/nothing.js", "Authorization: Bearer let-me/in\r\n", "");
    assert_eq!(answer.status, 404);
}
