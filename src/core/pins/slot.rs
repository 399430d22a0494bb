//! A pin as the map stores it.
//!
//! Owns: [`Slot`], a pin in 96 bytes and, if its names are long, one small
//! box, and [`Slots`], all of a shard without gaps.
//! Must not know: how a slot is found, or when it ends.
//!
//! A million [`Pin`]s with their names spelled out would take half a GiB. A
//! slot names user, exit and filter by number, counts instants from `made`
//! and packs what is rare or of varying length into its tail.

use std::net::IpAddr;
use std::ops::{Index, IndexMut};

use super::intern::Interner;
use crate::core::pin::{self, ExitName, News, Pin, Variant};
use crate::core::session::{Filter, SessionId, SessionKey, UserName};
use crate::core::time::{Timestamp, Ttl};

/// A pin in small.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: SessionKey,
    pub(super) version: u64,
    /// The number of the record that the disk has, or will have, of it.
    pub(super) record: u64,
    made: Timestamp,
    /// From `made` to `expires`: at most 168 h, so 32 bits do.
    life_ms: u32,
    /// From `made` to `used`.
    used_ms: u32,
    /// 0: none.
    idle_s: u32,
    via: u32,
    user: u32,
    exit: u32,
    /// Where it stands in the queue of what is due.
    pub(super) place: u32,
    /// What the next success will say.
    pub(super) news: News,
    /// Session, variant, rest, moves and filter, one after the other.
    tail: Tail,
}

/// Some bytes. Most are short, and then they need no box, which would take
/// 32 bytes and a look-up's second way to memory.
#[derive(Debug)]
enum Tail {
    Short { len: u8, bytes: [u8; Self::SHORT] },
    Long(Box<[u8]>),
}

impl Tail {
    /// With the length and the tag as large as a [`Tail::Long`].
    const SHORT: usize = 22;

    fn new(from: &[u8]) -> Self {
        if from.len() > Self::SHORT {
            return Self::Long(from.into());
        }
        let mut bytes = [0; Self::SHORT];
        bytes[..from.len()].copy_from_slice(from);
        Self::Short { len: from.len() as u8, bytes }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

/// The values that slots name by number.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) users: Interner<UserName>,
    pub(super) exits: Interner<ExitName>,
    pub(super) filters: Interner<Filter>,
    /// Where tails are put together. A box cut out of a larger one would
    /// leave a hole behind, and a million of those is 46 MiB.
    scratch: Vec<u8>,
}

impl Names {
    pub(super) fn new() -> Self {
        let (users, exits, filters) = (Interner::new(), Interner::new(), Interner::new());
        Self { users, exits, filters, scratch: Vec::new() }
    }
}

const NO_VARIANT: u8 = 0;
const TOKEN: u8 = 1;
const V4: u8 = 4;
const V6: u8 = 6;

impl Slot {
    /// Packs a pin.
    pub(super) fn pack(key: SessionKey, pin: &Pin, record: u64, news: News, names: &mut Names) -> Self {
        let filter = if pin.filter.is_empty() { 0 } else { names.filters.take(&pin.filter) + 1 };
        let tail = &mut names.scratch;
        tail.clear();
        let session = pin.session.as_str().as_bytes();
        tail.push(session.len() as u8); // 1 ..= 128
        tail.extend_from_slice(session);
        pack_variant(&pin.variant, tail);
        put_number(pin.rest_s, tail);
        put_number(pin.packed_moves(), tail);
        put_number(filter, tail);
        let tail = Tail::new(tail);
        Self {
            key,
            version: pin.version,
            record,
            made: pin.made,
            life_ms: small_ms(pin.expires, pin.made),
            used_ms: small_ms(pin.used, pin.made),
            idle_s: pin.idle.map_or(0, Ttl::as_secs),
            via: pin.via,
            user: names.users.take(&pin.user),
            exit: names.exits.take(&pin.exit),
            place: 0,
            news,
            tail,
        }
    }

    /// The pin again.
    pub(super) fn unpack(&self, names: &Names) -> Pin {
        let mut tail = Reader(self.tail.bytes());
        let session = tail.session();
        let variant = tail.variant();
        let (rest_s, moves, filter) = (tail.number(), tail.number(), tail.number());
        Pin {
            user: names.users.value(self.user).clone(),
            session,
            filter: match filter {
                0 => Filter::default(),
                id => names.filters.value(id - 1).clone(),
            },
            exit: names.exits.value(self.exit).clone(),
            variant,
            via: self.via,
            made: self.made,
            expires: self.expires(),
            idle: self.idle(),
            used: self.used(),
            rest_s,
            moves: moves >> 1,
            same_address: moves & 1 == 1,
            version: self.version,
        }
    }

