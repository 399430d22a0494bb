//! One TCP connection out of several addresses.
//!
//! Owns: which address is tried when (RFC 8305), and what the failures of all
//! come to; how a socket is bound to a source address.
//! Must not know: what the connection is for, whose fault a failure is.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::sockopt;

/// How long an attempt has before the next address is tried beside it (RFC
/// 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// A name with more addresses than this has enough of them.
const MOST_ADDRESSES: usize = 16;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Wherever the system says.
    Any,
    /// This address, which an interface has.
    Address(IpAddr),
    /// This address of a prefix that is routed to this host, though no
    /// interface may have the address itself.
    Routed(IpAddr),
}

impl Source {
    /// The address, where there is one.
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Any => None,
            Self::Address(ip) | Self::Routed(ip) => Some(ip),
        }
    }
}

/// What the failures of all addresses come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectError {
    /// At least one did not answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// None timed out, and at least one refused or reset.
    #[error("connection refused")]
    Refused,
    /// No way there.
    #[error("no route")]
    Unreachable,
    /// The source address is not this host's.
    #[error("the source address cannot be bound")]
    Source,
    /// The source address has no port left for this destination.
    #[error("no source port is left for this destination")]
    NoPort,
    /// This process or host is out of descriptors, buffers or memory.
    #[error("the gateway is out of sockets")]
    OutOfSockets,
}

/// Connects to one of the addresses, whichever answers first, within `limit`.
/// The socket still has Nagle's algorithm on:
/// [`Wire::dialled`](super::wire::Wire::dialled) sees to it.
pub(crate) async fn connect(
    addresses: &[IpAddr],
    port: u16,
    source: Source,
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    let raced = async {
        // Most often there is one, and no race.
        if let [ip] = *addresses {
            return open(SocketAddr::new(ip, port), source).await.map_err(|failure| failure.kind());
        }
        let raced = race(interleave(addresses), |ip| open(SocketAddr::new(ip, port), source));
        Box::pin(raced).await.map_err(|failures| sum_up(&failures))
    };
    timeout(limit, raced).await.unwrap_or(Err(ConnectError::TimedOut))
}

/// Starts an attempt every [`STAGGER`], or at once when one fails; the first
/// success wins and ends the others. All failures, if there is none.
async fn race<T, E, F>(addresses: Vec<IpAddr>, mut attempt: impl FnMut(IpAddr) -> F) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addresses.into_iter().peekable();
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    let mut failures = Vec::new();
    loop {
        match waiting.next() {
            Some(ip) => running.push(Box::pin(attempt(ip))),
            None if running.is_empty() => return Err(failures),
            None => {}
        }
        let more = waiting.peek().is_some();
        let mut next = pin!(sleep_until(Instant::now() + STAGGER));
        let event = poll_fn(|cx| {
            for at in 0..running.len() {
                if let Poll::Ready(result) = running[at].as_mut().poll(cx) {
                    drop(running.swap_remove(at));
                    return Poll::Ready(Some(result));
                }
            }
            if more { next.as_mut().poll(cx).map(|()| None) } else { Poll::Pending }
        });
        match event.await {
            Some(Ok(won)) => return Ok(won),
            Some(Err(failure)) => failures.push(failure),
            None => {}
        }
    }
}

/// IPv6 first, then in turn (RFC 8305 §4), each family in its own order.
fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut v6 = addresses.iter().filter(|ip| ip.is_ipv6());
    let mut v4 = addresses.iter().filter(|ip| ip.is_ipv4());
    let mut order = Vec::with_capacity(addresses.len().min(MOST_ADDRESSES));
    while order.len() < MOST_ADDRESSES {
        let before = order.len();
        order.extend(v6.next());
        order.extend(v4.next());
        if order.len() == before {
            break;
        }
    }
    order
}

/// What went wrong with one address.
#[derive(Debug)]
enum Failure {
    Socket(io::Error),
    Bind(io::Error),
    Connect {
        error: io::Error,
        /// EADDRNOTAVAIL says that no port was left.
        tells_ports: bool,
    },
}

async fn open(peer: SocketAddr, source: Source) -> Result<TcpStream, Failure> {
    let socket = socket(peer).map_err(Failure::Socket)?;
    if let Some(ip) = source.address() {
        bind(&socket, ip, source).map_err(Failure::Bind)?;
    }
    // From loopback, some kernels say so of every target that is elsewhere;
    // without a source, of IPv6 where the host has none.
    let tells_ports = match source.address() {
        Some(ip) => !ip.is_loopback() || peer.ip().is_loopback(),
        None => peer.is_ipv4(),
    };
    let failed = |error| Failure::Connect { error, tells_ports };
    match socket.connect(&peer.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(failed(error)),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into()).map_err(Failure::Socket)?;
    // A socket that can be written to is connected, unless it is broken
    // already: only then the kernel is asked why.
    let ready = stream.ready(Interest::WRITABLE).await.map_err(failed)?;
    if ready.is_write_closed()
        && let Some(error) = stream.take_error().transpose()
    {
        return Err(failed(error.unwrap_or_else(|error| error)));
    }
    Ok(stream)
}

/// A socket that does not block.
fn socket(peer: SocketAddr) -> io::Result<Socket> {
    let (domain, protocol) = (Domain::for_address(peer), Some(Protocol::TCP));
    // Made so in one call.
    #[cfg(target_os = "linux")]
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), protocol)?;
    #[cfg(not(target_os = "linux"))]
    let socket = Socket::new(domain, Type::STREAM, protocol)?;
    #[cfg(not(target_os = "linux"))]
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind(socket: &Socket, ip: IpAddr, source: Source) -> io::Result<()> {
    sockopt::leave_port_to_connect(socket)?;
    // IPv4 takes any address that a local route covers; IPv6 wants the
    // interface's own, unless told that it may be free.
    if ip.is_ipv6() && matches!(source, Source::Routed(_)) {
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&SocketAddr::new(ip, 0).into())
}

/// The failure that says most: what may pass before what is final.
fn sum_up(failures: &[Failure]) -> ConnectError {
    let order = [
        ConnectError::OutOfSockets,
        ConnectError::NoPort,
        ConnectError::TimedOut,
        ConnectError::Refused,
        ConnectError::Source,
        ConnectError::Unreachable,
    ];
    let kinds: Vec<_> = failures.iter().map(Failure::kind).collect();
    order.into_iter().find(|kind| kinds.contains(kind)).unwrap_or(ConnectError::Unreachable)
}

impl Failure {
    fn kind(&self) -> ConnectError {
        let (Self::Socket(error) | Self::Bind(error) | Self::Connect { error, .. }) = self;
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                return ConnectError::OutOfSockets;
            }
            Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE)
                if matches!(self, Self::Connect { tells_ports: true, .. }) =>
            {
                return ConnectError::NoPort;
            }
            _ => {}
        }
        match (self, error.kind()) {
            (Self::Bind(_), _) => ConnectError::Source,
            (_, io::ErrorKind::TimedOut) => ConnectError::TimedOut,
            (_, io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) => ConnectError::Refused,
            // No address of the peer's family here, an unreachable network or
            // host, a rule that forbids it, a target that this source cannot have.
            _ => ConnectError::Unreachable,
        }
    }
}

#[cfg(test)]
mod tests;
