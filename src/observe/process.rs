//! What the process takes of the system.
//!
//! Owns: where Linux tells it.
//! Must not know: who asks.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// What is taken now; what the system does not tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Taken {
    /// Seconds of processor time.
    pub(crate) cpu_s: f64,
    /// Bytes of memory in use.
    pub(crate) resident: u64,
    /// Bytes of address space.
    pub(crate) virtually: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
    /// The most descriptors.
    pub(crate) most_descriptors: u64,
}

impl Taken {
    /// Asks the system; `cpu` is what its clock says. With many descriptors
    /// that takes some milliseconds.
    pub(crate) fn now(cpu: Duration) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        // The folder that is read is a descriptor, too.
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count).saturating_sub(1);
        Self {
            cpu_s: cpu.as_secs_f64(),
            resident: kib(&status, "VmRSS:") * 1024,
            virtually: kib(&status, "VmSize:") * 1024,
            descriptors: descriptors as u64,
            most_descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

fn kib(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_all_of_it() {
        let before = Taken::now(Duration::from_secs(2));
        assert!(before.resident > 1 << 20 && before.virtually >= before.resident, "{before:?}");
        assert!(before.cpu_s == 2.0 && before.most_descriptors >= before.descriptors, "{before:?}");
        assert!(before.descriptors >= 3, "{before:?}");
    }
}
