//! The proxies that are measured: Moorgate's release binary, and what Debian
//! has of others. Each asks for a credential, logs no request (but where that
//! is measured) and lets loopback targets through.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The one user of every proxy, and its secret.
pub(crate) const USER: &str = "acme";
pub(crate) const SECRET: &str = "s3cret";

/// Which proxy, and how it is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Moorgate,
    /// Moorgate that writes an access record for each tunnel and request.
    Logging,
    Squid,
    Tinyproxy,
}

/// A proxy that runs; it ends with this.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Moorgate, Self::Logging, Self::Squid, Self::Tinyproxy];

    pub(crate) fn is_moorgate(self) -> bool {
        matches!(self, Self::Moorgate | Self::Logging)
    }

    /// Its name and version; none if it is not installed.
    pub(crate) fn name(self) -> Option<String> {
        let version = |program: &str, flag: &str| {
            let output = Command::new(program).arg(flag).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let first = text.lines().next()?;
            let number = first.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
            number.map(str::to_owned)
        };
        match self {
            Self::Moorgate => Some(format!("Moorgate {}", env!("CARGO_PKG_VERSION"))),
            Self::Logging => Some("… with its access log".to_owned()),
            Self::Squid => version("squid", "-v").map(|number| format!("Squid {number}")),
            Self::Tinyproxy => version("tinyproxy", "-v").map(|number| format!("tinyproxy {number}")),
        }
    }

    /// Starts it with its files in `folder`, and waits until it listens.
    pub(crate) fn start(self, name: &str, folder: &Path) -> Peer {
        fs::create_dir_all(folder).expect("a folder of our own");
        let (address, other) = (free_address(), free_address());
        let mut command = match self {
            Self::Moorgate | Self::Logging => moorgate(folder, address, other, self == Self::Logging),
            Self::Squid => squid(folder, address),
            Self::Tinyproxy => tinyproxy(folder, address),
        };
        let log = File::create(folder.join("log")).expect("a file of our own");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let mut peer = Peer { kind: self, name: name.to_owned(), address, child };
        peer.wait(&folder.join("log"));
        peer
    }
}

impl Peer {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait(&mut self, log: &Path) {
        for _ in 0..200 {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = fs::read_to_string(log).unwrap_or_default();
                panic!("{} has ended: {status}\n{log}", self.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} does not listen", self.name);
    }
}

fn moorgate(folder: &Path, address: SocketAddr, admin: SocketAddr, access: bool) -> Command {
    let pools = folder.join("pools");
    fs::create_dir_all(&pools).expect("a folder of our own");
    write(&pools.join("direct.json"), r#"{ "pools": [{ "name": "direct", "exits": ["direct"] }] }"#);
    let config = folder.join("moorgate.json");
    let text = format!(
        r#"{{
  "listeners": [{{ "bind": "{address}" }}],
  "admin": {{ "bind": "{admin}" }},
  "pools": "pools",
  "users": [{{ "name": "{USER}", "password": "{SECRET}" }}],
  "sessions": {{ "store": "file:state" }},
  "targets": {{ "private": ["127.0.0.0/8"] }},
  "log": {{ "access": {access} }}
}}"#
    );
    write(&config, &text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_moorgate"));
    command.arg("run").arg("--config").arg(config);
    command
}

fn squid(folder: &Path, address: SocketAddr) -> Command {
    // Its helper that takes any secret is the cheapest of those that ship.
    let text = format!(
        "http_port {address}\n\
         auth_param basic program /usr/lib/squid/basic_fake_auth\n\
         auth_param basic credentialsttl 2 hours\n\
         acl known proxy_auth REQUIRED\n\
         http_access allow known\n\
         cache deny all\n\
         access_log none\n\
         cache_store_log none\n\
         cache_log /dev/null\n\
         pid_filename none\n\
         pinger_enable off\n\
         via off\n\
         forwarded_for delete\n\
         visible_hostname bench\n\
         max_filedescriptors 16384\n\
         shutdown_lifetime 0 seconds\n"
    );
    let config = folder.join("squid.conf");
    write(&config, &text);
    let mut command = Command::new("squid");
    command.arg("-N").arg("-f").arg(config);
    command
}

fn tinyproxy(folder: &Path, address: SocketAddr) -> Command {
    let text = format!(
        "Port {}\n\
         Listen {}\n\
         Timeout 600\n\
         MaxClients 5000\n\
         LogLevel Critical\n\
         DisableViaHeader Yes\n\
         BasicAuth {USER} {SECRET}\n",
        address.port(),
        address.ip()
    );
    let config = folder.join("tinyproxy.conf");
    write(&config, &text);
    let mut command = Command::new("tinyproxy");
    command.arg("-d").arg("-c").arg(config);
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
