//! Other grammars of the username as data (SPEC §9): what each of their keys
//! means in ours.
//!
//! Owns: [`Profile`], its keys, separators and prefixes. [`cut`] finds name,
//! secret and parameters in a credential, [`read`] makes [`Parameters`] of
//! the latter, [`choose`] decides which of several profiles a credential is
//! written in.
//! Must not know: any vendor. How a profile is written down.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use super::pool::Failover;
use super::time::Ttl;
use super::typo::nearest;
use super::username::{self, Key, ParameterError, Parameters};

pub mod choose;
pub mod cut;
pub mod read;

/// The name of the grammar of SPEC §2.
pub const OWN: &str = "moorgate";

/// A grammar, and what its words mean in ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// By which users and listeners name it.
    pub name: Box<str>,
    /// Whether it is SPEC §2 itself, which has a reader of its own; the rest
    /// then says the same as data.
    pub own: bool,
    /// Where the parameters are.
    pub place: Place,
    /// What a username begins with, one of them, the longest first; an empty
    /// one: nothing.
    pub prefixes: Vec<Box<str>>,
    /// How the user is named.
    pub user: Naming,
    /// Between user (or secret) and the first parameter.
    pub first: Box<str>,
    /// Between parameters.
    pub pair: Box<str>,
    /// Between a key and its value.
    pub value: Box<str>,
    /// Values without a key, in their order, before the first key.
    pub positions: Vec<Position>,
    /// Keys in lower case, and what they mean.
    pub keys: Vec<(Box<str>, Rule)>,
    /// Whether a ttl or idle time out of range means the nearest in range.
    pub clamp: bool,
    /// The ttl of a session that names none.
    pub ttl: Option<Ttl>,
    /// The idle time of a session that names none.
    pub idle: Option<Ttl>,
}

/// Where the parameters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the username, behind the user's name.
    Username,
    /// In the password, behind the secret.
    Password,
}

/// How a credential names its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The username begins with the name, behind the prefix.
    First,
    /// It is the value of this key.
    Key(Box<str>),
    /// Not at all: the secret is the user's alone.
    Secret,
}

/// A value without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// What such a value looks like; another word is none.
    pub shape: Shape,
    /// Whether it must be there where any parameter is.
    pub required: bool,
    /// What it means.
    pub rule: Rule,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One of the words that its rule knows.
    Known,
    /// So many letters, or one of the words that its rule knows.
    Letters(u8),
    /// Digits alone, or one of the words that its rule knows.
    Digits,
    /// Anything but a key.
    Any,
}

/// What a key means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Of which parameter it tells.
    pub to: To,
    /// How a duration is written.
    pub unit: Unit,
    /// The shortest duration that it takes.
    pub min: Ttl,
    /// The longest.
    pub max: Ttl,
    /// The value of a key that has none, a flag; `None`: it has one.
    pub flag: Option<Box<str>>,
    /// Whether it may stand more than once.
    pub repeats: bool,
    /// How far its value goes.
    pub reach: Reach,
    /// Values that ask for another exit with each request.
    pub rotate: Vec<Box<str>>,
    /// What a value may begin with, in any letter case, and is left away.
    pub strip: Option<Box<str>>,
    /// Values that mean another one, or (`None`) nothing.
    pub values: Vec<(Box<str>, Option<Box<str>>)>,
    /// What the key says of failover by being there.
    pub failover: Option<Failover>,
    /// What a session id may be made of.
    pub chars: Chars,
    /// Its most characters.
    pub longest: u8,
    /// Between the values of a list: we take no list.
    pub list: Option<char>,
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The session's id.
    Session,
    /// How long it lives.
    Ttl,
    /// How long it may be unused.
    Idle,
    /// The pool.
    Pool,
    /// The exit.
    Exit,
    /// What happens when the pinned exit is down.
    Failover,
    /// A label.
    Label(&'static str),
    /// Nothing here.
    Ignore,
}

impl To {
    /// Our key for it; `None`: we have none.
    fn key(self) -> Option<Key> {
        match self {
            Self::Session => Some(Key::Session),
            Self::Ttl => Some(Key::Ttl),
            Self::Idle => Some(Key::Idle),
            Self::Pool => Some(Key::Pool),
            Self::Exit => Some(Key::Exit),
            Self::Failover => Some(Key::Failover),
            Self::Label(label) => Some(Key::Label(label)),
            Self::Ignore => None,
        }
    }
}

/// How a duration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// With its unit: `90s`, `10m`, `1h30m`.
    Written,
    /// As a whole number of so many seconds each.
    Seconds(u32),
}

