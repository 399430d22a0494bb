//! One way out.
//!
//! Owns: [`Exit`], what it leaves through ([`Via`]) and how an id is derived
//! from that.
//! Must not know: whether it works, who uses it, how it is dialled.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::pin::ExitName;
use super::session::{Filter, fold};
use super::target::Host;
use super::template::Template;
use super::time::Ttl;

/// What an exit leaves through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// The host's own address.
    Direct,
    /// One source address.
    Address(IpAddr),
    /// A source prefix: an address for each session.
    Prefix(IpNet),
    /// An upstream proxy.
    Upstream(Arc<Upstream>),
}

/// How an upstream proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP over TCP.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS5; names are resolved by the gateway.
    Socks5,
    /// SOCKS5; names are resolved by the upstream.
    Socks5h,
}

impl Scheme {
    /// As in a URL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    /// Whether the upstream resolves names itself.
    pub fn resolves(self) -> bool {
        self != Self::Socks5
    }
}

/// An upstream proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it is.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// What it wants to see.
    pub credential: Option<Credential>,
    /// How its certificate is judged (`https` alone).
    pub trust: Trust,
}

/// An upstream's credential; with placeholders it is a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The user.
    pub user: Template,
    /// The password.
    pub password: Template,
}

/// How a TLS upstream's certificate is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// By the system's roots.
    #[default]
    System,
    /// By these roots alone (PEM).
    Roots(Arc<[u8]>),
    /// Not at all.
    Anything,
}

impl Via {
    /// The upstream, where there is one.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        match self {
            Self::Upstream(upstream) => Some(upstream),
            _ => None,
        }
    }

    /// Whether its credential has `{session}`: as many exits as tokens.
    pub fn is_template(&self) -> bool {
        self.session_token().is_some()
    }

    /// Whether its credential depends on the session or its labels.
    pub fn has_placeholders(&self) -> bool {
        let credential = self.upstream().and_then(|upstream| upstream.credential.as_ref());
        credential.is_some_and(|own| own.user.has_placeholders() || own.password.has_placeholders())
    }

    /// Whether its credential has a placeholder for this label.
    fn asks_for(&self, key: &str) -> bool {
        let credential = self.upstream().and_then(|up| up.credential.as_ref());
        credential.is_some_and(|own| own.user.asks_for(key) || own.password.asks_for(key))
    }

    /// How a token for it is drawn.
    pub fn session_token(&self) -> Option<super::template::TokenShape> {
        let credential = self.upstream()?.credential.as_ref()?;
        credential.user.token_shape().or_else(|| credential.password.token_shape())
    }

    /// Whether names are resolved by the upstream rather than here.
    pub fn resolves(&self) -> bool {
        self.upstream().is_some_and(|up| up.scheme.resolves())
    }

    /// The id of an exit that names none: `via` less its credentials.
    pub fn derived_id(&self) -> String {
        self.to_string()
    }
}

/// `via` as written, less credentials.
impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Prefix(net) => write!(f, "{net}"),
            Self::Upstream(up) => match &up.host {
                Host::Ip(IpAddr::V6(ip)) => write!(f, "{}://[{ip}]:{}", up.scheme.name(), up.port),
                host => write!(f, "{}://{host}:{}", up.scheme.name(), up.port),
            },
        }
    }
}

/// What the operator wants of an exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In use.
    #[default]
    Active,
    /// No new pin and no unpinned request; live pins stay to their end.
    Drain,
    /// As if removed.
    Off,
}

impl Mode {
    /// The word in files and in the operator's API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Drain => "drain",
            Self::Off => "off",
        }
    }

    /// What a word means.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Active, Self::Drain, Self::Off].into_iter().find(|mode| mode.word() == word)
    }
}

/// An exit's labels: key and value as written; a key may have several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(&'static str, Box<str>, Box<str>)>);

impl Labels {
    /// From key and value as written, in order.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'static str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k, v.into(), fold(v).into())).collect())
    }

    /// Whether a value, as folded, is among those under `key`.
    fn have(&self, key: &str, value: &str) -> bool {
        self.0.iter().any(|(k, _, v)| *k == key && **v == *value)
    }

    /// The first value under `key`, as written.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, ..)| *k == key).map(|(_, written, _)| &**written)
    }

    /// Key and value as compared.
    pub fn folded(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(k, _, folded)| (*k, &**folded))
    }

    /// Key and value as written.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(k, written, _)| (*k, &**written))
    }
}

/// One way out, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its identity.
    pub name: ExitName,
    /// What it leaves through.
    pub via: Via,
    /// Its share: 1 to 1000.
    pub weight: u32,
    /// Its labels, the pool's among them.
    pub labels: Labels,
    /// The address that origins see, where the file says so or `via` does.
    pub address: Option<IpAddr>,
    /// How many pins it may hold; 0: any number.
    pub max_sessions: u32,
    /// How many connections it may carry; 0: any number.
    pub max_connections: u32,
    /// It holds an address no longer than this.
    pub max_ttl: Option<Ttl>,
    /// What the operator wants of it.
    pub mode: Mode,
    /// Answers of the upstream that mean the exit itself.
    pub fault_status: Arc<[u16]>,
    /// Tells whether `via` (its credential too) is still the one that a pin
    /// was made with; stable across restarts.
    pub digest: u32,
}

impl Exit {
    /// Whether it can serve a request that asks for these labels: it has
    /// them, or its template passes the wish on and it is not labelled
    /// otherwise.
    pub fn meets(&self, filter: &Filter) -> bool {
        filter.iter().all(|(key, value)| self.labels.have(key, value) || self.passes_on(key))
    }

    /// Whether it meets any value of a label key.
    pub fn passes_on(&self, key: &str) -> bool {
        self.labels.value(key).is_none() && self.via.asks_for(key)
    }

    /// The address that origins see, when it is known.
    pub fn address_for(&self, variant: &super::pin::Variant) -> Option<IpAddr> {
        match variant {
            super::pin::Variant::Address(address) => Some(*address),
            _ => self.address,
        }
    }

    /// Whether it leaves from addresses of this family alone.
    pub fn family(&self) -> Option<Family> {
        match self.via {
            Via::Address(IpAddr::V4(_)) | Via::Prefix(IpNet::V4(_)) => Some(Family::V4),
            Via::Address(IpAddr::V6(_)) | Via::Prefix(IpNet::V6(_)) => Some(Family::V6),
            Via::Direct | Via::Upstream(_) => None,
        }
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}
