//! Wiring: builds the gateway, starts it, reloads pools, drains.
//!
//! Owns: which part is given what; every long-lived task.
//! Must not know: any decision about a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::admin;
use crate::admit::limits::Connections;
use crate::admit::limits::tabs::Tabs;
use crate::admit::users::{Entry, Users};
use crate::clock::{Clock, SystemClock};
use crate::config::watch::Watch;
use crate::config::{self, Config, Findings};
use crate::core::secret::Secret;
use crate::dial::Dialer;
use crate::drain::Drain;
use crate::http1::head::HeadLimits;
use crate::net::listen::{self, Listener};
use crate::net::resolve::Resolver;
use crate::net::systemd::Manager;
use crate::observe::instruments::Instruments;
use crate::serve::{self, Passage, Settings, Shared};
use crate::state::{Exits, InForce};
use crate::steer::Steering;
use crate::steer::reload::{Asked, reloads};
use crate::store::StoreError;

mod birth;
mod counts;
mod day;
mod demo_user;
mod descriptors;
mod listeners;
mod probes;
mod reload;
mod state;
mod successor;
mod upgrade;

pub(crate) use birth::Birth;
use birth::Image;
use day::DayKeeper;
use listeners::{Listeners, Secured, Socket};
use reload::Watching;
use state::Ledger;

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
    day: Arc<DayKeeper>,
    exits: Arc<Exits>,
    steering: Arc<Steering>,
    sockets: Vec<Socket>,
    secured: Vec<Secured>,
    manager: Arc<Manager>,
    image: Option<Image>,
    /// Held while a new process is to take our place.
    upgrading: Mutex<()>,
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
    /// The process whose place this one was to take did not let it.
    #[error("{0}")]
    Upgrade(String),
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
        Self::start_from(config, Birth::default()).await
    }

    /// The same with what the process was given at its start.
    pub(crate) async fn start_from(config: Config, birth: Birth) -> Result<Running, StartError> {
        let loaded = config::load_pools(&config)?;
        warn_of(&loaded.warnings);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (exits, tabs) = (Arc::new(Exits::default()), Arc::new(Tabs::default()));
        let instruments = Arc::new(Instruments::default());
        let counts = || Ledger::new(&exits, &tabs, &instruments);
        let Birth { sockets, predecessor, manager, watchdog, image } = birth;
        let (kept, mut listeners) = match &predecessor {
            None => {
                let kept = state::open(&config, &clock, counts()).await?;
                (kept, Listeners::bind(&config, sockets, true)?)
            }
            // What may fail comes before the old process stops for us.
            Some(predecessor) => {
                let listeners = Listeners::bind(&config, sockets, false)?;
                predecessor.state().await?;
                (state::open(&config, &clock, counts()).await?, listeners)
            }
        };
        let day = DayKeeper::open(state::folder(&config).as_deref(), &tabs, clock.now());
        let (entries, demo) = users(&config)?;
        let users = Users::new(config.limits.auth_failures_per_minute, tabs, clock.clone());
        users.replace(&entries, config.tokens.as_ref());
        let resolver = Resolver::system()
            .map_err(|error| StartError::Listen(format!("names cannot be resolved: {error}")))?;
        let shared = Arc::new(Shared {
            users: Arc::new(users),
            connections: Connections::new(
                descriptors::fitting(config.limits.connections),
                config.limits.connections_per_client,
            ),
            state: Arc::new(InForce::new(loaded.pools, exits.clone(), kept.switches.clone(), clock.now())),
            store: kept.store.clone(),
            dialer: Dialer::new(Arc::new(resolver)),
            clock,
            drain: Drain::new(),
            passage: Passage::default(),
            own: Arc::new(listeners.own()),
            instruments,
            settings: settings(&config),
        });
        let watch =
            Watching { pools: Watch::new(loaded.watched), config: Watch::new(config.watched().clone()) };
        let (reloads, asked) = reloads();
        let steering = Arc::new(kept.steering(&shared, reloads));
        let inner = Arc::new(Inner {
            config: ArcSwap::from_pointee(config),
            shared,
            day: Arc::new(day),
            exits,
            steering,
            sockets: std::mem::take(&mut listeners.all),
            secured: std::mem::take(&mut listeners.secured),
            manager,
            image,
            upgrading: Mutex::default(),
            ended: tokio_util::sync::CancellationToken::new(),
        });
        let (addresses, doors, left) =
            (listeners.addresses(), listeners.doors(), listeners.left.split_off(0));
        inner.spawn(listeners, watch, asked, watchdog);
        match predecessor {
            None => inner.is_service(),
            Some(predecessor) => {
                // If it is gone by now, all the more is to be done here.
                if let Err(error) = predecessor.serving(left).await {
                    tracing::warn!(%error, "the old process has gone");
                }
                tokio::spawn(predecessor.clients(inner.clone(), doors));
            }
        }
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
        limits: user.limits,
    };
    config.users.iter().map(entry).collect()
}

