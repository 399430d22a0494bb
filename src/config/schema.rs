//! JSON Schemas of the files, made of the same types that read them.
//!
//! Owns: what `moorgate schema` prints and `pools/*.schema.json` hold.
//! Must not know: what is done with it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::file::ConfigFile;
use super::pools::PoolFile;
use super::profiles::ProfileEntry;

/// Of which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchemaKind {
    /// The configuration.
    Config,
    /// A pool file.
    Pools,
    /// A profile.
    Profile,
}

/// The JSON Schema (draft 2020-12), indented, with a line feed at its end.
pub(crate) fn schema(kind: SchemaKind) -> String {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let schema = match kind {
        SchemaKind::Config => generator.into_root_schema_for::<ConfigFile>(),
        SchemaKind::Pools => generator.into_root_schema_for::<PoolFile>(),
        SchemaKind::Profile => generator.into_root_schema_for::<ProfileEntry>(),
    };
    let mut schema = schema.to_value();
    join_lines(&mut schema);
    format!("{:#}\n", head_first(schema))
}

/// A doc comment's line breaks are the source's, not the reader's.
fn join_lines(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            fields.values_mut().for_each(join_lines);
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What the schema is stands before what it says.
fn head_first(mut schema: Value) -> Value {
    let mut ordered = Map::new();
    for key in ["$schema", "title", "description"] {
        ordered.extend(schema.get_mut(key).map(|value| (key.to_owned(), value.take())));
    }
    if let Value::Object(fields) = schema {
        let rest = fields.into_iter().filter(|(_, value)| !value.is_null());
        ordered.extend(rest);
    }
    Value::Object(ordered)
}

#[cfg(test)]
mod tests;
