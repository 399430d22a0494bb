//! The engine's journals, looked through before the engine sees them.
//!
//! Owns: how a journal of fjall 3 is laid out, where its sound part ends, and
//! mending one.
//! Must not know: what the records in it mean.
//!
//! fjall cuts a journal at the first byte that it cannot read, without a
//! word, and with it all that stands behind; or it refuses to open. So each
//! journal is walked first: what stands behind a damage is salvaged record
//! by record, and the journal is cut here, where it can be told.
//!
//! ```text
//! batch: 1, items u32, seqno u64 | item or clear, items times | 3, xxh3 of the items u64, "FJL" 3
//! item:  2, type u8, compression u8, keyspace u64, key length u16, length u32, stored length u32, key, value
//! clear: 4, keyspace u64
//! ```

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::record::Record;
use super::{Damage, rescue};

const TRAILER: [u8; 4] = *b"FJL\x03";

/// What was found in all journals of a folder.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The highest record number.
    pub(super) last: u64,
    /// Records that were cut off with a damage and can be read.
    pub(super) salvaged: Vec<Record>,
    /// What was wrong.
    pub(super) damage: Vec<Damage>,
    /// Writes that were not finished.
    pub(super) torn: Vec<Damage>,
    /// The sequence number of the last batch.
    seqno: Option<u64>,
}

/// Looks through the journals of a database and cuts off what the engine
/// could not read. What is cut off is kept in `aside`, unless it is plainly
/// a write that was not finished.
pub(super) fn mend_all(database: &Path, aside: &Path, findings: &mut Findings) -> io::Result<()> {
    findings.seqno = None;
    journals(database)?.iter().try_for_each(|path| mend(path, aside, findings))
}

