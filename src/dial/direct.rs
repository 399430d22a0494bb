//! Out through an address of this host: its own, a source address, one of a
//! source prefix.
//!
//! Owns: the choice of the source, and whose fault a failed connection is.
//! Must not know: upstreams.

use std::net::IpAddr;

use tokio::time::Instant;

use super::{
    DialFault, DialRequest, Dialer, Form, Timings, exit_fault, no_port, other_family, out_of_sockets,
    target_fault,
};
use crate::core::code::Code;
use crate::core::exit::{Exit, Family, Via};
use crate::core::fault::Fault;
use crate::core::pin::Variant;
use crate::core::policy::{At, Vetted};
use crate::net::race::{self, ConnectError, Source};
use crate::net::route;
use crate::net::wire::Wire;

impl Dialer {
    pub(super) async fn direct(
        &self,
        request: &DialRequest<'_>,
        timings: &mut Timings,
    ) -> Result<(Wire, Form), DialFault> {
        let source = source(request.exit, request.variant)?;
        let family = source.address().map(Family::of);
        let vetted = self.vet(request, family, timings).await?;
        let addresses = addresses(&vetted, family);
        if let (Some(family), true) = (family, addresses.is_empty()) {
            return Err(target_fault(Fault::new(Code::TargetUnreachable, other_family(family))));
        }
        let begun = Instant::now();
        let port = vetted.target().port;
        let connected = race::connect(&addresses, port, source, request.timeouts.connect).await;
        timings.connect += begun.elapsed();
        match connected {
            Ok(tcp) => Ok((Wire::dialled(tcp), Form::Origin)),
            Err(error) => Err(failure(error, source).await),
        }
    }
}

fn source(exit: &Exit, variant: &Variant) -> Result<Source, DialFault> {
    match (&exit.via, variant) {
        (Via::Address(ip), _) => Ok(Source::Address(*ip)),
        (Via::Prefix(net), Variant::Address(ip)) if net.contains(ip) => Ok(Source::Routed(*ip)),
        // A pin that is older than the exit's prefix, until it is moved.
        (Via::Prefix(_), _) => {
            Err(exit_fault(Code::ExitFailed, "the session's address is not of this prefix"))
        }
        (Via::Direct | Via::Upstream(_), _) => Ok(Source::Any),
    }
}

fn addresses(vetted: &Vetted, family: Option<Family>) -> Vec<IpAddr> {
    match vetted.at() {
        At::Addresses(all) => {
            let reachable = |ip: &&IpAddr| family.is_none_or(|family| family == Family::of(**ip));
            all.iter().filter(reachable).copied().collect()
        }
        At::Upstream => Vec::new(),
    }
}

/// The target's fault, unless the source is of no use for any target.
async fn failure(error: ConnectError, source: Source) -> DialFault {
    let of_target = |code, detail: &'static str| target_fault(Fault::new(code, detail));
    let lost = matches!(error, ConnectError::TimedOut | ConnectError::Unreachable);
    if lost && matches!(source, Source::Routed(_)) && !route::comes_back(source).await {
        return exit_fault(Code::ExitFailed, "the exit's prefix is not routed to this host");
    }
    match error {
        ConnectError::OutOfSockets => out_of_sockets(),
        ConnectError::NoPort => no_port(),
        ConnectError::TimedOut => of_target(Code::TargetTimeout, "the target did not accept in time"),
        ConnectError::Refused => of_target(Code::TargetRefused, "the target refused the connection"),
        ConnectError::Source => {
            exit_fault(Code::ExitFailed, "the exit's address cannot be bound on this host")
        }
        ConnectError::Unreachable if !route::leads_anywhere(source).await => {
            exit_fault(Code::ExitFailed, "the exit's address has no route to anywhere")
        }
        ConnectError::Unreachable => of_target(Code::TargetUnreachable, "there is no route to the target"),
    }
}
