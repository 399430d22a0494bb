//! A JSON object that says everything once.
//!
//! Owns: that a name given twice makes an object unreadable, however deep:
//! two readers could take one each.
//! Must not know: what the names mean.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// An object's members.
#[derive(Debug)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    /// The member of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A NumericDate (RFC 7519 §2), in seconds since the epoch. `None`: there
    /// is something else; `Some(None)`: there is none.
    pub(super) fn date(&self, name: &str) -> Option<Option<f64>> {
        /// The year 9999.
        const LAST: f64 = 253_402_300_800.0;
        match self.get(name) {
            None => Some(None),
            Some(value) => value.as_f64().filter(|date| (0.0..=LAST).contains(date)).map(Some),
        }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Once::deserialize(deserializer)?.0 {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(de::Error::custom("not an object")),
        }
    }
}

/// Any value, without a name given twice.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OnceVisitor).map(Self)
    }
}

struct OnceVisitor;

impl<'de> Visitor<'de> for OnceVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Once(item)) = seq.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Once(value))) = map.next_entry::<String, Once>()? {
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a name is given twice"));
            }
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, fine: bool) {
        assert_eq!(serde_json::from_str::<Object>(json).is_ok(), fine, "{json}");
    }

    #[test]
    fn every_name_is_given_once() {
        check(r#"{"a": 1, "b": [true, null, {"a": -1.5e3}]}"#, true);
        check(r#"{"a": 1, "a": 1}"#, false);
        check(r#"{"a": 1, "\u0061": 2}"#, false);
        check(r#"{"a": {"b": 1, "b": 2}}"#, false);
        check(r#"{"a": [{"b": 1, "b": 2}]}"#, false);
        check("[]", false);
        check("7", false);
        check("{}x", false);
        check(&format!("{{\"a\": {}1{}}}", "[".repeat(500), "]".repeat(500)), false);
    }

    #[test]
    fn dates_are_numbers_that_a_calendar_has() {
        let object: Object = serde_json::from_str(
            r#"{"a": 1700000000, "b": 1.5, "c": "1700000000", "d": -1, "e": 1e300, "f": null}"#,
        )
        .unwrap();
        let date = |name| object.date(name);
        assert_eq!((date("a"), date("b"), date("g")), (Some(Some(1.7e9)), Some(Some(1.5)), Some(None)));
        assert_eq!([date("c"), date("d"), date("e"), date("f")], [None; 4]);
    }
}
