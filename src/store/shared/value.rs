//! A pin as the store keeps it, byte for byte.
//!
//! Owns: the value's layout, which the scripts read and write as well
//! (`lua/prelude.lua`), and a message's.
//! Must not know: which step has written it.
//!
//! ```text
//! format 1 | kind 1 | flags 1 | 0 | version 8 | owner 8 | made 8 | expires 8 | used 8 | idle 4 | moves 4 | body
//! ```
//!
//! Little-endian; instants in ms. The head is what scripts look at; the body
//! is for gateways alone, and what a later one adds at its end an older one
//! passes over. Another format is one that this gateway cannot read.

use std::net::IpAddr;

use crate::core::pin::Pin;
use crate::core::session::{SessionId, SessionKey};
use crate::core::shared::{Entry, Notice, Telling};
use crate::core::time::{Timestamp, Ttl};
use crate::store::bytes::{Reader, Writer};

const FORMAT: u8 = 1;
const PIN: u8 = 1;
const UNSEEN: u8 = 1;
const UNSAID: u8 = 2;
const MOVED: u8 = 4;
const CONTESTED: u8 = 8;

/// The value of a pin.
pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let pin = &entry.pin;
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    let flags = flag(entry.unseen, UNSEEN)
        | flag(entry.unsaid, UNSAID)
        | flag(entry.moved, MOVED)
        | flag(entry.contested, CONTESTED);
    let mut to = Writer(Vec::with_capacity(192));
    to.array(&[FORMAT, PIN, flags, 0]);
    to.array(&pin.version.to_le_bytes());
    to.array(&entry.owner.to_le_bytes());
    for instant in [pin.made, pin.expires, pin.used] {
        to.array(&instant.as_ms().to_le_bytes());
    }
    to.array(&pin.idle.map_or(0, Ttl::as_secs).to_le_bytes());
    to.array(&pin.moves.to_le_bytes());
    write_body(&mut to, pin);
    to.0
}

/// What a node tells of a pin, as the script is told it.
pub(super) fn telling(telling: &Telling) -> [Vec<u8>; 3] {
    let base = telling.base.map(|base| base.to_le_bytes().to_vec()).unwrap_or_default();
    [encode(&telling.entry), base, vec![b'0' + u8::from(telling.alone)]]
}

/// The part of a pin's value that scripts pass on unread.
pub(super) fn body(pin: &Pin) -> Vec<u8> {
    let mut to = Writer(Vec::with_capacity(128));
    write_body(&mut to, pin);
    to.0
}

/// The same in two parts, before and behind the address of a prefix, which the
/// store may choose. Without one all is in the first.
pub(super) fn body_parts(pin: &Pin) -> (Vec<u8>, Vec<u8>) {
    let mut to = Writer(Vec::with_capacity(128));
    let behind = write_body(&mut to, pin);
    let address = pin.variant.address().map_or(0, |address| address_bytes(address).len());
    if address == 0 {
        return (to.0, Vec::new());
    }
    let rest = to.0.split_off(behind);
    to.0.truncate(behind - address);
    (to.0, rest)
}

/// An address as values and rooms have it.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The address that these bytes are; `None`: they are none.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Where what stands behind the variant begins.
fn write_body(to: &mut Writer, pin: &Pin) -> usize {
    to.text(&pin.user);
    to.text(pin.session.as_str());
    to.filter(&pin.filter);
    to.exit(&pin.exit);
    to.variant(&pin.variant);
    let behind = to.0.len();
    to.array(&pin.via.to_le_bytes());
    to.number(u64::from(pin.rest_s));
    to.array(&[u8::from(pin.same_address)]);
    behind
}

/// A pin from its value; `None`: it is none that this gateway can read.
pub(super) fn decode(bytes: &[u8]) -> Option<Entry> {
    let mut from = Reader(bytes);
    let [format, kind, flags, _] = from.array()?;
    if (format, kind) != (FORMAT, PIN) {
        return None;
    }
    let version = u64::from_le_bytes(from.array()?);
    let owner = u64::from_le_bytes(from.array()?);
    let mut instant = || Some(Timestamp::from_ms(u64::from_le_bytes(from.array()?)));
    let (made, expires, used) = (instant()?, instant()?, instant()?);
    let idle = Ttl::from_secs(u64::from(u32::from_le_bytes(from.array()?)));
    let moves = u32::from_le_bytes(from.array()?);
    let pin = Pin {
        user: from.text()?.into(),
        session: SessionId::new(from.text()?)?,
        filter: from.filter()?,
        exit: from.exit()?,
        variant: from.variant()?,
        via: u32::from_le_bytes(from.array()?),
        made,
        expires,
        idle,
        used,
        rest_s: from.small()?,
        moves,
        same_address: from.array()? != [0],
        version,
    };
    let has = |flag: u8| flags & flag != 0;
    Some(Entry {
        pin,
        owner,
        unseen: has(UNSEEN),
        unsaid: has(UNSAID),
        moved: has(MOVED),
        contested: has(CONTESTED),
    })
}

