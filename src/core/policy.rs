//! Where requests may go.
//!
//! Owns: [`TargetPolicy`] and its entries; [`Own`], by which a loop is seen;
//! [`Judged`] and [`Vetted`], which nothing else can make: a dial without a
//! verdict does not compile.
//! Must not know: how names are resolved, how anything is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;

use super::address::{embedded, special};
use super::code::Code;
use super::fault::Fault;
use super::target::{Host, Target};

mod entry;

pub use entry::{Entry, EntryError, parse_ports};

/// Which targets may be reached. The default: every public address, every
/// port but 25.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Where not empty, nothing else may be reached.
    pub allow: Vec<Entry>,
    /// What may not be reached; wins over `allow` and `private`.
    pub deny: Vec<Entry>,
    /// The ports that may be reached; `None`: every port but 25.
    pub ports: Option<Vec<RangeInclusive<u16>>>,
    /// What is let through of the addresses that are not public.
    pub private: Private,
    /// Whether a name that the upstream resolves is resolved here as well.
    pub resolve: Resolve,
}

/// What is let through of the addresses that are not public.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Private {
    /// Nothing.
    #[default]
    No,
    /// Everything.
    Yes,
    /// These, in every spelling.
    Only(Vec<IpNet>),
}

/// Whether a name that the upstream resolves is resolved here as well, and
/// refused for its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolve {
    /// Where the upstream is not at a public address: it stands in our own
    /// network then.
    #[default]
    Auto,
    /// For each upstream.
    Always,
    /// For none.
    Never,
}

impl TargetPolicy {
    /// Judges a target by what can be told of it as it stands: name, port,
    /// literal address. A loop is told first, whatever the policy.
    pub fn judge(self: &Arc<Self>, target: Target, own: &Arc<Own>) -> Result<Judged, Fault> {
        let judged = Judged { target, policy: self.clone(), own: own.clone() };
        match &judged.target.host {
            Host::Ip(ip) => judged.judge_address(*ip)?,
            Host::Name(name) => judged.judge_name(name)?,
        }
        Ok(judged)
    }

    fn port_allowed(&self, port: u16) -> bool {
        match &self.ports {
            None => port != 25,
            Some(ranges) => ranges.iter().any(|range| range.contains(&port)),
        }
    }

    fn excuses(&self, ip: IpAddr) -> bool {
        match &self.private {
            Private::No => false,
            Private::Yes => true,
            Private::Only(nets) => nets.iter().any(|net| net.contains(&ip)),
        }
    }

    /// Whether any address could be refused, once its port and name passed.
    fn minds_addresses(&self) -> bool {
        self.private != Private::Yes || self.allow.iter().chain(&self.deny).any(|entry| entry.is_net())
    }
}

/// A target that was judged by its name, port and literal address.
#[derive(Clone, Debug)]
pub struct Judged {
    target: Target,
    policy: Arc<TargetPolicy>,
    own: Arc<Own>,
}

impl Judged {
    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Judges each address that the target has, to connect to one of them:
    /// keeps those that may be reached.
    pub fn vet(&self, resolved: &[IpAddr]) -> Result<Vetted, Fault> {
        let mut kept = Vec::with_capacity(resolved.len());
        let mut refused = None;
        for ip in resolved {
            match self.judge_address(*ip) {
                Ok(()) => kept.push(ip.to_canonical()),
                Err(fault) if fault.code() == Code::LoopDetected => return Err(fault),
                Err(fault) => refused = Some(fault),
            }
        }
        if kept.is_empty() {
            return Err(refused.unwrap_or_else(|| forbidden("the target has no address")));
        }
        Ok(Vetted { target: self.target.clone(), at: At::Addresses(kept) })
    }

    /// For an upstream that resolves the name itself.
    pub fn vet_unresolved(&self) -> Result<Vetted, Fault> {
        if let Host::Name(name) = &self.target.host
            && !self.name_allowed(name)
        {
            return Err(forbidden(
                "the target's name is not among the allowed ones, and this exit hides its address",
            ));
        }
        Ok(self.upstream())
    }

    /// For an upstream that resolves the name itself, once it was resolved
    /// here as well: since the upstream may take any of the addresses, none of
    /// them may be forbidden.
    pub fn vet_upstream(&self, resolved: &[IpAddr]) -> Result<Vetted, Fault> {
        resolved.iter().try_for_each(|ip| self.judge_address(*ip))?;
        if resolved.is_empty() { self.vet_unresolved() } else { Ok(self.upstream()) }
    }

    /// Whether a name that the upstream resolves is to be resolved here as
    /// well.
    pub fn wants_resolving(&self, upstream_is_private: bool) -> bool {
        let asked = match self.policy.resolve {
            Resolve::Auto => upstream_is_private && self.policy.minds_addresses(),
            Resolve::Always => true,
            Resolve::Never => false,
        };
        asked && matches!(self.target.host, Host::Name(_))
    }

    /// Whether a name that cannot be resolved here is refused, rather than
    /// left to an upstream that may know it.
    pub fn must_resolve(&self) -> bool {
        self.policy.resolve == Resolve::Always
    }

