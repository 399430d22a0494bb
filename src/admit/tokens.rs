//! From a token (JWT) to what it grants.
//!
//! Owns: everything that makes a token good or worthless (RFC 7519, RFC 8725),
//! and the memory of tokens that were good.
//! Must not know: users, what a request asks for.
//!
//! A token chooses nothing: which algorithm a signature is checked with is
//! the key's to say, and which keys there are is the configuration's. Of a
//! token's header `alg`, `kid`, `typ` and `crit` are read and nothing else;
//! keys in it, or links to some, are not looked at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::verify;
use serde_json::Value;

use self::object::Object;
use crate::config::tokens::{self as config, Fixed, TokenKey, fixed};
use crate::core::session::{UserName, is_user};
use crate::core::time::Timestamp;

mod object;

/// No token that means something is longer, in bytes.
const LONGEST: usize = 8 * 1024;

/// The most tokens that are remembered. More are verified at each use until
/// some have expired.
const MOST_KNOWN: usize = 65_536;

/// A token that does not name its key is tried with so many of its algorithm.
const MOST_TRIED: usize = 4;

/// What a good token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Whose it is (`sub`).
    pub(crate) user: UserName,
    /// What it fixes.
    pub(crate) fixed: Fixed,
    /// Until when it is good, by the wall clock.
    until: Timestamp,
}

/// Which tokens are good.
pub(crate) struct Tokens {
    config: Arc<config::Tokens>,
    /// Of the digests by which tokens are remembered.
    key: [u8; 32],
    known: Mutex<HashMap<[u8; 32], Arc<Grant>>>,
}

impl Tokens {
    /// Those that are good by this configuration.
    pub(crate) fn new(config: Arc<config::Tokens>) -> Self {
        Self { config, key: rand::random(), known: Mutex::default() }
    }

    /// By which configuration.
    pub(crate) fn config(&self) -> &config::Tokens {
        &self.config
    }

    /// What a token grants at this moment of the wall clock, which whoever
    /// signed it has gone by; `None`: nothing. A good one is verified once.
    pub(crate) fn grant(&self, token: &str, wall: Timestamp) -> Option<Arc<Grant>> {
        if token.len() > LONGEST {
            return None;
        }
        let digest = *blake3::keyed_hash(&self.key, token.as_bytes()).as_bytes();
        if let Some(known) = self.known().get(&digest) {
            return (wall < known.until).then(|| known.clone());
        }
        let grant = Arc::new(self.verified(token, wall)?);
        let mut known = self.known();
        if known.len() >= MOST_KNOWN {
            known.retain(|_, grant| wall < grant.until);
        }
        if known.len() < MOST_KNOWN {
            known.insert(digest, grant.clone());
        }
        Some(grant)
    }

    /// Forgets those that have expired.
    pub(crate) fn sweep(&self, wall: Timestamp) {
        let mut known = self.known();
        known.retain(|_, grant| wall < grant.until);
        if known.len() < known.capacity() / 4 {
            known.shrink_to_fit();
        }
    }

    fn verified(&self, token: &str, wall: Timestamp) -> Option<Grant> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if claims.contains('.') || signature.is_empty() {
            return None;
        }
        let header = Header::read(&object(header)?)?;
        let mut keys = self.config.keys.iter().filter(|key| header.may_be_of(key)).take(MOST_TRIED);
        keys.find(|key| verify(signature, signed.as_bytes(), &key.key, key.algorithm).unwrap_or(false))?;
        self.judge(&object(claims)?, wall)
    }

    /// What the claims of a token that was signed by one of ours come to.
    fn judge(&self, claims: &Object, wall: Timestamp) -> Option<Grant> {
        let leeway = self.config.leeway.as_secs_f64();
        let now = wall.as_ms() as f64 / 1000.0;
        let until = claims.date("exp")?? + leeway;
        let from = claims.date("nbf")?.unwrap_or(0.0) - leeway;
        let signed = claims.date("iat")?.unwrap_or(0.0) - leeway;
        if now >= until || now < from || now < signed {
            return None;
        }
        if let Some(issuer) = &self.config.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return None;
        }
        if !self.is_for_us(claims.get("aud")) {
            return None;
        }
        let user = claims.get("sub").and_then(Value::as_str).filter(|user| is_user(user))?;
        let fixed = claims.get("moorgate").map_or_else(|| Some(Fixed::default()), fixed)?;
        Some(Grant { user: user.into(), fixed, until: Timestamp::from_ms((until * 1000.0) as u64) })
    }

    /// RFC 7519 §4.1.3: whoever does not find itself in `aud` must refuse.
    fn is_for_us(&self, aud: Option<&Value>) -> bool {
        let ours = |one: &Value| {
            one.as_str().is_some_and(|one| self.config.audiences.iter().any(|our| **our == *one))
        };
        match aud {
            None => self.config.audiences.is_empty(),
            Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(ours),
            Some(one) => ours(one),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Grant>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a secret has the shape of a token: what has not is not tried.
pub(crate) fn is_token(secret: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let mut parts = secret.split('.');
    secret.len() <= LONGEST
        && secret.starts_with("ey")
        && parts.by_ref().take(3).filter(|p| part(p)).count() == 3
        && parts.next().is_none()
}

fn object(part: &str) -> Option<Object> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Of a token's header, what counts.
struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Header {
    fn read(header: &Object) -> Option<Self> {
        let algorithm = match header.get("alg")?.as_str()? {
            "EdDSA" => Algorithm::EdDSA,
            "ES256" => Algorithm::ES256,
            "RS256" => Algorithm::RS256,
            // `none`, and those that check with a shared secret, among them.
            _ => return None,
        };
        // Another kind of token, signed by the same key for something else
        // (RFC 8725 §3.11).
        if let Some(typ) = header.get("typ") {
            let typ = typ.as_str()?.to_ascii_lowercase();
            if !matches!(typ.trim_start_matches("application/"), "jwt" | "at+jwt") {
                return None;
            }
        }
        // What must be understood is not (RFC 7515 §4.1.11).
        if header.get("crit").is_some() {
            return None;
        }
        let kid = header.get("kid").map(|kid| kid.as_str().map(str::to_owned).ok_or(()));
        Some(Self { algorithm, kid: kid.transpose().ok()? })
    }

    /// A key without a name may be any; one with another name is not.
    fn may_be_of(&self, key: &TokenKey) -> bool {
        let named = match (&self.kid, &key.kid) {
            (Some(kid), Some(name)) => **kid == **name,
            (Some(_), None) | (None, _) => true,
        };
        self.algorithm == key.algorithm && named
    }
}

#[cfg(test)]
mod tests;
