//! The exits of one pool, written out or imported.
//!
//! Owns: ids and that no two are or look the same, what an exit takes from its
//! pool, which fields make sense on which kind of exit.
//! Must not know: other pools.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::pools::Loader;
use super::{Reading, read_bytes, read_text};
use crate::config::findings::Place;
use crate::config::import;
use crate::config::locate::{Document, NodeId};
use crate::config::pools::{ExitObject, ModeWord, PoolEntry};
use crate::config::values::{Label, OneOrMany, Whole};
use crate::config::via::Written;
use crate::config::words::Labels;
use crate::core::exit::{self, Exit, Mode, Scheme, Trust, Upstream, Via};
use crate::core::pin::ExitName;
use crate::core::pool::fold_name;
use crate::core::session::LABEL_KEYS;

/// What an exit takes from its pool, and what its neighbours took.
pub(super) struct Exits<'a> {
    pool: Arc<str>,
    labels: Option<Labels<OneOrMany<Label>>>,
    max_sessions: u32,
    max_connections: u32,
    fault_status: Arc<[u16]>,
    file: &'a Path,
    made: Vec<Arc<Exit>>,
    /// By folded id: the place in `made`, and where it stands.
    ids: HashMap<String, (usize, Origin)>,
}

/// Where an exit stands; made a [`Place`] only where one is asked for.
#[derive(Clone)]
enum Origin {
    Value(NodeId),
    Line(Arc<Path>, u32),
}

impl Origin {
    fn place(&self, document: &Document) -> Place {
        match self {
            Self::Value(node) => document.place(*node),
            Self::Line(list, line) => Place::line(list, *line),
        }
    }
}

impl<'a> Exits<'a> {
    /// Every exit of the pool at `node`, in the file's order, then those of
    /// its lists. Takes from `entry` what is the exits'.
    pub(super) fn compile(
        loader: &mut Loader<'_>,
        file: &'a Path,
        document: &mut Document,
        node: NodeId,
        pool: &Arc<str>,
        entry: &mut PoolEntry,
    ) -> Vec<Arc<Exit>> {
        let findings_before = loader.findings.count();
        let mut exits = Self {
            pool: pool.clone(),
            labels: entry.labels.take(),
            max_sessions: entry.max_sessions.map_or(0, |n| n.0),
            max_connections: entry.max_connections.map_or(0, |n| n.0),
            fault_status: statuses(entry.exit_fault_status.take().unwrap_or_default()),
            file,
            made: Vec::new(),
            ids: HashMap::new(),
        };
        for later in entry.exits.take().unwrap_or_default() {
            let Some(written) = later.read(document, &mut loader.findings) else { continue };
            exits.add_written(loader, document, later.node, written.0);
        }
        let lists = entry.import.take().unwrap_or_default();
        let at = document.below(node, &["import"]);
        for (index, list) in lists.iter().enumerate() {
            let place = document.place(document.item(at, index));
            exits.add_list(loader, document, place, list);
        }
        if exits.made.is_empty() && loader.findings.count() == findings_before && !document.is_holed(node) {
            let place = document.place(document.below(node, &["exits"]));
            loader
                .findings
                .add(place, format!("the pool {pool} has no exit: expected \"exits\" or \"import\""));
        }
        exits.made
    }

    fn add_written(
        &mut self,
        loader: &mut Loader<'_>,
        document: &mut Document,
        node: NodeId,
        mut written: ExitObject,
    ) {
        let id = written.id.take();
        // One of which something was passed over may lack its id.
        let is_sure = id.is_some() || !document.is_holed(node);
        let id = id.map_or_else(|| written.via.via.derived_id(), |id| id.0);
        let roots = written.ca.as_deref().map(|ca| {
            let path = loader.named_file(self.file, ca);
            read_roots(&path).map_err(|message| format!("{}: {message}", path.display()))
        });
        let mut reading =
            Reading { document, findings: &mut loader.findings, warnings: &mut loader.warnings };
        set_trust(&mut reading, node, &mut written, roots);
        judge(&mut reading, node, &written);
        if is_sure {
            self.add(loader, document, Origin::Value(node), id, written);
        }
    }