    /// As [`Pin::user`], to look at.
    pub(super) fn user<'n>(&self, names: &'n Names) -> &'n str {
        names.users.value(self.user)
    }

    /// As [`Pin::exit`], to look at.
    pub(super) fn exit<'n>(&self, names: &'n Names) -> &'n ExitName {
        names.exits.value(self.exit)
    }

    /// As [`Pin::session`], to look at.
    pub(super) fn session(&self) -> &str {
        Reader(self.tail.bytes()).text()
    }

    /// Lets go of the names. The slot must not be unpacked after.
    pub(super) fn release(&self, names: &mut Names) {
        names.users.give(self.user);
        names.exits.give(self.exit);
        let mut tail = Reader(self.tail.bytes());
        tail.session();
        tail.variant();
        tail.number();
        tail.number();
        if let Some(filter) = tail.number().checked_sub(1) {
            names.filters.give(filter);
        }
    }

    /// As [`Pin::ends`].
    pub(super) fn ends(&self) -> Timestamp {
        pin::ends(self.expires(), self.idle(), self.used())
    }

    /// As [`Pin::lives`].
    pub(super) fn lives(&self, now: Timestamp) -> bool {
        now < self.ends()
    }

    /// Notes a use. Whether that moved the end, and so is worth a record: the
    /// first use in a second does.
    pub(super) fn touch(&mut self, now: Timestamp) -> bool {
        if self.idle_s == 0 || now <= self.used() {
            return false;
        }
        let before = self.ends();
        let used_ms = self.used_ms;
        self.used_ms = small_ms(now, self.made);
        let moved = self.ends() > before;
        if !moved {
            self.used_ms = used_ms;
        }
        moved
    }

    fn expires(&self) -> Timestamp {
        Timestamp::from_ms(self.made.as_ms().saturating_add(u64::from(self.life_ms)))
    }

    fn used(&self) -> Timestamp {
        Timestamp::from_ms(self.made.as_ms().saturating_add(u64::from(self.used_ms)))
    }

    fn idle(&self) -> Option<Ttl> {
        Ttl::from_secs(u64::from(self.idle_s))
    }
}

fn small_ms(later: Timestamp, earlier: Timestamp) -> u32 {
    u32::try_from(later.since(earlier).as_millis()).unwrap_or(u32::MAX)
}

fn pack_variant(variant: &Variant, to: &mut Vec<u8>) {
    match variant {
        Variant::None => to.push(NO_VARIANT),
        Variant::Address(IpAddr::V4(ip)) => {
            to.push(V4);
            to.extend_from_slice(&ip.octets());
        }
        Variant::Address(IpAddr::V6(ip)) => {
            to.push(V6);
            to.extend_from_slice(&ip.octets());
        }
        Variant::Token(token) => {
            to.push(TOKEN);
            put_number(u32::try_from(token.len()).unwrap_or(u32::MAX), to);
            to.extend_from_slice(token.as_bytes());
        }
    }
}

/// Seven bits a byte, the last one without the high bit.
fn put_number(mut number: u32, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Reads what [`Slot::pack`] wrote, in its order.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N));
        array
    }

    fn number(&mut self) -> u32 {
        let mut number = 0;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array();
            number |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }

    #[expect(clippy::expect_used, reason = "invariant: the bytes were a session id when they were packed")]
    fn session(&mut self) -> SessionId {
        SessionId::new(self.text()).expect("a packed session id")
    }

    /// The session id, not yet taken for one.
    fn text(&mut self) -> &'a str {
        let [len] = self.array();
        std::str::from_utf8(self.bytes(usize::from(len))).unwrap_or_default()
    }

    fn variant(&mut self) -> Variant {
        match self.array() {
            [V4] => Variant::Address(self.array::<4>().into()),
            [V6] => Variant::Address(self.array::<16>().into()),
            [TOKEN] => {
                let len = self.number() as usize;
                Variant::Token(String::from_utf8_lossy(self.bytes(len)).into())
            }
            _ => Variant::None,
        }
    }
}

/// Slots in pieces of [`PIECE`], so that growing copies none and shrinking
/// gives memory back.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pieces: Vec<Vec<Slot>>,
    len: u32,
}

const PIECE: usize = 256;

impl Slots {
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Puts it at the end; its number is the length before.
    pub(super) fn push(&mut self, slot: Slot) -> u32 {
        if (self.len as usize).is_multiple_of(PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.push(slot);
        }
        self.len += 1;
        self.len - 1
    }

    /// Takes a slot out; the last one gets its number.
    #[expect(clippy::expect_used, reason = "invariant: there is a piece for each 256 slots begun")]
    pub(super) fn swap_remove(&mut self, number: u32) -> Slot {
        let piece = self.pieces.last_mut().expect("a slot to remove");
        let last = piece.pop().expect("pieces are not empty");
        if piece.is_empty() {
            self.pieces.pop();
        }
        self.len -= 1;
        if number == self.len { last } else { std::mem::replace(&mut self[number], last) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.pieces.iter().flatten()
    }
}

impl Index<u32> for Slots {
    type Output = Slot;

    fn index(&self, number: u32) -> &Slot {
        &self.pieces[number as usize / PIECE][number as usize % PIECE]
    }
}

impl IndexMut<u32> for Slots {
    fn index_mut(&mut self, number: u32) -> &mut Slot {
        &mut self.pieces[number as usize / PIECE][number as usize % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small() {
        assert_eq!(size_of::<Slot>(), 96);
    }

    #[test]
    fn a_tail_of_any_length_is_kept() {
        for len in 0..60 {
            let bytes: Vec<u8> = (0..len).collect();
            assert_eq!(Tail::new(&bytes).bytes(), bytes);
        }
    }
}
