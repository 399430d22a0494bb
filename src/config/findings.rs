//! What is wrong with the files, and where.
//!
//! Owns: [`Finding`], [`Findings`] and how they are printed.
//! Must not know: what was checked. A message never quotes a value that may
//! be or hold a secret.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::watch::Watched;

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file, or the command line's option.
    pub(crate) source: Arc<str>,
    /// Line and column, both from 1; a column counts characters.
    pub(crate) position: Option<(u32, u32)>,
    /// `pools[0].exits[3].via`; empty for a whole document or none.
    pub(crate) path: String,
}

impl Place {
    /// A file as a whole.
    pub(crate) fn file(path: &Path) -> Self {
        Self { source: path.display().to_string().into(), position: None, path: String::new() }
    }

    /// An option of the command line.
    pub(crate) fn option(name: &str) -> Self {
        Self { source: name.into(), position: None, path: String::new() }
    }

    /// A line of a file.
    pub(crate) fn line(path: &Path, line: u32) -> Self {
        Self { position: Some((line, 1)), ..Self::file(path) }
    }
}

/// `file:line:column: path`, as far as known.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        Ok(())
    }
}

/// One thing that is wrong, or odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    place: Place,
    message: String,
}

impl Finding {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }

    /// The file (or the command line's option) that it is in.
    pub fn file(&self) -> &str {
        &self.place.source
    }

    /// The line, from 1.
    pub fn line(&self) -> Option<u32> {
        self.place.position.map(|(line, _)| line)
    }

    /// The column, from 1, in characters.
    pub fn column(&self) -> Option<u32> {
        self.place.position.map(|(_, column)| column)
    }

    /// The JSON path, such as `pools[0].exits[3].via`.
    pub fn path(&self) -> Option<&str> {
        (!self.place.path.is_empty()).then_some(&*self.place.path)
    }

    /// What is wrong, and what was expected.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// So many are told; of more, only how many.
const TOLD_MAX: usize = 1000;

/// Everything that is wrong, in the files' order. It prints a line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
    untold: usize,
    watched: Watched,
}

impl Findings {
    /// Each of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Finding> {
        self.list.iter()
    }

    /// What to watch for the mend, where these are a pool file's.
    pub(crate) fn watched(&self) -> &Watched {
        &self.watched
    }

    pub(crate) fn watching(mut self, watched: Watched) -> Self {
        self.watched = watched;
        self
    }

    pub(crate) fn count(&self) -> usize {
        self.list.len() + self.untold
    }

    pub(crate) fn add(&mut self, place: Place, message: impl Into<String>) {
        match self.list.len() < TOLD_MAX {
            true => self.list.push(Finding::new(place, message)),
            false => self.untold += 1,
        }
    }

    /// Adds those of other files.
    pub(crate) fn append(&mut self, other: Self) {
        for finding in other.list {
            self.add(finding.place, finding.message);
        }
        self.untold += other.untold;
    }

    /// Puts those of one file, which were found in several passes, in the
    /// order of its lines; files stay in the order in which they were read.
    pub(crate) fn in_order(mut self) -> Self {
        let mut files: Vec<Arc<str>> = Vec::new();
        for finding in &self.list {
            if !files.contains(&finding.place.source) {
                files.push(finding.place.source.clone());
            }
        }
        self.list.sort_by_key(|finding| {
            (files.iter().position(|file| *file == finding.place.source), finding.place.position)
        });
        self
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.list.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{finding}")?;
        }
        match self.untold {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Findings {}
