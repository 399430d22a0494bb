//! Reading heads from a client, and parting from it.
//!
//! Owns: the wait for a head and its limits; closing so that the last answer
//! arrives.
//! Must not know: what a head asks for.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::ready;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Door, Shared};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::drain::Drain;
use crate::http1::head::{HeadLimits, RequestHead, Scan, parse_request};
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

/// Reads one head. The first one of a connection (`opening`: since when it
/// stands, where it came in) must be there in `head` time, sent or not; a
/// later one within `head` of its first byte, which may be `keep_alive` away.
pub(super) async fn head(
    wire: &mut Wire,
    opening: Option<(Instant, &Door)>,
    limits: &HeadLimits,
    (head, keep_alive): (Duration, Duration),
    drain: &Drain,
) -> Intake {
    let mut buffer = BytesMut::new();
    let (begun, idle) = match opening {
        Some((since, _)) => (since, head),
        None => (Instant::now(), keep_alive),
    };
    let begin = tokio::select! {
        biased;
        read = timeout_at(begun + idle, fill(wire, &mut buffer)) => read,
        () = drain.leaves() => {
            return if drain.is_begun() { Intake::Nobody } else { Intake::Elsewhere };
        }
    };
    match begin {
        Err(_) if opening.is_some() => return Intake::Bad(too_slow()),
        Err(_) | Ok(Err(_) | Ok(0)) => return Intake::Nobody,
        Ok(Ok(_)) => {}
    }
    let deadline = match opening {
        // No more than a look at what was to be read anyway.
        Some((since, door)) if !door.hears_http(buffer[0], wire) => {
            wire.unread(buffer.freeze());
            return Intake::Other(since);
        }
        Some((since, _)) => since + head,
        None => Instant::now() + head,
    };
    let mut scan = Scan::default();
    loop {
        match parse_request(&buffer, &mut scan, limits) {
            Err(violation) => return Intake::Bad(violation.into()),
            Ok(Some((head, length))) => {
                wire.unread(buffer.split_off(length).freeze());
                return Intake::Head(head);
            }
            Ok(None) => {}
        }
        let more = tokio::select! {
            biased;
            more = timeout_at(deadline, fill(wire, &mut buffer)) => more,
            () = drain.handed_over() => {
                wire.unread(buffer.freeze());
                return Intake::Elsewhere;
            }
        };
        match more {
            Err(_) => return Intake::Bad(too_slow()),
            Ok(Err(_) | Ok(0)) => return Intake::Nobody,
            Ok(Ok(_)) => {}
        }
    }
}

fn too_slow() -> Fault {
    Fault::new(Code::RequestTimeout, "the request's head did not arrive in time: send it at once")
}

/// Reads what is there into `buffer`, through the thread's buffer: while it
/// waits it holds no memory. 0 at the end.
pub(super) async fn fill(wire: &mut Wire, buffer: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|cx| {
        with_buffer(|borrowed| {
            let mut read = ReadBuf::new(&mut borrowed[..HEAD_BYTES]);
            ready!(Pin::new(&mut *wire).poll_read(cx, &mut read))?;
            buffer.extend_from_slice(read.filled());
            Ok(read.filled().len()).into()
        })
    })
    .await
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
