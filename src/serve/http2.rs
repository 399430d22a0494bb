//! A connection that speaks HTTP/2 (RFC 9113), within TLS.
//!
//! Owns: its limits, the life of a connection that carries many requests at
//! once, and that each of them becomes what it would be over HTTP/1.
//! Must not know: how a request is served, how a stream moves its bytes.
//!
//! Each stream is a [`Wire`] that speaks HTTP/1 ([`stream`] translates), so a
//! request goes through the very stages that it would go through otherwise.
//! All streams are polled in the connection's task: with it, they end.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::server::{Builder, Connection, SendResponse};
use h2::{PingPong, Reason, RecvStream};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use self::flood::Guarded;
use self::stream::Stream;
use super::client::{Client, Next, note};
use super::intake::{Linger, last};
use super::{Door, Shared, entry, http};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::http1::answer::{self, FaultContext};
use crate::http1::head::{Scan, parse_request};
use crate::net::wire::Wire;
use crate::observe::access::{Kind, Record};

mod flood;
mod head;
mod stream;

/// Requests and tunnels at once on one connection.
const MOST_STREAMS: u32 = 100;
/// What a stream may send ahead of what is taken of it, in bytes.
const WINDOW: u32 = 256 * 1024;
/// What is kept for a stream that the client does not take, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that the client has reset before they were looked at.
const MOST_PENDING_RESETS: usize = 20;
/// Streams that the client has broken, over a connection's life.
const MOST_LOCAL_RESETS: usize = 256;
/// How often the client of a connection with streams is asked whether it is
/// there, and how long it has to say so; where `keep_alive` and `head` are
/// less, they count.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long a connection that is over has to take its farewell, and its
/// streams to see that.
const FAREWELL: Duration = Duration::from_secs(2);

type Requests<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>;

/// Serves a connection until it ends. `since`: when that began.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    door: Arc<Door>,
    wire: Wire,
    address: SocketAddr,
    since: Instant,
) {
    let (guarded, flood) = Guarded::new(wire);
    let handshake = builder(shared).handshake::<_, Bytes>(guarded);
    let over = match timeout_at(since + shared.settings.timeouts.head, handshake).await {
        Ok(Ok(connection)) => {
            let life = Life::new(shared, connection, since);
            Box::pin(life.run(&door, address, &flood)).await
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let detail = "the client's HTTP/2 preface did not arrive in time";
            return entry::bad(shared, address, &Fault::new(Code::RequestTimeout, detail));
        }
    };
    match over {
        // A client that is gone has done nothing wrong.
        Ok(()) => {}
        Err(error) if error.is_io() || error.is_remote() => {}
        Err(error) => {
            let detail = match flood.is_seen() {
                true => "a flood of HTTP/2 frames that carry nothing".to_owned(),
                false => format!("the HTTP/2 connection is broken: {error}"),
            };
            entry::bad(shared, address, &Fault::new(Code::BadRequest, detail));
        }
    }
}

fn builder(shared: &Shared) -> Builder {
    let head_bytes = u32::try_from(shared.settings.head.bytes).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MOST_STREAMS)
        .initial_window_size(WINDOW)
        // So that no stream that is not read can hold up the others.
        .initial_connection_window_size(WINDOW * MOST_STREAMS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(head_bytes)
        .max_pending_accept_reset_streams(MOST_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MOST_LOCAL_RESETS));
    builder
}

/// A connection while it lives.
struct Life<'a> {
    shared: &'a Arc<Shared>,
    connection: Connection<Guarded, Bytes>,
    requests: Requests<'a>,
    ping: Option<PingPong>,
    /// The client was asked for a sign of life, which is due.
    asked: bool,
    /// There is no request.
    idle: bool,
    /// Rings when the client has been waited for long enough.
    alarm: Pin<Box<Sleep>>,
    /// It takes no more requests.
    leaving: bool,
}

impl<'a> Life<'a> {
    fn new(shared: &'a Arc<Shared>, mut connection: Connection<Guarded, Bytes>, since: Instant) -> Self {
        let head = shared.settings.timeouts.head;
        Self {
            shared,
            ping: connection.ping_pong(),
            connection,
            requests: FuturesUnordered::new(),
            asked: false,
            idle: true,
            alarm: Box::pin(sleep_until(since + head)),
            leaving: false,
        }
    }

