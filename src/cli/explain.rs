//! `moorgate explain`: what a credential means, or where it is wrong.
//!
//! Owns: which user and grammar it is held against, the sentences and the
//! JSON of an explanation.
//! Must not know: a running gateway.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{Mistaken, print, run};
use crate::admit::users::Users;
use crate::clock::SystemClock;
use crate::config::{self, Config, ConfigSource, Profiles};
use crate::core::ask::{Account, Ask, AtHand, GatewayBounds, ask, judge};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::pool::Pools;
use crate::core::profile::cut::{Cut, Who};
use crate::core::profile::{Naming, Place, Profile};
use crate::core::typo::nearest;
use crate::core::username::{Key, Parameters};
use crate::gateway;

#[derive(Args)]
pub(super) struct Explain {
    /// The configuration file, for users, pools and bounds.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// In which grammar it is written: moorgate, or a profile's name.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// As in a proxy URL.
    #[arg(value_name = "USERNAME[:PASSWORD]", allow_hyphen_values = true)]
    credential: String,
}

/// Says what a credential means.
pub(super) fn explained(asked: &Explain) -> anyhow::Result<()> {
    let known = asked.config.as_ref().map(|file| Known::load(file.clone())).transpose()?;
    let profile = asked.profile.as_ref().map(|name| named(name, known.as_ref())).transpose()?;
    let explained = match &known {
        None => without_users(&asked.credential, profile.as_ref().unwrap_or_else(|| Profile::ours())),
        Some(known) => known.explain(&asked.credential, profile.as_ref())?,
    };
    // Where nothing says in which grammar it is, it may be another one.
    let is_open = !asked.json && known.is_none() && profile.is_none();
    let others = || if is_open { others(&asked.credential) } else { String::new() };
    match explained {
        Ok(meaning) if asked.json => print(&format!("{:#}\n", meaning.json())),
        Ok(meaning) if meaning.parameters == Parameters::default() => print(&(meaning.text() + &others())),
        Ok(meaning) => print(&meaning.text()),
        Err(wrong) if asked.json => {
            print(&format!("{:#}\n", wrong.json()))?;
            Err(Mistaken.into())
        }
        Err(wrong) => {
            print(&(wrong.text() + &others()))?;
            Err(Mistaken.into())
        }
    }
}

fn named(name: &str, known: Option<&Known>) -> anyhow::Result<Arc<Profile>> {
    let shipped = Profiles::default();
    let profiles = known.map_or(&shipped, |known| &known.config.profiles);
    profiles.find(name).ok_or_else(|| match nearest(name, profiles.names()) {
        Some(meant) => anyhow::anyhow!("there is no profile {name}: did you mean {meant}?"),
        None => anyhow::anyhow!("there is no profile {name}: moorgate profiles lists those that are shipped"),
    })
}

/// What credentials are held against.
struct Known {
    config: Config,
    accounts: Vec<Account>,
    pools: Pools,
    bounds: GatewayBounds,
}

impl Known {
    fn load(file: PathBuf) -> anyhow::Result<Self> {
        let (config, _) = Config::load(&ConfigSource { config: Some(file), ..ConfigSource::default() })?;
        let pools = config::load_pools(&config)?.pools;
        let accounts = config.users.iter().map(config::User::account).collect();
        let bounds = config.bounds();
        Ok(Self { config, accounts, pools, bounds })
    }

    /// What the gateway would make of a credential; a profile that is named
    /// counts for every user.
    fn explain(
        &self,
        credential: &str,
        named: Option<&Arc<Profile>>,
    ) -> anyhow::Result<Result<Meaning, Wrong>> {
        let (username, password) = credential.split_once(':').unwrap_or((credential, ""));
        let door = match named {
            Some(profile) => vec![profile.clone()],
            None => self.doors(),
        };
        let mut entries = gateway::entries(&self.config);
        if named.is_some() {
            entries.iter_mut().for_each(|entry| entry.profiles = None);
        }
        let users = Users::new(0, Arc::default(), Arc::new(SystemClock::new()));
        users.replace(&entries, self.config.tokens.as_ref());
        if credential.contains(':')
            && let Some(fault) = wrong_secret(&users, credential, door.clone())?
        {
            return Ok(Err(Wrong::new(credential, None, fault, username.len())));
        }
        let Some((name, profile, cut)) = users.take_apart((username, password), &door) else {
            let fault = Fault::new(Code::AuthFailed, "no user of the configuration has this name");
            return Ok(Err(Wrong::new(credential, None, fault, 0)));
        };
        let Some(account) = self.accounts.iter().find(|account| account.name == name) else {
            anyhow::bail!("the user {name} is not configured");
        };
        Ok(read(credential, Some(name.to_string()), &profile, &cut).and_then(|meaning| {
            let wrong = |fault| meaning.wrong(credential, fault, &cut);
            let asked = judge(&meaning.parameters, account, &self.bounds)
                .and_then(|()| self.asked(&meaning.parameters, &profile, account));
            let asked = asked.map_err(wrong)?;
            Ok(Meaning { asked: Some(asked), ..meaning })
        }))
    }

