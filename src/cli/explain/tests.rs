use super::*;

fn explain(credential: &str, profile: &str) -> Result<Meaning, Wrong> {
    without_users(credential, &Profiles::default().find(profile).unwrap())
}

fn check_as(profile: &str, credential: &str, expected: &Value) {
    let got = match explain(credential, profile) {
        Ok(meaning) => meaning.json(),
        Err(wrong) => json!({ "code": wrong.fault.code().name(), "at": wrong.at }),
    };
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&got[key], value, "{credential}: {key}");
    }
}

fn check(credential: &str, expected: &Value) {
    check_as("moorgate", credential, expected);
}

#[test]
fn a_credential_is_explained_or_its_fault_is_marked() {
    check(
        "acme-pool-us-session-cart42-ttl-24h:secret",
        &json!({ "user": "acme", "pool": "us", "session": "cart42", "ttl_seconds": 86_400, "idle_seconds": null }),
    );
    check("acme-b", &json!({ "user": "acme-b", "session": null }));
    check("acme-session-a-sesion-b", &json!({ "code": "parameter_unknown", "at": 15 }));
    check("acme-country-us-ttl-5m", &json!({ "code": "ttl_without_session", "at": 16 }));
    check("acme-city-new_york", &json!({ "labels": { "city": "new_york" } }));
}

#[test]
fn a_profile_reads_it_its_own_way() {
    check_as(
        "oxylabs",
        "customer-big-acme-cc-DE-sessid-a1:secret",
        &json!({ "user": "big-acme", "profile": "oxylabs", "session": "a1", "ttl_seconds": 600, "idle_seconds": 60 }),
    );
    check_as("oxylabs", "acme-cc-DE", &json!({ "code": "auth_failed", "at": 0 }));
    check_as(
        "webshare",
        "acme-us-17",
        &json!({ "user": "acme", "session": "17", "labels": { "country": "us" } }),
    );
    check_as("apify", "session-a1:key", &json!({ "user": null, "session": "a1" }));
    check_as("brightdata", "brd-customer-c1-zone-z1", &json!({ "user": "c1", "pool": "z1" }));
    check_as("iproyal", "acme:pw_session-a_lifetime-9", &json!({ "code": "ttl_invalid", "at": 27 }));
    check_as("decodo", "user-acme-sessionduration-5", &json!({ "code": "ttl_without_session", "at": 10 }));
}

#[test]
fn the_place_is_marked() {
    for (credential, profile, word) in [
        ("acme-session-a-sesion-b", "moorgate", "sesion"),
        ("acme:hunter2_country-us_sesion-b", "iproyal", "sesion"),
        ("lum-customer-acme-country-us-sesion-b:x", "brightdata", "sesion"),
    ] {
        let Err(wrong) = explain(credential, profile) else { panic!("taken") };
        let text = wrong.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1].find('^'), lines[0].find(word), "{text}");
        assert!(lines[2].contains("did you mean session?"), "{text}");
        assert!(!text.contains("hunter2"));
    }
}

#[test]
fn another_grammar_is_pointed_at() {
    assert!(others("customer-acme-cc-DE-sessid-a1:secret").contains("oxylabs"));
    assert_eq!(others("acme-contry-us:secret"), "");
}
