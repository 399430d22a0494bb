use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::compile::tests::{Given, check, check_config, fine};
use crate::core::profile::cut::Who;
use crate::core::username;

mod printed;

fn all() -> Vec<Profile> {
    let loaded = SHIPPED.iter().map(|(name, _)| shipped(name));
    loaded.map(|profile| profile.unwrap_or_else(|findings| panic!("{findings}")).unwrap()).collect()
}

/// Its examples are tried as it is loaded.
#[test]
fn every_shipped_profile_means_what_its_examples_say() {
    for ((name, text), profile) in SHIPPED.iter().zip(all()) {
        assert_eq!(*profile.name, **name);
        let json: Value = serde_json::from_str(text).unwrap();
        assert!(!json["title"].as_str().unwrap().is_empty(), "{name}");
        assert!(!json["source"].as_array().unwrap().is_empty(), "{name}: where is it from?");
        let examples = json["examples"].as_array().unwrap();
        assert!(examples.len() >= 2, "{name}: too few examples");
        let sticky = examples.iter().any(|example| example["means"]["session"].is_string());
        assert!(sticky, "{name}: no example with a session");
    }
}

#[test]
fn every_shipped_profile_is_in_the_manual() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/profiles.md")).unwrap();
    for (name, text) in SHIPPED {
        assert!(manual.contains(&format!("| `{name}` |")), "docs/profiles.md has no row for {name}");
        let json: Value = serde_json::from_str(text).unwrap();
        for source in json["source"].as_array().unwrap() {
            assert!(manual.contains(source.as_str().unwrap()), "docs/profiles.md lacks {source} of {name}");
        }
    }
}

/// The gateway's own grammar, as data and as code.
fn both(tail: &str) -> (String, String) {
    let data = shipped(OWN).unwrap().unwrap();
    let said = |read: Result<username::Parameters, username::ParameterError>| match read {
        Ok(parameters) => format!("{parameters:?}"),
        Err(error) => format!("{}@{}", error.fault.code(), error.at),
    };
    (said(data.read(tail)), said(username::parse(tail)))
}

#[test]
fn a_tail_means_the_same_as_data_and_as_code() {
    let uuid = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
    let long = "x".repeat(129);
    for tail in [
        "",
        "-",
        "--",
        "-session",
        "-session-",
        "-session-a-ttl-5m",
        "-SID-a-IDLE-1h",
        "-session-a-sid-b",
        "-country-us-country-us",
        "-exit-",
        "-pool-",
        "-failover-",
        "-failover-ADDRESS",
        "-session-a-ttl-0s",
        "-session-a-ttl-169h",
        "-session-a-ttl-",
        "-city",
        "-session-a%",
        "-ü",
    ] {
        let (data, code) = both(tail);
        assert_eq!(data, code, "{tail}");
    }
    for tail in [format!("-session-{uuid}-ttl-1h"), format!("-sid-{uuid}x"), format!("-session-{long}")] {
        let (data, code) = both(&tail);
        assert_eq!(data, code, "{tail}");
    }
}

proptest! {
    #[test]
    fn data_and_code_agree(words in proptest::collection::vec(
        "(session|sid|ttl|idle|pool|exit|failover|country|city|on|off|5m|0s|10|[a-z_.~]{0,4}|[!-~]{0,3})", 0..8)) {
        let tail = format!("-{}", words.join("-")).replace([',', '+', '\''], "_");
        // Of labels, a profile takes a few characters more.
        let (data, code) = both(&tail);
        prop_assert_eq!(data, code, "{}", tail);
    }

    #[test]
    fn nothing_panics_and_a_fault_has_a_place(username in "[!-~ü]{0,40}", password in "[!-~ü]{0,40}", pick in 0..SHIPPED.len()) {
        let profile = shipped(SHIPPED[pick].0).unwrap().unwrap();
        for prefix in &profile.prefixes {
            let username = format!("{prefix}{username}");
            let known = |who: Who<'_>| matches!(who, Who::Secret(_)) || matches!(who, Who::Name(name) if name.len() < 3);
            let Some(cut) = profile.cut(&username, &password, known) else { continue };
            if let Err(error) = profile.read(&cut.tail) {
                prop_assert!(error.at <= cut.tail.len() && cut.tail.is_char_boundary(error.at));
                prop_assert!(cut.place(error.at) <= username.len() + 1 + password.len());
                prop_assert_eq!(error.fault.code().status(), 400);
            }
        }
    }
}

