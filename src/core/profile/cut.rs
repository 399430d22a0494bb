//! Where in a credential the name is, where the secret, where the rest.
//!
//! Owns: [`Cut`], how it is found, the place of a byte of the rest in the
//! whole.
//! Must not know: what the rest means, who may come in.

use std::borrow::Cow;

use super::{Naming, Place, Profile, find};
use crate::core::username::{MAX_USER, MAX_USERNAME};

/// At so many separators of a password a typo is looked for: it is work for
/// whoever asks, before anything is proven.
const DOUBTS: usize = 8;

/// A credential in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut<'c> {
    /// By what the user is known.
    pub who: Who<'c>,
    /// What must be its secret.
    pub secret: &'c str,
    /// What follows name or secret.
    pub tail: Cow<'c, str>,
    /// Where the tail begins in `username:password`.
    start: usize,
    /// From where on in the tail something else stands before, and how much.
    hole: (usize, usize),
}

/// By what a user is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who<'c> {
    /// By its name.
    Name(&'c str),
    /// By its secret alone.
    Secret(&'c str),
}

impl Cut<'_> {
    /// Where in `username:password` a byte of the tail stands.
    pub fn place(&self, at: usize) -> usize {
        let (from, length) = self.hole;
        self.start + at + if at >= from { length } else { 0 }
    }
}

impl Profile {
    /// Finds the parts of a credential; `None` for no known user. Of several
    /// known names the longest counts.
    pub fn cut<'c>(
        &self,
        username: &'c str,
        password: &'c str,
        is_known: impl Fn(Who<'c>) -> bool,
    ) -> Option<Cut<'c>> {
        if username.len() > MAX_USERNAME {
            return None;
        }
        let secret = self.secret(password);
        // The longest prefix comes first: an empty one takes no other apart.
        self.prefixes.iter().find_map(|prefix| {
            let rest = username.strip_prefix(&**prefix)?;
            let known = |cut: &Cut<'c>| is_known(cut.who);
            let mut cut = match (&self.user, self.place) {
                (Naming::First, Place::Username) => self.name_first(rest, &is_known),
                (Naming::First, Place::Password) => Some(Cut::of(Who::Name(rest), "")).filter(known),
                (Naming::Key(key), _) => self.name_under(key, rest, &is_known),
                (Naming::Secret, _) if !rest.is_empty() && !rest.starts_with(&*self.first) => None,
                (Naming::Secret, _) => Some(Cut::of(Who::Secret(secret), rest)).filter(known),
            }?;
            cut.secret = secret;
            match self.place {
                Place::Username => cut.start += prefix.len(),
                Place::Password => {
                    cut.tail = Cow::Borrowed(&password[secret.len()..]);
                    cut.start = username.len() + 1 + secret.len();
                }
            }
            Some(cut)
        })
    }

    /// Of a password, the part that is the secret: where parameters are
    /// written behind it, all before the first of them.
    pub fn secret<'c>(&self, password: &'c str) -> &'c str {
        if self.place == Place::Username || password.len() > MAX_USERNAME {
            return password;
        }
        let (mut at, mut doubts) = (0, DOUBTS);
        while let Some(found) = find(&password[at..], &self.first) {
            let behind = at + found + self.first.len();
            if self.begins_a_pair(&password[behind..], doubts > 0) {
                return &password[..at + found];
            }
            doubts = doubts.saturating_sub(1);
            // Separators may overlap: the next may begin one byte on.
            at += found + password[at + found..].chars().next().map_or(1, char::len_utf8);
        }
        password
    }

    /// Whether a key stands here, or (in doubt) a word that can only be a typo
    /// of one: a secret may hold a separator, but hardly that.
    fn begins_a_pair(&self, text: &str, in_doubt: bool) -> bool {
        let (key, has_value) = self.key_at(text);
        match self.rule(key) {
            Some((_, rule)) => has_value || rule.flag.is_some(),
            None => in_doubt && has_value && key.len() >= 4 && self.nearest_key(key).is_some(),
        }
    }

    /// The key that text begins with, and whether a value follows it.
    pub(super) fn key_at<'t>(&self, text: &'t str) -> (&'t str, bool) {
        let item = &text[..find(text, &self.pair).unwrap_or(text.len())];
        match find(item, &self.value) {
            Some(end) => (&item[..end], true),
            None => (item, self.value == self.pair && item.len() < text.len()),
        }
    }

    fn name_first<'c>(&self, rest: &'c str, is_known: &impl Fn(Who<'c>) -> bool) -> Option<Cut<'c>> {
        let end = longest_name(rest, &self.first, |name| is_known(Who::Name(name)))?;
        Some(Cut { start: end, ..Cut::of(Who::Name(&rest[..end]), &rest[end..]) })
    }

    fn name_under<'c>(
        &self,
        key: &str,
        rest: &'c str,
        is_known: &impl Fn(Who<'c>) -> bool,
    ) -> Option<Cut<'c>> {
        let mut at = 0;
        loop {
            let (written, has_value) = self.key_at(&rest[at..]);
            let from = at + written.len() + self.value.len();
            if has_value
                && written.eq_ignore_ascii_case(key)
                && let Some(length) =
                    longest_name(&rest[from..], &self.pair, |name| is_known(Who::Name(name)))
            {
                let before = rest[..at].strip_suffix(&*self.pair).unwrap_or_default();
                let (name, after) = rest[from..].split_at(length);
                let tail = match before {
                    "" => Cow::Borrowed(after),
                    before => Cow::Owned(format!("{before}{after}")),
                };
                let hole = (before.len(), from + length - before.len());
                return Some(Cut { tail, hole, ..Cut::of(Who::Name(name), "") });
            }
            at += find(&rest[at..], &self.pair)? + self.pair.len();
        }
    }
}

impl<'c> Cut<'c> {
    fn of(who: Who<'c>, tail: &'c str) -> Self {
        Self { who, secret: "", tail: Cow::Borrowed(tail), start: 0, hole: (usize::MAX, 0) }
    }
}

/// How long the longest known name is that the text is, or that `separator`
/// follows in it.
fn longest_name<'t>(text: &'t str, separator: &str, is_known: impl Fn(&'t str) -> bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let ends = (0..=text.len().min(MAX_USER)).rev();
    // A separator is ASCII, so that the text can be cut before it.
    let mut names = ends.filter(|end| *end == text.len() || bytes[*end..].starts_with(separator.as_bytes()));
    names.find(|end| is_known(&text[..*end]))
}
