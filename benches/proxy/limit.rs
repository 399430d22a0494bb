//! The *limit*: what the kernel charges, and as little else as can be.
//!
//! A relay in one thread on one epoll that reads the CONNECT line, asks
//! nobody who they are, connects to a numeric address, answers 200 and moves
//! bytes. It runs in a process of its own, so that its CPU can be told apart.
//! What it leaves out is what makes a proxy of use (users, names, policy,
//! time limits, logs, recovery): it is what others are compared to.
//!
//! - One `accept4` a connection; `TCP_NODELAY` is inherited from the listener,
//!   and set once on the way out. Each socket is registered once, edge
//!   triggered, for both directions.
//! - A read that did not fill the buffer has emptied the socket: it is not
//!   asked again before it says that there is more.
//! - Messages pass through one buffer by `recv` and `send`. After
//!   [`flow::FULL_READS`] reads in a row that filled it, bytes move by `splice`
//!   through a pipe of 256 KiB, which only a flow that moves bytes holds.
//! - A plain request's line is cut to origin-form and nothing else of it is
//!   touched; both connections are kept. It counts `Content-Length`, and knows
//!   neither chunks nor pipelining nor a second target.

use std::net::SocketAddr;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

use self::flow::{Flow, Moved, Shared};

#[path = "limit/flow.rs"]
mod flow;
#[path = "limit/head.rs"]
mod head;

/// The listener's place among the events.
const LISTENER: u64 = u64::MAX;
/// Events taken at a time.
const EVENTS: usize = 256;
const CLIENT: usize = 0;
const SERVER: usize = 1;

/// One socket of a pair, and what it last said about itself.
pub(crate) struct End {
    socket: OwnedFd,
    readable: bool,
    writable: bool,
    /// The other side has sent its last: only a read of nothing is the end.
    hung: bool,
}

/// A client's connection and the one that was made for it.
struct Pair {
    ends: [Option<End>; 2],
    /// From the client, and to it.
    flows: [Flow; 2],
    stage: Stage,
    /// What goes to the server first.
    first: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    /// Whether a 200 is owed once it is made.
    Connecting {
        tunnel: bool,
    },
    Open,
    Over,
}

struct Relay {
    epoll: OwnedFd,
    listener: OwnedFd,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    /// Ended in this turn: events of it may still come from the same batch.
    ended: Vec<usize>,
    shared: Shared,
    upstream: Option<SocketAddr>,
}

/// Relays until it is killed. With an `upstream`, CONNECTs are sent on to it.
pub(crate) fn run(address: SocketAddr, upstream: Option<SocketAddr>) -> ! {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    let listener =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None)
            .expect("a socket");
    sockopt::set_socket_reuseaddr(&listener, true).expect("an option");
    sockopt::set_tcp_nodelay(&listener, true).expect("an option");
    rustix::net::bind(&listener, &address).expect("a free port");
    rustix::net::listen(&listener, 1024).expect("a listener");
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN).expect("a place");
    let mut relay = Relay {
        epoll,
        listener,
        pairs: Vec::new(),
        free: Vec::new(),
        ended: Vec::new(),
        shared: Shared::default(),
        upstream,
    };
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        match epoll::wait(&relay.epoll, spare_capacity(&mut events), None) {
            // Who traces it interrupts it.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("no events: {error}"),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => relay.accept(),
                key => relay.ready((key >> 1) as usize, (key & 1) as usize, event.flags),
            }
        }
        relay.bury();
    }
}

