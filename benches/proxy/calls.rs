//! The system calls of a tunnel, as strace counts them.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::load::{self, Name, Through};
use crate::peers::Peer;

const TUNNELS: u64 = 1_000;
const REQUESTS: u64 = 4_000;

/// Prints the calls of a proxy for each tunnel and each plain request. It is
/// slower while it is watched, so its waits are fewer than otherwise.
pub(crate) async fn show(peer: &Peer, through: Through, live: Name, fresh: Name) {
    load::tunnels(through, 100, live).await;
    let counting = Counting::start(peer).await;
    load::tunnels(through, TUNNELS, live).await;
    counting.print("tunnel", TUNNELS).await;
    if peer.kind.is_moorgate() {
        let counting = Counting::start(peer).await;
        load::tunnels(through, TUNNELS, fresh).await;
        counting.print("tunnel of a new session", TUNNELS).await;
    }
    let counting = Counting::start(peer).await;
    load::requests(through, REQUESTS, live).await;
    counting.print("plain request", REQUESTS).await;
}

struct Counting {
    strace: std::process::Child,
    summary: tempfile::NamedTempFile,
}

impl Counting {
    async fn start(peer: &Peer) -> Self {
        let summary = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-U", "name,calls,errors", "-o"]).arg(summary.path());
        command.args(["-p", &peer.pid().to_string()]).stderr(Stdio::null());
        let strace = command.spawn().expect("--calls needs strace: apt-get install strace");
        tokio::time::sleep(Duration::from_millis(500)).await;
        Self { strace, summary }
    }

    async fn print(mut self, unit: &str, units: u64) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let pid = i32::try_from(self.strace.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::kill_process(pid.expect("it runs"), rustix::process::Signal::INT);
        self.strace.wait().expect("strace ends when told to");
        println!("\nSystem calls for each {unit}:\n");
        let text = fs::read_to_string(self.summary.path()).expect("strace's summary");
        let mut lines: Vec<_> = text.lines().filter_map(line).collect();
        lines.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
        for (call, calls) in lines {
            let each = calls as f64 / units as f64;
            if each >= 0.005 {
                println!("{each:8.2}  {call}");
            }
        }
    }
}

/// `name calls errors` of one line, but of none of the head's.
fn line(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_ascii_whitespace();
    Some((words.next()?, words.next()?.parse().ok()?))
}
