//! Where a shared store is, as a URL.
//!
//! Owns: [`Address`] and its reading.
//! Must not know: how it is connected to.

use std::fmt;
use std::net::Ipv6Addr;

use crate::core::secret::Secret;

/// Where a shared store is, and how to be let in. Its `Display` has no
/// credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What answers there.
    pub kind: Kind,
    /// Whether over TLS.
    pub tls: bool,
    /// One server; several sentinels; some nodes of a cluster.
    pub hosts: Vec<Host>,
    /// The database's number.
    pub db: u32,
    /// The ACL user, where one is named.
    pub user: Option<String>,
    /// Its password, or the server's.
    pub password: Option<Secret>,
    /// The sentinels' own, where they have one.
    pub sentinel_user: Option<String>,
    /// The sentinels' own, where they have one.
    pub sentinel_password: Option<Secret>,
    /// What all keys and channels begin with.
    pub prefix: String,
    /// A file of certificates to trust instead of the system's.
    pub ca: Option<String>,
}

/// What answers at the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One server.
    Single,
    /// Sentinels that know which server has this master name.
    Sentinel {
        /// The master's name.
        master: String,
    },
    /// Nodes of a cluster.
    Cluster,
}

/// A name or address and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, or an address without brackets.
    pub name: String,
    /// The port.
    pub port: u16,
}

/// What all keys begin with where nothing is said.
const PREFIX: &str = "moorgate:";
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;

/// The schemes: name, whether TLS, what answers.
static SCHEMES: [(&str, bool, Kind); 6] = [
    ("redis", false, Kind::Single),
    ("rediss", true, Kind::Single),
    ("redis-sentinel", false, Kind::Sentinel { master: String::new() }),
    ("rediss-sentinel", true, Kind::Sentinel { master: String::new() }),
    ("redis-cluster", false, Kind::Cluster),
    ("rediss-cluster", true, Kind::Cluster),
];

impl Address {
    /// Whether the text is meant as one.
    pub fn is_one(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| SCHEMES.iter().any(|(name, ..)| *name == scheme))
    }

    /// Reads `redis://[user[:password]@]host[:port][/db][?prefix=…&ca=…]`,
    /// `redis-sentinel://…host[:port],…/master[/db]` and
    /// `redis-cluster://…host[:port],…`.
    ///
    /// # Errors
    /// What is wrong with it, without any part of it that may be secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("expected a URL")?;
        let scheme = SCHEMES.iter().find(|(name, ..)| *name == scheme).cloned();
        let (_, tls, kind) = scheme.ok_or(
            "expected one of the schemes redis, rediss, redis-sentinel, \
             rediss-sentinel, redis-cluster and rediss-cluster",
        )?;
        if rest.contains('#') {
            return Err("a \"#\" in a password is written %23".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        if login.contains(['@', '/']) || path.contains('@') {
            return Err("an \"@\" or \"/\" in a password is written %40 or %2F".to_owned());
        }
        let port = if matches!(kind, Kind::Sentinel { .. }) { SENTINEL_PORT } else { PORT };
        let hosts = hosts.split(',').map(|host| Host::parse(host, port)).collect::<Result<Vec<_>, _>>()?;
        if kind == Kind::Single && hosts.len() > 1 {
            return Err(
                "several hosts are sentinels (redis-sentinel://) or a cluster (redis-cluster://)".to_owned()
            );
        }
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let mut address = Self {
            kind,
            tls,
            hosts,
            db: 0,
            user: some(decode(user)?),
            password: some(decode(password)?).map(Secret::new),
            sentinel_user: None,
            sentinel_password: None,
            prefix: PREFIX.to_owned(),
            ca: None,
        };
        if address.user.is_some() && address.password.is_none() {
            return Err(
                "a user needs a password: user:password@host, or :password@host without a user".to_owned()
            );
        }
        address.take_path(path)?;
        query.split('&').filter(|pair| !pair.is_empty()).try_for_each(|pair| address.take_pair(pair))?;
        Ok(address)
    }

    fn take_path(&mut self, path: &str) -> Result<(), String> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        if let Kind::Sentinel { master } = &mut self.kind {
            *master = decode(parts.next().ok_or("expected the master's name behind the hosts: …/mymaster")?)?;
        }
        if let Some(db) = parts.next() {
            self.db = db.parse().map_err(|_| "expected the database's number behind the host, such as /0")?;
        }
        if parts.next().is_some() {
            return Err("the path has more parts than are known".to_owned());
        }
        if self.kind == Kind::Cluster && self.db != 0 {
            return Err("a cluster has database 0 alone".to_owned());
        }
        Ok(())
    }

    fn take_pair(&mut self, pair: &str) -> Result<(), String> {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value)?;
        if value.is_empty() {
            return Err("a parameter has no value".to_owned());
        }
        match key {
            "prefix" if value.len() <= 64 && !value.contains(['{', '}']) => self.prefix = value,
            "prefix" => return Err("a prefix has at most 64 bytes, and no braces".to_owned()),
            "ca" if self.tls => self.ca = Some(value),
            "ca" => return Err("\"ca\" is for TLS: rediss://".to_owned()),
            "sentinel_user" | "sentinel_password" if !matches!(self.kind, Kind::Sentinel { .. }) => {
                return Err(format!("\"{key}\" is for redis-sentinel://"));
            }
            "sentinel_user" => self.sentinel_user = Some(value),
            "sentinel_password" => self.sentinel_password = Some(Secret::new(value)),
            _ => {
                return Err(
                    "expected the parameters prefix, ca, sentinel_user and sentinel_password".to_owned()
                );
            }
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = SCHEMES.iter().find(|(_, tls, kind)| {
            *tls == self.tls && std::mem::discriminant(kind) == std::mem::discriminant(&self.kind)
        });
        write!(f, "{}://", scheme.map_or("redis", |(name, ..)| name))?;
        for (at, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if at == 0 { "" } else { "," })?;
        }
        if let Kind::Sentinel { master } = &self.kind {
            write!(f, "/{master}")?;
        }
        write!(f, "/{}", self.db)
    }
}

