//! One client connection, from first byte to last.
//!
//! Owns: the order of a request's stages and every decision between two of
//! them. `http` reads heads and keeps the connection, `wish` judges who asks
//! for what, `link` finds the way out (`route` chooses, `link` dials and
//! fails over), `connect` and `forward` are the two kinds of request,
//! `tunnel` is what a CONNECT or an upgrade becomes. `travel` takes clients to
//! the process that has replaced this one.
//! Must not know: file formats, wiring.

use std::sync::Arc;

use crate::admit::limits::Connections;
use crate::admit::users::Users;
use crate::clock::Clock;
use crate::config::{Protocol, ProxiedBy, Timeouts};
use crate::core::ask::GatewayBounds;
use crate::core::bind::Bind;
use crate::core::policy::Own;
use crate::core::session::UserName;
use crate::core::username::Parameters;
use crate::dial::Dialer;
use crate::drain::Drain;
use crate::handshake::socks5;
use crate::http1::head::HeadLimits;
use crate::net::tls_server::TlsServer;
use crate::net::wire::Wire;
use crate::observe::instruments::Instruments;
use crate::state::InForce;
use crate::store::Store;

mod announce;
mod body;
mod client;
mod connect;
mod entry;
mod exchange;
mod forward;
mod http;
mod http2;
mod intake;
mod link;
mod outbox;
mod presence;
mod route;
mod seat;
mod socks;
mod travel;
mod tunnel;
mod wish;

pub(crate) use entry::{go_on, serve};
pub(crate) use link::tell_change;
pub(crate) use travel::Passage;

/// What every connection may use.
pub(crate) struct Shared {
    pub(crate) users: Arc<Users>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) state: Arc<InForce>,
    pub(crate) store: Store,
    pub(crate) dialer: Dialer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) drain: Drain,
    /// To the process that has taken this one's place.
    pub(crate) passage: Passage,
    pub(crate) own: Arc<Own>,
    pub(crate) instruments: Arc<Instruments>,
    pub(crate) settings: Settings,
}

/// What is configured for every connection.
pub(crate) struct Settings {
    pub(crate) bounds: GatewayBounds,
    pub(crate) timeouts: Timeouts,
    pub(crate) head: HeadLimits,
    /// Live pins at most.
    pub(crate) sessions: u32,
    /// Whether successes name exit and session.
    pub(crate) announce: bool,
    /// Our name in `Via`, where forwarded messages carry one. Each gateway
    /// has its own: two in a row are no loop.
    pub(crate) via: Option<String>,
}

/// Through which listener a client came.
pub(crate) struct Door {
    /// The listening socket, as bound.
    pub(crate) at: Bind,
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// The TLS that may be around it; that must be, unless the protocol is to
    /// be told by its first byte.
    pub(crate) tls: Option<Arc<TlsServer>>,
    /// Whose word counts for who the client is.
    pub(crate) proxied_by: Option<ProxiedBy>,
    /// Whose requests they are that come without a credential.
    pub(crate) user: Option<UserName>,
    /// What its requests mean where they do not say.
    pub(crate) defaults: Parameters,
}

/// What a client's TLS begins with: a record of its handshake.
const TLS: u8 = 0x16;

impl Door {
    /// Whether what begins with this byte is for HTTP/1 to read, or to
    /// refuse.
    fn hears_http(&self, first: u8, wire: &Wire) -> bool {
        match self.protocol {
            Protocol::Http => self.is_open(wire),
            Protocol::Socks5 => false,
            // None of these begins a request; but whether HTTP was meant
            // need not be asked any further.
            Protocol::Auto => !matches!(first, TLS | socks5::VERSION | socks5::VERSION_4),
        }
    }

    /// Whether what comes is not to begin with TLS.
    fn is_open(&self, wire: &Wire) -> bool {
        self.tls.is_none() || wire.is_secured()
    }
}
