//! Accounts.
//!
//! Owns: that their names are unique, their secrets can be verified and their
//! lists mean something.
//! Must not know: how a secret is verified.

use std::collections::HashMap;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;

use super::profiles::Profiles;
use super::{Reading, sessions};
use crate::config::file::UserEntry;
use crate::config::findings::{Finding, Place};
use crate::config::locate::NodeId;
use crate::config::read::Later;
use crate::config::{Password, User};
use crate::core::pool::SessionBounds;
use crate::core::profile::{Naming, Profile};
use crate::core::secret::Secret;

/// The profiles that users may name, and what those without a list of their
/// own meet at some listener.
pub(super) struct Accepted<'a> {
    pub(super) profiles: &'a mut Profiles,
    pub(super) everywhere: Vec<Arc<Profile>>,
}

/// Every account; the names of their pools are added to `pool_names`.
pub(super) fn users(
    reading: &mut Reading<'_>,
    written: Vec<Later<UserEntry>>,
    gateway: &SessionBounds,
    accepted: Accepted<'_>,
    pool_names: &mut Vec<(Arc<str>, Place)>,
) -> Vec<User> {
    let mut seen: HashMap<Arc<str>, Place> = HashMap::new();
    let mut secrets: HashMap<blake3::Hash, Place> = HashMap::new();
    let mut users = Vec::with_capacity(written.len());
    for later in &written {
        let Some(user) = user(reading, later, gateway, accepted.profiles, pool_names) else { continue };
        read_back(reading, later.node, &user, &accepted.everywhere, &mut secrets);
        let place = reading.place(later.node, &["name"]);
        match seen.get(&user.name) {
            Some(before) => {
                let message = format!("the user {} stands at {before} before", user.name);
                reading.findings.add(place, message);
            }
            None => {
                seen.insert(user.name.clone(), place);
                users.push(user);
            }
        }
    }
    users
}

fn user(
    reading: &mut Reading<'_>,
    later: &Later<UserEntry>,
    gateway: &SessionBounds,
    profiles: &mut Profiles,
    pool_names: &mut Vec<(Arc<str>, Place)>,
) -> Option<User> {
    let written = later.read(reading.document, reading.findings)?;
    let node = later.node;
    let password = match password(written.password.0) {
        Ok(password) => password,
        Err(message) => {
            reading.complain(node, &["password"], message);
            return None;
        }
    };
    let pools: Option<Vec<Arc<str>>> =
        written.pools.map(|pools| pools.into_iter().map(|pool| pool.0.into()).collect());
    let list = reading.document.below(node, &["pools"]);
    for (at, name) in pools.iter().flatten().enumerate() {
        pool_names.push((name.clone(), reading.document.place(reading.document.item(list, at))));
    }
    if pools.as_ref().is_some_and(Vec::is_empty) && !reading.document.is_holed(list) {
        reading.complain(node, &["pools"], "expected at least one pool; leave it out to allow all");
    }
    let default_pool: Option<Arc<str>> = written.default_pool.map(|pool| pool.0.into());
    if let Some(name) = &default_pool {
        match &pools {
            Some(pools) if !pools.contains(name) => {
                reading.complain(node, &["default_pool"], "expected one of the user's \"pools\"");
            }
            Some(_) => {}
            None => pool_names.push((name.clone(), reading.place(node, &["default_pool"]))),
        }
    }
    let clients: Option<Vec<_>> = written.clients.map(|nets| nets.into_iter().map(|net| net.0).collect());
    if clients.as_ref().is_some_and(Vec::is_empty) && !reading.document.is_holed(node) {
        reading.complain(node, &["clients"], "expected at least one address; leave it out to allow all");
    }
    let limits = written.limits.unwrap_or_default();
    if limits.burst.is_some() && !limits.has_rate() {
        reading.complain(node, &["limits", "burst"], "expected \"requests_per_second\" beside it");
    }
    let profiles = profiles.named(reading, node, written.profiles);
    let bounds_at = reading.document.below(node, &["sessions"]);
    Some(User {
        name: written.name.0.into(),
        password,
        pools,
        default_pool,
        profiles,
        clients,
        affinity: written.affinity.map(Into::into).unwrap_or_default(),
        sessions: sessions::bounds(reading, bounds_at, written.sessions, gateway),
        limits: limits.meant(),
    })
}

/// Whether the profiles that a user may use can find the user and its secret.
fn read_back(
    reading: &mut Reading<'_>,
    node: NodeId,
    user: &User,
    everywhere: &[Arc<Profile>],
    secrets: &mut HashMap<blake3::Hash, Place>,
) {
    let place = reading.place(node, &["password"]);
    let profiles = user.profiles.as_deref().unwrap_or(everywhere);
    let by_secret = profiles.iter().find(|profile| profile.user == Naming::Secret);
    let Password::Plain(secret) = &user.password else {
        if let Some(profile) = by_secret {
            let message =
                format!("the profile {} finds users by their secret, and this is a hash", profile.name);
            match user.profiles.is_some() {
                true => reading.findings.add(place, message),
                false => reading.warnings.push(Finding::new(place, message)),
            }
        }
        return;
    };
    if let Some(profile) = profiles.iter().find(|profile| profile.secret(secret.expose()) != secret.expose())
    {
        let message = format!("the profile {} would read a part of the secret as parameters", profile.name);
        reading.findings.add(place.clone(), message);
    }
    if let Some(profile) = by_secret
        && let Some(before) = secrets.insert(blake3::hash(secret.expose().as_bytes()), place.clone())
    {
        let message = format!(
            "the profile {} finds users by their secret, and this one stands at {before} before",
            profile.name
        );
        reading.findings.add(place, message);
    }
}

/// The errors are sentences without the secret.
fn password(secret: Secret) -> Result<Password, String> {
    const OTHER_HASHES: [&str; 10] =
        ["$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$", "$7$", "$scrypt$", "$pbkdf2"];
    let text = secret.expose();
    if text.is_empty() {
        return Err("expected a secret, found an empty string".to_owned());
    }
    if text.starts_with("$argon2") {
        return match verifiable(text) {
            true => Ok(Password::Phc(secret)),
            false => Err("the PHC string is damaged: moorgate hash-password makes a new one".to_owned()),
        };
    }
    match OTHER_HASHES.iter().any(|hash| text.starts_with(hash)) {
        true => Err("of hashes, only argon2's are known: moorgate hash-password makes one".to_owned()),
        false => Ok(Password::Plain(secret)),
    }
}

fn verifiable(phc: &str) -> bool {
    let Ok(hash) = PasswordHash::new(phc) else { return false };
    let known = argon2::Algorithm::try_from(hash.algorithm.as_str()).is_ok();
    let whole = hash.salt.is_some() && hash.hash.is_some();
    known && whole && argon2::Params::try_from(&hash).is_ok()
}
