//! As written to as meant.
//!
//! Owns: defaults and cross-checks of the configuration, and the reading of
//! files; every check adds to the findings and goes on, so that all are told
//! at once.
//! Must not know: how a value is written (`values`, `file`, `pools`).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::env::Environment;
use super::file::{ConfigFile, FormatWord, LimitsEntry, LogEntry, TimeoutsEntry};
use super::findings::{Finding, Findings, Place};
use super::locate::{Document, NodeId};
use super::read::read;
use super::watch::Watched;
use super::{Config, ConfigSource, Limits, Log, LogFormat, PoolsAt, Timeouts};
use crate::core::policy::TargetPolicy;
use crate::core::pool::DialTimeouts;

mod certificates;
mod exits;
mod listeners;
mod pools;
mod sessions;
mod shared;
mod tokens;
mod users;

pub(super) use pools::load_pools;

/// No file of ours is larger.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A document that is being read, and what is wrong with it.
struct Reading<'a> {
    document: &'a mut Document,
    findings: &'a mut Findings,
    warnings: &'a mut Vec<Finding>,
}

impl Reading<'_> {
    /// Says what is wrong with what stands at `keys` below `node`.
    fn complain(&mut self, node: NodeId, keys: &[&str], message: impl Into<String>) {
        let place = self.place(node, keys);
        self.findings.add(place, message);
    }

    /// Says what is odd about it.
    fn warn(&mut self, node: NodeId, keys: &[&str], message: impl Into<String>) {
        let place = self.place(node, keys);
        self.warnings.push(Finding::new(place, message));
    }

    fn place(&self, node: NodeId, keys: &[&str]) -> Place {
        self.document.place(self.document.below(node, keys))
    }
}

/// Reads and compiles the configuration.
pub(super) fn config(source: &ConfigSource, env: &Environment) -> Result<(Config, Vec<Finding>), Findings> {
    let mut findings = Findings::default();
    let mut warnings = Vec::new();
    let mut watched = Watched::default();
    let (path, text) = match &source.config {
        Some(path) => {
            watched.note_file(path);
            (path.as_path(), read_text(path))
        }
        None => (Path::new("defaults"), Ok("{}".to_owned())),
    };
    let text = text.map_err(|message| findings.add(Place::file(path), message)).ok();
    let mut document = text.and_then(|text| Document::parse(path, text, env, &mut findings));
    let made = document.as_mut().and_then(|document| {
        let reading = &mut Reading { document, findings: &mut findings, warnings: &mut warnings };
        compile(source, reading, env, &mut watched)
    });
    match made {
        Some(config) if findings.count() == 0 => Ok((config, warnings)),
        // What is wrong with the pools is told with it, to be mended at once.
        Some(config) => {
            findings = findings.in_order();
            if let Err(pools) = load_pools(&config, env) {
                findings.append(pools);
            }
            Err(findings.watching(watched))
        }
        None => Err(findings.in_order().watching(watched)),
    }
}

fn compile(
    source: &ConfigSource,
    reading: &mut Reading<'_>,
    env: &Environment,
    watched: &mut Watched,
) -> Option<Config> {
    let root = reading.document.root();
    let file: ConfigFile = read(reading.document, root, reading.findings)?;
    let folder = source.config.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
    let mut pool_names = Vec::new();
    let sessions = sessions::gateway(reading, file.sessions.unwrap_or_default(), folder);
    let users_at = reading.document.below(root, &["users"]);
    let has_users = file.users.as_ref().is_some_and(|users| !users.is_empty());
    let tokens = file.tokens.and_then(|written| tokens::tokens(reading, written, folder, env, watched));
    let any_user = tokens.as_ref().is_some_and(|tokens| tokens.any_user);
    if tokens.is_some() && !has_users && !any_user {
        let message = "a token needs a user: add one, or let \"tokens\" have \"users\": \"any\"";
        let place = reading.document.place(users_at);
        reading.findings.add(place, message);
    }
    let mut sockets = listeners::Sockets::new(has_users || any_user);
    let admin = file.admin.and_then(|admin| listeners::admin(reading, admin, &mut sockets));
    let mut user_names = Vec::new();
    let listeners = match &*source.listen {
        [] => {
            let (pool_names, user_names) = (&mut pool_names, &mut user_names);
            let mut beside = listeners::Beside { folder, watched, user_names, pool_names };
            listeners::from_file(reading, file.listeners, &mut sockets, &mut beside)
        }
        options => listeners::from_options(reading, options, &mut sockets),
    };
    let users = users::users(reading, file.users.unwrap_or_default(), &sessions.bounds, &mut pool_names);
    listeners::check_users(reading, user_names, &users);
    Some(Config {
        listeners,
        admin,
        pools: pools_at(source, file.pools.as_deref(), folder),
        users,
        tokens: tokens.map(Arc::new),
        sessions,
        targets: Arc::new(shared::targets(file.targets, TargetPolicy::default())),
        timeouts: timeouts(reading, file.timeouts.unwrap_or_default()),
        limits: limits(reading, &file.limits.unwrap_or_default()),
        announce: file.announce.unwrap_or(true),
        via: file.via.unwrap_or(false),
        log: log(&file.log.unwrap_or_default()),
        folder: folder.to_owned(),
        watched: watched.clone(),
        source: source.clone(),
        pool_names,
    })
}

