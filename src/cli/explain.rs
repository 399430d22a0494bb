//! `moorgate explain`: what a credential means, or where it is wrong.
//!
//! Owns: the sentences and the JSON of an explanation.
//! Must not know: a running gateway.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};

use crate::core::ask::{Account, Ask, AtHand, GatewayBounds, ask, judge};
use crate::core::fault::Fault;
use crate::core::pool::Pools;
use crate::core::username::{Key, Parameters, parse, split_user};

/// What usernames are held against.
pub(super) struct Known {
    pub(super) accounts: Vec<Account>,
    pub(super) pools: Pools,
    pub(super) bounds: GatewayBounds,
}

/// What a credential means.
pub(super) struct Meaning {
    user: String,
    parameters: Parameters,
    /// With a configuration: what its defaults make of it.
    asked: Option<Ask>,
}

/// Where and why a credential is wrong.
pub(super) struct Wrong {
    username: String,
    fault: Fault,
    at: usize,
}

/// Explains `USERNAME[:PASSWORD]`. Without a configuration the user's name
/// ends at the first key.
pub(super) fn explain(credential: &str, known: Option<&Known>) -> Result<Meaning, Wrong> {
    let username = credential.split_once(':').map_or(credential, |(username, _)| username);
    let wrong = |fault, at| Wrong { username: username.to_owned(), fault, at };
    let (user, tail) = match known {
        None => split_at_first_key(username),
        Some(known) => split_user(username, |name| known.accounts.iter().any(|a| *a.name == *name))
            .ok_or_else(|| wrong(unknown_user(), 0))?,
    };
    let parameters = parse(tail).map_err(|error| wrong(error.fault, user.len() + error.at))?;
    let account = known.and_then(|known| known.accounts.iter().find(|a| *a.name == *user));
    let asked = match known.zip(account) {
        Some((known, account)) => Some(
            judge(&parameters, account, &known.bounds)
                .and_then(|()| asked(parameters.clone(), account, known))
                .map_err(|fault| {
                    let at = user.len() + place(&fault, tail);
                    wrong(fault, at)
                })?,
        ),
        None if parameters.session.is_none() && (parameters.ttl.is_some() || parameters.idle.is_some()) => {
            let fault = Fault::new(
                crate::core::code::Code::TtlWithoutSession,
                "ttl and idle need a session: add -session-<id>",
            );
            let at = user.len() + place(&fault, tail);
            return Err(wrong(fault, at));
        }
        None => None,
    };
    Ok(Meaning { user: user.to_owned(), parameters, asked })
}

fn asked(parameters: Parameters, account: &Account, known: &Known) -> Result<Ask, Fault> {
    let at_hand = AtHand { client: IpAddr::V4(Ipv4Addr::LOCALHOST), target: None };
    ask(parameters, &Parameters::default(), account, &known.pools, &known.bounds, at_hand)
}

fn unknown_user() -> Fault {
    Fault::new(crate::core::code::Code::AuthFailed, "no user of the configuration has this name")
}

/// The name ends before the first key that has a `-` on both sides, or ends
/// the username.
fn split_at_first_key(username: &str) -> (&str, &str) {
    let cut = username.match_indices('-').map(|(at, _)| at).find(|at| {
        let key = username[at + 1..].split('-').next().unwrap_or("");
        *at > 0 && Key::find(key).is_some()
    });
    username.split_at(cut.unwrap_or(username.len()))
}

/// Where the pair is that a fault is about, as its code tells.
fn place(fault: &Fault, tail: &str) -> usize {
    use crate::core::code::Code as C;
    let keys: &[&str] = match fault.code() {
        C::PoolForbidden => &["pool"],
        C::ExitUnknown | C::ParameterConflict => &["exit"],
        _ => &["ttl", "idle"],
    };
    let lower = tail.to_ascii_lowercase();
    keys.iter().find_map(|key| lower.find(&format!("-{key}-"))).map_or(0, |at| at + 1)
}

impl Meaning {
    pub(super) fn json(&self) -> Value {
        let ask = self.asked.as_ref();
        let p = &self.parameters;
        let session = ask.and_then(|ask| ask.session.as_ref());
        let ttl = session.map(|s| s.ttl).or(p.ttl);
        let idle = session.and_then(|s| s.idle).or(p.idle);
        let pool =
            ask.map(|ask| ask.pool.name.to_string()).or_else(|| p.pool.as_ref().map(|n| n.as_str().into()));
        let exit = ask.and_then(|ask| ask.exit.as_ref()).map(|exit| exit.name.id.to_string());
        let exit = exit.or_else(|| p.exit.as_ref().map(|name| name.as_str().into()));
        let failover = ask.map(|ask| ask.failover).or(p.failover);
        let labels: Map<_, _> = p.labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        json!({
            "user": self.user,
            "session": p.session.as_ref().map(|id| id.as_str()),
            "ttl_seconds": ttl.map(|ttl| ttl.as_secs()),
            "idle_seconds": idle.map(|idle| idle.as_secs()),
            "pool": pool,
            "exit": exit,
            "failover": failover.map(|failover| failover.word()),
            "labels": labels,
        })
    }

    pub(super) fn text(&self) -> String {
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
        let session = self.parameters.session.is_some();
        text.push_str(if session {
            "One exit for as long as the session lives.\n"
        } else {
            "No session: another exit for each request.\n"
        });
        text
    }
}

impl Wrong {
    /// The secret is wrong; it is not shown.
    pub(super) fn of_secret(credential: &str, fault: Fault) -> Self {
        let (username, _) = credential.split_once(':').unwrap_or((credential, ""));
        Self { username: username.to_owned(), fault, at: username.len() }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "code": self.fault.code().name(), "at": self.at, "detail": self.fault.detail() })
    }

    pub(super) fn text(&self) -> String {
        let shown: String = self.username.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let column = self.username.get(..self.at).map_or(0, |before| before.chars().count());
        let marker = " ".repeat(column);
        format!("{shown}\n{marker}^\n{}: {}\n", self.fault.code(), self.fault.detail())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(credential: &str, expected: &Value) {
        let got = match explain(credential, None) {
            Ok(meaning) => meaning.json(),
            Err(wrong) => json!({ "code": wrong.fault.code().name(), "at": wrong.at }),
        };
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&got[key], value, "{credential}: {key}");
        }
    }

    #[test]
    fn a_credential_is_explained_or_its_fault_is_marked() {
        check(
            "acme-pool-us-session-cart42-ttl-24h:secret",
            &json!({ "user": "acme", "pool": "us", "session": "cart42", "ttl_seconds": 86_400, "idle_seconds": null }),
        );
        check("acme-b", &json!({ "user": "acme-b", "session": null }));
        check("acme-session-a-sesion-b", &json!({ "code": "parameter_unknown", "at": 15 }));
        check("acme-country-us-ttl-5m", &json!({ "code": "ttl_without_session", "at": 16 }));
        check("acme-city-new_york", &json!({ "labels": { "city": "new_york" } }));
    }

    #[test]
    fn the_place_is_marked() {
        let Err(wrong) = explain("acme-session-a-sesion-b", None) else { panic!("taken") };
        let text = wrong.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1].find('^'), lines[0].find("sesion"));
        assert!(lines[2].contains("did you mean session?"));
    }
}
