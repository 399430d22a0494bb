//! What the gateway's process uses.
//!
//! Owns: reading `/proc`; the descriptors that a test itself may need.
//! Must not know: what is measured for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory of its own that the process has in use, in KiB: without pages of
/// the program itself, which are read when they are needed first.
#[track_caller]
pub fn anonymous_kib(pid: u32) -> u64 {
    status(pid, "RssAnon:")
}

#[track_caller]
fn status(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find(|line| line.starts_with(key)).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// How many descriptors the process has open.
#[track_caller]
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count()
}

/// How many connections this process can hold, of so many at most: raises
/// the limit, and leaves some for other tests in the process.
pub fn room_for(connections: usize) -> usize {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    });
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    connections.min(limit.saturating_sub(500) / 2)
}

/// The most memory of its own that a process has while something is done.
pub struct Peak {
    pid: u32,
    before: u64,
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    /// From now on.
    #[track_caller]
    pub fn watch(pid: u32) -> Self {
        let before = anonymous_kib(pid);
        let most = Arc::new(AtomicU64::new(before));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (most, stop) = (most.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    most.fetch_max(anonymous_kib(pid), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self { pid, before, most, stop, thread: Some(thread) }
    }

    /// By how much it has grown at the most, in KiB.
    pub fn grown_kib(&self) -> u64 {
        self.most.fetch_max(anonymous_kib(self.pid), Ordering::Relaxed);
        self.most.load(Ordering::Relaxed).saturating_sub(self.before)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
