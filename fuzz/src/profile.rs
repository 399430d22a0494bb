//! A credential in a profile's grammar: whatever it is, it is taken apart and
//! read, or refused with a place that is in it.

use std::sync::LazyLock;

use moorgate::core::profile::Profile;
use moorgate::core::profile::cut::Who;
use moorgate::core::username;
use moorgate::measured::shipped_profiles;

static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(shipped_profiles);

/// The first byte picks the profile, the rest is `username:password`.
pub fn check(data: &[u8]) {
    let Some((pick, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (username, password) = text.split_once(':').unwrap_or((text, ""));
    let profile = &PROFILES[usize::from(*pick) % PROFILES.len()];
    let users = ["a", "acme", "acme-eu", "12345"];
    let known = |who: Who<'_>| match who {
        Who::Name(name) => users.contains(&name),
        Who::Secret(secret) => !secret.is_empty(),
    };
    if let Some(cut) = profile.cut(username, password, known) {
        let whole = format!("{username}:{password}");
        assert!(password.starts_with(cut.secret), "the secret is the password's beginning");
        for (at, byte) in cut.tail.bytes().enumerate() {
            assert_eq!(whole.as_bytes()[cut.place(at)], byte, "the tail is in the credential");
        }
        read(profile, &cut.tail);
    }
    read(profile, username);
}

fn read(profile: &Profile, tail: &str) {
    match profile.read(tail) {
        Ok(said) => {
            assert_eq!(profile.read(tail).as_ref(), Ok(&said));
            assert!(said.labels.iter().all(|(_, value)| value.len() <= 128));
        }
        Err(error) => {
            assert!(error.at <= tail.len() && tail.is_char_boundary(error.at), "where it is wrong");
            assert_eq!(error.fault.code().status(), 400);
            assert!(!error.fault.detail().is_empty());
        }
    }
    if &*profile.name == "moorgate" && !tail.is_empty() && plain(tail) {
        let (data, code) = (profile.read(tail), username::parse(tail));
        let said = |read: Result<_, username::ParameterError>| read.map_err(|e| (e.fault.code(), e.at));
        assert_eq!(said(data), said(code), "as data and as code: {tail:?}");
    }
}

/// Begins as a tail, and has only what both readers take in a label.
fn plain(tail: &str) -> bool {
    tail.starts_with('-') && !tail.contains(['+', ' ', '\''])
}
