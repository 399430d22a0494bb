//! Files to core values, with the position of every error.
//!
//! Owns: [`Config`] as meant (typed, defaults applied), how it is read, and
//! [`Findings`]: everything that is wrong, at once, each with file, line,
//! column, JSON path and what was expected.
//! Must not know: the running gateway.
//!
//! A file goes through three steps. [`locate`] makes a tree of which every
//! value knows its place; [`read`] makes of that what is *written*
//! ([`file`](mod@file), [`pools`]: one field for each documented key, also the source of
//! the JSON Schemas); [`compile`] makes of that what is *meant*.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::core::ask::{Account, GatewayBounds};
use crate::core::bind::Bind;
use crate::core::limits::UserLimits;
use crate::core::policy::TargetPolicy;
use crate::core::pool::{Affinity, DialTimeouts, Failover, Pools, SessionBounds};
use crate::core::secret::Secret;
use crate::core::session::{Filter, UserName};
use crate::core::shared::Address;
use crate::core::time::Ttl;

mod allowance;
mod compile;
mod describe;
pub(crate) mod env;
mod file;
mod findings;
mod import;
mod listeners;
mod locate;
mod pools;
mod read;
mod schema;
pub(crate) mod tokens;
mod values;
mod via;
pub(crate) mod watch;
mod words;

pub(crate) use crate::observe::log::Format as LogFormat;
pub(crate) use describe::describe;
pub use findings::{Finding, Findings};
pub(crate) use listeners::Protocol;
pub(crate) use schema::{SchemaKind, schema};

use env::Environment;
use findings::Place;
use tokens::Tokens;
use watch::Watched;

/// Where a configuration comes from: what the command line says.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// The configuration file; `None`: every default.
    pub config: Option<PathBuf>,
    /// A pool file or a folder of pool files, instead of the configuration's.
    pub pools: Option<PathBuf>,
    /// Addresses to listen on, instead of the configuration's listeners.
    pub listen: Vec<String>,
}

/// A configuration as meant: every default applied, every path made absolute
/// or relative to the working directory.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) listeners: Vec<Listener>,
    /// The admin listener; `None`: there is none.
    pub(crate) admin: Option<Admin>,
    pub(crate) pools: PoolsAt,
    /// In the file's order; names are unique. Empty: the gateway makes `demo`,
    /// and every listener is on loopback.
    pub(crate) users: Vec<User>,
    /// What tokens are let in; `None`: none are.
    pub(crate) tokens: Option<Arc<Tokens>>,
    pub(crate) sessions: Sessions,
    /// Where requests may go; a pool may say otherwise.
    pub(crate) targets: Arc<TargetPolicy>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    /// Whether answers carry `Moorgate-Exit` and its kin.
    pub(crate) announce: bool,
    /// Whether forwarded requests carry `Via`.
    pub(crate) via: bool,
    pub(crate) log: Log,
    /// What relative paths in pool files are looked for in, when they are not
    /// beside them.
    folder: PathBuf,
    /// The files that it was made of, as they were just before.
    watched: Watched,
    /// What it was made of, to be read again.
    source: ConfigSource,
    /// Names of pools that the configuration uses, to be looked for in each
    /// new snapshot of them.
    pool_names: Vec<(Arc<str>, Place)>,
}

/// The operator's listener.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) bind: SocketAddr,
    /// What an operator sends; `None`: it is on loopback, and nothing.
    pub(crate) token: Option<Secret>,
}

/// A socket, or several with the same defaults, that accept clients.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// More than one where the file names a range of ports.
    pub(crate) binds: Vec<Bind>,
    /// Of a Unix socket's file.
    pub(crate) mode: u32,
    pub(crate) protocol: Protocol,
    /// Certificates with their keys; none: there is no TLS.
    pub(crate) certificates: Vec<Arc<CertifiedKey>>,
    /// Whose word counts for who a client is; `None`: the connection's.
    pub(crate) proxied_by: Option<ProxiedBy>,
    /// The user of clients that come from its addresses without a credential.
    pub(crate) user: Option<UserName>,
    /// Whether each port is a session of that name.
    pub(crate) port_is_session: bool,
    pub(crate) defaults: Defaults,
}

impl Listener {
    /// With every default.
    pub(crate) fn at(binds: Vec<Bind>) -> Self {
        Self {
            binds,
            mode: 0o660,
            protocol: Protocol::default(),
            certificates: Vec::new(),
            proxied_by: None,
            user: None,
            port_is_session: false,
            defaults: Defaults::default(),
        }
    }
}

/// Who connects for clients, and says for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProxiedBy {
    /// Everybody must.
    All,
    /// These must; nobody else may connect.
    Some(Vec<IpNet>),
}

/// What a listener's requests mean where they do not say; the request's own
/// words win.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    pub(crate) pool: Option<Arc<str>>,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) idle: Option<Ttl>,
    pub(crate) failover: Option<Failover>,
    pub(crate) labels: Filter,
}

/// Where the pools are defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PoolsAt {
    /// In this file, or in the files of this folder.
    Path(PathBuf),
    /// In the files of this folder once it exists (it did not at the start);
    /// until then one pool `default` of one exit `direct`.
    BuiltInUnless(PathBuf),
}

