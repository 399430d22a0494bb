use super::super::tests::{Given, check};
use super::*;

const ED: &str =
    r#"{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const EC: &str = r#"{"kty": "EC", "crv": "P-256", "kid": "b", "use": "sig", "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY", "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#;
const POOLS: (&str, &str) = ("pools.json", r#"{"pools": [{"name": "p", "exits": ["direct"]}]}"#);
const USERS: &str = r#""users": [{"name": "acme", "password": "x"}]"#;

fn set(keys: &[&str]) -> String {
    format!("{{\"keys\": [{}]}}", keys.join(",\n"))
}

/// A key file, and what is found wrong with it.
#[track_caller]
fn check_keys(text: &str, expected: &[&str]) {
    let config = format!("{{\"tokens\": {{\"keys\": \"keys.json\"}}, {USERS}}}");
    check(&[("moorgate.json", &config), ("keys.json", text), POOLS], expected);
}

#[test]
fn tokens_are_meant_as_written() {
    let config = r#"{"tokens": {"keys": ["k/a.json", "k/b.json"], "issuer": "i", "audience": ["x", "y"],
            "users": "any", "leeway": "5s"}, "listeners": [{"bind": "0.0.0.0:1"}]}"#;
    let (one, two) = (set(&[ED]), set(&[EC]));
    let given = Given::new(&[("moorgate.json", config), ("k/a.json", &one), ("k/b.json", &two)]);
    let (config, warnings) = given.config().unwrap();
    let tokens = config.tokens.clone().unwrap();
    let kids: Vec<_> = tokens.keys.iter().filter_map(|key| key.kid.as_deref()).collect();
    assert_eq!((kids, warnings), (vec!["a", "b"], Vec::new()));
    assert_eq!((tokens.issuer.as_deref(), tokens.audiences.len()), (Some("i"), 2));
    assert_eq!((tokens.any_user, tokens.leeway), (true, Duration::from_secs(5)));
    let again = given.config().unwrap().0;
    assert_eq!((&again.tokens, again.watched()), (&config.tokens, config.watched()));
    std::fs::write(given.folder.path().join("k/a.json"), set(&[EC])).unwrap();
    assert_ne!(config.watched().now(), *config.watched());
    assert!(given.config().is_err(), "one name for two keys");
}

