//! The grammar of SPEC §2: what a username, or a `Moorgate-*` field, says.
//!
//! Owns: [`Parameters`], how they are read and printed, the nearest key for
//! a typo.
//! Must not know: which users, pools or exits exist; other vendors' grammars.

use std::fmt::{self, Write as _};

use super::code::Code;
use super::fault::Fault;
use super::pool::{Failover, NameRef, is_value_char};
use super::session::{LABEL_KEYS, SessionId, fold, label_key};
use super::time::{DurationError, Ttl, parse_duration};
use super::typo::nearest;

/// The longest username, in bytes.
pub const MAX_USERNAME: usize = 512;
/// The longest user's name, in bytes.
pub const MAX_USER: usize = 64;
const MAX_VALUE: usize = 128;

/// What a client asks for, as far as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The session's name.
    pub session: Option<SessionId>,
    /// How long its pin lives.
    pub ttl: Option<Ttl>,
    /// How long it may be unused.
    pub idle: Option<Ttl>,
    /// Which pool.
    pub pool: Option<NameRef>,
    /// What happens when the pinned exit is down.
    pub failover: Option<Failover>,
    /// Which exit.
    pub exit: Option<NameRef>,
    /// Label key and value as written, in the order given.
    pub labels: Vec<(&'static str, Box<str>)>,
}

/// A parameter that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError {
    /// What is wrong, for the client.
    pub fault: Fault,
    /// Where, as bytes from the start of the text that was read.
    pub at: usize,
}

/// A parameter's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `session`, `sessid`, `sess`, `sid`.
    Session,
    /// `ttl`.
    Ttl,
    /// `idle`.
    Idle,
    /// `pool`.
    Pool,
    /// `failover`.
    Failover,
    /// `exit`.
    Exit,
    /// A label.
    Label(&'static str),
}

const KEYS: [(&str, Key); 9] = [
    ("session", Key::Session),
    ("sessid", Key::Session),
    ("sess", Key::Session),
    ("sid", Key::Session),
    ("ttl", Key::Ttl),
    ("idle", Key::Idle),
    ("pool", Key::Pool),
    ("failover", Key::Failover),
    ("exit", Key::Exit),
];

impl Key {
    /// The key of this name, in any case.
    pub fn find(name: &str) -> Option<Self> {
        let plain = KEYS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, key)| *key);
        plain.or_else(|| label_key(name).map(Self::Label))
    }

    /// Its first name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Label(name) => name,
            key => KEYS.iter().find(|(_, k)| *k == key).map_or("", |(name, _)| name),
        }
    }
}

/// Splits a username into the user and what follows its name: `None` for no
/// known user. The user is the longest name that is the whole username or is
/// followed in it by `-`.
pub fn split_user(username: &str, mut is_user: impl FnMut(&str) -> bool) -> Option<(&str, &str)> {
    if username.len() > MAX_USERNAME {
        return None;
    }
    let whole = (username.len() <= MAX_USER).then_some((username, ""));
    let cuts = username.bytes().enumerate().take(MAX_USER + 1).filter(|(_, b)| *b == b'-').map(|(at, _)| at);
    let shorter: Vec<_> = cuts.map(|at| (&username[..at], &username[at..])).collect();
    whole.into_iter().chain(shorter.into_iter().rev()).find(|(user, _)| is_user(user))
}

/// Reads what follows the user's name: nothing, or `-key-value` pairs.
///
/// # Errors
/// The first thing that is wrong, from left to right, and where.
pub fn parse(tail: &str) -> Result<Parameters, ParameterError> {
    let mut parameters = Parameters::default();
    let mut rest = tail;
    while let Some(pair) = rest.strip_prefix('-') {
        let at = tail.len() - pair.len();
        let (name, after) = pair.split_at(pair.find('-').unwrap_or(pair.len()));
        let key = Key::find(name).ok_or_else(|| unknown(name).at(at))?;
        let value = after.strip_prefix('-').unwrap_or("");
        let length = match key {
            Key::Session if uuid_length(value).is_some() => 36,
            _ => value.find('-').unwrap_or(value.len()),
        };
        let at_value = tail.len() - value.len();
        if parameters.has(key) {
            return Err(duplicate(key).at(at));
        }
        parameters.set(key, &value[..length], Writing::Username).map_err(|fault| fault.at(at_value))?;
        rest = &value[length..];
    }
    Ok(parameters)
}

trait At {
    fn at(self, at: usize) -> ParameterError;
}

impl At for Fault {
    fn at(self, at: usize) -> ParameterError {
        ParameterError { fault: self, at }
    }
}

/// How a parameter reached us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// In the username: `_` in a name stands for what a value cannot hold.
    Username,
    /// In a field of its own: names are written as they are.
    Field,
}

