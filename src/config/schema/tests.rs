use std::path::Path;

use super::*;

#[test]
fn the_generated_files_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pools");
    let files = [(SchemaKind::Config, "config.schema.json"), (SchemaKind::Pools, "pools.schema.json")];
    let stale = files.into_iter().filter(|(kind, name)| {
        let fresh = schema(*kind);
        let is_stale = std::fs::read_to_string(folder.join(name)).unwrap_or_default() != fresh;
        if is_stale {
            std::fs::write(std::env::temp_dir().join(name), fresh).unwrap();
        }
        is_stale
    });
    let stale: Vec<_> = stale.map(|(_, name)| name).collect();
    assert!(stale.is_empty(), "copy {stale:?} from {} to pools/", std::env::temp_dir().display());
}

fn parsed(kind: SchemaKind) -> Value {
    serde_json::from_str(&schema(kind)).unwrap()
}

#[test]
fn unknown_fields_are_refused_everywhere() {
    for kind in [SchemaKind::Config, SchemaKind::Pools] {
        let schema = parsed(kind);
        let defs = schema["$defs"].as_object().unwrap();
        let objects = defs.values().chain([&schema]).filter(|def| def["type"] == "object");
        let mut seen = 0;
        for object in objects {
            assert_eq!(object["additionalProperties"], false, "{object}");
            seen += 1;
        }
        assert!(seen > 5);
    }
}

#[test]
fn every_field_is_described() {
    for kind in [SchemaKind::Config, SchemaKind::Pools] {
        let schema = parsed(kind);
        for (name, def) in schema["$defs"].as_object().unwrap() {
            for (field, property) in def["properties"].as_object().into_iter().flatten() {
                let described = property["description"].is_string() || name.starts_with("Labels");
                assert!(described, "{name}.{field}");
            }
        }
    }
}

#[test]
fn references_lead_somewhere() {
    fn walk(value: &Value, root: &Value) {
        if let Some(reference) = value["$ref"].as_str() {
            assert!(root.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|value| walk(value, root)),
            Value::Array(items) => items.iter().for_each(|value| walk(value, root)),
            _ => {}
        }
    }
    for kind in [SchemaKind::Config, SchemaKind::Pools] {
        let schema = parsed(kind);
        walk(&schema, &schema);
    }
}
