//! From a `Proxy-Authorization` field to a proven caller.
//!
//! Owns: the accounts in force, who is let in.
//! Must not know: what a caller asks for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::limits::tab::{InUse, Tab};
use super::limits::tabs::Tabs;
use super::password::{Cost, Digest, Standing, Stored, Verifier};
use super::recent::Recent;
use super::throttle::Throttle;
use super::tokens::{Grant, Tokens, is_token};
use crate::clock::Clock;
use crate::config::tokens::Tokens as TokenConfig;
use crate::core::ask::Account;
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::limits::UserLimits;
use crate::core::pool::{Affinity, SessionBounds};
use crate::core::profile::Profile;
use crate::core::profile::cut::Cut;
use crate::core::secret::Secret;
use crate::core::session::UserName;

mod credential;
mod meant;
mod upkeep;

use credential::Credential;
use meant::{by_secret, listed};

/// A user as configured.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its account.
    pub(crate) account: Account,
    /// Plain, or a PHC string.
    pub(crate) password: Secret,
    /// Where it may come from; empty: from anywhere.
    pub(crate) clients: Vec<IpNet>,
    /// What it may use up.
    pub(crate) limits: UserLimits,
    /// The grammars that it may use; `None`: those of the listener.
    pub(crate) profiles: Option<Arc<[Arc<Profile>]>>,
}

struct User {
    account: Arc<Account>,
    secret: Stored,
    profiles: Option<Arc<[Arc<Profile>]>>,
    clients: Vec<IpNet>,
    tab: Arc<Tab>,
}

/// Every account in force: a snapshot.
#[derive(Default)]
struct Accounts {
    /// No other snapshot of this process has it.
    epoch: u64,
    by_name: HashMap<UserName, Arc<User>>,
    /// Users by their plain secrets; `None`: several have that one.
    by_secret: HashMap<Digest, Option<UserName>>,
    /// The grammars that users have in lists of their own.
    profiles: Vec<Arc<Profile>>,
    cost: Cost,
    tokens: Option<Arc<Tokens>>,
}

thread_local! {
    /// The Basic credentials that were right of late.
    static RIGHT: RefCell<Recent<Right>> = RefCell::new(Recent::new());
}

/// What was found out about a credential that was right.
#[derive(Clone)]
struct Right {
    user: Arc<User>,
    said: Said,
    /// At another door it may mean something else.
    door: Arc<[Arc<Profile>]>,
}

/// What a credential says beside user and secret.
#[derive(Clone)]
struct Said {
    tail: Arc<str>,
    profile: Arc<Profile>,
}

/// Proves callers.
pub(crate) struct Users {
    accounts: ArcSwap<Accounts>,
    verifier: Verifier,
    throttle: Throttle,
    tabs: Arc<Tabs>,
    clock: Arc<dyn Clock>,
}

/// A user, and what it uses.
#[derive(Debug)]
pub(crate) struct Used {
    /// Its name.
    pub(crate) name: UserName,
    /// Its account, if it is configured.
    pub(crate) account: Option<Arc<Account>>,
    /// What it uses now.
    pub(crate) in_use: InUse,
}

/// A caller that was proven.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Whose credential it was.
    pub(crate) account: Arc<Account>,
    /// What followed the user's name, or its secret: its parameters.
    pub(crate) tail: Arc<str>,
    /// The grammar in which they are written.
    pub(crate) profile: Arc<Profile>,
    /// What its user uses.
    pub(crate) tab: Arc<Tab>,
    /// What its token grants, where it has one.
    pub(crate) grant: Option<Arc<Grant>>,
}

impl Users {
    /// With so many wrong credentials a minute for each client network; no
    /// user yet.
    pub(crate) fn new(failures_per_minute: u32, tabs: Arc<Tabs>, clock: Arc<dyn Clock>) -> Self {
        Self {
            accounts: ArcSwap::default(),
            verifier: Verifier::new(),
            throttle: Throttle::new(failures_per_minute),
            tabs,
            clock,
        }
    }

