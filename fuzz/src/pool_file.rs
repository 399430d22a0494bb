//! A pool file: any text is taken or refused, never more, and a refusal says
//! where.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use moorgate::{Config, ConfigSource};
use tempfile::TempDir;

thread_local! {
    static FOLDER: RefCell<Option<(TempDir, PathBuf)>> = const { RefCell::new(None) };
}

/// The bytes are the whole file.
pub fn check(data: &[u8]) {
    let found = FOLDER.with_borrow_mut(|folder| {
        let (_, file) = folder.get_or_insert_with(|| {
            let folder = tempfile::Builder::new().prefix("moorgate-fuzz-").tempdir().expect("a folder");
            let file = folder.path().join("p.json");
            (folder, file)
        });
        fs::write(&*file, data).expect("a file is written");
        let source = ConfigSource::default().with_pools(file.clone());
        let (config, _) = Config::load(&source).expect("every default");
        config.check_pools()
    });
    // A byte order mark is allowed, as editors write it.
    let text = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let json = serde_json::from_slice::<serde_json::Value>(text);
    match found {
        Ok(warnings) => {
            assert!(json.is_ok(), "what is no JSON is no pool file");
            warnings.iter().for_each(|warning| drop(warning.to_string()));
        }
        Err(findings) => {
            let told = findings.to_string();
            assert!(!told.is_empty() && told.contains("p.json"), "it says in which file: {told}");
        }
    }
}
