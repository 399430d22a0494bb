//! Pool files to a snapshot of pools.
//!
//! Owns: which files are read, that pools' names are unique among them, a
//! pool's defaults.
//! Must not know: how an exit is compiled (`exits`), what is in force now.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::exits::Exits;
use super::{Reading, read_text, sessions, shared};
use crate::config::env::Environment;
use crate::config::findings::{Finding, Findings, Place};
use crate::config::locate::{Document, NodeId};
use crate::config::pools::{
    AddressChangeWord, DialTimeoutsEntry, HealthEntry, PlacementWord, PoolEntry, PoolFile, ProbeEntry,
    RotationWord,
};
use crate::config::read::read;
use crate::config::watch::Watched;
use crate::config::{Config, Loaded, PoolsAt};
use crate::core::pool::{
    AddressChange, DialTimeouts, HealthPolicy, Placement, Pool, Pools, Rotate, Rotation, SessionBounds,
    fold_name,
};
use crate::core::probe::Probe;

/// The pool of a gateway that was given none.
const BUILT_IN: &str = include_str!("../../../pools/default.json");
/// So often are the files read anew that changed while they were read.
const READINGS_MAX: usize = 3;

/// Reads and compiles every pool file.
pub(in crate::config) fn load_pools(config: &Config, env: &Environment) -> Result<Loaded, Findings> {
    let mut last = Watched::default();
    for _ in 0..READINGS_MAX {
        let loaded = Loader::new(config, env).load();
        let watched = match &loaded {
            Ok(loaded) => &loaded.watched,
            Err(findings) => findings.watched(),
        };
        // What changed while it was read may be half of the old and half of
        // the new: it never takes effect.
        if watched.now() == *watched {
            return loaded;
        }
        last.clone_from(watched);
    }
    let mut findings = Findings::default();
    findings.add(Place::file(config.pools.path()), "changes while it is being read");
    Err(findings.watching(last))
}

/// What all files of one loading share.
pub(super) struct Loader<'a> {
    pub(super) config: &'a Config,
    env: &'a Environment,
    pub(super) watched: Watched,
    pub(super) findings: Findings,
    pub(super) warnings: Vec<Finding>,
    pools: Vec<Arc<Pool>>,
    /// By folded name: the name and where it stands.
    names: HashMap<String, (Arc<str>, Place)>,
}

impl<'a> Loader<'a> {
    fn new(config: &'a Config, env: &'a Environment) -> Self {
        Self {
            config,
            env,
            watched: Watched::default(),
            findings: Findings::default(),
            warnings: Vec::new(),
            pools: Vec::new(),
            names: HashMap::new(),
        }
    }

    fn load(mut self) -> Result<Loaded, Findings> {
        match &self.config.pools {
            PoolsAt::Path(path) if path.is_dir() => self.load_folder(path),
            PoolsAt::Path(path) => self.load_file(path),
            PoolsAt::BuiltInUnless(path) if path.is_dir() => self.load_folder(path),
            PoolsAt::BuiltInUnless(path) => {
                let _ = self.watched.note_folder(path);
                self.load_text(Path::new("built-in pools"), BUILT_IN.to_owned());
            }
            PoolsAt::Text(text) => self.load_text(Path::new("pools"), text.expose().to_owned()),
        }
        if self.pools.is_empty() && self.findings.count() == 0 {
            let place = Place::file(self.config.pools.path());
            self.findings.add(place, "expected at least one pool, found none");
        }
        if self.findings.count() > 0 {
            return Err(self.findings.in_order().watching(self.watched));
        }
        for (name, place) in &self.config.pool_names {
            if !self.pools.iter().any(|pool| pool.name == *name) {
                let message = format!("no pool is named {name} now; it may come with a reload");
                self.warnings.push(Finding::new(place.clone(), message));
            }
        }
        Ok(Loaded { pools: Pools::new(self.pools), watched: self.watched, warnings: self.warnings })
    }

    fn load_folder(&mut self, folder: &Path) {
        match self.watched.note_folder(folder) {
            Ok(files) if files.is_empty() => {
                self.findings.add(Place::file(folder), "expected a pool file (*.json), found none");
            }
            Ok(files) => files.iter().for_each(|file| self.load_file(file)),
            Err(error) => self.findings.add(Place::file(folder), format!("cannot be read: {error}")),
        }
    }

    fn load_file(&mut self, path: &Path) {
        self.watched.note_file(path);
        match read_text(path) {
            Ok(text) => self.load_text(path, text),
            Err(message) => self.findings.add(Place::file(path), message),
        }
    }

    fn load_text(&mut self, path: &Path, text: String) {
        let Some(mut document) = Document::parse(path, text, self.env, &mut self.findings) else { return };
        let root = document.root();
        let Some(file) = read::<PoolFile>(&mut document, root, &mut self.findings) else { return };
        for later in &file.pools {
            if let Some(entry) = later.read(&mut document, &mut self.findings) {
                self.load_pool(path, &mut document, later.node, entry);
            }
        }
    }

    fn load_pool(&mut self, path: &Path, document: &mut Document, node: NodeId, mut entry: PoolEntry) {
        let name: Arc<str> = std::mem::take(&mut entry.name.0).into();
        let place = document.place(document.below(node, &["name"]));
        match self.names.entry(fold_name(&name)) {
            Entry::Vacant(vacant) => drop(vacant.insert((name.clone(), place))),
            Entry::Occupied(before) => {
                let (other, before) = before.get();
                let message = match *other == name {
                    true => format!("the pool {name} stands at {before} before"),
                    false => format!(
                        "{name} and {other} (at {before}) are one name in a username, \
                         where _ stands for what a value cannot hold: rename one"
                    ),
                };
                self.findings.add(place, message);
            }
        }
        let exits = Exits::compile(self, path, document, node, &name, &mut entry);
        let mut reading = Reading { document, findings: &mut self.findings, warnings: &mut self.warnings };
        self.pools.push(Arc::new(pool(self.config, &mut reading, node, &name, entry, exits)));
    }

