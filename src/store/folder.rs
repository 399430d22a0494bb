//! The state folder.
//!
//! Owns: its lock, its layout, and opening the database in it whatever became
//! of its files.
//! Must not know: what the records mean.
//!
//! Layout: `pins.lock` (held while a gateway runs), `pins/` (the database),
//! `pins.new/` (one that is being made), `pins.mark` (the number of the last
//! record written, to tell whether a tail is missing) and `damaged/` (what
//! was set aside).

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use xxhash_rust::xxh3::xxh3_64;

use super::disk::locked;
use super::engine::{Engine, EngineError, Op};
use super::journal::{self, Findings};
use super::rescue::{self, Rescued};
use super::{Damage, StoreError};

/// An open database, what was read of it, and what was wrong.
pub(super) struct Opened<T> {
    pub(super) engine: Engine,
    pub(super) value: T,
    pub(super) findings: Findings,
}

/// The state folder of one gateway, locked.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Gone while another process has the folder.
    lock: Mutex<Option<File>>,
}

impl Folder {
    /// Makes the folder if need be and locks it for this process.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        match take_lock(path) {
            Ok(lock) => Ok(Self { path: path.to_owned(), lock: Mutex::new(Some(lock)) }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Leaves the folder to another process.
    pub(super) fn unlock(&self) {
        *locked(&self.lock) = None;
    }

    /// Takes the folder back, if it was left.
    pub(super) fn relock(&self) -> io::Result<()> {
        let mut lock = locked(&self.lock);
        if lock.is_none() {
            *lock = Some(take_lock(&self.path).map_err(io::Error::from)?);
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join("pins")
    }

    fn unfinished(&self) -> PathBuf {
        self.path.join("pins.new")
    }

    fn aside(&self) -> PathBuf {
        self.path.join("damaged")
    }

    /// Opens the database, or makes one, mends journals on the way, and has
    /// `read` read it. If that shows damage, a new database is made of every
    /// record that can be found in the files of the old one.
    pub(super) fn open<T>(
        &self,
        mut read: impl FnMut(&Engine, &Findings) -> Result<T, EngineError>,
    ) -> Result<Opened<T>, EngineError> {
        let mut findings = Findings::default();
        let opened = self.open_once(&mut findings).and_then(|engine| {
            let value = read(&engine, &findings)?;
            Ok((engine, value))
        });
        let (engine, value) = match opened {
            Err(e) if e.is_damage() => {
                self.rescue(&e, &mut findings)?;
                let engine = self.open_once(&mut findings)?;
                let value = read(&engine, &findings)?;
                (engine, value)
            }
            opened => opened?,
        };
        Ok(Opened { engine, value, findings })
    }

    fn open_once(&self, findings: &mut Findings) -> Result<Engine, EngineError> {
        let (database, unfinished) = (self.database(), self.unfinished());
        if !database.try_exists()? {
            // A rescue writes the new one to its end before it sets the old
            // one aside, so an unfinished one without an old one is whole; or
            // it is the first, and then there is nothing to lose.
            match Engine::open(&unfinished) {
                Ok(engine) => drop(engine),
                Err(e) if e.is_damage() => {
                    rescue::move_aside(&unfinished, &self.aside())?;
                    drop(Engine::open(&unfinished)?);
                }
                Err(e) => return Err(e),
            }
            fs::rename(&unfinished, &database)?;
            sync_folder(&self.path)?;
        }
        check_complete(&database)?;
        journal::mend_all(&database, &self.aside(), findings)?;
        let engine = Engine::open(&database)?;
        engine.merge(&findings.salvaged)?;
        Ok(engine)
    }

    fn rescue(&self, why: &EngineError, findings: &mut Findings) -> Result<(), EngineError> {
        let (database, unfinished) = (self.database(), self.unfinished());
        if unfinished.try_exists()? {
            fs::remove_dir_all(&unfinished)?; // ours, and only begun
        }
        let mut rescued = Rescued::from_folder(&database)?;
        findings.salvaged.drain(..).for_each(|record| rescued.add(record));
        findings.last = findings.last.max(rescued.last);
        let found = rescued.found;
        let engine = Engine::open(&unfinished)?;
        let records: Vec<_> = rescued.into_records().collect();
        for records in records.chunks(1024) {
            engine.commit(records.iter().map(Op::put), false)?;
        }
        engine.sync()?;
        drop(engine);
        let kept = rescue::move_aside(&database, &self.aside())?;
        fs::rename(&unfinished, &database)?;
        sync_folder(&self.path)?;
        let lost = format!(
            "the database could not be read ({why}); {found} records in its files could; kept in {}",
            kept.display()
        );
        findings.damage.push(Damage { file: database, lost });
        Ok(())
    }

    /// Notes the number of the last record that was written.
    pub(super) fn mark(&self, number: u64) -> io::Result<()> {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        let mut file = File::options().create(true).truncate(false).write(true).open(self.mark_path())?;
        file.write_all(&bytes)
    }

    /// The number that was noted, and damage if it cannot be read.
    pub(super) fn marked(&self) -> Result<u64, Damage> {
        let path = self.mark_path();
        let Ok(bytes) = fs::read(&path) else { return Ok(0) };
        let number = bytes.first_chunk::<8>().map(|number| u64::from_le_bytes(*number));
        match number.filter(|number| bytes[8..] == xxh3_64(&number.to_le_bytes()).to_le_bytes()) {
            Some(number) => Ok(number),
            None => Err(Damage { file: path, lost: "the count of records; no pin by itself".to_owned() }),
        }
    }

    fn mark_path(&self) -> PathBuf {
        self.path.join("pins.mark")
    }

    /// Whether the disk takes a file of some size.
    pub(super) fn try_writing(&self) -> io::Result<()> {
        const SIZE: usize = 1 << 20;
        let path = self.path.join("pins.probe");
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![1; SIZE])?;
            file.sync_data()
        });
        let removed = fs::remove_file(&path);
        written.and(removed)
    }

    /// Has the disk keep what the engine wrote to its journal. Through a
    /// handle of its own, so that the engine goes on writing meanwhile.
    /// (fjall syncs a journal itself when it begins the next.)
    pub(super) fn sync_journal(&self) -> io::Result<()> {
        match journal::journals(&self.database())?.last() {
            Some(newest) => File::options().write(true).open(newest)?.sync_data(),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the journal is gone")),
        }
    }
}

fn take_lock(folder: &Path) -> Result<File, TryLockError> {
    let path = folder.join("pins.lock");
    let lock = File::options().create(true).truncate(false).write(true).open(path);
    let lock = lock.map_err(TryLockError::Error)?;
    lock.try_lock().map(|()| lock)
}

/// Whether all is there that belongs to a database of ours. fjall itself would
/// begin what is missing anew: without a journal it begins its sequence
/// numbers again and does not see its own tables; a keyspace without its
/// `current` file, or that a new meta keyspace does not name, it deletes.
fn check_complete(database: &Path) -> io::Result<()> {
    let missing = |what: &str| Err(io::Error::new(io::ErrorKind::NotFound, format!("{what} is missing")));
    if journal::journals(database)?.is_empty() {
        return missing("the journal");
    }
    if !database.join("version").try_exists()? {
        return missing("the version file");
    }
    // The first is fjall's own, for the name of the other.
    for number in 0..2 {
        if !database.join(format!("keyspaces/{number}/current")).try_exists()? {
            return missing(&format!("keyspace {number}"));
        }
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