    async fn run(
        mut self,
        door: &Arc<Door>,
        address: SocketAddr,
        flood: &flood::Flood,
    ) -> Result<(), h2::Error> {
        let mut leaves = pin!(self.shared.drain.leaves());
        let over = loop {
            tokio::select! {
                biased;
                () = flood.seen() => {
                    self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    let _told = timeout(FAREWELL, self.connection.accept()).await;
                    break Err(Reason::ENHANCE_YOUR_CALM.into());
                }
                Some(()) = self.requests.next() => {
                    if self.requests.is_empty() {
                        self.rest();
                    }
                }
                accepted = self.connection.accept() => match accepted {
                    Some(Ok((request, respond))) => self.take(door, address, request, respond),
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
                () = &mut leaves, if !self.leaving => {
                    // What is under way goes on; new requests go elsewhere.
                    self.leave();
                }
                () = answered(&mut self.ping), if self.asked => {
                    self.asked = false;
                    if !self.idle {
                        self.wait(self.pings().0);
                    }
                }
                () = &mut self.alarm => if !self.look() { break Ok(()) },
            }
        };
        // Tunnels whose client is gone end with a reset.
        let ended = async { while self.requests.next().await.is_some() {} };
        drop(self.connection);
        let _ended = timeout(FAREWELL, ended).await;
        over
    }

    fn take(
        &mut self,
        door: &Arc<Door>,
        address: SocketAddr,
        request: ::http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) {
        if std::mem::take(&mut self.idle) {
            self.wait(self.pings().0);
        }
        self.requests.push(Box::pin(one(self.shared, door.clone(), address, request, respond)));
    }

    /// The last request is over.
    fn rest(&mut self) {
        self.idle = true;
        self.wait(if self.leaving { FAREWELL } else { self.shared.settings.timeouts.keep_alive });
    }

    fn wait(&mut self, time: Duration) {
        self.alarm.as_mut().reset(Instant::now() + time);
    }

    fn pings(&self) -> (Duration, Duration) {
        let timeouts = &self.shared.settings.timeouts;
        (PING.0.min(timeouts.keep_alive), PING.1.min(timeouts.head))
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.connection.graceful_shutdown();
        if self.requests.is_empty() {
            self.wait(FAREWELL);
        }
    }

    /// Looks after a client of which nothing was heard; whether it may stay.
    fn look(&mut self) -> bool {
        match (self.idle, self.asked) {
            // It has had its farewell.
            (true, _) if self.leaving => return false,
            (true, _) => self.leave(),
            (false, true) => {
                self.connection.abrupt_shutdown(Reason::NO_ERROR);
                return false;
            }
            (false, false) => {
                let sent = self.ping.as_mut().map(|ping| ping.send_ping(h2::Ping::opaque()));
                self.asked = matches!(sent, Some(Ok(())));
                let (every, within) = self.pings();
                self.wait(if self.asked { within } else { every });
            }
        }
        true
    }
}

/// Ready once the client has said that it is there.
async fn answered(ping: &mut Option<PingPong>) {
    match ping {
        // What it fails of, the connection will tell.
        Some(ping) => drop(poll_fn(|cx| ping.poll_pong(cx)).await),
        None => std::future::pending().await,
    }
}

/// Serves one request.
async fn one(
    shared: &Arc<Shared>,
    door: Arc<Door>,
    address: SocketAddr,
    request: ::http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let Some(bytes) = head::of_request(&parts, body.is_end_stream()) else {
        return respond.send_reset(Reason::PROTOCOL_ERROR);
    };
    let parsed = parse_request(&bytes, &mut Scan::default(), &shared.settings.head);
    let stream = Stream::carrier(&parts.method, bytes.framing(), body, respond);
    let client = Client::new(Wire::from(stream), address, door);
    let next = match parsed {
        Ok(Some((head, _))) => http::request(shared, client, head).await,
        parsed => {
            let malformed = || Fault::new(Code::BadRequest, "the request is not usable");
            let fault = parsed.map_or_else(Fault::from, |_| malformed());
            let mut record = Record::begin(Kind::Refused, address, &shared.instruments);
            note(&mut record, &fault);
            let answer = answer::fault(&fault, FaultContext::UNREAD).bytes;
            Next::Part(client.wire, answer, Linger::SHORT)
        }
    };
    match next {
        Next::Tunnel(tunnel) => tunnel.run(shared.settings.timeouts.idle).await,
        // Whatever else the client sends of it, the stream's end tells it.
        Next::Part(mut wire, answer, _) => {
            let told = last(&mut wire, &answer);
            drop(timeout(shared.settings.timeouts.keep_alive, told).await);
        }
        Next::Request(_) | Next::Done | Next::Elsewhere(_) => {}
    }
}