/// Whether `pools/` is there is asked once: one that goes away later must not
/// make of the operator's exits the host's own address.
fn pools_at(source: &ConfigSource, written: Option<&str>, folder: &Path) -> PoolsAt {
    let named = source.pools.clone().or_else(|| written.map(|path| folder.join(path)));
    let default = folder.join("pools");
    match named {
        Some(path) => PoolsAt::Path(path),
        None if default.exists() => PoolsAt::Path(default),
        None => PoolsAt::BuiltInUnless(default),
    }
}

fn timeouts(reading: &mut Reading<'_>, written: TimeoutsEntry) -> Timeouts {
    let mut span = |key, written, default_s| {
        let node = reading.document.below(reading.document.root(), &["timeouts"]);
        shared::positive(reading, node, key, written).unwrap_or_else(|| Duration::from_secs(default_s))
    };
    Timeouts {
        head: span("head", written.head, 10),
        body: span("body", written.body, 60),
        dial: DialTimeouts {
            dns: span("dns", written.dns, 5),
            connect: span("connect", written.connect, 5),
            handshake: span("handshake", written.handshake, 20),
            response: span("response", written.response, 120),
        },
        keep_alive: span("keep_alive", written.keep_alive, 60),
        idle: span("idle", written.idle, 600),
        drain: written.drain.map_or(Duration::from_secs(30), |drain| drain.0),
    }
}

fn limits(reading: &mut Reading<'_>, written: &LimitsEntry) -> Limits {
    const HEAD_BYTES: std::ops::RangeInclusive<u64> = 1024..=1 << 20;
    let head_bytes = written.head_bytes.map_or(64 << 10, |size| size.0);
    if !HEAD_BYTES.contains(&head_bytes) {
        let root = reading.document.root();
        reading.complain(root, &["limits", "head_bytes"], "expected a size from 1KiB to 1MiB");
    }
    Limits {
        connections: written.connections.map_or(50_000, |n| n.0),
        connections_per_client: written.connections_per_client.map_or(0, |n| n.0),
        sessions: written.sessions.map_or(5_000_000, |n| n.0),
        auth_failures_per_minute: written.auth_failures_per_minute.map_or(30, |n| n.0),
        head_bytes: usize::try_from(head_bytes).unwrap_or(usize::MAX),
        head_fields: written.head_fields.map_or(100, |n| n.0) as usize,
    }
}

fn log(written: &LogEntry) -> Log {
    let format = match written.format {
        None | Some(FormatWord::Text) => LogFormat::Text,
        Some(FormatWord::Json) => LogFormat::Json,
    };
    Log { format, access: written.access.unwrap_or(true) }
}

/// The file's bytes; the error is a sentence.
fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => Err("the file is larger than 64 MiB".to_owned()),
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// The file's text; the error is a sentence.
fn read_text(path: &Path) -> Result<String, String> {
    String::from_utf8(read_bytes(path)?).map_err(|error| {
        let read = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + read.iter().filter(|byte| **byte == b'\n').count();
        format!("is not UTF-8 from line {line} on")
    })
}

#[cfg(test)]
mod tests;
