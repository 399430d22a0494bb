//! `${NAME}` in a string of a file.
//!
//! Owns: the only reading of the process's environment, and what whoever
//! started the process left there for it ([`Start`]).
//! Must not know: what the strings are for; any of them may be a secret.

use crate::core::secret::Secret;

/// Where `${NAME}` gets its value.
pub(crate) struct Environment(Box<Lookup>);

type Lookup = dyn Fn(&str) -> Result<String, Absent> + Send + Sync;

/// Set for a process that takes another's place: the version of what they say
/// to each other.
pub(crate) const UPGRADE: &str = "MOORGATE_UPGRADE";

/// Variables that are meant for one process, not for those that it starts.
pub(crate) const OF_ONE_PROCESS: [&str; 4] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// What whoever started this process left in the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// [`UPGRADE`].
    pub(crate) upgrade: Option<String>,
    /// The names of passed descriptors, in their order; a name may be empty.
    pub(crate) passed: Vec<String>,
    /// Where the service manager listens.
    pub(crate) manager: Option<String>,
    /// The service manager wants to hear of us within this time, again and
    /// again.
    pub(crate) watchdog: Option<std::time::Duration>,
}

impl Start {
    /// Of the process with this id.
    pub(crate) fn read(env: &Environment, pid: u32) -> Self {
        let var = |name: &str| (env.0)(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str| var(name)?.parse::<u64>().ok();
        let upgrade = var(UPGRADE);
        // What was passed to another process is none of ours.
        let ours = number("LISTEN_PID") == Some(u64::from(pid)) && upgrade.is_none();
        let count = number("LISTEN_FDS").filter(|_| ours).unwrap_or(0).min(u64::from(u16::MAX));
        let names = var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let passed = (0..count).map(|_| names.next().unwrap_or_default()).collect();
        let watched = number("WATCHDOG_PID").is_none_or(|watched| watched == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|time| watched && *time > 0);
        Self {
            upgrade,
            passed,
            manager: var("NOTIFY_SOCKET"),
            watchdog: watchdog.map(std::time::Duration::from_micros),
        }
    }
}

/// Why a variable has no value.
pub(crate) enum Absent {
    NotSet,
    NotUtf8,
}

impl Environment {
    /// The process's own.
    pub(crate) fn of_process() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
        Self(Box::new(|name| {
            std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => Absent::NotSet,
                std::env::VarError::NotUnicode(_) => Absent::NotUtf8,
            })
        }))
    }

    /// The value of a variable, where it has one.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.0)(name).ok()
    }

    /// Of these variables alone.
    #[cfg(test)]
    pub(crate) fn of(variables: &'static [(&'static str, &'static str)]) -> Self {
        Self(Box::new(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned()).ok_or(Absent::NotSet)
        }))
    }

    /// Of no variable.
    pub(crate) fn empty() -> Self {
        Self(Box::new(|_| Err(Absent::NotSet)))
    }

    /// Of every variable, with its own name for a value.
    #[cfg(test)]
    pub(crate) fn of_anything() -> Self {
        Self(Box::new(|name| Ok(name.to_owned())))
    }

    /// The text with every `${NAME}` replaced. A value is taken as it is: a
    /// `${` in it stands for itself.
    pub(super) fn fill(&self, text: String) -> Result<Secret, String> {
        if !text.contains("${") {
            return Ok(Secret::new(text));
        }
        let text = Secret::new(text);
        let mut filled = zeroize::Zeroizing::new(String::new());
        let mut rest = text.expose();
        while let Some((before, after)) = rest.split_once("${") {
            let name = after.split_once('}').map(|(name, _)| name).filter(|name| is_name(name));
            let Some(name) = name else {
                return Err("${ is not followed by a variable's name and }, as in ${NAME}".to_owned());
            };
            let value = (self.0)(name).map_err(|absent| match absent {
                Absent::NotSet => format!("the environment variable {name} is not set"),
                Absent::NotUtf8 => format!("the environment variable {name} is not UTF-8"),
            })?;
            filled.push_str(before);
            filled.push_str(Secret::new(value).expose());
            rest = &after[name.len() + 1..];
        }
        filled.push_str(rest);
        Ok(Secret::new(std::mem::take(&mut *filled)))
    }
}

fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty()
        && name.len() <= 255
        && name.chars().all(word)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let env = Environment::of(&[("USER", "acme"), ("EMPTY", ""), ("ODD", "${USER}")]);
        let filled = env.fill(text.to_owned());
        match (filled, expected) {
            (Ok(filled), Ok(expected)) => assert_eq!(filled.expose(), expected),
            (Err(message), Err(expected)) => assert!(message.contains(expected), "{message}"),
            (filled, expected) => panic!("{text}: {filled:?}, not {expected:?}"),
        }
    }

    #[test]
    fn variables_are_filled_in() {
        check("plain", Ok("plain"));
        check("${USER}", Ok("acme"));
        check("a-${USER}-b-${USER}", Ok("a-acme-b-acme"));
        check("x${EMPTY}y", Ok("xy"));
        check("$USER {USER} $", Ok("$USER {USER} $"));
        check("${ODD}", Ok("${USER}"));
        check("$${USER}", Ok("$acme"));
    }

    #[test]
    fn what_was_passed_to_this_process_alone_is_taken() {
        const ALL: &[(&str, &str)] = &[
            ("LISTEN_PID", "7"),
            ("LISTEN_FDS", "3"),
            ("LISTEN_FDNAMES", "a::c:d"),
            ("NOTIFY_SOCKET", "@x"),
            ("WATCHDOG_USEC", "2000000"),
            ("WATCHDOG_PID", "7"),
        ];
        let start = Start::read(&Environment::of(ALL), 7);
        assert_eq!(start.passed, ["a", "", "c"]);
        assert_eq!(start.watchdog, Some(std::time::Duration::from_secs(2)));
        assert_eq!(start.manager.as_deref(), Some("@x"));
        let other = Start::read(&Environment::of(ALL), 8);
        assert_eq!((other.passed.len(), other.watchdog), (0, None));
        let none = Start::read(&Environment::of(&[("LISTEN_FDS", "3"), ("NOTIFY_SOCKET", "")]), 7);
        assert_eq!(none, Start::default());
        let new = [("LISTEN_PID", "7"), ("LISTEN_FDS", "1"), (UPGRADE, "1")];
        assert_eq!(Start::read(&Environment::of(Box::leak(Box::new(new))), 7).passed, [] as [&str; 0]);
    }

    #[test]
    fn what_is_missing_is_named() {
        check("${MISSING}", Err("variable MISSING is not set"));
        check("${USER", Err("${NAME}"));
        check("${}", Err("${NAME}"));
        check("${1A}", Err("${NAME}"));
        check("${a b}", Err("${NAME}"));
    }
}
