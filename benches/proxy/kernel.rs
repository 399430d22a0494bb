//! What the kernel holds for a proxy.
//!
//! As its memory controller charges it, where a control group can be made
//! (that takes root): the connections that the proxy makes, descriptors,
//! inodes, places among events, stacks. The socket of an *accepted* connection
//! is not charged to anybody, for it is made when a packet comes in; so a
//! tunnel's two sockets cost the machine some 2.4 KiB more than this says, of
//! every proxy alike.
//!
//! Else half of what the whole machine's slabs have grown by is taken, since
//! half of the four sockets of a tunnel are the proxy's. That is rough.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cost;

/// Where control groups are, in their first version and in their second.
const PLACES: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.usage_in_bytes"), ("/sys/fs/cgroup", "memory.current")];

/// A proxy's account. It is closed, with the group, when this is dropped,
/// which has to be after the proxy has ended.
pub(crate) struct Account {
    pid: u32,
    group: Option<(PathBuf, &'static str)>,
}

/// A moment's state of an account; only differences mean anything.
#[derive(Clone, Copy)]
pub(crate) struct Balance {
    pub(crate) resident: u64,
    charged: Option<u64>,
    slab: u64,
    own: u64,
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some((folder, _)) = &self.group {
            // Whoever is still in it keeps it.
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Account {
    pub(crate) fn open(pid: u32) -> Self {
        Self { pid, group: PLACES.into_iter().find_map(|(place, file)| group(Path::new(place), file, pid)) }
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.group.is_some()
    }

    pub(crate) fn now(&self) -> Balance {
        let charged = |(folder, file): &(PathBuf, &str)| number(&folder.join(file));
        let of = |keys: &[&str]| cost::kib_of("/proc/meminfo", keys) * 1024;
        Balance {
            resident: cost::resident(self.pid),
            charged: self.group.as_ref().and_then(charged),
            slab: of(&["Slab"]),
            own: of(&["KernelStack", "PageTables"]),
        }
    }
}

impl Balance {
    /// By how many bytes the process has grown since.
    pub(crate) fn resident_since(self, before: Self) -> f64 {
        self.resident as f64 - before.resident as f64
    }

    /// By how many bytes the kernel's part has.
    pub(crate) fn kernel_since(self, before: Self) -> f64 {
        let grown = |now: u64, then: u64| now as f64 - then as f64;
        match (self.charged, before.charged) {
            (Some(now), Some(then)) => grown(now, then) - self.resident_since(before),
            _ => grown(self.slab, before.slab) / 2.0 + grown(self.own, before.own),
        }
    }
}

/// A group for a process and its descendants.
fn group(place: &Path, file: &'static str, pid: u32) -> Option<(PathBuf, &'static str)> {
    let folder = place.join(format!("moorgate-bench-{pid}"));
    fs::create_dir(&folder).ok()?;
    let moved = |pid: u32| fs::write(folder.join("cgroup.procs"), pid.to_string()).is_ok();
    if number(&folder.join(file)).is_some() && cost::tree(pid).into_iter().all(moved) {
        return Some((folder, file));
    }
    let _ = fs::remove_dir(&folder);
    None
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
