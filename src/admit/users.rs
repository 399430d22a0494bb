//! From a `Proxy-Authorization` field to a proven caller.
//!
//! Owns: the accounts in force, Basic and Bearer credentials (RFC 7617, RFC
//! 6750), who is let in.
//! Must not know: what a caller asks for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use ipnet::IpNet;

use super::limits::tab::{InUse, Tab};
use super::limits::tabs::Tabs;
use super::password::{Cost, Standing, Stored, Verifier};
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
use crate::core::secret::Secret;
use crate::core::session::UserName;
use crate::core::username::split_user;
use crate::store::days::DayBytes;

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
}

struct User {
    account: Arc<Account>,
    secret: Stored,
    clients: Vec<IpNet>,
    tab: Arc<Tab>,
}

/// Every account in force: a snapshot.
#[derive(Default)]
struct Accounts {
    /// No other snapshot of this process has it.
    epoch: u64,
    by_name: HashMap<UserName, Arc<User>>,
    cost: Cost,
    tokens: Option<Arc<Tokens>>,
}

thread_local! {
    /// The Basic credentials that were right of late: whose they are, and what
    /// follows the user's name.
    static RIGHT: RefCell<Recent<(Arc<User>, Arc<str>)>> = RefCell::new(Recent::new());
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
    /// What followed the user's name in the username: its parameters.
    pub(crate) tail: Arc<str>,
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
            tab: self.tabs.of(&entry.account.name),
        };
        let by_name: HashMap<_, _> =
            entries.iter().map(|entry| (entry.account.name.clone(), Arc::new(user(entry)))).collect();
        let cost = Cost::of(by_name.values().map(|user: &Arc<User>| &user.secret));
        let tokens = tokens.map(|config| match &before.tokens {
            Some(known) if *known.config() == **config => known.clone(),
            _ => Arc::new(Tokens::new(config.clone())),
        });
        let any_user = tokens.as_ref().is_some_and(|tokens| tokens.config().any_user);
        static EPOCH: AtomicU64 = AtomicU64::new(1);
        let epoch = EPOCH.fetch_add(1, Relaxed);
        self.accounts.store(Arc::new(Accounts { epoch, by_name, cost, tokens }));
        let limits = entries.iter().map(|entry| (&entry.account.name, entry.limits));
        self.tabs.configure(limits, any_user);
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
        let epoch = self.accounts.load().epoch;
        if let Some((user, tail)) = RIGHT.with_borrow(|right| right.recall(epoch, field)) {
            return user.admit(tail, client);
        }
        Box::pin(self.prove_anew(field, client)).await
    }

    /// (Boxed by its only caller: requests whose credential is known make no
    /// room for it.)
    async fn prove_anew(&self, field: &[u8], client: IpAddr) -> Result<Caller, Fault> {
        let accounts = self.accounts.load_full();
        match Credential::read(field) {
            None => Err(self.wrong(client)),
            Some(Credential::Bearer(token)) => {
                let grant = self.grant(&accounts, &token);
                let caller = grant.and_then(|grant| self.granted(&accounts, &grant, "", client));
                caller.unwrap_or_else(|| Err(self.wrong(client)))
            }
            Some(Credential::Basic { username, secret }) => {
                let caller = self.prove_basic(&accounts, &username, &secret, client).await?;
                // A token's end is looked at each time.
                if let (None, Some(user)) = (&caller.grant, accounts.by_name.get(&caller.account.name)) {
                    let known = (user.clone(), caller.tail.clone());
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
    ) -> Result<Caller, Fault> {
        let accounts = self.accounts.load_full();
        match (std::str::from_utf8(username), std::str::from_utf8(secret)) {
            (Ok(username), Ok(secret)) => {
                Box::pin(self.prove_basic(&accounts, username, &Secret::new(secret), client)).await
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
        user.admit("".into(), client).ok()
    }

    async fn prove_basic(
        &self,
        accounts: &Accounts,
        username: &str,
        secret: &Secret,
        client: IpAddr,
    ) -> Result<Caller, Fault> {
        // A secret may look like a token and be none; so a token that is worth
        // nothing costs what every wrong secret costs, whoever the user is.
        if is_token(secret.expose())
            && let Some(grant) = self.grant(accounts, secret)
            && let Some((name, tail)) =
                split_user(username, |name| *name == *grant.user || accounts.by_name.contains_key(name))
            && *name == *grant.user
            && let Some(caller) = self.granted(accounts, &grant, tail, client)
        {
            return caller;
        }
        let found = split_user(username, |name| accounts.by_name.contains_key(name))
            .and_then(|(name, tail)| Some((accounts.by_name.get(name)?, tail)));
        let standing = match self.throttle.is_spent(client) {
            true => Standing::Suspect,
            false => Standing::Good,
        };
        let stored = found.map(|(user, _)| &user.secret);
        let verified = self.verifier.verify(stored, secret.expose(), &accounts.cost, standing).await;
        let Ok(right) = verified else { return Err(no_turn()) };
        match found {
            Some((user, tail)) if right => user.admit(tail.into(), client),
            _ => Err(self.wrong(client)),
        }
    }

    /// What a token grants by the wall clock, which whoever signed it has.
    fn grant(&self, accounts: &Accounts, token: &Secret) -> Option<Arc<Grant>> {
        accounts.tokens.as_ref()?.grant(token.expose(), self.clock.wall())
    }

    /// The caller that a token makes; `None`: its user is unknown here.
    fn granted(
        &self,
        accounts: &Accounts,
        grant: &Arc<Grant>,
        tail: &str,
        client: IpAddr,
    ) -> Option<Result<Caller, Fault>> {
        let caller = match accounts.by_name.get(&grant.user) {
            Some(user) => user.admit(tail.into(), client),
            None if accounts.tokens.as_ref()?.config().any_user => Ok(Caller {
                account: Arc::new(guest(&grant.user)),
                tail: tail.into(),
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

    /// Forgets what no longer counts; to be called every minute or so.
    pub(crate) fn sweep(&self) {
        self.throttle.sweep();
        self.verifier.sweep();
        self.tabs.sweep(self.clock.now());
        if let Some(tokens) = &self.accounts.load().tokens {
            tokens.sweep(self.clock.wall());
        }
    }

    /// Ends what is to be ended by now; to be called every second or so.
    pub(crate) fn tick(&self) {
        self.tabs.tick(self.clock.now());
    }

    /// What users have moved today, to be kept.
    pub(crate) fn moved(&self) -> DayBytes {
        self.tabs.moved(self.clock.now())
    }

    /// What every user has moved today.
    pub(crate) fn day(&self) -> DayBytes {
        self.tabs.day(self.clock.now())
    }

    /// Other gateways have moved this.
    pub(crate) fn add(&self, moved: &DayBytes) {
        self.tabs.add(moved, self.clock.now());
    }

    /// Every user, by name: those that are configured, and others that use
    /// something.
    pub(crate) fn usage(&self) -> Vec<Used> {
        let accounts = self.accounts.load();
        let used = |(name, in_use)| {
            let account = accounts.by_name.get(&name).map(|user| user.account.clone());
            Used { name, account, in_use }
        };
        let mut all: Vec<_> = self.tabs.in_use(self.clock.now()).into_iter().map(used).collect();
        all.retain(|used| used.account.is_some() || used.in_use.is_any());
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
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
    fn admit(&self, tail: Arc<str>, client: IpAddr) -> Result<Caller, Fault> {
        let client = client.to_canonical();
        if !self.clients.is_empty() && !self.clients.iter().any(|net| net.contains(&client)) {
            let detail = format!("{client} is not among the client addresses of this user");
            return Err(Fault::new(Code::ClientForbidden, detail));
        }
        Ok(Caller { account: self.account.clone(), tail, tab: self.tab.clone(), grant: None })
    }
}

/// What the credential of a request says.
enum Credential {
    Basic { username: String, secret: Secret },
    Bearer(Secret),
}

/// Clients pad or do not, and some encoders leave bits behind.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Credential {
    /// RFC 7617: the secret is all that follows the first colon. RFC 6750: the
    /// token is all.
    fn read(field: &[u8]) -> Option<Self> {
        let (scheme, rest) = field.split_at(field.iter().position(|b| *b == b' ')?);
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"basic") {
            let decoded = String::from_utf8(BASE64.decode(rest).ok()?).ok()?;
            let (username, secret) = decoded.split_once(':')?;
            return Some(Self::Basic { username: username.to_owned(), secret: Secret::new(secret) });
        }
        let token = std::str::from_utf8(rest).ok().filter(|_| scheme.eq_ignore_ascii_case(b"bearer"))?;
        Some(Self::Bearer(Secret::new(token)))
    }
}

#[cfg(test)]
mod tests;
