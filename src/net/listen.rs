//! Listening sockets.
//!
//! Owns: how one is bound, and the accept loop: a task per connection, which
//! a drain stops and waits for; patience when descriptors run out.
//! Must not know: what is served. No handshake happens in the loop, so no
//! client can hold up another.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::wire::Wire;
use crate::drain::{Door, Drain};

/// Connections that the kernel may keep for us until we accept them; it takes
/// less where `net.core.somaxconn` says so.
const BACKLOG: i32 = 4096;

/// How long the loop rests when the system is out of descriptors or memory:
/// at first, and at most.
const REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub(crate) struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Binds `address`. `all` are the addresses of all our listeners: where one
/// of them is IPv4 with the same port, an IPv6 wildcard takes IPv6 alone, and
/// both families otherwise, whatever the system's default.
pub(crate) fn bind(address: SocketAddr, all: &[SocketAddr]) -> Result<TcpListener, ListenError> {
    let only_v6 = address.port() != 0 && all.iter().any(|a| a.is_ipv4() && a.port() == address.port());
    open(address, only_v6).map_err(|source| ListenError { address, source })
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
pub(crate) async fn run<F, S>(listener: impl Into<Arc<TcpListener>>, drain: Drain, serve: F)
where
    F: FnOnce(Wire, SocketAddr) -> S + Clone + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = listener.into();
    loop {
        // One wait for all that are accepted meanwhile.
        let mut stops = std::pin::pin!(drain.stops_accepting());
        loop {
            let (tcp, peer) = tokio::select! {
                biased;
                () = &mut stops => break,
                accepted = accept(&listener) => accepted,
            };
            spawn(serve.clone(), tcp, peer, &drain);
        }
        match drain.door(listener.local_addr().ok()).await {
            Door::Open => {}
            Door::Given => return,
            Door::Closing => break,
        }
    }
    // The kernel has said yes to these already: closing the listener now would
    // reset them unanswered.
    while let Ok((tcp, peer)) = SockRef::from(&*listener).accept() {
        if let Some(peer) = peer.as_socket()
            && tcp.set_nonblocking(true).is_ok()
            && let Ok(tcp) = TcpStream::from_std(tcp.into())
        {
            spawn(serve.clone(), tcp, peer, &drain);
        }
    }
}

/// Runs `serve` for a connection as if it had been accepted here.
pub(crate) fn spawn<F, S>(serve: F, tcp: impl Into<Wire>, peer: SocketAddr, drain: &Drain)
where
    F: FnOnce(Wire, SocketAddr) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let (guard, drain, wire) = (drain.guard(), drain.clone(), tcp.into());
    tokio::spawn(async move {
        let _guard = guard;
        drain.unless_forced(|| serve(wire, peer)).await;
    });
}

/// The next connection. It does not fail: an error is either one of a
/// connection that is gone already, or passes when others have closed theirs.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
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
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn loopback(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn accepted_sockets_do_not_delay_small_writes() {
        let listener = bind(loopback("127.0.0.1:0"), &[]).unwrap();
        let (_near, far) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), accept(&listener));
        assert!(far.0.nodelay().unwrap());
    }

    #[tokio::test]
    async fn both_families_may_have_the_same_port() {
        let v4 = bind(loopback("0.0.0.0:0"), &[]).unwrap().local_addr().unwrap();
        let v6 = SocketAddr::new(loopback("[::]:0").ip(), v4.port());
        let all = [v4, v6];
        let _four = bind(v4, &all).unwrap();
        let _six = bind(v6, &all).unwrap();
    }

    #[tokio::test]
    async fn a_lone_wildcard_takes_both_families() {
        let listener = bind(loopback("[::]:0"), &[loopback("127.0.0.1:0")]).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        TcpStream::connect(("::1", port)).await.unwrap();
    }

    #[tokio::test]
    async fn an_error_names_the_address() {
        let taken = bind(loopback("127.0.0.1:0"), &[]).unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address, &[address]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }

    #[test]
    fn only_errors_of_the_whole_system_make_the_loop_rest() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(!is_of_one_connection(&errno.into()), "{errno:?}");
        }
        for errno in [Errno::CONNABORTED, Errno::PROTO, Errno::NETUNREACH] {
            assert!(is_of_one_connection(&errno.into()), "{errno:?}");
        }
        assert!(!is_of_one_connection(&io::Error::other("unknown")));
    }

    #[tokio::test]
    async fn a_drain_stops_the_loop_and_waits_for_its_connections() {
        let drain = Drain::new();
        let listener = bind(loopback("127.0.0.1:0"), &[]).unwrap();
        let address = listener.local_addr().unwrap();
        let peers = Arc::new(Mutex::new(Vec::new()));
        let echo = {
            let peers = Arc::clone(&peers);
            move |mut wire: Wire, peer| {
                peers.lock().unwrap().push(peer);
                async move {
                    let mut byte = [0];
                    while wire.read_exact(&mut byte).await.is_ok() {
                        wire.write_all(&byte).await.unwrap();
                    }
                }
            }
        };
        let accepting = tokio::spawn(run(listener, drain.clone(), echo));

        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        for client in [&mut first, &mut second] {
            client.write_all(b"x").await.unwrap();
            client.read_exact(&mut byte).await.unwrap();
        }
        assert_eq!(peers.lock().unwrap()[0], first.local_addr().unwrap());
        drain.begin();
        accepting.await.unwrap();
        TcpStream::connect(address).await.expect_err("the listener is closed");
        // What was accepted goes on.
        first.write_all(b"y").await.unwrap();
        first.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"y");
        drain.force();
        drain.all_gone().await;
        assert_eq!(second.read(&mut byte).await.unwrap(), 0, "dropped where it stood");
    }
}
