//! JSON Schemas of the files, made of the same types that read them.
//!
//! Owns: what `moorgate schema` prints and `pools/*.schema.json` hold.
//! Must not know: what is done with it.

use schemars::generate::SchemaSettings;

use super::file::ConfigFile;
use super::pools::PoolFile;

/// Of which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchemaKind {
    /// The configuration.
    Config,
    /// A pool file.
    Pools,
}

/// The JSON Schema (draft 2020-12), indented, with a line feed at its end.
pub(crate) fn schema(kind: SchemaKind) -> String {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let schema = match kind {
        SchemaKind::Config => generator.into_root_schema_for::<ConfigFile>(),
        SchemaKind::Pools => generator.into_root_schema_for::<PoolFile>(),
    };
    format!("{:#}\n", schema.as_value())
}

#[cfg(test)]
mod tests;
