//! `moorgate token`: keys and tokens, for those who have no issuer of their
//! own, and for tests.
//!
//! Owns: what is signed, how a key is written and read.
//! Must not know: who lets a token in.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value, json};

use super::print;
use crate::clock::{Clock as _, SystemClock};
use crate::config::tokens::fixed;
use crate::core::session::is_user;
use crate::core::time::parse_duration;

/// What `moorgate token` is told.
#[derive(Args)]
pub(super) struct TokenArguments {
    /// The private key (PEM, PKCS#8): Ed25519, P-256, or RSA of 2048 bits or
    /// more.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Makes a key (Ed25519) in that file, and prints its public part.
    #[arg(long, conflicts_with_all = ["jwks", "sub"])]
    new_key: bool,
    /// Prints the public part of the key, for the configuration's
    /// `tokens.keys`.
    #[arg(long, conflicts_with = "sub")]
    jwks: bool,
    /// The user.
    #[arg(long, value_name = "NAME", required_unless_present_any = ["new_key", "jwks"])]
    sub: Option<String>,
    /// How long the token is good.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    ttl: String,
    /// Who says so (`iss`).
    #[arg(long, value_name = "TEXT")]
    issuer: Option<String>,
    /// For whom (`aud`).
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// The only pool that may be used with it.
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// The only session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// How long its sessions live.
    #[arg(long, value_name = "DURATION")]
    session_ttl: Option<String>,
    /// Limits as in the configuration, such as '{"connections": 5}'.
    #[arg(long, value_name = "JSON")]
    limits: Option<String>,
}

/// Does what `moorgate token` is told.
///
/// # Errors
/// A key that cannot be read or made, and what makes no sense.
pub(super) fn token(arguments: &TokenArguments) -> anyhow::Result<()> {
    if arguments.new_key {
        make_key(&arguments.key)?;
    }
    let key = Key::read(&arguments.key)?;
    match &arguments.sub {
        None => print(&format!("{:#}\n", json!({ "keys": [key.public] }))),
        Some(user) => print(&format!("{}\n", key.sign(&claims(arguments, user)?)?)),
    }
}

fn claims(arguments: &TokenArguments, user: &str) -> anyhow::Result<Value> {
    ensure!(is_user(user), "--sub: a user's name is 1 to 64 of A-Z a-z 0-9 . _ -");
    let ttl = parse_duration(&arguments.ttl).context("--ttl")?;
    ensure!(ttl >= Duration::from_secs(1), "--ttl: at least 1s");
    let now = SystemClock::new().wall().as_ms() / 1000;
    let mut claims = json!({ "sub": user, "iat": now, "exp": now.saturating_add(ttl.as_secs()) });
    let mut put = |name: &str, value: Option<Value>| claims[name] = value.unwrap_or_default();
    put("iss", arguments.issuer.clone().map(Value::from));
    put("aud", arguments.audience.clone().map(Value::from));
    let limits = arguments.limits.as_deref().map(serde_json::from_str).transpose();
    let fixes = [
        ("pool", arguments.pool.clone().map(Value::from)),
        ("session", arguments.session.clone().map(Value::from)),
        ("ttl", arguments.session_ttl.clone().map(Value::from)),
        ("limits", limits.context("--limits: not JSON")?),
    ];
    let mut own = Map::new();
    for (name, value) in fixes {
        let Some(value) = value else { continue };
        let option = if name == "ttl" { "session-ttl" } else { name };
        let possible = fixed(&json!({ name: &value })).is_some();
        ensure!(possible, "--{option}: {value} is nothing that a username or a configuration could say");
        own.insert(name.to_owned(), value);
    }
    put("moorgate", (!own.is_empty()).then_some(Value::Object(own)));
    if let Value::Object(claims) = &mut claims {
        claims.retain(|_, value| !value.is_null());
    }
    Ok(claims)
}

/// A private key and its public part.
struct Key {
    algorithm: Algorithm,
    key: EncodingKey,
    public: Jwk,
}

impl Key {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let pem = zeroize::Zeroizing::new(fs::read(path).with_context(|| path.display().to_string())?);
        for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256] {
            let read = match algorithm {
                Algorithm::EdDSA => EncodingKey::from_ed_pem(&pem),
                Algorithm::ES256 => EncodingKey::from_ec_pem(&pem),
                _ => EncodingKey::from_rsa_pem(&pem),
            };
            let Ok(key) = read else { continue };
            let Ok(mut public) = Jwk::from_encoding_key(&key, algorithm) else { break };
            public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256)?);
            public.common.public_key_use = Some(PublicKeyUse::Signature);
            return Ok(Self { algorithm, key, public });
        }
        bail!("{}: not a private key in PEM (PKCS#8) of Ed25519, P-256 or RSA", path.display())
    }

    fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let header = Header { kid: self.public.common.key_id.clone(), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).context("the key does not sign")
    }
}

/// An Ed25519 key in a file that only its owner can read.
fn make_key(path: &Path) -> anyhow::Result<()> {
    // RFC 8410: what comes before the 32 bytes of the key.
    const BEFORE: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let seed: zeroize::Zeroizing<[u8; 32]> = zeroize::Zeroizing::new(rand::random());
    let der = zeroize::Zeroizing::new([&BEFORE[..], &seed[..]].concat());
    let text = zeroize::Zeroizing::new(STANDARD.encode(&der));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    writeln!(file, "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", &*text)?;
    Ok(())
}
