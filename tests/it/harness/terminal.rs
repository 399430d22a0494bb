//! A program on a terminal of its own.
//!
//! Owns: the terminal (`terminal.py` has it), what is typed and shown there.
//! Must not know: what the program does.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::gateway::MOORGATE;
use super::log::Log;
use super::{PATIENCE, eventually};

/// A terminal, and the program that runs on it. It dies with this value.
pub struct Terminal {
    keeper: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    told: Log,
    pid: Pid,
}

impl Terminal {
    /// Runs `moorgate` with these arguments.
    #[track_caller]
    pub fn run(arguments: &[&str]) -> Self {
        let mut keeper = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/terminal.py"))
            .arg(MOORGATE)
            .args(arguments)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3 runs (Debian package python3)");
        let (told, shown) = (Log::default(), Arc::new(Mutex::new(Vec::new())));
        told.collect(keeper.stderr.take().expect("a pipe"));
        let (mut screen, all) = (keeper.stdout.take().expect("a pipe"), shown.clone());
        std::thread::spawn(move || {
            let mut piece = [0; 65536];
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                all.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        let line = told.wait_after(0, "its process id", |line| line.has("\"pid\""));
        let pid = json(&line.0)["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32)).expect("an id");
        let keys = keeper.stdin.take().expect("a pipe");
        Self { keeper, keys, shown, told, pid }
    }

    /// Types it.
    #[track_caller]
    pub fn types(&mut self, keys: &str) -> &mut Self {
        self.keys.write_all(keys.as_bytes()).expect("it is typed");
        self
    }

    /// Everything that was shown, with what moves the cursor.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until this is shown, behind so many bytes; where that ends.
    #[track_caller]
    pub fn wait(&self, behind: usize, what: &str) -> usize {
        eventually(&format!("{what:?} is shown"), PATIENCE, || {
            let at = self.shown().get(behind..)?.find(what)?;
            Some(behind + at + what.len())
        })
    }

    /// Sends the program a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) -> &Self {
        kill_process(self.pid, signal).expect("the signal is sent");
        self
    }

    /// How it ended: its exit status, and whether the terminal was as before.
    #[track_caller]
    pub fn end(&mut self) -> (i64, bool) {
        let line = self.told.wait_after(0, "its end", |line| line.has("\"restored\""));
        let end = json(&line.0);
        self.keeper.wait().expect("its keeper ends");
        (end["status"].as_i64().expect("a status"), end["restored"] == true)
    }
}

#[track_caller]
fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Without its terminal the program ends as well.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
