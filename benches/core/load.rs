//! How long large pools take to be read and put into force, and what they
//! take in memory: each in a process of its own.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::time::{ClockId, clock_gettime};

use crate::steps;

/// What is loaded, and into how many pools its 100,000 exits are put.
const LOADS: [(&str, usize); 3] = [
    ("100,000 addresses in one pool", 1),
    ("100,000 upstreams with labels in one pool", 1),
    ("100,000 upstreams with labels in 1,000 pools of a file each", 1000),
];
const EXITS: usize = 100_000;

/// One line a load.
pub(crate) fn whole() -> Vec<String> {
    let folder = std::env::temp_dir().join(format!("moorgate-load-{}", std::process::id()));
    let mut lines = Vec::new();
    for (what, pools) in LOADS {
        let pools_at = folder.join(format!("{}-{pools}", what.split(' ').nth(1).unwrap_or_default()));
        write(&pools_at, pools, what.contains("upstreams"));
        let load = |how: &str| {
            let program = Command::new(std::env::current_exe().expect("this program"))
                .args(["load", how])
                .arg(&pools_at)
                .output()
                .expect("a second process");
            assert!(program.status.success(), "{}", String::from_utf8_lossy(&program.stderr));
            String::from_utf8_lossy(&program.stdout).trim().to_owned()
        };
        lines.push(format!("| {what} | {} |", load(what)));
    }
    let memory = Command::new(std::env::current_exe().expect("this program"))
        .args(["load", "memory", ""])
        .output()
        .expect("a second process");
    lines.push(format!("| {} |", String::from_utf8_lossy(&memory.stdout).trim()));
    fs::remove_dir_all(&folder).expect("our own folder");
    lines
}

/// In a process of its own.
pub(crate) fn run(what: &str, folder: &Path) {
    if what == "memory" {
        return memory();
    }
    let before = seconds();
    let pools = moorgate::measured::load_pools(folder);
    let read = seconds() - before;
    let (in_force, exits) = steps::in_force_of(pools);
    let all = seconds() - before;
    println!("{read:.2} | {:.2} | {all:.2}", all - read);
    drop((in_force, exits));
}

/// What an exit takes that was not read from a file: the snapshot's part and
/// the live one.
fn memory() {
    let made: Vec<_> = (0..EXITS).map(|n| steps::exit("us", n)).collect();
    let made = steps::pool("us", made);
    let before = resident();
    let kept = steps::in_force(vec![made]);
    println!("the live side of an exit, bytes | {} | |", (resident() - before) / EXITS);
    drop(kept);
}

fn write(folder: &PathBuf, pools: usize, upstreams: bool) {
    fs::create_dir_all(folder).expect("a folder of our own");
    for pool in 0..pools {
        let mut text = format!("{{\"pools\":[{{\"name\":\"p{pool}\",\"exits\":[");
        for n in pool * EXITS / pools..(pool + 1) * EXITS / pools {
            let comma = if n % (EXITS / pools) == 0 { "" } else { ",\n" };
            let address = format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255);
            let exit = match upstreams {
                false => format!("\"{address}\""),
                true => format!(
                    "{{\"id\":\"e{n}\",\"via\":\"http://user{n}:secret{n}@{address}:3128\",\"weight\":{},\
                     \"labels\":{{\"country\":\"us\",\"city\":\"c{}\"}}}}",
                    n % 5 + 1,
                    n % 500
                ),
            };
            write!(text, "{comma}{exit}").expect("a string takes all");
        }
        text.push_str("]}]}");
        fs::write(folder.join(format!("p{pool:04}.json")), text).expect("our own folder");
    }
}

/// CPU of this process, all threads.
fn seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Of this process, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}
