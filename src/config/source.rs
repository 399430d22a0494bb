//! Where a configuration comes from.
//!
//! Owns: [`ConfigSource`].
//! Must not know: how it is read.

use std::path::PathBuf;

use crate::core::secret::Secret;

/// Where a configuration comes from: files, or texts of a program that has the
/// gateway inside.
///
/// ```
/// use moorgate::{Config, ConfigSource};
///
/// let pools = r#"{ "pools": [{ "name": "own", "placement": "rendezvous", "exits": ["direct"] }] }"#;
/// let source = ConfigSource::text(r#"{ "sessions": { "store": "memory" } }"#).with_pools_text(pools);
/// let (_config, warnings) = Config::load(&source)?;
/// assert!(warnings.is_empty());
/// # Ok::<(), moorgate::Findings>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConfigSource {
    /// The configuration file; `None`: every default.
    pub config: Option<PathBuf>,
    /// A pool file or a folder of pool files, instead of the configuration's.
    pub pools: Option<PathBuf>,
    /// Addresses to listen on, instead of the configuration's listeners.
    pub listen: Vec<String>,
    /// The configuration itself, instead of a file.
    pub(crate) config_text: Option<Secret>,
    /// The pools themselves, instead of files.
    pub(crate) pools_text: Option<Secret>,
}

impl ConfigSource {
    /// A configuration file (JSON); its relative paths start from its folder.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { config: Some(path.into()), ..Self::default() }
    }

    /// A configuration as text (JSON), as it would stand in a file; its
    /// relative paths start from the working directory. It may hold secrets:
    /// nothing shows it.
    pub fn text(json: impl Into<String>) -> Self {
        Self { config_text: Some(Secret::new(json)), ..Self::default() }
    }

    /// With the pools of this file, or of the files in this folder, instead of
    /// the configuration's.
    #[must_use]
    pub fn with_pools(self, path: impl Into<PathBuf>) -> Self {
        Self { pools: Some(path.into()), ..self }
    }

    /// With these pools, a pool file's text (JSON), instead of the
    /// configuration's.
    #[must_use]
    pub fn with_pools_text(self, json: impl Into<String>) -> Self {
        Self { pools_text: Some(Secret::new(json)), ..self }
    }

    /// With a listener at this address, such as `127.0.0.1:0`, instead of the
    /// configuration's; once more for another one.
    #[must_use]
    pub fn with_listener(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }
}