impl Relay {
    /// One at a time: the listener says so again as long as there are more.
    fn accept(&mut self) {
        let Ok(socket) =
            rustix::net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
        else {
            return;
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        self.watch(&socket, slot, CLIENT);
        self.pairs[slot] = Some(Pair {
            ends: [Some(End::new(socket)), None],
            flows: [Flow::default(), Flow::default()],
            stage: Stage::Head,
            first: Vec::new(),
        });
    }

    fn watch(&self, socket: &OwnedFd, slot: usize, side: usize) {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let key = EventData::new_u64((slot as u64) << 1 | side as u64);
        epoll::add(&self.epoll, socket, key, flags).expect("a place");
    }

    fn ready(&mut self, slot: usize, side: usize, flags: EventFlags) {
        let Some(mut pair) = self.pairs[slot].take() else { return };
        if self.step(&mut pair, slot, side, flags).is_none() {
            pair.stage = Stage::Over;
            pair.ends = [None, None];
            pair.flows.iter_mut().for_each(|flow| flow.release(&mut self.shared));
            self.ended.push(slot);
        } else {
            self.pairs[slot] = Some(pair);
        }
    }

    /// None once the pair is over.
    fn step(&mut self, pair: &mut Pair, slot: usize, side: usize, flags: EventFlags) -> Option<()> {
        let end = pair.ends[side].as_mut()?;
        let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        end.hung |= broken || flags.contains(EventFlags::RDHUP);
        end.readable |= end.hung || flags.contains(EventFlags::IN);
        end.writable |= broken || flags.contains(EventFlags::OUT);
        match pair.stage {
            Stage::Head if end.readable => self.begin(pair, slot),
            Stage::Connecting { tunnel } if side == SERVER && end.writable => {
                if broken {
                    return None;
                }
                pair.stage = Stage::Open;
                if tunnel {
                    let client = pair.ends[CLIENT].as_ref()?;
                    flow::send(&client.socket, b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
                } else {
                    let first = std::mem::take(&mut pair.first);
                    flow::send(&pair.ends[SERVER].as_ref()?.socket, &first).ok()?;
                }
                self.pump(pair, CLIENT)?;
                self.pump(pair, SERVER)
            }
            Stage::Open => {
                let reads = end.readable;
                let writes = end.writable && pair.flows[1 - side].waits();
                if reads {
                    self.pump(pair, side)?;
                }
                if writes { self.pump(pair, 1 - side) } else { Some(()) }
            }
            _ => Some(()),
        }
    }

    /// Reads the first head, and connects to where it says.
    fn begin(&mut self, pair: &mut Pair, slot: usize) -> Option<()> {
        let client = pair.ends[CLIENT].as_mut()?;
        let read = self.shared.receive(client)?;
        if read == 0 {
            return None;
        }
        let bytes = self.shared.bytes(read);
        // A head in pieces would be more work: this one's clients send it at once.
        let head = head::read(bytes)?;
        let tunnel = head.connect && self.upstream.is_none();
        let to = self.upstream.or(head.target)?;
        if head.connect {
            pair.first.extend_from_slice(if tunnel { &[] } else { bytes });
        } else {
            let body = read - head.end;
            pair.flows[CLIENT] = Flow::of_messages(head.body.saturating_sub(body as u64));
            pair.flows[SERVER] = Flow::of_messages(0);
            head::origin_form(bytes, |part| pair.first.extend_from_slice(part));
        }
        let socket = connect(to)?;
        self.watch(&socket, slot, SERVER);
        pair.ends[SERVER] = Some(End::new(socket));
        pair.stage = Stage::Connecting { tunnel };
        Some(())
    }

    /// Moves what there is from `side` to the other. None once both are done.
    fn pump(&mut self, pair: &mut Pair, side: usize) -> Option<()> {
        let [client, server] = &mut pair.ends;
        let (client, server) = (client.as_mut()?, server.as_mut()?);
        let (from, to) = if side == CLIENT { (client, server) } else { (server, client) };
        match pair.flows[side].pump(from, to, &mut self.shared)? {
            Moved::SoFar => Some(()),
            // Of messages, neither connection is kept without the other.
            Moved::Ended if pair.flows[side].is_of_messages() || pair.flows[1 - side].has_ended() => None,
            Moved::Ended => rustix::net::shutdown(&to.socket, Shutdown::Write).ok(),
        }
    }

    fn bury(&mut self) {
        self.free.append(&mut self.ended);
    }
}

impl End {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, readable: false, writable: false, hung: false }
    }
}

/// A connection in the making.
fn connect(to: SocketAddr) -> Option<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).ok()?;
    sockopt::set_tcp_nodelay(&socket, true).ok()?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Some(socket),
        Err(_) => None,
    }
}
