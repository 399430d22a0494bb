//! A connection to a judged target through an exit.
//!
//! Owns: what each kind of exit does to get there, the time that each part
//! may take, and whose fault a failure is (SPEC §6).
//! Must not know: pins, users, how often a dial is tried.

mod direct;
mod http_proxy;
mod probe;
mod socks5_proxy;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::core::address::special;
use crate::core::code::Code;
use crate::core::exit::{Exit, Family, Scheme, Upstream, Via};
use crate::core::fault::{Blame, Fault};
use crate::core::pin::Variant;
use crate::core::policy::{Judged, Vetted};
use crate::core::pool::DialTimeouts;
use crate::core::secret::Secret;
use crate::core::session::fold;
use crate::core::target::Host;
use crate::core::template::Filling;
use crate::core::time::Ttl;
use crate::net::race::{self, ConnectError, Source};
use crate::net::resolve::{ResolveError, Resolver};
use crate::net::tls::TlsClient;
use crate::net::wire::Wire;

/// Makes connections; one for the whole gateway.
pub(crate) struct Dialer {
    resolver: Arc<Resolver>,
    tls: TlsClient,
}

/// What is dialled.
#[derive(Clone, Copy)]
pub(crate) struct DialRequest<'a> {
    /// Through which exit.
    pub exit: &'a Exit,
    /// Which of the exit's many.
    pub variant: &'a Variant,
    /// Where to.
    pub target: &'a Judged,
    /// What the connection is for.
    pub purpose: Purpose,
    /// How long the session lasts, for templates.
    pub ttl: Ttl,
    /// The labels that were asked for, as the client wrote them, for
    /// templates.
    pub asked: &'a [(&'static str, Box<str>)],
    /// How long each part may take.
    pub timeouts: &'a DialTimeouts,
    /// Our name for the `Via` of a CONNECT, if there is to be one.
    pub via: Option<&'a str>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Bytes that nobody reads.
    Tunnel,
    /// Plain HTTP requests, which an HTTP upstream takes in absolute-form.
    Plain,
}

/// A connection on which the first byte may be written.
#[derive(Debug)]
pub(crate) struct Dialed {
    /// The connection.
    pub wire: Wire,
    /// How a plain request is written on it.
    pub form: Form,
    /// How long its parts took.
    pub timings: Timings,
}

/// How a plain request is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `GET /path`, to the target itself.
    Origin,
    /// `GET http://host/path`, to an HTTP upstream.
    Absolute {
        /// The value of `Proxy-Authorization`.
        authorization: Option<Secret>,
    },
}

/// How long the parts of a dial took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timings {
    /// Names to addresses, the upstream's and the target's.
    pub dns: Duration,
    /// TCP connections.
    pub connect: Duration,
    /// TLS and the upstream's answer.
    pub handshake: Duration,
}

/// Why there is no connection, and whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DialFault {
    /// Whose.
    pub blame: Blame,
    /// What the client is told.
    pub fault: Fault,
}

impl Dialer {
    /// A dialer that resolves names with this resolver.
    pub(crate) fn new(resolver: Arc<Resolver>) -> Self {
        Self { resolver, tls: TlsClient::new() }
    }

    /// Opens one connection. One try: what follows from a fault is the
    /// caller's to decide.
    pub(crate) async fn dial(&self, request: DialRequest<'_>) -> Result<Dialed, DialFault> {
        let mut timings = Timings::default();
        let (wire, form) = match &request.exit.via {
            // Boxed, so that those who go out directly make no room for it.
            Via::Upstream(up) => match up.scheme {
                Scheme::Http | Scheme::Https => Box::pin(self.http_proxy(&request, up, &mut timings)).await?,
                Scheme::Socks5 | Scheme::Socks5h => {
                    Box::pin(self.socks5_proxy(&request, up, &mut timings)).await?
                }
            },
            Via::Direct | Via::Address(_) | Via::Prefix(_) => self.direct(&request, &mut timings).await?,
        };
        Ok(Dialed { wire, form, timings })
    }

    /// The target's addresses that may be dialled from this family.
    async fn vet(
        &self,
        request: &DialRequest<'_>,
        family: Option<Family>,
        timings: &mut Timings,
    ) -> Result<Vetted, DialFault> {
        match &request.target.target().host {
            Host::Ip(ip) => request.target.vet(&[*ip]),
            Host::Name(name) => {
                let begun = Instant::now();
                let found = self.resolver.look_up(name, family, false, request.timeouts.dns).await;
                timings.dns += begun.elapsed();
                request.target.vet(&found.map_err(|error| unresolved(&error, family))?)
            }
        }
        .map_err(target_fault)
    }

    /// The verdict on a target whose name the upstream resolves.
    async fn vet_for_upstream(
        &self,
        request: &DialRequest<'_>,
        upstream: &[IpAddr],
        timings: &mut Timings,
    ) -> Result<Vetted, DialFault> {
        let target = request.target;
        let private = upstream.iter().any(|ip| special(*ip, &|_| false).is_some());
        let Host::Name(name) = &target.target().host else {
            return target.vet_unresolved().map_err(target_fault);
        };
        if !target.wants_resolving(private) {
            return target.vet_unresolved().map_err(target_fault);
        }
        let begun = Instant::now();
        let found = self.resolver.look_up(name, None, true, request.timeouts.dns).await;
        timings.dns += begun.elapsed();
        match found {
            Ok(addresses) => target.vet_upstream(&addresses).map_err(target_fault),
            // The look-up is there to refuse private answers, and there is
            // none. The upstream resolves for itself in any case.
            Err(_) if !target.must_resolve() => target.vet_unresolved().map_err(target_fault),
            Err(error) => Err(unresolved(&error, None)),
        }
    }