const OWN_PROFILE: &str = r#"{
  "name": "mine", "keys": { "id": "session", "mins": { "to": "ttl", "unit": "m" } },
  "examples": [{ "credential": "acme-id-a-mins-5:x", "user": "acme", "means": { "session": "a", "ttl_seconds": 300 } }]
}"#;

#[test]
fn profiles_are_found_in_the_configuration_in_files_and_among_the_shipped() {
    let config = r#"{
      "profiles": [{ "name": "inline", "keys": { "s": "session" } }, "mine.json", "more"],
      "listeners": [{ "bind": "127.0.0.1:0", "profiles": ["moorgate", "inline", "other"] }],
      "users": [
        { "name": "a", "password": "x", "profiles": ["mine", "oxylabs"] },
        { "name": "b", "password": "y" }
      ]
    }"#;
    let pools = ("pools/p.json", r#"{"pools":[{"name":"p","exits":["direct"]}]}"#);
    let other = r#"{ "name": "other", "keys": { "s": "session" } }"#;
    let (config, _) =
        fine(&[("moorgate.json", config), ("mine.json", OWN_PROFILE), ("more/o.json", other), pools]);
    let names = |list: &Option<Arc<[Arc<Profile>]>>| -> Vec<String> {
        list.iter().flat_map(|list| list.iter()).map(|profile| profile.name.to_string()).collect()
    };
    assert_eq!(names(&config.listeners[0].profiles), ["moorgate", "inline", "other"]);
    assert_eq!(names(&config.users[0].profiles), ["mine", "oxylabs"]);
    assert!(config.users[1].profiles.is_none());
}

#[test]
fn a_change_of_a_profile_file_is_seen() {
    let config = r#"{ "profiles": ["mine.json", "more"] }"#;
    let given = Given::new(&[("moorgate.json", config), ("mine.json", OWN_PROFILE), ("more/x.txt", "")]);
    let (config, _) = given.config().unwrap();
    assert_eq!(config.watched().now(), *config.watched());
    std::fs::write(given.folder.path().join("more/o.json"), OWN_PROFILE.replace("mine", "o")).unwrap();
    assert_ne!(config.watched().now(), *config.watched());
}

/// A configuration with one thing wrong, where `§` stands before it.
#[track_caller]
fn check_marked(marked: &str, expected: &str) {
    let (before, after) = marked.split_once('§').unwrap();
    let column = before.chars().count() + 1;
    check_config(&format!("{before}{after}"), &[&format!("moorgate.json:1:{column}: {expected}")]);
}

