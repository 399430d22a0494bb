//! One direction of a pair: messages by `recv` and `send`, bulk by `splice`.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::{End, head};

/// The buffer of all flows, in bytes.
const BUFFER: usize = 16 * 1024;
/// What a pipe holds, in bytes.
const PIPE: usize = 256 * 1024;
/// Reads in a row that fill the buffer, after which bytes are spliced.
pub(crate) const FULL_READS: u8 = 2;
/// A splice that moved less than this, in bytes, was of a message.
const SMALL: usize = 8 * 1024;
/// A body of which more than this is left, in bytes, is spliced at once.
const BULK_BODY: u64 = 16 * 1024;
/// Pipes that are kept while nobody needs them.
const POOLED: usize = 64;

/// What the flows use one after the other.
pub(crate) struct Shared {
    buffer: Vec<u8>,
    pipes: Vec<Pipe>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER], pipes: Vec::new() }
    }
}

pub(crate) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// Whether a flow goes on.
pub(crate) enum Moved {
    SoFar,
    /// Its source has ended, and all of it is delivered.
    Ended,
}

#[derive(Default)]
pub(crate) struct Flow {
    held: Held,
    kind: Kind,
    full_reads: u8,
    source_over: bool,
    ended: bool,
}

/// Bytes that could not be delivered yet.
#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Bytes(Vec<u8>),
    Piped(Pipe, usize),
}

#[derive(Default, Clone, Copy)]
enum Kind {
    #[default]
    Tunnel,
    /// Bytes of a message's body that are yet to come; then a head.
    Messages { left: u64 },
}

impl Shared {
    /// Fills the buffer with what there is. None where there is nothing.
    pub(crate) fn receive(&mut self, from: &mut End) -> Option<usize> {
        match receive(&from.socket, &mut self.buffer) {
            Ok(read) => {
                from.readable = read == self.buffer.len() || from.hung;
                Some(read)
            }
            Err(_) => None,
        }
    }

    pub(crate) fn bytes(&self, read: usize) -> &[u8] {
        &self.buffer[..read]
    }

    fn pipe(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.pipes.pop() {
            return Some(pipe);
        }
        let (out, into) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        rustix::pipe::fcntl_setpipe_size(&into, PIPE).ok()?;
        Some(Pipe { out, into })
    }

    fn give_back(&mut self, pipe: Pipe) {
        if self.pipes.len() < POOLED {
            self.pipes.push(pipe);
        }
    }
}

impl Flow {
    /// A flow of messages, the first with `left` bytes of body to come.
    pub(crate) fn of_messages(left: u64) -> Self {
        Self { kind: Kind::Messages { left }, ..Self::default() }
    }

    pub(crate) fn is_of_messages(&self) -> bool {
        matches!(self.kind, Kind::Messages { .. })
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether it waits for its destination.
    pub(crate) fn waits(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    pub(crate) fn release(&mut self, shared: &mut Shared) {
        // A pipe with bytes in it is not given back.
        if let Held::Piped(pipe, 0) = std::mem::take(&mut self.held) {
            shared.give_back(pipe);
        }
    }

    /// Moves all there is. None on a failure.
    pub(crate) fn pump(&mut self, from: &mut End, to: &mut End, shared: &mut Shared) -> Option<Moved> {
        loop {
            if !self.deliver(to, shared)? {
                return Some(Moved::SoFar);
            }
            if self.ended {
                return Some(Moved::SoFar);
            }
            if self.source_over {
                self.ended = true;
                return Some(Moved::Ended);
            }
            if !from.readable {
                return Some(Moved::SoFar);
            }
            match self.kind {
                Kind::Tunnel if self.full_reads >= FULL_READS => self.fill(from, shared, PIPE)?,
                Kind::Messages { left } if left >= BULK_BODY => {
                    self.fill(from, shared, left.min(PIPE as u64) as usize)?
                }
                _ => self.copy(from, to, shared)?,
            }
        }
    }

    /// By way of the buffer.
    fn copy(&mut self, from: &mut End, to: &mut End, shared: &mut Shared) -> Option<()> {
        let read = match receive(&from.socket, &mut shared.buffer) {
            Ok(read) => read,
            Err(Errno::AGAIN) => {
                from.readable = false;
                return Some(());
            }
            Err(_) => return None,
        };
        let bytes = &shared.buffer[..read];
        self.source_over = read == 0;
        from.readable = read == BUFFER || from.hung;
        self.full_reads = if read == BUFFER { self.full_reads.saturating_add(1) } else { 0 };
        if let Kind::Messages { left } = &mut self.kind
            && read > 0
        {
            if *left > 0 {
                *left = left.saturating_sub(read as u64);
            } else {
                let head = head::read(bytes)?;
                *left = head.body.saturating_sub((read - head.end) as u64);
                if head.target.is_some() {
                    let mut whole = Vec::with_capacity(read);
                    head::origin_form(bytes, |part| whole.extend_from_slice(part));
                    return self.put(to, &whole);
                }
            }
        }
        if read > 0 { self.put(to, bytes) } else { Some(()) }
    }

    fn put(&mut self, to: &mut End, bytes: &[u8]) -> Option<()> {
        let sent = send(&to.socket, bytes).ok()?;
        if sent < bytes.len() {
            to.writable = false;
            self.held = Held::Bytes(bytes[sent..].to_vec());
        }
        Some(())
    }

    /// Into a pipe.
    fn fill(&mut self, from: &mut End, shared: &mut Shared, most: usize) -> Option<()> {
        let pipe = shared.pipe()?;
        match splice(&from.socket, &pipe.into, most) {
            Ok(moved) => {
                self.source_over = moved == 0;
                if moved < SMALL {
                    self.full_reads = 0;
                }
                if let Kind::Messages { left } = &mut self.kind {
                    *left -= moved as u64;
                    // Nobody sends a second request before the first's answer.
                    from.readable = *left > 0 || from.hung;
                }
                self.held = Held::Piped(pipe, moved);
            }
            Err(Errno::AGAIN) => {
                from.readable = false;
                shared.give_back(pipe);
            }
            Err(_) => return None,
        }
        Some(())
    }

    /// Whether all that was held is delivered.
    fn deliver(&mut self, to: &mut End, shared: &mut Shared) -> Option<bool> {
        loop {
            if self.waits() && !to.writable {
                return Some(false);
            }
            match std::mem::take(&mut self.held) {
                Held::Nothing => return Some(true),
                Held::Bytes(bytes) => self.put(to, &bytes)?,
                Held::Piped(pipe, 0) => shared.give_back(pipe),
                Held::Piped(pipe, left) => {
                    let moved = match splice(&pipe.out, &to.socket, left) {
                        Ok(moved) => moved,
                        Err(Errno::AGAIN) => {
                            to.writable = false;
                            0
                        }
                        Err(_) => return None,
                    };
                    self.held = Held::Piped(pipe, left - moved);
                }
            }
        }
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::net::recv(socket, buffer, RecvFlags::empty()).map(|(read, _)| read)
}

/// How much of it went; nothing where the destination is full.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => Ok(0),
        other => other,
    }
}

fn splice(from: impl AsFd, to: impl AsFd, most: usize) -> Result<usize, Errno> {
    rustix::pipe::splice(from, None, to, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
}
