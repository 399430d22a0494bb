//! What names a session.
//!
//! Owns: [`UserName`], [`SessionId`], [`Filter`] (label filters, folded and
//! sorted) and [`SessionKey`], their digest.
//! Must not know: where any of them was written.

use std::fmt;
use std::sync::Arc;

/// An account's name.
pub type UserName = Arc<str>;

/// Whether the text may name a user.
pub fn is_user(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(fine)
}

/// A session's name as the client wrote it: 1 to 128 printable ASCII
/// characters; case counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// `None` unless 1 to 128 printable ASCII characters.
    pub fn new(text: &str) -> Option<Self> {
        let fine = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fine.then(|| Self(text.into()))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The keys by which exits are labelled and asked for, in the order in which
/// a filter holds them.
pub const LABEL_KEYS: [&str; 10] =
    ["asn", "city", "continent", "country", "isp", "region", "state", "tag", "type", "zip"];

/// The label key that `name` is, whatever its case.
pub fn label_key(name: &str) -> Option<&'static str> {
    LABEL_KEYS.into_iter().find(|key| key.eq_ignore_ascii_case(name))
}

/// A label value as compared: letters and digits alone, in lower case
/// (`new_york` and `New York` are both `newyork`).
pub fn fold(value: &str) -> String {
    value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Which labels an exit must have: key and folded value, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter(Option<Arc<[Demand]>>);

type Demand = (&'static str, Box<str>);

impl Filter {
    /// From pairs in any order, values as written. A key given twice keeps
    /// both demands.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'static str, &'a str)>) -> Self {
        let mut pairs: Vec<_> =
            pairs.into_iter().map(|(key, value)| (key, fold(value).into_boxed_str())).collect();
        pairs.sort();
        pairs.dedup();
        Self((!pairs.is_empty()).then(|| pairs.into()))
    }

    /// Whether every exit passes.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Key and folded value, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().flat_map(|pairs| pairs.iter()).map(|(key, value)| (*key, &**value))
    }

    /// The folded value asked for under `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A session's identity: a 128-bit digest of user, pool, filter and session
/// id. Unkeyed, so that every node makes the same of it; over
/// length-prefixed parts, so that no two keys share a text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey([u8; 16]);

impl SessionKey {
    /// The digest.
    pub fn new(user: &str, pool: &str, filter: &Filter, session: &SessionId) -> Self {
        let mut hash = blake3::Hasher::new();
        let mut part = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        part(user);
        part(pool);
        part(session.as_str());
        for (key, value) in filter.iter() {
            part(key);
            part(value);
        }
        let mut digest = [0; 16];
        hash.finalize_xof().fill(&mut digest);
        Self(digest)
    }

    /// From stored bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// For storing.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// 64 evenly spread bits of it.
    pub fn bits(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user: &str, pool: &str, filter: &Filter, id: &str) -> SessionKey {
        SessionKey::new(user, pool, filter, &SessionId::new(id).unwrap())
    }

    #[test]
    fn keys_differ_in_every_part_and_parts_do_not_run_together() {
        let none = Filter::default();
        let us = Filter::new([("country", "US")]);
        let all = [
            key("a", "b", &none, "c"),
            key("ab", "b", &none, "c"),
            key("a", "bc", &none, "c"),
            key("a", "b", &us, "c"),
            key("ab", "", &none, "c"),
            key("a", "b", &Filter::new([("city", "US")]), "c"),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_filter_is_folded_and_sorted() {
        let a = Filter::new([("country", "us"), ("city", "new_york")]);
        let b = Filter::new([("city", "New York"), ("country", "US")]);
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "city=newyork,country=us");
    }
}