    /// Where a file that a pool file names is: beside the pool file, else in
    /// the configuration's folder.
    pub(super) fn named_file(&mut self, beside: &Path, name: &str) -> PathBuf {
        let near = beside.parent().map_or_else(|| name.into(), |folder| folder.join(name));
        self.watched.note_file(&near);
        let far = self.config.folder.join(name);
        if near.exists() || !far.exists() {
            return near;
        }
        self.watched.note_file(&far);
        far
    }
}

/// A pool with its defaults.
fn pool(
    config: &Config,
    reading: &mut Reading<'_>,
    node: NodeId,
    name: &str,
    entry: PoolEntry,
    exits: Vec<Arc<crate::core::exit::Exit>>,
) -> Pool {
    let targets = match entry.targets {
        None => config.targets.clone(),
        Some(_) => Arc::new(shared::targets(entry.targets, (*config.targets).clone())),
    };
    let timeouts = dial_timeouts(reading, node, entry.timeouts.unwrap_or_default(), config.timeouts.dial);
    let bounds_at = reading.document.below(node, &["sessions"]);
    let mut pool = Pool::new(name, exits, targets, timeouts);
    pool.rotation = match entry.rotation {
        None | Some(RotationWord::RoundRobin) => Rotation::RoundRobin,
        Some(RotationWord::Random) => Rotation::Random,
        Some(RotationWord::LeastConnections) => Rotation::LeastConnections,
    };
    pool.placement = match entry.placement {
        None | Some(PlacementWord::LeastSessions) => Placement::LeastSessions,
        Some(PlacementWord::Random) => Placement::Random,
        Some(PlacementWord::Rendezvous) => Placement::Rendezvous,
    };
    pool.failover = entry.failover.map(Into::into).unwrap_or_default();
    pool.affinity = entry.affinity.map(Into::into);
    pool.sessions = match entry.sessions {
        None => SessionBounds::default(),
        written => sessions::bounds(reading, bounds_at, written, &config.sessions.bounds),
    };
    pool.reuse_after = entry.reuse_after.map_or(Duration::ZERO, |span| span.0);
    pool.cooldown = entry.cooldown.map_or(pool.cooldown, |span| span.0);
    pool.attempts = entry.attempts.map_or(3, |n| n.0);
    pool.slow_start = entry.slow_start.map_or(Duration::from_secs(60), |span| span.0);
    pool.rotate = entry.rotate.and_then(|rotate| {
        let at = reading.document.below(node, &["rotate"]);
        let every = shared::positive(reading, at, "every", rotate.every);
        let requests = rotate.requests.map(|n| n.0);
        if requests.is_none() && every.is_none() && !reading.document.is_holed(at) {
            reading.complain(at, &[], "expected \"requests\" or \"every\" or both");
        }
        (requests.is_some() || every.is_some()).then_some(Rotate { requests, every })
    });
    let written = entry.health.unwrap_or_default();
    pool.probe = probe(reading, node, written.probe.as_ref());
    pool.address_change = match written.address_change {
        None | Some(AddressChangeWord::Ignore) => AddressChange::Ignore,
        Some(AddressChangeWord::Move) => AddressChange::Move,
        Some(AddressChangeWord::Fail) => AddressChange::Fail,
    };
    if written.address_change.is_some() && pool.probe.is_none() && !reading.document.is_holed(node) {
        let message = "expected \"probe\" beside it: without probes no change is seen";
        reading.complain(node, &["health", "address_change"], message);
    }
    pool.health = health(reading, node, &written);
    pool
}

/// More probes than this are an attack on whoever answers them.
const LEAST_PERIOD: Duration = Duration::from_secs(1);

fn probe(reading: &mut Reading<'_>, node: NodeId, written: Option<&ProbeEntry>) -> Option<Arc<Probe>> {
    let written = written?;
    let at = reading.document.below(node, &["health", "probe"]);
    let every = written.every.map_or(Duration::from_secs(30), |span| span.0);
    if every < LEAST_PERIOD {
        reading.complain(at, &["every"], "expected a duration of at least 1s");
    }
    let timeout = shared::positive(reading, at, "timeout", written.timeout).unwrap_or(Duration::from_secs(5));
    Some(Arc::new(Probe { url: written.url.0.clone(), every, timeout }))
}

fn health(reading: &mut Reading<'_>, node: NodeId, written: &HealthEntry) -> HealthPolicy {
    let at = reading.document.below(node, &["health"]);
    let default = HealthPolicy::default();
    HealthPolicy {
        eject_after: written.eject_after.map_or(default.eject_after, |n| n.0),
        eject_for: shared::positive(reading, at, "eject_for", written.eject_for).unwrap_or(default.eject_for),
    }
}

fn dial_timeouts(
    reading: &mut Reading<'_>,
    node: NodeId,
    written: DialTimeoutsEntry,
    otherwise: DialTimeouts,
) -> DialTimeouts {
    let at = reading.document.below(node, &["timeouts"]);
    let mut span = |key, written, otherwise| shared::positive(reading, at, key, written).unwrap_or(otherwise);
    DialTimeouts {
        dns: span("dns", written.dns, otherwise.dns),
        connect: span("connect", written.connect, otherwise.connect),
        handshake: span("handshake", written.handshake, otherwise.handshake),
        response: span("response", written.response, otherwise.response),
    }
}

#[cfg(test)]
mod tests;
