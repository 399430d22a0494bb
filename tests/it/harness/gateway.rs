//! The real binary as a process.
//!
//! Owns: its folder, start and end, signals, where it listens.
//! Must not know: what is asked of it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::log::{Line, Log};
use super::request::Ask;
use super::setup::Setup;
use super::{PATIENCE, eventually};

/// The program under test.
pub const MOORGATE: &str = env!("CARGO_BIN_EXE_moorgate");

/// A gateway with a folder of its own. It dies with this value.
pub struct Gateway {
    dir: TempDir,
    setup: Setup,
    running: Mutex<Running>,
    /// What it has logged, over all its lives.
    pub log: Log,
    /// What it has printed.
    pub out: Log,
}

#[derive(Default)]
struct Running {
    child: Option<Child>,
    /// None: no address.
    listeners: Vec<Option<SocketAddr>>,
    admin: Option<SocketAddr>,
}

impl Gateway {
    /// Writes the files, runs the binary, waits until it listens.
    #[track_caller]
    pub fn start(setup: Setup) -> Self {
        Self::start_in(write(&setup), setup)
    }

    /// The same where the files are written already.
    #[track_caller]
    pub fn start_in(dir: TempDir, setup: Setup) -> Self {
        let gateway =
            Self { dir, setup, running: Mutex::default(), log: Log::default(), out: Log::default() };
        gateway.launch();
        gateway
    }

    /// Runs it again in the same folder.
    #[track_caller]
    pub fn launch(&self) {
        let mark = self.log.mark();
        let mut child = self.command().spawn().expect("the binary runs");
        self.log.collect(child.stderr.take().expect("a pipe"));
        self.out.collect(child.stdout.take().expect("a pipe"));
        let mut running = self.running.lock().unwrap();
        running.child = Some(child);
        let listeners = self.setup.config["listeners"].as_array();
        let sockets = listeners.map_or(1, |all| all.iter().map(sockets).sum());
        let listening = |line: &Line, admin: bool| {
            line.has("listening") && (line.field("protocol").as_deref() == Some("admin")) == admin
        };
        let lines = self.log.wait_count(mark, sockets, "listening", |line| listening(line, false));
        running.listeners = lines.iter().map(|line| at(line).parse().ok()).collect();
        if self.setup.config.get("admin").is_some_and(|admin| !admin.is_null()) {
            let line = self.log.wait_after(mark, "listening (admin)", |line| listening(line, true));
            running.admin = Some(address(&line));
        }
    }

    fn command(&self) -> Command {
        let dir = self.dir.path().to_string_lossy().into_owned();
        let mut words = self.setup.wrap.iter().map(|word| word.replace("{dir}", &dir));
        let mut command = match words.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(words).arg(MOORGATE);
                command
            }
            None => match &self.setup.program {
                Some(program) => Command::new(self.dir.path().join(program)),
                None => Command::new(MOORGATE),
            },
        };
        command.args(["run", "--config", "moorgate.json"]).current_dir(self.dir.path());
        command.env_remove("MOORGATE_LOG").envs(self.setup.env.iter().cloned());
        let stdin = self.setup.stdin.as_ref().map(|fd| fd.try_clone().expect("a descriptor"));
        command
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Where the n-th listening socket is.
    #[track_caller]
    pub fn listener(&self, n: usize) -> SocketAddr {
        self.running.lock().unwrap().listeners[n].expect("an address")
    }

    /// Where the admin listener is.
    pub fn admin(&self) -> SocketAddr {
        self.running.lock().unwrap().admin.expect("an admin listener")
    }

    /// The folder of its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.lock().unwrap().child.as_ref().expect("it runs").id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("the signal is sent");
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait(&self) -> ExitStatus {
        let status = eventually("the process ends", PATIENCE, || self.try_wait());
        self.running.lock().unwrap().child = None;
        self.log.wait_end();
        status
    }

    /// Whether it has ended, and how.
    pub fn try_wait(&self) -> Option<ExitStatus> {
        self.running.lock().unwrap().child.as_mut().expect("it runs").try_wait().expect("its status")
    }

    /// SIGKILL and a new life on the same state.
    #[track_caller]
    pub fn crash(&self) {
        self.kill();
        self.launch();
    }

    /// Something while it runs, then SIGKILL and a new life.
    #[track_caller]
    pub fn crash_after(&self, first: impl FnOnce()) {
        first();
        self.crash();
    }

    /// Replaces `pools/p.json`, by renaming a new file over it.
    pub fn write_pools(&self, pools: &Value) {
        self.replace("pools/p.json", pools.to_string());
    }

    /// Replaces a file of the folder, by renaming a new one over it.
    pub fn replace(&self, path: &str, text: impl AsRef<[u8]>) {
        let new = self.dir.path().join(format!(".{}.new", path.replace('/', "_")));
        fs::write(&new, text).expect("a file is written");
        fs::rename(new, self.dir.path().join(path)).expect("a file is renamed");
    }

    /// The `n`-th access record of a request (each is a line of its own).
    #[track_caller]
    pub fn access(&self, n: usize) -> Line {
        self.log.wait_count(0, n + 1, "access", is_access).swap_remove(n)
    }
}

/// Whether the line is an access record.
pub fn is_access(line: &Line) -> bool {
    line.has("access") && line.field("kind").is_some() && line.field("client").is_some()
}

impl Ask for Gateway {
    fn listens(&self) -> SocketAddr {
        self.listener(0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = running.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log.text());
        }
    }
}

/// Runs the binary with these arguments to its end.
#[track_caller]
pub fn run(dir: &Path, arguments: &[&str], input: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new(MOORGATE)
        .args(arguments)
        .current_dir(dir)
        .env_remove("MOORGATE_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // A program that does not read its input may be gone already.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let start = Instant::now();
    while child.try_wait().expect("its status").is_none() {
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("moorgate {arguments:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

/// Writes what a gateway reads, in a folder of its own.
pub fn write(setup: &Setup) -> TempDir {
    let dir = tempfile::Builder::new().prefix("moorgate-it-").tempdir().expect("a folder");
    let put = |path: &str, bytes: &[u8]| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    };
    put("moorgate.json", serde_json::to_string_pretty(&setup.config).expect("JSON").as_bytes());
    put("pools/p.json", serde_json::to_string_pretty(&setup.pools).expect("JSON").as_bytes());
    fs::create_dir(dir.path().join("state")).expect("a folder");
    setup.files.iter().for_each(|(path, bytes)| put(path, bytes));
    if let Some(program) = &setup.program {
        fs::copy(MOORGATE, dir.path().join(program)).expect("the binary is copied");
    }
    dir
}

/// How many sockets a listener of the configuration has.
fn sockets(listener: &Value) -> usize {
    let ports = listener["bind"].as_str().and_then(|bind| bind.rsplit_once(':')).map(|(_, ports)| ports);
    let range = ports.and_then(|ports| ports.split_once('-'));
    let range =
        range.and_then(|(first, last)| Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?)));
    range.map_or(1, |(first, last)| last - first + 1)
}

#[track_caller]
fn at(line: &Line) -> String {
    line.field("address").unwrap_or_else(|| panic!("no address in {}", line.0))
}

#[track_caller]
fn address(line: &Line) -> SocketAddr {
    let address = at(line);
    address.parse().unwrap_or_else(|_| panic!("no socket address: {address}"))
}
