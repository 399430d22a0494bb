//! Sockets to listen on.
//!
//! Owns: listeners and their defaults, the admin listener, and that no two
//! share a socket.
//! Must not know: how they are bound.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::{Reading, certificates};
use crate::config::file::AdminEntry;
use crate::config::findings::{Finding, Place};
use crate::config::listeners::{ListenerEntry, ProxiedEntry, SessionWord};
use crate::config::locate::NodeId;
use crate::config::read::Later;
use crate::config::values::{self, FromText};
use crate::config::watch::Watched;
use crate::config::{Admin, Defaults, Listener, ProxiedBy, User};
use crate::core::address::special;
use crate::core::bind::{Bind, MAX_PATH};
use crate::core::session::{Filter, UserName};

/// More sockets than a gateway could want are a slip in a range of ports.
const SOCKETS_MAX: usize = 10_000;

/// The sockets that are taken, and where that is written.
pub(super) struct Sockets {
    has_users: bool,
    taken: HashMap<Bind, Place>,
}

impl Sockets {
    pub(super) fn new(has_users: bool) -> Self {
        Self { has_users, taken: HashMap::new() }
    }

    /// Takes a socket; port 0 is another one each time.
    fn take(&mut self, socket: &Bind, place: &Place) -> Result<(), String> {
        let is_any = socket.tcp().is_some_and(|socket| socket.port() == 0);
        let before = (!is_any).then(|| self.taken.insert(socket.clone(), place.clone())).flatten();
        match before {
            Some(before) => Err(format!("{socket} is taken by {before}")),
            None => Ok(()),
        }
    }

    /// Takes the sockets of a listener for clients.
    fn take_all(&mut self, sockets: &[Bind], place: &Place) -> Result<(), String> {
        let open = sockets.iter().filter(|socket| !socket.is_local()).find_map(Bind::tcp);
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
        sockets.iter().try_for_each(|socket| self.take(socket, place))
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
    } else if let Err(message) = sockets.take(&socket.into(), &place) {
        reading.findings.add(place, message);
    }
    Some(Admin { bind: socket, token })
}

/// What a listener may name, or its files are noted in.
pub(super) struct Beside<'a> {
    /// Of the configuration file.
    pub(super) folder: &'a Path,
    pub(super) watched: &'a mut Watched,
    pub(super) user_names: &'a mut Vec<(UserName, Place)>,
    pub(super) pool_names: &'a mut Vec<(Arc<str>, Place)>,
}

/// The listeners of the configuration; one on 127.0.0.1:8080 where it has none.
pub(super) fn from_file(
    reading: &mut Reading<'_>,
    written: Option<Vec<Later<ListenerEntry>>>,
    sockets: &mut Sockets,
    beside: &mut Beside<'_>,
) -> Vec<Listener> {
    let root = reading.document.root();
    let Some(written) = written else {
        let bind = Bind::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
        let place = reading.place(root, &["listeners"]);
        if let Err(message) = sockets.take_all(std::slice::from_ref(&bind), &place) {
            reading.findings.add(place, format!("the default listener: {message}"));
        }
        return vec![Listener::at(vec![bind])];
    };
    if written.is_empty() {
        reading.complain(root, &["listeners"], "expected at least one listener");
    }
    let listeners = written.iter().filter_map(|later| listener(reading, later, sockets, beside));
    listeners.collect()
}

