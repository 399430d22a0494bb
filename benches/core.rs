//! What the steps of a request cost, in instructions: exact on any machine
//! that has valgrind. `cargo bench --bench core [-- --write | --time]`.
//!
//! Callgrind counts what happens inside [`measured`] alone and writes a file
//! each time it returns. `--time` measures nanoseconds instead, and is what is
//! done where there is no valgrind: each step over and over, and one whose
//! exit or pin is in no cache. `--write` puts the tables into docs/performance.md.
#![expect(clippy::expect_used, reason = "a bench may stop where it cannot go on")]

#[path = "core/load.rs"]
mod load;
#[path = "core/report.rs"]
mod report;
#[path = "core/steps.rs"]
mod steps;

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use report::Table;
use rustix::time::{ClockId, clock_gettime};

/// How often a step is counted.
const COUNTED: usize = 200;
/// How often a step is timed warm; so many in a row cold, and how often that.
const TIMED: usize = 20_000;
const IN_A_ROW: usize = 16;
const ROWS: usize = 40;
/// More than any cache holds.
const CACHE: usize = 96 << 20;

/// Exits, or pins: one column each.
const SIZES: [usize; 3] = [10, 1_000, 100_000];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["count", size] => count(size.parse().expect("a size")),
        ["load", what, folder] => load::run(what, Path::new(folder)),
        ref options => whole(options),
    }
}

fn whole(options: &[&str]) {
    let has_valgrind = Command::new("valgrind").arg("--version").output().is_ok();
    if !has_valgrind {
        println!("valgrind is missing (Debian: apt-get install valgrind): nanoseconds instead\n");
    }
    let mut tables = Vec::new();
    if has_valgrind && !options.contains(&"--time") {
        let columns = SIZES.map(|size| (thousands(size), counts(size)));
        tables.push(("Instructions".to_owned(), Table::new(&columns)));
    }
    if tables.is_empty() || options.contains(&"--write") {
        let columns = SIZES.map(|size| (thousands(size), times(size)));
        tables.push(("Nanoseconds, warm / with cold data".to_owned(), Table::new(&columns)));
    }
    let loads = load::whole();
    let text = report::text(&tables, &loads);
    println!("{text}");
    if options.contains(&"--write") {
        report::write(&text);
    }
}

fn thousands(n: usize) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", n / 1000, n % 1000) }
}

/// Runs a step so often: all that callgrind counts. One function for all
/// steps, so that it has one name.
#[inline(never)]
fn measured(step: &mut dyn FnMut(), times: usize) {
    for _ in 0..black_box(times) {
        step();
    }
}

/// In a process of its own under callgrind.
fn count(size: usize) {
    steps::each(size, &mut |name, step| {
        measured(step, COUNTED);
        println!("{name}");
    });
}

/// Instructions of each step, and its name.
fn counts(size: usize) -> Vec<(String, String)> {
    let folder = std::env::temp_dir().join(format!("moorgate-count-{}-{size}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of our own");
    let out = folder.join("out");
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=core::measured", "--dump-after=core::measured"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program"))
        .args(["count", &size.to_string()])
        .output()
        .expect("valgrind");
    let said = String::from_utf8_lossy(&counted.stderr);
    assert!(counted.status.success(), "{said}");
    let names = String::from_utf8(counted.stdout).expect("names");
    let cost = |at: usize| {
        let dump = std::fs::read_to_string(folder.join(format!("out.{at}"))).expect("a dump for each step");
        let sum = dump.lines().find_map(|line| line.strip_prefix("summary:")).expect("a sum");
        sum.trim().parse::<usize>().expect("a number") / COUNTED
    };
    let costs = names.lines().enumerate().map(|(at, name)| (name.to_owned(), cost(at + 1).to_string()));
    let costs = costs.collect();
    std::fs::remove_dir_all(&folder).expect("our own folder");
    costs
}

/// CPU time, so that what else the machine does counts little. Cold only in
/// the largest pool: a small one is in the cache as soon as it is used.
fn times(size: usize) -> Vec<(String, String)> {
    let mut times = Vec::new();
    let mut junk = vec![1u8; CACHE];
    let is_cold = SIZES.last() == Some(&size);
    let nothing = cold(&mut junk, &mut || ());
    steps::each(size, &mut |name, step| {
        let warm = cost(step, TIMED) / TIMED as u128;
        let figure = match is_cold {
            true => format!("{warm} / {}", cold(&mut junk, step).saturating_sub(nothing)),
            false => warm.to_string(),
        };
        times.push((name.to_owned(), figure));
    });
    times
}

/// With the caches emptied: the first step brings back the code and what all
/// share, and is not counted; each of a few more meets another exit or pin. A
/// row is long enough to be told from the clock's own cost.
fn cold(junk: &mut [u8], step: &mut dyn FnMut()) -> u128 {
    let once = |_| {
        junk.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
        step();
        cost(step, IN_A_ROW) / IN_A_ROW as u128
    };
    let mut costs: Vec<_> = (0..ROWS).map(once).collect();
    costs.sort_unstable();
    costs[ROWS / 2]
}

fn cost(step: &mut dyn FnMut(), times: usize) -> u128 {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("after boot");
    let start = now();
    measured(step, times);
    (now() - start).as_nanos()
}
