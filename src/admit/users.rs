//! From a `Proxy-Authorization` field to a proven caller.
//!
//! Owns: the accounts in force, Basic credentials (RFC 7617), who is let in.
//! Must not know: what a caller asks for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use ipnet::IpNet;

use super::password::{Cost, Standing, Stored, Verifier};
use super::throttle::Throttle;
use crate::core::ask::Account;
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::secret::Secret;
use crate::core::username::split_user;

/// A user as configured.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its account.
    pub(crate) account: Account,
    /// Plain, or a PHC string.
    pub(crate) password: Secret,
    /// Where it may come from; empty: from anywhere.
    pub(crate) clients: Vec<IpNet>,
}

struct User {
    account: Arc<Account>,
    secret: Stored,
    clients: Vec<IpNet>,
}

/// Every account in force: a snapshot.
#[derive(Default)]
struct Accounts {
    by_name: HashMap<Arc<str>, User>,
    cost: Cost,
}

/// Proves callers.
pub(crate) struct Users {
    accounts: ArcSwap<Accounts>,
    verifier: Verifier,
    throttle: Throttle,
}

/// A caller that was proven.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Whose credential it was.
    pub(crate) account: Arc<Account>,
    /// What followed the user's name in the username: its parameters.
    pub(crate) tail: Box<str>,
}

impl Users {
    /// With so many wrong credentials a minute for each client network.
    pub(crate) fn new(entries: &[Entry], failures_per_minute: u32) -> Self {
        let users = Self {
            accounts: ArcSwap::default(),
            verifier: Verifier::new(),
            throttle: Throttle::new(failures_per_minute),
        };
        users.replace(entries);
        users
    }

    /// Puts other users in force.
    pub(crate) fn replace(&self, entries: &[Entry]) {
        let user = |entry: &Entry| User {
            account: Arc::new(entry.account.clone()),
            secret: self.verifier.store(&entry.password),
            clients: entry.clients.clone(),
        };
        let by_name: HashMap<_, _> =
            entries.iter().map(|entry| (entry.account.name.clone(), user(entry))).collect();
        let cost = Cost::of(by_name.values().map(|user| &user.secret));
        self.accounts.store(Arc::new(Accounts { by_name, cost }));
    }

