//! The process that takes a gateway's place.
//!
//! Owns: finding it by what the old one logs, its signals, its end.
//! Must not know: what is asked of it.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::gateway::Gateway;
use super::{PATIENCE, eventually};

/// A process that another gateway has started. It dies with this value.
pub struct Heir(pub u32);

impl Heir {
    /// Signals `pid` and waits until another process serves in its place.
    #[track_caller]
    pub fn of(gateway: &Gateway, pid: u32) -> Self {
        let mark = gateway.log.mark();
        send(pid, Signal::USR2);
        let line = gateway.log.wait_after(mark, "upgraded", |line| {
            line.has("upgraded: the new process") || line.has("not upgraded")
        });
        assert!(!line.has("not upgraded"), "{}", line.0);
        Self(line.field("pid").and_then(|pid| pid.parse().ok()).expect("a process id"))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.0, signal);
    }

    /// SIGTERM, and waits for its end.
    #[track_caller]
    pub fn stop(&self) {
        self.signal(Signal::TERM);
        gone(self.0);
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0.cast_signed()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    kill_process(pid, signal).expect("the signal is sent");
}

/// Waits until a process is gone, or waits for its parent alone.
#[track_caller]
pub fn gone(pid: u32) {
    eventually(&format!("process {pid} ends"), PATIENCE, || (!lives(pid)).then_some(()));
}

/// Whether a process is there and at work.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}
