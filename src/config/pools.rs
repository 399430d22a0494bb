//! A pool file as written.
//!
//! Owns: one field for each documented key; the doc comments are the
//! descriptions of the JSON Schema.
//! Must not know: the configuration, imported lists, what a default is.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::read::Later;
use super::values::{Address, FromText, Label, Lifetime, OneOrMany, Span, Whole, deserialize_text, text};
use super::via::Written;
use super::words::{AffinityWord, BoundsEntry, FailoverWord, Labels, PoolName, TargetsEntry};
use crate::core::probe::ProbeUrl;

/// Pools of exits for a Moorgate gateway.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"pools\"")]
#[schemars(title = "Moorgate pools")]
pub(super) struct PoolFile {
    /// For editors; the gateway takes no notice of it.
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    /// The pools of this file.
    pub(super) pools: Vec<Later<PoolEntry>>,
}

/// A named set of exits.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"name\" and \"exits\"")]
#[schemars(rename = "Pool")]
pub(super) struct PoolEntry {
    /// What clients call it. No other pool may have it.
    pub(super) name: PoolName,
    /// How an exit is chosen for a request without a session: each once a
    /// round, by chance, or the one with the fewest connections. Weights count.
    #[schemars(extend("default" = "round_robin"))]
    pub(super) rotation: Option<RotationWord>,
    /// How an exit is chosen for a new session: of two drawn by weight, the
    /// one with fewer sessions; by chance; or by consistent hashing.
    #[schemars(extend("default" = "least_sessions"))]
    pub(super) placement: Option<PlacementWord>,
    /// What happens when a session's exit is down.
    #[schemars(extend("default" = "on"))]
    pub(super) failover: Option<FailoverWord>,
    /// What makes a session where the client names none. Default: the user's.
    pub(super) affinity: Option<AffinityWord>,
    /// Bounds and defaults of its sessions.
    pub(super) sessions: Option<BoundsEntry>,
    /// How many sessions each exit may hold; 0: any number.
    #[schemars(extend("default" = 0))]
    pub(super) max_sessions: Option<Whole<0, 1_000_000_000>>,
    /// How many connections each exit may carry; 0: any number.
    #[schemars(extend("default" = 0))]
    pub(super) max_connections: Option<Whole<0, 1_000_000_000>>,
    /// How long a session's room at its exit stays taken after its end.
    #[schemars(extend("default" = "0s"))]
    pub(super) reuse_after: Option<Span>,
    /// How long an exit is kept from a site (a registrable domain) after a
    /// client has reported that it is no good for it; 0s: it is not.
    #[schemars(extend("default" = "10m"))]
    pub(super) cooldown: Option<Span>,
    /// How many dials a request may cost.
    #[schemars(extend("default" = 3))]
    pub(super) attempts: Option<Whole<1, 100>>,
    /// How long a new or returned exit takes to its full weight.
    #[schemars(extend("default" = "1m"))]
    pub(super) slow_start: Option<Span>,
    /// Holds a user's requests without a session on an exit for a while.
    pub(super) rotate: Option<RotateEntry>,
    /// Labels of all its exits.
    pub(super) labels: Option<Labels<OneOrMany<Label>>>,
    /// Where its requests may go; each field wins over the gateway's.
    pub(super) targets: Option<TargetsEntry>,
    /// When its exits are taken out of use.
    pub(super) health: Option<HealthEntry>,
    /// How long its dials may take; each field wins over the gateway's.
    pub(super) timeouts: Option<DialTimeoutsEntry>,
    /// Statuses by which its upstreams mean themselves, not the target.
    pub(super) exit_fault_status: Option<Vec<Whole<300, 599>>>,
    /// Its exits.
    pub(super) exits: Option<Vec<Later<ExitEntry>>>,
    /// Lists of upstreams as vendors export them, one a line.
    pub(super) import: Option<Vec<String>>,
}

/// How an exit is chosen for a request without a session.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", expecting = "\"round_robin\", \"random\" or \"least_connections\"")]
#[schemars(rename = "Rotation", inline)]
pub(super) enum RotationWord {
    RoundRobin,
    Random,
    LeastConnections,
}

/// How an exit is chosen for a new session.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", expecting = "\"least_sessions\", \"random\" or \"rendezvous\"")]
#[schemars(rename = "Placement", inline)]
pub(super) enum PlacementWord {
    LeastSessions,
    Random,
    Rendezvous,
}

/// Until when a user's requests without a session stay on an exit: whichever
/// is reached first.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"requests\" or \"every\" or both")]
#[schemars(rename = "Rotate")]
pub(super) struct RotateEntry {
    /// So many requests.
    pub(super) requests: Option<Whole<1, 1_000_000_000>>,
    /// So long.
    pub(super) every: Option<Span>,
}

/// When an exit is taken out of use.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "Health")]
pub(super) struct HealthEntry {
    /// So many failures in a row, of whatever sessions, eject it; 0: none do.
    #[schemars(extend("default" = 3))]
    pub(super) eject_after: Option<Whole<0, 1_000_000>>,
    /// For how long.
    #[schemars(extend("default" = "30s"))]
    pub(super) eject_for: Option<Span>,
    /// Looks whether its exits work before somebody needs them.
    pub(super) probe: Option<ProbeEntry>,
    /// What a session does when probes see another address behind its exit:
    /// nothing, move as "failover" says, or fail.
    #[schemars(extend("default" = "ignore"))]
    pub(super) address_change: Option<AddressChangeWord>,
}

