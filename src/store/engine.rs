//! The database on disk.
//!
//! Owns: fjall: how it is opened, tuned, written and read, and what is done
//! when it refuses.
//! Must not know: the map in memory, who waits for what.
//!
//! Layout of the state folder: `pins.lock` (held while a gateway runs),
//! `pins/` (the database), `pins.new/` (one that is being made), `pins.mark`
//! (the number of the last record written, to tell whether a tail is
//! missing) and `damaged/` (what was set aside).

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use xxhash_rust::xxh3::xxh3_64;

use super::journal::{self, Findings};
use super::record::{Fact, Record};
use super::rescue::{self, Rescued};
use super::{Damage, StoreError};
use crate::core::pin::Pin;
use crate::core::session::SessionKey;

/// One open database.
pub(super) struct Engine {
    database: Database,
    /// All records, in one keyspace: each further one would cost a start some
    /// 200 ms of syncing when it is made, and hold back the journals.
    records: Keyspace,
}

/// Where a record lives: the first byte of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Space {
    /// Pins by session key.
    Pins = b'p' as isize,
    /// Ends on demand by session key, until the pin would have ended anyway.
    Ended = b'e' as isize,
    /// Resting room by session key and version of the pin that ended.
    Rests = b'r' as isize,
    /// What there is but one of.
    Meta = b'm' as isize,
}

impl Space {
    /// A place in it.
    fn at(self, place: &[&[u8]]) -> Vec<u8> {
        let mut all = Vec::with_capacity(32);
        all.push(self as u8);
        place.iter().for_each(|part| all.extend_from_slice(part));
        all
    }
}

/// A change of one place.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) place: Vec<u8>,
    /// `None` removes.
    pub(super) record: Option<Vec<u8>>,
}

impl Op {
    /// Writes a record where it belongs.
    pub(super) fn put(record: &Record) -> Self {
        let place = match &record.fact {
            Fact::Pin(key, _) => Space::Pins.at(&[key.as_bytes()]),
            Fact::Ended { key, .. } => Space::Ended.at(&[key.as_bytes()]),
            Fact::Rest { key, version, .. } => Space::Rests.at(&[key.as_bytes(), &version.to_be_bytes()]),
            Fact::Clock(_) => Space::Meta.at(&[b"clock"]),
            Fact::Last => Space::Meta.at(&[b"last"]),
        };
        Self { place, record: Some(record.encode()) }
    }

    /// As [`Op::put`] of a [`Fact::Pin`] that need not be made for it.
    pub(super) fn pin(number: u64, key: SessionKey, pin: &Pin) -> Self {
        Self { place: Space::Pins.at(&[key.as_bytes()]), record: Some(Record::encode_pin(number, key, pin)) }
    }

    /// Removes a key's pin.
    pub(super) fn unpin(key: SessionKey) -> Self {
        Self::remove(Space::Pins.at(&[key.as_bytes()]))
    }

    /// Removes what stands at a place.
    pub(super) fn remove(place: Vec<u8>) -> Self {
        Self { place, record: None }
    }
}

/// Why the engine did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// The disk said no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The engine said no.
    #[error("{0}")]
    Fjall(#[from] fjall::Error),
    /// The engine broke down.
    #[error("the database engine broke down: {0}")]
    Panic(String),
}

impl EngineError {
    /// The disk's own error, if it was one: then the files may well be sound.
    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io(e) | Self::Fjall(fjall::Error::Io(e)) => Some(e),
            Self::Fjall(fjall::Error::Storage(fjall::LsmError::Io(e))) => Some(e),
            _ => None,
        }
    }

    /// Whether the files are to blame, rather than the disk's mood.
    pub(super) fn is_damage(&self) -> bool {
        use io::ErrorKind as K;
        if matches!(self, Self::Fjall(fjall::Error::Locked)) {
            return false;
        }
        self.io().is_none_or(|e| {
            matches!(
                e.kind(),
                K::UnexpectedEof
                    | K::InvalidData
                    | K::NotFound
                    | K::AlreadyExists
                    | K::InvalidInput
                    | K::Other
            )
        })
    }
}

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
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be and locks it for this process.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("pins.lock"));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
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
        engine.database.persist(PersistMode::SyncAll)?;
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

