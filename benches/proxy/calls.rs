//! The system calls of a unit, as strace counts them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::load::plain;
use crate::options::Options;
use crate::peers::Peer;
use crate::workloads::{Load, name_for};

/// What is counted: it is slower while it is watched, so its waits are fewer
/// than otherwise.
const COUNTED: [(&str, Load); 3] = [
    ("tunnel (W1)", Load::Tunnels(1_000)),
    ("round trip (W3)", Load::Echo(6_400)),
    ("plain GET of 1 kB (W4)", Load::Plain(plain::Request::Get(1_000), 4_000)),
];

/// Prints the calls for each unit, of every proxy that is wanted.
pub(crate) async fn show(options: &Options, folder: &Path) {
    for (at, kind) in options.rivals().into_iter().enumerate() {
        let peer = kind.start(&folder.join(at.to_string()));
        for (what, load) in COUNTED.into_iter().filter(|(_, load)| kind.serves(load.service())) {
            let load = load.for_kind(kind);
            let through = peer.through(name_for(kind, load));
            load.run(through, peer.pid()).await;
            let counting = Counting::start(&peer).await;
            load.run(through, peer.pid()).await;
            counting.print(&peer.name, what, load.units()).await;
        }
    }
}

struct Counting {
    strace: Child,
    summary: tempfile::NamedTempFile,
}

impl Counting {
    async fn start(peer: &Peer) -> Self {
        let summary = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-U", "name,calls,errors", "-o"]).arg(summary.path());
        for pid in crate::cost::tree(peer.pid()) {
            command.args(["-p", &pid.to_string()]);
        }
        let strace = command.stderr(Stdio::null()).spawn();
        let strace = strace.expect("--calls needs strace: apt-get install strace");
        tokio::time::sleep(Duration::from_millis(500)).await;
        Self { strace, summary }
    }

    async fn print(mut self, who: &str, unit: &str, units: u64) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let pid = i32::try_from(self.strace.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::kill_process(pid.expect("it runs"), rustix::process::Signal::INT);
        self.strace.wait().expect("strace ends when told to");
        let text = fs::read_to_string(self.summary.path()).expect("strace's summary");
        let mut lines: Vec<_> = text.lines().filter_map(line).collect();
        lines.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
        let each = |calls: u64| calls as f64 / units as f64;
        let all = each(lines.iter().map(|(_, calls)| calls).sum());
        println!("\n{who}: {all:.2} system calls for each {unit}\n");
        for (call, calls) in lines.into_iter().filter(|(_, calls)| each(*calls) >= 0.005) {
            println!("{:8.2}  {call}", each(calls));
        }
    }
}

/// `name calls errors` of one line, but of neither the head's nor the sum's.
fn line(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (name, calls) = (words.next()?, words.next()?.parse().ok()?);
    (name != "total").then_some((name, calls))
}
