//! Which user a credential means, and in which grammar it is written.
//!
//! Owns: who may use which profile, the order in which they are tried.
//! Must not know: whether the secret is right.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Accounts, Entry, Said, User};
use crate::admit::password::{Digest, Stored};
use crate::core::profile::Profile;
use crate::core::profile::choose::choose;
use crate::core::profile::cut::{Cut, Who};
use crate::core::session::UserName;
use crate::core::username::MAX_USERNAME;

/// A credential as it is meant.
pub(super) struct Meant<'a, 'c> {
    /// Whose it is; `None`: a guest's.
    pub(super) user: Option<&'a User>,
    /// In which grammar it is written.
    pub(super) profile: &'a Arc<Profile>,
    /// Its parts.
    pub(super) cut: Cut<'c>,
}

impl Meant<'_, '_> {
    /// The user's name.
    pub(super) fn name(&self) -> &str {
        match (self.user, self.cut.who) {
            (Some(user), _) => &user.account.name,
            (None, Who::Name(name) | Who::Secret(name)) => name,
        }
    }

    /// What it says, and in which grammar.
    pub(super) fn said(&self) -> Said {
        Said { tail: (&*self.cut.tail).into(), profile: self.profile.clone() }
    }
}

impl Accounts {
    /// What a credential means at a door that accepts these profiles, with a
    /// guest beside the users, if there is one; `None`: no user that there
    /// is. A user's list counts for that user, the door's for all others; the
    /// first of a list is tried first.
    pub(super) fn meant<'a, 'c>(
        &'a self,
        door: &'a [Arc<Profile>],
        (username, password): (&'c str, &'c str),
        guest: Option<&str>,
        digest: impl Fn(&str) -> Digest,
    ) -> Option<Meant<'a, 'c>> {
        let all = || self.accepted(door);
        let mut ways = Vec::new();
        for profile in all() {
            let place = |user: Option<&User>, who: Who<'c>| match (user, who) {
                (Some(user), _) => place(user.profiles.as_deref().unwrap_or(door), profile),
                (None, Who::Name(name)) if guest == Some(name) => place(door, profile),
                (None, _) => None,
            };
            let is_known = |who: Who<'c>| place(self.find(who, &digest), who).is_some();
            if let Some(cut) = profile.cut(username, password, is_known) {
                let user = self.find(cut.who, &digest);
                ways.push((place(user, cut.who), Meant { user, profile, cut }));
            }
        }
        if ways.is_empty() && username.len() <= MAX_USERNAME && all().nth(1).is_some() {
            // That there is no such user is not told by time.
            all().for_each(|profile| drop(std::hint::black_box(profile.read(username))));
        }
        ways.sort_by_key(|(place, _)| *place);
        let meant = choose(ways.iter().map(|(_, way)| (&**way.profile, &way.cut)))?;
        Some(ways.swap_remove(meant).1)
    }

    /// The door's profiles, and after them what users have of their own.
    pub(super) fn accepted<'a>(&'a self, door: &'a [Arc<Profile>]) -> impl Iterator<Item = &'a Arc<Profile>> {
        let others = self.profiles.iter().filter(|profile| place(door, profile).is_none());
        door.iter().chain(others)
    }

    fn find(&self, who: Who<'_>, digest: impl Fn(&str) -> Digest) -> Option<&User> {
        let found = match who {
            Who::Name(name) => self.by_name.get(name),
            Who::Secret(secret) => self.by_name.get(self.by_secret.get(&digest(secret))?.as_ref()?),
        };
        found.map(|user| &**user)
    }
}

fn place(list: &[Arc<Profile>], profile: &Profile) -> Option<usize> {
    list.iter().position(|other| other.name == profile.name)
}

/// Users by their plain secrets. The digests are keyed: that they are looked
/// up by them tells nothing of a secret.
pub(super) fn by_secret(users: &HashMap<UserName, Arc<User>>) -> HashMap<Digest, Option<UserName>> {
    let mut by_secret = HashMap::new();
    for (name, user) in users {
        if let Stored::Plain(digest) = &user.secret {
            by_secret.entry(*digest).and_modify(|one| *one = None).or_insert_with(|| Some(name.clone()));
        }
    }
    by_secret
}

/// Every profile that some user has in a list of its own, once.
pub(super) fn listed(entries: &[Entry]) -> Vec<Arc<Profile>> {
    let mut all: Vec<Arc<Profile>> = Vec::new();
    for profile in entries.iter().filter_map(|entry| entry.profiles.as_deref()).flatten() {
        if place(&all, profile).is_none() {
            all.push(profile.clone());
        }
    }
    all
}
