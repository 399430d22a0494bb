//! One profile: its prefixes, separators, positions and keys.
//!
//! Owns: that nothing in it stands in another's way.
//! Must not know: which profiles there are.

use super::{Reading, examples};
use crate::config::locate::NodeId;
use crate::config::profiles::{
    KeyEntry, KeyObject, PlaceWord, PositionEntry, ProfileEntry, RangeWord, ReachWord, Separator, ShapeWord,
    UserWord,
};
use crate::core::profile::{Chars, Naming, Place, Position, Profile, Reach, Rule, Shape, To};

/// So many of each may stand in a profile.
const PREFIXES_MAX: usize = 16;
const POSITIONS_MAX: usize = 8;
/// Keys that were given are remembered in 64 bits.
const KEYS_MAX: usize = 64;
const WORDS_MAX: usize = 512;

/// What is meant; its examples are tried.
pub(super) fn profile(reading: &mut Reading<'_>, node: NodeId, written: &ProfileEntry) -> Option<Profile> {
    let before = reading.findings.count();
    let separators = written.separators.as_ref();
    let text = |separator: Option<&Separator>, default: &str| -> Box<str> {
        separator.map_or(default, |separator| &*separator.0).into()
    };
    let pair = text(separators.and_then(|all| all.pair.as_ref()), "-");
    let value = text(separators.and_then(|all| all.value.as_ref()), "-");
    let first = text(separators.and_then(|all| all.first.as_ref()), &pair);
    let place = match written.place {
        None | Some(PlaceWord::Username) => Place::Username,
        Some(PlaceWord::Password) => Place::Password,
    };
    let mut made = Profile {
        name: written.name.0.as_str().into(),
        own: false,
        place,
        prefixes: prefixes(reading, node, written),
        user: naming(reading, node, written, place),
        first,
        pair,
        value,
        positions: Vec::new(),
        keys: Vec::new(),
        clamp: written.out_of_range == Some(RangeWord::Clamp),
        ttl: written.ttl.map(|ttl| ttl.0),
        idle: written.idle.map(|idle| idle.0),
    };
    separated(reading, node, &made);
    keys(reading, node, written, &mut made);
    positions(reading, node, written, &mut made);
    if reading.findings.count() == before {
        examples::tried(reading, node, written, &made);
    }
    (reading.findings.count() == before).then_some(made)
}

fn prefixes(reading: &mut Reading<'_>, node: NodeId, written: &ProfileEntry) -> Vec<Box<str>> {
    let Some(prefixes) = &written.prefixes else { return vec!["".into()] };
    if prefixes.is_empty() || prefixes.len() > PREFIXES_MAX {
        reading.complain(node, &["prefixes"], format!("expected 1 to {PREFIXES_MAX} prefixes"));
    }
    let mut prefixes: Vec<Box<str>> = prefixes.iter().map(|prefix| prefix.0.as_str().into()).collect();
    prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
    prefixes
}

fn naming(reading: &mut Reading<'_>, node: NodeId, written: &ProfileEntry, place: Place) -> Naming {
    match (&written.user_key, written.user) {
        (Some(_), Some(UserWord::Secret)) => {
            reading.complain(node, &["user_key"], "a user found by its secret has no key");
            Naming::Secret
        }
        (Some(_), _) if place == Place::Password => {
            reading.complain(
                node,
                &["user_key"],
                "where parameters are in the password, the username is the name",
            );
            Naming::First
        }
        (Some(key), _) => Naming::Key(key.0.to_ascii_lowercase().into()),
        (None, Some(UserWord::Secret)) if place == Place::Password => {
            reading.complain(node, &["user"], "a secret with parameters behind it finds no user");
            Naming::First
        }
        (None, Some(UserWord::Secret)) => Naming::Secret,
        (None, None | Some(UserWord::First)) => Naming::First,
    }
}

fn separated(reading: &mut Reading<'_>, node: NodeId, made: &Profile) {
    for (key, separator) in [("pair", &made.pair), ("value", &made.value)] {
        if separator.is_empty() {
            reading.complain(node, &["separators", key], "expected at least one character");
        }
    }
    if made.first.is_empty() && made.user == Naming::First {
        reading.complain(node, &["separators", "first"], "expected something between name and parameters");
    }
    if made.pair != made.value && (made.pair.contains(&*made.value) || made.value.contains(&*made.pair)) {
        reading.complain(node, &["separators", "value"], "one separator is a part of the other");
    }
}

fn keys(reading: &mut Reading<'_>, node: NodeId, written: &ProfileEntry, made: &mut Profile) {
    if written.keys.0.len() > KEYS_MAX {
        reading.complain(node, &["keys"], format!("expected at most {KEYS_MAX} keys"));
    }
    for (name, later) in &written.keys.0 {
        let Some(entry) = later.read(reading.document, reading.findings) else { continue };
        let fine = |b: u8| b.is_ascii_graphic() && b != b':';
        let whole = !name.contains(&*made.pair) && !name.contains(&*made.value);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fine) || !whole {
            let message = "expected a key of 1 to 64 visible characters without a colon or a separator";
            reading.complain(later.node, &[], message);
        }
        let name = name.to_ascii_lowercase().into_boxed_str();
        let is_user = matches!(&made.user, Naming::Key(user) if *user == name);
        if is_user || made.keys.iter().any(|(known, _)| *known == name) {
            reading.complain(later.node, &[], "this key stands in the profile before, in some letter case");
        }
        let rule = rule(reading, later.node, &entry);
        made.keys.push((name, rule));
    }
}

