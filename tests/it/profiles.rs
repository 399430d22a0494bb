//! Clients that were written for a vendor, as curl sends what they send (SPEC
//! §9).

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::gateway::run;
use crate::harness::request::{Ask, PASSWORD, basic_as, get};
use crate::harness::{Gateway, Origin, Setup};

/// What curl makes of a credential.
struct Curled {
    status: u16,
    exit: String,
    news: String,
    code: String,
}

/// A plain request through the gateway with this credential.
fn curl(gateway: &Gateway, listener: usize, origin: &Origin, credential: &str) -> Curled {
    let proxy = format!("http://{}", gateway.listener(listener));
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "",
            "--include",
            "--proxy",
            &proxy,
        ])
        .args(["--proxy-user", credential, &origin.url("/ip")])
        .output()
        .expect("curl, of the Debian package curl");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    Curled {
        status: text.split(' ').nth(1).unwrap().parse().unwrap(),
        exit: field("moorgate-exit"),
        news: field("moorgate-session").split(';').next().unwrap_or_default().to_owned(),
        code: field("moorgate-error"),
    }
}

/// A gateway for vendors' clients: pool `p` and pool `resi1`, of exits in the
/// US and Germany of two types, with a user for each way of naming one.
fn gateway(profiles: &[&str]) -> Gateway {
    let exits: Vec<Value> = (1..=8)
        .map(|n| {
            let country = if n % 2 == 0 { "us" } else { "de" };
            let kind = if n <= 4 { "residential" } else { "datacenter" };
            let labels = json!({ "country": country, "type": kind });
            json!({ "id": format!("e{n}"), "via": format!("127.0.1.{n}"), "labels": labels })
        })
        .collect();
    let zone = json!({ "name": "resi1", "exits": exits.clone() });
    let mut setup =
        Setup::new(exits.into()).another_pool(zone).config("listeners.0.profiles", json!(profiles));
    setup = setup.user(json!({ "name": "12345", "password": "key12345", "pools": ["p"] }));
    setup.start()
}

#[test]
fn vendors_clients_are_sticky_by_their_own_words() {
    let secret = PASSWORD;
    let rows: [(&str, String); 24] = [
        ("okeyproxy", format!("customer-acme-country-US-session-#-time-17:{secret}")),
        ("brightdata", format!("brd-customer-acme-zone-resi1-country-us-session-#:{secret}")),
        ("oxylabs", format!("customer-acme-cc-US-sessid-#-sesstime-5:{secret}")),
        ("decodo", format!("user-acme-country-us-session-#-sessionduration-30:{secret}")),
        ("iproyal", format!("acme:{secret}_country-us_session-#_lifetime-10m")),
        ("soax", "package-12345-country-us-sessionid-#-sessionlength-300-opt-uniqip:key12345".to_owned()),
        ("netnut", format!("acme-res-us-sid-#:{secret}")),
        ("geonode", format!("geonode_acme-country-us-session-#-lifetime-5:{secret}")),
        ("evomi", format!("acme:{secret}_country-US_session-#_lifetime-40")),
        ("nodemaven", format!("acme-country-us-sid-#-ttl-10m-filter-medium:{secret}")),
        ("dataimpulse", format!("acme__cr.us;sessid.#;sessttl.60:{secret}")),
        ("lunaproxy", format!("user-acme-region-us-sessid-#-sesstime-90:{secret}")),
        ("ipidea", format!("acme-zone-custom-region-us-session-#-sessTime-60:{secret}")),
        ("thordata", format!("td-customer-acme-country-us-sessid-#-sesstime-10:{secret}")),
        ("massive", format!("acme-country-US-session-#-sessionttl-30-sessionmode-flex:{secret}")),
        ("apify", "groups-RESIDENTIAL,session-#,country-US:key12345".to_owned()),
        ("scrapeops", "scrapeops.sticky_session=#.country=us:key12345".to_owned()),
        ("scraperapi", "scraperapi.session_number=#.country_code=us:key12345".to_owned()),
        ("rayobyte", format!("acme:{secret}-country-US-hardsession-#-duration-6")),
        ("proxyempire", format!("r_acme-country-us-sid-#:{secret}")),
        ("packetstream", format!("acme:{secret}_country-UnitedStates_session-#")),
        ("illusory", format!("acme-country-us-session-#-sesstime-1:{secret}")),
        ("webshare", format!("acme-us-#:{secret}")),
        ("nstproxy", format!("acme-residential-country_US-r_10m-s_#:{secret}")),
    ];
    let origin = Origin::start();
    for (profile, credential) in rows {
        let gateway = gateway(&[profile]);
        for id in ["41", "42"] {
            let credential = credential.replace('#', id);
            let first = curl(&gateway, 0, &origin, &credential);
            assert_eq!((first.status, &*first.news), (200, "new"), "{profile}: {credential}: {}", first.code);
            let number: u8 = first.exit.rsplit('e').next().unwrap().parse().unwrap();
            assert_eq!(number % 2, 0, "{profile}: {} is not in the US", first.exit);
            for _ in 0..3 {
                let again = curl(&gateway, 0, &origin, &credential);
                assert_eq!((&again.exit, &*again.news), (&first.exit, "held"), "{profile}");
            }
        }
        if profile == "brightdata" {
            let zone = curl(&gateway, 0, &origin, &format!("brd-customer-acme-zone-resi1:{secret}"));
            assert!(zone.exit.starts_with("resi1/"), "{}", zone.exit);
        }
    }
}

