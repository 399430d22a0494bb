//! Reading heads from a client, and parting from it.
//!
//! Owns: the wait for a head and its limits; closing so that the last answer
//! arrives.
//! Must not know: what a head asks for.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};

use super::Shared;
use super::client::{Client, Waits};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::http1::head::{RequestHead, Scan, parse_request};
use crate::net::wire::Wire;
use crate::relay::buffer::{HEAD_BYTES, with_buffer};

/// For how long, and for how many bytes, a client that is sent away may go on
/// sending before its connection is closed for good.
#[derive(Clone, Copy)]
pub(super) struct Linger {
    time: Duration,
    bytes: usize,
}

impl Linger {
    /// Of a client that does not keep to the protocol, or was not let in.
    pub(super) const SHORT: Self = Self { time: Duration::from_secs(2), bytes: 256 * 1024 };
    /// Of a client in the middle of an upload: many look for an answer only
    /// behind it.
    pub(super) const UPLOAD: Self = Self { time: Duration::from_secs(10), bytes: 64 * 1024 * 1024 };

    /// After this fault.
    pub(super) fn after(fault: &Fault) -> Self {
        if fault.code().closes() { Self::SHORT } else { Self::UPLOAD }
    }
}

/// What came of waiting for a head.
pub(super) enum Intake {
    /// A whole head; what follows it was given back to the wire.
    Head(RequestHead),
    /// The client is gone, was idle for too long, or is idle in a drain:
    /// nobody waits for an answer.
    Nobody,
    /// Another protocol, on a connection that began at this instant; what was
    /// read was given back.
    Other(Instant),
    /// Another process takes what comes; what was read was given back.
    Elsewhere,
    /// Something that is no head, or not in time.
    Bad(Fault),
}

/// Reads one head. The first one of a connection (`since`: when that began)
/// must be there in `head` time, sent or not; a later one within `head` of its
/// first byte, which may be `keep_alive` away.
pub(super) async fn head(client: &mut Client, since: Option<Instant>, shared: &Shared) -> Intake {
    let Shared { settings, drain, .. } = shared;
    let Client { wire, door, waits: Waits { lull, leaver }, .. } = client;
    let mut buffer = BytesMut::new();
    match since {
        Some(since) => lull.begin_at(since, settings.timeouts.head),
        None => lull.begin(settings.timeouts.keep_alive),
    }
    let begin = poll_fn(|cx| {
        if let Poll::Ready(read) = poll_fill(cx, wire, &mut buffer) {
            return Poll::Ready(Begin::Read(read));
        }
        if drain.poll_leaves(leaver, cx).is_ready() {
            return Poll::Ready(Begin::Leave);
        }
        lull.poll(cx).map(|()| Begin::TooLate)
    });
    match begin.await {
        Begin::Leave if drain.is_begun() => return Intake::Nobody,
        Begin::Leave => return Intake::Elsewhere,
        Begin::TooLate if since.is_some() => return Intake::Bad(too_slow()),
        Begin::TooLate | Begin::Read(Err(_) | Ok(0)) => return Intake::Nobody,
        Begin::Read(Ok(_)) => {}
    }
    match since {
        // No more than a look at what was to be read anyway.
        Some(since) if !door.hears_http(buffer[0], wire) => {
            wire.unread(buffer.freeze());
            return Intake::Other(since);
        }
        // It has been counting.
        Some(_) => {}
        None => lull.begin(settings.timeouts.head),
    }
    let mut scan = Scan::default();
    loop {
        match parse_request(&buffer, &mut scan, &settings.head) {
            Err(violation) => return Intake::Bad(violation.into()),
            Ok(Some((head, length))) => {
                wire.unread(buffer.split_off(length).freeze());
                return Intake::Head(head);
            }
            Ok(None) => {}
        }
        let more = tokio::select! {
            biased;
            more = lull.outlasted_by(fill(wire, &mut buffer)) => more,
            () = drain.handed_over() => {
                wire.unread(buffer.freeze());
                return Intake::Elsewhere;
            }
        };
        match more {
            None => return Intake::Bad(too_slow()),
            Some(Err(_) | Ok(0)) => return Intake::Nobody,
            Some(Ok(_)) => {}
        }
    }
}

/// How a wait for a head's first bytes ends.
enum Begin {
    Read(io::Result<usize>),
    Leave,
    TooLate,
}

fn too_slow() -> Fault {
    Fault::new(Code::RequestTimeout, "the request's head did not arrive in time: send it at once")
}

/// Reads what is there into `buffer`, through the thread's buffer: while it
/// waits it holds no memory. 0 at the end.
pub(super) async fn fill(wire: &mut Wire, buffer: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|cx| poll_fill(cx, wire, buffer)).await
}

fn poll_fill(cx: &mut Context<'_>, wire: &mut Wire, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
    with_buffer(|borrowed| {
        let mut read = ReadBuf::new(&mut borrowed[..HEAD_BYTES]);
        ready!(Pin::new(wire).poll_read(cx, &mut read))?;
        buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
}

/// Sends a short answer of ours; whether the client took it, for which it has
/// as long as its connection may be idle.
pub(super) async fn say(wire: &mut Wire, answer: &[u8], shared: &Shared) -> bool {
    let sent = async {
        wire.write_all(answer).await?;
        // Of a plain socket this does nothing.
        wire.flush().await
    };
    matches!(timeout(shared.settings.timeouts.keep_alive, sent).await, Ok(Ok(())))
}

/// Closes a connection on which nothing is owed, with the farewell that it
/// has beside its end.
pub(super) async fn leave(mut wire: Wire) {
    // Whoever takes longer has had its chance.
    let _ = timeout(Linger::SHORT.time, wire.shutdown()).await;
}

/// Sends a last answer, and ends what is sent.
pub(super) async fn last(wire: &mut Wire, answer: &[u8]) -> io::Result<()> {
    wire.write_all(answer).await?;
    wire.shutdown().await
}

/// Sends a last answer and closes so that it arrives: bytes that a client
/// still sends would otherwise turn the close into a reset, which throws the
/// answer away on its side.
pub(super) async fn part(mut wire: Wire, answer: &[u8], linger: Linger) {
    let goodbye = async {
        if last(&mut wire, answer).await.is_err() {
            return;
        }
        let mut thrown = 0;
        let mut buffer = BytesMut::new();
        while let Ok(1..) = fill(&mut wire, &mut buffer).await {
            thrown += buffer.len();
            buffer.clear();
            if thrown > linger.bytes {
                return;
            }
        }
    };
    // Whoever takes longer has had its chance.
    let _ = timeout(linger.time, goodbye).await;
}