/// The configured users; without any, one with a secret of its own.
fn users(config: &Config) -> Result<(Vec<Entry>, Option<Secret>), StartError> {
    let mut entries = entries(config);
    if !entries.is_empty() || config.tokens.is_some() {
        return Ok((entries, None));
    }
    let secret = demo_user::secret(state::folder(config).as_deref())
        .map_err(|source| StartError::System { what: "the secret of user demo cannot be kept", source })?;
    entries.push(demo_user::entry(&secret));
    Ok((entries, Some(secret)))
}

impl Inner {
    fn spawn(
        self: &Arc<Self>,
        listeners: Listeners,
        watch: Watching,
        asked: Asked,
        watchdog: Option<Duration>,
    ) {
        for (listener, door) in listeners.clients {
            log_listening(&listener, door.protocol.word());
            let shared = self.shared.clone();
            let serve = move |wire, peer| serve::serve(shared, door, wire, peer);
            tokio::spawn(listen::run(listener, self.shared.drain.clone(), serve));
        }
        if let Some(listener) = listeners.admin {
            log_listening(&listener, "admin");
            let token = self.config.load().admin.as_ref().and_then(|admin| admin.token.clone());
            let desk = admin::Desk {
                steering: self.steering.clone(),
                users: self.shared.users.clone(),
                connections: self.shared.connections.clone(),
                drain: self.shared.drain.clone(),
            };
            self.until_end(admin::serve(listener, desk, token));
        }
        if let Some(time) = watchdog {
            let manager = self.manager.clone();
            self.until_end(async move {
                let mut tick = tokio::time::interval(time / 2);
                loop {
                    tick.tick().await;
                    manager.alive();
                }
            });
        }
        let shared = self.shared.clone();
        self.until_end(async move { shared.store.keep().await });
        if self.shared.store.is_shared() {
            self.until_end(counts::keep(self.shared.clone(), self.exits.clone()));
        }
        let shared = self.shared.clone();
        self.until_end(async move {
            let mut tick = tokio::time::interval(SWEEP);
            loop {
                tick.tick().await;
                shared.users.sweep();
            }
        });
        let inner = self.clone();
        self.until_end(async move { inner.watch(watch, asked).await });
        self.until_end(self.clone().mind_limits());
        self.until_end(self.clone().probe_exits());
    }

    /// This process is the service: clients come here, and signals.
    fn is_service(&self) {
        if !self.shared.drain.is_begun() {
            self.manager.ready();
        }
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
        // A new process that was to take our place is ended first.
        drop(self.upgrading.lock().await);
        self.share_day().await;
        self.shared.store.close().await;
        self.keep_day().await;
        tracing::info!("stopped");
        self.ended.cancel();
    }
}

fn log_listening(listener: &Listener, protocol: &str) {
    if let Ok(address) = listener.local() {
        tracing::info!(%address, protocol = %protocol, "listening");
    }
}

impl Running {
    /// Where clients are accepted, in the configuration's order; a Unix socket
    /// has no address.
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
        self.inner.steering.reloads.ask();
    }

    /// Starts the program anew and gives way to it; the log says what came of
    /// it. Only for a gateway that the command line started.
    pub fn upgrade(&self) {
        tokio::spawn(self.inner.clone().upgrade());
    }

    /// Takes no new connections, closes idle ones, and ends when the others
    /// have ended or the drain time is over.
    pub fn drain(&self) {
        if !self.inner.shared.drain.is_begun() {
            tracing::info!("draining");
            self.inner.manager.stopping();
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