/// A request that is made through each exit now and then.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"url\"")]
#[schemars(rename = "Probe")]
pub(super) struct ProbeEntry {
    /// What is asked for. An answer that is an address, or JSON with "ip",
    /// tells the exit's address.
    pub(super) url: UrlText,
    /// How often, for each exit.
    #[schemars(extend("default" = "30s"))]
    pub(super) every: Option<Span>,
    /// How long it may take.
    #[schemars(extend("default" = "5s"))]
    pub(super) timeout: Option<Span>,
}

/// What a session does when the address behind its exit changes.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"ignore\", \"move\" or \"fail\"")]
#[schemars(rename = "AddressChange", inline)]
pub(super) enum AddressChangeWord {
    Ignore,
    Move,
    Fail,
}

/// How long the parts of a dial may take.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "DialTimeouts")]
pub(super) struct DialTimeoutsEntry {
    /// The look-up of a name.
    pub(super) dns: Option<Span>,
    /// Each dial.
    pub(super) connect: Option<Span>,
    /// An upstream's answer.
    pub(super) handshake: Option<Span>,
    /// The target's response head.
    pub(super) response: Option<Span>,
}

/// One way out, with what is to be said of it.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an exit")]
#[schemars(rename = "ExitObject")]
pub(super) struct ExitObject {
    /// What clients call it. Default: made of "via" less its credential.
    pub(super) id: Option<ExitId>,
    /// "direct", an IP address, a CIDR prefix, or an upstream's URL.
    pub(super) via: Written,
    /// Its share.
    #[schemars(extend("default" = 1))]
    pub(super) weight: Option<Whole<1, 1000>>,
    /// Its labels; each wins over the pool's of that key.
    pub(super) labels: Option<Labels<OneOrMany<Label>>>,
    /// The address that origins see.
    pub(super) address: Option<Address>,
    /// How many sessions it may hold; 0: any number. Default: the pool's.
    pub(super) max_sessions: Option<Whole<0, 1_000_000_000>>,
    /// How many connections it may carry; 0: any number. Default: the pool's.
    pub(super) max_connections: Option<Whole<0, 1_000_000_000>>,
    /// It holds an address no longer than this.
    pub(super) max_ttl: Option<Lifetime>,
    /// "active"; "drain": no new session; "off": as if removed.
    #[schemars(extend("default" = "active"))]
    pub(super) state: Option<ModeWord>,
    /// Statuses by which this upstream means itself. Default: the pool's.
    pub(super) exit_fault_status: Option<Vec<Whole<300, 599>>>,
    /// A PEM file: the only roots by which an https upstream's certificate is
    /// judged.
    pub(super) ca: Option<String>,
    /// Takes any certificate of an https upstream.
    #[schemars(extend("default" = false))]
    pub(super) insecure: Option<bool>,
}

/// What the operator wants of an exit.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"active\", \"drain\" or \"off\"")]
#[schemars(rename = "ExitState", inline)]
pub(super) enum ModeWord {
    Active,
    Drain,
    Off,
}

/// An exit: what it leaves through, alone or with more to say of it.
pub(super) struct ExitEntry(pub(super) ExitObject);

impl<'de> Deserialize<'de> for ExitEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExitVisitor;
        impl<'de> Visitor<'de> for ExitVisitor {
            type Value = ExitObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an exit: a string, or an object with \"via\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ExitObject, E> {
                Written::from_text(text).map(ExitObject::plain).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExitObject, A::Error> {
                ExitObject::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(ExitVisitor).map(Self)
    }
}

impl JsonSchema for ExitEntry {
    fn schema_name() -> Cow<'static, str> {
        "Exit".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let via = generator.subschema_for::<Written>();
        let object = generator.subschema_for::<ExitObject>();
        json_schema!({ "description": "One way out.", "anyOf": [via, object] })
    }
}

impl ExitObject {
    /// An exit of which nothing more is said.
    pub(super) fn plain(via: Written) -> Self {
        Self {
            id: None,
            via,
            weight: None,
            labels: None,
            address: None,
            max_sessions: None,
            max_connections: None,
            max_ttl: None,
            state: None,
            exit_fault_status: None,
            ca: None,
            insecure: None,
        }
    }
}

text! {
    Written { "description": "\"direct\", an IP address, a CIDR prefix, or an upstream's URL: http://, https://, \
                              socks5:// or socks5h:// with [user:password@]host:port" }
    UrlText { "pattern": "^https?://" }
    ExitId { "pattern": "^[!-~]{1,300}$" }
}

/// A URL to be asked for.
#[derive(Clone, Debug)]
pub(super) struct UrlText(pub(super) ProbeUrl);

impl FromText for UrlText {
    const EXPECTED: &'static str = "a URL such as \"http://probe.example/ip\"";

    fn from_text(text: &str) -> Result<Self, String> {
        ProbeUrl::parse(text).map(Self)
    }
}

/// An exit's id.
#[derive(Clone, Debug)]
pub(super) struct ExitId(pub(super) String);

impl FromText for ExitId {
    const EXPECTED: &'static str = "1 to 300 printable ASCII characters without a space";

    fn from_text(text: &str) -> Result<Self, String> {
        match (1..=300).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("expected {}", Self::EXPECTED)),
        }
    }
}
