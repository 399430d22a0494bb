//! The kinds of value that a profile is made of.
//!
//! Owns: how a key's meaning, a separator, a set of characters is written, and
//! objects of any keys.
//! Must not know: which field it stands in.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::{KeyEntry, KeyObject, ProfileEntry};
use crate::config::read::Later;
use crate::config::values::{FromText, deserialize_text, text};
use crate::core::profile::{Chars, To, Unit};
use crate::core::session::label_key;

/// A profile, or a file or folder of profiles.
pub(in crate::config) enum ProfileItem {
    Path(String),
    Here(Box<ProfileEntry>),
}

impl<'de> Deserialize<'de> for ProfileItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = ProfileItem;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a profile, or the path of a file or folder of profiles")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<ProfileItem, E> {
                Ok(ProfileItem::Path(path.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProfileItem, A::Error> {
                let entry = ProfileEntry::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ProfileItem::Here(Box::new(entry)))
            }
        }
        deserializer.deserialize_any(ItemVisitor)
    }
}

impl JsonSchema for ProfileItem {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ProfileItem".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let profile = generator.subschema_for::<ProfileEntry>();
        json_schema!({ "anyOf": [{ "type": "string", "minLength": 1 }, profile] })
    }
}

impl<'de> Deserialize<'de> for KeyEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = KeyObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or an object with \"to\"", Meaning::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeyObject, E> {
                let to = Meaning::from_text(text).map_err(E::custom)?;
                Ok(KeyObject { to, ..KeyObject::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeyObject, A::Error> {
                KeyObject::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(KeyVisitor).map(Self)
    }
}

impl JsonSchema for KeyEntry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "KeyOrMeaning".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<Meaning>();
        let object = generator.subschema_for::<KeyObject>();
        json_schema!({ "description": "What it tells of.", "anyOf": [word, object] })
    }
}

/// An object of any keys, in their order.
pub(in crate::config) struct Keyed<T>(pub(in crate::config) Vec<(String, Later<T>)>);

impl<'de, T> Deserialize<'de> for Keyed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Pairs::deserialize(deserializer, "an object of keys").map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for Keyed<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Keyed{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let each = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": each })
    }
}

/// Words that mean others, or nothing.
pub(in crate::config) struct Words(pub(in crate::config) Vec<(String, Option<String>)>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Pairs::deserialize(deserializer, "an object of words").map(Self)
    }
}

impl JsonSchema for Words {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": ["string", "null"] } })
    }
}

/// Reads an object of any keys.
struct Pairs<V>(&'static str, PhantomData<V>);

impl<'de, V: Deserialize<'de>> Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(
        from: D,
        expected: &'static str,
    ) -> Result<Vec<(String, V)>, D::Error> {
        from.deserialize_map(Self(expected, PhantomData))
    }
}

impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
    type Value = Vec<(String, V)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

text! {
    ProfileName { "pattern": "^[a-z0-9][a-z0-9-]{0,63}$" }
    KeyName { "pattern": "^[!-9;-~]{1,64}$" }
    Prefix { "pattern": "^[!-9;-~]{0,64}$" }
    Separator { "pattern": "^[!-/;-@\\[-`{-~]{0,4}$" }
    Meaning { "enum": [
        "session", "ttl", "idle", "pool", "exit", "failover", "ignore", "continent", "country", "region",
        "state", "city", "zip", "asn", "isp", "type", "tag"
    ] }
    UnitText { "enum": ["s", "m", "h", "d", "written"] }
    CharsText { "pattern": "^[!-9;-~]+$" }
}

/// A profile's name.
#[derive(Clone, Debug)]
pub(in crate::config) struct ProfileName(pub(in crate::config) String);

impl FromText for ProfileName {
    const EXPECTED: &'static str = "1 to 64 lower-case letters, digits and hyphens";

    fn from_text(text: &str) -> Result<Self, String> {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        match (1..=64).contains(&text.len()) && text.bytes().all(fine) && !text.starts_with('-') {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("expected {}", Self::EXPECTED)),
        }
    }
}

/// A key of a profile.
#[derive(Clone, Debug)]
pub(in crate::config) struct KeyName(pub(in crate::config) String);

impl FromText for KeyName {
    const EXPECTED: &'static str = "1 to 64 visible ASCII characters without a colon";

    fn from_text(text: &str) -> Result<Self, String> {
        match !text.is_empty() && is_literal(text, 64) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("expected {}", Self::EXPECTED)),
        }
    }
}

/// What a username begins with.
#[derive(Clone, Debug)]
pub(in crate::config) struct Prefix(pub(in crate::config) String);

impl FromText for Prefix {
    const EXPECTED: &'static str = "at most 64 visible ASCII characters without a colon";

    fn from_text(text: &str) -> Result<Self, String> {
        match is_literal(text, 64) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("expected {}", Self::EXPECTED)),
        }
    }
}

/// What stands between two parts.
#[derive(Clone, Debug)]
pub(in crate::config) struct Separator(pub(in crate::config) String);

impl FromText for Separator {
    const EXPECTED: &'static str = "1 to 4 ASCII punctuation marks, no colon";

    fn from_text(text: &str) -> Result<Self, String> {
        match is_literal(text, 4) && text.bytes().all(|b| b.is_ascii_punctuation()) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("expected {}", Self::EXPECTED)),
        }
    }
}

fn is_literal(text: &str, most: usize) -> bool {
    text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic() && b != b':')
}

/// What a key tells of.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Meaning(pub(in crate::config) To);

impl Default for Meaning {
    fn default() -> Self {
        Self(To::Ignore)
    }
}

impl FromText for Meaning {
    const EXPECTED: &'static str =
        "\"session\", \"ttl\", \"idle\", \"pool\", \"exit\", \"failover\", a label, or \"ignore\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let to = match text {
            "session" => To::Session,
            "ttl" => To::Ttl,
            "idle" => To::Idle,
            "pool" => To::Pool,
            "exit" => To::Exit,
            "failover" => To::Failover,
            "ignore" => To::Ignore,
            label => To::Label(label_key(label).ok_or_else(|| format!("expected {}", Self::EXPECTED))?),
        };
        Ok(Self(to))
    }
}

/// How a duration is written.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct UnitText(pub(in crate::config) Unit);

impl FromText for UnitText {
    const EXPECTED: &'static str = "\"s\", \"m\", \"h\", \"d\" or \"written\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let unit = match text {
            "s" => Unit::Seconds(1),
            "m" => Unit::Seconds(60),
            "h" => Unit::Seconds(3600),
            "d" => Unit::Seconds(86_400),
            "written" => Unit::Written,
            _ => return Err(format!("expected {}", Self::EXPECTED)),
        };
        Ok(Self(unit))
    }
}

/// What a session id is made of.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct CharsText(pub(in crate::config) Chars);

impl FromText for CharsText {
    const EXPECTED: &'static str = "visible ASCII characters and ranges, such as \"A-Za-z0-9_\"";

    fn from_text(text: &str) -> Result<Self, String> {
        Chars::parse(text).map(Self).ok_or_else(|| format!("expected {}", Self::EXPECTED))
    }
}