#[test]
fn without_a_session_it_rotates_and_what_means_rotate_does() {
    let origin = Origin::start();
    let rows = [
        ("oxylabs", format!("customer-acme-cc-US:{PASSWORD}")),
        ("soax", "package-12345-country-us-sessionid-a1-sessionlength-0:key12345".to_owned()),
        ("nstproxy", format!("acme-residential-country_ANY-r_0m-s_a1:{PASSWORD}")),
        ("webshare", format!("acme-rotate:{PASSWORD}")),
    ];
    for (profile, credential) in rows {
        let gateway = gateway(&[profile]);
        let exits: Vec<_> = (0..4).map(|_| curl(&gateway, 0, &origin, &credential)).collect();
        assert!(exits.iter().all(|answer| answer.status == 200 && answer.news.is_empty()), "{profile}");
        let mut names: Vec<_> = exits.into_iter().map(|answer| answer.exit).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 4, "{profile}: each exit once before any again");
    }
}

#[test]
fn what_is_wrong_is_told_by_its_code_and_a_wrong_secret_tells_nothing_else() {
    let gateway = gateway(&["oxylabs", "iproyal"]);
    let origin = Origin::start();
    let told = |credential: &str| {
        let answer = curl(&gateway, 0, &origin, credential);
        (answer.status, answer.code)
    };
    let code = |status: u16, code: &str| (status, code.to_owned());
    let secret = PASSWORD;
    assert_eq!(told(&format!("customer-acme-cc-US-sesid-a:{secret}")), code(400, "parameter_unknown"));
    assert_eq!(told(&format!("customer-acme-cc-US,DE:{secret}")), code(400, "parameter_invalid"));
    assert_eq!(
        told(&format!("customer-acme-sessid-a-sesstime-1441:{secret}")),
        code(400, "ttl_out_of_range")
    );
    assert_eq!(told(&format!("customer-acme-sesstime-5:{secret}")), code(400, "ttl_without_session"));
    assert_eq!(told(&format!("acme:{secret}_session-a_lifetime-10")), code(400, "ttl_invalid"));
    assert_eq!(told(&format!("acme:{secret}_contry-us")), code(400, "parameter_unknown"));
    assert_eq!(told("customer-acme-cc-US-sesid-a:wrong"), code(407, "auth_failed"));
    assert_eq!(told("customer-nobody-cc-US:wrong"), code(407, "auth_failed"));
    assert_eq!(told("acme:wrong_country-us"), code(407, "auth_failed"));
    assert_eq!(
        told(&format!("acme-session-a:{secret}")),
        code(407, "auth_failed"),
        "a grammar that is not accepted"
    );
    assert!(!gateway.log.text().contains(secret));
}

