//! A plain request, from its head to the end of its answer.
//!
//! Owns: the order of its stages, and what an answer, or none, means for the
//! exit, the pin and the client's connection.
//! Must not know: how bytes are moved.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use super::client::{Client, Next, Request, fail, left, mirror, note};
use super::exchange::{Answer, BROKE_OFF, Exchange, Stopped};
use super::intake::{Linger, say};
use super::link::{self, Kept, Link};
use super::presence::{self, unless_left};
use super::tunnel::Tunnel;
use super::wish::{Asking, Wish, wish};
use super::{Door, Shared, announce, travel};
use crate::admit::limits::ending::Cut;
use crate::admit::limits::tab::used_up;
use crate::core::code::Code;
use crate::core::fault::{Blame, Fault};
use crate::dial::{Form, Purpose};
use crate::http1::answer::{self, FaultContext};
use crate::http1::forward::{self as rewrite, Back, Onward};
use crate::http1::framing::BodyKind;
use crate::http1::head::Destination;
use crate::relay::meter::Meter;

/// Serves a plain request.
pub(super) async fn forward(shared: &Arc<Shared>, client: Box<Client>, request: Request) -> Next {
    // Boxed, as all that is rare is: no other request makes room for it.
    let turn = match begin(shared, client, request).await {
        Ok(turn) => turn,
        Err(No::Fault(client, request, fault)) => {
            return Box::pin(fail(shared, client, request, fault)).await;
        }
        Err(No::Mirror(client, request)) => return Box::pin(mirror(shared, client, request)).await,
        Err(No::Left(request)) => return left(request),
    };
    turn.run().await
}

/// Why a request gets no exchange.
enum No {
    /// It is refused, or no exit takes it.
    Fault(Box<Client>, Request, Fault),
    /// It is for this gateway to answer (Max-Forwards).
    Mirror(Box<Client>, Request),
    /// Its client has left.
    Left(Request),
}

/// Judges a request and finds a way out for it.
async fn begin<'a>(
    shared: &'a Arc<Shared>,
    mut client: Box<Client>,
    mut request: Request,
) -> Result<Box<Turn<'a>>, No> {
    let asking = Asking::Head(&request.head);
    let wish = match wish(shared, &client.door, asking, client.address, &mut request.record).await {
        Ok(wish) => wish,
        Err(fault) => return Err(No::Fault(client, request, fault)),
    };
    if request.asked.max_forwards == Some(0) {
        return Err(No::Mirror(client, request));
    }
    let at_end = presence::at_end(&request.asked, &client.wire);
    let found = {
        let open = link::open(shared, &wish, Purpose::Plain, &mut client.kept, &mut request.record);
        unless_left(&mut client.wire, at_end, pin!(open)).await
    };
    match found {
        Some(Ok(link)) => Ok(Turn::new(shared, client, request, wish, link)),
        Some(Err(fault)) => Err(No::Fault(client, request, fault)),
        None => Err(No::Left(request)),
    }
}

/// A request that has its exchange.
struct Turn<'a> {
    shared: &'a Shared,
    address: SocketAddr,
    door: Arc<Door>,
    kept: Kept,
    request: Request,
    wish: Wish,
    exchange: Exchange<'a>,
    meter: Meter,
}

/// The head as the next hop gets it.
fn onward(shared: &Shared, request: &Request, link: &Link) -> Vec<u8> {
    let path = match request.head.destination() {
        Ok(Destination::Plain { path, .. }) => path,
        _ => "",
    };
    let mut out = Vec::new();
    let onward = Onward {
        target: link.target(),
        path,
        form: match &link.form {
            Form::Origin => rewrite::Form::Origin,
            Form::Absolute { authorization } => {
                rewrite::Form::Absolute { credential: authorization.as_ref() }
            }
        },
        via: shared.settings.via.as_deref(),
    };
    rewrite::request(&mut out, &request.head, &request.asked, &onward);
    out
}

