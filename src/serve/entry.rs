//! How a client comes in, before its first request.
//!
//! Owns: that it is counted, who it is behind a balancer, TLS around what it
//! says, and which protocol that is.
//! Must not know: how a request is served.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::http::{refuse, talk};
use super::intake::{self, Linger, fill};
use super::{Door, Shared, TLS, http2, socks};
use crate::config::{Protocol, ProxiedBy};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::handshake::proxy_header::{self, Source};
use crate::handshake::socks5;
use crate::net::wire::Wire;
use crate::observe::access::{Kind, Record};

/// Serves a client until its connection ends.
pub(crate) fn serve(
    shared: Arc<Shared>,
    door: Arc<Door>,
    wire: Wire,
    peer: SocketAddr,
) -> impl Future<Output = ()> + Send {
    let client = Client::new(wire, canonical(peer), door);
    async move {
        if client.door.proxied_by.is_some() {
            return Box::pin(proxied(shared, client)).await;
        }
        enter(&shared, client, true).await;
    }
}

/// Goes on with a client that another process has served before. `first`: it
/// has made no request yet.
pub(crate) fn go_on(
    shared: Arc<Shared>,
    door: Arc<Door>,
    wire: Wire,
    peer: SocketAddr,
    first: bool,
) -> impl Future<Output = ()> + Send {
    let client = Client::new(wire, canonical(peer), door);
    async move { enter(&shared, client, first).await }
}

async fn enter(shared: &Arc<Shared>, client: Box<Client>, first: bool) {
    let _counted = match shared.connections.enter(Some(client.address.ip())) {
        Ok(counted) => counted,
        Err(fault) => {
            let Client { wire, address, door, .. } = *client;
            return Box::pin(turn_away(shared, &door, wire, address, &fault)).await;
        }
    };
    let since = first.then(Instant::now);
    talk(shared, client, since).await;
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// One connection too many.
async fn turn_away(shared: &Shared, door: &Door, wire: Wire, address: SocketAddr, fault: &Fault) {
    // What is closed without a word still leaves its record; and whoever may
    // not speak HTTP here would not read it either.
    let told = shared.connections.refuse().filter(|_| door.hears_http(b'G', &wire));
    refuse(shared, told.is_some().then_some(wire), address, fault).await;
}

/// Serves a client for whom a balancer has connected.
async fn proxied(shared: Arc<Shared>, client: Box<Client>) {
    let since = Instant::now();
    let Client { mut wire, address: peer, door, .. } = *client;
    let trusted = match &door.proxied_by {
        Some(ProxiedBy::Some(nets)) => nets.iter().any(|net| net.contains(&peer.ip())),
        _ => true,
    };
    if !trusted {
        let detail = format!("{} is no balancer that this listener knows", peer.ip());
        return bad(&shared, peer, &Fault::new(Code::ClientForbidden, detail));
    }
    // Whose connection it is, only the header tells.
    let mut counted = match shared.connections.enter(None) {
        Ok(counted) => counted,
        Err(fault) => return turn_away(&shared, &door, wire, peer, &fault).await,
    };
    let header = header(&mut wire);
    let told = tokio::select! {
        biased;
        told = timeout_at(since + shared.settings.timeouts.head, header) => told,
        // Nothing has been done for it.
        () = shared.drain.leaves() => return,
    };
    let client = match told {
        Ok(Ok(Some(Source::Client(client)))) => canonical(client),
        Ok(Ok(Some(Source::Peer))) => peer,
        // A balancer that only looks whether somebody listens.
        Ok(Ok(None)) => return,
        Ok(Err(misfit)) => {
            return bad(&shared, peer, &Fault::new(Code::BadRequest, misfit.to_string()));
        }
        Err(_) => {
            let detail = "the PROXY header did not arrive in time";
            return bad(&shared, peer, &Fault::new(Code::RequestTimeout, detail));
        }
    };
    match counted.is_of(client.ip()) {
        Ok(()) => talk(&shared, Client::new(wire, client, door), Some(since)).await,
        Err(fault) => turn_away(&shared, &door, wire, client, &fault).await,
    }
}

/// The header that must come first; what follows is given back. None where
/// the connection ends before a byte.
async fn header(wire: &mut Wire) -> Result<Option<Source>, proxy_header::Misfit> {
    let mut buffer = BytesMut::new();
    loop {
        match (fill(wire, &mut buffer).await, buffer.is_empty()) {
            (Ok(0) | Err(_), true) => return Ok(None),
            (Ok(0) | Err(_), false) => return Err(proxy_header::Misfit::Missing),
            _ => {}
        }
        if let Some((source, taken)) = proxy_header::read(&buffer)? {
            wire.unread(buffer.split_off(taken).freeze());
            return Ok(Some(source));
        }
    }
}

/// Records a client that is sent away without a word: it, or its balancer,
/// speaks something else.
pub(super) fn bad(shared: &Shared, client: SocketAddr, fault: &Fault) {
    let mut record = Record::begin(Kind::Refused, client, &shared.instruments);
    super::client::note(&mut record, fault);
}

/// Serves a client that has not begun with HTTP/1: what it has sent was given
/// back to the wire.
pub(super) async fn other(shared: &Arc<Shared>, client: Box<Client>, since: Instant) {
    let first = client.wire.given_back().first().copied().unwrap_or_default();
    let protocol = client.door.protocol;
    let is_open = client.door.is_open(&client.wire);
    let malformed = |detail: &'static str| Fault::new(Code::BadRequest, detail);
    match first {
        TLS if !is_open => secure(shared, client, since).await,
        _ if !is_open && protocol != Protocol::Auto => {
            let fault = malformed("this listener speaks TLS alone: use https:// for its proxy URL");
            refuse(shared, Some(client.wire).filter(|_| protocol == Protocol::Http), client.address, &fault)
                .await;
        }
        socks5::VERSION => socks::serve(shared, client, since).await,
        socks5::VERSION_4 => {
            let fault = malformed("SOCKS4 is not spoken here: use SOCKS5, which can name a user");
            bad(shared, client.address, &fault);
            intake::part(client.wire, &socks5::REFUSES_4, Linger::SHORT).await;
        }
        TLS => {
            let fault = malformed("the client speaks TLS, and this listener has none: use http://");
            refuse(shared, Some(client.wire), client.address, &fault).await;
        }
        _ => bad(shared, client.address, &malformed("this listener speaks SOCKS5 alone")),
    }
}

/// Shakes hands, and serves what is spoken inside.
async fn secure(shared: &Arc<Shared>, client: Box<Client>, since: Instant) {
    let Client { wire, address, door, .. } = *client;
    let Some(tls) = door.tls.clone() else { return };
    let deadline = since + shared.settings.timeouts.head;
    // Boxed: it is over before what comes inside begins.
    let accepted = timeout_at(deadline, Box::pin(tls.accept(wire))).await;
    match accepted {
        Ok(Ok(accepted)) if accepted.is_h2 => {
            http2::serve(shared, door, accepted.wire, address, since).await;
        }
        Ok(Ok(accepted)) => {
            let client = Client::new(accepted.wire, address, door);
            Box::pin(talk(shared, client, Some(since))).await;
        }
        Ok(Err(error)) => {
            let fault = Fault::new(Code::BadRequest, format!("the TLS handshake failed: {error}"));
            bad(shared, address, &fault);
        }
        Err(_) => {
            let fault = Fault::new(Code::RequestTimeout, "the TLS handshake took too long");
            bad(shared, address, &fault);
        }
    }
}
