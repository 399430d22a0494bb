//! Work for a client that may leave meanwhile.
//!
//! Owns: what is dropped when it does, and how a client is asked whether it
//! is still there.
//! Must not know: what the work is.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::http1::framing::Asked;
use crate::http1::head::Version;
use crate::net::wire::Wire;
use crate::relay::vigil::{AtEnd, Sign, Vigil};

/// For how long a client that has ended its stream counts as there although
/// it gets nothing. With it, whoever has left frees its upstream within a
/// second.
pub(super) const PATIENCE: AtEnd = AtEnd::Patience(Duration::from_millis(700));

/// An interim answer that says nothing new. Whoever has closed its socket
/// answers it with a reset; a client of HTTP/1.1 that has ended its stream
/// behind its request, and still listens, reads past it (RFC 9110 §15.2).
pub(super) const ASKS: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the end of a client's stream comes to while it waits for an answer.
pub(super) fn at_end(asked: &Asked, wire: &Wire) -> AtEnd {
    match (asked.connect, asked.version) {
        // Nothing may come before a CONNECT's answer. Whoever has sent bytes
        // ahead for the target wants it to have them.
        (true, _) if wire.has_unread() => AtEnd::Stays,
        (true, _) | (false, Version::Http10) => PATIENCE,
        (false, Version::Http11) => AtEnd::Ask,
    }
}

/// Does the work unless the client leaves first; then the work is to be
/// dropped where it stands. It is pinned by the caller: here it would take up
/// its place twice, and be copied from one to the other.
pub(super) async fn unless_left<T>(
    client: &mut Wire,
    at_end: AtEnd,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut vigil = Vigil::new(at_end);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        while let Poll::Ready(sign) = vigil.poll(cx, client) {
            if sign == Sign::Left {
                return Poll::Ready(None);
            }
            // One that takes only a part has not read for very long.
            match Pin::new(&mut *client).poll_write(cx, ASKS) {
                Poll::Ready(Ok(n)) if n == ASKS.len() => {}
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}
