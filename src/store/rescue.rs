//! What is done with a database that the engine cannot open.
//!
//! Owns: setting damaged files aside (renamed, never deleted) and reading
//! records out of files whatever became of their structure.
//! Must not know: the engine.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::record::{Fact, Record};
use crate::core::session::SessionKey;

/// The records that count among all that were found.
#[derive(Debug, Default)]
pub(super) struct Rescued {
    /// How many were found, older ones included.
    pub(super) found: usize,
    /// The highest number.
    pub(super) last: u64,
    keyed: HashMap<SessionKey, Record>,
    rests: HashMap<(SessionKey, u64), Record>,
    clock: Option<Record>,
}

impl Rescued {
    /// Reads every file under `folder`, at whatever depth.
    pub(super) fn from_folder(folder: &Path) -> io::Result<Self> {
        let mut rescued = Self::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(bytes) = fs::read(&path) {
                    Record::scan(&bytes).flatten().for_each(|record| rescued.add(record));
                }
            }
        }
        Ok(rescued)
    }

    /// What counts, to be written anew.
    pub(super) fn into_records(self) -> impl Iterator<Item = Record> {
        self.keyed.into_values().chain(self.rests.into_values()).chain(self.clock)
    }

    /// One more record.
    pub(super) fn add(&mut self, record: Record) {
        self.found += 1;
        self.last = self.last.max(record.number);
        let place = match &record.fact {
            Fact::Pin(key, _) | Fact::Ended { key, .. } => self.keyed.get_mut(key),
            Fact::Rest { key, version, .. } => self.rests.get_mut(&(*key, *version)),
            Fact::Clock(_) => self.clock.as_mut(),
            Fact::Last => return,
        };
        match place {
            Some(known) if known.number >= record.number => {}
            Some(known) => *known = record,
            None => self.insert(record),
        }
    }

    fn insert(&mut self, record: Record) {
        match &record.fact {
            Fact::Pin(key, _) | Fact::Ended { key, .. } => drop(self.keyed.insert(*key, record)),
            Fact::Rest { key, version, .. } => drop(self.rests.insert((*key, *version), record)),
            Fact::Clock(_) => self.clock = Some(record),
            Fact::Last => {}
        }
    }
}

/// Renames a file or folder into the folder `aside` and says where it is now.
pub(super) fn move_aside(path: &Path, aside: &Path) -> io::Result<PathBuf> {
    let to = free_place(path, aside)?;
    fs::rename(path, &to)?;
    Ok(to)
}

/// Copies a file into the folder `aside` and says where the copy is.
pub(super) fn copy_aside(path: &Path, aside: &Path) -> io::Result<String> {
    let to = free_place(path, aside)?;
    fs::copy(path, &to)?;
    Ok(to.display().to_string())
}

/// `pins` becomes `aside/pins.1`, or `.2` if that is taken.
fn free_place(path: &Path, aside: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(aside)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut number = 1_u64;
    loop {
        let to = aside.join(format!("{name}.{number}"));
        if !to.try_exists()? {
            return Ok(to);
        }
        number += 1;
    }
}
