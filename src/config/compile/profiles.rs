//! Profiles as written to profiles as meant.
//!
//! Owns: which there are, that each makes sense and means what its examples
//! say, that names lead to one.
//! Must not know: how a credential is taken apart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Reading, read_text};
use crate::config::env::Environment;
use crate::config::findings::{Findings, Place as At};
use crate::config::locate::{Document, NodeId};
use crate::config::profiles::shipped::SHIPPED;
use crate::config::profiles::{ProfileEntry, ProfileItem, ProfileName};
use crate::config::read::{Later, read};
use crate::config::watch::Watched;
use crate::core::profile::{OWN, Profile};
use crate::core::typo::nearest;

mod examples;
mod grammar;

/// The most profiles that a configuration may add.
const PROFILES_MAX: usize = 256;

/// The profiles that users and listeners may name.
#[derive(Clone, Debug)]
pub(crate) struct Profiles {
    /// The configuration's, and the shipped ones that were asked for.
    known: HashMap<Box<str>, Arc<Profile>>,
}

impl Default for Profiles {
    fn default() -> Self {
        Self { known: HashMap::from([(OWN.into(), Profile::ours().clone())]) }
    }
}

/// A configuration's own profiles; their files are noted.
pub(super) fn profiles(
    reading: &mut Reading<'_>,
    written: &[Later<ProfileItem>],
    folder: &Path,
    env: &Environment,
    watched: &mut Watched,
) -> Profiles {
    let mut profiles = Profiles::default();
    let mut places = HashMap::new();
    for later in written {
        let Some(item) = later.read(reading.document, reading.findings) else { continue };
        match item {
            ProfileItem::Here(entry) => {
                let made = grammar::profile(reading, later.node, &entry);
                profiles.add(reading, later.node, made, &mut places);
            }
            ProfileItem::Path(path) => {
                let place = reading.document.place(later.node);
                for path in files(reading, &folder.join(path), &place, watched) {
                    profiles.add_file(reading, &path, env, &mut places);
                }
            }
        }
    }
    if profiles.known.len() > PROFILES_MAX {
        let root = reading.document.root();
        reading.complain(root, &["profiles"], format!("expected at most {PROFILES_MAX} profiles"));
    }
    profiles
}

/// The files that a path leads to.
fn files(reading: &mut Reading<'_>, path: &Path, named_at: &At, watched: &mut Watched) -> Vec<PathBuf> {
    if !path.is_dir() {
        watched.note_file(path);
        return vec![path.to_owned()];
    }
    match watched.note_folder(path) {
        Ok(files) => files,
        Err(error) => {
            reading.findings.add(named_at.clone(), format!("{} cannot be read: {error}", path.display()));
            Vec::new()
        }
    }
}

impl Profiles {
    fn add_file(
        &mut self,
        reading: &mut Reading<'_>,
        path: &Path,
        env: &Environment,
        places: &mut HashMap<Box<str>, At>,
    ) {
        let text = match read_text(path) {
            Ok(text) => text,
            Err(message) => return reading.findings.add(At::file(path), message),
        };
        let Some(mut document) = Document::parse(path, text, env, reading.findings) else { return };
        let mut file =
            Reading { document: &mut document, findings: reading.findings, warnings: reading.warnings };
        let root = file.document.root();
        let Some(entry) = read::<ProfileEntry>(file.document, root, file.findings) else { return };
        let made = grammar::profile(&mut file, root, &entry);
        self.add(&mut file, root, made, places);
    }

    fn add(
        &mut self,
        reading: &mut Reading<'_>,
        node: NodeId,
        made: Option<Profile>,
        places: &mut HashMap<Box<str>, At>,
    ) {
        let Some(profile) = made else { return };
        let place = reading.place(node, &["name"]);
        if *profile.name == *OWN {
            return reading.findings.add(place, "the gateway's own grammar has this name: choose another");
        }
        if let Some(before) = places.get(&profile.name) {
            let message = format!("the profile {} stands at {before} before", profile.name);
            return reading.findings.add(place, message);
        }
        places.insert(profile.name.clone(), place);
        self.known.insert(profile.name.clone(), Arc::new(profile));
    }

    /// The profiles that a list names; what stands at `keys` below `node` is
    /// that list.
    pub(super) fn named(
        &mut self,
        reading: &mut Reading<'_>,
        node: NodeId,
        names: Option<Vec<ProfileName>>,
    ) -> Option<Arc<[Arc<Profile>]>> {
        let names = names?;
        let list = reading.document.below(node, &["profiles"]);
        if names.is_empty() && !reading.document.is_holed(list) {
            let message = "expected at least one profile; leave it out to accept none but the gateway's own";
            reading.complain(node, &["profiles"], message);
        }
        let mut found: Vec<Arc<Profile>> = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            let place = reading.document.place(reading.document.item(list, at));
            match self.keep(&name.0) {
                Some(profile) if found.iter().any(|other| other.name == profile.name) => {
                    reading.findings.add(place, "this profile stands in the list before");
                }
                Some(profile) => found.push(profile),
                None => {
                    let hint = match nearest(&name.0, self.names()) {
                        Some(meant) => format!("did you mean \"{meant}\"?"),
                        None => "moorgate profiles lists those that are shipped".to_owned(),
                    };
                    reading.findings.add(place, format!("there is no profile of this name: {hint}"));
                }
            }
        }
        Some(found.into())
    }

    /// The profile of this name, of the configuration or shipped.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Profile>> {
        let known = self.known.get(name).cloned();
        known.or_else(|| shipped(name).ok().flatten().map(Arc::new))
    }

    /// The same, and remembers a shipped one: many users may name it.
    fn keep(&mut self, name: &str) -> Option<Arc<Profile>> {
        let profile = self.find(name)?;
        self.known.entry(name.into()).or_insert_with(|| profile.clone());
        Some(profile)
    }

    /// The names that there are.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        SHIPPED.iter().map(|(name, _)| *name).chain(self.known.keys().map(|name| &**name))
    }
}

/// The shipped profile of this name.
///
/// # Errors
/// What is wrong with it, which a test would have found.
pub(crate) fn shipped(name: &str) -> Result<Option<Profile>, Findings> {
    let Some((name, text)) = SHIPPED.iter().find(|(known, _)| *known == name) else { return Ok(None) };
    let (mut findings, mut warnings) = (Findings::default(), Vec::new());
    let path = PathBuf::from(format!("{name}.json"));
    let env = Environment::empty();
    let document = Document::parse(&path, (*text).to_owned(), &env, &mut findings);
    let made = document.and_then(|mut document| {
        let root = document.root();
        let mut file = Reading { document: &mut document, findings: &mut findings, warnings: &mut warnings };
        let entry = read::<ProfileEntry>(file.document, root, file.findings)?;
        grammar::profile(&mut file, root, &entry)
    });
    match made {
        Some(profile) if findings.count() == 0 => Ok(Some(profile)),
        _ => Err(findings),
    }
}

#[cfg(test)]
mod tests;
