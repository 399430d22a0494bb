//! The user that a gateway without users makes.
//!
//! Owns: its name, and its secret from one start to the next.
//! Must not know: how it is shown.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rand::distr::{Alphanumeric, SampleString};

use crate::admit::users::Entry;
use crate::core::ask::Account;
use crate::core::limits::UserLimits;
use crate::core::pool::{Affinity, SessionBounds};
use crate::core::secret::Secret;

/// The user's name.
pub(super) const NAME: &str = "demo";
/// Where its secret is kept, in the state folder.
const FILE: &str = "demo-secret";
const LENGTH: usize = 20;

/// The secret of the last start; without one, or without a folder, a new one.
pub(super) fn secret(folder: Option<&Path>) -> io::Result<Secret> {
    let path = folder.map(|folder| folder.join(FILE));
    if let Some(kept) = path.as_ref().and_then(|path| fs::read_to_string(path).ok()) {
        let kept = kept.trim();
        if kept.len() == LENGTH && kept.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Ok(Secret::new(kept));
        }
    }
    let secret = Secret::new(Alphanumeric.sample_string(&mut rand::rng(), LENGTH));
    if let Some(path) = path {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        writeln!(file, "{}", secret.expose())?;
    }
    Ok(secret)
}

/// A user of every pool.
pub(super) fn entry(secret: &Secret) -> Entry {
    let account = Account {
        name: NAME.into(),
        pools: None,
        default_pool: None,
        sessions: SessionBounds::default(),
        affinity: Affinity::None,
    };
    let limits = UserLimits::default();
    Entry { account, password: secret.clone(), clients: Vec::new(), limits, profiles: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_kept_and_only_ours_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = secret(Some(folder.path())).unwrap();
        assert_eq!(secret(Some(folder.path())).unwrap(), first);
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.path().join(FILE), "torn").unwrap();
        assert_eq!(secret(Some(folder.path())).unwrap().expose().len(), LENGTH);
        assert_ne!(secret(None).unwrap(), secret(None).unwrap());
    }
}