#[test]
fn a_session_is_the_same_by_profile_by_our_grammar_and_by_field() {
    let gateway = gateway(&["oxylabs", "moorgate"]);
    let origin = Origin::start();
    let theirs = curl(&gateway, 0, &origin, &format!("customer-acme-cc-US-sessid-both:{PASSWORD}"));
    let ours = curl(&gateway, 0, &origin, &format!("acme-country-us-session-both:{PASSWORD}"));
    assert_eq!((&*theirs.news, &*ours.news, &ours.exit), ("new", "held", &theirs.exit));
    let credential = basic_as("customer-acme-cc-US-sessid-both", PASSWORD);
    let send = |field: &str| {
        gateway.client().send(get(&origin.url("/ip"), &format!("{credential}{field}"))).answer("GET")
    };
    assert_eq!(send("Moorgate-Session: both\r\n").ok().exit(), theirs.exit);
    send("Moorgate-Session: other\r\n").fails(400, "parameter_conflict");
    send("Moorgate-Label: country=de\r\n").fails(400, "parameter_conflict");
}

#[test]
fn a_user_has_its_own_and_a_reload_brings_others() {
    let mine = json!({ "name": "mine", "keys": { "job": "session" } });
    let setup = Setup::addresses(3)
        .config("profiles", json!(["profiles"]))
        .file("profiles/mine.json", mine.to_string());
    let setup = setup.config("users.0.profiles", json!(["mine", "moorgate"]));
    let gateway = setup.clone().start();
    let origin = Origin::start();
    let credential = format!("acme-job-a1:{PASSWORD}");
    assert_eq!(curl(&gateway, 0, &origin, &credential).news, "new");
    assert_eq!(curl(&gateway, 0, &origin, &format!("acme-session-a1:{PASSWORD}")).news, "held");
    let mark = gateway.log.mark();
    let other = json!({ "name": "mine", "keys": { "task": "session" } });
    gateway.replace("profiles/mine.json", other.to_string());
    gateway.log.wait_after(mark, "the reload", |line| line.has("configuration reloaded"));
    assert_eq!(curl(&gateway, 0, &origin, &format!("acme-task-a1:{PASSWORD}")).news, "held");
    assert_eq!(curl(&gateway, 0, &origin, &credential).code, "parameter_unknown");
}

#[test]
fn explain_and_profiles_tell_of_grammars() {
    let dir = tempfile::tempdir().unwrap();
    let moorgate = |arguments: &[&str]| {
        let output = run(dir.path(), arguments, "");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, text) = moorgate(&[
        "explain",
        "--profile",
        "iproyal",
        "--json",
        "acme:hunter2_country-br_session-a1_lifetime-2h",
    ]);
    let meaning: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &meaning["session"], &meaning["ttl_seconds"]), (Some(0), &json!("a1"), &json!(7200)));
    let (status, text) = moorgate(&["explain", "--profile", "iproyal", "acme:hunter2_contry-br"]);
    assert_eq!(status, Some(2));
    assert!(text.contains("did you mean country?") && !text.contains("hunter2"), "{text}");
    let (status, text) = moorgate(&["explain", "customer-acme-cc-DE"]);
    assert!(status == Some(0) && text.contains("it could be oxylabs"), "{text}");
    let (status, _) = moorgate(&["explain", "--profile", "iproyl", "acme"]);
    assert_ne!(status, Some(0));
    let (_, list) = moorgate(&["profiles"]);
    assert!(list.lines().count() >= 25 && list.contains("oxylabs"), "{list}");
    let (_, one) = moorgate(&["profiles", "oxylabs"]);
    assert_eq!(serde_json::from_str::<Value>(&one).unwrap()["name"], "oxylabs");
}
