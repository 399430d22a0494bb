//! What the parameters of another grammar say.
//!
//! Owns: how a tail is read with a profile's keys, positions and separators.
//! Must not know: any vendor; what a session, a pool or a label is good for.

use std::time::Duration;

use super::{Chars, Position, Profile, Reach, Rule, Shape, To, Unit, find};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::pool::Failover;
use crate::core::session::{SessionId, fold};
use crate::core::time::{DurationError, Ttl, parse_duration};
use crate::core::username::{
    At, Key, ParameterError, Parameters, Writing, duplicate, failover, name, shown, uuid_length,
};

/// Reads what follows the user's name, or the secret.
pub(super) fn read(profile: &Profile, tail: &str) -> Result<Parameters, ParameterError> {
    let mut reading = Reading { profile, tail, said: Parameters::default(), seen: 0, rotates: false };
    reading.said.clamp = profile.clamp;
    if !tail.is_empty() {
        let start = if tail.starts_with(&*profile.first) { profile.first.len() } else { 0 };
        if let Some(at) = reading.positions(start)? {
            reading.pairs(at)?;
        }
    }
    if reading.rotates {
        (reading.said.session, reading.said.ttl, reading.said.idle) = (None, None, None);
    }
    Ok(reading.said)
}

struct Reading<'r> {
    profile: &'r Profile,
    tail: &'r str,
    said: Parameters,
    /// Which keys there were, by their number.
    seen: u64,
    rotates: bool,
}

