//! Messages, and descriptors with them, between two processes.
//!
//! Owns: [`Channel`], one end of a pair of local sockets that keep messages
//! apart: a head in JSON, bytes behind it, descriptors beside it.
//! Must not know: what the messages mean.
//!
//! Descriptors travel by `SCM_RIGHTS`. So nothing has to be inherited but the
//! channel itself, which is the new process's standard input: every other
//! descriptor stays close-on-exec, always.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// The most descriptors of one message.
pub(crate) const FDS_MAX: usize = 64;
/// The most bytes of one message. The kernel's own limit, by
/// `net.core.wmem_default`, is hardly ever below it.
const BYTES_MAX: usize = 160 * 1024;

/// One end of a channel: to the runtime, any local socket of messages.
#[derive(Debug)]
pub(crate) struct Channel(UnixDatagram);

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Message<T> {
    /// What it says.
    pub(crate) head: T,
    /// What stands behind.
    pub(crate) bytes: Vec<u8>,
    /// What it brings.
    pub(crate) fds: Vec<OwnedFd>,
}

impl Channel {
    /// An end for us, and one for the process that is to be started.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(ours)?, theirs))
    }

    /// The end that this process was started with as its standard input, from
    /// where it is taken away.
    pub(crate) fn from_stdin() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        if rustix::net::sockopt::socket_type(stdin)? != SocketType::SEQPACKET {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "standard input is no channel"));
        }
        let ours = stdin.try_clone_to_owned()?;
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        Self::new(ours)
    }

    /// Over an end that is there.
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixDatagram::from(fd);
        socket.set_nonblocking(true)?;
        UnixDatagram::from_std(socket).map(Self)
    }

    /// Sends one message; waits while the other end takes none.
    ///
    /// # Errors
    /// The other end is gone, or the message is too large.
    pub(crate) async fn send(
        &self,
        head: &impl Serialize,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut text = serde_json::to_vec(head)?;
        text.push(b'\n');
        if text.len() + bytes.len() > BYTES_MAX || fds.len() > FDS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too large"));
        }
        self.0.async_io(Interest::WRITABLE, || send_once(&self.0, &text, bytes, fds)).await
    }

    /// The next message; `None` where the other end is gone.
    ///
    /// # Errors
    /// It cannot be read, or is none of `T`.
    pub(crate) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Message<T>>> {
        let mut buffer = vec![0; BYTES_MAX];
        let received = self.0.async_io(Interest::READABLE, || receive_once(&self.0, &mut buffer)).await;
        let (length, fds) = match received {
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            received => received?,
        };
        if length == 0 {
            return Ok(None);
        }
        buffer.truncate(length);
        let end = buffer.iter().position(|byte| *byte == b'\n').ok_or(io::ErrorKind::InvalidData)?;
        let head = serde_json::from_slice(&buffer[..end])?;
        Ok(Some(Message { head, bytes: buffer.split_off(end + 1), fds }))
    }
}

fn send_once(socket: &impl AsFd, text: &[u8], bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        // The space is for as many as there may be.
        let _fits = beside.push(SendAncillaryMessage::ScmRights(fds));
    }
    let parts = [IoSlice::new(text), IoSlice::new(bytes)];
    loop {
        match sendmsg(socket, &parts, &mut beside, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            sent => return sent.map(drop).map_err(io::Error::from),
        }
    }
}

fn receive_once(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    // A descriptor that this process has no room for is missing, and so is
    // what stood behind too small a buffer.
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message did not arrive whole"));
    }
    Ok((got.bytes, fds))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (ours, Channel::new(theirs).unwrap())
    }

    #[tokio::test]
    async fn a_message_brings_its_bytes_and_descriptors() {
        let (a, b) = pair();
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        a.send(&"one", b"two\nthree", &[far.as_fd(), far.as_fd()]).await.unwrap();
        a.send(&"last", b"", &[]).await.unwrap();
        drop((a, far));
        let first = b.receive::<String>().await.unwrap().unwrap();
        assert_eq!((&*first.head, &*first.bytes, first.fds.len()), ("one", &b"two\nthree"[..], 2));
        for fd in &first.fds {
            assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
        drop(first.fds);
        assert_eq!(near.read(&mut [0]).unwrap(), 0, "nobody has it any longer");
        assert_eq!(b.receive::<String>().await.unwrap().unwrap().head, "last");
        assert!(b.receive::<String>().await.unwrap().is_none());
        b.send(&"nobody", b"", &[]).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_sender_waits_for_a_slow_receiver() {
        let (a, b) = pair();
        let bytes = vec![7; 100_000];
        let sending = tokio::spawn(async move {
            for n in 0..50 {
                a.send(&n, &bytes, &[]).await.unwrap();
            }
        });
        for n in 0..50 {
            let message = b.receive::<u32>().await.unwrap().unwrap();
            assert_eq!((message.head, message.bytes.len()), (n, 100_000));
        }
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_sent_and_what_is_no_message_is_an_error() {
        let (a, b) = pair();
        a.send(&"x", &vec![0; BYTES_MAX], &[]).await.unwrap_err();
        a.send(&"text", b"", &[]).await.unwrap();
        b.receive::<u32>().await.unwrap_err();
    }
}