    /// What is accepted at any listener, in the listeners' order.
    fn doors(&self) -> Vec<Arc<Profile>> {
        let ours = [Profile::ours().clone()];
        let lists =
            self.config.listeners.iter().map(|listener| listener.profiles.as_deref().unwrap_or(&ours));
        let mut all: Vec<Arc<Profile>> = Vec::new();
        for profile in lists.flatten() {
            if all.iter().all(|other| other.name != profile.name) {
                all.push(profile.clone());
            }
        }
        all
    }

    fn asked(&self, parameters: &Parameters, profile: &Profile, account: &Account) -> Result<Ask, Fault> {
        let at_hand = AtHand { client: IpAddr::V4(Ipv4Addr::LOCALHOST), target: None };
        let none = Parameters::default();
        let defaults = profile.defaults(&none);
        ask(parameters.clone(), &defaults, account, &self.pools, &self.bounds, at_hand)
    }
}

/// What the gateway would say of a credential's secret.
fn wrong_secret(users: &Users, credential: &str, door: Vec<Arc<Profile>>) -> anyhow::Result<Option<Fault>> {
    let field = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credential));
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let proven = run::runtime()?.block_on(users.prove(Some(field.as_bytes()), here, &door.into()));
    Ok(proven.err().filter(|fault| fault.code() == Code::AuthFailed))
}

/// What a credential means whose user may have any name: the name ends at the
/// first key.
fn without_users(credential: &str, profile: &Arc<Profile>) -> Result<Meaning, Wrong> {
    let (username, password) = credential.split_once(':').unwrap_or((credential, ""));
    let guessed = guess(username, profile);
    let cut = profile.cut(username, password, |who| match (who, &profile.user) {
        (Who::Name(name), Naming::First) => guessed == Some(name),
        (Who::Name(name), _) => !name.is_empty() && !name.contains(&*profile.pair),
        (Who::Secret(_), _) => true,
    });
    let Some(cut) = cut else {
        let begin =
            profile.prefixes.iter().map(|prefix| format!("{prefix:?}")).collect::<Vec<_>>().join(" or ");
        let detail = format!("in profile {} a username begins with {begin} and names a user", profile.name);
        return Err(Wrong::new(credential, None, Fault::new(Code::AuthFailed, detail), 0));
    };
    let user = match cut.who {
        Who::Name(name) => Some(name.to_owned()),
        Who::Secret(_) => None,
    };
    let meaning = read(credential, user, profile, &cut)?;
    let p = &meaning.parameters;
    if p.session.is_none() && (p.ttl.is_some() || p.idle.is_some()) {
        let fault = Fault::new(Code::TtlWithoutSession, "ttl and idle need a session");
        return Err(meaning.wrong(credential, fault, &cut));
    }
    Ok(meaning)
}

/// The name ends before the first key; where values without a key may come
/// first, it is the shortest that leaves something to read.
fn guess<'c>(username: &'c str, profile: &Profile) -> Option<&'c str> {
    let rest = profile.prefixes.iter().find_map(|prefix| username.strip_prefix(&**prefix))?;
    let ends = || rest.match_indices(&*profile.first).map(|(at, _)| at).filter(|at| *at > 0);
    let reads = |at: &usize| !profile.positions.is_empty() && profile.read(&rest[*at..]).is_ok();
    let has_key = |at: &usize| profile.told_at(&rest[at + profile.first.len()..]).is_some();
    let end = ends().find(reads).or_else(|| ends().find(has_key));
    let end = end.or_else(|| ends().next().filter(|_| !profile.positions.is_empty()));
    Some(&rest[..end.unwrap_or(rest.len())]).filter(|name| !name.is_empty())
}

fn read(
    credential: &str,
    user: Option<String>,
    profile: &Arc<Profile>,
    cut: &Cut<'_>,
) -> Result<Meaning, Wrong> {
    match profile.read(&cut.tail) {
        Ok(parameters) => Ok(Meaning { user, profile: profile.clone(), parameters, asked: None }),
        Err(error) => Err(Wrong::new(credential, Some(cut), error.fault, cut.place(error.at))),
    }
}

/// Shipped profiles that read what ours does not.
fn others(credential: &str) -> String {
    let shipped = config::shipped_names().filter_map(|name| config::shipped(name).ok()?).map(Arc::new);
    // What has neither a prefix nor a password with parameters reads too much.
    let telling = |profile: &Profile| {
        profile.place == Place::Password || profile.prefixes.iter().all(|prefix| !prefix.is_empty())
    };
    let reads = |profile: &Arc<Profile>| {
        let nothing = Parameters { clamp: profile.clamp, ..Parameters::default() };
        telling(profile)
            && without_users(credential, profile).is_ok_and(|meaning| meaning.parameters != nothing)
    };
    let names: Vec<_> = shipped.filter(reads).map(|profile| profile.name.to_string()).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!("As a profile it could be {} (--profile NAME).\n", names.join(", ")),
    }
}

