//! Where figures come from: the machine and the command.

use std::fs;

/// In one line.
pub(crate) fn line(rounds: usize) -> String {
    let rounds = if rounds > 1 { format!(", at most {rounds} rounds") } else { String::new() };
    format!("{}{rounds}: `{}`", machine(), command())
}

fn command() -> String {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    format!("cargo bench --bench proxy -- {}", arguments.join(" "))
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let information = read("/proc/cpuinfo");
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = model.map_or("an unknown processor", |(_, name)| name);
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}