fn positions(reading: &mut Reading<'_>, node: NodeId, written: &ProfileEntry, made: &mut Profile) {
    let Some(positions) = &written.positions else { return };
    if positions.len() > POSITIONS_MAX {
        reading.complain(node, &["positions"], format!("expected at most {POSITIONS_MAX} positions"));
    }
    if made.place == Place::Password && !positions.is_empty() {
        let message = "behind a secret, only a key tells where parameters begin";
        reading.complain(node, &["positions"], message);
    }
    for later in positions {
        let Some(entry) = later.read(reading.document, reading.findings) else { continue };
        let shape = shape(reading, later.node, &entry);
        let means = reading.document.below(later.node, &["means"]);
        if entry.means.0.flag.is_some() {
            reading.complain(means, &["flag"], "a value without a key is no flag");
        }
        if entry.means.0.reach.is_some_and(|reach| reach != ReachWord::Pair) {
            reading.complain(means, &["reach"], "a value without a key goes to the next separator");
        }
        let rule = rule(reading, means, &entry.means);
        if shape == Shape::Known && rule.values.is_empty() && rule.rotate.is_empty() {
            reading.complain(later.node, &["shape"], "expected \"values\" or \"rotate\" with the words");
        }
        made.positions.push(Position { shape, required: entry.required == Some(true), rule });
    }
}

fn shape(reading: &mut Reading<'_>, node: NodeId, entry: &PositionEntry) -> Shape {
    if entry.length.is_some() != (entry.shape == ShapeWord::Letters) {
        reading.complain(node, &["shape"], "\"letters\" has a \"length\", and nothing else has one");
    }
    match entry.shape {
        ShapeWord::Words => Shape::Known,
        ShapeWord::Letters => {
            Shape::Letters(entry.length.and_then(|length| u8::try_from(length.0).ok()).unwrap_or(1))
        }
        ShapeWord::Digits => Shape::Digits,
        ShapeWord::Any => Shape::Any,
    }
}

fn rule(reading: &mut Reading<'_>, node: NodeId, KeyEntry(written): &KeyEntry) -> Rule {
    fitting(reading, node, written);
    let plain = Rule::plain(written.to.0);
    let (min, max) = (written.min.map_or(plain.min, |min| min.0), written.max.map_or(plain.max, |max| max.0));
    if min > max {
        reading.complain(node, &["min"], "expected no more than \"max\"");
    }
    let words = written.values.as_ref().map_or(0, |words| words.0.len());
    if words > WORDS_MAX || written.rotate.as_ref().is_some_and(|words| words.len() > WORDS_MAX) {
        reading.complain(node, &["values"], format!("expected at most {WORDS_MAX} words"));
    }
    let values = written.values.iter().flat_map(|words| &words.0);
    Rule {
        unit: written.unit.map_or(plain.unit, |unit| unit.0),
        min,
        max,
        flag: written.flag.as_deref().map(Into::into),
        repeats: written.repeats == Some(true),
        reach: match written.reach {
            None | Some(ReachWord::Pair) => Reach::Pair,
            Some(ReachWord::Uuid) => Reach::Uuid,
            Some(ReachWord::Key) => Reach::Key,
        },
        rotate: written.rotate.iter().flatten().map(|word| word.as_str().into()).collect(),
        strip: written.strip.as_ref().map(|strip| strip.0.as_str().into()),
        values: values
            .map(|(word, meant)| (word.as_str().into(), meant.as_deref().map(Into::into)))
            .collect(),
        failover: written.failover.map(Into::into),
        chars: written.chars.map_or(Chars::VISIBLE, |chars| chars.0),
        longest: written.longest.and_then(|longest| u8::try_from(longest.0).ok()).unwrap_or(plain.longest),
        list: written.list.as_ref().map_or(plain.list, |list| list.0.chars().next()),
        ..plain
    }
}

/// Whether what is said of a key can be said of what it tells of.
fn fitting(reading: &mut Reading<'_>, node: NodeId, written: &KeyObject) {
    let to = written.to.0;
    let lasts = matches!(to, To::Ttl | To::Idle);
    if lasts && written.unit.is_none() {
        let message = "expected a \"unit\" beside it: \"s\", \"m\", \"h\", \"d\" or \"written\"";
        reading.complain(node, &["to"], message);
    }
    let of_durations =
        [("unit", written.unit.is_some()), ("min", written.min.is_some()), ("max", written.max.is_some())];
    for (key, _) in of_durations.iter().filter(|(_, is_there)| *is_there && !lasts) {
        reading.complain(node, &[*key], "only a ttl or an idle time has one");
    }
    let of_sessions = [("chars", written.chars.is_some()), ("longest", written.longest.is_some())];
    for (key, _) in of_sessions.iter().filter(|(_, is_there)| *is_there && to != To::Session) {
        reading.complain(node, &[*key], "only a session has one");
    }
    if written.repeats == Some(true) && !matches!(to, To::Label(_) | To::Ignore) {
        reading.complain(node, &["repeats"], "only a label, or what is ignored, may stand more than once");
    }
}
