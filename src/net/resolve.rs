//! Names to addresses.
//!
//! Owns: the one resolver of the process: hosts file, `localhost`, DNS with
//! its cache (by TTL, negative answers too), and how many look-ups may be in
//! flight. Look-ups of one name that come together share one query.
//! Must not know: what an address may be used for.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::core::exit::Family;

/// How many look-ups may be in flight; more wait.
const IN_FLIGHT: usize = 256;

/// How long IPv6 addresses are waited for, once IPv4 ones are known (RFC 8305
/// §3, "Resolution Delay").
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// There is no such name.
    #[error("the name does not exist")]
    NoSuchName,
    /// There is, but without an address (of the family that was asked for).
    #[error("the name has no address")]
    NoAddress,
    /// The name server said so, or could not be asked.
    #[error("the name server failed: {0}")]
    Failed(String),
    /// No answer in time.
    #[error("the name server did not answer in time")]
    TimedOut,
}

/// The shared resolver.
pub(crate) struct Resolver {
    dns: TokioResolver,
    hosts: Hosts,
    slots: Semaphore,
}

impl Resolver {
    /// As the system has it: `/etc/resolv.conf` and `/etc/hosts`, read once.
    /// Without a readable `resolv.conf`, a name server on this host is asked,
    /// as the C library does.
    pub(crate) fn system() -> Result<Self, ResolveError> {
        let hosts = Hosts::from_system().unwrap_or_default();
        match hickory_resolver::system_conf::read_system_conf() {
            Ok((config, options)) => Self::new(config, options, hosts),
            Err(error) => {
                tracing::warn!(%error, "/etc/resolv.conf is unreadable, asking a name server on this host");
                let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
                Self::new(
                    ResolverConfig::from_parts(None, vec![], vec![local]),
                    ResolverOpts::default(),
                    hosts,
                )
            }
        }
    }

    /// Asks this name server alone, with the system's hosts file.
    #[cfg(test)]
    pub(crate) fn with_server(server: std::net::SocketAddr) -> Result<Self, ResolveError> {
        let mut config = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut config.connections {
            connection.port = server.port();
        }
        let config = ResolverConfig::from_parts(None, vec![], vec![config]);
        Self::new(config, ResolverOpts::default(), Hosts::from_system().unwrap_or_default())
    }

    fn new(config: ResolverConfig, mut options: ResolverOpts, hosts: Hosts) -> Result<Self, ResolveError> {
        // Hosts are looked up here: hickory would ask the DNS for the family
        // that a name of the hosts file does not have there.
        options.use_hosts_file = ResolveHosts::Never;
        options.max_active_requests = IN_FLIGHT;
        let dns = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| failure(&error))?;
        Ok(Self { dns, hosts, slots: Semaphore::new(IN_FLIGHT) })
    }

    /// The addresses of a name, of both families or of one, within `limit`.
    /// With `all`, addresses of both families are waited for; without it,
    /// late IPv6 ones are left out.
    pub(crate) async fn look_up(
        &self,
        name: &str,
        family: Option<Family>,
        all: bool,
        limit: Duration,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(known) = self.look_up_here(name) {
            return of_family(known, family);
        }
        // Boxed, so that those who need no DNS make no room for it.
        Box::pin(self.ask(name, family, all, limit)).await
    }

    async fn ask(
        &self,
        name: &str,
        family: Option<Family>,
        all: bool,
        limit: Duration,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let name = Name::from_ascii(name).map_err(|_| ResolveError::NoSuchName)?;
        let deadline = Instant::now() + limit;
        let asked = timeout_at(deadline, async {
            let _slot = self.slots.acquire().await.map_err(|_| ResolveError::TimedOut)?;
            match family {
                Some(Family::V4) => self.query(name, RecordType::A).await,
                Some(Family::V6) => self.query(name, RecordType::AAAA).await,
                None => self.query_both(name, all).await,
            }
        });
        asked.await.unwrap_or(Err(ResolveError::TimedOut))
    }

    /// `localhost` and below (RFC 6761 §6.3), and the hosts file. As with the
    /// C library, the DNS is not asked for what a name lacks there.
    fn look_up_here(&self, name: &str) -> Option<Vec<IpAddr>> {
        if name == "localhost" || name.ends_with(".localhost") {
            return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let name = Name::from_ascii(name).ok()?;
        let both = [RecordType::A, RecordType::AAAA];
        let found = both.map(|kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind)));
        if found.iter().all(Option::is_none) {
            return None;
        }
        let records = found.iter().flatten().flat_map(|lookup| lookup.answers());
        Some(unique(records.filter_map(|record| record.data.ip_addr())))
    }

    async fn query_both(&self, name: Name, all: bool) -> Result<Vec<IpAddr>, ResolveError> {
        let mut v4 = pin!(self.query(name.clone(), RecordType::A));
        let mut v6 = pin!(self.query(name, RecordType::AAAA));
        let mut delay = pin!(tokio::time::sleep(RESOLUTION_DELAY));
        let (mut found4, mut found6) = (None, None);
        poll_fn(|cx| {
            if found4.is_none()
                && let Poll::Ready(found) = v4.as_mut().poll(cx)
            {
                found4 = Some(found);
                delay.as_mut().reset(Instant::now() + RESOLUTION_DELAY);
            }
            if found6.is_none()
                && let Poll::Ready(found) = v6.as_mut().poll(cx)
            {
                found6 = Some(found);
            }
            match (&found4, &found6) {
                (Some(_), Some(_)) => Poll::Ready(()),
                (Some(Ok(_)), None) if !all => delay.as_mut().poll(cx),
                _ => Poll::Pending,
            }
        })
        .await;
        merge(found4.unwrap_or(Ok(vec![])), found6.unwrap_or(Ok(vec![])))
    }

    async fn query(&self, name: Name, kind: RecordType) -> Result<Vec<IpAddr>, ResolveError> {
        let found = self.dns.lookup(name, kind).await.map_err(|error| failure(&error))?;
        let addresses = unique(found.answers().iter().filter_map(|record| record.data.ip_addr()));
        if addresses.is_empty() { Err(ResolveError::NoAddress) } else { Ok(addresses) }
    }
}

/// One family is enough; of two failures the one that may pass is told.
fn merge(
    v4: Result<Vec<IpAddr>, ResolveError>,
    v6: Result<Vec<IpAddr>, ResolveError>,
) -> Result<Vec<IpAddr>, ResolveError> {
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => Ok(v6.into_iter().chain(v4).collect()),
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
        (Err(ResolveError::NoSuchName | ResolveError::NoAddress), Err(other)) => Err(other),
        (Err(error), Err(_)) => Err(error),
    }
}

fn of_family(addresses: Vec<IpAddr>, family: Option<Family>) -> Result<Vec<IpAddr>, ResolveError> {
    let wanted = |ip: &IpAddr| family.is_none_or(|family| family == Family::of(*ip));
    let addresses: Vec<_> = addresses.into_iter().filter(wanted).collect();
    if addresses.is_empty() { Err(ResolveError::NoAddress) } else { Ok(addresses) }
}

fn unique(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut seen = Vec::new();
    for address in addresses {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen
}

fn failure(error: &NetError) -> ResolveError {
    match error {
        NetError::Timeout => ResolveError::TimedOut,
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => match response_code {
            ResponseCode::NXDomain => ResolveError::NoSuchName,
            _ => ResolveError::NoAddress,
        },
        NetError::Dns(DnsError::ResponseCode(code)) => ResolveError::Failed(code.to_string()),
        other => ResolveError::Failed(other.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
