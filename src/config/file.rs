//! The configuration as written.
//!
//! Owns: one field for each documented key; the doc comments are the
//! descriptions of the JSON Schema.
//! Must not know: defaults that depend on other fields, other files.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::allowance::UserLimitsEntry;
use super::listeners::ListenerEntry;
use super::read::Later;
use super::tokens::TokensEntry;
use super::values::{
    FromText, Lifetime, Net, SecretText, Size, Sockets, Span, Whole, deserialize_text, text,
};
use super::words::{AffinityWord, BoundsEntry, PoolName, TargetsEntry};
use crate::core::secret::Secret;
use crate::core::session::is_user;
use crate::core::shared::Address as StoreAddress;

/// The configuration of a Moorgate gateway. Everything has a default.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(title = "Moorgate configuration")]
pub(super) struct ConfigFile {
    /// For editors; the gateway takes no notice of it.
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    /// The sockets that accept clients.
    pub(super) listeners: Option<Vec<Later<ListenerEntry>>>,
    /// The operator's listener; null: there is none.
    #[serde(default = "AdminEntry::given")]
    pub(super) admin: Option<AdminEntry>,
    /// A pool file, or a folder of pool files. Default: "pools" where that
    /// exists, else one pool "default" of one exit "direct".
    pub(super) pools: Option<String>,
    /// The accounts. Without any, the gateway listens on loopback alone.
    pub(super) users: Option<Vec<Later<UserEntry>>>,
    /// Signed tokens (JWT) instead of secrets.
    pub(super) tokens: Option<TokensEntry>,
    /// Sessions of the whole gateway.
    pub(super) sessions: Option<SessionsEntry>,
    /// Where requests may go.
    pub(super) targets: Option<TargetsEntry>,
    /// How long each part of a connection may take.
    pub(super) timeouts: Option<TimeoutsEntry>,
    /// Bounds of what the gateway takes on.
    pub(super) limits: Option<LimitsEntry>,
    /// Whether answers say which exit and session they used.
    #[schemars(extend("default" = true))]
    pub(super) announce: Option<bool>,
    /// Whether forwarded requests carry a Via field.
    #[schemars(extend("default" = false))]
    pub(super) via: Option<bool>,
    /// What is logged, and how.
    pub(super) log: Option<LogEntry>,
}

/// The operator's listener.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object, or null for none")]
#[schemars(rename = "Admin")]
pub(super) struct AdminEntry {
    /// Address and port; without a token, on loopback.
    #[schemars(extend("default" = "127.0.0.1:9090"))]
    pub(super) bind: Option<Sockets>,
    /// What an operator sends as Authorization: Bearer.
    pub(super) token: Option<BearerText>,
}

impl AdminEntry {
    #[expect(clippy::unnecessary_wraps, reason = "null means something else than absence")]
    fn given() -> Option<Self> {
        Some(Self::default())
    }
}

/// An account.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"name\" and \"password\"")]
#[schemars(rename = "User")]
pub(super) struct UserEntry {
    /// What the username begins with.
    pub(super) name: AccountName,
    /// The secret, or a PHC string of argon2 (moorgate hash-password).
    pub(super) password: SecretText,
    /// The pools that it may use, the default one first. Default: all.
    pub(super) pools: Option<Vec<PoolName>>,
    /// The pool of a request that names none. Default: the first of "pools".
    pub(super) default_pool: Option<PoolName>,
    /// Addresses and prefixes from which it may come. Default: any.
    pub(super) clients: Option<Vec<Net>>,
    /// What makes a session where the client names none.
    pub(super) affinity: Option<AffinityWord>,
    /// Bounds and defaults of its sessions.
    pub(super) sessions: Option<BoundsEntry>,
    /// What it may use up.
    pub(super) limits: Option<UserLimitsEntry>,
}

/// Sessions of the whole gateway.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "Sessions")]
pub(super) struct SessionsEntry {
    /// The ttl of a session that names none.
    #[schemars(extend("default" = "10m"))]
    pub(super) default_ttl: Option<Lifetime>,
    /// No ttl below this.
    #[schemars(extend("default" = "1s"))]
    pub(super) min_ttl: Option<Lifetime>,
    /// No ttl above this; at most 168h.
    #[schemars(extend("default" = "168h"))]
    pub(super) max_ttl: Option<Lifetime>,
    /// The idle time of a session that names none. Default: none.
    pub(super) idle: Option<Lifetime>,
    /// Where pins are kept: "memory", "file:" and a folder, or the URL of a
    /// Redis or Valkey that other gateways use as well.
    #[schemars(extend("default" = "file:moorgate-data"))]
    pub(super) store: Option<StoreText>,
    /// What a seen success survives: "journal" a crash of the gateway, and of
    /// a loss of power all but the last 50 ms; "fsync" also that.
    #[schemars(extend("default" = "journal"))]
    pub(super) durability: Option<DurabilityWord>,
    /// What is done with sessions that this gateway does not know while a
    /// shared store is out of reach: "refuse" them, or decide "local" and tell
    /// the store later.
    #[schemars(extend("default" = "refuse"))]
    pub(super) store_down: Option<StoreDownWord>,
}