/// The user's end came before the answer.
fn cut_off(shared: &Shared, cut: Cut) -> Stopped {
    let fault = match cut {
        Cut::Quota => used_up(shared.clock.now()),
        Cut::UserRemoved => Fault::new(Code::AuthFailed, "there is no such user any more"),
    };
    Stopped { fault, blame: Blame::Target, answerable: true }
}

/// Why an answer is not passed on: it is not the target's to give.
fn refusal(link: &Link, status: u16) -> Option<(Blame, Fault)> {
    let upstream = matches!(link.form, Form::Absolute { .. });
    let blame = if link.exit.via.is_template() { Blame::Token } else { Blame::Exit };
    match (status, upstream) {
        (407, true) => {
            Some((blame, Fault::new(Code::ExitAuthFailed, "the upstream refused the exit's credential")))
        }
        (407, false) => {
            let detail = "the target answered 407, which only a proxy may";
            Some((Blame::Target, Fault::new(Code::BadResponse, detail)))
        }
        (status, true) if link.exit.fault_status.contains(&status) => {
            let detail = format!("the upstream answered {status}, which means the exit itself");
            Some((blame, Fault::new(Code::ExitFailed, detail)))
        }
        _ => None,
    }
}

/// What becomes of the client's connection once its answer is passed on.
enum Passed {
    /// As the answer, and what was left of the request, allow.
    On {
        /// The answer leaves it open.
        persists: bool,
        /// The upstream connection may serve another request.
        keeps: bool,
    },
    /// It got a part of an answer, and that shows: it is closed.
    Part,
    /// It is broken.
    Done,
    /// It becomes a tunnel, once this is said.
    Switch(Vec<u8>),
    /// It gets another answer.
    Stop(Stopped),
}

impl<'a> Turn<'a> {
    fn new(shared: &'a Shared, client: Box<Client>, request: Request, wish: Wish, link: Link) -> Box<Self> {
        let head = onward(shared, &request, &link);
        let response = wish.ask.pool.timeouts.response;
        let Client { wire, address, door, kept, waits } = *client;
        let exchange = Exchange::new(shared, &request, (wire, waits), link, head, response);
        let meter = Meter::new(&wish.admission.allowance()).telling(exchange.link.flows(shared));
        Box::new(Self { shared, address, door, kept, request, wish, exchange, meter })
    }

    /// To the end of its answer. (What is moved from step to step of an async
    /// function takes up room in each; so it stays where it is.)
    async fn run(mut self: Box<Self>) -> Next {
        let answered = {
            let Self { wish, exchange, meter, .. } = &mut *self;
            wish.admission.unless_cut(|| exchange.answer(meter)).await
        };
        let passed = match answered.unwrap_or_else(|cut| Err(cut_off(self.shared, cut))) {
            Ok(answer) => self.pass_on(answer).await,
            Err(stopped) => Passed::Stop(stopped),
        };
        match passed {
            Passed::On { persists, keeps } => self.leave(persists, keeps),
            Passed::Part => Next::Part(self.exchange.part().0, Vec::new(), Linger::SHORT),
            Passed::Done => Next::Done,
            Passed::Switch(out) => Box::pin(self.switch(out)).await,
            Passed::Stop(stopped) => Box::pin(self.stop(stopped)).await,
        }
    }