/// 36 where `text` begins with a UUID that ends there or before a `-`.
fn uuid_length(text: &str) -> Option<usize> {
    let head = text.as_bytes().get(..36)?;
    let shaped = head.iter().enumerate().all(|(at, b)| match at {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_hexdigit(),
    });
    let ends = matches!(text.as_bytes().get(36), None | Some(b'-'));
    (shaped && ends).then_some(36)
}

impl Parameters {
    /// Takes over a `Moorgate-*` request field. The name is without the
    /// prefix; the text is the field's value. A field that is none of ours,
    /// nor nearly, says nothing: another gateway may mean something by it.
    ///
    /// # Errors
    /// A typo of a field's name, one given twice, a value that is not of its
    /// kind.
    pub fn take_field(&mut self, name: &str, text: &str) -> Result<(), Fault> {
        if name.eq_ignore_ascii_case("label") {
            return text.split(',').try_for_each(|pair| self.take_label(pair.trim()));
        }
        let key = match Key::find(name) {
            Some(key) if FIELDS.contains(&key.name()) && key.name().eq_ignore_ascii_case(name) => key,
            _ => return known_field(name),
        };
        if self.has(key) {
            return Err(duplicate(key));
        }
        self.set(key, text, Writing::Field)
    }

    fn take_label(&mut self, pair: &str) -> Result<(), Fault> {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Fault::new(
                Code::ParameterInvalid,
                "Moorgate-Label is a list such as country=us, city=boston",
            ));
        };
        let key = label_key(name.trim()).map(Key::Label).ok_or_else(|| unknown(name.trim()))?;
        if self.has(key) {
            return Err(duplicate(key));
        }
        self.set(key, value.trim(), Writing::Field)
    }

    /// Whether a key was given.
    pub fn has(&self, key: Key) -> bool {
        match key {
            Key::Session => self.session.is_some(),
            Key::Ttl => self.ttl.is_some(),
            Key::Idle => self.idle.is_some(),
            Key::Pool => self.pool.is_some(),
            Key::Failover => self.failover.is_some(),
            Key::Exit => self.exit.is_some(),
            Key::Label(label) => self.labels.iter().any(|(key, _)| *key == label),
        }
    }

    fn set(&mut self, key: Key, value: &str, writing: Writing) -> Result<(), Fault> {
        match key {
            Key::Session => self.session = Some(session(value)?),
            Key::Ttl => self.ttl = Some(ttl(value, Code::TtlInvalid)?),
            Key::Idle => self.idle = Some(ttl(value, Code::IdleInvalid)?),
            Key::Pool => self.pool = Some(name(value, writing, Code::ParameterInvalid)?),
            Key::Failover => self.failover = Some(failover(value)?),
            Key::Exit => self.exit = Some(name(value, writing, Code::ExitUnknown)?),
            Key::Label(label) => self.labels.push((label, label_value(label, value, writing)?)),
        }
        Ok(())
    }

    /// Joins what the username says with what the fields say.
    ///
    /// # Errors
    /// The same parameter with different values.
    pub fn join(mut self, other: Self) -> Result<Self, Fault> {
        both(&mut self.session, other.session, Key::Session, |a, b| a == b)?;
        both(&mut self.ttl, other.ttl, Key::Ttl, |a, b| a == b)?;
        both(&mut self.idle, other.idle, Key::Idle, |a, b| a == b)?;
        both(&mut self.pool, other.pool, Key::Pool, NameRef::agrees)?;
        both(&mut self.failover, other.failover, Key::Failover, |a, b| a == b)?;
        both(&mut self.exit, other.exit, Key::Exit, NameRef::agrees)?;
        for (key, value) in other.labels {
            match self.labels.iter().find(|(k, _)| *k == key) {
                None => self.labels.push((key, value)),
                Some((_, ours)) if fold(ours) == fold(&value) => {}
                Some(_) => return Err(conflict(Key::Label(key))),
            }
        }
        Ok(self)
    }
}

/// The exact writing wins where both agree: it is the narrower one.
fn both<T>(
    ours: &mut Option<T>,
    theirs: Option<T>,
    key: Key,
    agree: impl Fn(&T, &T) -> bool,
) -> Result<(), Fault> {
    match (&*ours, theirs) {
        (_, None) => Ok(()),
        (Some(a), Some(b)) if !agree(a, &b) => Err(conflict(key)),
        (_, theirs) => {
            *ours = theirs;
            Ok(())
        }
    }
}

/// A session's id as a client may name it.
///
/// # Errors
/// `session_invalid`.
pub fn session(value: &str) -> Result<SessionId, Fault> {
    let fine = value.len() <= MAX_VALUE && value.chars().all(is_value_char)
        || uuid_length(value) == Some(value.len());
    SessionId::new(value).filter(|_| fine).ok_or_else(|| {
        Fault::new(
            Code::SessionInvalid,
            "a session id is 1 to 128 of A-Z a-z 0-9 . _ ~, or a UUID with its hyphens",
        )
    })
}

