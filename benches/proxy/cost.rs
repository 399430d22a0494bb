//! What a process and its descendants have cost so far.

use std::fs;
use std::time::Duration;

/// The CPU time, user and system, of a process and its descendants; also of
/// their threads that are gone.
///
/// `/proc/PID/stat` counts in ticks of 10 ms, which is as much as a hundred
/// tunnels; the process's CPU clock counts in nanoseconds.
pub(crate) fn cpu(pid: u32) -> Duration {
    tree(pid).into_iter().filter_map(cpu_clock).sum()
}

fn cpu_clock(pid: u32) -> Option<Duration> {
    /// linux/posix-timers.h: what was scheduled, user and system.
    const CPUCLOCK_SCHED: i32 = 2;
    let clock = (!i32::try_from(pid).ok()? << 3) | CPUCLOCK_SCHED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "no safe crate reads another process's CPU clock")]
    // SAFETY: `time` is a valid place to write a timespec to; a clock that is
    // not there is an error that is looked at.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
    (result == 0).then(|| Duration::new(seconds, nanoseconds))
}

/// Resident memory of a process and its descendants, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let of = |pid: &u32| kib_of(&format!("/proc/{pid}/status"), &["VmRSS"]);
    tree(pid).iter().map(of).sum::<u64>() * 1024
}

/// The sum of the lines `Key: n kB` with these keys.
pub(crate) fn kib_of(path: &str, keys: &[&str]) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let wanted = |line: &&str| line.split(':').next().is_some_and(|key| keys.contains(&key));
    let value = |line: &str| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
    text.lines().filter(wanted).filter_map(value).sum()
}

/// A process and its descendants.
pub(crate) fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at) {
        let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    found
}

/// Lets this process, and those that it starts, have as many descriptors as
/// the system allows.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised, the idle tunnels will say that they do not fit.
    let _ = setrlimit(Resource::Nofile, limit);
}
