//! Wiring: builds the gateway, starts it, reloads pools, drains.
//!
//! Owns: which part is given what; every long-lived task.
//! Must not know: any decision about a request.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::admin;
use crate::admit::limits::Connections;
use crate::admit::users::{Entry, Users};
use crate::clock::{Clock, SystemClock};
use crate::config::watch::Watch;
use crate::config::{self, Config, Findings};
use crate::core::policy::Own;
use crate::core::secret::Secret;
use crate::core::shared::Address;
use crate::core::time::Timestamp;
use crate::core::username::Parameters;
use crate::dial::Dialer;
use crate::drain::Drain;
use crate::http1::head::HeadLimits;
use crate::net::listen;
use crate::net::resolve::Resolver;
use crate::serve::{self, Door, Settings, Shared};
use crate::state::{Exits, InForce};
use crate::store::{Left, PinObserver, Store, StoreConfig, StoreError, WhenAway};

mod demo_user;
mod reload;

/// How often forgotten clients' failures are dropped.
const SWEEP: Duration = Duration::from_secs(60);

/// The gateway.
pub struct Gateway;

/// A gateway that runs. Dropping it changes nothing; end it with
/// [`Running::drain`].
pub struct Running {
    inner: Arc<Inner>,
    addresses: Vec<SocketAddr>,
    demo: Option<Secret>,
}

struct Inner {
    /// As it is in force: what a reload can change of it may be replaced.
    config: ArcSwap<Config>,
    shared: Arc<Shared>,
    reloads: Notify,
    ended: tokio_util::sync::CancellationToken,
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The pools are wrong, or what is configured does not go together.
    #[error(transparent)]
    Configuration(#[from] Findings),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StoreError),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// The system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Gateway {
    /// Starts a gateway in the runtime of the caller: it listens when this
    /// returns.
    ///
    /// # Errors
    /// Whatever keeps it from starting; nothing is left running then.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let loaded = config::load_pools(&config)?;
        warn_of(&loaded.warnings);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let exits = Arc::new(Exits::default());
        let store = open_store(&config, &clock, &exits).await?;
        let (entries, demo) = users(&config)?;
        let (listeners, addresses) = bind(&config)?;
        let admin = config.admin.map(|address| bind_one(address, &[address])).transpose()?;

        let own = addresses.iter().copied().chain(admin.as_ref().and_then(|l| l.local_addr().ok())).collect();
        let resolver = Resolver::system()
            .map_err(|error| StartError::Listen(format!("names cannot be resolved: {error}")))?;
        let shared = Arc::new(Shared {
            users: Users::new(&entries, config.limits.auth_failures_per_minute),
            connections: Connections::new(config.limits.connections, config.limits.connections_per_client),
            state: InForce::new(loaded.pools, exits, clock.now()),
            store,
            dialer: Dialer::new(Arc::new(resolver)),
            clock,
            drain: Drain::new(),
            own: Arc::new(own_addresses(own)),
            settings: settings(&config),
        });
        let inner = Arc::new(Inner {
            config: ArcSwap::from_pointee(config),
            shared,
            reloads: Notify::new(),
            ended: tokio_util::sync::CancellationToken::new(),
        });
        inner.spawn(listeners, admin, Watch::new(loaded.watched));
        Ok(Running { inner, addresses, demo })
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        bounds: config.bounds(),
        timeouts: config.timeouts,
        head: HeadLimits { bytes: config.limits.head_bytes, fields: config.limits.head_fields },
        sessions: config.limits.sessions,
        announce: config.announce,
        via: config.via.then(|| format!("moorgate-{:08x}", rand::random::<u32>())),
    }
}

