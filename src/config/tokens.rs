//! Tokens (JWT), and the keys that verify them.
//!
//! Owns: how they are written: the configuration's `tokens`, a JSON Web Key
//! Set (RFC 7517) and the claim `moorgate`; and [`Tokens`], what they mean.
//! Must not know: a token.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, IgnoredAny};

use super::allowance::UserLimitsEntry;
use super::read::Later;
use super::values::{FromText, Lifetime, OneOrMany, Span, deserialize_text, text};
use super::words::PoolName;
use crate::core::limits::UserLimits;
use crate::core::session::SessionId;
use crate::core::time::Ttl;
use crate::core::username::session;

/// What tokens are let in, as meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) keys: Vec<TokenKey>,
    /// The only one whose tokens count; `None`: anyone's who has a key.
    pub(crate) issuer: Option<Arc<str>>,
    /// A token must be for one of them; empty: it must not say for whom.
    pub(crate) audiences: Vec<Arc<str>>,
    /// Whether a token's user may be one that is not configured.
    pub(crate) any_user: bool,
    /// How far clocks may differ.
    pub(crate) leeway: Duration,
}

/// A public key.
#[derive(Clone)]
pub(crate) struct TokenKey {
    /// Its name, which a token may give.
    pub(crate) kid: Option<Arc<str>>,
    /// The only algorithm that it is used with, whatever a token says.
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
    /// Of its material.
    pub(crate) digest: [u8; 32],
}

impl PartialEq for TokenKey {
    fn eq(&self, other: &Self) -> bool {
        let of = |key: &Self| (key.kid.clone(), key.algorithm, key.digest);
        of(self) == of(other)
    }
}

impl Eq for TokenKey {}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.kid).field("algorithm", &self.algorithm).finish()
    }
}

/// What a token fixes for all that is done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fixed {
    /// The pool's name.
    pub(crate) pool: Option<Box<str>>,
    /// The session.
    pub(crate) session: Option<SessionId>,
    /// How long a session lives.
    pub(crate) ttl: Option<Ttl>,
    /// Limits over and above the user's.
    pub(crate) limits: UserLimits,
}

/// Signed tokens (JWT) instead of secrets: as the password, or as
/// Proxy-Authorization: Bearer.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"keys\"")]
#[schemars(rename = "Tokens")]
pub(super) struct TokensEntry {
    /// Files with the public keys (JSON Web Key Sets): EdDSA (Ed25519), ES256
    /// or RS256.
    pub(super) keys: OneOrMany<Named>,
    /// The only issuer whose tokens count ("iss"). Default: whoever has a key.
    pub(super) issuer: Option<Named>,
    /// For whom a token must be ("aud"), or one of several. Default: tokens
    /// that say for whom they are do not count.
    pub(super) audience: Option<OneOrMany<Named>>,
    /// Whether a token's user ("sub") must be configured.
    #[schemars(extend("default" = "configured"))]
    pub(super) users: Option<UsersWord>,
    /// How far clocks may differ, at most 10m.
    #[schemars(extend("default" = "60s"))]
    pub(super) leeway: Option<Span>,
}

/// Whose tokens are let in.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"configured\" or \"any\"")]
#[schemars(rename = "TokenUsers", inline)]
pub(super) enum UsersWord {
    Configured,
    Any,
}

text! {
    Named { "minLength": 1 }
}

/// A text that is not empty.
#[derive(Clone, Debug)]
pub(super) struct Named(pub(super) String);

impl FromText for Named {
    const EXPECTED: &'static str = "a text that is not empty";

    fn from_text(text: &str) -> Result<Self, String> {
        match text.is_empty() {
            true => Err(format!("expected {}", Self::EXPECTED)),
            false => Ok(Self(text.to_owned())),
        }
    }
}

/// A JSON Web Key Set. What else stands in it is for others.
#[derive(serde::Deserialize)]
#[serde(expecting = "a JSON Web Key Set: an object with \"keys\"")]
pub(super) struct KeySet {
    pub(super) keys: Vec<Later<KeyEntry>>,
}

/// A JSON Web Key. What else stands in it is for others.
#[derive(serde::Deserialize)]
#[serde(expecting = "a JSON Web Key: an object with \"kty\"")]
pub(super) struct KeyEntry {
    pub(super) kty: String,
    pub(super) kid: Option<String>,
    pub(super) alg: Option<String>,
    pub(super) r#use: Option<String>,
    pub(super) key_ops: Option<Vec<String>>,
    pub(super) crv: Option<String>,
    pub(super) x: Option<String>,
    pub(super) y: Option<String>,
    pub(super) n: Option<String>,
    pub(super) e: Option<String>,
    // Private parts, which have no business here.
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

impl KeyEntry {
    /// The first field that must stay with whoever signs.
    pub(super) fn private_part(&self) -> Option<&'static str> {
        let all = [
            ("d", &self.d),
            ("p", &self.p),
            ("q", &self.q),
            ("dp", &self.dp),
            ("dq", &self.dq),
            ("qi", &self.qi),
            ("oth", &self.oth),
            ("k", &self.k),
        ];
        all.into_iter().find(|(_, part)| part.is_some()).map(|(name, _)| name)
    }
}

/// The claim `moorgate`. A field that is not known might be a bound: it makes
/// the token worthless.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    pool: Option<PoolName>,
    session: Option<String>,
    ttl: Option<Lifetime>,
    limits: Option<UserLimitsEntry>,
}

/// What a claim `moorgate` fixes; `None`: it makes no sense.
pub(crate) fn fixed(claim: &serde_json::Value) -> Option<Fixed> {
    let claim = Claim::deserialize(claim).ok()?;
    let limits = claim.limits.unwrap_or_default();
    let session = claim.session.map(|id| session(&id)).transpose().ok()?;
    (limits.burst.is_none() || limits.has_rate()).then(|| Fixed {
        pool: claim.pool.map(|pool| pool.0.into()),
        session,
        ttl: claim.ttl.map(|ttl| ttl.0),
        limits: limits.meant(),
    })
}