#[test]
fn weak_secret_and_broken_keys_are_refused_where_they_stand() {
    check_keys(&set(&[ED, EC]), &[]);
    let d = ED.replace('}', ", \"d\": \"hunter2\"}");
    check_keys(
        &set(&[&d]),
        &[
            "keys.json:1:113: keys[0].d: a private key: put its public part alone here, and regard it as known",
        ],
    );
    check_keys(
        &set(&[r#"{"kty": "oct", "alg": "HS256", "k": "hunter2"}"#]),
        &["keys.json:1:47: keys[0].k: a shared secret: whoever verifies with it could sign; use a key pair"],
    );
    let short = format!(r#"{{"kty": "RSA", "n": "{}", "e": "AQAB"}}"#, URL_SAFE_NO_PAD.encode([255; 128]));
    check_keys(&set(&[&short]), &["keys.json:1:31: keys[0].n: expected a modulus of 2048 to 4096 bits"]);
    let long =
        short.replace("RSA\", \"n\": \"", &format!("RSA\", \"n\": \"{}", URL_SAFE_NO_PAD.encode([255; 129])));
    let even = long.replace("AQAB", "AQAA");
    check_keys(&set(&[&long]), &[]);
    assert!(
        Given::new(&[
            ("moorgate.json", &format!("{{\"tokens\": {{\"keys\": \"keys.json\"}}, {USERS}}}")),
            ("keys.json", &set(&[&even])),
            POOLS
        ])
        .config()
        .is_err()
    );
    let off = EC.replace("axfR", "axfS");
    check_keys(&set(&[&off]), &["keys.json:1:72: keys[0].x: expected a point of the curve"]);
    let cut = ED.replace("11qY", "");
    check_keys(&set(&[&cut]), &["keys.json:1:61: keys[0].x: expected 32 bytes"]);
    check_keys(
        &set(&[&ED.replace("11qY", "!")]),
        &["keys.json:1:61: keys[0].x: expected base64url without padding"],
    );
    check_keys(
        &set(&[&ED.replace("\"x\"", "\"z\"")]),
        &["keys.json:1:11: keys[0]: the field \"x\" is missing"],
    );
    check_keys(&set(&[ED, ED]), &["keys.json:2:41: keys[1].kid: another key has this name before"]);
    check_keys("{\"keys\": 7}", &["keys.json:1:10: keys: expected a list, found a number"]);
}

#[test]
fn keys_for_something_else_are_passed_over_and_none_left_is_an_error() {
    let others = [
        r#"{"kty": "OKP", "crv": "X25519", "x": "AA"}"#,
        r#"{"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}"#,
        r#"{"kty": "EC", "crv": "P-256", "alg": "ECDH-ES", "x": "AA", "y": "AA"}"#,
        r#"{"kty": "RSA", "alg": "PS256", "n": "AA", "e": "AQAB"}"#,
        r#"{"kty": "RSA", "use": "enc", "n": "AA", "e": "AQAB"}"#,
        r#"{"kty": "RSA", "key_ops": ["encrypt"], "n": "AA", "e": "AQAB"}"#,
        r#"{"kty": "new"}"#,
    ];
    let mut all = others.to_vec();
    all.push(ED);
    check_keys(&set(&all), &[]);
    let line = "moorgate.json:1:21: tokens.keys: no key in keys.json verifies EdDSA, ES256 or RS256";
    let config = format!("{{\"tokens\": {{\"keys\": \"keys.json\"}}, {USERS}}}");
    for keys in [set(&others), set(&[])] {
        let given = Given::new(&[("moorgate.json", &config), ("keys.json", &keys), POOLS]);
        assert_eq!(given.lines(given.config().unwrap_err()), [line]);
    }
}

#[test]
fn what_is_wrong_with_tokens_is_told() {
    let keys = set(&[ED]);
    let wrong = |tokens: &str, users: &str, expected: &[&str]| {
        let config = format!("{{\"tokens\": {tokens}{users}}}");
        check(&[("moorgate.json", &config), ("keys.json", &keys), POOLS], expected);
    };
    let users = format!(", {USERS}");
    wrong(
        "{\"keys\": \"keys.json\"}",
        "",
        &["moorgate.json:1:1: a token needs a user: add one, or let \"tokens\" have \"users\": \"any\""],
    );
    wrong("{\"keys\": []}", &users, &["moorgate.json:1:21: tokens.keys: expected at least one file"]);
    wrong(
        "{\"keys\": \"keys.json\", \"leeway\": \"1h\", \"users\": \"all\"}",
        &users,
        &[
            "moorgate.json:1:44: tokens.leeway: expected a duration of at most 10 minutes",
            "moorgate.json:1:59: tokens.users: expected \"configured\" or \"any\"; did you mean \"any\"?",
        ],
    );
    wrong(
        "{\"keys\": \"keys.json\", \"leeway\": \"1h\"}",
        &users,
        &["moorgate.json:1:44: tokens.leeway: expected a duration of at most 10 minutes"],
    );
    let given =
        Given::new(&[("moorgate.json", &format!("{{\"tokens\": {{\"keys\": [\"gone.json\"]}}{users}}}"))]);
    let told = given.lines(given.config().unwrap_err());
    assert!(
        told[0].starts_with("moorgate.json:1:22: tokens.keys[0]: the key file gone.json cannot be read"),
        "{told:?}"
    );
    let nameless = set(&[ED.replace("\"kid\": \"a\", ", "").as_str(); 5]);
    let config = format!("{{\"tokens\": {{\"keys\": \"keys.json\"}}{users}}}");
    check(
        &[("moorgate.json", &config), ("keys.json", &nameless), POOLS],
        &["moorgate.json:1:21: tokens.keys: expected at most 4 keys of EdDSA without a \"kid\": name them"],
    );
}