fn listener(
    reading: &mut Reading<'_>,
    later: &Later<ListenerEntry>,
    sockets: &mut Sockets,
    beside: &mut Beside<'_>,
) -> Option<Listener> {
    let written = later.read(reading.document, reading.findings)?;
    let node = later.node;
    let place = reading.place(node, &["bind"]);
    let binds: Vec<_> = written.bind.0.into_iter().map(|bind| below(beside.folder, bind)).collect();
    if let Err(message) = sockets.take_all(&binds, &place) {
        reading.findings.add(place, message);
    }
    check_kind(reading, node, &binds, written.mode.is_some(), written.session.is_some());
    if let (Some(ttl), Some(idle)) = (written.ttl, written.idle)
        && idle.0 > ttl.0
    {
        reading.warn(later.node, &["idle"], "a session ends with its ttl before it can be idle for so long");
    }
    let pool = written.pool.map(|pool| Arc::<str>::from(pool.0));
    beside.pool_names.extend(pool.clone().map(|pool| (pool, reading.place(later.node, &["pool"]))));
    let labels = written.labels.as_ref();
    let labels = labels.into_iter().flat_map(|labels| labels.iter()).map(|(key, label)| (key, &*label.0));
    let defaults = Defaults {
        pool,
        ttl: written.ttl.map(|ttl| ttl.0),
        idle: written.idle.map(|idle| idle.0),
        failover: written.failover.map(Into::into),
        labels: Filter::new(labels),
    };
    let proxied_by = proxied_by(reading, node, written.proxy_protocol, &binds);
    let certificates =
        written.tls.map(|tls| certificates::certificates(reading, node, &tls, beside.folder, beside.watched));
    let user = written.user.map(|user| UserName::from(user.0));
    beside.user_names.extend(user.clone().map(|user| (user, reading.place(node, &["user"]))));
    let standard = Listener::at(binds);
    Some(Listener {
        mode: written.mode.map_or(standard.mode, |mode| mode.0),
        protocol: written.protocol,
        certificates: certificates.unwrap_or_default(),
        proxied_by,
        user,
        port_is_session: matches!(written.session, Some(SessionWord::Port)),
        defaults,
        ..standard
    })
}

/// A Unix socket's path is one in the configuration's folder.
fn below(folder: &Path, bind: Bind) -> Bind {
    match bind {
        Bind::Unix(path) => Bind::Unix(folder.join(path)),
        tcp @ Bind::Tcp(_) => tcp,
    }
}

/// What only one kind of socket can have.
fn check_kind(reading: &mut Reading<'_>, node: NodeId, binds: &[Bind], mode: bool, session: bool) {
    let is_unix = binds.iter().any(|bind| bind.tcp().is_none());
    if mode && !is_unix {
        reading.complain(node, &["mode"], "expected \"unix:\" and a path in \"bind\" beside it");
    }
    if session && is_unix {
        reading.complain(node, &["session"], "expected ports in \"bind\": a Unix socket has none");
    }
    let too_long = |bind: &&Bind| matches!(bind, Bind::Unix(path) if path.as_os_str().len() > MAX_PATH);
    if binds.iter().find(too_long).is_some() {
        let message = format!("expected a path of at most {MAX_PATH} bytes, with the folder that it is in");
        reading.complain(node, &["bind"], message);
    }
}

fn proxied_by(
    reading: &mut Reading<'_>,
    node: NodeId,
    written: Option<ProxiedEntry>,
    binds: &[Bind],
) -> Option<ProxiedBy> {
    match written? {
        ProxiedEntry::All(false) => None,
        ProxiedEntry::All(true) => {
            let open = |socket: SocketAddr| {
                socket.ip().is_unspecified() || special(socket.ip(), &|_| false).is_none()
            };
            if binds.iter().filter_map(Bind::tcp).any(open) {
                let message = "whoever reaches this address can pass for any client: \
                               write the balancers' addresses instead of true";
                reading.warn(node, &["proxy_protocol"], message);
            }
            Some(ProxiedBy::All)
        }
        ProxiedEntry::Only(nets) => {
            let list = reading.document.below(node, &["proxy_protocol"]);
            if nets.is_empty() && !reading.document.is_holed(list) {
                reading.complain(list, &[], "expected at least one address; true: everybody's word counts");
            }
            Some(ProxiedBy::Some(nets))
        }
    }
}

/// A listener's user is there, and has addresses from which it may come so.
pub(super) fn check_users(reading: &mut Reading<'_>, named: Vec<(UserName, Place)>, users: &[User]) {
    for (name, place) in named {
        match users.iter().find(|user| user.name == name) {
            None => reading.findings.add(place, format!("there is no user {name}")),
            Some(user) if user.clients.is_none() => {
                let message =
                    format!("the user {name} has no \"clients\": everybody needs a credential here");
                reading.warnings.push(Finding::new(place, message));
            }
            Some(_) => {}
        }
    }
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
        let binds = values::Binds::from_text(option).map(|binds| binds.0);
        match binds.and_then(|binds| sockets.take_all(&binds, &place).map(|()| binds)) {
            Ok(binds) => listeners.push(Listener::at(binds)),
            Err(message) => reading.findings.add(place, message),
        }
    }
    listeners
}

#[cfg(test)]
mod tests;