    /// Puts other users and tokens in force. What stays the same goes on: what
    /// a user has used up, what was verified. A user that is gone is cut off.
    /// Not to be called by two at a time.
    pub(crate) fn replace(&self, entries: &[Entry], tokens: Option<&Arc<TokenConfig>>) {
        let before = self.accounts.load_full();
        let user = |entry: &Entry| User {
            account: Arc::new(entry.account.clone()),
            secret: self
                .verifier
                .store(&entry.password, before.by_name.get(&entry.account.name).map(|user| &user.secret)),
            clients: entry.clients.clone(),
            profiles: entry.profiles.clone(),
            tab: self.tabs.of(&entry.account.name),
        };
        let by_name: HashMap<_, _> =
            entries.iter().map(|entry| (entry.account.name.clone(), Arc::new(user(entry)))).collect();
        let by_secret = by_secret(&by_name);
        let profiles = listed(entries);
        let cost = Cost::of(by_name.values().map(|user: &Arc<User>| &user.secret));
        let tokens = tokens.map(|config| match &before.tokens {
            Some(known) if *known.config() == **config => known.clone(),
            _ => Arc::new(Tokens::new(config.clone())),
        });
        let any_user = tokens.as_ref().is_some_and(|tokens| tokens.config().any_user);
        static EPOCH: AtomicU64 = AtomicU64::new(1);
        let epoch = EPOCH.fetch_add(1, Relaxed);
        self.accounts.store(Arc::new(Accounts { epoch, by_name, by_secret, profiles, cost, tokens }));
        let limits = entries.iter().map(|entry| (&entry.account.name, entry.limits));
        self.tabs.configure(limits, any_user);
    }

    /// Proves the caller by the value of its `Proxy-Authorization` field, at a
    /// door that accepts these grammars.
    ///
    /// # Errors
    /// `auth_required` without a credential, `auth_failed` or
    /// `auth_throttled` with a wrong one, `client_forbidden`.
    pub(crate) async fn prove(
        &self,
        field: Option<&[u8]>,
        client: IpAddr,
        door: &Arc<[Arc<Profile>]>,
    ) -> Result<Caller, Fault> {
        let Some(field) = field else {
            let detail = "send the user and its secret as Basic credentials in Proxy-Authorization";
            return Err(Fault::new(Code::AuthRequired, detail));
        };
        let epoch = self.accounts.load().epoch;
        let known: Option<Right> = RIGHT.with_borrow(|right| right.recall(epoch, field));
        if let Some(right) = known.filter(|right| Arc::ptr_eq(&right.door, door)) {
            return right.user.admit(right.said, client);
        }
        Box::pin(self.prove_anew(field, client, door)).await
    }

    /// (Boxed by its only caller: requests whose credential is known make no
    /// room for it.)
    async fn prove_anew(
        &self,
        field: &[u8],
        client: IpAddr,
        door: &Arc<[Arc<Profile>]>,
    ) -> Result<Caller, Fault> {
        let accounts = self.accounts.load_full();
        match Credential::read(field) {
            None => Err(self.wrong(client)),
            Some(Credential::Bearer(token)) => {
                let grant = self.grant(&accounts, token.expose());
                let nothing = Said { tail: "".into(), profile: Profile::ours().clone() };
                let caller = grant.and_then(|grant| self.granted(&accounts, &grant, nothing, client));
                caller.unwrap_or_else(|| Err(self.wrong(client)))
            }
            Some(Credential::Basic { username, secret }) => {
                let written = (&*username, secret.expose());
                let caller = self.prove_basic(&accounts, written, client, door).await?;
                // A token's end is looked at each time.
                if let (None, Some(user)) = (&caller.grant, accounts.by_name.get(&caller.account.name)) {
                    let said = Said { tail: caller.tail.clone(), profile: caller.profile.clone() };
                    let known = Right { user: user.clone(), said, door: door.clone() };
                    RIGHT.with_borrow_mut(|right| right.remember(accounts.epoch, field, known));
                }
                Ok(caller)
            }
        }
    }

    /// Proves the caller by a username and a secret that came otherwise.
    ///
    /// # Errors
    /// `auth_failed` or `auth_throttled`, `client_forbidden`.
    pub(crate) async fn login(
        &self,
        username: &[u8],
        secret: &[u8],
        client: IpAddr,
        door: &Arc<[Arc<Profile>]>,
    ) -> Result<Caller, Fault> {
        let accounts = self.accounts.load_full();
        match (std::str::from_utf8(username), std::str::from_utf8(secret)) {
            (Ok(username), Ok(secret)) => {
                Box::pin(self.prove_basic(&accounts, (username, secret), client, door)).await
            }
            // Nobody has it; what it costs tells nothing of any user.
            _ => Err(self.wrong(client)),
        }
    }

    /// The user of this name, for a client that comes from one of the
    /// addresses that are listed for it.
    pub(crate) fn at_home(&self, name: &str, client: IpAddr) -> Option<Caller> {
        let accounts = self.accounts.load();
        let user = accounts.by_name.get(name).filter(|user| !user.clients.is_empty())?;
        let nothing = Said { tail: "".into(), profile: Profile::ours().clone() };
        user.admit(nothing, client).ok()
    }