fn ttl(value: &str, invalid: Code) -> Result<Ttl, Fault> {
    let range = || Fault::new(Code::TtlOutOfRange, format!("{} is not between 1s and 168h", shown(value)));
    match parse_duration(value) {
        Ok(duration) => Ttl::from_duration(duration).ok_or_else(range),
        Err(DurationError::TooLarge) => Err(range()),
        Err(DurationError::Malformed) => Err(Fault::new(
            invalid,
            format!("{} is not a duration: write 90s, 10m, 1h30m, 24h or 7d", shown(value)),
        )),
    }
}

fn failover(value: &str) -> Result<Failover, Fault> {
    match value.to_ascii_lowercase().as_str() {
        "on" => Ok(Failover::On),
        "off" => Ok(Failover::Off),
        "address" => Ok(Failover::Address),
        _ => Err(Fault::new(
            Code::FailoverInvalid,
            format!("failover is on, off or address, not {}", shown(value)),
        )),
    }
}

fn name(value: &str, writing: Writing, invalid: Code) -> Result<NameRef, Fault> {
    let fine = match writing {
        Writing::Username => value.len() <= MAX_VALUE && value.chars().all(is_value_char),
        Writing::Field => !value.chars().any(char::is_control),
    };
    match (fine && !value.is_empty(), writing) {
        (false, _) => Err(Fault::new(
            invalid,
            format!("{} is no name: in a username, _ stands for what a value cannot hold", shown(value)),
        )),
        (true, Writing::Username) => Ok(NameRef::Folded(value.into())),
        (true, Writing::Field) => Ok(NameRef::Exact(value.into())),
    }
}

fn label_value(label: &str, value: &str, writing: Writing) -> Result<Box<str>, Fault> {
    let fine = value.len() <= MAX_VALUE
        && match writing {
            Writing::Username => value.chars().all(is_value_char),
            Writing::Field => !value.chars().any(char::is_control),
        };
    if !fine || fold(value).is_empty() {
        let detail = format!("{label} needs a value of letters and digits, not {}", shown(value));
        return Err(Fault::new(Code::ParameterInvalid, detail));
    }
    Ok(value.into())
}

/// What a client wrote, quoted and cut for a sentence.
fn shown(value: &str) -> String {
    let short: String = value.chars().take(40).collect();
    if value.is_empty() { "nothing".to_owned() } else { format!("{short:?}") }
}

fn unknown(name: &str) -> Fault {
    let names = KEYS.iter().map(|(name, _)| *name).chain(LABEL_KEYS);
    let hint = match nearest(name, names) {
        Some(known) => format!("did you mean {known}?"),
        None => "the keys are session, ttl, idle, pool, failover, exit and labels such as country".to_owned(),
    };
    Fault::new(Code::ParameterUnknown, format!("unknown parameter {}: {hint}", shown(name)))
}

/// The names of our request fields, behind `Moorgate-`.
const FIELDS: [&str; 7] = ["session", "ttl", "idle", "pool", "failover", "exit", "label"];

/// A field that is nearly one of ours is a typo.
fn known_field(name: &str) -> Result<(), Fault> {
    let Some(meant) = nearest(name, FIELDS.into_iter()) else { return Ok(()) };
    let detail = format!("unknown field Moorgate-{}: did you mean Moorgate-{meant}?", name.escape_debug());
    Err(Fault::new(Code::ParameterUnknown, detail))
}

fn duplicate(key: Key) -> Fault {
    Fault::new(Code::ParameterDuplicate, format!("{} is given twice", key.name()))
}

fn conflict(key: Key) -> Fault {
    let detail = format!("username and header name a different {}: send one, or the same", key.name());
    Fault::new(Code::ParameterConflict, detail)
}

/// The pairs as a username's tail; what [`parse`] reads back.
impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(session) = &self.session {
            write!(f, "-session-{session}")?;
        }
        for (name, ttl) in [("ttl", self.ttl), ("idle", self.idle)] {
            if let Some(ttl) = ttl {
                write!(f, "-{name}-{}s", ttl.as_secs())?;
            }
        }
        if let Some(pool) = &self.pool {
            write!(f, "-pool-{}", super::pool::fold_name(pool.as_str()))?;
        }
        if let Some(failover) = self.failover {
            write!(f, "-failover-{}", failover.word())?;
        }
        if let Some(exit) = &self.exit {
            write!(f, "-exit-{}", super::pool::fold_name(exit.as_str()))?;
        }
        for (key, value) in &self.labels {
            f.write_char('-')?;
            write!(f, "{key}-{}", super::pool::fold_name(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
