//! Listeners as written, and the closed sets of words in them.
//!
//! Owns: one field for each documented key; the doc comments are the
//! descriptions of the JSON Schema.
//! Must not know: other listeners, users, files that are named.

use std::borrow::Cow;
use std::fmt;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::file::AccountName;
use super::values::{Binds, FileMode, Label, Lifetime, Net};
use super::words::{FailoverWord, Labels, PoolName};

/// A socket that accepts clients, and what their requests mean where they do
/// not say.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"bind\"")]
#[schemars(rename = "Listener")]
pub(super) struct ListenerEntry {
    /// Address and port, such as "127.0.0.1:8080", a range of ports, or
    /// "unix:" and a path.
    pub(super) bind: Binds,
    /// Who may open a Unix socket's file.
    #[schemars(extend("default" = "0660"))]
    pub(super) mode: Option<FileMode>,
    /// What is spoken. "auto": what the first byte says.
    #[serde(default)]
    pub(super) protocol: Protocol,
    /// TLS, with one certificate or several, of which the first is shown to
    /// clients that name no server.
    pub(super) tls: Option<CertificatesEntry>,
    /// Whether connections begin with a PROXY header that says who the client
    /// is; or the addresses of the balancers, which alone may connect then.
    #[schemars(extend("default" = false))]
    pub(super) proxy_protocol: Option<ProxiedEntry>,
    /// The user of clients without a credential that come from one of its
    /// "clients".
    pub(super) user: Option<AccountName>,
    /// "port": every port is a session of that name.
    pub(super) session: Option<SessionWord>,
    /// The pool of a request that names none.
    pub(super) pool: Option<PoolName>,
    /// The ttl of a session that names none.
    pub(super) ttl: Option<Lifetime>,
    /// The idle time of a session that names none.
    pub(super) idle: Option<Lifetime>,
    /// What happens when a pinned exit is down.
    pub(super) failover: Option<FailoverWord>,
    /// Only exits with these labels.
    pub(super) labels: Option<Labels<Label>>,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"auto\", \"http\" or \"socks5\"")]
pub(crate) enum Protocol {
    /// What the first byte says: SOCKS5, TLS where there is "tls", or HTTP.
    #[default]
    Auto,
    /// HTTP/1, as a proxy; within TLS HTTP/2 as well.
    Http,
    /// SOCKS5.
    Socks5,
}

impl Protocol {
    /// As it is written.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Http => "http",
            Self::Socks5 => "socks5",
        }
    }
}

/// What makes a session where the client names none.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"port\"")]
#[schemars(rename = "ListenerSession", inline)]
pub(super) enum SessionWord {
    Port,
}

/// A certificate and its key.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"cert\" and \"key\"")]
#[schemars(rename = "Certificate")]
pub(super) struct CertificateEntry {
    /// A PEM file with the certificate, and those that it hangs on behind it.
    pub(super) cert: String,
    /// A PEM file with its private key.
    pub(super) key: String,
}

/// One certificate, or a list of them.
pub(super) struct CertificatesEntry {
    pub(super) all: Vec<CertificateEntry>,
    /// They stand in a list.
    pub(super) listed: bool,
}

impl<'de> Deserialize<'de> for CertificatesEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CertificatesVisitor;
        impl<'de> Visitor<'de> for CertificatesVisitor {
            type Value = CertificatesEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with \"cert\" and \"key\", or a list of such")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CertificatesEntry, A::Error> {
                let one = CertificateEntry::deserialize(MapAccessDeserializer::new(map))?;
                Ok(CertificatesEntry { all: vec![one], listed: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CertificatesEntry, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                Ok(CertificatesEntry { all, listed: true })
            }
        }
        deserializer.deserialize_any(CertificatesVisitor)
    }
}

impl JsonSchema for CertificatesEntry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Certificates".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<CertificateEntry>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// Whose word counts for who a client is.
pub(super) enum ProxiedEntry {
    All(bool),
    Only(Vec<IpNet>),
}

impl<'de> Deserialize<'de> for ProxiedEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ProxiedVisitor;
        impl<'de> Visitor<'de> for ProxiedVisitor {
            type Value = ProxiedEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a list of the balancers' addresses and CIDRs")
            }

            fn visit_bool<E: de::Error>(self, all: bool) -> Result<ProxiedEntry, E> {
                Ok(ProxiedEntry::All(all))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ProxiedEntry, A::Error> {
                let mut nets = Vec::new();
                while let Some(Net(net)) = seq.next_element()? {
                    nets.push(net);
                }
                Ok(ProxiedEntry::Only(nets))
            }
        }
        deserializer.deserialize_any(ProxiedVisitor)
    }
}

impl JsonSchema for ProxiedEntry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Proxied".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let net = generator.subschema_for::<Net>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "array", "items": net, "minItems": 1 }] })
    }
}
