//! Bytes of the day, from one start to the next.
//!
//! Owns: the file that holds how many bytes each user has moved today.
//! Must not know: limits, when a day begins.
//!
//! `bytes-today.json` in the state folder is written whole beside itself and
//! renamed over itself, so that it is always one whole state. It is no
//! database's business: a few numbers that are all written anew once a
//! second, and of which the last second may be lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Damage;
use crate::core::session::UserName;

/// In the state folder.
const FILE: &str = "bytes-today.json";

/// What users have moved on a day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DayBytes {
    /// Days since the epoch (UTC).
    pub(crate) day: u64,
    /// Bytes of each user, both directions.
    pub(crate) users: Vec<(UserName, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    day: u64,
    bytes: BTreeMap<UserName, u64>,
}

/// Keeps the bytes of the day.
#[derive(Debug)]
pub(crate) struct Days {
    path: PathBuf,
    kept: DayBytes,
}

impl Days {
    /// What was kept in the state folder, and where to keep what comes.
    /// Blocks. Where it cannot be read: nothing, and what became of it.
    pub(crate) fn open(folder: &Path) -> (Self, Option<Damage>) {
        let path = folder.join(FILE);
        let read = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (Self::at(path), None),
            read => read.and_then(|bytes| Ok(serde_json::from_slice::<Written>(&bytes)?)),
        };
        match read {
            Ok(written) => {
                let kept = DayBytes { day: written.day, users: written.bytes.into_iter().collect() };
                (Self { path, kept }, None)
            }
            Err(error) => {
                let lost = format!("how many bytes users have moved today: {error}");
                (Self::at(path.clone()), Some(Damage { file: path, lost }))
            }
        }
    }

    fn at(path: PathBuf) -> Self {
        Self { path, kept: DayBytes::default() }
    }

    /// What was kept last.
    pub(crate) fn kept(&self) -> &DayBytes {
        &self.kept
    }

    /// Keeps it, if it differs from what is kept. Blocks.
    ///
    /// # Errors
    /// What the disk says; what was kept before is still there.
    pub(crate) fn keep(&mut self, mut bytes: DayBytes) -> io::Result<()> {
        bytes.users.sort();
        if bytes == self.kept {
            return Ok(());
        }
        let written = Written { day: bytes.day, bytes: bytes.users.iter().cloned().collect() };
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&written)?)?;
        // Without it, a loss of power might leave the name without the bytes.
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        self.kept = bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(day: u64, users: &[(&str, u64)]) -> DayBytes {
        DayBytes { day, users: users.iter().map(|(user, bytes)| ((*user).into(), *bytes)).collect() }
    }

    #[test]
    fn what_is_kept_is_there_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let (mut days, damage) = Days::open(folder.path());
        assert_eq!((days.kept(), damage), (&DayBytes::default(), None));
        days.keep(bytes(9, &[("b", 7), ("a", u64::MAX)])).unwrap();
        let modified = || fs::metadata(folder.path().join(FILE)).unwrap().modified().unwrap();
        let before = modified();
        days.keep(bytes(9, &[("a", u64::MAX), ("b", 7)])).unwrap();
        assert_eq!(modified(), before, "nothing has changed");
        let (days, damage) = Days::open(folder.path());
        assert_eq!((days.kept(), damage), (&bytes(9, &[("a", u64::MAX), ("b", 7)]), None));
    }

    #[test]
    fn what_is_damaged_is_told_and_does_not_stand_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), b"{\"day\": 9, \"by").unwrap();
        let (mut days, damage) = Days::open(folder.path());
        assert!(damage.unwrap().lost.contains("bytes"));
        days.keep(bytes(9, &[("a", 1)])).unwrap();
        assert_eq!(Days::open(folder.path()).1, None);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_and_nothing_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (mut days, _) = Days::open(&folder.path().join("gone"));
        assert!(days.keep(bytes(9, &[("a", 1)])).is_err());
        assert_eq!(days.kept(), &DayBytes::default());
    }
}