    /// Where the upstream is. It is the operator's word, and no target.
    async fn upstream_addresses(
        &self,
        up: &Upstream,
        timeouts: &DialTimeouts,
        timings: &mut Timings,
    ) -> Result<Vec<IpAddr>, DialFault> {
        let name = match &up.host {
            Host::Ip(ip) => return Ok(vec![*ip]),
            Host::Name(name) => name,
        };
        let begun = Instant::now();
        let found = self.resolver.look_up(name, None, false, timeouts.dns).await;
        timings.dns += begun.elapsed();
        found.map_err(|error| match error {
            ResolveError::TimedOut => {
                exit_fault(Code::ExitTimeout, "the upstream's name was not resolved in time")
            }
            other => exit_fault(Code::ExitFailed, format!("the upstream's name does not resolve: {other}")),
        })
    }

    async fn connect_upstream(
        &self,
        addresses: &[IpAddr],
        up: &Upstream,
        timeouts: &DialTimeouts,
        timings: &mut Timings,
    ) -> Result<TcpStream, DialFault> {
        let begun = Instant::now();
        let connected = race::connect(addresses, up.port, Source::Any, timeouts.connect).await;
        timings.connect += begun.elapsed();
        connected.map_err(|error| match error {
            ConnectError::OutOfSockets => out_of_sockets(),
            ConnectError::NoPort => no_port(),
            ConnectError::TimedOut => exit_fault(Code::ExitTimeout, "the upstream did not accept in time"),
            other => exit_fault(Code::ExitFailed, format!("the upstream cannot be reached: {other}")),
        })
    }
}

/// What an upstream wants to see, filled in.
struct Login {
    user: Secret,
    password: Secret,
}

impl Login {
    fn of(request: &DialRequest<'_>, up: &Upstream) -> Option<Self> {
        let credential = up.credential.as_ref()?;
        let token = match request.variant {
            Variant::Token(token) => token,
            Variant::None | Variant::Address(_) => "",
        };
        let label = |key: &'static str| label_value(request, key);
        let filling = Filling { token, ttl: request.ttl, label: &label };
        Some(Self { user: credential.user.fill(&filling), password: credential.password.fill(&filling) })
    }

    /// Whether a text of the upstream's repeats any of it. A short word is
    /// looked for as a word: the user `a` is not told by every answer.
    fn is_told_by(&self, text: &str) -> bool {
        [&self.user, &self.password].into_iter().any(|secret| {
            let secret = secret.expose();
            let short = secret.len() < 4 && secret.bytes().all(|b| b.is_ascii_alphanumeric());
            match short {
                true => {
                    !secret.is_empty()
                        && text.split(|c: char| !c.is_alphanumeric()).any(|word| word == secret)
                }
                false => text.contains(secret),
            }
        })
    }
}

/// A label's value: of the exit's the one that was asked for, as the pool
/// file writes it; else what was asked for, as the client wrote it; else the
/// exit's first.
fn label_value(request: &DialRequest<'_>, key: &'static str) -> Option<String> {
    let labels = &request.exit.labels;
    let Some((_, asked)) = request.asked.iter().find(|(k, _)| *k == key) else {
        return labels.value(key).map(str::to_owned);
    };
    let written = labels.iter().find(|(k, value)| *k == key && fold(value) == fold(asked));
    Some(written.map_or(&**asked, |(_, value)| value).to_owned())
}

/// Failures of an established upstream are its token's where there are tokens.
fn answer_blame(exit: &Exit) -> Blame {
    if exit.via.is_template() { Blame::Token } else { Blame::Exit }
}

fn target_fault(fault: Fault) -> DialFault {
    DialFault { blame: Blame::Target, fault }
}

fn exit_fault(code: Code, detail: impl Into<std::borrow::Cow<'static, str>>) -> DialFault {
    DialFault { blame: Blame::Exit, fault: Fault::new(code, detail) }
}

/// Silence after the upstream accepted.
fn silence() -> DialFault {
    let detail = "the upstream accepted the connection and did not answer in time";
    DialFault { blame: Blame::Silence, fault: Fault::new(Code::TargetTimeout, detail) }
}

/// Neither the exit's fault nor the target's: no exit is ejected for it, and
/// no pin moved.
fn out_of_sockets() -> DialFault {
    target_fault(Fault::new(Code::ExitFailed, "the gateway is out of sockets: try again later"))
}

/// The kernel has connections to this destination from every port that it may
/// take (`net.ipv4.ip_local_port_range`).
fn no_port() -> DialFault {
    let detail = "the exit has no source port left for this target: use more addresses, or come back later";
    let fault = Fault::new(Code::NoExit, detail).retry_after(Duration::from_secs(1));
    DialFault { blame: Blame::Full, fault }
}

fn unresolved(error: &ResolveError, family: Option<Family>) -> DialFault {
    let (code, detail) = match (error, family) {
        (ResolveError::TimedOut, _) => {
            (Code::TargetTimeout, "the target's name was not resolved in time".to_owned())
        }
        (ResolveError::NoAddress, Some(family)) => (Code::TargetUnreachable, other_family(family)),
        (error, _) => (Code::TargetUnresolvable, format!("the target's name does not resolve: {error}")),
    };
    target_fault(Fault::new(code, detail))
}

fn other_family(family: Family) -> String {
    let name = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    format!("the target has no {name} address, and this exit has no other")
}

#[cfg(test)]
mod tests;
