//! Listening sockets.
//!
//! Owns: how one is bound, and the accept loop: a task per connection, which
//! a drain stops and waits for; patience when descriptors run out.
//! Must not know: what is served. No handshake happens in the loop, so no
//! client can hold up another.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::wire::Wire;
use crate::core::bind::Bind;
use crate::drain::{Door, Drain};

mod unix;

/// Connections that the kernel may keep for us until we accept them; it takes
/// less where `net.core.somaxconn` says so.
const BACKLOG: i32 = 4096;

/// Who a client at a Unix socket is, for all that goes by addresses.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How long the loop rests when the system is out of descriptors or memory:
/// at first, and at most.
const REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub(crate) struct ListenError {
    address: Bind,
    source: io::Error,
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds `address`. `all` are the addresses of all our listeners: where one
/// of them is IPv4 with the same port, an IPv6 wildcard takes IPv6 alone, and
/// both families otherwise, whatever the system's default. `mode` is that of
/// a Unix socket's file.
pub(crate) fn bind(address: &Bind, all: &[Bind], mode: u32) -> Result<Listener, ListenError> {
    let opened = match address {
        Bind::Tcp(socket) => {
            let shares = |other: SocketAddr| other.is_ipv4() && other.port() == socket.port();
            let only_v6 = socket.port() != 0 && all.iter().filter_map(Bind::tcp).any(shares);
            open(*socket, only_v6).map(Listener::Tcp)
        }
        Bind::Unix(path) => unix::open(path, mode).map(Listener::Unix),
    };
    opened.map_err(|source| ListenError { address: address.clone(), source })
}

impl Listener {
    /// Of a socket that listens already.
    pub(crate) fn of(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        if socket.local_addr()?.is_unix() {
            return UnixListener::from_std(socket.into()).map(Self::Unix);
        }
        socket.set_tcp_nodelay(true)?;
        TcpListener::from_std(socket.into()).map(Self::Tcp)
    }

    /// Where it listens.
    pub(crate) fn local(&self) -> io::Result<Bind> {
        bound(&SockRef::from(&self.as_fd()).local_addr()?)
    }

    async fn accept(&self) -> io::Result<(Wire, SocketAddr)> {
        match self {
            Self::Tcp(tcp) => tcp.accept().await.map(|(tcp, peer)| (tcp.into(), peer)),
            Self::Unix(unix) => unix.accept().await.map(|(unix, _)| (unix.into(), HERE)),
        }
    }

    /// A connection that waits already.
    fn accept_waiting(&self) -> io::Result<(Wire, SocketAddr)> {
        let (socket, peer) = SockRef::from(&self.as_fd()).accept()?;
        socket.set_nonblocking(true)?;
        Ok(match self {
            Self::Tcp(_) => {
                let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
                (TcpStream::from_std(socket.into())?.into(), peer)
            }
            Self::Unix(_) => (UnixStream::from_std(socket.into())?.into(), HERE),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}

/// What a socket is bound to.
///
/// # Errors
/// Neither address and port nor a path.
pub(super) fn bound(address: &SockAddr) -> io::Result<Bind> {
    let path = || address.as_pathname().map(|path| Bind::Unix(path.to_owned()));
    address.as_socket().map(Bind::Tcp).or_else(path).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn open(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // So that a restart need not wait for old connections to time out.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it: one call rather than one a connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the drain begins or the socket goes to another process, and
/// runs `serve` for each connection in a task of its own. The drain waits for
/// these tasks; when it is forced they are dropped where they stand.
pub(crate) async fn run<F, S>(listener: impl Into<Arc<Listener>>, drain: Drain, serve: F)
where
    F: FnOnce(Wire, SocketAddr) -> S + Clone + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = listener.into();
    loop {
        // One wait for all that are accepted meanwhile.
        let mut stops = std::pin::pin!(drain.stops_accepting());
        loop {
            let (wire, peer) = tokio::select! {
                biased;
                () = &mut stops => break,
                accepted = accept(&listener) => accepted,
            };
            spawn(serve.clone(), wire, peer, &drain);
        }
        match drain.door(listener.local().ok().as_ref()).await {
            Door::Open => {}
            Door::Given => return,
            Door::Closing => break,
        }
    }
    // The kernel has said yes to these already: closing the listener now would
    // reset them unanswered.
    while let Ok((wire, peer)) = listener.accept_waiting() {
        spawn(serve.clone(), wire, peer, &drain);
    }
}

/// Runs `serve` for a connection as if it had been accepted here.
pub(crate) fn spawn<F, S>(serve: F, wire: Wire, peer: SocketAddr, drain: &Drain)
where
    F: FnOnce(Wire, SocketAddr) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let (guard, drain) = (drain.guard(), drain.clone());
    tokio::spawn(async move {
        let _guard = guard;
        drain.unless_forced(|| serve(wire, peer)).await;
    });
}

/// The next connection. It does not fail: an error is either one of a
/// connection that is gone already, or passes when others have closed theirs.
async fn accept(listener: &Listener) -> (Wire, SocketAddr) {
    let (mut rest, longest) = REST;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(e) if is_of_one_connection(&e) => {}
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept connections; waiting");
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(longest);
            }
        }
    }
}

/// Linux hands errors of the new connection to `accept` (accept(2), "Error
/// handling"): the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    match Errno::from_io_error(error) {
        Some(errno) => matches!(
            errno,
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::NETDOWN
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
                | Errno::TIMEDOUT
                | Errno::PERM
        ),
        None => false,
    }
}

#[cfg(test)]
mod tests;
