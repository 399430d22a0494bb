//! From parameters to what is asked for.
//!
//! Owns: [`Ask`], the order in which parameters are judged (SPEC §2), the
//! bounds of durations, what makes a session where none is named.
//! Must not know: whether the exit works or the session is pinned already.

use std::net::IpAddr;
use std::sync::Arc;

use super::code::Code;
use super::exit::Exit;
use super::fault::Fault;
use super::pool::{Affinity, Failover, NameRef, Pool, Pools, SessionBounds};
use super::session::{Filter, SessionId, SessionKey, UserName};
use super::target::Target;
use super::time::Ttl;
use super::username::Parameters;

/// What is known of a user when its request is judged.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user's name.
    pub name: UserName,
    /// The pools that it may use; `None`: all.
    pub pools: Option<Vec<Box<str>>>,
    /// The pool of a request that names none; `None`: the first of `pools`;
    /// for a user of all pools the one called `default`, else the first.
    pub default_pool: Option<Box<str>>,
    /// Bounds of its sessions.
    pub sessions: SessionBounds,
    /// What makes a session where the client names none.
    pub affinity: Affinity,
}

/// Bounds of all sessions, and the ttl of one that names none.
#[derive(Clone, Copy, Debug)]
pub struct GatewayBounds {
    /// Where neither user nor pool says otherwise.
    pub default_ttl: Ttl,
    /// No ttl below this.
    pub min_ttl: Ttl,
    /// No ttl above this.
    pub max_ttl: Ttl,
    /// The idle time of a session that names none.
    pub idle: Option<Ttl>,
}

/// What affinity makes a session of.
#[derive(Clone, Copy, Debug)]
pub struct AtHand<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Where it wants to go, as far as that is readable.
    pub target: Option<&'a Target>,
}

/// A session that is asked for.
#[derive(Clone, Debug)]
pub struct AskedSession {
    /// Its name.
    pub id: SessionId,
    /// Its identity.
    pub key: SessionKey,
    /// How long a new pin of it lives.
    pub ttl: Ttl,
    /// How long a new pin of it may be unused.
    pub idle: Option<Ttl>,
}

/// A request's wishes, judged as far as user and pools can tell.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who asks.
    pub user: UserName,
    /// Of which pool.
    pub pool: Arc<Pool>,
    /// Which labels the exit must have.
    pub filter: Filter,
    /// The labels as the client wrote them, for templates.
    pub labels: Vec<(&'static str, Box<str>)>,
    /// The session; none: the request rotates.
    pub session: Option<AskedSession>,
    /// What happens when the pinned exit is down.
    pub failover: Failover,
    /// The one exit that is wanted.
    pub exit: Option<Arc<Exit>>,
    /// The ttl that an unpinned request fills into a template.
    pub default_ttl: Ttl,
}

/// What hangs on the parameters alone (400 before any 403): the part of the
/// judgement that comes before the pool is known.
///
/// # Errors
/// `ttl_without_session`, `ttl_out_of_range`.
pub fn judge(parameters: &Parameters, account: &Account, gateway: &GatewayBounds) -> Result<(), Fault> {
    let pairs = [("ttl", parameters.ttl), ("idle", parameters.idle)];
    if parameters.session.is_none()
        && let Some((name, _)) = pairs.iter().find(|(_, given)| given.is_some())
    {
        let detail = format!("{name} needs a session: add -session-<id>");
        return Err(Fault::new(Code::TtlWithoutSession, detail));
    }
    if parameters.clamp {
        return Ok(());
    }
    let bounds = Bounds::of(gateway, [&account.sessions]);
    bounds.check("ttl", parameters.ttl)?;
    bounds.check("idle", parameters.idle.map(|idle| idle.max(bounds.min)))
}

/// Makes the ask of judged parameters; a listener's `defaults` count where
/// the request says nothing.
///
/// # Errors
/// `pool_forbidden`, then what only the pool can tell: `exit_unknown`,
/// `ttl_out_of_range`.
pub fn ask(
    parameters: Parameters,
    defaults: &Parameters,
    account: &Account,
    pools: &Pools,
    gateway: &GatewayBounds,
    at_hand: AtHand<'_>,
) -> Result<Ask, Fault> {
    let pool = pool(parameters.pool.as_ref().or(defaults.pool.as_ref()), account, pools)?;
    let labels = labels(parameters.labels, &defaults.labels);
    let filter = Filter::new(labels.iter().map(|(key, value)| (*key, &**value)));
    let exit = parameters.exit.map(|name| exit(&name, &pool)).transpose()?;
    let bounds = Bounds::of(gateway, [&account.sessions, &pool.sessions]);
    let (ttl, idle) = match parameters.clamp {
        true => (bounds.inside(parameters.ttl), parameters.idle.map(|idle| idle.min(bounds.max))),
        false => (parameters.ttl, parameters.idle),
    };
    bounds.check("ttl", ttl)?;

    let affinity = pool.affinity.unwrap_or(account.affinity);
    let id = parameters.session.or_else(|| made_of(affinity, &account.name, at_hand));
    let session = id.map(|id| AskedSession {
        key: SessionKey::new(&account.name, &pool.name, &filter, &id),
        id,
        ttl: ttl.or_else(|| bounds.inside(defaults.ttl)).unwrap_or(bounds.default_ttl),
        idle: idle.or(defaults.idle).or(bounds.idle),
    });
    Ok(Ask {
        user: account.name.clone(),
        failover: parameters.failover.or(defaults.failover).unwrap_or(pool.failover),
        default_ttl: bounds.default_ttl,
        pool,
        filter,
        labels,
        session,
        exit,
    })
}