/// What is done without the shared store.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"refuse\" or \"local\"")]
#[schemars(rename = "StoreDown", inline)]
pub(super) enum StoreDownWord {
    Refuse,
    Local,
}

/// What a seen success survives.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"journal\" or \"fsync\"")]
#[schemars(rename = "Durability", inline)]
pub(super) enum DurabilityWord {
    Journal,
    Fsync,
}

/// How long each part of a connection may take.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "Timeouts")]
pub(super) struct TimeoutsEntry {
    /// A request's head, from the connection's first moment.
    #[schemars(extend("default" = "10s"))]
    pub(super) head: Option<Span>,
    /// A request's body without a byte.
    #[schemars(extend("default" = "60s"))]
    pub(super) body: Option<Span>,
    /// The look-up of a name.
    #[schemars(extend("default" = "5s"))]
    pub(super) dns: Option<Span>,
    /// Each dial.
    #[schemars(extend("default" = "5s"))]
    pub(super) connect: Option<Span>,
    /// An upstream's answer.
    #[schemars(extend("default" = "20s"))]
    pub(super) handshake: Option<Span>,
    /// The target's response head.
    #[schemars(extend("default" = "120s"))]
    pub(super) response: Option<Span>,
    /// A client's connection between requests.
    #[schemars(extend("default" = "60s"))]
    pub(super) keep_alive: Option<Span>,
    /// A tunnel without a byte.
    #[schemars(extend("default" = "10m"))]
    pub(super) idle: Option<Span>,
    /// What tunnels and requests are given at the end; "0s": nothing.
    #[schemars(extend("default" = "30s"))]
    pub(super) drain: Option<Span>,
}

/// Bounds of what the gateway takes on.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "Limits")]
pub(super) struct LimitsEntry {
    /// Client connections open at once.
    #[schemars(extend("default" = 50_000))]
    pub(super) connections: Option<Whole<1, 10_000_000>>,
    /// Of one client address; 0: any number.
    #[schemars(extend("default" = 0))]
    pub(super) connections_per_client: Option<Whole<0, 10_000_000>>,
    /// Live pins.
    #[schemars(extend("default" = 5_000_000))]
    pub(super) sessions: Option<Whole<1, 1_000_000_000>>,
    /// Wrong credentials of one client address (IPv6: each /64) before
    /// further ones get 429; 0: any number.
    #[schemars(extend("default" = 30))]
    pub(super) auth_failures_per_minute: Option<Whole<0, 1_000_000>>,
    /// A request's head: 1 KiB to 1 MiB.
    #[schemars(extend("default" = "64KiB"))]
    pub(super) head_bytes: Option<Size>,
    /// A request's fields.
    #[schemars(extend("default" = 100))]
    pub(super) head_fields: Option<Whole<8, 10_000>>,
}

/// What is logged, and how.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "Log")]
pub(super) struct LogEntry {
    /// For people or for programs.
    #[schemars(extend("default" = "text"))]
    pub(super) format: Option<FormatWord>,
    /// Whether each request leaves a record.
    #[schemars(extend("default" = true))]
    pub(super) access: Option<bool>,
}

/// How a log line is written.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"text\" or \"json\"")]
#[schemars(rename = "LogFormat", inline)]
pub(super) enum FormatWord {
    Text,
    Json,
}

text! {
    AccountName { "pattern": "^[A-Za-z0-9._-]{1,64}$" }
    StoreText { "pattern": "^(memory|file:.+|rediss?(-sentinel|-cluster)?://.+)$" }
    BearerText { "pattern": "^[!-~]+$" }
}

/// A user's name (SPEC §2).
#[derive(Clone, Debug)]
pub(super) struct AccountName(pub(super) String);

impl FromText for AccountName {
    const EXPECTED: &'static str = "1 to 64 of the characters A-Z a-z 0-9 . _ -";

    fn from_text(text: &str) -> Result<Self, String> {
        match is_user(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("expected {}", Self::EXPECTED)),
        }
    }
}

/// A secret that goes into a field after `Bearer` (RFC 6750).
#[derive(Clone, Debug)]
pub(super) struct BearerText(pub(super) Secret);

impl FromText for BearerText {
    const EXPECTED: &'static str = "a token of visible ASCII characters without spaces";

    fn from_text(text: &str) -> Result<Self, String> {
        match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(Secret::new(text))),
            false => Err(format!("expected {}", Self::EXPECTED)),
        }
    }
}

/// Where pins are kept.
#[derive(Clone, Debug)]
pub(super) enum StoreText {
    Memory,
    Folder(String),
    Shared(Box<StoreAddress>),
}

impl FromText for StoreText {
    const EXPECTED: &'static str = "\"memory\", \"file:\" and a folder, or a URL redis://…";

    fn from_text(text: &str) -> Result<Self, String> {
        if StoreAddress::is_one(text) {
            return StoreAddress::parse(text).map(|address| Self::Shared(Box::new(address)));
        }
        match text.strip_prefix("file:") {
            Some(folder) if !folder.is_empty() => Ok(Self::Folder(folder.to_owned())),
            None if text == "memory" => Ok(Self::Memory),
            _ => Err(format!("expected {}", Self::EXPECTED)),
        }
    }
}