impl Reading<'_> {
    /// Takes the values without a key; where the first key is, if one is.
    fn positions(&mut self, start: usize) -> Result<Option<usize>, ParameterError> {
        let (profile, tail) = (self.profile, self.tail);
        let mut at = start;
        for position in &profile.positions {
            let mut missing = position.required;
            loop {
                let item = &tail[at..];
                let item = &item[..find(item, &profile.pair).unwrap_or(item.len())];
                if !self.fits(position, at, item) {
                    break;
                }
                missing = false;
                self.apply(&position.rule, item).map_err(|fault| fault.at(at))?;
                at += item.len();
                if at == tail.len() {
                    return self.complete(position).map_err(|fault| fault.at(at));
                }
                at += profile.pair.len();
                if !position.rule.repeats {
                    break;
                }
            }
            if missing {
                return Err(misplaced(position, &tail[at..]).at(at));
            }
        }
        Ok(Some(at))
    }

    /// At the end of the tail, nothing may be missing behind this position.
    fn complete(&self, last: &Position) -> Result<Option<usize>, Fault> {
        let behind =
            self.profile.positions.iter().skip_while(|position| !std::ptr::eq(*position, last)).skip(1);
        match behind.into_iter().find(|position| position.required) {
            Some(missing) => Err(misplaced(missing, "")),
            None => Ok(None),
        }
    }

    fn fits(&self, position: &Position, at: usize, item: &str) -> bool {
        let (key, has_value) = self.profile.key_at(&self.tail[at..]);
        let is_key = self.profile.rule(key).is_some_and(|(_, rule)| has_value || rule.flag.is_some());
        if item.is_empty() || is_key {
            return false;
        }
        let rule = &position.rule;
        let is_word = rule.rotates(item) || rule.meaning(item).is_some();
        is_word
            || match position.shape {
                Shape::Known => false,
                Shape::Letters(count) => {
                    item.len() == usize::from(count) && item.bytes().all(|b| b.is_ascii_alphabetic())
                }
                Shape::Digits => item.bytes().all(|b| b.is_ascii_digit()),
                Shape::Any => true,
            }
    }

    fn pairs(&mut self, start: usize) -> Result<(), ParameterError> {
        let (profile, tail) = (self.profile, self.tail);
        let mut at = start;
        loop {
            let (key, has_value) = profile.key_at(&tail[at..]);
            let Some((number, rule)) = profile.rule(key) else {
                return Err(unknown(profile, key).at(at));
            };
            let end = at + key.len();
            // Where both separators are one, nobody could tell whether a
            // flag's neighbour is its value.
            let is_flag = rule.flag.is_some() && (!has_value || profile.value == profile.pair);
            let value = if is_flag { end..end } else { self.value(rule, end, has_value) };
            self.once(number, rule).map_err(|fault| fault.at(at))?;
            let (said, place) = match &rule.flag {
                Some(meaning) if is_flag => (&**meaning, at),
                _ => (&tail[value.clone()], value.start),
            };
            self.apply(rule, said).map_err(|fault| fault.at(place))?;
            if value.end == tail.len() {
                return Ok(());
            }
            at = value.end + profile.pair.len();
        }
    }

    /// Where the value is of a key that ends at `end`.
    fn value(&self, rule: &Rule, end: usize, has_value: bool) -> std::ops::Range<usize> {
        let (profile, tail) = (self.profile, self.tail);
        let start = if has_value { end + profile.value.len() } else { end };
        let text = &tail[start..];
        let length = match rule.reach {
            Reach::Uuid if uuid_length(text).is_some() => 36,
            Reach::Pair | Reach::Uuid => find(text, &profile.pair).unwrap_or(text.len()),
            Reach::Key => {
                let mut at = 0;
                loop {
                    let Some(found) = find(&text[at..], &profile.pair) else { break text.len() };
                    let next = at + found + profile.pair.len();
                    let (key, has_value) = profile.key_at(&text[next..]);
                    match profile.rule(key) {
                        Some((_, rule)) if has_value || rule.flag.is_some() => break at + found,
                        _ => at = next,
                    }
                }
            }
        };
        start..start + length
    }

    /// A key stands once, unless it may repeat; and so does what it tells of.
    fn once(&mut self, number: usize, rule: &Rule) -> Result<(), Fault> {
        let before = self.seen & (1 << (number % 64)) != 0;
        self.seen |= 1 << (number % 64);
        let told = rule.to.key().is_some_and(|key| self.said.has(key));
        if (before || told) && !rule.repeats {
            let name = &self.profile.keys[number].0;
            return Err(match rule.to.key() {
                Some(key) if key.name() == &**name => duplicate(key),
                Some(key) => twice(&format!("{} (here {name})", key.name())),
                None => twice(name),
            });
        }
        Ok(())
    }

    fn apply(&mut self, rule: &Rule, written: &str) -> Result<(), Fault> {
        if let Some(failover) = rule.failover {
            self.fail_over(failover)?;
        }
        if rule.rotates(written) {
            self.rotates = true;
            return Ok(());
        }
        let stripped = rule.stripped(written);
        let value = match rule.meaning(stripped) {
            Some(Some(meaning)) => meaning,
            Some(None) => return Ok(()),
            None => stripped,
        };
        match rule.to {
            To::Session => self.said.session = Some(rule.session(value)?),
            To::Ttl => self.said.ttl = Some(rule.duration(value, Code::TtlInvalid, self.profile.clamp)?),
            To::Idle => self.said.idle = Some(rule.duration(value, Code::IdleInvalid, self.profile.clamp)?),
            To::Pool => self.said.pool = Some(name(value, Writing::Username, Code::ParameterInvalid)?),
            To::Exit => self.said.exit = Some(name(value, Writing::Username, Code::ExitUnknown)?),
            To::Failover => self.fail_over(failover(value)?)?,
            To::Label(label) => self.label(label, rule.label(label, value)?)?,
            To::Ignore if value.is_empty() && rule.flag.is_none() => {
                return Err(Fault::new(Code::ParameterInvalid, "a key needs a value"));
            }
            To::Ignore => {}
        }
        Ok(())
    }

    fn fail_over(&mut self, failover: Failover) -> Result<(), Fault> {
        match self.said.failover.replace(failover) {
            Some(before) if before != failover => {
                let detail = "two keys say different things of failover: send one of them";
                Err(Fault::new(Code::ParameterConflict, detail))
            }
            _ => Ok(()),
        }
    }

    fn label(&mut self, label: &'static str, value: Box<str>) -> Result<(), Fault> {
        match self.said.labels.iter().find(|(key, _)| *key == label) {
            None => {
                self.said.labels.push((label, value));
                Ok(())
            }
            Some((_, before)) if fold(before) == fold(&value) => Ok(()),
            Some(_) => Err(several(label)),
        }
    }
}

impl Rule {
    /// Whether the value asks for another exit with each request.
    fn rotates(&self, value: &str) -> bool {
        self.rotate.iter().any(|known| known.eq_ignore_ascii_case(value))
    }