impl Engine {
    fn open(path: &Path) -> Result<Self, EngineError> {
        caught(|| {
            let database = Database::builder(path)
                .cache_size(1 << 20)
                .worker_threads(2)
                .journal_compression(CompressionType::None)
                .max_journaling_size(64 << 20)
                .open()?;
            let records = database.keyspace("records", options)?;
            Ok(Self { database, records })
        })
    }

    /// Writes all or nothing; it is with the kernel on return, and with the
    /// disk if `sync`.
    pub(super) fn commit(&self, ops: impl Iterator<Item = Op>, sync: bool) -> Result<(), EngineError> {
        self.wait_for_room()?;
        let mut batch = self.database.batch();
        if sync {
            batch = batch.durability(Some(PersistMode::SyncData));
        }
        for Op { place, record } in ops {
            match record {
                Some(record) => batch.insert(&self.records, place, record),
                None => batch.remove(&self.records, place),
            }
        }
        caught(|| Ok(batch.commit()?))
    }

    /// Goes over all records of a space. An error means that some could not
    /// be read.
    pub(super) fn each(&self, space: Space, mut f: impl FnMut(&[u8], &[u8])) -> Result<(), EngineError> {
        caught(|| {
            for item in self.records.prefix([space as u8]) {
                let (place, record) = item.into_inner()?;
                f(&place, &record);
            }
            Ok(())
        })
    }

    /// Writes records that were salvaged, unless it has newer ones of the
    /// same thing.
    fn merge(&self, salvaged: &[Record]) -> Result<(), EngineError> {
        for record in salvaged {
            let op = Op::put(record);
            let mut newest = self.number_at(&op.place)?;
            if let Fact::Pin(key, _) = record.fact {
                newest = newest.max(self.number_at(&Space::Ended.at(&[key.as_bytes()]))?);
            }
            if record.number <= newest {
                continue;
            }
            let mut ops = vec![op];
            if let Fact::Ended { key, .. } = record.fact
                && self.number_at(&Space::Pins.at(&[key.as_bytes()]))? < record.number
            {
                ops.push(Op::unpin(key));
            }
            self.commit(ops.into_iter(), false)?;
        }
        Ok(())
    }

    fn number_at(&self, place: &[u8]) -> Result<u64, EngineError> {
        caught(|| {
            let record = self.records.get(place)?;
            Ok(record.and_then(|record| Record::number_of(&record)).unwrap_or(0))
        })
    }

    /// Moves what is in memory to tables.
    #[cfg(test)]
    pub(super) fn flush(&self) {
        self.records.rotate_memtable_and_wait().unwrap();
    }

    /// fjall halts a writer that is far ahead of its flushes, and for ever if
    /// they have failed. So we never come that far.
    fn wait_for_room(&self) -> Result<(), EngineError> {
        while self.records.sealed_memtable_count() >= 3 || self.records.l0_table_count() >= 19 {
            self.database.persist(PersistMode::Buffer)?; // an error if they have
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Tuned for what is written often and read once, at start: small buffers,
/// no filters. Nothing is compressed, so that records can be found in any
/// file (see `rescue`).
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(8 << 20)
        .filter_policy(FilterPolicy::disabled())
        .data_block_compression_policy(CompressionPolicy::disabled())
        .index_block_compression_policy(CompressionPolicy::disabled())
        .data_block_size_policy(BlockSizePolicy::all(32 << 10))
}

/// An engine that panics on damaged files has refused them.
fn caught<T>(f: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(EngineError::Panic(text.unwrap_or_default()))
    })
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