/// The journals of a database, oldest first.
pub(super) fn journals(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(number) = name.and_then(|name| name.strip_suffix(".jnl")) {
            found.push((number.parse::<u64>().unwrap_or(u64::MAX), path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn mend(path: &Path, aside: &Path, findings: &mut Findings) -> io::Result<()> {
    let bytes = fs::read(path)?;
    let sound = walk(&bytes, findings);
    let filled = bytes.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
    if filled <= sound {
        return Ok(()); // the rest is space that the engine took in advance
    }
    let rest = &bytes[sound..filled];
    let salvaged: Vec<_> = Record::scan(rest).filter_map(Result::ok).collect();
    // The end of a batch is written last: without one in it, this is a write
    // that was not finished, and nobody was told that it was.
    let torn = !rest.windows(TRAILER.len()).any(|window| window == TRAILER);
    let kept = if torn {
        String::new()
    } else {
        match rescue::copy_aside(path, aside) {
            Ok(copy) => format!("; kept in {copy}"),
            Err(e) => format!("; there was no room to keep them ({e})"),
        }
    };
    let what = if torn { "an unfinished or cut write" } else { "unreadable" };
    let lost = format!(
        "{what}: {} bytes from byte {sound} on, of which {} records could be read{kept}",
        rest.len(),
        salvaged.len(),
    );
    let found = if torn { &mut findings.torn } else { &mut findings.damage };
    found.push(Damage { file: path.to_owned(), lost });
    findings.last = salvaged.iter().map(|record| record.number).fold(findings.last, u64::max);
    findings.salvaged.extend(salvaged);
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(sound as u64)?;
    file.sync_all()
}

/// Where the sound batches end.
fn walk(bytes: &[u8], findings: &mut Findings) -> usize {
    let (mut end, mut last_start) = (0, 0);
    while let Some(batch) = Batch::read(&bytes[end..]) {
        // No checksum covers these, and one that is wrong would make fjall
        // pass over its batch, or hold it for newer than what followed. Which
        // of two that do not follow each other is wrong cannot be told.
        let follows = |seqno| seqno < batch.seqno && batch.seqno - seqno <= MAX_STEP;
        if !findings.seqno.is_none_or(follows) {
            return last_start;
        }
        findings.seqno = Some(batch.seqno);
        findings.last = findings.last.max(batch.last);
        last_start = end;
        end += batch.len;
    }
    end
}

/// fjall takes a sequence number for each batch, and now and then one for a
/// table.
const MAX_STEP: u64 = 1 << 20;

/// A whole batch.
struct Batch {
    len: usize,
    seqno: u64,
    /// The highest record number in it.
    last: u64,
}

impl Batch {
    /// The batch that the bytes begin with.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut at = Walker { bytes, at: 0 };
        if at.array()? != [1] {
            return None;
        }
        let items = u32::from_le_bytes(at.array()?);
        let seqno = u64::from_le_bytes(at.array()?);
        let start = at.at;
        let mut last = 0;
        for _ in 0..items {
            match at.array()? {
                [2] => last = last.max(item(&mut at)?),
                [4] => drop(at.array::<8>()?),
                _ => return None,
            }
        }
        let mut checksum = Xxh3::new();
        checksum.update(&bytes[start..at.at]);
        let whole =
            at.array()? == [3] && at.array()? == checksum.digest().to_le_bytes() && at.array()? == TRAILER;
        whole.then_some(Self { len: at.at, seqno, last })
    }
}

/// Walks over an item and returns its record's number; 0 if it is none of ours.
fn item(at: &mut Walker<'_>) -> Option<u64> {
    const UNCOMPRESSED: u8 = 0;
    let [_type, compression] = at.array()?;
    at.array::<8>()?;
    let key = usize::from(u16::from_le_bytes(at.array()?));
    at.array::<4>()?;
    let value = u32::from_le_bytes(at.array()?) as usize;
    at.take(key)?;
    let value = at.take(value)?;
    if compression != UNCOMPRESSED {
        return Some(0);
    }
    Some(Record::number_of(value).unwrap_or(0))
}

struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walker<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::Fact;

    /// A batch of records as fjall writes it.
    fn batch<const N: usize>(numbers: [u64; N]) -> Vec<u8> {
        let mut items = Vec::new();
        let mut count = 0_u32;
        for number in numbers {
            let value = Record { number, fact: Fact::Last }.encode();
            items.extend_from_slice(&[2, 0, 0]);
            items.extend_from_slice(&1_u64.to_le_bytes());
            items.extend_from_slice(&4_u16.to_le_bytes());
            items.extend_from_slice(&(value.len() as u32).to_le_bytes());
            items.extend_from_slice(&(value.len() as u32).to_le_bytes());
            items.extend_from_slice(b"mlas");
            items.extend_from_slice(&value);
            count += 1;
        }
        let mut checksum = Xxh3::new();
        checksum.update(&items);
        let mut bytes = vec![1];
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&numbers[0].to_le_bytes());
        bytes.extend_from_slice(&items);
        bytes.push(3);
        bytes.extend_from_slice(&checksum.digest().to_le_bytes());
        bytes.extend_from_slice(&TRAILER);
        bytes
    }

    /// What is found in a journal of these bytes, and what is left of it.
    fn mended(bytes: &[u8]) -> (Findings, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("0.jnl"), bytes).unwrap();
        let mut findings = Findings::default();
        mend_all(folder.path(), &folder.path().join("aside"), &mut findings).unwrap();
        (findings, fs::read(folder.path().join("0.jnl")).unwrap())
    }

    fn numbers(findings: &Findings) -> Vec<u64> {
        findings.salvaged.iter().map(|record| record.number).collect()
    }

    #[test]
    fn a_sound_journal_is_left_as_it_is() {
        let mut bytes = [batch([1, 2]), batch([3])].concat();
        bytes.resize(bytes.len() + 5000, 0);
        let (findings, left) = mended(&bytes);
        assert!(findings.damage.is_empty() && findings.torn.is_empty());
        assert_eq!((findings.last, left), (3, bytes));
    }

    #[test]
    fn wherever_it_is_cut_the_batches_before_are_kept() {
        let (first, second) = (batch([1, 2]), batch([3, 4]));
        let whole = [first.clone(), second].concat();
        for cut in first.len() + 1..whole.len() {
            let (findings, left) = mended(&whole[..cut]);
            assert_eq!(left, first, "cut at {cut}");
            assert_eq!((findings.torn.len(), findings.damage.len()), (1, 0));
            assert!(numbers(&findings).iter().eq([3, 4].iter().take(findings.salvaged.len())));
        }
    }

    #[test]
    fn whichever_byte_is_turned_what_stands_behind_is_salvaged() {
        let (first, second, third) = (batch([1]), batch([2]), batch([3]));
        let whole = [first.clone(), second.clone(), third].concat();
        for at in first.len()..first.len() + second.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x11;
            let (findings, left) = mended(&bytes);
            if left.is_empty() {
                assert!((5..13).contains(&(at - first.len())), "turned at {at}");
                assert!(numbers(&findings).starts_with(&[1]), "{findings:?}");
            } else {
                assert_eq!(left, first, "turned at {at}");
            }
            assert_eq!((findings.torn.len(), findings.damage.len()), (0, 1));
            assert!(findings.damage[0].lost.contains("aside/0.jnl.1"), "{findings:?}");
            assert!(numbers(&findings).ends_with(&[3]), "{findings:?}");
            assert_eq!(findings.last, 3);
        }
    }
}
