use std::path::{Path, PathBuf};

use super::*;
use crate::config::env::Environment;
use crate::config::findings::Findings;
use crate::config::locate::Document;
use crate::config::read::read;

const KINDS: [SchemaKind; 3] = [SchemaKind::Config, SchemaKind::Pools, SchemaKind::Profile];

#[test]
fn the_generated_files_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pools");
    let files = [
        (SchemaKind::Config, "config.schema.json"),
        (SchemaKind::Pools, "pools.schema.json"),
        (SchemaKind::Profile, "profile.schema.json"),
    ];
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
    for kind in KINDS {
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
    for kind in KINDS {
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
    for kind in KINDS {
        let schema = parsed(kind);
        walk(&schema, &schema);
    }
}

/// What was installed beside the files of ours is not one of them.
fn json_files(folder: &Path) -> Vec<PathBuf> {
    if folder.ends_with("node_modules") {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.flat_map(|path| if path.is_dir() { json_files(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect()
}

/// Whatever JSON of ours names one of the schemas is what that says.
#[test]
fn every_file_of_ours_is_as_its_schema_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for path in [root.join("pools"), root.join("examples")].iter().flat_map(|folder| json_files(folder)) {
        let text = std::fs::read_to_string(&path).unwrap();
        let named =
            serde_json::from_str::<Value>(&text).unwrap()["$schema"].as_str().unwrap_or_default().to_owned();
        let mut findings = Findings::default();
        let env = Environment::of_anything();
        let mut document = Document::parse(&path, text, &env, &mut findings).unwrap();
        let root = document.root();
        if named.ends_with("pools.schema.json") {
            let file = read::<PoolFile>(&mut document, root, &mut findings).unwrap();
            let pools = file.pools.iter().filter_map(|later| later.read(&mut document, &mut findings));
            let exits: Vec<_> = pools.flat_map(|pool| pool.exits.unwrap_or_default()).collect();
            exits.iter().for_each(|later| drop(later.read(&mut document, &mut findings)));
        } else if named.ends_with("config.schema.json") {
            let file = read::<ConfigFile>(&mut document, root, &mut findings).unwrap();
            let users = file.users.unwrap_or_default();
            users.iter().for_each(|later| drop(later.read(&mut document, &mut findings)));
            let listeners = file.listeners.unwrap_or_default();
            listeners.iter().for_each(|later| drop(later.read(&mut document, &mut findings)));
        } else {
            continue;
        }
        seen += 1;
        assert_eq!(findings.count(), 0, "{findings}");
    }
    assert!(seen > 0);
}