    fn upstream(&self) -> Vetted {
        Vetted { target: self.target.clone(), at: At::Upstream }
    }

    fn judge_name(&self, name: &str) -> Result<(), Fault> {
        let (policy, port) = (&self.policy, self.target.port);
        let localhost = name == "localhost" || name.ends_with(".localhost");
        if localhost && LOOPBACKS.into_iter().any(|ip| self.own.is_own(ip, port)) {
            return Err(looped());
        }
        self.judge_port()?;
        if policy.deny.iter().any(|entry| entry.names(name, port)) {
            return Err(forbidden("the target's name is denied by the target policy"));
        }
        if localhost && !LOOPBACKS.into_iter().any(|ip| policy.excuses(ip)) {
            return Err(forbidden("localhost is not reached through this proxy"));
        }
        // An entry for addresses may still let it through, once it is resolved.
        let by_address = || policy.allow.iter().any(|entry| entry.is_net() && entry.on(port));
        if !self.name_allowed(name) && !by_address() {
            return Err(forbidden("the target is not among the allowed ones"));
        }
        Ok(())
    }

    fn judge_address(&self, ip: IpAddr) -> Result<(), Fault> {
        let (policy, port) = (&self.policy, self.target.port);
        if self.own.is_own(ip, port) {
            return Err(looped());
        }
        self.judge_port()?;
        if policy.deny.iter().any(|entry| entry.touches(ip, port)) {
            return Err(forbidden("the target's address is denied by the target policy"));
        }
        if let Some(special) = special(ip, &|ip| policy.excuses(ip)) {
            return Err(match self.target.host {
                Host::Ip(_) => forbidden(format!("the target is {special}")),
                Host::Name(_) => forbidden(format!("the target's name resolves to {special}")),
            });
        }
        let by_name = matches!(&self.target.host, Host::Name(name) if self.name_allowed(name));
        if !by_name && !policy.allow.is_empty() && !policy.allow.iter().any(|entry| entry.covers(ip, port)) {
            return Err(forbidden("the target is not among the allowed ones"));
        }
        Ok(())
    }

    fn judge_port(&self) -> Result<(), Fault> {
        let port = self.target.port;
        if self.policy.port_allowed(port) {
            return Ok(());
        }
        Err(forbidden(format!("port {port} is not among the allowed ones")))
    }

    fn name_allowed(&self, name: &str) -> bool {
        let allow = &self.policy.allow;
        allow.is_empty() || allow.iter().any(|entry| entry.names(name, self.target.port))
    }
}

/// A target with the addresses that may be dialled, each of them judged.
#[derive(Clone, Debug)]
pub struct Vetted {
    target: Target,
    at: At,
}

impl Vetted {
    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Where it is.
    pub fn at(&self) -> &At {
        &self.at
    }
}

/// Where a vetted target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// At one of these, none of them IPv4-mapped.
    Addresses(Vec<IpAddr>),
    /// Where the upstream finds it.
    Upstream,
}

/// The gateway's own listeners, which no request may go to.
#[derive(Clone, Debug, Default)]
pub struct Own {
    sockets: Vec<SocketAddr>,
    local: Vec<IpAddr>,
}

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

impl Own {
    /// Own listening sockets, and the addresses that the host has: a listener
    /// on an unspecified address listens on all of them.
    pub fn new(sockets: Vec<SocketAddr>, local: Vec<IpAddr>) -> Self {
        let plain = |ip: IpAddr| ip.to_canonical();
        Self {
            sockets: sockets
                .into_iter()
                .map(|socket| SocketAddr::new(plain(socket.ip()), socket.port()))
                .collect(),
            local: local.into_iter().map(plain).collect(),
        }
    }

    /// Whether a connection to this address would come back here, in
    /// whatever spelling.
    pub fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        let mut listeners = self.sockets.iter().filter(|socket| socket.port() == port).peekable();
        if listeners.peek().is_none() {
            return false;
        }
        let ip = ip.to_canonical();
        let carried = embedded(ip).into_iter().map(IpAddr::V4);
        let targets: Vec<_> = std::iter::once(ip).chain(carried).collect();
        listeners.any(|own| targets.iter().any(|ip| self.meets(own.ip(), *ip)))
    }

    /// An IPv6 listener on `::` takes IPv4 as well, and connecting to an
    /// unspecified address is connecting to loopback.
    fn meets(&self, own: IpAddr, ip: IpAddr) -> bool {
        if own == ip {
            return true;
        }
        let here = ip.is_loopback() || ip.is_unspecified();
        match own {
            _ if ip.is_unspecified() && (own.is_loopback() || own.is_unspecified()) => true,
            IpAddr::V4(own) if own.is_unspecified() => ip.is_ipv4() && (here || self.local.contains(&ip)),
            IpAddr::V6(own) if own.is_unspecified() => here || self.local.contains(&ip),
            _ => false,
        }
    }
}

fn looped() -> Fault {
    Fault::new(
        Code::LoopDetected,
        "the target is this gateway itself: name the server that you want to reach",
    )
}

fn forbidden(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(Code::TargetForbidden, detail)
}

#[cfg(test)]
mod tests;