/// How far a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To the next separator of parameters.
    Pair,
    /// To it, but a UUID is taken whole.
    Uuid,
    /// To the next separator that a key follows.
    Key,
}

/// A set of ASCII characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chars(u128);

impl Chars {
    /// Every visible character.
    pub const VISIBLE: Self = Self((u128::MAX << 33) & !(1 << 127));

    /// From single characters and ranges of letters or digits: `A-Za-z0-9._`.
    /// A `-` at either end is itself. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut set = 0;
        let mut rest = text.as_bytes();
        while let [from, after @ ..] = rest {
            let (to, after) = match after {
                [b'-', to, after @ ..] => (to, after),
                _ => (from, after),
            };
            let alike: [fn(&u8) -> bool; 3] =
                [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit];
            let is_range = from < to && alike.iter().any(|kind| kind(from) && kind(to));
            if !(from == to || is_range) || !from.is_ascii_graphic() {
                return None;
            }
            (*from..=*to).for_each(|byte| set |= 1 << byte);
            rest = after;
        }
        (set != 0).then_some(Self(set))
    }

    /// Whether it is one of them.
    pub fn has(self, byte: u8) -> bool {
        byte < 128 && self.0 & (1 << byte) != 0
    }
}

impl Rule {
    /// Says of `to` what is written; durations in minutes.
    pub fn plain(to: To) -> Self {
        Self {
            to,
            unit: Unit::Seconds(60),
            min: Ttl::MIN,
            max: Ttl::MAX,
            flag: None,
            repeats: false,
            reach: Reach::Pair,
            rotate: Vec::new(),
            strip: None,
            values: Vec::new(),
            failover: None,
            chars: Chars::VISIBLE,
            longest: 128,
            list: Some(','),
        }
    }
}

static OURS: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    Arc::new(Profile {
        name: OWN.into(),
        own: true,
        place: Place::Username,
        prefixes: vec!["".into()],
        user: Naming::First,
        first: "-".into(),
        pair: "-".into(),
        value: "-".into(),
        positions: Vec::new(),
        keys: Vec::new(),
        clamp: false,
        ttl: None,
        idle: None,
    })
});

impl Profile {
    /// The grammar of SPEC §2.
    pub fn ours() -> &'static Arc<Self> {
        &OURS
    }

    /// Reads what follows the user's name, or the secret.
    ///
    /// # Errors
    /// The first thing that is wrong, from left to right, and where.
    pub fn read(&self, tail: &str) -> Result<Parameters, ParameterError> {
        match self.own {
            true => username::parse(tail),
            false => read::read(self, tail),
        }
    }

    /// A listener's `defaults`, and behind them this profile's own.
    pub fn defaults<'d>(&self, defaults: &'d Parameters) -> Cow<'d, Parameters> {
        if self.ttl.is_none() && self.idle.is_none() {
            return Cow::Borrowed(defaults);
        }
        Cow::Owned(Parameters {
            ttl: defaults.ttl.or(self.ttl),
            idle: defaults.idle.or(self.idle),
            ..defaults.clone()
        })
    }

    /// What the key of this name means, in any letter case.
    fn rule(&self, name: &str) -> Option<(usize, &Rule)> {
        let found = self.keys.iter().position(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some((found, &self.keys[found].1))
    }

    /// The key that a word is a typo of.
    fn nearest_key(&self, name: &str) -> Option<&str> {
        nearest(name, self.keys.iter().map(|(key, _)| &**key))
    }

    /// What the key at the beginning of `text` tells of, if one is there.
    pub fn told_at(&self, text: &str) -> Option<Option<Key>> {
        let (word, has_value) = self.key_at(text);
        if self.own {
            return Key::find(word).map(Some);
        }
        let (_, rule) = self.rule(word).filter(|(_, rule)| has_value || rule.flag.is_some())?;
        Some(rule.to.key())
    }

    /// Where in a tail the first key is that tells of one of these.
    pub fn place_of(&self, tail: &str, keys: &[Key]) -> Option<usize> {
        let starts = tail.match_indices(&*self.pair).map(|(at, found)| at + found.len());
        let mut starts =
            [0, self.first.len()].into_iter().chain(starts).filter(|at| tail.is_char_boundary(*at));
        starts.find(|at| self.told_at(&tail[*at..]).flatten().is_some_and(|key| keys.contains(&key)))
    }
}

/// Where `separator` stands first.
fn find(text: &str, separator: &str) -> Option<usize> {
    match separator.as_bytes() {
        [byte] => memchr::memchr(*byte, text.as_bytes()),
        _ => text.find(separator),
    }
}

#[cfg(test)]
mod tests;
