//! What is written of a pin, byte for byte.
//!
//! Owns: [`Record`] and its frame. Each record can be read by itself: it says
//! what it is, carries its key, its number and a checksum, so that it can be
//! found again in a file whose structure is lost.
//! Must not know: the files, or the engine that keeps them.
//!
//! ```text
//! magic 4 | version 1 | kind 1 | length of body 2 | number 8 | body | checksum 8
//! ```
//!
//! Numbers are little-endian. `version` is that of the body: a later one may
//! add kinds and fields, and this reader passes over what it does not know.
//! Among records of one key the highest number counts.

use xxhash_rust::xxh3::xxh3_64;

use super::bytes::{Reader, Writer};
use crate::core::pin::{ExitName, Pin, Variant};
use crate::core::session::{SessionId, SessionKey};
use crate::core::time::{Timestamp, Ttl};

const MAGIC: [u8; 4] = [0xa7, b'm', b'g', 0x1d];
const VERSION: u8 = 1;
const HEAD: usize = 16;
const CHECKSUM: usize = 8;

const PIN: u8 = 1;
const ENDED: u8 = 2;
const REST: u8 = 3;
const CLOCK: u8 = 4;
const LAST: u8 = 5;

/// One fact with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Facts are numbered in the order in which they became true.
    pub(super) number: u64,
    pub(super) fact: Fact,
}

/// What can be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// The key is pinned so.
    Pin(SessionKey, Box<Pin>),
    /// The key's pin was ended before its time, which is over at `until`:
    /// then no older record of it can be taken for a live pin.
    Ended { key: SessionKey, until: Timestamp },
    /// The exit's room stays taken by a pin that ended; key and version are
    /// the pin's.
    Rest { key: SessionKey, version: u64, exit: ExitName, variant: Variant, until: Timestamp },
    /// The wall clock is ahead of the gateway's by so many milliseconds.
    Clock(i64),
    /// There were records up to this number. Written beside removals, which
    /// leave no number.
    Last,
}

/// Why a record was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Its bytes are not what was written.
    Garbled,
    /// It is whole, and of a version or kind that this gateway does not know.
    Newer,
}

impl Record {
    /// As bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let bytes = match &self.fact {
            Fact::Pin(key, pin) => return Self::encode_pin(self.number, *key, pin),
            Fact::Ended { key, until } => {
                let mut bytes = Writer::begin(ENDED, self.number);
                bytes.array(key.as_bytes());
                bytes.number(until.as_ms());
                bytes
            }
            Fact::Rest { key, version, exit, variant, until } => {
                let mut bytes = Writer::begin(REST, self.number);
                bytes.array(key.as_bytes());
                bytes.array(&version.to_le_bytes());
                bytes.exit(exit);
                bytes.variant(variant);
                bytes.number(until.as_ms());
                bytes
            }
            Fact::Clock(offset_ms) => {
                let mut bytes = Writer::begin(CLOCK, self.number);
                bytes.array(&offset_ms.to_le_bytes());
                bytes
            }
            Fact::Last => Writer::begin(LAST, self.number),
        };
        bytes.finish()
    }

    /// As [`Record::encode`] of a [`Fact::Pin`] that need not be made for it.
    pub(super) fn encode_pin(number: u64, key: SessionKey, pin: &Pin) -> Vec<u8> {
        let mut bytes = Writer::begin(PIN, number);
        bytes.array(key.as_bytes());
        bytes.pin(pin);
        bytes.finish()
    }

    /// From exactly the bytes of one record.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        match Self::cut(bytes) {
            Some((len, record)) if len == bytes.len() => record,
            _ => Err(Unreadable::Garbled),
        }
    }

    /// The number that the head of a record shows; the rest is not looked at.
    pub(super) fn number_of(bytes: &[u8]) -> Option<u64> {
        let head = bytes.strip_prefix(&MAGIC)?.get(HEAD - MAGIC.len() - 8..)?;
        Some(u64::from_le_bytes(head.get(..8)?.try_into().ok()?))
    }

    /// All records within bytes of any kind, in the order in which they stand.
    pub(super) fn scan(mut bytes: &[u8]) -> impl Iterator<Item = Result<Self, Unreadable>> {
        std::iter::from_fn(move || {
            loop {
                let start = bytes.iter().position(|&b| b == MAGIC[0])?;
                bytes = &bytes[start..];
                match Self::cut(bytes) {
                    Some((len, record)) => {
                        bytes = &bytes[len..];
                        return Some(record);
                    }
                    None => bytes = &bytes[1..],
                }
            }
        })
    }

    /// The record that the bytes begin with, and its length; `None` if they
    /// begin with no whole record.
    fn cut(bytes: &[u8]) -> Option<(usize, Result<Self, Unreadable>)> {
        let mut head = Reader(bytes);
        if head.array::<4>()? != MAGIC {
            return None;
        }
        let [version, kind] = head.array()?;
        let body_len = usize::from(u16::from_le_bytes(head.array()?));
        let number = u64::from_le_bytes(head.array()?);
        let body = head.take(body_len)?;
        let checksum = u64::from_le_bytes(head.array()?);
        if xxh3_64(&bytes[..HEAD + body_len]) != checksum {
            return None;
        }
        let fact = match version {
            VERSION => Fact::decode(kind, body),
            _ => Err(Unreadable::Newer),
        };
        Some((HEAD + body_len + CHECKSUM, fact.map(|fact| Self { number, fact })))
    }
}

