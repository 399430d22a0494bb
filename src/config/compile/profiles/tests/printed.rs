//! Whatever a profile can say, said in its own words and read back.

use super::*;
use crate::core::pool::{Failover, NameRef};
use crate::core::profile::{Naming, Place, Reach, Rule, Shape, To, Unit};
use crate::core::session::SessionId;
use crate::core::time::Ttl;
use crate::core::username::Parameters;

/// Chance, as far as a list of numbers goes.
struct Dice(std::vec::IntoIter<u32>);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0.next().unwrap_or_default() as usize % sides.max(1)
    }
}

/// A key's value, or a flag's absence, and what is meant by it.
fn say(rule: &Rule, dice: &mut Dice, meant: &mut Parameters) -> Option<String> {
    if let Some(failover) = rule.failover {
        if meant.failover.is_some_and(|before| before != failover) {
            return None;
        }
        meant.failover = Some(failover);
    }
    let word = format!("v{}", dice.roll(1000));
    let value = match rule.to {
        To::Session => {
            let parts = if rule.reach == Reach::Key { ["", "-b", "-b-c"][dice.roll(3)] } else { "" };
            let id = format!("{word}{parts}");
            meant.session = SessionId::new(&id);
            id
        }
        To::Ttl | To::Idle => {
            let (value, ttl) = duration(rule, dice);
            *(if rule.to == To::Ttl { &mut meant.ttl } else { &mut meant.idle }) = Some(ttl);
            value
        }
        To::Pool => {
            meant.pool = Some(NameRef::Folded(word.as_str().into()));
            word
        }
        To::Exit => {
            meant.exit = Some(NameRef::Folded(word.as_str().into()));
            word
        }
        To::Failover => {
            let words = ["on", "off", "address"].map(|word| (word.into(), Some(word.into())));
            let words = if rule.values.is_empty() { &words[..] } else { &rule.values };
            let (value, means) = &words[dice.roll(words.len())];
            meant.failover = match means.as_deref().unwrap() {
                "on" => Some(Failover::On),
                "off" => Some(Failover::Off),
                _ => Some(Failover::Address),
            };
            value.to_string()
        }
        To::Label(label) => {
            let known = rule.values.get(dice.roll(2 * rule.values.len().max(1)));
            let (value, means) = match known {
                Some((value, means)) => (value.to_string(), means.as_deref().map(str::to_owned)),
                None => (word.clone(), Some(word)),
            };
            meant.labels.extend(means.map(|means| (label, means.into())));
            format!("{}{value}", rule.strip.as_deref().filter(|_| known.is_none()).unwrap_or_default())
        }
        To::Ignore => word,
    };
    Some(value)
}

fn duration(rule: &Rule, dice: &mut Dice) -> (String, Ttl) {
    let (min, max) = (u64::from(rule.min.as_secs()), u64::from(rule.max.as_secs()));
    let secs = min + dice.roll(usize::try_from(max - min + 1).unwrap()) as u64;
    match rule.unit {
        Unit::Written => (format!("{secs}s"), Ttl::from_secs(secs).unwrap()),
        Unit::Seconds(each) => {
            let each = u64::from(each);
            let count = (secs / each).max(min.div_ceil(each));
            (count.to_string(), Ttl::from_secs(count * each).unwrap())
        }
    }
}

/// A credential in the profile's words, and what it means.
fn print(profile: &Profile, dice: &mut Dice) -> (String, String, Parameters) {
    let mut meant = Parameters { clamp: profile.clamp, ..Parameters::default() };
    let mut items: Vec<String> = Vec::new();
    for position in &profile.positions {
        if !position.required && dice.roll(2) == 0 {
            continue;
        }
        let rule = &position.rule;
        let (item, to) = match position.shape {
            Shape::Known => {
                let (word, means) = &rule.values[dice.roll(rule.values.len())];
                (word.to_string(), means.as_deref().map(str::to_owned))
            }
            Shape::Letters(count) => {
                let letters = "z".repeat(usize::from(count));
                (letters.clone(), Some(letters))
            }
            Shape::Digits | Shape::Any => (word(dice), None),
        };
        match rule.to {
            To::Label(label) => meant.labels.extend(to.map(|to| (label, to.into()))),
            _ => meant.session = SessionId::new(&item),
        }
        items.push(item);
    }
    let mut told = Vec::new();
    for (key, rule) in &profile.keys {
        let again = told.contains(&rule.to) && rule.to != To::Ignore;
        if again || dice.roll(3) > 0 || meant.session.is_some() && rule.to == To::Session {
            continue;
        }
        if meant.failover.is_some() && rule.to == To::Failover {
            continue;
        }
        let Some(value) = say(rule, dice, &mut meant) else { continue };
        told.push(rule.to);
        let key = if dice.roll(2) == 0 { key.to_string() } else { key.to_ascii_uppercase() };
        items.push(match rule.flag {
            Some(_) => key,
            None => format!("{key}{}{value}", profile.value),
        });
    }
    let prefix = &profile.prefixes[dice.roll(profile.prefixes.len())];
    if let Naming::Key(key) = &profile.user {
        items.insert(dice.roll(items.len() + 1), format!("{key}{}acme", profile.value));
    }
    let tail = items.join(&profile.pair);
    let tail = match (&profile.user, items.is_empty()) {
        (Naming::Key(_), _) | (_, true) => tail,
        _ => format!("{}{tail}", profile.first),
    };
    let (username, password) = match (&profile.user, profile.place) {
        (_, Place::Password) => (format!("{prefix}acme"), format!("sec_r-t{tail}")),
        (Naming::First, Place::Username) => (format!("{prefix}acme{tail}"), "sec_r-t".to_owned()),
        (_, Place::Username) => (format!("{prefix}{tail}"), "sec_r-t".to_owned()),
    };
    (username, password, meant)
}

fn word(dice: &mut Dice) -> String {
    dice.roll(10_000).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_printed_in_a_profile_reads_back(numbers in proptest::collection::vec(any::<u32>(), 64)) {
        for profile in all() {
            let (username, password, mut meant) = print(&profile, &mut Dice(numbers.clone().into_iter()));
            let known = |who: Who<'_>| matches!(who, Who::Name("acme") | Who::Secret("sec_r-t"));
            let cut = profile.cut(&username, &password, known);
            let Some(cut) = cut else { panic!("{}: {username}:{password} names nobody", profile.name) };
            prop_assert_eq!(cut.secret, "sec_r-t", "{}: {}", profile.name, password);
            let read = profile.read(&cut.tail);
            let Ok(mut read) = read else { panic!("{}: {username}:{password}: {read:?}", profile.name) };
            read.labels.sort();
            meant.labels.sort();
            prop_assert_eq!(read, meant, "{}: {}:{}", profile.name, username, password);
        }
    }
}
