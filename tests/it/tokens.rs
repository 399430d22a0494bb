//! Signed tokens instead of secrets (SPEC §7, `tokens`).

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::harness::gateway::run;
use crate::harness::request::{Ask, basic_as, connect, get};
use crate::harness::{Answer, Gateway, Origin, PASSWORD, PATIENCE, Setup, eventually};

/// A key of this repository's own, for nothing else.
fn pem(name: &str) -> String {
    format!("{}/tests/vectors/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))
}

/// What `moorgate token` prints for the key `name`.
#[track_caller]
fn moorgate(name: &str, arguments: &[&str]) -> String {
    let empty = tempfile::tempdir().unwrap();
    let path = pem(name);
    let output = run(empty.path(), &[&["token", "--key", &*path], arguments].concat(), "");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn jwks(name: &str) -> String {
    moorgate(name, &["--jwks"])
}

/// A token as an issuer of ours makes it.
#[track_caller]
pub fn token(name: &str, more: &[&str]) -> String {
    let own = ["--sub", "acme", "--issuer", "https://ci.example", "--audience", "moorgate"];
    moorgate(name, &[&own[..], more].concat())
}

/// Pools `p` and `q`, tokens by the keys of all three algorithms.
pub fn setup() -> Setup {
    let pool = json!({ "name": "q", "exits": [{ "id": "e", "via": "127.0.0.9" }] });
    Setup::addresses(4)
        .another_pool(pool)
        .config(
            "tokens",
            json!({ "keys": ["keys/a.json", "keys/b.json", "keys/c.json"], "issuer": "https://ci.example",
                    "audience": "moorgate" }),
        )
        .file("keys/a.json", jwks("ed25519"))
        .file("keys/b.json", jwks("p256"))
        .file("keys/c.json", jwks("rsa2048"))
}

fn bearer(gateway: &Gateway, origin: &Origin, token: &str, fields: &str) -> Answer {
    let fields = format!("Proxy-Authorization: Bearer {token}\r\n{fields}");
    gateway.client().send(get(&origin.url("/ip"), &fields)).answer("GET")
}

fn basic(gateway: &Gateway, origin: &Origin, username: &str, token: &str) -> Answer {
    gateway.client().send(get(&origin.url("/ip"), &basic_as(username, token))).answer("GET")
}

#[test]
fn a_token_is_a_secret_or_a_bearers() {
    let gateway = setup().start();
    let origin = Origin::start();
    for key in ["ed25519", "p256", "rsa2048"] {
        let token = token(key, &[]);
        basic(&gateway, &origin, "acme-session-a", &token).ok();
        basic(&gateway, &origin, "acme", &token).ok();
        let held = bearer(&gateway, &origin, &token, "Moorgate-Session: a\r\n").ok();
        assert_eq!(held.news(), "held", "the user's own sessions");
        let mut tunnel = gateway.client();
        let fields = format!("proxy-authorization: bearer {token}\r\n");
        tunnel.send(connect(origin.address, &fields)).answer("CONNECT").ok();
        assert!(origin.seen().iter().all(|seen| !seen.head.contains(&token)));
        assert!(!gateway.log.text().contains(&token));
    }
    basic(&gateway, &origin, "acme", PASSWORD).ok();
}

#[test]
fn who_is_not_the_tokens_user_is_refused_like_anyone() {
    let other = json!({ "name": "acme-b", "password": PASSWORD, "pools": ["p"] });
    let gateway = setup().user(other).start();
    let origin = Origin::start();
    let token = token("ed25519", &[]);
    let unknown =
        moorgate("ed25519", &["--sub", "nobody", "--issuer", "https://ci.example", "--audience", "moorgate"]);
    let plain = |mut answer: Answer| {
        answer.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
        format!("{answer:?}")
    };
    let wrong = plain(basic(&gateway, &origin, "acme", "wrong").fails(407, "auth_failed"));
    for username in ["acme-b", "acme-b-session-x", "nobody", "", "acm"] {
        assert_eq!(plain(basic(&gateway, &origin, username, &token)), wrong, "{username}");
    }
    assert_eq!(plain(basic(&gateway, &origin, "nobody", &unknown)), wrong);
    assert_eq!(plain(bearer(&gateway, &origin, &unknown, "")), wrong);
    assert_eq!(plain(bearer(&gateway, &origin, "", "")), wrong);
    assert_eq!(plain(bearer(&gateway, &origin, PASSWORD, "")), wrong);
    basic(&gateway, &origin, "acme-sesion-x", &token).fails(400, "parameter_unknown");
}

#[test]
fn any_users_tokens_are_let_in_where_that_is_wanted() {
    let gateway = setup().config("tokens.users", "any").config("users", json!([])).start();
    let origin = Origin::start();
    let token = moorgate(
        "p256",
        &["--sub", "ci-job-7", "--issuer", "https://ci.example", "--audience", "moorgate", "--pool", "p"],
    );
    basic(&gateway, &origin, "ci-job-7-session-a", &token).ok();
    bearer(&gateway, &origin, &token, "").ok();
    basic(&gateway, &origin, "ci-job-8", &token).fails(407, "auth_failed");
    assert!(!gateway.out.text().contains("demo"), "no user is made");
}

/// A token of the test's own making.
fn forged(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn every_attack_gets_one_answer() {
    let gateway = setup().config("limits", json!({ "auth_failures_per_minute": 0 })).start();
    let origin = Origin::start();
    let key = EncodingKey::from_ed_pem(&fs::read(pem("ed25519")).unwrap()).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": "acme", "iss": "https://ci.example", "aud": "moorgate", "exp": now + 600 });
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let ed = json!({ "alg": "EdDSA", "typ": "JWT" });
    let by_us = |claims: &Value| forged(&ed, claims, &key, Algorithm::EdDSA);
    bearer(&gateway, &origin, &by_us(&claims), "").ok();
    let unsigned = |alg: &str| {
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.", part(json!({ "alg": alg })), part(claims.clone()))
    };
    let public = EncodingKey::from_secret(jwks("rsa2048").as_bytes());
    let stranger = EncodingKey::from_ec_pem(&fs::read(pem("p256")).unwrap()).unwrap();
    let jwk: Value = serde_json::from_str(&jwks("p256")).unwrap();
    let attacks = [
        ("none", unsigned("none")),
        ("nOnE", unsigned("nOnE")),
        ("EdDSA without a signature", unsigned("EdDSA")),
        ("HS256 by a public key", forged(&json!({ "alg": "HS256" }), &claims, &public, Algorithm::HS256)),
        ("another's algorithm", forged(&ed, &claims, &stranger, Algorithm::ES256)),
        (
            "a key in the token",
            forged(&json!({ "alg": "EdDSA", "jwk": jwk["keys"][0] }), &claims, &stranger, Algorithm::ES256),
        ),
        (
            "a file as the key's name",
            forged(&json!({ "alg": "EdDSA", "kid": "/dev/null" }), &claims, &key, Algorithm::EdDSA),
        ),
        (
            "a critical header",
            forged(
                &json!({ "alg": "EdDSA", "crit": ["b64"], "b64": false }),
                &claims,
                &key,
                Algorithm::EdDSA,
            ),
        ),
        ("expired", by_us(&with("exp", json!(now - 61)))),
        ("never expires", by_us(&with("exp", json!(null)))),
        ("not yet", by_us(&with("nbf", json!(now + 120)))),
        ("made tomorrow", by_us(&with("iat", json!(now + 86_400)))),
        ("another issuer", by_us(&with("iss", json!("https://evil.example")))),
        ("another audience", by_us(&with("aud", json!("other")))),
        ("huge", by_us(&with("x", json!("x".repeat(20_000))))),
        ("an unknown bound", by_us(&with("moorgate", json!({ "exit": "e1" })))),
    ];
    let mut answers = Vec::new();
    for (what, token) in &attacks {
        for answer in [bearer(&gateway, &origin, token, ""), basic(&gateway, &origin, "acme", token)] {
            assert_eq!(answer.code(), "auth_failed", "{what}");
            answers.push((answer.status, answer.detail(), answer.fields.len()));
        }
        assert!(!gateway.log.text().contains(&**token), "{what}");
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(origin.count(), 1);
}

#[test]
fn worthless_tokens_are_throttled_and_good_ones_pass() {
    let gateway = setup().config("limits", json!({ "auth_failures_per_minute": 5 })).start();
    let origin = Origin::start();
    let good = token("ed25519", &[]);
    let bad = format!("{good}AA");
    for _ in 0..5 {
        bearer(&gateway, &origin, &bad, "").fails(407, "auth_failed");
    }
    let answer = bearer(&gateway, &origin, &bad, "").fails(429, "auth_throttled");
    assert!(answer.retry_after().is_some());
    basic(&gateway, &origin, "acme", &bad).fails(429, "auth_throttled");
    bearer(&gateway, &origin, &good, "").ok();
}

#[test]
fn what_a_token_fixes_may_be_said_again_and_not_otherwise() {
    let gateway = setup().start();
    let origin = Origin::start();
    let token = token("ed25519", &["--pool", "q", "--session", "job.7", "--session-ttl", "1h"]);
    let ask = |fields: &str| bearer(&gateway, &origin, &token, fields);
    let made = ask("").ok();
    assert_eq!((made.news(), made.exit()), ("new", "q/e".to_owned()));
    assert!(made.session("expires-in").is_some_and(|left| left > 3000), "{made:?}");
    assert_eq!(
        ask("Moorgate-Pool: q\r\nMoorgate-Session: job.7\r\nMoorgate-TTL: 60m\r\n").ok().news(),
        "held"
    );
    assert_eq!(basic(&gateway, &origin, "acme-pool-q-session-job.7-ttl-1h", &token).ok().news(), "held");
    for fields in ["Moorgate-Pool: p\r\n", "Moorgate-Session: job.8\r\n", "Moorgate-TTL: 2h\r\n"] {
        ask(fields).fails(400, "parameter_conflict");
    }
    basic(&gateway, &origin, "acme-pool-p", &token).fails(400, "parameter_conflict");
    // A ttl alone is for whatever sessions there are.
    let ttl = self::token("ed25519", &["--session-ttl", "90s"]);
    assert_eq!(bearer(&gateway, &origin, &ttl, "").ok().news(), "");
    let made = basic(&gateway, &origin, "acme-session-b", &ttl).ok();
    assert!(made.session("expires-in").is_some_and(|left| (80..=90).contains(&left)), "{made:?}");
    // What the user may not do, its token may not either.
    let narrow = self::token("ed25519", &["--pool", "nowhere"]);
    bearer(&gateway, &origin, &narrow, "").fails(403, "pool_forbidden");
}

#[test]
fn a_tokens_limits_bind_what_is_done_with_it() {
    let gateway = setup().start();
    let origin = Origin::start();
    let narrow = token("ed25519", &["--limits", r#"{"connections": 1, "sessions": 1}"#]);
    let mut tunnel = gateway.client();
    let fields = basic_as("acme-session-a", &narrow);
    tunnel.send(connect(origin.address, &fields)).answer("CONNECT").ok();
    bearer(&gateway, &origin, &narrow, "").fails(429, "too_many_connections");
    basic(&gateway, &origin, "acme", PASSWORD).ok();
    drop(tunnel);
    eventually("the tunnel's place is free", PATIENCE, || {
        (bearer(&gateway, &origin, &narrow, "").status == 200).then_some(())
    });
    basic(&gateway, &origin, "acme-session-b", &narrow).fails(429, "too_many_sessions");
    basic(&gateway, &origin, "acme-session-b", PASSWORD).ok();
}

#[test]
fn key_files_are_reloaded_when_they_change() {
    let gateway = setup().start();
    let origin = Origin::start();
    let (old, new) = (token("ed25519", &[]), token("p256", &[]));
    bearer(&gateway, &origin, &old, "").ok();
    let mark = gateway.log.mark();
    gateway.replace("keys/a.json", jwks("p256"));
    // Two files with one key do not go together: nothing changes.
    let line = gateway.log.wait_after(mark, "what is wrong", |line| line.has("keys[0].kid"));
    assert!(line.has("a.json:") || line.has("b.json:"), "{}", line.0);
    bearer(&gateway, &origin, &old, "").ok();
    let mark = gateway.log.mark();
    gateway.replace("keys/b.json", jwks("ed25519"));
    gateway.log.wait_after(mark, "the reload", |line| line.has("configuration reloaded"));
    for token in [&old, &new] {
        bearer(&gateway, &origin, token, "").ok();
    }
    let mark = gateway.log.mark();
    gateway.replace("keys/b.json", json!({ "keys": [] }).to_string());
    gateway.log.wait_after(mark, "what is wrong", |line| line.has("no key in"));
    let text = fs::read_to_string(gateway.dir().join("moorgate.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["tokens"]["keys"] = json!(["keys/a.json"]);
    let mark = gateway.log.mark();
    gateway.replace("moorgate.json", config.to_string());
    gateway.log.wait_after(mark, "the reload", |line| line.has("configuration reloaded"));
    bearer(&gateway, &origin, &new, "").ok();
    bearer(&gateway, &origin, &old, "").fails(407, "auth_failed");
}

#[test]
fn a_key_pair_is_made_and_its_tokens_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(folder.path(), &["token", "--new-key", "--key", "ci.pem"], "");
    assert!(made.status.success(), "{made:?}");
    let again = run(folder.path(), &["token", "--new-key", "--key", "ci.pem"], "");
    assert!(!again.status.success(), "a key is not written over");
    let signed = run(folder.path(), &["token", "--key", "ci.pem", "--sub", "acme", "--ttl", "5m"], "");
    let token = String::from_utf8(signed.stdout).unwrap();
    let gateway = setup().config("tokens", json!({ "keys": "ci.json" })).file("ci.json", made.stdout).start();
    let origin = Origin::start();
    bearer(&gateway, &origin, token.trim(), "").ok();
    for wrong in [
        &["token", "--key", "ci.pem", "--sub", "a b"][..],
        &["token", "--key", "ci.pem", "--sub", "acme", "--ttl", "1"],
        &["token", "--key", "ci.pem", "--sub", "acme", "--session", "a-b"],
        &["token", "--key", "ci.pem", "--sub", "acme", "--limits", "{\"connection\": 1}"],
        &["token", "--key", "gone.pem", "--sub", "acme"],
        &["token", "--key", "ci.pem"],
    ] {
        let output = run(folder.path(), wrong, "");
        assert!(!output.status.success() && !output.stderr.is_empty(), "{wrong:?}");
    }
}

#[test]
fn keys_that_must_not_be_there_stop_the_start() {
    let check = |keys: String, says: &str| {
        let setup = setup().file("keys/a.json", keys);
        let dir = crate::harness::gateway::write(&setup);
        let output = run(dir.path(), &["check", "--config", "moorgate.json"], "");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("keys/a.json") && told.contains(says), "{told}");
    };
    check(jwks("rsa1024"), "2048");
    check(jwks("ed25519").replace("\"x\"", "\"d\": \"AA\",\n\"x\""), "private");
    check(json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0" }] }).to_string(), "shared secret");
    check("[]".to_owned(), "JSON Web Key Set");
    let output = {
        let dir = crate::harness::gateway::write(&setup().config("users.0.limits", json!({ "sessions": 7 })));
        run(dir.path(), &["check", "--config", "moorgate.json"], "")
    };
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("tokens: configured users', 3 keys") && told.contains("at most 7 sessions"),
        "{told}"
    );
}
