//! Switches in the state folder.
//!
//! Owns: the file that holds them, and that it is whole at any time.
//! Must not know: what a switch does.
//!
//! Without a state folder (`memory`, a shared store) switches hold until the
//! gateway ends.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Steering, Undone};
use crate::core::exit::Mode;
use crate::core::pin::ExitName;
use crate::state::{Switch, Switches};
use crate::store::Damage;

/// The file, in the state folder.
const FILE: &str = "switches.json";

#[derive(Serialize, Deserialize)]
struct Written {
    pool: String,
    exit: String,
    /// What the operator wants.
    state: String,
    /// What the pool file said when it was switched.
    file_says: String,
}

/// What is kept in the folder. A file that cannot be read is put aside, and
/// what was lost comes with it.
pub(crate) fn kept(folder: Option<&Path>) -> (Switches, Option<Damage>) {
    let Some(path) = folder.map(|folder| folder.join(FILE)) else { return Default::default() };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Default::default(),
        Err(error) => {
            return (
                Switches::default(),
                Some(Damage { file: path, lost: format!("all switches of exits: {error}") }),
            );
        }
    };
    match read(&text) {
        Some(switches) => (switches, None),
        None => {
            let aside = path.with_extension("json.damaged");
            let kept = match fs::rename(&path, &aside) {
                Ok(()) => format!("; its bytes are in {}", aside.display()),
                Err(_) => String::new(),
            };
            (Switches::default(), Some(Damage { file: path, lost: format!("all switches of exits{kept}") }))
        }
    }
}

fn read(text: &[u8]) -> Option<Switches> {
    let written: Vec<Written> = serde_json::from_slice(text).ok()?;
    let switch = |written: Written| {
        let name = ExitName { pool: written.pool.into(), id: written.exit.into() };
        let (to, written) = (Mode::from_word(&written.state)?, Mode::from_word(&written.file_says)?);
        Some((name, Switch { to, written }))
    };
    Some(Switches::new(written.into_iter().map(switch).collect::<Option<Vec<_>>>()?))
}

fn write(folder: &Path, switches: &Switches) -> io::Result<()> {
    let written: Vec<_> = switches
        .iter()
        .map(|(name, switch)| Written {
            pool: name.pool.to_string(),
            exit: name.id.to_string(),
            state: switch.to.word().to_owned(),
            file_says: switch.written.word().to_owned(),
        })
        .collect();
    let path = folder.join(FILE);
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(&written)?)?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(folder)?.sync_all()
}

impl Steering {
    /// Writes the switches down unless they are already.
    pub(super) async fn keep(&self, kept: &mut Switches, switches: Switches) -> Result<(), Undone> {
        if *kept == switches {
            return Ok(());
        }
        if let Some(folder) = self.folder.clone() {
            let written = switches.clone();
            let wrote = tokio::task::spawn_blocking(move || write(&folder, &written)).await;
            let wrote = wrote.unwrap_or_else(|error| Err(io::Error::other(error)));
            wrote.map_err(|error| Undone::NotKept(error.to_string()))?;
        }
        *kept = switches;
        Ok(())
    }

    /// After a reload: writes down which switches still hold.
    pub(crate) async fn keep_settled(&self) {
        let mut kept = self.kept.lock().await;
        let switches = self.state.switches().as_ref().clone();
        if let Err(error) = self.keep(&mut kept, switches).await {
            tracing::error!(%error, "the switches that still hold are not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches() -> Switches {
        let switch =
            |id: &str, to, written| (ExitName { pool: "us".into(), id: id.into() }, Switch { to, written });
        Switches::new([switch("a", Mode::Off, Mode::Active), switch("b", Mode::Active, Mode::Drain)])
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kept(Some(folder.path())), (Switches::default(), None));
        assert_eq!(kept(None), (Switches::default(), None));
        write(folder.path(), &switches()).unwrap();
        assert_eq!(kept(Some(folder.path())), (switches(), None));
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_told() {
        for text in ["", "[", "{}", r#"[{"pool": "p", "exit": "e", "state": "gone", "file_says": "off"}]"#] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILE), text).unwrap();
            let (switches, damage) = kept(Some(folder.path()));
            assert!(switches == Switches::default() && damage.is_some(), "{text}");
            assert_eq!(fs::read_to_string(folder.path().join("switches.json.damaged")).unwrap(), text);
        }
    }
}
