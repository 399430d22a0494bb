//! `moorgate pools|exits|sessions|users|reload`.
//!
//! Owns: their arguments, what each asks of a running gateway, and in which
//! words it is told what was done.
//! Must not know: HTTP, how lists are shown.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::lists::{EXITS, POOLS, SESSIONS, USERS};
use super::remote::{Client, Misdirected, Unanswered, encode};
use super::show::{Asking, show};
use super::table::{Table, clean, time};
use super::watch::Watch;

#[derive(Args)]
pub(super) struct Pools {
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
pub(super) struct Users {
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
pub(super) struct Reload {
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
pub(super) struct Exits {
    #[command(subcommand)]
    act: Option<ExitAct>,
    /// Lists this pool's exits alone
    #[arg(long)]
    pool: Option<String>,
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Subcommand)]
enum ExitAct {
    /// Puts an exit in use
    Active(Switch),
    /// Gives an exit nothing new; its sessions stay
    Drain(Switch),
    /// Takes an exit out of use, as if it were removed
    Off(Switch),
    /// Takes a switch back and forgets failures: as the pool's file says
    Reset(Switch),
}

#[derive(Args)]
struct Switch {
    /// The exit, as the list has it
    #[arg(value_name = "POOL/ID")]
    exit: String,
    /// Only says what would happen
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(super) struct Sessions {
    #[command(subcommand)]
    act: Option<SessionAct>,
    /// Of this user
    #[arg(long, global = true)]
    user: Option<String>,
    /// Of this pool
    #[arg(long, global = true)]
    pool: Option<String>,
    /// Of exactly this name
    #[arg(long, global = true, value_name = "NAME")]
    session: Option<String>,
    /// Lists those on this exit alone
    #[arg(long, value_name = "ID")]
    exit: Option<String>,
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Subcommand)]
enum SessionAct {
    /// Ends a session; its open tunnels go on
    End {
        /// Its key, as the list has it; or say --session NAME
        key: Option<String>,
    },
    /// Moves a session to another exit; its open tunnels go on
    Move {
        /// Its key, as the list has it; or say --session NAME
        key: Option<String>,
        /// To this exit of its pool [default: any other that fits]
        #[arg(long = "exit", value_name = "ID")]
        to: Option<String>,
    },
    /// Makes a session last at least so long from now on
    #[command(allow_missing_positional = true)]
    Extend {
        /// Its key, as the list has it; or say --session NAME
        key: Option<String>,
        /// Such as 30m or 24h; never past 168 h from its making
        ttl: String,
    },
}

pub(super) async fn pools(pools: Pools) -> anyhow::Result<()> {
    let mut client = pools.asking.gateway.find()?;
    show(&mut client, &POOLS, &[], &pools.watch, &pools.asking).await
}

pub(super) async fn users(users: Users) -> anyhow::Result<()> {
    let mut client = users.asking.gateway.find()?;
    show(&mut client, &USERS, &[], &users.watch, &users.asking).await
}

pub(super) async fn reload(reload: Reload) -> anyhow::Result<()> {
    let mut client = reload.asking.gateway.find()?;
    let answer = client.tell(Method::POST, "/v1/reload", None).await;
    reload.asking.tell(answer, |done| format!("reloaded: {} pools are in force\n", done["pools"]))
}

pub(super) async fn exits(exits: Exits) -> anyhow::Result<()> {
    let mut client = exits.asking.gateway.find()?;
    let Some(act) = &exits.act else {
        let filters = [("pool", exits.pool.as_deref())];
        return show(&mut client, &EXITS, &filters, &exits.watch, &exits.asking).await;
    };
    only_for_lists(exits.pool.is_some(), "--pool")?;
    only_for_lists(exits.watch.is_on(), "--watch")?;
    let (word, Switch { exit, dry_run }) = match act {
        ExitAct::Active(switch) => ("active", switch),
        ExitAct::Drain(switch) => ("drain", switch),
        ExitAct::Off(switch) => ("off", switch),
        ExitAct::Reset(switch) => ("reset", switch),
    };
    let parts = exit.split_once('/').filter(|(pool, id)| !pool.is_empty() && !id.is_empty());
    let Some((pool, id)) = parts else {
        return Err(Misdirected::Arguments(format!("{exit:?} is no exit: expected POOL/ID")).into());
    };
    let how = if *dry_run { "?dry_run=true" } else { "" };
    let path = format!("/v1/exits/{}/{}/{word}{how}", encode(pool), encode(id));
    exits.asking.tell(client.tell(Method::POST, &path, None).await, switched)
}

fn switched(done: &Value) -> String {
    let text = |key: &str| done[key].as_str().map(clean).unwrap_or_default();
    let (is, moves) = match done["dry_run"] == true {
        true => ("would be", "would move to other exits"),
        false => ("is", "move to other exits"),
    };
    format!(
        "{}/{} {is} {} (was {})\n{} sessions on it: {} {moves}, each at its next request\n\
         {} connections go on to their end\n",
        text("pool"),
        text("id"),
        text("state"),
        text("before"),
        done["pins"],
        done["moves"],
        done["connections"],
    )
}

fn only_for_lists(given: bool, option: &str) -> Result<(), Misdirected> {
    match given {
        true => Err(Misdirected::Arguments(format!("{option} is for the list, and goes with no act"))),
        false => Ok(()),
    }
}

pub(super) async fn sessions(sessions: Sessions) -> anyhow::Result<()> {
    let mut client = sessions.asking.gateway.find()?;
    let Some(act) = &sessions.act else {
        let exit = [("exit", sessions.exit.as_deref())];
        let filters: Vec<_> = sessions.filters().into_iter().chain(exit).collect();
        return show(&mut client, &SESSIONS, &filters, &sessions.watch, &sessions.asking).await;
    };
    only_for_lists(sessions.exit.is_some(), "--exit before the act")?;
    only_for_lists(sessions.watch.is_on(), "--watch")?;
    let (SessionAct::End { key } | SessionAct::Move { key, .. } | SessionAct::Extend { key, .. }) = act;
    let key = match sessions.key(&mut client, key.as_deref()).await? {
        Ok(key) => encode(&key),
        Err(unanswered) => return Err(sessions.asking.failure(unanswered)),
    };
    let (method, path, body) = match act {
        SessionAct::End { .. } => (Method::DELETE, format!("/v1/sessions/{key}"), None),
        SessionAct::Move { to, .. } => {
            let body = to.as_ref().map(|to| json!({ "exit": to }));
            (Method::POST, format!("/v1/sessions/{key}/move"), body)
        }
        SessionAct::Extend { ttl, .. } => {
            (Method::POST, format!("/v1/sessions/{key}/extend"), Some(json!({ "ttl": ttl })))
        }
    };
    sessions.asking.tell(client.tell(method, &path, body).await, |session| done(act, session))
}

impl Sessions {
    fn filters(&self) -> [(&'static str, Option<&str>); 3] {
        let Self { user, pool, session, .. } = self;
        [("user", user.as_deref()), ("pool", pool.as_deref()), ("session", session.as_deref())]
    }

    /// The key of the one session that is meant.
    async fn key(
        &self,
        client: &mut Client,
        given: Option<&str>,
    ) -> Result<Result<String, Unanswered>, anyhow::Error> {
        let wrong = |message: &str| Misdirected::Arguments(message.to_owned());
        let name = match (given, &self.session) {
            (Some(key), None) if self.user.is_none() && self.pool.is_none() => return Ok(Ok(key.to_owned())),
            (Some(_), _) => Err(wrong("a key says it all: leave --session, --user and --pool out")),
            (None, None) => Err(wrong("which session? Give its key, or --session NAME")),
            (None, Some(name)) => Ok(clean(name)),
        }?;
        let page = match SESSIONS.page(client, &self.filters(), None, Some(10)).await {
            Ok(page) => page,
            Err(unanswered) => return Ok(Err(unanswered)),
        };
        match page.rows.as_slice() {
            [] => anyhow::bail!("no session is called {name} there"),
            [session] => Ok(Ok(session["key"].as_str().unwrap_or_default().to_owned())),
            several => {
                let table = Table::new(SESSIONS.columns).part(several, true);
                anyhow::bail!(
                    "several sessions are called {name}: give a key, or --user or --pool, too\n{table}"
                )
            }
        }
    }
}

fn done(act: &SessionAct, session: &Value) -> String {
    let text = |key: &str| session[key].as_str().map(clean).unwrap_or_default();
    let exit = text("exit");
    let (verb, end) = match act {
        SessionAct::End { .. } => ("ended", format!("it was on {exit}")),
        SessionAct::Move { .. } => ("moved", format!("it is on {exit}")),
        SessionAct::Extend { .. } => {
            let left = session["ends_in"].as_u64().map(time).unwrap_or_default();
            ("extended", format!("it ends at {}, in {left}", text("ends")))
        }
    };
    format!("{verb} session {} of {} in {}: {end}\n", text("session"), text("user"), text("pool"))
}
