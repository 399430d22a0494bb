//! One byte stream, whatever carries it.
//!
//! Owns: [`Wire`]: bytes that were read too far and given back, half-close,
//! reset, and whether a kept connection is still good.
//! Must not know: what the bytes mean.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;
#[cfg(test)]
use tokio::io::DuplexStream;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

pub(crate) use self::other::Carrier;
use self::other::Secured;

mod other;

/// A byte stream in both directions.
///
/// `poll_shutdown` closes the write half alone; the read half goes on.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Read too far and given back: it is read again first.
    unread: Bytes,
    nagle: Nagle,
    kind: Kind,
}

/// Where a socket stands with Nagle's algorithm, which holds a small segment
/// back for as long as one before it is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nagle {
    /// It is off.
    Off,
    /// It is on, and nothing was written yet.
    Fresh,
    /// It is on, and one small write was made, which nothing held back.
    Written,
}

/// So much goes out in one segment, whatever the path: the least that IPv4
/// hosts must take (RFC 9293 §3.7.1).
const ONE_SEGMENT: usize = 536;

/// What waits on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stir {
    /// Bytes to be read.
    Bytes,
    /// The end of the other end's stream.
    End,
    /// The connection has failed.
    Reset,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
    Secured(Box<Secured>),
    Carried(Box<dyn Carrier>),
    #[cfg(test)]
    Memory(DuplexStream),
}

impl From<TcpStream> for Wire {
    fn from(tcp: TcpStream) -> Self {
        Self { unread: Bytes::new(), nagle: Nagle::Off, kind: Kind::Tcp(tcp) }
    }
}

impl Wire {
    /// A socket as [`race::connect`](super::race::connect) makes them, with
    /// Nagle's algorithm on. It is turned off before it could hold anything
    /// back, which many a connection never comes to.
    pub(crate) fn dialled(tcp: TcpStream) -> Self {
        Self { nagle: Nagle::Fresh, ..tcp.into() }
    }

    /// Has the socket send at once what is written to it from now on. To be
    /// called before `bytes` are written past this wire.
    pub(crate) fn hurry(&mut self, bytes: usize) {
        match self.nagle {
            Nagle::Off => {}
            Nagle::Fresh if bytes <= ONE_SEGMENT => self.nagle = Nagle::Written,
            Nagle::Fresh | Nagle::Written => {
                self.nagle = Nagle::Off;
                if let Some(tcp) = self.tcp() {
                    // A socket that cannot have it works all the same, only later.
                    let _ = tcp.set_nodelay(true);
                }
            }
        }
    }

    /// Two ends in memory, with room for `room_bytes` each way. A dropped end
    /// is an end of file; a reset cannot be told from it.
    #[cfg(test)]
    pub(crate) fn pair(room_bytes: usize) -> (Self, Self) {
        let (a, b) = tokio::io::duplex(room_bytes);
        (a.into(), b.into())
    }

    /// The same, with `bytes` given back as by [`Self::unread`].
    #[must_use]
    pub(crate) fn with_unread(mut self, bytes: Bytes) -> Self {
        self.unread(bytes);
        self
    }

    /// Gives bytes back that were read too far, such as those behind a head:
    /// they are read before all else.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        if self.unread.is_empty() {
            self.unread = bytes;
        } else if !bytes.is_empty() {
            let mut both = BytesMut::with_capacity(bytes.len() + self.unread.len());
            both.extend_from_slice(&bytes);
            both.extend_from_slice(&self.unread);
            self.unread = both.freeze();
        }
    }

    /// What was given back and not read since.
    pub(crate) fn take_unread(&mut self) -> Bytes {
        std::mem::take(&mut self.unread)
    }

    /// The same, to look at.
    pub(crate) fn given_back(&self) -> &[u8] {
        &self.unread
    }

    /// Makes the drop of this wire a reset: the other end gets RST rather
    /// than FIN, and what the kernel has not sent yet is thrown away.
    pub(crate) fn reset(&mut self) {
        if let Kind::Carried(carrier) = &mut self.kind {
            carrier.reset();
        } else if let Some(tcp) = self.tcp() {
            // It fails only for a socket that is gone, and then there is
            // nobody to tell.
            let _ = tcp.set_zero_linger();
        }
    }

    /// Whether a drop tells the other end the same as a shutdown before it.
    /// (With bytes left to read it would be a reset; TLS has a farewell of
    /// its own.)
    pub(crate) fn ends_by_drop(&self) -> bool {
        self.unread.is_empty() && matches!(self.kind, Kind::Tcp(_))
    }

    /// Whether a kept connection, on which nothing is expected, is of no more
    /// use: closed, broken, or with bytes that nobody asked for.
    ///
    /// It asks the kernel, not the readiness that the runtime has seen so far:
    /// a FIN that came a moment ago counts.
    pub(crate) fn is_stale(&mut self) -> bool {
        if !self.unread.is_empty() {
            return true;
        }
        match &mut self.kind {
            Kind::Tcp(tcp) => {
                !would_block(&SockRef::from(&*tcp).peek(&mut [MaybeUninit::uninit()]).map(drop))
            }
            Kind::Tls(tls) => other::tls_is_stale(tls),
            // Nothing of these is ever kept.
            Kind::Unix(_) | Kind::Secured(_) | Kind::Carried(_) => true,
            #[cfg(test)]
            Kind::Memory(memory) => {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                Pin::new(memory).poll_read(&mut cx, &mut ReadBuf::new(&mut [0])).is_ready()
            }
        }
    }

    /// Ready when there is something to read, bytes or an end, or the other
    /// end has reset the connection; nothing is read. Bytes or an end that
    /// wait to be read hide a reset behind them: see [`Self::is_broken`].
    pub(crate) fn poll_stir(&mut self, cx: &mut Context<'_>) -> Poll<Stir> {
        match &mut self.kind {
            Kind::Unix(unix) => return other::poll_unix_stir(unix, cx),
            Kind::Secured(tls) => return other::poll_secured_stir(tls, cx),
            Kind::Carried(carrier) => return carrier.poll_stir(cx),
            _ => {}
        }
        let Some(tcp) = self.tcp() else { return Poll::Pending };
        loop {
            if ready!(tcp.poll_read_ready(cx)).is_err() {
                return Poll::Ready(Stir::Reset);
            }
            let look = || SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]);
            match tcp.try_io(Interest::READABLE, look) {
                Ok(0) => return Poll::Ready(Stir::End),
                Ok(_) => return Poll::Ready(Stir::Bytes),
                // The readiness was stale and is cleared: wait for the next.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(Stir::Reset),
            }
        }
    }

    /// Ready when a read may find something: of a plain socket the runtime
    /// knows, any other must be read to know.
    pub(crate) fn poll_maybe_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // What it fails of, the read will tell.
        self.plain().map_or(Poll::Ready(()), |tcp| tcp.poll_read_ready(cx).map(drop))
    }

    /// Whether the connection is known to have failed, whatever still waits
    /// to be read.
    pub(crate) fn is_broken(&self) -> bool {
        let Some(tcp) = self.tcp() else { return false };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        pin!(tcp.ready(Interest::ERROR)).poll(&mut cx).is_ready()
    }

    /// The socket, where it alone carries the stream, and what was given back.
    pub(crate) fn into_tcp(self) -> Result<(TcpStream, Bytes), Self> {
        match self.kind {
            Kind::Tcp(tcp) => Ok((tcp, self.unread)),
            kind => Err(Self { unread: self.unread, nagle: self.nagle, kind }),
        }
    }

    /// Whether [`Self::into_tcp`] gives a socket.
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.kind, Kind::Tcp(_))
    }

    /// Whether bytes were given back and not read since.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The socket whose bytes are this wire's, neither encrypted nor given
    /// back.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        match &self.kind {
            Kind::Tcp(tcp) if self.unread.is_empty() => Some(tcp),
            _ => None,
        }
    }

    /// The socket underneath.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match &self.kind {
            Kind::Tcp(tcp) => Some(tcp),
            Kind::Tls(tls) => Some(tls.get_ref().0),
            Kind::Secured(tls) => tls.get_ref().0.tcp(),
            Kind::Unix(_) | Kind::Carried(_) => None,
            #[cfg(test)]
            Kind::Memory(_) => None,
        }
    }
}

