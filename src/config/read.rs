//! From a located tree to what is written, past every error.
//!
//! Owns: a serde deserializer over [`Document`] whose errors know their value,
//! and [`read`], which reports an error, passes the value over and goes on.
//! Must not know: any file's fields.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::findings::Findings;
use super::locate::{Document, NodeId, Value};
use crate::core::typo::nearest;

/// Reads the value as a `T`. What is wrong within it is reported and passed
/// over, as if it were not written, until the rest makes a `T`; `None` where
/// it does not.
pub(super) fn read<T: DeserializeOwned>(
    document: &mut Document,
    node: NodeId,
    findings: &mut Findings,
) -> Option<T> {
    // Each turn passes over one more value and costs a reading of all others.
    for _ in 0..FAULTS_MAX {
        let fault = match T::deserialize(Reader { document, node }) {
            Ok(made) => return Some(made),
            Err(fault) => fault,
        };
        let (at, on_key) = fault.at.unwrap_or((node, false));
        if !(fault.is_missing && document.is_holed(at)) {
            let place = if on_key { document.place_of_key(at) } else { document.place(at) };
            findings.add(place, fault.message);
        }
        if at == node {
            return None;
        }
        document.drop_value(at);
    }
    None
}

/// After so many faults of one value (and its own, not those of a [`Later`]
/// in it), it is read no further.
const FAULTS_MAX: usize = 100;

/// A value to be read later, on its own, so that what is wrong with it does
/// not stand in the way of its neighbours.
pub(crate) struct Later<T> {
    pub(crate) node: NodeId,
    kind: PhantomData<T>,
}

impl<T: DeserializeOwned> Later<T> {
    /// The value.
    pub(super) fn read(&self, document: &mut Document, findings: &mut Findings) -> Option<T> {
        read(document, self.node, findings)
    }
}

/// The name under which a [`Reader`] is asked for a value's [`NodeId`].
const LATER: &str = "moorgate::Later";

impl<'de, T> Deserialize<'de> for Later<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;
        impl Visitor<'_> for NodeVisitor {
            type Value = NodeId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with a place")
            }

            fn visit_u32<E: de::Error>(self, node: u32) -> Result<NodeId, E> {
                Ok(NodeId(node))
            }
        }
        let node = deserializer.deserialize_newtype_struct(LATER, NodeVisitor)?;
        Ok(Self { node, kind: PhantomData })
    }
}

impl<T: JsonSchema> JsonSchema for Later<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// What is wrong with a value. The message never quotes a string's content.
#[derive(Debug)]
struct Fault {
    message: String,
    /// The value, and whether it is its key that is wrong.
    at: Option<(NodeId, bool)>,
    is_missing: bool,
}

impl Fault {
    fn new(message: String) -> Self {
        Self { message, at: None, is_missing: false }
    }

    /// The innermost value that it passes on its way out is the one.
    fn at(mut self, node: NodeId, on_key: bool) -> Self {
        self.at.get_or_insert((node, on_key));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Str(_) | Unexpected::Char(_) => "a string",
            Unexpected::Unit | Unexpected::Option => "null",
            Unexpected::Seq => "a list",
            Unexpected::Map => "an object",
            _ => "something else",
        };
        Self::new(format!("expected {}, found {found}", friendly(expected)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}", friendly(expected)))
    }

    fn unknown_variant(written: &str, expected: &'static [&'static str]) -> Self {
        let listed: Vec<String> = expected.iter().map(|name| format!("\"{name}\"")).collect();
        let meant =
            nearest(written, expected.iter().copied()).map(|name| format!("; did you mean \"{name}\"?"));
        Self::new(format!("expected {}{}", listed.join(" or "), meant.unwrap_or_default()))
    }

    fn unknown_field(written: &str, expected: &'static [&'static str]) -> Self {
        let written: String = written.chars().take(64).collect();
        Self::new(match nearest(&written, expected.iter().copied()) {
            Some(name) => format!("unknown field {written:?}: did you mean \"{name}\"?"),
            None => {
                let listed: Vec<_> = expected.iter().copied().filter(|name| *name != "$schema").collect();
                format!("unknown field {written:?}: expected one of {}", listed.join(", "))
            }
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Self { is_missing: true, ..Self::new(format!("the field \"{field}\" is missing")) }
    }
}

fn friendly(expected: &dyn Expected) -> String {
    match &*expected.to_string() {
        "a sequence" => "a list".to_owned(),
        "a boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    }
}

#[derive(Clone, Copy)]
struct Reader<'d> {
    document: &'d Document,
    node: NodeId,
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Self { document, node } = self;
        let made = match document.value(node) {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(value) => match (value.as_u64(), value.as_i64(), value.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (None, Some(value), _) => visitor.visit_i64(value),
                (None, None, value) => visitor.visit_f64(value.unwrap_or(f64::NAN)),
            },
            Value::Text(text) => visitor.visit_str(text.expose()),
            Value::List(items) => visitor.visit_seq(Items { document, left: items.iter() }),
            Value::Object(entries) => {
                visitor.visit_map(Entries { document, left: entries.iter(), value: None })
            }
        };
        made.map_err(|fault| fault.at(node, false))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.document.value(self.node) {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match name {
            LATER => visitor.visit_u32(self.node.0),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.document.value(self.node) {
            Value::Text(name) => {
                let name: de::value::StrDeserializer<'_, Fault> = name.expose().into_deserializer();
                visitor.visit_enum(name).map_err(|fault| fault.at(self.node, false))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    /// A derived struct would take a list for its fields in order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.document.value(self.node) {
            Value::List(_) => {
                let fault: Fault = de::Error::invalid_type(Unexpected::Seq, &visitor);
                Err(fault.at(self.node, false))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'d> {
    document: &'d Document,
    left: std::slice::Iter<'d, NodeId>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let document = self.document;
        let next = self.left.find(|node| !document.is_dropped(**node));
        next.map(|node| seed.deserialize(Reader { document, node: *node })).transpose()
    }
}

struct Entries<'d> {
    document: &'d Document,
    left: std::slice::Iter<'d, NodeId>,
    value: Option<NodeId>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let document = self.document;
        self.value = self.left.find(|node| !document.is_dropped(**node)).copied();
        let Some(node) = self.value else { return Ok(None) };
        let key: de::value::StrDeserializer<'_, Fault> = document.key(node).into_deserializer();
        seed.deserialize(key).map(Some).map_err(|fault| fault.at(node, true))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some(node) => seed.deserialize(Reader { document: self.document, node }),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}
