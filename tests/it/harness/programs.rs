//! Real proxies as upstreams: Squid, tinyproxy, microsocks.
//!
//! Owns: their configuration and their processes.
//! Must not know: the gateway.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, eventually, own_address};

/// A real proxy at an address of its own, from which it also leaves. It dies
/// with this value.
pub struct Program {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Program {
    /// Squid, without a cache.
    pub fn squid() -> Self {
        Self::run_squid("http_access allow all\n")
    }

    /// Squid, which asks everybody for a credential that nobody has.
    pub fn strict_squid() -> Self {
        Self::run_squid(
            "auth_param basic program /usr/lib/squid/basic_ncsa_auth /dev/null\n\
             acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n",
        )
    }

    fn run_squid(access: &str) -> Self {
        let ip = own_address();
        Self::run("squid", ip, |dir| {
            let dir = dir.display();
            let text = format!(
                "http_port {ip}:3128\ntcp_outgoing_address {ip}\n{access}cache deny all\n\
                 pid_filename none\naccess_log none\ncache_log {dir}/cache.log\ncoredump_dir {dir}\n\
                 netdb_filename none\npinger_enable off\nmax_filedescriptors 256\nshutdown_lifetime 0 seconds\n\
                 dns_nameservers 127.0.0.1\nvisible_hostname squid.test\n"
            );
            // Its shared memory has the service's name, and outlives it if killed.
            ("squid.conf", text, vec!["-N", "-n", "{name}", "-f", "{conf}"])
        })
    }

    /// tinyproxy, which wants a credential.
    pub fn tinyproxy(user: &str, password: &str) -> Self {
        let ip = own_address();
        Self::run("tinyproxy", ip, |_| {
            let text = format!(
                "Port 3128\nListen {ip}\nBind {ip}\nTimeout 60\nMaxClients 50\nLogLevel Error\n\
                 BasicAuth {user} {password}\nDisableViaHeader Yes\n"
            );
            ("tinyproxy.conf", text, vec!["-d", "-c", "{conf}"])
        })
    }

    /// microsocks, with or without a credential.
    pub fn microsocks(credential: Option<(&str, &str)>) -> Self {
        let ip = own_address();
        let address = ip.to_string();
        Self::run("microsocks", ip, |_| {
            let mut arguments = vec!["-i", &address, "-p", "3128", "-b", &address];
            if let Some((user, password)) = credential {
                arguments.extend(["-u", user, "-P", password]);
            }
            ("unused", String::new(), arguments)
        })
    }

    fn run<'a>(
        package: &str,
        ip: IpAddr,
        configure: impl FnOnce(&std::path::Path) -> (&'static str, String, Vec<&'a str>),
    ) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        // Squid gives up root for a user of its own.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("permissions");
        let (name, text, arguments) = configure(dir.path());
        let conf = dir.path().join(name);
        fs::write(&conf, text).expect("a file");
        let arguments = arguments
            .iter()
            .map(|one| one.replace("{conf}", &conf.to_string_lossy()).replace("{name}", &name_of(ip)));
        let child = Command::new(package)
            .args(arguments)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot run {package} ({error}): install the Debian package {package}")
            });
        let mut program = Self { address: SocketAddr::new(ip, 3128), child, dir };
        program.wait(package);
        program
    }

    fn wait(&mut self, package: &str) {
        eventually(&format!("{package} listens"), PATIENCE, || {
            if let Some(status) = self.child.try_wait().expect("its status") {
                let log = fs::read_to_string(self.dir.path().join("cache.log")).unwrap_or_default();
                panic!("{package} ended ({status}); is the Debian package {package} whole? {log}");
            }
            TcpStream::connect(self.address).ok()
        });
    }

    /// What an origin sees of it.
    pub fn ip(&self) -> String {
        self.address.ip().to_string()
    }
}

/// A word that no other program at work has.
fn name_of(ip: IpAddr) -> String {
    format!("moorgate{}", ip.to_string().replace('.', "x"))
}

impl Drop for Program {
    fn drop(&mut self) {
        let ask = Pid::from_raw(self.child.id().cast_signed()).map(|pid| kill_process(pid, Signal::TERM));
        let start = std::time::Instant::now();
        while matches!(ask, Some(Ok(()))) && matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > PATIENCE {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
