//! The names of things at the store.
//!
//! Owns: keys and the channel, and what every step is told first.
//! Must not know: what is kept under them.

use crate::core::pin::ExitName;
use crate::core::session::{SessionKey, UserName};
use crate::core::shared::{Address, Kind, LEASE};

/// All names begin with the prefix. Pins are named by their key's digest, so
/// that they spread over a cluster; what belongs to one exit lies together.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    era: Vec<u8>,
    pub(super) channel: String,
    pub(super) is_cluster: bool,
    lease_ms: String,
}

impl Names {
    pub(super) fn new(address: &Address) -> Self {
        let prefix = address.prefix.clone();
        Self {
            era: format!("{prefix}era").into_bytes(),
            // Channels know no databases.
            channel: format!("{prefix}{}:changes", address.db),
            is_cluster: address.kind == Kind::Cluster,
            lease_ms: LEASE.as_millis().to_string(),
            prefix,
        }
    }

    /// A session's pin.
    pub(super) fn pin(&self, key: SessionKey) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.prefix.len() + 2 + 16);
        name.extend_from_slice(self.prefix.as_bytes());
        name.extend_from_slice(b"p:");
        name.extend_from_slice(key.to_string().as_bytes());
        name
    }

    /// What all pins' names look like, as a pattern.
    pub(super) fn pins(&self) -> Vec<u8> {
        let mut pattern = Vec::with_capacity(self.prefix.len() + 3);
        for byte in self.prefix.bytes() {
            if b"*?[]^\\".contains(&byte) {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.extend_from_slice(b"p:*");
        pattern
    }

    /// The session key that a pin's name is of.
    pub(super) fn key_of(&self, name: &[u8]) -> Option<SessionKey> {
        let digits = name.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"p:")?;
        let mut key = [0; 16];
        if digits.len() != 2 * key.len() {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(SessionKey::from_bytes(key))
    }

    /// Which life of the store it is.
    pub(super) fn era(&self) -> &[u8] {
        &self.era
    }

    /// An exit's pins.
    pub(super) fn exit(&self, exit: &ExitName) -> Vec<u8> {
        format!("{}x:{{{exit}}}", self.prefix).into_bytes()
    }

    /// How many pins have each address of an exit's prefix.
    pub(super) fn addresses(&self, exit: &ExitName) -> Vec<u8> {
        format!("{}a:{{{exit}}}", self.prefix).into_bytes()
    }

    /// A user's sessions.
    pub(super) fn user(&self, user: &UserName) -> Vec<u8> {
        format!("{}u:{user}", self.prefix).into_bytes()
    }

    /// What users have moved on a day.
    pub(super) fn day(&self, day: u64) -> Vec<u8> {
        format!("{}b:{day}", self.prefix).into_bytes()
    }

    /// What every step of a session's key is told first.
    pub(super) fn head(&self, me: u64, key: SessionKey) -> Head<'_> {
        Head { names: self, me: me.to_le_bytes(), key }
    }
}

/// What every step is told first.
pub(super) struct Head<'a> {
    names: &'a Names,
    me: [u8; 8],
    key: SessionKey,
}

impl Head<'_> {
    /// With the step's own behind it.
    pub(super) fn args<'b>(&'b self, own: &[&'b [u8]]) -> Vec<&'b [u8]> {
        let mut all: Vec<&[u8]> = Vec::with_capacity(4 + own.len());
        all.extend([
            &self.me[..],
            self.names.channel.as_bytes(),
            &self.key.as_bytes()[..],
            self.names.lease_ms.as_bytes(),
        ]);
        all.extend_from_slice(own);
        all
    }
}
