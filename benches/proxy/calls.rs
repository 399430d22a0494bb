//! The system calls of a unit, as strace counts them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::document;
use crate::load::plain;
use crate::options::Options;
use crate::peers::Peer;
use crate::provenance;
use crate::table::table;
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
    let mut columns = Vec::new();
    for (at, kind) in options.rivals().into_iter().enumerate() {
        let peer = kind.start(&folder.join(at.to_string()));
        let mut counts = Vec::new();
        for (_, load) in COUNTED {
            let load = load.for_kind(kind);
            counts.push(if kind.serves(load.service()) { Some(count(&peer, load).await) } else { None });
        }
        columns.push((peer.name.clone(), counts));
        eprint!(".");
    }
    let mut text = String::new();
    for (at, (what, _)) in COUNTED.into_iter().enumerate() {
        let found = |(name, counts): &(String, Vec<Option<Calls>>)| Some((name.clone(), counts[at].clone()?));
        text.push_str(&calls_table(what, &columns.iter().filter_map(found).collect::<Vec<_>>()));
        text.push('\n');
    }
    println!("\n{text}");
    if options.write {
        let sections = [("calls", text.trim_end().to_owned() + "\n")];
        document::write("performance.md", &sections, &provenance::line(1));
    }
}

/// Calls for each unit.
type Calls = HashMap<String, f64>;

async fn count(peer: &Peer, load: Load) -> Calls {
    let through = peer.through(name_for(peer.kind, load));
    load.run(through, peer.pid()).await;
    let counting = Counting::start(peer).await;
    load.run(through, peer.pid()).await;
    counting.end(load.units_in_all()).await
}

fn calls_table(what: &str, columns: &[(String, Calls)]) -> String {
    let mut head = vec![format!("calls for each {what}")];
    head.extend(columns.iter().map(|(name, _)| name.clone()));
    let most =
        |call: &str| columns.iter().filter_map(|(_, calls)| calls.get(call)).fold(0.0, |a: f64, b| a.max(*b));
    let mut calls: Vec<_> = columns.iter().flat_map(|(_, calls)| calls.keys()).collect();
    calls.sort_by(|a, b| most(b).total_cmp(&most(a)).then(a.cmp(b)));
    calls.dedup();
    let shown = |figure: f64| if figure >= 0.005 { format!("{figure:.2}") } else { String::new() };
    let all = columns.iter().map(|(_, calls)| format!("**{:.2}**", calls.values().sum::<f64>()));
    let all = std::iter::once("all".to_owned()).chain(all).collect();
    let each = calls.into_iter().filter(|call| most(call) >= 0.05).map(|call| {
        let figures = columns.iter().map(|(_, calls)| shown(calls.get(call).copied().unwrap_or_default()));
        std::iter::once(format!("`{call}`")).chain(figures).collect()
    });
    table(&head, each.chain(std::iter::once(all)))
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

    async fn end(mut self, units: u64) -> Calls {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let pid = i32::try_from(self.strace.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::kill_process(pid.expect("it runs"), rustix::process::Signal::INT);
        self.strace.wait().expect("strace ends when told to");
        let text = fs::read_to_string(self.summary.path()).expect("strace's summary");
        let each = |(call, calls): (&str, u64)| (call.to_owned(), calls as f64 / units as f64);
        text.lines().filter_map(line).map(each).collect()
    }
}

/// `name calls errors` of one line, but of neither the head's nor the sum's.
fn line(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (name, calls) = (words.next()?, words.next()?.parse().ok()?);
    (name != "total").then_some((name, calls))
}