    /// Every account in force, by name.
    pub(crate) fn accounts(&self) -> Vec<Arc<Account>> {
        let accounts = self.accounts.load();
        let mut all: Vec<_> = accounts.by_name.values().map(|user| user.account.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Proves the caller by the value of its `Proxy-Authorization` field.
    ///
    /// # Errors
    /// `auth_required` without a credential, `auth_failed` or
    /// `auth_throttled` with a wrong one, `client_forbidden`.
    pub(crate) async fn prove(&self, field: Option<&[u8]>, client: IpAddr) -> Result<Caller, Fault> {
        let Some(field) = field else {
            let detail = "send the user and its secret as Basic credentials in Proxy-Authorization";
            return Err(Fault::new(Code::AuthRequired, detail));
        };
        let accounts = self.accounts.load_full();
        let Some(credential) = credential(field) else { return Err(self.wrong(client)) };
        let username = credential.username.as_str();
        let found = split_user(username, |name| accounts.by_name.contains_key(name))
            .and_then(|(name, tail)| Some((accounts.by_name.get(name)?, tail)));
        let standing = match self.throttle.is_spent(client) {
            true => Standing::Suspect,
            false => Standing::Good,
        };
        let stored = found.map(|(user, _)| &user.secret);
        let secret = credential.secret.expose();
        let verified = self.verifier.verify(stored, secret, &accounts.cost, standing).await;
        let Ok(right) = verified else { return Err(no_turn()) };
        match found {
            Some((user, tail)) if right => user.admit(tail, client),
            _ => Err(self.wrong(client)),
        }
    }

    fn wrong(&self, client: IpAddr) -> Fault {
        let failed = || Fault::new(Code::AuthFailed, "no user has this name and secret: correct one of them");
        self.throttle.failed(client).err().unwrap_or_else(failed)
    }

    /// Forgets what no longer counts; to be called every minute or so.
    pub(crate) fn sweep(&self) {
        self.throttle.sweep();
        self.verifier.sweep();
    }
}

fn no_turn() -> Fault {
    let detail = "too many secrets are being checked: come back in a moment";
    Fault::new(Code::AuthThrottled, detail).retry_after(Duration::from_secs(5))
}

impl User {
    fn admit(&self, tail: &str, client: IpAddr) -> Result<Caller, Fault> {
        let client = client.to_canonical();
        if !self.clients.is_empty() && !self.clients.iter().any(|net| net.contains(&client)) {
            let detail = format!("{client} is not among the client addresses of this user");
            return Err(Fault::new(Code::ClientForbidden, detail));
        }
        Ok(Caller { account: self.account.clone(), tail: tail.into() })
    }
}

/// What the credential of a request says.
struct Credential {
    username: String,
    secret: Secret,
}

/// Clients pad or do not, and some encoders leave bits behind.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// RFC 7617: the secret is all that follows the first colon.
fn credential(field: &[u8]) -> Option<Credential> {
    let (scheme, rest) = field.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = String::from_utf8(BASE64.decode(rest.trim_ascii()).ok()?).ok()?;
    let (username, secret) = decoded.split_once(':')?;
    Some(Credential { username: username.to_owned(), secret: Secret::new(secret) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pool::{Affinity, SessionBounds};

    fn entry(name: &str, password: &str, clients: &[&str]) -> Entry {
        Entry {
            account: Account {
                name: name.into(),
                pools: None,
                default_pool: None,
                sessions: SessionBounds::default(),
                affinity: Affinity::None,
            },
            password: Secret::new(password),
            clients: clients.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    fn users() -> Users {
        let entries =
            [entry("acme", "p@s:s", &[]), entry("acme-b", "b", &[]), entry("near", "n", &["10.0.0.0/8"])];
        Users::new(&entries, 5)
    }

    async fn prove(users: &Users, credential: &str) -> Result<(String, String), Code> {
        let field = format!("bAsIc {}", BASE64.encode(credential));
        let caller = users.prove(Some(field.as_bytes()), IpAddr::from([192, 0, 2, 1])).await;
        caller.map(|c| (c.account.name.to_string(), c.tail.to_string())).map_err(|fault| fault.code())
    }

    #[tokio::test]
    async fn a_caller_is_proven_by_user_and_secret() {
        let users = users();
        let ok = |name: &str, tail: &str| Ok((name.to_owned(), tail.to_owned()));
        assert_eq!(prove(&users, "acme:p@s:s").await, ok("acme", ""));
        assert_eq!(prove(&users, "acme-session-x:p@s:s").await, ok("acme", "-session-x"));
        assert_eq!(prove(&users, "acme-b-session-x:b").await, ok("acme-b", "-session-x"));
        assert_eq!(prove(&users, "near:n").await, Err(Code::ClientForbidden));
        assert_eq!(prove(&users, "near:x").await, Err(Code::AuthFailed));
        assert_eq!(prove(&users, "nobody:n").await, Err(Code::AuthFailed));
        assert_eq!(prove(&users, "acme").await, Err(Code::AuthFailed));
    }

    #[tokio::test]
    async fn failures_are_throttled_and_right_ones_pass() {
        let users = users();
        for _ in 0..5 {
            assert_eq!(prove(&users, "acme:x").await, Err(Code::AuthFailed));
        }
        assert_eq!(prove(&users, "acme:x").await, Err(Code::AuthThrottled));
        assert!(prove(&users, "acme:p@s:s").await.is_ok());
        for _ in 0..100 {
            let fault = users.prove(None, IpAddr::from([192, 0, 2, 2])).await.unwrap_err();
            assert_eq!(fault.code(), Code::AuthRequired);
        }
        assert_eq!(prove(&users, "acme:x").await, Err(Code::AuthThrottled));
    }

    #[test]
    fn credentials_are_read_as_rfc_7617_says() {
        let read =
            |field: &str| credential(field.as_bytes()).map(|c| (c.username, c.secret.expose().to_owned()));
        assert_eq!(read("Basic YTpiOmM="), Some(("a".into(), "b:c".into())));
        assert_eq!(read("basic YTpiOmM"), Some(("a".into(), "b:c".into())));
        assert_eq!(read("BASIC   YTo="), Some(("a".into(), String::new())));
        assert_eq!(read("Bearer YTpi"), None);
        assert_eq!(read("Basic"), None);
        assert_eq!(read("Basic !"), None);
    }
}
