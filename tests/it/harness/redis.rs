//! Redis servers: single, a sentinel's, a cluster's.
//!
//! Owns: their folders, configuration and processes.
//! Must not know: the gateway, so that unit tests can use it as well.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::panic,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking and measures real time; unit tests use a part of this"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server at a loopback address of its own, so that it can be stopped and
/// come back there. It dies with this value.
pub struct Redis {
    /// Where it listens.
    pub ip: IpAddr,
    /// On which port.
    pub port: u16,
    program: &'static str,
    arguments: Vec<String>,
    /// What it wants to hear first.
    password: Option<String>,
    /// Goes with it.
    _dir: TempDir,
    child: Mutex<Option<Child>>,
}

impl Redis {
    /// Without persistence.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With its append-only file, synced at every write.
    pub fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// With more of its configuration.
    pub fn with(more: &[&str]) -> Self {
        Self::run("redis-server", None, 6379, more)
    }

    /// A sentinel that watches this server as `mymaster`.
    pub fn sentinel(master: &Self) -> Self {
        let text = format!(
            "sentinel monitor mymaster {} {} 1\nsentinel down-after-milliseconds mymaster 500\n\
             sentinel failover-timeout mymaster 2000\n",
            master.ip, master.port
        );
        Self::run("redis-sentinel", Some(text), 26_379, &[])
    }

    /// As a shell's script runs it, which has its password in this variable
    /// and its data in `/data`.
    pub fn of_shell(script: &str, variable: &str, password: &str) -> Self {
        let (dir, ip) = (tempfile::tempdir().expect("a folder"), own_address());
        let here = format!("--dir {} --bind {ip} --port 6379", dir.path().display());
        let script = format!("{variable}={password}; {}", script.replace("--dir /data", &here));
        let server = Self {
            ip,
            port: 6379,
            program: "sh",
            arguments: vec!["-c".to_owned(), script],
            password: Some(password.to_owned()),
            _dir: dir,
            child: Mutex::default(),
        };
        server.launch();
        server
    }

    fn run(program: &'static str, conf: Option<String>, port: u16, more: &[&str]) -> Self {
        let (dir, ip) = (tempfile::tempdir().expect("a folder"), own_address());
        let folder = dir.path().to_string_lossy().into_owned();
        let mut arguments = Vec::new();
        if let Some(text) = conf {
            let path = dir.path().join("own.conf");
            fs::write(&path, text).expect("a file");
            arguments.push(path.to_string_lossy().into_owned());
        }
        let common = [
            "--bind".to_owned(),
            ip.to_string(),
            "--port".to_owned(),
            port.to_string(),
            "--dir".to_owned(),
            folder.clone(),
            "--protected-mode".to_owned(),
            "no".to_owned(),
        ];
        arguments.extend(common);
        if program == "redis-server" {
            let own = ["--save", "", "--repl-diskless-sync-delay", "0"].map(str::to_owned);
            arguments.extend(own);
            // All loopback addresses look like the first one from the other side.
            arguments.extend(["--replica-announce-ip".to_owned(), ip.to_string()]);
        }
        arguments
            .extend(more.iter().map(|one| one.replace("{dir}", &folder).replace("{ip}", &ip.to_string())));
        let server =
            Self { ip, port, program, arguments, password: None, _dir: dir, child: Mutex::default() };
        server.launch();
        server
    }

    /// Runs it (again).
    pub fn launch(&self) {
        let child = Command::new(self.program)
            .args(&self.arguments)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let package = self.program;
        let child = child.unwrap_or_else(|error| {
            panic!("cannot run {package} ({error}): install the Debian package {package}")
        });
        *self.child.lock().unwrap() = Some(child);
        self.wait("it listens", || TcpStream::connect((self.ip, self.port)).is_ok());
        // It may be loading yet.
        let ready = || redis::Client::open(self.url()).ok()?.get_connection().ok();
        self.wait("it answers", || {
            ready().is_none_or(|mut it| {
                redis::cmd("PING").query::<String>(&mut it).is_ok_and(|pong| pong == "PONG")
            })
        });
    }

    /// Waits until something is so.
    pub fn wait(&self, what: &str, so: impl Fn() -> bool) {
        let start = Instant::now();
        while !so() {
            assert!(start.elapsed() < PATIENCE, "{}: not in time: {what}", self.program);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal: `STOP`, `CONT`.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.lock().unwrap().as_ref().expect("it runs").id();
        kill_process(Pid::from_raw(id.cast_signed()).expect("a process id"), signal)
            .expect("the signal is sent");
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{login}{}:{}", self.ip, self.port)
    }

    /// `address:port`.
    pub fn host(&self) -> String {
        format!("{}:{}", self.ip, self.port)
    }

    /// A connection.
    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).expect("a URL").get_connection().expect("a connection")
    }

    /// One command.
    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut self.connection()).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// How many sessions it holds a pin of.
    pub fn pins(&self) -> usize {
        self.ask::<Vec<String>>(&["KEYS", "moorgate:p:*"]).len()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A loopback address that no other peer has.
fn own_address() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let pid = std::process::id();
    IpAddr::V4(Ipv4Addr::new(127, 192 + (pid % 60) as u8, (pid / 60 % 64) as u8 * 4 + high % 4, low))
}
