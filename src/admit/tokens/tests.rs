use std::time::Duration;

use jsonwebtoken::crypto::sign;
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde_json::json;

use super::*;
use crate::core::session::SessionId;

const ED: &[u8] = include_bytes!("../../../tests/vectors/keys/ed25519.pem");
const EC: &[u8] = include_bytes!("../../../tests/vectors/keys/p256.pem");
const RSA: &[u8] = include_bytes!("../../../tests/vectors/keys/rsa2048.pem");

/// The wall clock, in s.
const NOW: u64 = 1_800_000_000;

fn at(s: u64) -> Timestamp {
    Timestamp::from_ms(s * 1000)
}

fn private(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::EdDSA => EncodingKey::from_ed_pem(ED),
        Algorithm::ES256 => EncodingKey::from_ec_pem(EC),
        _ => EncodingKey::from_rsa_pem(RSA),
    }
    .unwrap()
}

fn public(algorithm: Algorithm, kid: Option<&str>) -> TokenKey {
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&private(algorithm), algorithm).unwrap();
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    TokenKey { kid: kid.map(Arc::from), algorithm, key, digest: [0; 32] }
}

fn config() -> config::Tokens {
    config::Tokens {
        keys: vec![
            public(Algorithm::EdDSA, Some("ed")),
            public(Algorithm::ES256, Some("ec")),
            public(Algorithm::RS256, None),
        ],
        issuer: Some("https://ci.example".into()),
        audiences: vec!["moorgate".into(), "other".into()],
        any_user: false,
        leeway: Duration::from_secs(60),
    }
}

fn tokens() -> Tokens {
    Tokens::new(Arc::new(config()))
}

fn encode(json: &str) -> String {
    URL_SAFE_NO_PAD.encode(json)
}

fn signed(header: &str, claims: &str, by: Algorithm) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(message.as_bytes(), &private(by), by).unwrap();
    format!("{message}.{signature}")
}