impl PoolsAt {
    fn path(&self) -> &Path {
        match self {
            Self::Path(path) | Self::BuiltInUnless(path) => path,
        }
    }
}

/// An account.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: UserName,
    pub(crate) password: Password,
    /// The pools that it may use, in its order; `None`: all.
    pub(crate) pools: Option<Vec<Arc<str>>>,
    /// As written; [`User::default_pool`] is what is meant.
    pub(crate) default_pool: Option<Arc<str>>,
    /// From where it may come; `None`: from anywhere.
    pub(crate) clients: Option<Vec<IpNet>>,
    /// What makes a session where the client names none; a pool may say
    /// otherwise.
    pub(crate) affinity: Affinity,
    pub(crate) sessions: SessionBounds,
    /// What it may use up.
    pub(crate) limits: UserLimits,
}

impl User {
    /// What is known of the user when its requests are judged.
    pub(crate) fn account(&self) -> Account {
        Account {
            name: self.name.clone(),
            pools: self.pools.as_ref().map(|pools| pools.iter().map(|name| (**name).into()).collect()),
            default_pool: self.default_pool.as_deref().map(Into::into),
            sessions: self.sessions,
            affinity: self.affinity,
        }
    }
}

/// How a user's secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Password {
    /// The secret itself.
    Plain(Secret),
    /// A PHC string of argon2, known to be well-formed.
    Phc(Secret),
}

impl Password {
    /// The secret, or its PHC string.
    pub(crate) fn as_written(&self) -> &Secret {
        match self {
            Self::Plain(secret) | Self::Phc(secret) => secret,
        }
    }
}

/// Sessions of the whole gateway.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    /// `default_ttl` and `max_ttl` are always there.
    pub(crate) bounds: SessionBounds,
    pub(crate) store: StoreAt,
    pub(crate) durability: Durability,
    pub(crate) store_down: StoreDown,
}

/// What is done with unknown sessions while a shared store is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreDown {
    /// They are refused.
    Refuse,
    /// This gateway decides alone.
    Local,
}

/// Where pins are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreAt {
    /// Nowhere: they end with the process.
    Memory,
    /// In this folder.
    Folder(PathBuf),
    /// In a store that other gateways use as well.
    Shared(Box<Address>),
}

/// What a seen success survives (promise 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// SIGKILL; of a loss of power, all but the last 50 ms.
    Journal,
    /// A loss of power.
    Fsync,
}

/// How long each part of a connection may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) head: Duration,
    pub(crate) body: Duration,
    /// Those of a dial; a pool may say otherwise.
    pub(crate) dial: DialTimeouts,
    pub(crate) keep_alive: Duration,
    pub(crate) idle: Duration,
    /// May be zero: tunnels are cut at once.
    pub(crate) drain: Duration,
}

/// Bounds of what the gateway takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Client connections open at once.
    pub(crate) connections: u32,
    /// Of one client address; 0: any number.
    pub(crate) connections_per_client: u32,
    /// Live pins.
    pub(crate) sessions: u32,
    /// Wrong credentials of one client address; 0: any number.
    pub(crate) auth_failures_per_minute: u32,
    /// A request's head, in bytes.
    pub(crate) head_bytes: usize,
    /// A request's fields.
    pub(crate) head_fields: usize,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    /// Whether each request leaves a record.
    pub(crate) access: bool,
}

impl Config {
    /// Reads the configuration and makes of it what is meant; with it come
    /// warnings, which stop nothing. Pools are read by `load_pools`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, not only the first.
    pub fn load(source: &ConfigSource) -> Result<(Self, Vec<Finding>), Findings> {
        compile::config(source, &Environment::of_process())
    }

    /// Reads the pool files that it names, as a reload would, and keeps
    /// nothing: their warnings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    #[doc(hidden)]
    pub fn check_pools(&self) -> Result<Vec<Finding>, Findings> {
        load_pools(self).map(|loaded| loaded.warnings)
    }

    /// What it was made of.
    pub(crate) fn source(&self) -> &ConfigSource {
        &self.source
    }

    /// Its files, to be watched for a change.
    pub(crate) fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Bounds of all sessions.
    pub(crate) fn bounds(&self) -> GatewayBounds {
        let bounds = &self.sessions.bounds;
        GatewayBounds {
            default_ttl: bounds.default_ttl.unwrap_or(Ttl::MIN),
            min_ttl: bounds.min_ttl.unwrap_or(Ttl::MIN),
            max_ttl: bounds.max_ttl.unwrap_or(Ttl::MAX),
            idle: bounds.idle,
        }
    }
}

/// What [`load_pools`] makes.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The new snapshot.
    pub(crate) pools: Pools,
    /// What to watch for the next change: every file and folder that was
    /// read, as it was just before.
    pub(crate) watched: Watched,
    /// What is odd, and stops nothing.
    pub(crate) warnings: Vec<Finding>,
}

/// Reads every pool file that `config` names. Nothing is kept in between: a
/// reload is the same call again.
///
/// # Errors
///
/// Everything that is wrong with them; [`Findings::watched`] is then what to
/// watch for the mend.
pub(crate) fn load_pools(config: &Config) -> Result<Loaded, Findings> {
    compile::load_pools(config, &Environment::of_process())
}