impl Account {
    /// Whether the user may use the pool of this name.
    pub fn may_use(&self, pool: &str) -> bool {
        self.pools.as_ref().is_none_or(|own| own.iter().any(|name| **name == *pool))
    }

    /// The pool of a request that names none. `None` where it is not there
    /// now: a session must not slip into another pool because a file is away.
    pub fn default_pool<'p>(&self, pools: &'p Pools) -> Option<&'p Arc<Pool>> {
        let named = self.default_pool.as_ref().or_else(|| self.pools.as_ref()?.first());
        let found = match named {
            Some(name) => pools.pool(name),
            None => pools.pool("default").or_else(|| pools.iter().next()),
        };
        found.filter(|pool| self.may_use(&pool.name))
    }
}

fn pool(named: Option<&NameRef>, account: &Account, pools: &Pools) -> Result<Arc<Pool>, Fault> {
    let found = match named {
        Some(named) => pools.find(named).filter(|pool| account.may_use(&pool.name)),
        None => account.default_pool(pools),
    };
    found.cloned().ok_or_else(|| {
        let detail = match named {
            Some(named) => {
                let short: String = named.as_str().chars().take(64).collect();
                format!("there is no pool {short:?} for this user: name one that it may use")
            }
            None => "this user has no default pool now: name one with -pool-<name>".to_owned(),
        };
        Fault::new(Code::PoolForbidden, detail)
    })
}

fn labels(
    mut own: Vec<(&'static str, Box<str>)>,
    defaults: &[(&'static str, Box<str>)],
) -> Vec<(&'static str, Box<str>)> {
    for (key, value) in defaults {
        if !own.iter().any(|(k, _)| k == key) {
            own.push((*key, value.clone()));
        }
    }
    own
}

fn exit(name: &NameRef, pool: &Pool) -> Result<Arc<Exit>, Fault> {
    let short: String = name.as_str().chars().take(128).collect();
    let Some(exit) = pool.find_exit(name) else {
        let detail = format!("pool {} has no exit {short:?}", pool.name);
        return Err(Fault::new(Code::ExitUnknown, detail));
    };
    Ok(exit.clone())
}

/// A session id of what is at hand. No id that a client can name begins with
/// `@`, so the two never meet.
fn made_of(affinity: Affinity, user: &str, at_hand: AtHand<'_>) -> Option<SessionId> {
    let text = match affinity {
        Affinity::None => return None,
        Affinity::ClientIp => format!("@client={}", at_hand.client),
        Affinity::User => format!("@user={user}"),
        Affinity::Target => format!("@target={}", at_hand.target?.site()),
        Affinity::ClientIpAndTarget => {
            format!("@client={}@target={}", at_hand.client, at_hand.target?.site())
        }
    };
    // A name too long to show is as good by its digest.
    SessionId::new(&text)
        .or_else(|| SessionId::new(&format!("@digest={}", blake3::hash(text.as_bytes()).to_hex())))
}

/// Several bounds taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// No ttl below this.
    pub min: Ttl,
    /// No ttl above this.
    pub max: Ttl,
    /// Where a session names none.
    pub default_ttl: Ttl,
    idle: Option<Ttl>,
}

impl Bounds {
    /// Of a user's sessions in a pool.
    pub fn of_user(gateway: &GatewayBounds, account: &Account, pool: &Pool) -> Self {
        Self::of(gateway, [&account.sessions, &pool.sessions])
    }

    /// From wide to narrow: the narrowest maximum and the last default count.
    fn of<const N: usize>(gateway: &GatewayBounds, narrower: [&SessionBounds; N]) -> Self {
        let mut all = Self {
            min: gateway.min_ttl,
            max: gateway.max_ttl,
            default_ttl: gateway.default_ttl,
            idle: gateway.idle,
        };
        for bounds in narrower {
            all.min = bounds.min_ttl.map_or(all.min, |min| min.max(all.min));
            all.max = bounds.max_ttl.map_or(all.max, |max| max.min(all.max));
            all.default_ttl = bounds.default_ttl.unwrap_or(all.default_ttl);
            all.idle = bounds.idle.or(all.idle);
        }
        all.min = all.min.min(all.max);
        all.default_ttl = all.default_ttl.clamp(all.min, all.max);
        all
    }

    fn check(&self, name: &str, given: Option<Ttl>) -> Result<(), Fault> {
        match given {
            Some(ttl) if ttl < self.min || ttl > self.max => Err(Fault::new(
                Code::TtlOutOfRange,
                format!("{name} {ttl} is not between {} and {}", self.min, self.max),
            )),
            _ => Ok(()),
        }
    }

    /// A listener's default is for all its users, so it gives way to bounds.
    fn inside(&self, default: Option<Ttl>) -> Option<Ttl> {
        default.map(|ttl| ttl.clamp(self.min, self.max))
    }
}

#[cfg(test)]
mod tests;