fn claims() -> Value {
    json!({ "sub": "acme", "iss": "https://ci.example", "aud": "moorgate", "exp": NOW + 3600 })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn good(claims: &Value) -> String {
    signed(r#"{"alg":"EdDSA","kid":"ed"}"#, &claims.to_string(), Algorithm::EdDSA)
}

#[track_caller]
fn check_claims(claims: &Value, fine: bool) {
    assert_eq!(tokens().grant(&good(claims), at(NOW)).is_some(), fine, "{claims}");
}

#[track_caller]
fn check_header(header: Value, fine: bool) {
    let token = signed(&header.to_string(), &claims().to_string(), Algorithm::EdDSA);
    assert_eq!(tokens().grant(&token, at(NOW)).is_some(), fine, "{header}");
}

#[test]
fn each_algorithm_is_verified_with_a_key_of_its_own() {
    let tokens = tokens();
    let claims = claims().to_string();
    for (algorithm, name) in [(Algorithm::EdDSA, "ed"), (Algorithm::ES256, "ec"), (Algorithm::RS256, "rsa")] {
        for header in [json!({ "alg": algorithm }), json!({ "alg": algorithm, "kid": name, "typ": "JWT" })] {
            let token = signed(&header.to_string(), &claims, algorithm);
            assert_eq!(&*tokens.grant(&token, at(NOW)).unwrap().user, "acme", "{header}");
        }
        // Signed by one, named as the other.
        for other in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256] {
            let token = signed(&json!({ "alg": other }).to_string(), &claims, algorithm);
            assert_eq!(
                tokens.grant(&token, at(NOW)).is_some(),
                other == algorithm,
                "{algorithm:?} as {other:?}"
            );
        }
    }
}

#[test]
fn a_header_chooses_neither_algorithm_nor_key() {
    check_header(json!({ "alg": "EdDSA" }), true);
    check_header(json!({ "alg": "EdDSA", "typ": "application/at+JWT" }), true);
    for alg in ["none", "None", "", "HS256", "HS512", "ES384", "RS512", "PS256", "eddsa", "ES256K"] {
        check_header(json!({ "alg": alg }), false);
    }
    check_header(json!({ "alg": null }), false);
    check_header(json!({ "alg": ["EdDSA"] }), false);
    check_header(json!({ "typ": "JWT" }), false);
    check_header(json!({ "alg": "EdDSA", "kid": "ec" }), false);
    check_header(json!({ "alg": "EdDSA", "kid": "../../../dev/null" }), false);
    check_header(json!({ "alg": "EdDSA", "kid": "ed' OR '1'='1" }), false);
    check_header(json!({ "alg": "EdDSA", "kid": 7 }), false);
    check_header(json!({ "alg": "EdDSA", "typ": "dpop+jwt" }), false);
    check_header(json!({ "alg": "EdDSA", "crit": ["exp"] }), false);
    check_header(json!({ "alg": "EdDSA", "crit": [] }), false);
    // What would bring a key along is not looked at.
    check_header(
        json!({ "alg": "EdDSA", "jku": "https://evil.example/", "x5u": "file:///etc/passwd" }),
        true,
    );
}

/// Signed with a key of the attacker's that the token itself carries.
#[test]
fn a_key_in_the_token_verifies_nothing() {
    let tokens = Tokens::new(Arc::new(config::Tokens {
        keys: vec![public(Algorithm::EdDSA, Some("ed"))],
        ..config()
    }));
    let jwk =
        jsonwebtoken::jwk::Jwk::from_encoding_key(&private(Algorithm::ES256), Algorithm::ES256).unwrap();
    for header in [
        json!({ "alg": "ES256", "jwk": jwk }),
        json!({ "alg": "ES256", "kid": "ed", "jwk": jwk }),
        json!({ "alg": "EdDSA", "kid": "ed", "jwk": jwk }),
    ] {
        let token = signed(&header.to_string(), &claims().to_string(), Algorithm::ES256);
        assert_eq!(tokens.grant(&token, at(NOW)), None, "{header}");
    }
}

/// HS256 with what everyone knows: the public key as the secret.
#[test]
fn a_public_key_is_no_shared_secret() {
    let tokens = tokens();
    for key in &config().keys {
        let secret = key.key.try_get_as_bytes().map_or_else(|_| RSA.to_vec(), <[u8]>::to_vec);
        let message =
            format!("{}.{}", encode(r#"{"alg":"HS256","typ":"JWT"}"#), encode(&claims().to_string()));
        let signature =
            sign(message.as_bytes(), &EncodingKey::from_secret(&secret), Algorithm::HS256).unwrap();
        assert_eq!(tokens.grant(&format!("{message}.{signature}"), at(NOW)), None);
    }
}

#[test]
fn times_are_kept_with_a_leeway() {
    check_claims(&without("exp"), false);
    for exp in [json!(NOW - 59), json!(NOW as f64 - 59.5), json!(NOW + 10)] {
        check_claims(&with("exp", exp), true);
    }
    for exp in
        [json!(NOW - 60), json!(0), json!(-1), json!("9999999999"), json!(null), json!(1e300), json!([NOW])]
    {
        check_claims(&with("exp", exp), false);
    }
    check_claims(&with("nbf", json!(NOW + 60)), true);
    check_claims(&with("nbf", json!(NOW + 61)), false);
    check_claims(&with("nbf", json!("soon")), false);
    check_claims(&with("iat", json!(NOW + 60)), true);
    check_claims(&with("iat", json!(NOW + 61)), false);
}

#[test]
fn issuer_audience_and_user_are_as_configured() {
    check_claims(&claims(), true);
    for iss in [
        json!("https://ci.example/"),
        json!("https://CI.example"),
        json!(["https://ci.example"]),
        json!(null),
    ] {
        check_claims(&with("iss", iss), false);
    }
    check_claims(&without("iss"), false);
    check_claims(&with("aud", json!(["x", "other"])), true);
    for aud in
        [json!("x"), json!([]), json!(["x"]), json!(["moorgate", 7]), json!({ "moorgate": 1 }), json!(null)]
    {
        check_claims(&with("aud", aud), false);
    }
    check_claims(&without("aud"), false);
    for sub in [json!(""), json!("a b"), json!("acme:x"), json!(7), json!(null), json!("x".repeat(65))] {
        check_claims(&with("sub", sub), false);
    }
    check_claims(&without("sub"), false);

    let open = Tokens::new(Arc::new(config::Tokens { issuer: None, audiences: Vec::new(), ..config() }));
    assert_eq!(open.grant(&good(&claims()), at(NOW)), None, "it is for somebody else");
    assert!(open.grant(&good(&without("aud")), at(NOW)).is_some());
}

#[test]
fn a_claim_of_ours_fixes_what_it_says_and_what_is_unknown_is_worthless() {
    let claim = json!({ "pool": "us", "session": "job-7".replace('-', "."), "ttl": "1h",
                        "limits": { "connections": 5, "bandwidth": "1MB/s" } });
    let grant = tokens().grant(&good(&with("moorgate", claim)), at(NOW)).unwrap();
    assert_eq!(grant.fixed.pool.as_deref(), Some("us"));
    assert_eq!(grant.fixed.session, SessionId::new("job.7"));
    assert_eq!(grant.fixed.ttl.map(|ttl| ttl.as_secs()), Some(3600));
    assert_eq!(grant.fixed.limits.connections.map(|most| most.get()), Some(5));
    check_claims(&with("moorgate", json!({})), true);
    for claim in [
        json!({ "exit": "e1" }),
        json!({ "session": "job-7" }),
        json!({ "ttl": "1" }),
        json!({ "ttl": 3600 }),
        json!({ "limits": { "connection": 5 } }),
        json!({ "limits": { "burst": 5 } }),
        json!({ "pool": "" }),
        json!("us"),
        json!(null),
    ] {
        check_claims(&with("moorgate", claim), false);
    }
}

#[test]
fn what_is_said_twice_is_worthless() {
    let twice = claims().to_string().replacen('{', "{\"sub\":\"root\",", 1);
    let header = r#"{"alg":"EdDSA"}"#;
    assert_eq!(tokens().grant(&signed(header, &twice, Algorithm::EdDSA), at(NOW)), None);
    let header = r#"{"alg":"none","alg":"EdDSA"}"#;
    assert_eq!(tokens().grant(&signed(header, &claims().to_string(), Algorithm::EdDSA), at(NOW)), None);
    let nested = with("moorgate", json!({ "pool": "us" })).to_string();
    let nested = nested.replace("{\"pool\"", "{\"pool\":\"eu\",\"pool\"");
    assert_eq!(tokens().grant(&signed(r#"{"alg":"EdDSA"}"#, &nested, Algorithm::EdDSA), at(NOW)), None);
}

#[test]
fn whatever_is_changed_makes_a_token_worthless() {
    let token = good(&claims());
    let tokens = tokens();
    let refused = |token: &str| assert_eq!(tokens.grant(token, at(NOW)), None, "{token}");
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        refused(std::str::from_utf8(&changed).unwrap());
    }
    let (message, signature) = token.rsplit_once('.').unwrap();
    for cut in [
        format!("{message}."),
        message.to_owned(),
        format!("{message}.{signature}."),
        format!("{message}.{signature}="),
        format!(" {token}"),
        format!("{token}.{signature}"),
        token[..token.len() - 1].to_owned(),
        String::new(),
        "..".to_owned(),
        format!("{}..{signature}", message.split('.').next().unwrap()),
    ] {
        refused(&cut);
    }
    assert!(tokens.grant(&token, at(NOW)).is_some());
}

#[test]
fn a_huge_token_is_not_even_looked_at() {
    let fits = with("x", json!("x".repeat(4000)));
    check_claims(&fits, true);
    check_claims(&with("x", json!("x".repeat(8000))), false);
    assert!(is_token(&good(&claims())));
    let no = ["", "secret", "a.b.c", "ey.b", "ey.b.c.d", "ey..c", "eyA.b.c d", "eyA.b.c="];
    assert!(no.iter().all(|secret| !is_token(secret)) && is_token("eyA.b-_.c"));
    assert!(!is_token(&format!("ey{}.b.c", "x".repeat(9000))));
}

#[test]
fn a_good_token_is_verified_once_and_remembered_until_it_expires() {
    let tokens = tokens();
    let token = good(&claims());
    assert_eq!(tokens.grant(&token, at(NOW + 3660)), None, "expired before it was seen");
    let first = tokens.grant(&token, at(NOW)).unwrap();
    let again = tokens.grant(&token, at(NOW + 3659)).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!(tokens.grant(&token, at(NOW + 3660)), None);
    tokens.sweep(at(NOW + 3659));
    assert_eq!(tokens.known().len(), 1);
    tokens.sweep(at(NOW + 3660));
    assert_eq!(tokens.known().len(), 0);
    let wrong = format!("{token}A");
    assert_eq!(tokens.grant(&wrong, at(NOW)), None);
    assert_eq!(tokens.known().len(), 0, "what is worthless is not remembered");
}

#[test]
fn a_token_without_a_key_id_is_tried_with_few_keys() {
    let mut keys: Vec<_> = (0..10).map(|n| public(Algorithm::ES256, Some(&n.to_string()))).collect();
    for key in &mut keys {
        // A key that signs nothing here.
        key.key = DecodingKey::from_ec_components(
            "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
            "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
        )
        .unwrap();
    }
    keys.push(public(Algorithm::ES256, Some("ours")));
    let tokens = Tokens::new(Arc::new(config::Tokens { keys, ..config() }));
    let token = |header: &str| signed(header, &claims().to_string(), Algorithm::ES256);
    assert_eq!(tokens.grant(&token(r#"{"alg":"ES256"}"#), at(NOW)), None);
    assert!(tokens.grant(&token(r#"{"alg":"ES256","kid":"ours"}"#), at(NOW)).is_some());
}

proptest::proptest! {
    #[test]
    fn no_text_panics_or_grants(text in "[ -~]{0,40}", part in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
        let tokens = tokens();
        let part = URL_SAFE_NO_PAD.encode(part);
        for token in [text.clone(), format!("{part}.{part}.{part}"), format!("{}.{part}.{part}", encode(r#"{"alg":"ES256"}"#))] {
            proptest::prop_assert_eq!(tokens.grant(&token, at(NOW)), None);
            is_token(&token);
        }
    }
}
