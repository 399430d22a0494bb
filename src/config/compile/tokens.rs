//! Which tokens are let in.
//!
//! Owns: that every key file can be read, holds public keys alone, and at
//! least one that verifies something.
//! Must not know: a token.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};

use super::{Reading, read_text};
use crate::config::env::Environment;
use crate::config::findings::Place;
use crate::config::locate::{Document, NodeId};
use crate::config::read::read;
use crate::config::tokens::{KeyEntry, KeySet, TokenKey, Tokens, TokensEntry, UsersWord};
use crate::config::watch::Watched;

/// The most keys in all. Without a `kid` a token is tried with several.
const KEYS_MAX: usize = 64;
/// The most keys of one algorithm without a `kid`.
const NAMELESS_MAX: usize = 4;
/// Above it two clocks do not differ, they are wrong.
const LEEWAY_MAX: Duration = Duration::from_secs(600);
/// What is weaker can be forged, what is longer costs too much to check.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// What is meant; the key files that were read are noted.
pub(super) fn tokens(
    reading: &mut Reading<'_>,
    written: TokensEntry,
    folder: &Path,
    env: &Environment,
    watched: &mut Watched,
) -> Option<Tokens> {
    let node = reading.document.below(reading.document.root(), &["tokens"]);
    let mut keys = Vec::new();
    if written.keys.0.is_empty() {
        reading.complain(node, &["keys"], "expected at least one file");
    }
    let list = reading.document.below(node, &["keys"]);
    for (at, file) in written.keys.0.iter().enumerate() {
        let place = reading.document.place(reading.document.item(list, at));
        let path = folder.join(&file.0);
        watched.note_file(&path);
        key_file(reading, &path, &place, env, &mut keys);
    }
    bound(reading, node, &keys);
    let leeway = written.leeway.map_or(Duration::from_secs(60), |leeway| leeway.0);
    if leeway > LEEWAY_MAX {
        reading.complain(node, &["leeway"], "expected a duration of at most 10 minutes");
    }
    Some(Tokens {
        keys,
        issuer: written.issuer.map(|issuer| issuer.0.into()),
        audiences: written.audience.into_iter().flat_map(|all| all.0).map(|one| one.0.into()).collect(),
        any_user: written.users == Some(UsersWord::Any),
        leeway,
    })
}

fn bound(reading: &mut Reading<'_>, node: NodeId, keys: &[TokenKey]) {
    if keys.len() > KEYS_MAX {
        reading.complain(node, &["keys"], format!("expected at most {KEYS_MAX} keys in all"));
    }
    for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256] {
        let nameless = keys.iter().filter(|key| key.kid.is_none() && key.algorithm == algorithm).count();
        if nameless > NAMELESS_MAX {
            let message =
                format!("expected at most {NAMELESS_MAX} keys of {algorithm:?} without a \"kid\": name them");
            reading.complain(node, &["keys"], message);
        }
    }
}

fn key_file(
    reading: &mut Reading<'_>,
    path: &Path,
    named_at: &Place,
    env: &Environment,
    keys: &mut Vec<TokenKey>,
) {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(message) => {
            let message = format!("the key file {} {message}", path.display());
            return reading.findings.add(named_at.clone(), message);
        }
    };
    let before = (reading.findings.count(), keys.len());
    let Some(mut document) = Document::parse(path, text, env, reading.findings) else { return };
    let mut file =
        Reading { document: &mut document, findings: reading.findings, warnings: reading.warnings };
    let root = file.document.root();
    let set: Option<KeySet> = read(file.document, root, file.findings);
    for later in set.iter().flat_map(|set| &set.keys) {
        let Some(entry) = later.read(file.document, file.findings) else { continue };
        let Some(key) = key(&mut file, later.node, &entry) else { continue };
        if key.kid.is_some() && keys.iter().any(|other| other.kid == key.kid) {
            file.complain(later.node, &["kid"], "another key has this name before");
        }
        keys.push(key);
    }
    if before == (reading.findings.count(), keys.len()) {
        let message = format!("no key in {} verifies EdDSA, ES256 or RS256", path.display());
        reading.findings.add(named_at.clone(), message);
    }
}

