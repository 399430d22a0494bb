//! Where a client wants to go.
//!
//! Owns: [`Target`] and [`Host`], read from an authority.
//! Must not know: whether it may be reached.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::code::Code;
use super::fault::Fault;

/// Host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

impl Target {
    /// Reads `host:port`; `bad_target` says what is wrong with it.
    pub fn parse(authority: &str) -> Result<Self, Fault> {
        let (host, port) = split(authority)?;
        match port {
            Some(port) if !port.is_empty() => Ok(Self { host, port: parse_port(port)? }),
            _ => Err(bad("the port is missing: write host:port, such as example.com:443")),
        }
    }

    /// Of a host and a port that were told apart already.
    pub fn of(host: Host, port: u16) -> Result<Self, Fault> {
        match port {
            0 => Err(bad("the port must be a number from 1 to 65535")),
            port => Ok(Self { host, port }),
        }
    }

    /// Reads `host[:port]`. An empty port is none (RFC 3986 §3.2.3).
    pub fn parse_with_default(authority: &str, default_port: u16) -> Result<Self, Fault> {
        let (host, port) = split(authority)?;
        match port {
            Some(port) if !port.is_empty() => Ok(Self { host, port: parse_port(port)? }),
            _ => Ok(Self { host, port: default_port }),
        }
    }
}

/// `host:port`, IPv6 in brackets.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// A name or a literal address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// In lower case, without a trailing dot.
    Name(Arc<str>),
    /// A literal address, IPv6 without its brackets.
    Ip(IpAddr),
}

impl Host {
    /// Reads a name, an IPv4 address in plain decimals, or an IPv6 address
    /// with or without brackets. What some resolvers take for an IPv4 address
    /// (`127.1`, `0x7f000001`, `017700000001`) is refused, so that no spelling
    /// of an address can pass for a name.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(|| bad("a [ has no matching ]"))?;
            return v6(inner);
        }
        if text.contains(':') {
            return v6(text);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.rsplit('.').next().is_some_and(is_number) {
            return text.parse::<Ipv4Addr>().map(|ip| Self::Ip(ip.into())).map_err(|_| {
                bad("a host that ends in a number must be an IPv4 address of four plain decimals")
            });
        }
        name(text)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

/// The host, and what follows its colon.
fn split(authority: &str) -> Result<(Host, Option<&str>), Fault> {
    if authority.contains('@') {
        return Err(bad("the target holds an @: a credential has no place there"));
    }
    if authority.starts_with('[') {
        let close = authority.find(']').ok_or_else(|| bad("a [ has no matching ]"))?;
        let (host, rest) = authority.split_at(close + 1);
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err(bad("only a port may follow the ]")),
        };
        return Ok((Host::parse(host)?, port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if port.is_some_and(|port| port.contains(':')) {
        return Err(bad("an IPv6 address needs brackets: [2001:db8::1]:443"));
    }
    Ok((Host::parse(host)?, port))
}

fn parse_port(text: &str) -> Result<u16, Fault> {
    let digits = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port @ 1..) if digits => Ok(port),
        _ => Err(bad("the port must be a number from 1 to 65535")),
    }
}

fn v6(text: &str) -> Result<Host, Fault> {
    match text.parse::<Ipv6Addr>() {
        Ok(ip) => Ok(Host::Ip(ip.into())),
        Err(_) if text.contains('%') => Err(bad("an IPv6 zone has no meaning here")),
        Err(_) => Err(bad("the IPv6 address is unreadable")),
    }
}

/// WHATWG URL, "ends in a number": decimal (octal is decimal digits, too) or
/// hexadecimal behind `0x`, which may be all there is.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// Letters, digits, `-` and `_` (in wide use, though no host name by RFC
/// 1123), within the DNS's limits (RFC 1035 §2.3.4). No IDNA: clients send
/// the `xn--` form.
fn name(text: &str) -> Result<Host, Fault> {
    if text.is_empty() {
        return Err(bad("the host is missing"));
    }
    if text.len() > 253 {
        return Err(bad("the host name is longer than 253 bytes"));
    }
    if !text.is_ascii() {
        return Err(bad("the host name is not ASCII: write it in its xn-- form"));
    }
    for label in text.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(bad("each label of a host name has 1 to 63 bytes"));
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return Err(bad("a host name is made of letters, digits, '-', '_' and '.'"));
        }
    }
    Ok(Host::Name(text.to_ascii_lowercase().into()))
}

