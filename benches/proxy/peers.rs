//! The proxies that are measured. Each asks for a credential where it can,
//! logs no request (but where that is measured) and lets loopback targets
//! through; but the limit and the relays to one backend, which ask nothing.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::load::{Name, Through};
use crate::origin::{Origin, Service};

#[path = "peers/moorgate.rs"]
mod moorgate;
#[path = "peers/others.rs"]
mod others;

/// The one user of every proxy, and its secret.
pub(crate) const USER: &str = "acme";
pub(crate) const SECRET: &str = "s3cret";
/// The source addresses of [`Setup::Addresses`].
pub(crate) const ADDRESSES: usize = 64;

/// Which proxy, and how it is set up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    Limit,
    /// The limit, which sends CONNECTs on to another limit.
    LimitUpstream,
    Moorgate(Setup),
    /// The least CONNECT proxy that one writes with tokio.
    Bare,
    /// Relays to one backend: they read no CONNECT.
    Nginx,
    Haproxy,
    Squid,
    Tinyproxy,
}

/// What is special about a Moorgate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Setup {
    Usual,
    /// It writes an access record for each tunnel and request.
    Logging,
    /// Its user's secret is an argon2 hash.
    Argon2,
    /// Its pool has so many source addresses.
    Addresses,
    /// Its exit is an HTTP proxy: the limit.
    Upstream,
    /// Set up as usual, for many live sessions.
    Full,
    /// It has a thousand other pools, with a hundred exits each.
    Large,
}

/// A proxy that runs; it ends with this.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// For each service; of most they are one.
    addresses: [SocketAddr; 4],
    child: Child,
    origin: Origin,
    folder: PathBuf,
    log: PathBuf,
    /// What it sends its tunnels through.
    _upstream: Option<Box<Self>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Kind {
    /// What is compared with each other.
    pub(crate) const RIVALS: [Self; 7] = [
        Self::Limit,
        Self::Moorgate(Setup::Usual),
        Self::Bare,
        Self::Nginx,
        Self::Haproxy,
        Self::Squid,
        Self::Tinyproxy,
    ];

    /// Its name and version; none if it is not installed.
    pub(crate) fn name(self) -> Option<String> {
        match self {
            Self::Limit => Some("limit".to_owned()),
            Self::LimitUpstream => Some("limit, to an upstream".to_owned()),
            Self::Moorgate(_) => Some(format!("Moorgate {}", env!("CARGO_PKG_VERSION"))),
            Self::Bare => Some("bare tokio".to_owned()),
            Self::Nginx => others::version("nginx", "-v", '/').map(|number| format!("nginx {number}")),
            Self::Haproxy => others::version("haproxy", "-v", ' ').map(|number| format!("HAProxy {number}")),
            Self::Squid => others::version("squid", "-v", ' ').map(|number| format!("Squid {number}")),
            Self::Tinyproxy => {
                others::version("tinyproxy", "-v", ' ').map(|number| format!("tinyproxy {number}"))
            }
        }
    }

    pub(crate) fn is_moorgate(self) -> bool {
        matches!(self, Self::Moorgate(_))
    }

    /// Whether it reads where its clients want to go.
    fn is_told(self) -> bool {
        !matches!(self, Self::Nginx | Self::Haproxy)
    }

    /// Whether it can carry this at all.
    pub(crate) fn serves(self, service: Service) -> bool {
        match self {
            Self::LimitUpstream => service == Service::Short,
            Self::Bare => service != Service::Http,
            Self::Nginx => service == Service::Http || others::nginx_relays(),
            _ => true,
        }
    }

    /// Starts it, and an origin for it, with its files in `folder`, and waits
    /// until it listens.
    pub(crate) fn start(self, folder: &Path) -> Peer {
        fs::create_dir_all(folder).expect("a folder of our own");
        let origin = Origin::start();
        let needs_upstream = matches!(self, Self::LimitUpstream | Self::Moorgate(Setup::Upstream));
        let upstream = needs_upstream.then(|| Box::new(Self::Limit.start(&folder.join("upstream"))));
        let one = free_address();
        let addresses = if self.is_told() { [one; 4] } else { [(); 4].map(|()| free_address()) };
        let beyond = upstream.as_ref().map(|upstream| upstream.addresses[0]);
        let mut command = match self {
            Self::Limit | Self::LimitUpstream => this_program("limit", one, beyond),
            Self::Bare => this_program("bare", one, None),
            Self::Moorgate(setup) => moorgate::command(folder, one, free_address(), setup, beyond),
            Self::Nginx => others::nginx(folder, addresses, origin.addresses),
            Self::Haproxy => others::haproxy(folder, addresses, origin.addresses),
            Self::Squid => others::squid(folder, one),
            Self::Tinyproxy => others::tinyproxy(folder, one),
        };
        let log = folder.join("log");
        let file = File::create(&log).expect("a file of our own");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        let child = child.unwrap_or_else(|error| panic!("{self:?} does not start: {error}"));
        let name = self.name().expect("it is installed");
        let folder = folder.to_owned();
        let mut peer = Peer { kind: self, name, addresses, child, origin, folder, log, _upstream: upstream };
        peer.wait();
        peer
    }
}

impl Peer {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written on its standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Writes what [`Self::reload`] will put in force.
    pub(crate) fn prepare_reload(&self, turn: usize) {
        moorgate::write_pools(&self.folder, turn);
    }

    /// Has a Moorgate read its many pools again.
    pub(crate) fn reload(&self) {
        moorgate::put_pools(&self.folder);
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("it runs"), rustix::process::Signal::HUP).expect("it runs");
    }

    pub(crate) fn through(&self, name: Name) -> Through {
        Through { proxy: self.addresses, origin: self.origin.addresses, told: self.kind.is_told(), name }
    }

    fn wait(&mut self) {
        for _ in 0..200 {
            if TcpStream::connect(self.addresses[Service::Http as usize]).is_ok() {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} has ended: {status}\n{}", self.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} does not listen", self.name);
    }

    /// As it wishes to end, for it may have processes of its own; or else at
    /// once.
    pub(crate) fn stop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::kill_process(pid.expect("it runs"), rustix::process::Signal::TERM);
        for _ in 0..40 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program in another role.
fn this_program(role: &str, address: SocketAddr, upstream: Option<SocketAddr>) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(role).arg(address.to_string()).args(upstream.map(|upstream| upstream.to_string()));
    command
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file of our own");
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    listener.local_addr().expect("it is bound")
}
