//! Wires that are no TCP connection of their own: Unix sockets, TLS towards
//! clients, streams of a connection that carries many.
//!
//! Owns: what is asked of each beside reading and writing.
//! Must not know: what the bytes mean.

use std::fmt::Debug;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::{Kind, Nagle, Stir, Wire};

/// TLS that a client has begun, over whatever it came by.
pub(super) type Secured = tokio_rustls::server::TlsStream<Wire>;

/// A stream that is no socket. A dropped one that was not shut down has
/// broken off, and its other end is told so.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin {
    /// Has the drop tell the other end that the stream has failed.
    fn reset(&mut self);

    /// As [`Wire::poll_stir`].
    fn poll_stir(&mut self, cx: &mut Context<'_>) -> Poll<Stir>;
}

impl From<TlsStream<TcpStream>> for Wire {
    fn from(tls: TlsStream<TcpStream>) -> Self {
        Self::of(Kind::Tls(Box::new(tls)))
    }
}

#[cfg(test)]
impl From<tokio::io::DuplexStream> for Wire {
    fn from(memory: tokio::io::DuplexStream) -> Self {
        Self::of(Kind::Memory(memory))
    }
}

impl From<UnixStream> for Wire {
    fn from(unix: UnixStream) -> Self {
        Self::of(Kind::Unix(unix))
    }
}

impl From<Secured> for Wire {
    fn from(tls: Secured) -> Self {
        Self::of(Kind::Secured(Box::new(tls)))
    }
}

impl From<Box<dyn Carrier>> for Wire {
    fn from(carrier: Box<dyn Carrier>) -> Self {
        Self::of(Kind::Carried(carrier))
    }
}

impl Wire {
    fn of(kind: Kind) -> Self {
        Self { unread: Bytes::new(), nagle: Nagle::Off, kind }
    }

    /// Whether a client has begun TLS on it.
    pub(crate) fn is_secured(&self) -> bool {
        matches!(self.kind, Kind::Secured(_))
    }
}

/// Bytes that wait on an idle TLS connection may be the protocol's own, such
/// as session tickets. So they are read, and only what is left for us counts.
pub(super) fn tls_is_stale(tls: &mut TlsStream<TcpStream>) -> bool {
    let (tcp, session) = tls.get_mut();
    let socket = SockRef::from(&*tcp);
    loop {
        match session.read_tls(&mut &*socket as &mut dyn Read) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != io::ErrorKind::WouldBlock,
        }
        match session.process_new_packets() {
            Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
            _ => return true,
        }
    }
}

pub(super) fn poll_unix_stir(unix: &UnixStream, cx: &mut Context<'_>) -> Poll<Stir> {
    loop {
        if ready!(unix.poll_read_ready(cx)).is_err() {
            return Poll::Ready(Stir::Reset);
        }
        let look = || SockRef::from(unix).peek(&mut [MaybeUninit::uninit()]);
        match unix.try_io(Interest::READABLE, look) {
            Ok(0) => return Poll::Ready(Stir::End),
            Ok(_) => return Poll::Ready(Stir::Bytes),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Poll::Ready(Stir::Reset),
        }
    }
}

/// What waits on the socket may be the protocol's own, or its end. So it is
/// taken in, as far as that is no byte of the client's.
pub(super) fn poll_secured_stir(tls: &mut Secured, cx: &mut Context<'_>) -> Poll<Stir> {
    let (wire, session) = tls.get_mut();
    loop {
        match session.process_new_packets() {
            Err(_) => return Poll::Ready(Stir::Reset),
            Ok(state) if state.plaintext_bytes_to_read() > 0 => return Poll::Ready(Stir::Bytes),
            Ok(state) if state.peer_has_closed() => return Poll::Ready(Stir::End),
            Ok(_) => {}
        }
        match session.read_tls(&mut Polled { wire, cx }) {
            // Its end without a farewell; whoever reads is told so.
            Ok(0) => return Poll::Ready(Stir::End),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(_) => return Poll::Ready(Stir::Reset),
        }
    }
}

/// A wire for a reader that knows nothing of tasks.
struct Polled<'a, 'c, 'w> {
    wire: &'a mut Wire,
    cx: &'c mut Context<'w>,
}

impl Read for Polled<'_, '_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut read = ReadBuf::new(buf);
        match Pin::new(&mut *self.wire).poll_read(self.cx, &mut read) {
            Poll::Ready(done) => done.map(|()| read.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_unix_socket_stirs_with_bytes_and_ends() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut wire = Wire::from(near);
        assert!(wire.tcp().is_none() && !wire.is_tcp() && !wire.ends_by_drop());
        far.write_all(b"x").await.unwrap();
        assert_eq!(poll_fn(|cx| wire.poll_stir(cx)).await, Stir::Bytes);
        wire.read_exact(&mut [0]).await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(poll_fn(|cx| wire.poll_stir(cx)).await, Stir::End);
        wire.write_all(b"late").await.unwrap();
        let mut late = [0; 4];
        far.read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"late");
    }
}
