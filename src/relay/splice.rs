//! From one socket to another past this process's memory: by way of a pipe.
//!
//! Owns: [`Pipe`], how many there are, the two moves into one and out of it.
//! Must not know: when that pays, whose bytes they are.
//!
//! A pipe is lent for as long as bytes move through it or wait in it. There
//! are only so many, since each takes two descriptors and the kernel's memory,
//! and there may be none: then bytes are copied, as they can always be.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use rustix::process::{Resource, getrlimit};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe is made to hold, in bytes: with 64 KiB, moving costs twice as
/// much; with more than this, no less.
pub(super) const PIPE_BYTES: usize = 256 * 1024;

/// A pipe that holds less costs more than it saves. It is all that a process
/// gets that has used up its share of pipes (`pipe-user-pages-soft`).
const LEAST_BYTES: usize = 64 * 1024;

/// Pipes in all: as many of this size as one user's share is by default.
const MOST: usize = 256;

/// Of the descriptors that the process may have, one in so many is a pipe's
/// end, at most.
const DESCRIPTORS: u64 = 16;

/// Pipes that are kept while nobody needs them: for as many busy tunnels, half
/// as many if both their directions are. An empty one holds two descriptors
/// and no page.
const MOST_SPARE: usize = 128;

static SPARE: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A pipe, and how many bytes wait in it.
#[derive(Debug)]
pub(super) struct Pipe {
    into: OwnedFd,
    out: OwnedFd,
    held: usize,
    _counted: Counted,
}

/// What filling a pipe came to.
#[derive(Debug)]
pub(super) enum Filled {
    /// So many bytes; none at the end of the stream.
    Bytes(usize),
    /// Nothing was moved: this socket, or this system, does not do that.
    Unable,
}

impl Pipe {
    /// An empty one. None where there are no more.
    pub(super) fn lend() -> Option<Self> {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.or_else(Self::make)
    }

    fn make() -> Option<Self> {
        let counted = Counted::new()?;
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let sizes = [PIPE_BYTES, PIPE_BYTES / 2, LEAST_BYTES];
        sizes.into_iter().find(|bytes| fcntl_setpipe_size(&into, *bytes).is_ok())?;
        Some(Self { into, out, held: 0, _counted: counted })
    }

    /// Ends the loan. Bytes that still wait in it are lost.
    pub(super) fn give_back(self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if self.held == 0 && spare.len() < MOST_SPARE {
            spare.push(self);
        }
    }

    /// Whether bytes wait in it.
    pub(super) fn is_holding(&self) -> bool {
        self.held > 0
    }

    /// Moves at most so many bytes into it, which is empty: so what there is
    /// to wait for is the socket, never room.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        most: usize,
    ) -> Poll<io::Result<Filled>> {
        use rustix::io::Errno;

        debug_assert_eq!(self.held, 0);
        loop {
            ready!(from.poll_read_ready(cx))?;
            let fill = || Ok(splice(from, None, &self.into, None, most, FLAGS)?);
            match from.try_io(Interest::READABLE, fill) {
                Ok(bytes) => {
                    self.held = bytes;
                    return Poll::Ready(Ok(Filled::Bytes(bytes)));
                }
                // The readiness was stale and is cleared: wait for the next.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => {
                    let unable = [Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::OPNOTSUPP];
                    let unable = unable.iter().any(|errno| Some(errno.raw_os_error()) == e.raw_os_error());
                    return Poll::Ready(if unable { Ok(Filled::Unable) } else { Err(e) });
                }
            }
        }
    }

    /// Moves what waits in it out, as far as that is taken: at least a byte.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            let mut moved = 0;
            let drain = || {
                moved = splice(&self.out, None, to, None, self.held, FLAGS)?;
                // The kernel goes on until the socket is full, and has then
                // been asked to say when it no longer is. So the readiness is
                // over, and the call that would only say so can be spared.
                if moved < self.held { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            };
            let done = to.try_io(Interest::WRITABLE, drain);
            self.held -= moved;
            match done {
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(e)),
                _ if moved > 0 => return Poll::Ready(Ok(moved)),
                _ => {}
            }
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// Counts a pipe for as long as it is open.
#[derive(Debug)]
struct Counted;

impl Counted {
    fn new() -> Option<Self> {
        // Dropped, it is not counted: also where there are too many.
        let counted = (OPEN.fetch_add(1, Relaxed), Self);
        (counted.0 < most()).then_some(counted.1)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Relaxed);
    }
}

fn most() -> usize {
    static MOST_PIPES: OnceLock<usize> = OnceLock::new();
    #[cfg(test)]
    if let Some(most) = tests::MOST_PIPES.get() {
        return most;
    }
    *MOST_PIPES.get_or_init(|| {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        MOST.min(usize::try_from(descriptors / DESCRIPTORS / 2).unwrap_or(MOST))
    })
}

#[cfg(test)]
pub(super) mod tests;