    /// The value without what it need not begin with.
    fn stripped<'v>(&self, value: &'v str) -> &'v str {
        let Some(strip) = &self.strip else { return value };
        match value.get(..strip.len()) {
            Some(start) if start.eq_ignore_ascii_case(strip) => &value[strip.len()..],
            _ => value,
        }
    }

    /// What the value stands for, if for something else; nothing at all is
    /// `Some(None)`.
    fn meaning(&self, value: &str) -> Option<Option<&str>> {
        let found = self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(value))?;
        Some(found.1.as_deref())
    }

    fn session(&self, value: &str) -> Result<SessionId, Fault> {
        // What begins with `@` is made of what is at hand (`ask`).
        let fine = value.len() <= usize::from(self.longest)
            && value.bytes().all(|b| self.chars.has(b))
            && !value.starts_with('@')
            || self.reach == Reach::Uuid && uuid_length(value) == Some(value.len());
        SessionId::new(value).filter(|_| fine).ok_or_else(|| {
            let made =
                if self.chars == Chars::VISIBLE { "visible ASCII characters" } else { "its characters" };
            let detail = format!("a session id of this profile is 1 to {} of {made}", self.longest);
            Fault::new(Code::SessionInvalid, detail)
        })
    }

    fn duration(&self, value: &str, invalid: Code, clamp: bool) -> Result<Ttl, Fault> {
        let written = match self.unit {
            Unit::Written => parse_duration(value),
            Unit::Seconds(_) if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) => {
                Err(DurationError::Malformed)
            }
            Unit::Seconds(each) => value
                .parse::<u64>()
                .ok()
                .and_then(|count| count.checked_mul(u64::from(each)))
                .map(Duration::from_secs)
                .ok_or(DurationError::TooLarge),
        };
        let exact = match written {
            Err(DurationError::Malformed) => return Err(self.no_duration(value, invalid)),
            Err(DurationError::TooLarge) => None,
            Ok(duration) => Some(duration),
        };
        let ttl = exact.and_then(Ttl::from_duration);
        match ttl.filter(|ttl| (self.min..=self.max).contains(ttl)) {
            Some(ttl) => Ok(ttl),
            None if clamp && exact.is_some_and(|exact| exact < self.min.as_duration()) => Ok(self.min),
            None if clamp => Ok(self.max),
            None => {
                let detail = format!("{} is not between {} and {}", shown(value), self.min, self.max);
                Err(Fault::new(Code::TtlOutOfRange, detail))
            }
        }
    }

    fn no_duration(&self, value: &str, invalid: Code) -> Fault {
        let wanted = match self.unit {
            Unit::Written => "a duration: write 90s, 10m, 1h30m, 24h or 7d".to_owned(),
            Unit::Seconds(1) => "a whole number of seconds".to_owned(),
            Unit::Seconds(60) => "a whole number of minutes".to_owned(),
            Unit::Seconds(3600) => "a whole number of hours".to_owned(),
            Unit::Seconds(each) => format!("a whole number, of {each} seconds each"),
        };
        Fault::new(invalid, format!("{} is not {wanted}", shown(value)))
    }

    fn label(&self, label: &'static str, value: &str) -> Result<Box<str>, Fault> {
        if self.list.is_some_and(|separator| value.contains(separator)) {
            return Err(several(label));
        }
        let fine =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-' | '+' | ' ' | '\'');
        if value.len() > 128 || !value.chars().all(fine) || fold(value).is_empty() {
            let detail = format!("{label} needs a value of letters and digits, not {}", shown(value));
            return Err(Fault::new(Code::ParameterInvalid, detail));
        }
        Ok(value.into())
    }
}

fn unknown(profile: &Profile, key: &str) -> Fault {
    let hint = match profile.nearest_key(key) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("profile {} has no such key", profile.name),
    };
    Fault::new(Code::ParameterUnknown, format!("unknown parameter {}: {hint}", shown(key)))
}

fn misplaced(position: &Position, item: &str) -> Fault {
    let what = match position.rule.to {
        To::Label(label) => label,
        to => to.key().map_or("word", Key::name),
    };
    let words: Vec<_> = position.rule.values.iter().map(|(word, _)| &**word).take(8).collect();
    let wanted = if words.is_empty() { String::new() } else { format!(", such as {}", words.join(", ")) };
    Fault::new(Code::ParameterInvalid, format!("expected a {what}{wanted}, not {}", shown(item)))
}

fn several(label: &str) -> Fault {
    Fault::new(Code::ParameterInvalid, format!("{label} has several values: name one"))
}

fn twice(name: &str) -> Fault {
    Fault::new(Code::ParameterDuplicate, format!("{name} is given twice"))
}