impl Host {
    fn parse(text: &str, port: u16) -> Result<Self, String> {
        let wrong = || "expected host or host:port; IPv6 addresses in brackets".to_owned();
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']').ok_or_else(wrong)?;
                name.parse::<Ipv6Addr>().map_err(|_| wrong())?;
                let port = match rest.strip_prefix(':') {
                    Some(port) => port.parse().map_err(|_| wrong())?,
                    None if rest.is_empty() => port,
                    None => return Err(wrong()),
                };
                (name, port)
            }
            None => match text.split_once(':') {
                Some((name, port)) => (name, port.parse().map_err(|_| wrong())?),
                None => (text, port),
            },
        };
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        match !name.is_empty() && name.chars().all(fine) && port != 0 {
            true => Ok(Self { name: name.to_owned(), port }),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Percent-decoding.
fn decode(text: &str) -> Result<String, String> {
    let wrong = || "a \"%\" is written %25".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(wrong);
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn addresses_say_what_they_are() {
        let check = |text: &str, shown: &str| assert_eq!(parse(text).to_string(), shown, "{text}");
        check("redis://localhost", "redis://localhost:6379/0");
        check("redis://localhost/", "redis://localhost:6379/0");
        check("rediss://u:p@[::1]:7000/3?prefix=a:", "rediss://[::1]:7000/3");
        check("redis-sentinel://a,b:1/mymaster", "redis-sentinel://a:26379,b:1/mymaster/0");
        check("rediss-sentinel://:x@a/m/2?ca=f.pem", "rediss-sentinel://a:26379/m/2");
        check("redis-cluster://a:1,b:2,c:3", "redis-cluster://a:1,b:2,c:3/0");
        check("rediss-cluster://a", "rediss-cluster://a:6379/0");
    }

    #[test]
    fn credentials_are_decoded_and_not_shown() {
        let address = parse("redis://ac%2Fme:p%40ss%3aw%25@db.example:6380/1?prefix=x%3A");
        assert_eq!(address.user.as_deref(), Some("ac/me"));
        assert_eq!(address.password.as_ref().map(Secret::expose), Some("p@ss:w%"));
        assert_eq!((&*address.prefix, address.db), ("x:", 1));
        assert!(!format!("{address} {address:?}").contains("p@ss"));
        let sentinel = parse("redis-sentinel://:one@a/m?sentinel_user=s&sentinel_password=two");
        assert_eq!(sentinel.user, None);
        assert_eq!(sentinel.password.as_ref().map(Secret::expose), Some("one"));
        assert_eq!(sentinel.sentinel_password.as_ref().map(Secret::expose), Some("two"));
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        for text in [
            "redis://",
            "redis://:6379",
            "redis://h:0",
            "redis://h:99999",
            "redis://h/x",
            "redis://h/0/1",
            "redis://a,b",
            "redis://hunter2@h",
            "redis://u:hunter2@x@h",
            "redis://u:hunter2/3@h",
            "redis://u:hunter2#@h",
            "redis://u:hunter2%zz@h",
            "redis://h?prefix=",
            "redis://h?prefix={a}",
            "redis://h?ca=f.pem",
            "redis://h?password=hunter2",
            "redis://h?sentinel_password=hunter2",
            "redis-sentinel://h",
            "redis-cluster://h/1",
            "valkey://h",
            "redis://::1",
            "redis://[::1",
            "redis://[::1]x",
        ] {
            let error = Address::parse(text).expect_err(text);
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn schemes_are_known() {
        assert!(Address::is_one("redis://x") && Address::is_one("rediss-cluster://x"));
        assert!(!Address::is_one("file:redis") && !Address::is_one("http://x") && !Address::is_one("memory"));
    }
}