/// What a credential means.
struct Meaning {
    user: Option<String>,
    profile: Arc<Profile>,
    parameters: Parameters,
    /// With a configuration: what its defaults make of it.
    asked: Option<Ask>,
}

impl Meaning {
    /// Well-formed, and still not to be had; the fault's code tells which
    /// parameter it is about.
    fn wrong(&self, credential: &str, fault: Fault, cut: &Cut<'_>) -> Wrong {
        let keys: &[Key] = match fault.code() {
            Code::PoolForbidden => &[Key::Pool],
            Code::ExitUnknown | Code::ParameterConflict => &[Key::Exit],
            _ => &[Key::Ttl, Key::Idle],
        };
        let at = self.profile.place_of(&cut.tail, keys).unwrap_or(0);
        Wrong::new(credential, Some(cut), fault, cut.place(at))
    }

    fn json(&self) -> Value {
        let ask = self.asked.as_ref();
        let p = &self.parameters;
        let session = ask.and_then(|ask| ask.session.as_ref());
        let own = p.session.as_ref();
        let ttl = session.map(|s| s.ttl).or(p.ttl).or_else(|| own.and(self.profile.ttl));
        let idle = match session {
            Some(session) => session.idle,
            None => p.idle.or_else(|| own.and(self.profile.idle)),
        };
        let pool =
            ask.map(|ask| ask.pool.name.to_string()).or_else(|| p.pool.as_ref().map(|n| n.as_str().into()));
        let exit = ask.and_then(|ask| ask.exit.as_ref()).map(|exit| exit.name.id.to_string());
        let exit = exit.or_else(|| p.exit.as_ref().map(|name| name.as_str().into()));
        let failover = ask.map(|ask| ask.failover).or(p.failover);
        let labels: Map<_, _> = p.labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        json!({
            "user": self.user,
            "profile": self.profile.name,
            "session": own.map(|id| id.as_str()),
            "ttl_seconds": ttl.map(|ttl| ttl.as_secs()),
            "idle_seconds": idle.map(|idle| idle.as_secs()),
            "pool": pool,
            "exit": exit,
            "failover": failover.map(|failover| failover.word()),
            "labels": labels,
        })
    }

    fn text(&self) -> String {
        let Value::Object(fields) = self.json() else { return String::new() };
        let mut text = String::new();
        for (name, value) in fields {
            let shown = match &value {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                Value::Object(labels) if labels.is_empty() => continue,
                Value::Object(labels) => {
                    let pairs = labels.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")));
                    pairs.collect::<Vec<_>>().join(", ")
                }
                other => other.to_string(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:<13} {shown}", name.replace("_seconds", " (s)"));
        }
        if self.user.is_none() {
            text.push_str("The user is the one with this secret.\n");
        }
        text.push_str(match self.parameters.session.is_some() {
            true => "One exit for as long as the session lives.\n",
            false => "No session: another exit for each request.\n",
        });
        text
    }
}

/// Where and why a credential is wrong.
struct Wrong {
    /// The credential, as far as it may be shown.
    shown: String,
    /// The character of it that is marked.
    column: usize,
    fault: Fault,
    /// In bytes of the credential.
    at: usize,
}

impl Wrong {
    /// At a byte of the credential. A secret is not shown.
    fn new(credential: &str, cut: Option<&Cut<'_>>, fault: Fault, at: usize) -> Self {
        let (username, _) = credential.split_once(':').unwrap_or((credential, ""));
        let clean =
            |text: &str| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
        let (shown, before) = match cut.filter(|_| at > username.len()) {
            None => (clean(username), clean(username.get(..at.min(username.len())).unwrap_or_default())),
            Some(cut) => {
                let start = format!("{}:***", clean(username));
                let tail = at - username.len() - 1 - cut.secret.len();
                let before = format!("{start}{}", clean(cut.tail.get(..tail).unwrap_or_default()));
                (format!("{start}{}", clean(&cut.tail)), before)
            }
        };
        Self { shown, column: before.chars().count(), fault, at }
    }

    fn json(&self) -> Value {
        json!({ "code": self.fault.code().name(), "at": self.at, "detail": self.fault.detail() })
    }

    fn text(&self) -> String {
        let marker = " ".repeat(self.column);
        format!("{}\n{marker}^\n{}: {}\n", self.shown, self.fault.code(), self.fault.detail())
    }
}

#[cfg(test)]
mod tests;
