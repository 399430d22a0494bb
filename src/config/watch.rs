//! When the pool files change.
//!
//! Owns: [`Watched`]: files and folders as they were when they were read, and
//! [`Watch`], which waits until they differ and are quiet.
//! Must not know: what is in them.
//!
//! Polling sees a change on every file system, through a rename over a file
//! and through a swap of a symlink anywhere in the path (Kubernetes), since
//! what is compared is what the path leads to.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often is looked. With [`QUIET`] and a slow disk, well within the 2 s
/// that SPEC §6 allows.
const POLL: Duration = Duration::from_millis(500);
/// How long nothing may have changed before a change counts.
const QUIET: Duration = Duration::from_millis(100);

/// What a path led to; `None`: nothing, or nothing that can be looked at.
type Stamp = Option<Looks>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looks {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also tells a file that was put back with its old time.
    changed: (i64, i64),
}

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some(Looks {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

/// Files and folders, and how they looked just before they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    files: BTreeMap<PathBuf, Stamp>,
    /// `None`: it was not there, or could not be read.
    folders: BTreeMap<PathBuf, Option<BTreeMap<PathBuf, Stamp>>>,
}

impl Watched {
    /// Notes how the file looks. What was noted first stays.
    pub(super) fn note_file(&mut self, path: &Path) {
        self.files.entry(path.to_owned()).or_insert_with(|| stamp(path));
    }

    /// Notes which pool files the folder has, and how they look; returns them
    /// in the order of their names.
    pub(super) fn note_folder(&mut self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let listed = pool_files(folder);
        let stamps = |files: &Vec<PathBuf>| files.iter().map(|path| (path.clone(), stamp(path))).collect();
        let stamps = listed.as_ref().ok().map(stamps);
        self.folders.entry(folder.to_owned()).or_insert(stamps);
        listed
    }

    /// The same files and folders as they look now.
    pub(super) fn now(&self) -> Self {
        let mut now = Self::default();
        self.files.keys().for_each(|path| now.note_file(path));
        for folder in self.folders.keys() {
            // Why it cannot be read is told when it is loaded.
            let _ = now.note_folder(folder);
        }
        now
    }
}

/// `*.json` in the folder, without hidden files and JSON Schemas
/// (`*.schema.json`), in the order of their names.
fn pool_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_pool = name.ends_with(".json") && !name.ends_with(".schema.json") && !name.starts_with('.');
        if is_pool && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Waits for changes.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Watched,
}

impl Watch {
    /// Waits for a difference to what was read.
    pub(crate) fn new(seen: Watched) -> Self {
        Self { seen }
    }

    /// Returns when something differs from what was seen last and nothing has
    /// changed for 100 ms; that is then what was seen last. Dropped before,
    /// it has seen nothing.
    pub(crate) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(POLL).await;
            let mut now = self.look().await;
            if now == self.seen {
                continue;
            }
            loop {
                tokio::time::sleep(QUIET).await;
                let later = self.look().await;
                if later == now {
                    break;
                }
                now = later;
            }
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }

    /// Looks at everything, off the workers: the disk may be slow or far.
    async fn look(&self) -> Watched {
        let seen = self.seen.clone();
        let look = tokio::task::spawn_blocking(move || seen.now());
        look.await.unwrap_or_else(|_| self.seen.clone())
    }
}

#[cfg(test)]
mod tests;
