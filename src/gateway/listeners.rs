//! The gateway's listening sockets.
//!
//! Owns: which are bound and which were handed to us, by which addresses a
//! client could reach us.
//! Must not know: what is served at them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use super::StartError;
use crate::config::{self, Config};
use crate::core::bind::Bind;
use crate::core::policy::Own;
use crate::core::pool::NameRef;
use crate::core::session::SessionId;
use crate::core::username::Parameters;
use crate::net::inherit::{ADMIN, Inherited};
use crate::net::listen::{self, Listener};
use crate::net::tls_server::TlsServer;
use crate::serve::Door;

/// Sockets that listen, and what they are for.
#[derive(Default)]
pub(super) struct Listeners {
    /// For clients, in the configuration's order.
    pub(super) clients: Vec<(Arc<Listener>, Arc<Door>)>,
    /// For the operator.
    pub(super) admin: Option<Arc<Listener>>,
    /// All of them, for the process that will take our place.
    pub(super) all: Vec<Socket>,
    /// Numbers of inherited ones that nothing listens at any longer.
    pub(super) left: Vec<u32>,
    /// The TLS of those listeners that have it.
    pub(super) secured: Vec<Secured>,
}

/// A listener's TLS.
pub(super) struct Secured {
    /// As the configuration had it at the start.
    pub(super) binds: Vec<Bind>,
    pub(super) tls: Arc<TlsServer>,
}

/// A listening socket, which closes when its accept loop lets it go.
pub(super) struct Socket {
    /// What it was bound for: its port may be 0.
    pub(super) wanted: Bind,
    /// What it is called: `admin`, or `listener-1` and so on.
    pub(super) name: String,
    /// As bound.
    pub(super) at: Bind,
    listener: Weak<Listener>,
}

impl Socket {
    /// To be handed on.
    pub(super) fn open(&self) -> Option<Arc<Listener>> {
        self.listener.upgrade()
    }

    /// Whether its loop still has it.
    pub(super) fn is_open(&self) -> bool {
        self.listener.strong_count() > 0
    }
}

impl Listeners {
    /// Takes or binds a socket for each address. Those that a service manager
    /// passed must all be for something (`strict`).
    pub(super) fn bind(config: &Config, mut given: Inherited, strict: bool) -> Result<Self, StartError> {
        let all: Vec<_> = config.listeners.iter().flat_map(|listener| &listener.binds).cloned().collect();
        let mut listeners = Self::default();
        for (number, listener) in (1..).zip(&config.listeners) {
            let tls = tls(listener);
            let secured = tls.clone().map(|tls| Secured { binds: listener.binds.clone(), tls });
            listeners.secured.extend(secured);
            for wanted in &listener.binds {
                let name = format!("listener-{number}");
                let socket = listeners.open(wanted, &all, listener.mode, &name, &mut given)?;
                let at = listeners.all.last().map_or(wanted, |socket| &socket.at).clone();
                let door = Door {
                    protocol: listener.protocol,
                    tls: tls.clone(),
                    proxied_by: listener.proxied_by.clone(),
                    user: listener.user.clone(),
                    defaults: defaults(listener, &at),
                    at,
                };
                listeners.clients.push((socket, Arc::new(door)));
            }
        }
        if let Some(wanted) = config.admin.as_ref().map(|admin| Bind::Tcp(admin.bind)) {
            listeners.admin = Some(listeners.open(&wanted, &[], 0, ADMIN, &mut given)?);
        }
        let left = given.left_over();
        if strict && !left.is_empty() {
            let why = format!("nothing is configured for the passed sockets: {}", left.join(", "));
            return Err(StartError::Listen(why));
        }
        listeners.left = given.left_numbers();
        Ok(listeners)
    }

    fn open(
        &mut self,
        wanted: &Bind,
        all: &[Bind],
        mode: u32,
        name: &str,
        given: &mut Inherited,
    ) -> Result<Arc<Listener>, StartError> {
        let failed = |source| StartError::System { what: "a listening socket cannot be used", source };
        let listener = match given.take(wanted, name) {
            Some(taken) => taken.map_err(failed)?,
            None => listen::bind(wanted, all, mode).map_err(|error| StartError::Listen(error.to_string()))?,
        };
        let (at, listener) = (listener.local().map_err(failed)?, Arc::new(listener));
        self.all.push(Socket {
            wanted: wanted.clone(),
            name: name.to_owned(),
            at,
            listener: Arc::downgrade(&listener),
        });
        Ok(listener)
    }

    /// Where clients are accepted.
    pub(super) fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.clients.iter().filter_map(|(_, door)| door.at.tcp()).collect()
    }

    /// Doors by their sockets.
    pub(super) fn doors(&self) -> HashMap<Bind, Arc<Door>> {
        self.clients.iter().map(|(_, door)| (door.at.clone(), door.clone())).collect()
    }

    /// All by which a client could reach us: a listener on every address is
    /// found at each of the host's.
    pub(super) fn own(&self) -> Own {
        let sockets: Vec<_> = self.all.iter().filter_map(|socket| socket.at.tcp()).collect();
        let everywhere = sockets.iter().any(|socket| socket.ip().is_unspecified());
        let local: Vec<IpAddr> = if everywhere {
            let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
            interfaces.iter().map(if_addrs::Interface::ip).collect()
        } else {
            Vec::new()
        };
        Own::new(sockets, local)
    }
}

fn tls(listener: &config::Listener) -> Option<Arc<TlsServer>> {
    let certificates = Some(listener.certificates.clone()).filter(|all| !all.is_empty())?;
    Some(Arc::new(TlsServer::new(certificates, listener.protocol != config::Protocol::Socks5)))
}

fn defaults(listener: &config::Listener, at: &Bind) -> Parameters {
    let written = &listener.defaults;
    let port = at.tcp().filter(|_| listener.port_is_session).map(|socket| socket.port());
    Parameters {
        session: port.and_then(|port| SessionId::new(&port.to_string())),
        ttl: written.ttl,
        idle: written.idle,
        pool: written.pool.as_deref().map(|name| NameRef::Exact(name.into())),
        failover: written.failover,
        exit: None,
        labels: written.labels.iter().map(|(key, value)| (key, value.into())).collect(),
    }
}
