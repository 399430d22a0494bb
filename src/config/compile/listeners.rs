//! Sockets to listen on.
//!
//! Owns: listeners and their defaults, the admin listener, and that no two
//! share a socket.
//! Must not know: how they are bound.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Reading;
use super::profiles::Profiles;
use crate::config::file::{AdminEntry, ListenerEntry};
use crate::config::findings::Place;
use crate::config::read::Later;
use crate::config::values::{self, FromText};
use crate::config::{Admin, Defaults, Listener};
use crate::core::session::Filter;

/// More sockets than a gateway could want are a slip in a range of ports.
const SOCKETS_MAX: usize = 10_000;

/// The sockets that are taken, and where that is written.
pub(super) struct Sockets {
    has_users: bool,
    taken: HashMap<SocketAddr, Place>,
}

impl Sockets {
    pub(super) fn new(has_users: bool) -> Self {
        Self { has_users, taken: HashMap::new() }
    }

    /// Takes a socket; port 0 is another one each time.
    fn take(&mut self, socket: SocketAddr, place: &Place) -> Result<(), String> {
        let before = (socket.port() != 0).then(|| self.taken.insert(socket, place.clone())).flatten();
        match before {
            Some(before) => Err(format!("{socket} is taken by {before}")),
            None => Ok(()),
        }
    }

    /// Takes the sockets of a listener for clients.
    fn take_all(&mut self, sockets: &[SocketAddr], place: &Place) -> Result<(), String> {
        let open = sockets.iter().find(|socket| !socket.ip().to_canonical().is_loopback());
        if let Some(open) = open.filter(|_| !self.has_users) {
            return Err(format!(
                "without users the gateway listens on loopback alone, and {} is not: \
                 write \"users\", or bind 127.0.0.1",
                open.ip()
            ));
        }
        if self.taken.len() + sockets.len() > SOCKETS_MAX {
            return Err(format!("expected at most {SOCKETS_MAX} sockets in all"));
        }
        sockets.iter().try_for_each(|socket| self.take(*socket, place))
    }
}

/// The admin listener: without a token, on loopback alone.
pub(super) fn admin(reading: &mut Reading<'_>, written: AdminEntry, sockets: &mut Sockets) -> Option<Admin> {
    let root = reading.document.root();
    let place = reading.place(root, &["admin", "bind"]);
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
    let bind = written.bind.map_or_else(|| vec![default], |bind| bind.0);
    let [socket] = *bind else {
        reading.findings.add(place, "expected one address and port");
        return None;
    };
    let token = written.token.map(|token| token.0);
    if token.is_none() && !socket.ip().to_canonical().is_loopback() {
        let expected = "without \"token\" expected an address on loopback, such as \"127.0.0.1:9090\"";
        reading.findings.add(place, expected);
    } else if let Err(message) = sockets.take(socket, &place) {
        reading.findings.add(place, message);
    }
    Some(Admin { bind: socket, token })
}

/// The listeners of the configuration; one on 127.0.0.1:8080 where it has none.
pub(super) fn from_file(
    reading: &mut Reading<'_>,
    written: Option<Vec<Later<ListenerEntry>>>,
    sockets: &mut Sockets,
    profiles: &mut Profiles,
    pool_names: &mut Vec<(Arc<str>, Place)>,
) -> Vec<Listener> {
    let root = reading.document.root();
    let Some(written) = written else {
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let place = reading.place(root, &["listeners"]);
        if let Err(message) = sockets.take_all(&[bind], &place) {
            reading.findings.add(place, format!("the default listener: {message}"));
        }
        return vec![Listener { binds: vec![bind], defaults: Defaults::default(), profiles: None }];
    };
    if written.is_empty() {
        reading.complain(root, &["listeners"], "expected at least one listener");
    }
    let listener = |later| listener(reading, later, sockets, profiles, pool_names);
    written.iter().filter_map(listener).collect()
}

fn listener(
    reading: &mut Reading<'_>,
    later: &Later<ListenerEntry>,
    sockets: &mut Sockets,
    profiles: &mut Profiles,
    pool_names: &mut Vec<(Arc<str>, Place)>,
) -> Option<Listener> {
    let written = later.read(reading.document, reading.findings)?;
    let place = reading.place(later.node, &["bind"]);
    if let Err(message) = sockets.take_all(&written.bind.0, &place) {
        reading.findings.add(place, message);
    }
    if let (Some(ttl), Some(idle)) = (written.ttl, written.idle)
        && idle.0 > ttl.0
    {
        reading.warn(later.node, &["idle"], "a session ends with its ttl before it can be idle for so long");
    }
    let pool = written.pool.map(|pool| Arc::<str>::from(pool.0));
    pool_names.extend(pool.clone().map(|pool| (pool, reading.place(later.node, &["pool"]))));
    let labels = written.labels.as_ref();
    let labels = labels.into_iter().flat_map(|labels| labels.iter()).map(|(key, label)| (key, &*label.0));
    let defaults = Defaults {
        pool,
        ttl: written.ttl.map(|ttl| ttl.0),
        idle: written.idle.map(|idle| idle.0),
        failover: written.failover.map(Into::into),
        labels: Filter::new(labels),
    };
    let profiles = profiles.named(reading, later.node, written.profiles);
    Some(Listener { binds: written.bind.0, defaults, profiles })
}

/// The listeners of the command line, with no defaults of their own.
pub(super) fn from_options(
    reading: &mut Reading<'_>,
    options: &[String],
    sockets: &mut Sockets,
) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for option in options {
        let place = Place::option("--listen");
        let binds = values::Sockets::from_text(option).map(|binds| binds.0);
        match binds.and_then(|binds| sockets.take_all(&binds, &place).map(|()| binds)) {
            Ok(binds) => listeners.push(Listener { binds, defaults: Defaults::default(), profiles: None }),
            Err(message) => reading.findings.add(place, message),
        }
    }
    listeners
}
