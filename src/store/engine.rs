//! The database on disk.
//!
//! Owns: fjall: how it is tuned, written and read, and which of its errors
//! mean damage.
//! Must not know: where its files are, the map in memory, who waits for what.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::record::{Fact, Record};
use crate::core::pin::Pin;
use crate::core::session::SessionKey;

/// A buffer of this size is flushed to a table.
const MEMTABLE_BYTES: u64 = 4 << 20;
/// With so many tables that wait to be merged, fjall slows writers down.
const MOST_TABLES: usize = 19;

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

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the database in this folder, or makes one.
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
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
    pub(super) fn commit(&self, mut ops: impl Iterator<Item = Op>, sync: bool) -> Result<(), EngineError> {
        self.wait_for_room()?;
        let (first, second) = (ops.next(), ops.next());
        let first = match (first, &second) {
            // The same in the journal as a batch of one, for less.
            (Some(Op { place, record: Some(record) }), None) if !sync => {
                return caught(|| Ok(self.records.insert(place, record)?));
            }
            (first, _) => first,
        };
        let mut batch = self.database.batch();
        if sync {
            batch = batch.durability(Some(PersistMode::SyncData));
        }
        for Op { place, record } in first.into_iter().chain(second).chain(ops) {
            match record {
                Some(record) => batch.insert(&self.records, place, record),
                None => batch.remove(&self.records, place),
            }
        }
        caught(|| Ok(batch.commit()?))
    }

    /// Whether a commit takes no longer than its write to the journal: no
    /// buffer is flushed or about to be. fjall syncs a journal that is full at
    /// such a time, and writers wait for it.
    pub(super) fn is_calm(&self) -> bool {
        self.records.sealed_memtable_count() == 0
            && self.database.outstanding_flushes() == 0
            && self.database.write_buffer_size() < MEMTABLE_BYTES / 8 * 7
            && self.records.l0_table_count() < MOST_TABLES
    }

    /// Has the disk keep all that was written.
    pub(super) fn sync(&self) -> Result<(), EngineError> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
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
    pub(super) fn merge(&self, salvaged: &[Record]) -> Result<(), EngineError> {
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
        while self.records.sealed_memtable_count() >= 2 || self.records.l0_table_count() >= MOST_TABLES {
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
        .max_memtable_size(MEMTABLE_BYTES)
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
