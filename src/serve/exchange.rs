//! A request and its answer, both under way at once.
//!
//! Owns: moving the request's head and body on while answers come in, the
//! interim ones among them; the time that each may take.
//! Must not know: what an answer means for exits and pins.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use super::Shared;
use super::body::Body;
use super::client::{Request, Waits};
use super::link::Link;
use super::outbox::Outbox;
use super::presence;
use crate::core::code::Code;
use crate::core::fault::{Blame, Fault};
use crate::dial::Form;
use crate::http1::chunked::Chunked;
use crate::http1::fields::Named;
use crate::http1::forward::{self as rewrite, Back};
use crate::http1::framing::{self, Answered, Asked, BodyKind};
use crate::http1::head::{HeadLimits, ResponseHead, Scan, Violation, parse_response};
use crate::net::wire::Wire;
use crate::relay::buffer::{HEAD_BYTES, with_buffer};
use crate::relay::copy::Broken;
use crate::relay::lull::Lull;
use crate::relay::meter::{Gauge, Meter};
use crate::relay::vigil::{AtEnd, Sign, Vigil};

/// More interim answers than this are a flood.
const MOST_INTERIM: u32 = 32;

/// How a body ends that its sender broke off.
pub(super) const BROKE_OFF: &str = "upstream_broke_off";

/// The two connections of a plain request.
pub(super) struct Exchange<'a> {
    pub(super) client: Wire,
    pub(super) waits: Waits,
    pub(super) link: Link,
    asked: Asked,
    limits: &'a HeadLimits,
    shared: &'a Shared,
    /// How long the answer's head may take.
    response: Duration,
    /// Our head, as far as it is not written yet.
    head: Outbox,
    body: Body,
    /// The upstream takes nothing more: its answer may still come.
    deaf: bool,
    /// Interim answers on their way to the client.
    interim: Outbox,
    interims: u32,
    /// A 100 was among them.
    continued: bool,
    incoming: BytesMut,
    scan: Scan,
    /// Over the client, while nothing is read from it.
    vigil: (AtEnd, Vigil),
}

/// A final answer's head.
pub(super) struct Answer {
    pub(super) head: ResponseHead,
    pub(super) body: BodyKind,
    pub(super) persists: bool,
    /// A 101.
    pub(super) switching: bool,
}

/// Why there is no answer.
pub(super) struct Stopped {
    pub(super) fault: Fault,
    pub(super) blame: Blame,
    /// Whether the client is still there to be told.
    pub(super) answerable: bool,
}

fn bad(violation: Violation) -> Stopped {
    Stopped { fault: violation.of_response(), blame: Blame::Target, answerable: true }
}