async fn open_store(
    config: &Config,
    clock: &Arc<dyn Clock>,
    exits: &Arc<Exits>,
) -> Result<Store, StartError> {
    let observer = Arc::new(Ledger(exits.clone()));
    let folder = match &config.sessions.store {
        config::StoreAt::Memory => None,
        config::StoreAt::Folder(folder) => Some(folder.clone()),
        config::StoreAt::Shared(address) => return Ok(connect_store(config, address, clock, observer).await),
    };
    let durability = match config.sessions.durability {
        config::Durability::Journal => crate::store::Durability::Journal,
        config::Durability::Fsync => crate::store::Durability::Fsync,
    };
    let (store, report) = Store::open(StoreConfig { folder, durability }, clock.clone(), observer)?;
    for damage in &report.damage {
        log_damage(damage);
    }
    tracing::info!(pins = report.pins, ended = report.ended, "state opened");
    Ok(store)
}

async fn connect_store(
    config: &Config,
    address: &Address,
    clock: &Arc<dyn Clock>,
    observer: Arc<Ledger>,
) -> Store {
    let when_away = match config.sessions.store_down {
        config::StoreDown::Refuse => WhenAway::Refuse,
        config::StoreDown::Local => WhenAway::Local,
    };
    let (store, connected) = Store::connect(address.clone(), when_away, clock.clone(), observer).await;
    match connected {
        Ok(()) => tracing::info!(store = %address, "shared store connected"),
        Err(error) => tracing::warn!(store = %address, error, "the shared store cannot be reached yet"),
    }
    store
}

fn log_damage(damage: &crate::store::Damage) {
    tracing::error!(
        code = "state_damaged",
        file = %damage.file.display(),
        lost = damage.lost.as_str(),
        "state_damaged"
    );
}

/// Tells the exits' counts what the store does.
struct Ledger(Arc<Exits>);

impl PinObserver for Ledger {
    fn loaded(&self, pin: &crate::core::pin::Pin) {
        self.0.loaded(pin);
    }

    fn left(&self, pin: &crate::core::pin::Pin, at: Timestamp, why: Left) {
        self.0.left(pin, (why == Left::Ended).then_some(at));
    }

    fn rested(&self, exit: &crate::core::pin::ExitName, _: &crate::core::pin::Variant, until: Timestamp) {
        self.0.rested(exit, until);
    }

    fn damaged(&self, damage: &crate::store::Damage) {
        log_damage(damage);
    }
}

/// Warnings stop nothing.
fn warn_of(warnings: &[config::Finding]) {
    for warning in warnings {
        tracing::warn!(%warning, "configuration");
    }
}

/// The configured users.
pub(crate) fn entries(config: &Config) -> Vec<Entry> {
    let entry = |user: &config::User| Entry {
        account: user.account(),
        password: user.password.as_written().clone(),
        clients: user.clients.clone().unwrap_or_default(),
    };
    config.users.iter().map(entry).collect()
}

/// The configured users; without any, one with a secret of its own.
fn users(config: &Config) -> Result<(Vec<Entry>, Option<Secret>), StartError> {
    let mut entries = entries(config);
    if !entries.is_empty() {
        return Ok((entries, None));
    }
    let folder: Option<PathBuf> = match &config.sessions.store {
        config::StoreAt::Folder(folder) => Some(folder.clone()),
        config::StoreAt::Memory | config::StoreAt::Shared(_) => None,
    };
    let secret = demo_user::secret(folder.as_deref())
        .map_err(|source| StartError::System { what: "the secret of user demo cannot be kept", source })?;
    entries.push(demo_user::entry(&secret));
    Ok((entries, Some(secret)))
}

type Listeners = Vec<(TcpListener, Arc<Door>)>;

fn bind(config: &Config) -> Result<(Listeners, Vec<SocketAddr>), StartError> {
    let all: Vec<_> = config.listeners.iter().flat_map(|listener| &listener.binds).copied().collect();
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for listener in &config.listeners {
        let door = Arc::new(Door { defaults: defaults(&listener.defaults) });
        for address in &listener.binds {
            let socket = bind_one(*address, &all)?;
            let bound = socket
                .local_addr()
                .map_err(|source| StartError::System { what: "a listener has no address", source })?;
            addresses.push(bound);
            listeners.push((socket, door.clone()));
        }
    }
    Ok((listeners, addresses))
}