/// A message, as the scripts' `tell` writes it.
pub(super) struct Message {
    pub(super) key: SessionKey,
    /// The node whose step it was.
    pub(super) from: u64,
    pub(super) at_us: u64,
    pub(super) notice: Notice,
}

impl Message {
    /// `None`: it is none that this gateway can read.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        Some(Self {
            key: from.key()?,
            from: u64::from_le_bytes(from.array()?),
            at_us: u64::from_le_bytes(from.array()?),
            notice: match from.array()? {
                [b'P'] => Notice::Is(Box::new(decode(from.0)?)),
                [b'E'] => Notice::Ended,
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pin::{ExitName, Variant};
    use crate::core::session::Filter;

    fn entry() -> Entry {
        let pin = Pin {
            user: "acme".into(),
            session: SessionId::new("a1").unwrap(),
            filter: Filter::new([("city", "Berlin")]),
            exit: ExitName { pool: "us".into(), id: "ams-1".into() },
            variant: Variant::Address("2001:db8::7".parse().unwrap()),
            via: 0xfeed_beef,
            made: Timestamp::from_ms(1_800_000_000_123),
            expires: Timestamp::from_ms(1_800_000_600_123),
            idle: Ttl::from_secs(60),
            used: Timestamp::from_ms(1_800_000_001_000),
            rest_s: 3600,
            moves: 3,
            same_address: true,
            version: u64::MAX - 7,
        };
        Entry { pin, owner: 5 << 60, unseen: true, unsaid: true, moved: false, contested: true }
    }

    #[test]
    fn what_was_written_is_read() {
        let mut entry = entry();
        for flags in 0..16_u8 {
            (entry.unseen, entry.unsaid) = (flags & 1 != 0, flags & 2 != 0);
            (entry.moved, entry.contested) = (flags & 4 != 0, flags & 8 != 0);
            assert_eq!(decode(&encode(&entry)), Some(entry.clone()));
        }
        entry.pin.idle = None;
        entry.pin.variant = Variant::Token("abc".into());
        assert_eq!(decode(&encode(&entry)), Some(entry));
    }

    #[test]
    fn an_address_may_be_chosen_while_the_pin_is_made() {
        let mut pin = entry().pin;
        for variant in ["2001:db8::7", "192.0.2.9"].map(|ip| Variant::Address(ip.parse().unwrap())) {
            pin.variant = variant;
            let (before, behind) = body_parts(&pin);
            let bytes = address_bytes(pin.variant.address().unwrap());
            assert_eq!([&*before, &bytes, &behind].concat(), body(&pin));
            assert_eq!(address(&bytes), pin.variant.address());
        }
        pin.variant = Variant::Token("abc".into());
        assert_eq!(body_parts(&pin), (body(&pin), Vec::new()));
        assert_eq!(address(b"abc"), None);
    }

    #[test]
    fn a_later_gateway_may_add_to_the_end() {
        let mut bytes = encode(&entry());
        bytes.extend_from_slice(b"more");
        assert_eq!(decode(&bytes), Some(entry()));
    }

    #[test]
    fn this_is_the_format() {
        let written = include_bytes!("testdata/pin-v1.bin");
        assert_eq!(encode(&entry()), written, "a new layout is a new format");
        assert_eq!(decode(written), Some(entry()));
    }

    #[test]
    fn what_is_cut_or_foreign_is_none() {
        let bytes = encode(&entry());
        (0..bytes.len()).for_each(|len| assert_eq!(decode(&bytes[..len]), None, "{len}"));
        let mut other = bytes;
        other[0] = 2;
        assert_eq!(decode(&other), None);
        assert!(Message::decode(b"short").is_none());
    }
}