#[test]
fn what_is_wrong_with_a_profile_is_said_with_its_place() {
    let check = |fields: &str, expected: &str| {
        check_marked(
            &format!("{{ \"profiles\": [{{ \"name\": \"p\", {fields} }}] }}"),
            &format!("profiles[0].{expected}"),
        );
    };
    check(
        r#""keys": { "t": §"ttl" }"#,
        "keys.t: expected a \"unit\" beside it: \"s\", \"m\", \"h\", \"d\" or \"written\"",
    );
    check(
        r#""keys": { "t": §"sesion" }"#,
        "keys.t: expected \"session\", \"ttl\", \"idle\", \"pool\", \"exit\", \"failover\", a label, or \"ignore\"",
    );
    check(
        r#""keys": { "a-b": §"session" }"#,
        "keys.a-b: expected a key of 1 to 64 visible characters without a colon or a separator",
    );
    check(
        r#""keys": { "s": "session", "S": §"session" }"#,
        "keys.S: this key stands in the profile before, in some letter case",
    );
    check(
        r#""keys": {}, "separators": { "pair": §"a" }"#,
        "separators.pair: expected 1 to 4 ASCII punctuation marks, no colon",
    );
    check(
        r#""keys": {}, "separators": { "pair": "--", "value": §"-" }"#,
        "separators.value: one separator is a part of the other",
    );
    check(
        r#""keys": {}, "place": "password", "user": §"secret""#,
        "user: a secret with parameters behind it finds no user",
    );
    check(
        r#""keys": { "s": { "to": "session", "unit": §"m" } }"#,
        "keys.s.unit: only a ttl or an idle time has one",
    );
    check(
        r#""keys": { "s": { "to": "session", "repeats": §true } }"#,
        "keys.s.repeats: only a label, or what is ignored, may stand more than once",
    );
    check(
        r#""keys": {}, "positions": [{ "shape": §"letters", "means": "country" }]"#,
        "positions[0].shape: \"letters\" has a \"length\", and nothing else has one",
    );
    check(
        r#""keys": { "s": "session" }, "examples": [{ "credential": §"a-s-x:y", "user": "a", "means": {} }]"#,
        "examples[0].credential: the example says another session",
    );
    check(
        r#""keys": { "s": "session" }, "examples": [{ "credential": §"a-x:y", "user": "a", "means": {} }]"#,
        "examples[0].credential: the example is refused at byte 2: parameter_unknown: unknown parameter \"x\": \
         profile p has no such key",
    );
}

#[test]
fn names_that_lead_nowhere_are_told() {
    check_marked(
        r#"{ "users": [{ "name": "a", "password": "x", "profiles": [§"oxylab"] }] }"#,
        "users[0].profiles[0]: there is no profile of this name: did you mean \"oxylabs\"?",
    );
    check_marked(
        r#"{ "listeners": [{ "bind": "127.0.0.1:0", "profiles": ["moorgate", §"moorgate"] }] }"#,
        "listeners[0].profiles[1]: this profile stands in the list before",
    );
    check_marked(
        r#"{ "profiles": [{ "name": §"moorgate", "keys": {} }] }"#,
        "profiles[0].name: the gateway's own grammar has this name: choose another",
    );
    check(
        &[
            ("moorgate.json", r#"{ "profiles": ["bad.json"], "pools": "p.json" }"#),
            ("p.json", r#"{"pools":[{"name":"p","exits":["direct"]}]}"#),
            ("bad.json", "{ \"name\": \"bad\",\n \"kyes\": {} }"),
        ],
        &["bad.json:2:2: kyes: unknown field \"kyes\": did you mean \"keys\"?"],
    );
}

#[test]
fn a_user_whom_a_profile_cannot_find_is_told() {
    let user = |password: &str, profile: &str| {
        format!(
            "{{ \"users\": [{{ \"name\": \"a\", \"password\": §\"{password}\", \"profiles\": [\"{profile}\"] }}] }}"
        )
    };
    check_marked(
        &user("a_country-b", "iproyal"),
        "users[0].password: the profile iproyal would read a part of the secret as parameters",
    );
    check_config(&user("a_b-c", "iproyal").replace('§', ""), &[]);
    check_marked(
        &user("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "apify"),
        "users[0].password: the profile apify finds users by their secret, and this is a hash",
    );
    let both = r#"{ "users": [{ "name": "a", "password": "x" }, { "name": "b", "password": §"x" }],
          "listeners": [{ "bind": "127.0.0.1:0", "profiles": ["apify"] }] }"#;
    check_marked(
        both,
        "users[1].password: the profile apify finds users by their secret, and this one stands at \
         moorgate.json:1:40: users[0].password before",
    );
}