fn would_block(result: &io::Result<()>) -> bool {
    matches!(result, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

/// Calls the same method of whatever carries the wire.
macro_rules! carrier {
    ($wire:expr, $method:ident($($argument:expr),*)) => {
        match &mut $wire.get_mut().kind {
            Kind::Tcp(tcp) => Pin::new(tcp).$method($($argument),*),
            Kind::Tls(tls) => Pin::new(tls).$method($($argument),*),
            Kind::Unix(unix) => Pin::new(unix).$method($($argument),*),
            Kind::Secured(tls) => Pin::new(tls).$method($($argument),*),
            Kind::Carried(carrier) => Pin::new(carrier).$method($($argument),*),
            #[cfg(test)]
            Kind::Memory(memory) => Pin::new(memory).$method($($argument),*),
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let n = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(n));
            if self.unread.is_empty() {
                // An empty view would still hold the whole buffer.
                self.unread = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        if let Kind::Tcp(tcp) = &self.kind {
            return receive(tcp, cx, buf);
        }
        carrier!(self, poll_read(cx, buf))
    }
}

/// As tokio reads, but with the bare system call: the C library's is one where
/// a thread may be cancelled, which costs more than all else about it.
fn receive(tcp: &TcpStream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let room = buf.initialize_unfilled();
    loop {
        ready!(tcp.poll_read_ready(cx))?;
        let mut read = None;
        let receive = || {
            let (n, _) = rustix::net::recv(tcp, &mut *room, RecvFlags::empty())?;
            read = Some(n);
            // What did not fill the room has emptied the socket: the next call
            // would only say so.
            if n > 0 && n < room.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        match (tcp.try_io(Interest::READABLE, receive), read) {
            (_, Some(n)) => {
                buf.advance(n);
                return Poll::Ready(Ok(()));
            }
            (Err(e), None) if e.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(e)),
            // The readiness was stale and is cleared: wait for the next.
            _ => {}
        }
    }
}

/// The same for writing.
fn send(tcp: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(tcp.poll_write_ready(cx))?;
        let mut sent = None;
        let send = || {
            let n = rustix::net::send(tcp, bytes, SendFlags::NOSIGNAL)?;
            sent = Some(n);
            if n > 0 && n < bytes.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        match (tcp.try_io(Interest::WRITABLE, send), sent) {
            (_, Some(n)) => return Poll::Ready(Ok(n)),
            (Err(e), None) if e.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(e)),
            _ => {}
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.hurry(buf.len());
        if let Kind::Tcp(tcp) = &self.kind {
            return send(tcp, cx, buf);
        }
        carrier!(self, poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.hurry(bufs.iter().map(|buf| buf.len()).sum());
        carrier!(self, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Tcp(tcp) => tcp.is_write_vectored(),
            Kind::Tls(tls) => tls.is_write_vectored(),
            Kind::Unix(unix) => unix.is_write_vectored(),
            Kind::Secured(tls) => tls.is_write_vectored(),
            Kind::Carried(_) => false,
            #[cfg(test)]
            Kind::Memory(memory) => memory.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carrier!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carrier!(self, poll_shutdown(cx))
    }
}

#[cfg(test)]
pub(crate) mod tests;