fn bind_one(address: SocketAddr, all: &[SocketAddr]) -> Result<TcpListener, StartError> {
    listen::bind(address, all).map_err(|error| StartError::Listen(error.to_string()))
}

fn defaults(written: &config::Defaults) -> Parameters {
    use crate::core::pool::NameRef;
    Parameters {
        session: None,
        ttl: written.ttl,
        idle: written.idle,
        pool: written.pool.as_deref().map(|name| NameRef::Exact(name.into())),
        failover: written.failover,
        exit: None,
        labels: written.labels.iter().map(|(key, value)| (key, value.into())).collect(),
    }
}

/// All by which a client could reach us: a listener on every address is found
/// at each of the host's.
fn own_addresses(sockets: Vec<SocketAddr>) -> Own {
    let everywhere = sockets.iter().any(|socket| socket.ip().is_unspecified());
    let local: Vec<IpAddr> = if everywhere {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        interfaces.iter().map(if_addrs::Interface::ip).collect()
    } else {
        Vec::new()
    };
    Own::new(sockets, local)
}

impl Inner {
    fn spawn(self: &Arc<Self>, listeners: Listeners, admin: Option<TcpListener>, watch: Watch) {
        for (listener, door) in listeners {
            log_listening(&listener, "http");
            let shared = self.shared.clone();
            let serve = move |wire, peer| serve::serve(shared, door, wire, peer);
            tokio::spawn(listen::run(listener, self.shared.drain.clone(), serve));
        }
        if let Some(listener) = admin {
            log_listening(&listener, "admin");
            self.until_end(admin::serve(listener, self.shared.drain.clone()));
        }
        let shared = self.shared.clone();
        self.until_end(async move { shared.store.keep().await });
        let shared = self.shared.clone();
        self.until_end(async move {
            let mut tick = tokio::time::interval(SWEEP);
            loop {
                tick.tick().await;
                shared.users.sweep();
            }
        });
        let inner = self.clone();
        self.until_end(async move { inner.watch(watch).await });
    }

    /// Runs a task that ends with the gateway.
    fn until_end(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        tokio::spawn(async move { ended.run_until_cancelled(task).await });
    }

    /// Lets what is under way end, for as long as configured, then ends it.
    async fn end(self: Arc<Self>) {
        let drain = &self.shared.drain;
        tokio::select! {
            () = drain.all_gone() => {}
            () = tokio::time::sleep(self.config.load().timeouts.drain) => {
                tracing::warn!(connections = drain.alive(), "the drain took too long: closing what is left");
            }
            () = drain.forced() => {}
        }
        drain.force();
        drain.all_gone().await;
        self.shared.store.close().await;
        tracing::info!("stopped");
        self.ended.cancel();
    }
}

fn log_listening(listener: &TcpListener, protocol: &str) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, protocol = %protocol, "listening");
    }
}

impl Running {
    /// Where clients are accepted, in the configuration's order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The name and secret of the user that was made because none is
    /// configured.
    pub fn demo_user(&self) -> Option<(&'static str, &Secret)> {
        self.demo.as_ref().map(|secret| (demo_user::NAME, secret))
    }

    /// Reads users and pools again; the log says what came of it.
    pub fn reload(&self) {
        self.inner.reloads.notify_one();
    }

    /// Takes no new connections, closes idle ones, and ends when the others
    /// have ended or the drain time is over.
    pub fn drain(&self) {
        if !self.inner.shared.drain.is_begun() {
            tracing::info!("draining");
            self.inner.shared.drain.begin();
            tokio::spawn(self.inner.clone().end());
        }
    }

    /// Ends at once what a drain still waits for.
    pub fn force(&self) {
        self.drain();
        self.inner.shared.drain.force();
    }

    /// Waits until a drain has ended and every pin is on disk.
    pub async fn wait(&self) {
        self.inner.ended.cancelled().await;
    }
}