    /// The exits of a vendor's list. Such a list often has one gateway many
    /// times, with a user for each address: their ids end in a digest of it.
    fn add_list(&mut self, loader: &mut Loader<'_>, document: &Document, place: Place, list: &str) {
        let path = loader.named_file(self.file, list);
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(message) => return loader.findings.add(place, format!("{}: {message}", path.display())),
        };
        let text = zeroize::Zeroizing::new(text);
        let path: Arc<Path> = path.into();
        for (line, read) in import::lines(&text) {
            match read {
                Ok(written) => {
                    let id = imported_id(&written);
                    let origin = Origin::Line(path.clone(), line);
                    self.add(loader, document, origin, id, ExitObject::plain(written));
                }
                Err(message) => loader.findings.add(Place::line(&path, line), message),
            }
        }
    }

    fn add(
        &mut self,
        loader: &mut Loader<'_>,
        document: &Document,
        origin: Origin,
        id: String,
        written: ExitObject,
    ) {
        match self.ids.get(&fold_name(&id)) {
            None => {
                self.ids.insert(fold_name(&id), (self.made.len(), origin));
                let exit = self.exit(&id, written);
                self.made.push(Arc::new(exit));
            }
            Some((index, before)) => {
                let other = &self.made[*index].name.id;
                let before = before.place(document);
                let message = match **other == *id {
                    true => format!("the exit {id} stands at {before} before: give one of them an \"id\""),
                    false => format!(
                        "{id} and {other} (at {before}) are one id in a username, \
                         where _ stands for what a value cannot hold: give one of them another \"id\""
                    ),
                };
                loader.findings.add(origin.place(document), message);
            }
        }
    }

    fn exit(&self, id: &str, written: ExitObject) -> Exit {
        let Written { via, digest, .. } = written.via;
        let address = match via {
            Via::Address(own) => Some(written.address.map_or(own, |address| address.0)),
            _ => written.address.map(|address| address.0),
        };
        Exit {
            name: ExitName { pool: self.pool.clone(), id: id.into() },
            labels: merge(self.labels.as_ref(), written.labels.as_ref()),
            via,
            weight: written.weight.map_or(1, |n| n.0),
            address,
            max_sessions: written.max_sessions.map_or(self.max_sessions, |n| n.0),
            max_connections: written.max_connections.map_or(self.max_connections, |n| n.0),
            max_ttl: written.max_ttl.map(|ttl| ttl.0),
            mode: match written.state {
                None | Some(ModeWord::Active) => Mode::Active,
                Some(ModeWord::Drain) => Mode::Drain,
                Some(ModeWord::Off) => Mode::Off,
            },
            fault_status: written.exit_fault_status.map_or_else(|| self.fault_status.clone(), statuses),
            digest,
        }
    }
}

/// An exit's labels and, for keys that it has none of, its pool's.
fn merge(pool: Option<&Labels<OneOrMany<Label>>>, exit: Option<&Labels<OneOrMany<Label>>>) -> exit::Labels {
    let under = |labels: Option<&'_ Labels<OneOrMany<Label>>>, key| {
        labels
            .and_then(|labels| labels.iter().find(|(own, _)| *own == key).map(|(_, values)| values.0.clone()))
    };
    let pairs = LABEL_KEYS.into_iter().flat_map(|key| {
        let values = under(exit, key).or_else(|| under(pool, key)).unwrap_or_default();
        values.into_iter().map(move |value| (key, value.0))
    });
    let pairs: Vec<_> = pairs.collect();
    exit::Labels::new(pairs.iter().map(|(key, value)| (*key, &**value)))
}

fn statuses(written: Vec<Whole<300, 599>>) -> Arc<[u16]> {
    written.into_iter().filter_map(|status| u16::try_from(status.0).ok()).collect()
}

fn imported_id(written: &Written) -> String {
    let via = written.via.derived_id();
    match &written.user_digest {
        Some(digest) => format!("{via}#{digest}"),
        None => via,
    }
}

/// Judges how a TLS upstream's certificate is to be judged.
fn set_trust(
    reading: &mut Reading<'_>,
    node: NodeId,
    written: &mut ExitObject,
    roots: Option<Result<Arc<[u8]>, String>>,
) {
    let insecure = written.insecure.unwrap_or(false);
    let is_https = |via: &Via| via.upstream().is_some_and(|upstream| upstream.scheme == Scheme::Https);
    for (key, given) in [("ca", roots.is_some()), ("insecure", insecure)] {
        if given && !is_https(&written.via.via) {
            reading.complain(node, &[key], "only an https:// upstream has a certificate to judge");
        }
    }
    if insecure && roots.is_some() {
        reading.complain(node, &["insecure"], "\"ca\" says how to judge, \"insecure\" not to: keep one");
    }
    let trust = match roots {
        None if insecure => Trust::Anything,
        None => return,
        Some(Ok(roots)) => Trust::Roots(roots),
        Some(Err(message)) => return reading.complain(node, &["ca"], message),
    };
    if let Via::Upstream(upstream) = &written.via.via {
        written.via.via = Via::Upstream(Arc::new(Upstream { trust, ..(**upstream).clone() }));
    }
}

/// A PEM file with at least one certificate.
fn read_roots(path: &Path) -> Result<Arc<[u8]>, String> {
    let pem = read_bytes(path)?;
    let mut roots = CertificateDer::pem_slice_iter(&pem).peekable();
    match roots.peek().is_some() && roots.all(|root| root.is_ok()) {
        true => Ok(pem.into()),
        false => Err("expected certificates in PEM".to_owned()),
    }
}

/// Refuses what makes no sense on this kind of exit.
fn judge(reading: &mut Reading<'_>, node: NodeId, written: &ExitObject) {
    let via = &written.via.via;
    if written.address.is_some() && (matches!(via, Via::Prefix(_)) || via.is_template()) {
        let message = "this exit has an address for each session, not one";
        reading.complain(node, &["address"], message);
    }
    if written.address.is_some_and(|address| address.0.is_unspecified() || address.0.is_multicast()) {
        reading.complain(node, &["address"], "no origin ever sees this address");
    }
    if written.exit_fault_status.is_some() && via.upstream().is_none() {
        reading.complain(node, &["exit_fault_status"], "only an upstream answers with a status");
    }
}

#[cfg(test)]
mod tests;