    /// There is an answer: the client gets it, unless it is not the target's
    /// to give.
    async fn pass_on(&mut self, answer: Answer) -> Passed {
        self.request.record.answered();
        if let Some((blame, fault)) = refusal(&self.exchange.link, answer.head.status()) {
            return Passed::Stop(Stopped { fault, blame, answerable: true });
        }
        self.exchange.link.succeeded(self.shared);
        let news = self.exchange.link.news(self.shared).await;
        self.request.record.news = news;
        self.request.record.status = Some(answer.head.status());
        let mut out = self.exchange.owed();
        let back = Back {
            asked: &self.request.asked,
            announce: None,
            via: self.shared.settings.via.as_deref(),
            close: travel::must_close(self.shared, &self.door, &self.exchange.client)
                || !self.exchange.may_send_all(),
        };
        if answer.switching {
            announce::with(self.shared, &self.exchange.link, news, |announce| {
                rewrite::switching(&mut out, &answer.head, &Back { announce, ..back });
            });
            return Passed::Switch(out);
        }
        let sent = announce::with(self.shared, &self.exchange.link, news, |announce| {
            rewrite::response(&mut out, &answer.head, answer.body, &Back { announce, ..back })
        });
        let whole = {
            let Self { wish, exchange, meter, .. } = self;
            wish.admission.unless_cut(|| exchange.body(out, &answer, sent.decode, meter)).await
        };
        self.count();
        if let Err(end) = whole.unwrap_or_else(|cut| Err(cut.word())) {
            self.request.record.end = Some(end);
            // Nobody must take a broken answer for a whole one. Where its
            // framing tells, what came of it is not taken back by a reset.
            let framed = !sent.decode && answer.body != BodyKind::UntilClose;
            if framed && end == BROKE_OFF {
                return Passed::Part;
            }
            self.exchange.client.reset();
            return Passed::Done;
        }
        let keeps = answer.persists && answer.body != BodyKind::UntilClose;
        Passed::On { persists: sent.persists, keeps }
    }

    /// The answer is passed on.
    fn leave(mut self: Box<Self>, persists: bool, keeps: bool) -> Next {
        let sent_all = self.exchange.sent_all();
        let waits = std::mem::take(&mut self.exchange.waits);
        let (wire, link, clean) = self.exchange.part();
        if keeps && sent_all && clean {
            self.kept.put(link);
        }
        if persists && sent_all {
            let Self { address, door, kept, .. } = *self;
            Next::Request(Box::new(Client { wire, address, door, kept, waits }))
        } else {
            Next::Part(wire, Vec::new(), if sent_all { Linger::SHORT } else { Linger::UPLOAD })
        }
    }

    /// The connection becomes a tunnel.
    async fn switch(mut self: Box<Self>, out: Vec<u8>) -> Next {
        if !say(&mut self.exchange.client, &out, self.shared).await {
            self.request.record.end = Some("client_gone");
            return Next::Done;
        }
        let lull = std::mem::take(&mut self.exchange.waits.lull);
        let (client, link, _) = self.exchange.part();
        Next::Tunnel(Tunnel::new(client, lull, link, self.wish.admission, self.request.record, self.meter))
    }

    /// No answer that can be passed on.
    async fn stop(mut self: Box<Self>, stopped: Stopped) -> Next {
        self.count();
        let sent_all = self.exchange.sent_all();
        let mut out = self.exchange.owed();
        let waits = std::mem::take(&mut self.exchange.waits);
        let (mut wire, mut link, _) = self.exchange.part();
        if !sent_all {
            // The target must not take what it got for the whole.
            link.wire.reset();
        }
        if let Some(failure) = link.failed(self.shared, stopped.blame, &stopped.fault) {
            link::move_away(self.shared, &self.wish, &link, failure).await;
        }
        if !stopped.answerable {
            self.request.record.end = Some("client_gone");
            return Next::Done;
        }
        note(&mut self.request.record, &stopped.fault);
        let asked = &self.request.asked;
        let keeps = sent_all && asked.persists && !travel::must_close(self.shared, &self.door, &wire);
        let context = FaultContext { connect: false, head_only: asked.head_only, keeps };
        let answer = answer::fault(&stopped.fault, context);
        drop(link);
        out.extend_from_slice(&answer.bytes);
        if answer.closes {
            return Next::Part(wire, out, Linger::after(&stopped.fault));
        }
        match say(&mut wire, &out, self.shared).await {
            true => {
                let Self { address, door, kept, .. } = *self;
                Next::Request(Box::new(Client { wire, address, door, kept, waits }))
            }
            false => Next::Done,
        }
    }

    fn count(&mut self) {
        self.request.record.up = self.meter.up.bytes();
        self.request.record.down = self.meter.down.bytes();
    }
}
