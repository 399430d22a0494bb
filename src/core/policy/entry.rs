//! The entries of `allow` and `deny`, and ranges of ports.
//!
//! Owns: how they are written and what they match.
//! Must not know: which of the two lists they stand in.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::core::address::embedded;
use crate::core::target::Host;

/// An entry of `allow` or `deny`: an address, a CIDR, a name or `*.name`
/// (whatever ends in `.name`), with `:port` if wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    what: What,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Net(IpNet),
    Name(Arc<str>),
    /// With its dot: `.example.com`.
    Under(Box<str>),
}

impl Entry {
    /// Whether it speaks of addresses rather than names.
    pub(super) fn is_net(&self) -> bool {
        matches!(self.what, What::Net(_))
    }

    /// Whether it speaks of this port.
    pub(super) fn on(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    /// Whether it speaks of this name.
    pub(super) fn names(&self, name: &str, port: u16) -> bool {
        self.on(port)
            && match &self.what {
                What::Net(_) => false,
                What::Name(own) => **own == *name,
                What::Under(suffix) => name.ends_with(&**suffix) && name.len() > suffix.len(),
            }
    }

    /// Whether the address, or any that it carries, is within (to deny).
    pub(super) fn touches(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        let What::Net(net) = &self.what else { return false };
        self.on(port)
            && (net.contains(&ip) || embedded(ip).into_iter().any(|ip| net.contains(&IpAddr::V4(ip))))
    }

    /// Whether the address, or all that it carries, is within (to allow).
    pub(super) fn covers(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        let What::Net(net) = &self.what else { return false };
        let carried = embedded(ip);
        let all = !carried.is_empty() && carried.into_iter().all(|ip| net.contains(&IpAddr::V4(ip)));
        self.on(port) && (net.contains(&ip) || all)
    }
}

/// Why an entry was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Neither of the four.
    #[error("expected an address, a CIDR such as 192.0.2.0/24, a name or *.name, each with :port if wanted")]
    Unreadable,
    /// A port that is none.
    #[error("a port is a number from 1 to 65535, a range of ports first-last")]
    Port,
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        if let Some(net) = net(text) {
            return Ok(Self { what: What::Net(net), port: None });
        }
        if let Some((inner, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let net = net(inner).filter(|_| inner.contains(':')).ok_or(EntryError::Unreadable)?;
            return match rest.strip_prefix(':') {
                Some(port) => Ok(Self { what: What::Net(net), port: Some(single_port(port)?) }),
                None if rest.is_empty() => Ok(Self { what: What::Net(net), port: None }),
                None => Err(EntryError::Unreadable),
            };
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(single_port(port)?)),
            None => (text, None),
        };
        if let Some(net) = net(host) {
            return Ok(Self { what: What::Net(net), port });
        }
        let (wild, host) = host.strip_prefix("*.").map_or((false, host), |host| (true, host));
        match Host::parse(host) {
            Ok(Host::Name(name)) if wild => Ok(Self { what: What::Under(format!(".{name}").into()), port }),
            Ok(Host::Name(name)) => Ok(Self { what: What::Name(name), port }),
            _ => Err(EntryError::Unreadable),
        }
    }
}

fn single_port(text: &str) -> Result<u16, EntryError> {
    let range = parse_ports(text)?;
    if text.contains('-') { Err(EntryError::Port) } else { Ok(*range.start()) }
}

/// An address or CIDR. IPv4-mapped ones become IPv4, as addresses do before
/// they are compared.
fn net(text: &str) -> Option<IpNet> {
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
            IpNet::new(v6.addr().to_canonical(), v6.prefix_len() - 96).ok().map(|net| net.trunc())
        }
        net => Some(net.trunc()),
    }
}

/// One range of ports: `443` or `8000-8999`.
pub fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, EntryError> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port @ 1..) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(EntryError::Port),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first)?..=port(last)?;
    if range.is_empty() { Err(EntryError::Port) } else { Ok(range) }
}