/// The text itself is not repeated: it may hold a credential.
fn bad(detail: &'static str) -> Fault {
    Fault::new(Code::BadTarget, detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(authority: &str, expected: Option<&str>) {
        let got = Target::parse(authority);
        assert_eq!(got.as_ref().ok().map(Target::to_string).as_deref(), expected, "{authority}");
        assert!(got.err().is_none_or(|fault| fault.code() == Code::BadTarget));
    }

    #[test]
    fn authorities_are_read() {
        check("example.com:443", Some("example.com:443"));
        check("EXAMPLE.com.:443", Some("example.com:443"));
        check("my_host:1", Some("my_host:1"));
        check("-x.example:65535", Some("-x.example:65535"));
        check("127.0.0.1:80", Some("127.0.0.1:80"));
        check("127.0.0.1.:80", Some("127.0.0.1:80"));
        check("[::1]:80", Some("[::1]:80"));
        check("[::ffff:127.0.0.1]:80", Some("[::ffff:127.0.0.1]:80"));
        check("1e3:80", Some("1e3:80"));
        check("1.2.3.4.example:80", Some("1.2.3.4.example:80"));
        check("example.com:00080", Some("example.com:80"));
    }

    #[test]
    fn ports_are_needed_and_bounded() {
        for text in
            ["h", "h:", "h:0", "h:65536", "h:+80", "h:-1", "h:8 0", "h:000080", "h:80:80", "[::1]", "[::1]:"]
        {
            check(text, None);
        }
    }

    #[test]
    fn no_other_spelling_of_an_ipv4_address() {
        for host in [
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0X7F.1",
            "127.0.0.0x1",
            "017700000001",
            "127.0.0.01",
            "0177.0.0.1",
            "127.0.0.1.1",
            "256.0.0.1",
            "foo.1",
            "foo.0x",
            "1",
            "foo.09",
            "127.0.0.1..",
        ] {
            check(&format!("{host}:80"), None);
            assert!(Host::parse(host).is_err(), "{host}");
        }
    }

    #[test]
    fn hosts_are_strict() {
        for text in [
            "",
            ":80",
            ".:80",
            "a..b:80",
            ".a:80",
            "u:p@h:80",
            "u@h:80",
            "::1:80",
            "[::1:80",
            "[::1]80",
            "[v1.x]:80",
            "[fe80::1%25eth0]:80",
            "[127.0.0.1]:80",
            "[name]:80",
            "a b:80",
            "a/b:80",
            "a%2eb:80",
            "bücher.example:80",
            "a,b:80",
            "[]:80",
        ] {
            check(text, None);
        }
        check(&format!("{}:80", "a".repeat(64)), None);
        check(&format!("{}a:80", "a.".repeat(127)), None);
        check(&format!("{}a:80", "a.".repeat(126)), Some(&format!("{}a:80", "a.".repeat(126))));
    }

    #[test]
    fn a_default_stands_for_a_missing_or_empty_port() {
        let port = |text| Target::parse_with_default(text, 80).map(|target| target.port).ok();
        assert_eq!(port("h"), Some(80));
        assert_eq!(port("h:"), Some(80));
        assert_eq!(port("[::1]"), Some(80));
        assert_eq!(port("h:81"), Some(81));
        assert_eq!(port("h:0"), None);
    }

    proptest! {
        #[test]
        fn what_is_read_prints_as_itself(text in "[a-zA-Z0-9_.:\\[\\]@%x-]{0,40}") {
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(Target::parse(&target.to_string()).unwrap(), target);
            }
        }

        #[test]
        fn nothing_panics(text in ".{0,60}") {
            let _ = Target::parse(&text);
            let _ = Target::parse_with_default(&text, 80);
        }
    }
}
