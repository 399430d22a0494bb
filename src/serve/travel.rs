//! Clients on their way to the process that has taken this one's place.
//!
//! Owns: which connections can go there, and when: between two requests, or
//! with a request of which nothing has been done yet.
//! Must not know: how that process came about.
//!
//! A connection that goes is the same connection for its client; it does not
//! even see that something has changed. What cannot go (a TLS session is in
//! this process alone) ends as in a drain.

use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use super::client::Client;
use super::{Door, Shared};
use crate::core::bind::Bind;
use crate::net::channel::Channel;
use crate::net::handover::ToNew;
use crate::net::wire::Wire;

/// The way there, once there is one.
#[derive(Default)]
pub(crate) struct Passage(OnceLock<Far>);

struct Far {
    channel: Arc<Channel>,
    /// The listening sockets whose clients it takes.
    doors: Arc<[Bind]>,
}

impl Passage {
    /// Opens the way; to be called before the hand-over is made known.
    pub(crate) fn open(&self, channel: Arc<Channel>, doors: Arc<[Bind]>) {
        // There is one successor at most.
        let _ = self.0.set(Far { channel, doors });
    }

    fn takes(&self, at: &Bind) -> bool {
        self.0.get().is_some_and(|far| far.doors.contains(at))
    }
}

/// Whether a client of this door can go there.
pub(super) fn can_go(shared: &Shared, door: &Door, wire: &Wire) -> bool {
    shared.drain.is_handed_over() && wire.is_tcp() && shared.passage.takes(&door.at)
}

/// Whether the connection cannot live on behind the answer that is being
/// given.
pub(super) fn must_close(shared: &Shared, door: &Door, wire: &Wire) -> bool {
    shared.drain.is_begun() || (shared.drain.is_handed_over() && !can_go(shared, door, wire))
}

/// Takes a client there, with what was read from it. Where that process is
/// gone, so is the connection.
pub(super) async fn go(shared: &Shared, client: Box<Client>, first: bool) {
    let (Some(far), Ok((tcp, unread))) = (shared.passage.0.get(), client.wire.into_tcp()) else { return };
    let message = ToNew::Client { at: client.door.at.clone(), peer: client.address, first };
    if let Err(error) = far.channel.send(&message, &unread, &[tcp.as_fd()]).await {
        tracing::warn!(%error, client = %client.address, "a client could not be handed over");
    }
}