/// The client left before its request was whole or its answer came: nobody is
/// there to be told, so the fault is for the record alone.
fn client_gone() -> Stopped {
    let fault = Fault::new(Code::BadRequest, "the client left before its answer came");
    Stopped { fault, blame: Blame::Target, answerable: false }
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        request: &Request,
        (mut client, waits): (Wire, Waits),
        link: Link,
        head: Vec<u8>,
        response: Duration,
    ) -> Self {
        let limits = &shared.settings.head;
        let named = Named::of(request.head.fields());
        let mut body = Body::new(request.asked.body, named, false, limits);
        let head = Outbox::new(head, &mut body, &mut client);
        Self {
            client,
            waits,
            link,
            asked: request.asked,
            limits,
            shared,
            response,
            head,
            body,
            deaf: false,
            interim: Outbox::default(),
            interims: 0,
            continued: false,
            incoming: BytesMut::new(),
            scan: Scan::default(),
            vigil: (AtEnd::Stays, Vigil::new(AtEnd::Stays)),
        }
    }

    /// Whether all of the request was moved on, so that what the client sends
    /// next is its next request.
    pub(super) fn sent_all(&self) -> bool {
        self.head.is_empty() && self.body.is_moved()
    }

    /// Whether all of it still can be: a client that waits for its 100 need
    /// not send its body after any other answer.
    pub(super) fn may_send_all(&self) -> bool {
        self.sent_all() || !self.deaf && (!self.asked.expects_continue || self.continued)
    }

    /// What the client has not got yet of interim answers: it goes before all
    /// else, for a part of them may be with the client already.
    pub(super) fn owed(&mut self) -> Vec<u8> {
        let mut interim = std::mem::take(&mut self.interim);
        interim.bytes.split_off(interim.written)
    }

    /// Both connections, and whether the upstream's holds nothing unread.
    pub(super) fn part(mut self) -> (Wire, Link, bool) {
        let clean = self.incoming.is_empty();
        self.link.wire.unread(self.incoming.split().freeze());
        (self.client, self.link, clean)
    }

    /// Sends the request and waits for the head of its final answer.
    pub(super) async fn answer(&mut self, meter: &mut Meter) -> Result<Answer, Stopped> {
        let timeouts = &self.shared.settings.timeouts;
        let mut stall = Lull::new(timeouts.body);
        self.waits.lull.begin(self.response);
        poll_fn(|cx| {
            let before = (meter.up.bytes(), self.head.written);
            if let Err(stopped) = self.poll_up(cx, &mut meter.up) {
                return Poll::Ready(Err(stopped));
            }
            if before != (meter.up.bytes(), self.head.written) {
                stall.note();
                self.waits.lull.note();
            }
            if let Poll::Ready(answer) = self.poll_answer(cx) {
                return Poll::Ready(answer);
            }
            if self.has_left(cx) {
                return Poll::Ready(Err(client_gone()));
            }
            if self.client_is_due() {
                ready!(stall.poll(cx));
                let detail = "the request's body stopped arriving";
                return Poll::Ready(Err(self.target_fault(Code::RequestTimeout, detail)));
            }
            ready!(self.waits.lull.poll(cx));
            let detail = "no answer came in time";
            let mut stopped = self.target_fault(Code::TargetTimeout, detail);
            stopped.blame = Blame::Silence;
            Poll::Ready(Err(stopped))
        })
        .await
    }

    /// Whether it is the client's turn to send, rather than the target's to
    /// take what was sent, or to answer.
    fn client_is_due(&self) -> bool {
        let waits_for_100 = self.asked.expects_continue && !self.continued;
        !self.sent_all() && !self.deaf && !self.is_blocked() && !waits_for_100
    }

    /// Whether the upstream does not take what it is sent.
    fn is_blocked(&self) -> bool {
        !self.head.is_empty() || self.body.is_holding()
    }

    /// Whether the client has left while nothing is read from it.
    fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        let at_end = match self.sent_all() {
            true => presence::at_end(&self.asked, &self.client),
            false if self.is_blocked() || self.deaf => AtEnd::Stays,
            false => return false,
        };
        if at_end != self.vigil.0 {
            self.vigil = (at_end, Vigil::new(at_end));
        }
        while let Poll::Ready(sign) = self.vigil.1.poll(cx, &mut self.client) {
            if sign == Sign::Left {
                return true;
            }
            self.interim.bytes.extend_from_slice(presence::ASKS);
            if let Poll::Ready(Err(_)) = self.interim.poll(cx, &mut self.client) {
                return true;
            }
        }
        false
    }

    fn poll_up(&mut self, cx: &mut Context<'_>, gauge: &mut Gauge) -> Result<(), Stopped> {
        if self.deaf {
            return Ok(());
        }
        match self.head.poll(cx, &mut self.link.wire) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(body)) => gauge.add(body),
            Poll::Ready(Err(_)) => {
                self.deaf = true;
                return Ok(());
            }
        }
        match self.body.poll(cx, &mut self.client, &mut self.link.wire, gauge) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(Broken::Sink(_))) => {
                self.deaf = true;
                Ok(())
            }
            Poll::Ready(Err(Broken::Source(_) | Broken::Short)) => Err(client_gone()),
            Poll::Ready(Err(Broken::UsedUp)) => {
                let detail = "the user's quota was used up on the way: come back when a new day begins";
                Err(self.target_fault(Code::QuotaExceeded, detail))
            }
            Poll::Ready(Err(Broken::Fault(violation))) => {
                Err(Stopped { fault: violation.into(), blame: Blame::Target, answerable: true })
            }
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Stopped>> {
        loop {
            // What the client does not take is not read: nothing piles up.
            if ready!(self.interim.poll(cx, &mut self.client)).is_err() {
                return Poll::Ready(Err(client_gone()));
            }
            match parse_response(&self.incoming, &mut self.scan, self.limits) {
                Err(violation) => return Poll::Ready(Err(self.unreadable(violation))),
                Ok(None) => {}
                Ok(Some((head, length))) => {
                    let _head = self.incoming.split_to(length);
                    match self.take(head) {
                        Err(violation) => return Poll::Ready(Err(bad(violation))),
                        Ok(None) => continue,
                        // What the client is still owed goes first.
                        Ok(Some(answer)) => return Poll::Ready(Ok(answer)),
                    }
                }
            }
            if !ready!(self.read(cx)) {
                return Poll::Ready(Err(self.broke_off()));
            }
        }
    }

    fn take(&mut self, head: ResponseHead) -> Result<Option<Answer>, Violation> {
        let (body, persists, switching) = match framing::response(&head, &self.asked)? {
            Answered::Interim => {
                self.interims += 1;
                if self.interims > MOST_INTERIM {
                    return Err(Violation::Malformed("it sends interim answers without end"));
                }
                self.continued |= head.status() == 100;
                let via = self.shared.settings.via.as_deref();
                let back = Back { asked: &self.asked, announce: None, via, close: false };
                rewrite::interim(&mut self.interim.bytes, &head, &back);
                return Ok(None);
            }
            Answered::Switching => (BodyKind::UntilClose, false, true),
            Answered::Final { body, persists } => (body, persists, false),
        };
        if body == BodyKind::Chunked {
            // A body that is broken where it begins is no answer at all.
            Chunked::decoded(*self.limits).check(&self.incoming)?;
        }
        Ok(Some(Answer { head, body, persists, switching }))
    }

    /// Whether the upstream sent something.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        with_buffer(|borrowed| {
            let mut read = ReadBuf::new(&mut borrowed[..HEAD_BYTES]);
            let done = ready!(Pin::new(&mut self.link.wire).poll_read(cx, &mut read));
            self.incoming.extend_from_slice(read.filled());
            Poll::Ready(done.is_ok() && !read.filled().is_empty())
        })
    }

    fn is_absolute(&self) -> bool {
        matches!(self.link.form, Form::Absolute { .. })
    }

    fn target_fault(&self, code: Code, detail: &'static str) -> Stopped {
        Stopped { fault: Fault::new(code, detail), blame: Blame::Target, answerable: true }
    }

    /// What is no HTTP, no upstream that speaks HTTP passes on; what is bad
    /// HTTP, a target may have made, and it could make any exit look bad.
    fn unreadable(&self, violation: Violation) -> Stopped {
        let is_http = self.interims > 0 || self.incoming.starts_with(b"HTTP/1.");
        if self.is_absolute() && !is_http {
            let fault = Fault::new(Code::ExitFailed, "the upstream's answer is no HTTP");
            return Stopped { fault, blame: Blame::Exit, answerable: true };
        }
        bad(violation)
    }

    fn broke_off(&self) -> Stopped {
        // An upstream that had begun to answer, or was in use before, is well.
        if self.is_absolute() && self.incoming.is_empty() && self.link.is_untold() {
            let fault = Fault::new(Code::ExitFailed, "the upstream closed its connection without an answer");
            return Stopped { fault, blame: Blame::Exit, answerable: true };
        }
        self.target_fault(Code::BadResponse, "the target closed its connection before its answer was whole")
    }

    /// Sends the answer's head and moves its body. The request's body goes on
    /// meanwhile, but is not waited for.
    pub(super) async fn body(
        &mut self,
        head: Vec<u8>,
        answer: &Answer,
        decode: bool,
        meter: &mut Meter,
    ) -> Result<(), &'static str> {
        let mut outbox = Outbox { bytes: head, ..Outbox::default() };
        let named = Named::of(answer.head.fields());
        let mut body = Body::new(answer.body, named, decode, self.limits);
        if !body.is_moved() {
            self.link.wire.unread(self.incoming.split().freeze());
            outbox.body = body.begin(&mut self.link.wire, &mut outbox.bytes);
        }
        self.waits.lull.begin(self.shared.settings.timeouts.idle);
        let mut vigil = Vigil::new(presence::PATIENCE);
        poll_fn(|cx| {
            let before = (meter.total(), outbox.written);
            if self.poll_up(cx, &mut meter.up).is_err() {
                self.link.wire.reset();
                self.deaf = true;
            }
            match outbox.poll(cx, &mut self.client) {
                Poll::Ready(Ok(body)) => meter.down.add(body),
                Poll::Ready(Err(_)) => return Poll::Ready(Err("client_gone")),
                Poll::Pending => {
                    if (meter.total(), outbox.written) != before {
                        self.waits.lull.note();
                    }
                    return self.waits.lull.poll(cx).map(|()| Err("client_stalled"));
                }
            }
            match body.poll(cx, &mut self.link.wire, &mut self.client, &mut meter.down) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(Broken::Sink(_))) => return Poll::Ready(Err("client_gone")),
                Poll::Ready(Err(Broken::Fault(_))) => return Poll::Ready(Err("bad_response")),
                Poll::Ready(Err(Broken::UsedUp)) => return Poll::Ready(Err("quota")),
                Poll::Ready(Err(Broken::Source(_) | Broken::Short)) => {
                    return Poll::Ready(Err(BROKE_OFF));
                }
                Poll::Pending => {}
            }
            if (meter.total(), outbox.written) != before {
                self.waits.lull.note();
                vigil.note();
            }
            if (self.sent_all() || self.deaf) && vigil.poll(cx, &mut self.client).is_ready() {
                return Poll::Ready(Err("client_gone"));
            }
            self.waits.lull.poll(cx).map(|()| Err("idle"))
        })
        .await
    }
}
