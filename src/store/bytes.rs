//! How values are written, byte for byte: for records on disk and for values
//! in a shared store.
//!
//! Owns: [`Writer`] and [`Reader`] of numbers, texts, exits, variants,
//! filters.
//! Must not know: which fields a record or a value has.

use std::net::IpAddr;
use std::sync::Arc;

use crate::core::pin::{ExitName, Variant};
use crate::core::session::{Filter, SessionKey, label_key};
use crate::core::time::Timestamp;

const NO_VARIANT: u8 = 0;
const TOKEN: u8 = 1;
const V4: u8 = 4;
const V6: u8 = 6;

/// Bytes in the making.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn array<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn filter(&mut self, filter: &Filter) {
        self.number(filter.iter().count() as u64);
        for (key, value) in filter.iter() {
            self.text(key);
            self.text(value);
        }
    }

    pub(super) fn exit(&mut self, exit: &ExitName) {
        self.text(&exit.pool);
        self.text(&exit.id);
    }

    pub(super) fn variant(&mut self, variant: &Variant) {
        match variant {
            Variant::None => self.0.push(NO_VARIANT),
            Variant::Address(IpAddr::V4(ip)) => {
                self.0.push(V4);
                self.array(&ip.octets());
            }
            Variant::Address(IpAddr::V6(ip)) => {
                self.0.push(V6);
                self.array(&ip.octets());
            }
            Variant::Token(token) => {
                self.0.push(TOKEN);
                self.text(token);
            }
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Seven bits a byte, the last one without the high bit.
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

/// Reads what [`Writer`] wrote, in its order; `None` where the bytes are
/// something else.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(len)?).ok()
    }

    pub(super) fn timestamp(&mut self) -> Option<Timestamp> {
        self.number().map(Timestamp::from_ms)
    }

    pub(super) fn key(&mut self) -> Option<SessionKey> {
        self.array().map(SessionKey::from_bytes)
    }

    pub(super) fn exit(&mut self) -> Option<ExitName> {
        Some(ExitName { pool: self.text()?.into(), id: self.text()?.into() })
    }

    pub(super) fn variant(&mut self) -> Option<Variant> {
        Some(match self.array()? {
            [NO_VARIANT] => Variant::None,
            [V4] => Variant::Address(self.array::<4>()?.into()),
            [V6] => Variant::Address(self.array::<16>()?.into()),
            [TOKEN] => Variant::Token(Arc::from(self.text()?)),
            _ => return None,
        })
    }

    pub(super) fn filter(&mut self) -> Option<Filter> {
        let mut pairs = Vec::new();
        for _ in 0..self.number()? {
            pairs.push((label_key(self.text()?)?, self.text()?));
        }
        Some(Filter::new(pairs))
    }
}