/// The key, unless it is for something else, which is told as odd, or wrong.
fn key(file: &mut Reading<'_>, node: NodeId, entry: &KeyEntry) -> Option<TokenKey> {
    if let Some(part) = entry.private_part() {
        let message = match &*entry.kty {
            "oct" => "a shared secret: whoever verifies with it could sign; use a key pair",
            _ => "a private key: put its public part alone here, and regard it as known",
        };
        file.complain(node, &[part], message);
        return None;
    }
    let signs = entry.r#use.as_deref().is_none_or(|word| word == "sig")
        && entry.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let algorithm = match (&*entry.kty, entry.crv.as_deref(), entry.alg.as_deref()) {
        _ if !signs => None,
        ("OKP", Some("Ed25519"), None | Some("EdDSA" | "Ed25519")) => Some(Algorithm::EdDSA),
        ("EC", Some("P-256"), None | Some("ES256")) => Some(Algorithm::ES256),
        ("RSA", _, None | Some("RS256")) => Some(Algorithm::RS256),
        _ => None,
    };
    let Some(algorithm) = algorithm else {
        file.warn(node, &[], "passed over: not a key that verifies EdDSA (Ed25519), ES256 or RS256");
        return None;
    };
    let made = match algorithm {
        Algorithm::EdDSA => curve_key(file, node, algorithm, &[("x", &entry.x)]),
        Algorithm::ES256 => curve_key(file, node, algorithm, &[("x", &entry.x), ("y", &entry.y)]),
        _ => rsa_key(file, node, entry),
    };
    let (key, digest) = made?;
    Some(TokenKey { kid: entry.kid.as_deref().map(Arc::from), algorithm, key, digest })
}

type Made = (DecodingKey, [u8; 32]);

/// Of coordinates of 32 bytes each.
fn curve_key(
    file: &mut Reading<'_>,
    node: NodeId,
    algorithm: Algorithm,
    coordinates: &[(&str, &Option<String>)],
) -> Option<Made> {
    let mut bytes = Vec::new();
    for (name, written) in coordinates {
        let decoded = bytes_of(file, node, name, written)?;
        if decoded.len() != 32 {
            file.complain(node, &[name], "expected 32 bytes");
            return None;
        }
        bytes.extend(decoded);
    }
    let text = |at: usize| URL_SAFE_NO_PAD.encode(&bytes[32 * at..32 * (at + 1)]);
    let key = match algorithm {
        Algorithm::EdDSA => DecodingKey::from_ed_components(&text(0)),
        _ => DecodingKey::from_ec_components(&text(0), &text(1)),
    };
    // A point that is not on the curve is found out by its first use.
    let usable = key.and_then(|key| jsonwebtoken::crypto::verify("", b"", &key, algorithm).map(|_| key));
    match usable {
        Ok(key) => Some((key, *blake3::hash(&bytes).as_bytes())),
        Err(_) => {
            file.complain(node, &["x"], "expected a point of the curve");
            None
        }
    }
}

fn rsa_key(file: &mut Reading<'_>, node: NodeId, entry: &KeyEntry) -> Option<Made> {
    let mut n = bytes_of(file, node, "n", &entry.n)?;
    let e = bytes_of(file, node, "e", &entry.e)?;
    let zeros = n.iter().take_while(|byte| **byte == 0).count();
    n.drain(..zeros);
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) || n.last().is_none_or(|byte| byte % 2 == 0) {
        let message = format!("expected a modulus of {} to {} bits", RSA_BITS.start(), RSA_BITS.end());
        file.complain(node, &["n"], message);
        return None;
    }
    let exponent =
        e.iter().fold(0_u64, |sum, byte| sum.checked_mul(256).map_or(u64::MAX, |sum| sum + u64::from(*byte)));
    if exponent < 3 || exponent % 2 == 0 || exponent > u64::from(u32::MAX) {
        file.complain(node, &["e"], "expected an odd exponent from 3 to 4294967295, such as AQAB");
        return None;
    }
    let mut hash = blake3::Hasher::new();
    hash.update(&exponent.to_le_bytes()).update(&n);
    Some((DecodingKey::from_rsa_raw_components(&n, &e), *hash.finalize().as_bytes()))
}

fn bytes_of(file: &mut Reading<'_>, node: NodeId, name: &str, written: &Option<String>) -> Option<Vec<u8>> {
    let Some(written) = written else {
        file.complain(node, &[], format!("the field \"{name}\" is missing"));
        return None;
    };
    let decoded = URL_SAFE_NO_PAD.decode(written).ok();
    if decoded.is_none() {
        file.complain(node, &[name], "expected base64url without padding");
    }
    decoded
}

#[cfg(test)]
mod tests;
