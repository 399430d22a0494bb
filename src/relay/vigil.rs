//! Noticing that a peer has left while nothing is read from it.
//!
//! Owns: [`Vigil`]: what a reset, or the end of the peer's stream, comes to
//! while we work for it.
//! Must not know: what that work is.
//!
//! A reset is a leave. The end of a stream alone tells nothing: whoever has
//! closed its socket sends the same as one that has only finished its
//! request. What the end comes to is the caller's to say.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::net::wire::{Stir, Wire};

/// How often a peer is looked at of which something waits to be read: its
/// bytes or its end hide a later reset from whoever waits for one.
const LOOK: Duration = Duration::from_millis(250);

/// What the end of the peer's stream comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// It is to be asked, once: what we send it then is taken by one that
    /// still listens, and answered with a reset by one that has left.
    Ask,
    /// It has left once it got nothing for this long.
    Patience(Duration),
    /// Nothing.
    Stays,
}

/// What a vigil has noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The peer has left.
    Left,
    /// Its stream has ended: send it something ([`AtEnd::Ask`]).
    Ended,
}

/// A watch over one peer.
#[derive(Debug)]
pub(crate) struct Vigil {
    at_end: AtEnd,
    /// Armed while something waits to be read.
    look: Option<Pin<Box<Sleep>>>,
    /// When the end was noticed, or something sent since.
    quiet_since: Option<Instant>,
}

impl Vigil {
    /// Nothing was noticed yet.
    pub(crate) fn new(at_end: AtEnd) -> Self {
        Self { at_end, look: None, quiet_since: None }
    }

    /// The peer was sent something.
    pub(crate) fn note(&mut self) {
        if let Some(since) = &mut self.quiet_since {
            *since = Instant::now();
        }
    }

    /// Ready when something is noticed. After [`Sign::Ended`] it goes on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, peer: &mut Wire) -> Poll<Sign> {
        loop {
            if let Some(look) = &mut self.look {
                ready!(look.as_mut().poll(cx));
                self.look = None;
            }
            let stir = ready!(peer.poll_stir(cx));
            if stir == Stir::Reset || peer.is_broken() {
                return Poll::Ready(Sign::Left);
            }
            if stir == Stir::End
                && let Some(sign) = self.judge_end()
            {
                return Poll::Ready(sign);
            }
            self.look = Some(Box::pin(sleep(LOOK)));
        }
    }

    fn judge_end(&mut self) -> Option<Sign> {
        // An answer may be on its way just now: asked is at the second look.
        let quiet = self.quiet_since.get_or_insert_with(Instant::now).elapsed();
        match self.at_end {
            AtEnd::Ask if !quiet.is_zero() => {
                self.at_end = AtEnd::Stays;
                Some(Sign::Ended)
            }
            AtEnd::Patience(limit) if quiet >= limit => Some(Sign::Left),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    use super::*;
    use crate::net::wire::tests::tcp_pair;

    const SECOND: Duration = Duration::from_secs(1);

    async fn next(vigil: &mut Vigil, peer: &mut Wire) -> Option<Sign> {
        tokio::time::timeout(SECOND, poll_fn(|cx| vigil.poll(cx, peer))).await.ok()
    }

    fn reset(peer: TcpStream) {
        peer.set_zero_linger().unwrap();
        drop(peer);
    }

    #[tokio::test]
    async fn a_reset_is_noticed_whatever_waits_before_it() {
        for before in [&b""[..], b"bytes"] {
            for ends in [false, true] {
                let (mut near, mut far) = tcp_pair().await;
                far.write_all(before).await.unwrap();
                let mut vigil = Vigil::new(AtEnd::Stays);
                if ends {
                    far.shutdown().await.unwrap();
                }
                assert_eq!(next(&mut vigil, &mut near).await, None);
                reset(far);
                assert_eq!(next(&mut vigil, &mut near).await, Some(Sign::Left), "{before:?}, {ends}");
            }
        }
    }

    #[tokio::test]
    async fn an_end_comes_to_what_the_caller_says() {
        let (mut near, mut far) = tcp_pair().await;
        let mut patient = Vigil::new(AtEnd::Patience(SECOND / 2));
        assert_eq!(next(&mut patient, &mut near).await, None);
        far.shutdown().await.unwrap();
        assert_eq!(next(&mut Vigil::new(AtEnd::Stays), &mut near).await, None);
        let begun = Instant::now();
        assert_eq!(next(&mut patient, &mut near).await, Some(Sign::Left));
        assert!(begun.elapsed() >= SECOND / 2);
    }

    #[tokio::test]
    async fn bytes_are_no_end() {
        let (mut near, mut far) = tcp_pair().await;
        far.write_all(b"more").await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(next(&mut Vigil::new(AtEnd::Patience(Duration::ZERO)), &mut near).await, None);
    }

    #[tokio::test]
    async fn whoever_is_asked_stays_or_is_found_to_have_left() {
        let (mut near, mut far) = tcp_pair().await;
        far.shutdown().await.unwrap();
        let mut vigil = Vigil::new(AtEnd::Ask);
        assert_eq!(next(&mut vigil, &mut near).await, Some(Sign::Ended));
        near.write_all(b"are you there?").await.unwrap();
        assert_eq!(next(&mut vigil, &mut near).await, None, "it listens, and is asked once");

        let (mut near, far) = tcp_pair().await;
        drop(far);
        let mut vigil = Vigil::new(AtEnd::Ask);
        assert_eq!(next(&mut vigil, &mut near).await, Some(Sign::Ended));
        near.write_all(b"are you there?").await.unwrap();
        assert_eq!(next(&mut vigil, &mut near).await, Some(Sign::Left));
    }
}
