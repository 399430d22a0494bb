//! What is written the same way in the configuration and in a pool file.
//!
//! Owns: session bounds, target rules, labels, pools' names and the words of
//! closed sets.
//! Must not know: which of the files it is.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::values::{FromText, Lifetime, Net, deserialize_text, text};
use crate::core::policy::{Entry, EntryError, parse_ports};

/// Bounds and defaults of sessions. Of gateway, user and pool, the narrowest
/// maximum wins.
#[derive(Clone, Copy, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "SessionBounds")]
pub(super) struct BoundsEntry {
    /// The ttl of a session that names none.
    pub(super) default_ttl: Option<Lifetime>,
    /// No ttl below this.
    pub(super) min_ttl: Option<Lifetime>,
    /// No ttl above this; at most 168h.
    pub(super) max_ttl: Option<Lifetime>,
    /// The idle time of a session that names none.
    pub(super) idle: Option<Lifetime>,
}

/// Where requests may go. A pool's own fields win over the gateway's, one by
/// one.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "Targets")]
pub(super) struct TargetsEntry {
    /// Where not empty, nothing else may be reached: addresses, CIDRs, names,
    /// *.name, each with :port if wanted.
    pub(super) allow: Option<Vec<TargetText>>,
    /// What may not be reached; wins over "allow".
    pub(super) deny: Option<Vec<TargetText>>,
    /// The ports that may be reached, as numbers and ranges such as
    /// "8000-8999". Default: every port but 25.
    pub(super) ports: Option<Vec<Ports>>,
    /// Whether addresses that are not public may be reached, or which.
    #[schemars(extend("default" = false))]
    pub(super) private: Option<PrivateEntry>,
    /// Whether names that an upstream resolves are resolved here as well, and
    /// refused for private addresses. "auto": where the upstream itself is at
    /// a private address.
    #[schemars(extend("default" = "auto"))]
    pub(super) resolve: Option<ResolveWord>,
}

/// Whether names that an upstream resolves are resolved here as well.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"auto\", \"always\" or \"never\"")]
#[schemars(rename = "Resolve", inline)]
pub(super) enum ResolveWord {
    Auto,
    Always,
    Never,
}

/// What happens when a pinned exit is down: the session moves (to a sibling
/// first), fails, or moves to an exit of the same address or not at all.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"on\", \"off\" or \"address\"")]
#[schemars(rename = "Failover", inline)]
pub(super) enum FailoverWord {
    On,
    Off,
    Address,
}

/// What makes a session where the client names none.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(
    rename_all = "snake_case",
    expecting = "\"none\", \"client_ip\", \"user\", \"target\" or \"client_ip+target\""
)]
#[schemars(rename = "Affinity", inline)]
pub(super) enum AffinityWord {
    None,
    ClientIp,
    User,
    Target,
    #[serde(rename = "client_ip+target")]
    ClientIpAndTarget,
}

/// Labels by which exits are asked for.
#[derive(Clone, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object of labels")]
#[schemars(rename = "Labels{V}")]
pub(super) struct Labels<V> {
    asn: Option<V>,
    city: Option<V>,
    continent: Option<V>,
    country: Option<V>,
    isp: Option<V>,
    region: Option<V>,
    state: Option<V>,
    tag: Option<V>,
    r#type: Option<V>,
    zip: Option<V>,
}

impl<V> Labels<V> {
    /// Key and value, in the order of
    /// [`LABEL_KEYS`](crate::core::session::LABEL_KEYS).
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &V)> {
        let all = [
            ("asn", &self.asn),
            ("city", &self.city),
            ("continent", &self.continent),
            ("country", &self.country),
            ("isp", &self.isp),
            ("region", &self.region),
            ("state", &self.state),
            ("tag", &self.tag),
            ("type", &self.r#type),
            ("zip", &self.zip),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }
}

text! {
    PoolName { "pattern": "^[!-.0-~]{1,128}$" }
    TargetText {}
}

/// A pool's name. `Moorgate-Exit: <pool>/<exit>` must say where it ends.
#[derive(Clone, Debug)]
pub(super) struct PoolName(pub(super) String);

impl FromText for PoolName {
    const EXPECTED: &'static str = "1 to 128 printable ASCII characters without a space or a slash";

    fn from_text(text: &str) -> Result<Self, String> {
        match (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("expected {}", Self::EXPECTED)),
        }
    }
}

/// An entry of `allow` or `deny`.
#[derive(Clone, Debug)]
pub(super) struct TargetText(pub(super) Entry);

impl FromText for TargetText {
    const EXPECTED: &'static str = "an address, a CIDR, a name or *.name, each with :port if wanted";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: EntryError| error.to_string())
    }
}

/// A port, or a range of them.
#[derive(Clone, Debug)]
pub(super) struct Ports(pub(super) RangeInclusive<u16>);

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortsVisitor;
        impl Visitor<'_> for PortsVisitor {
            type Value = RangeInclusive<u16>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port from 1 to 65535, or a range such as \"8000-8999\"")
            }

            fn visit_u64<E: de::Error>(self, port: u64) -> Result<Self::Value, E> {
                match u16::try_from(port) {
                    Ok(port @ 1..) => Ok(port..=port),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(port), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                parse_ports(text).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(PortsVisitor).map(Self)
    }
}

impl JsonSchema for Ports {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 65535 },
            { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?$" }
        ] })
    }
}

/// What is let through of the addresses that are not public.
#[derive(Clone, Debug)]
pub(super) enum PrivateEntry {
    All(bool),
    Only(Vec<IpNet>),
}

impl<'de> Deserialize<'de> for PrivateEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PrivateVisitor;
        impl<'de> Visitor<'de> for PrivateVisitor {
            type Value = PrivateEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a list of the CIDRs that are let through")
            }

            fn visit_bool<E: de::Error>(self, all: bool) -> Result<PrivateEntry, E> {
                Ok(PrivateEntry::All(all))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PrivateEntry, A::Error> {
                let mut nets = Vec::new();
                while let Some(Net(net)) = seq.next_element()? {
                    nets.push(net);
                }
                Ok(PrivateEntry::Only(nets))
            }
        }
        deserializer.deserialize_any(PrivateVisitor)
    }
}

impl JsonSchema for PrivateEntry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Private".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let net = generator.subschema_for::<Net>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "array", "items": net }] })
    }
}