    async fn prove_basic(
        &self,
        accounts: &Accounts,
        (username, password): (&str, &str),
        client: IpAddr,
        door: &[Arc<Profile>],
    ) -> Result<Caller, Fault> {
        let digest = |secret: &str| self.verifier.digest(secret);
        let written = (username, password);
        // A secret may look like a token and be none; so a token that is worth
        // nothing costs what every wrong secret costs, whoever the user is.
        if let Some((token, grant)) = self.grant_in(accounts, password, door)
            && let Some(meant) = accounts.meant(door, written, Some(&grant.user), digest)
            && *meant.name() == *grant.user
            && meant.cut.secret == token
            && let Some(caller) = self.granted(accounts, &grant, meant.said(), client)
        {
            return caller;
        }
        let meant = accounts.meant(door, written, None, digest);
        let standing = match self.throttle.is_spent(client) {
            true => Standing::Suspect,
            false => Standing::Good,
        };
        let user = meant.as_ref().and_then(|meant| meant.user);
        let secret = meant.as_ref().map_or(password, |meant| meant.cut.secret);
        let stored = user.map(|user| &user.secret);
        let verified = self.verifier.verify(stored, secret, &accounts.cost, standing).await;
        let Ok(right) = verified else { return Err(no_turn()) };
        match (user, meant) {
            (Some(user), Some(meant)) if right => user.admit(meant.said(), client),
            _ => Err(self.wrong(client)),
        }
    }

    /// How a credential is taken apart, whether or not its secret is right:
    /// the user's name, in which grammar it is written, its parts.
    pub(crate) fn take_apart<'c>(
        &self,
        written: (&'c str, &'c str),
        door: &[Arc<Profile>],
    ) -> Option<(UserName, Arc<Profile>, Cut<'c>)> {
        let accounts = self.accounts.load_full();
        let meant = accounts.meant(door, written, None, |secret| self.verifier.digest(secret))?;
        Some((meant.name().into(), meant.profile.clone(), meant.cut))
    }

    /// What the token grants that stands in a password, in some grammar.
    fn grant_in<'p>(
        &self,
        accounts: &Accounts,
        password: &'p str,
        door: &[Arc<Profile>],
    ) -> Option<(&'p str, Arc<Grant>)> {
        accounts.tokens.as_ref()?;
        let mut parts: Vec<_> = accounts.accepted(door).map(|profile| profile.secret(password)).collect();
        parts.dedup_by_key(|part| part.len());
        let mut tokens = parts.into_iter().filter(|part| is_token(part));
        tokens.find_map(|token| Some((token, self.grant(accounts, token)?)))
    }

    /// What a token grants by the wall clock, which whoever signed it has.
    fn grant(&self, accounts: &Accounts, token: &str) -> Option<Arc<Grant>> {
        accounts.tokens.as_ref()?.grant(token, self.clock.wall())
    }

    /// The caller that a token makes; `None`: its user is unknown here.
    fn granted(
        &self,
        accounts: &Accounts,
        grant: &Arc<Grant>,
        said: Said,
        client: IpAddr,
    ) -> Option<Result<Caller, Fault>> {
        let caller = match accounts.by_name.get(&grant.user) {
            Some(user) => user.admit(said, client),
            None if accounts.tokens.as_ref()?.config().any_user => Ok(Caller {
                account: Arc::new(guest(&grant.user)),
                tail: said.tail,
                profile: said.profile,
                tab: self.tabs.of(&grant.user),
                grant: None,
            }),
            None => return None,
        };
        Some(caller.map(|caller| Caller { grant: Some(grant.clone()), ..caller }))
    }

    fn wrong(&self, client: IpAddr) -> Fault {
        let failed = || Fault::new(Code::AuthFailed, "no user has this name and secret: correct one of them");
        self.throttle.failed(client).err().unwrap_or_else(failed)
    }
}

/// A user of which only a token knows: any pool, no limits but the token's.
fn guest(name: &UserName) -> Account {
    Account {
        name: name.clone(),
        pools: None,
        default_pool: None,
        sessions: SessionBounds::default(),
        affinity: Affinity::None,
    }
}

fn no_turn() -> Fault {
    let detail = "too many secrets are being checked: come back in a moment";
    Fault::new(Code::AuthThrottled, detail).retry_after(Duration::from_secs(5))
}

impl User {
    fn admit(&self, said: Said, client: IpAddr) -> Result<Caller, Fault> {
        let client = client.to_canonical();
        if !self.clients.is_empty() && !self.clients.iter().any(|net| net.contains(&client)) {
            let detail = format!("{client} is not among the client addresses of this user");
            return Err(Fault::new(Code::ClientForbidden, detail));
        }
        let Said { tail, profile } = said;
        Ok(Caller { account: self.account.clone(), tail, profile, tab: self.tab.clone(), grant: None })
    }
}

#[cfg(test)]
mod tests;