impl Fact {
    /// The checksum was right, so what does not fit was not written by this
    /// version.
    fn decode(kind: u8, body: &[u8]) -> Result<Self, Unreadable> {
        let mut body = Reader(body);
        let fact = match kind {
            PIN => body.key().zip(read_pin(&mut body)).map(|(key, pin)| Self::Pin(key, Box::new(pin))),
            ENDED => body.key().zip(body.timestamp()).map(|(key, until)| Self::Ended { key, until }),
            REST => read_rest(&mut body),
            CLOCK => body.array().map(|bytes| Self::Clock(i64::from_le_bytes(bytes))),
            LAST => Some(Self::Last),
            _ => None,
        };
        fact.ok_or(Unreadable::Newer)
    }
}

/// Writes the parts of a record.
trait Frame: Sized {
    fn begin(kind: u8, number: u64) -> Self;
    fn finish(self) -> Vec<u8>;
    fn pin(&mut self, pin: &Pin);
}

impl Frame for Writer {
    fn begin(kind: u8, number: u64) -> Self {
        let mut bytes = Self(Vec::with_capacity(192));
        bytes.array(&MAGIC);
        bytes.array(&[VERSION, kind]);
        bytes.array(&[0; 2]); // the length; see `finish`
        bytes.array(&number.to_le_bytes());
        bytes
    }

    /// Fills in the length and adds the checksum. (Names are bounded by the
    /// configuration far below 64 KiB; one that is not could not be read.)
    fn finish(mut self) -> Vec<u8> {
        let len = u16::try_from(self.0.len() - HEAD).unwrap_or(u16::MAX);
        self.0[6..8].copy_from_slice(&len.to_le_bytes());
        let checksum = xxh3_64(&self.0);
        self.array(&checksum.to_le_bytes());
        self.0
    }

    fn pin(&mut self, pin: &Pin) {
        self.text(&pin.user);
        self.text(pin.session.as_str());
        self.filter(&pin.filter);
        self.exit(&pin.exit);
        self.variant(&pin.variant);
        self.array(&pin.via.to_le_bytes());
        self.number(pin.made.as_ms());
        self.number(millis(pin.expires, pin.made));
        self.number(pin.idle.map_or(0, |idle| u64::from(idle.as_secs())));
        self.number(millis(pin.used, pin.made));
        self.number(u64::from(pin.rest_s));
        self.number(u64::from(pin.packed_moves()));
        self.array(&pin.version.to_le_bytes());
    }
}

fn millis(later: Timestamp, earlier: Timestamp) -> u64 {
    u64::try_from(later.since(earlier).as_millis()).unwrap_or(u64::MAX)
}

fn read_rest(from: &mut Reader<'_>) -> Option<Fact> {
    Some(Fact::Rest {
        key: from.key()?,
        version: u64::from_le_bytes(from.array()?),
        exit: from.exit()?,
        variant: from.variant()?,
        until: from.timestamp()?,
    })
}

fn read_pin(from: &mut Reader<'_>) -> Option<Pin> {
    let user = from.text()?.into();
    let session = SessionId::new(from.text()?)?;
    let filter = from.filter()?;
    let (exit, variant) = (from.exit()?, from.variant()?);
    let via = u32::from_le_bytes(from.array()?);
    let made = from.number()?;
    let expires = Timestamp::from_ms(made.checked_add(from.number()?)?);
    let idle = match from.number()? {
        0 => None,
        secs => Some(Ttl::from_secs(secs)?),
    };
    let used = Timestamp::from_ms(made.checked_add(from.number()?)?);
    let (rest_s, moves) = (from.small()?, from.small()?);
    let version = u64::from_le_bytes(from.array()?);
    let made = Timestamp::from_ms(made);
    Some(Pin {
        user,
        session,
        filter,
        exit,
        variant,
        via,
        made,
        expires,
        idle,
        used,
        rest_s,
        moves: moves >> 1,
        same_address: moves & 1 == 1,
        version,
    })
}

#[cfg(test)]
mod tests;
