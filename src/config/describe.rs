//! What would run, for people.
//!
//! Owns: the text that `moorgate check` prints.
//! Must not know: how it was written. No secret, ever.

use std::fmt::{self, Write};
use std::num::NonZeroU64;

use bytesize::ByteSize;

use super::tokens::Tokens;
use super::{Admin, Config, Durability, Listener, Password, ProxiedBy, StoreAt, StoreDown, User};
use crate::core::exit::{Exit, Mode, Scheme, Trust, Via};
use crate::core::limits::{Bandwidth, UserLimits};
use crate::core::pool::{Failover, Placement, Pool, Pools, Rotation};

/// The configuration and its pools in a few lines each.
pub(crate) fn describe(config: &Config, pools: &Pools) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, config, pools);
    text
}

fn write(out: &mut String, config: &Config, pools: &Pools) -> fmt::Result {
    writeln!(out, "listeners")?;
    config.listeners.iter().try_for_each(|listener| write_listener(out, listener))?;
    match &config.admin {
        Some(Admin { bind, token: None }) => writeln!(out, "admin\n  {bind}")?,
        Some(Admin { bind, token: Some(_) }) => writeln!(out, "admin\n  {bind}, with a token")?,
        None => writeln!(out, "admin\n  none")?,
    }
    writeln!(out, "users")?;
    match &config.tokens {
        None if config.users.is_empty() => writeln!(out, "  demo, with a secret made at the first start")?,
        None => {}
        Some(tokens) => write_tokens(out, tokens)?,
    }
    config.users.iter().try_for_each(|user| write_user(out, user, pools))?;
    write_sessions(out, config)?;
    writeln!(out, "pools")?;
    pools.iter().try_for_each(|pool| write_pool(out, pool))?;
    write_unsteady(out, pools)
}

fn write_listener(out: &mut String, listener: &Listener) -> fmt::Result {
    match &*listener.binds {
        [one] => write!(out, "  {one}")?,
        [first, .., last] => {
            write!(out, "  {first} to {}", last.tcp().map_or(0, |socket| socket.port()))?;
        }
        [] => return Ok(()),
    }
    write!(out, " {}", listener.protocol.word())?;
    let certificates = listener.certificates.len();
    if certificates > 0 {
        write!(out, ", tls with {certificates} {}", counted("certificate", certificates))?;
    }
    match &listener.proxied_by {
        None => {}
        Some(ProxiedBy::All) => write!(out, ", behind PROXY headers")?,
        Some(ProxiedBy::Some(nets)) => {
            let nets: Vec<_> = nets.iter().map(ToString::to_string).collect();
            write!(out, ", behind PROXY headers of {} alone", nets.join(", "))?;
        }
    }
    if let Some(user) = &listener.user {
        write!(out, ", user {user} without a credential")?;
    }
    if listener.port_is_session {
        write!(out, ", a session for each port")?;
    }
    let defaults = &listener.defaults;
    if let Some(pool) = &defaults.pool {
        write!(out, ", pool {pool}")?;
    }
    if let Some(ttl) = defaults.ttl {
        write!(out, ", ttl {ttl}")?;
    }
    if let Some(idle) = defaults.idle {
        write!(out, ", idle {idle}")?;
    }
    if let Some(failover) = defaults.failover {
        write!(out, ", failover {}", failover_word(failover))?;
    }
    if !defaults.labels.is_empty() {
        write!(out, ", {}", defaults.labels)?;
    }
    writeln!(out)
}

fn write_user(out: &mut String, user: &User, pools: &Pools) -> fmt::Result {
    let secret = match user.password {
        Password::Plain(_) => "plain secret",
        Password::Phc(_) => "argon2 secret",
    };
    write!(out, "  {}: {secret}, ", user.name)?;
    match &user.pools {
        None => write!(out, "every pool")?,
        Some(names) => write!(out, "{} {}", counted("pool", names.len()), names.join(", "))?,
    }
    match user.account().default_pool(pools) {
        Some(pool) => write!(out, ", default {}", pool.name)?,
        None => write!(out, ", no default pool now")?,
    }
    if let Some(clients) = &user.clients {
        let clients: Vec<_> = clients.iter().map(ToString::to_string).collect();
        write!(out, ", from {}", clients.join(", "))?;
    }
    writeln!(out)?;
    write_limits(out, &user.limits)
}

/// On a line of their own; nothing where there are none.
fn write_limits(out: &mut String, limits: &UserLimits) -> fmt::Result {
    let mut words = Vec::new();
    words.extend(limits.rate.map(|rate| format!("{} requests/s, {} at once", rate.per_second, rate.burst)));
    words.extend(limits.connections.map(|most| format!("{most} connections")));
    words.extend(limits.sessions.map(|most| format!("{most} sessions")));
    words.extend(limits.bytes_per_day.map(|most| format!("{} a day", size(most))));
    let Bandwidth { up, down } = limits.bandwidth;
    match (up, down) {
        (Some(up), Some(down)) if up == down => words.push(format!("{}/s each way", size(up))),
        _ => {
            words.extend(up.map(|up| format!("{}/s up", size(up))));
            words.extend(down.map(|down| format!("{}/s down", size(down))));
        }
    }
    match words.is_empty() {
        true => Ok(()),
        false => writeln!(out, "    at most {}", words.join(", ")),
    }
}

/// In powers of 1000, as `MB` means.
fn size(bytes: NonZeroU64) -> String {
    ByteSize::b(bytes.get()).display().si().to_string()
}

fn write_tokens(out: &mut String, tokens: &Tokens) -> fmt::Result {
    let whose = if tokens.any_user { "any user's" } else { "configured users'" };
    write!(out, "  tokens: {whose}, {} {}", tokens.keys.len(), counted("key", tokens.keys.len()))?;
    if let Some(issuer) = &tokens.issuer {
        write!(out, ", issued by {issuer:?}")?;
    }
    if !tokens.audiences.is_empty() {
        write!(out, ", for {}", tokens.audiences.join(" or "))?;
    }
    writeln!(out)
}

fn write_sessions(out: &mut String, config: &Config) -> fmt::Result {
    write!(out, "sessions\n  ")?;
    match &config.sessions.store {
        StoreAt::Memory => write!(out, "kept in memory, gone with the process")?,
        StoreAt::Folder(folder) => {
            let durability = match config.sessions.durability {
                Durability::Journal => "journal",
                Durability::Fsync => "fsync",
            };
            write!(out, "kept in {} ({durability})", folder.display())?;
        }
        StoreAt::Shared(address) => {
            let without = match config.sessions.store_down {
                StoreDown::Refuse => "unknown sessions are refused",
                StoreDown::Local => "this gateway decides alone",
            };
            write!(out, "shared in {address} (without it {without})")?;
        }
    }
    let bounds = &config.sessions.bounds;
    if let (Some(default), Some(max)) = (bounds.default_ttl, bounds.max_ttl) {
        write!(out, ", ttl {default} by default, at most {max}")?;
    }
    writeln!(out)
}

fn write_pool(out: &mut String, pool: &Pool) -> fmt::Result {
    let rotation = match pool.rotation {
        Rotation::RoundRobin => "round_robin",
        Rotation::Random => "random",
        Rotation::LeastConnections => "least_connections",
    };
    let placement = match pool.placement {
        Placement::LeastSessions => "least_sessions",
        Placement::Random => "random",
        Placement::Rendezvous => "rendezvous",
    };
    let failover = failover_word(pool.failover);
    writeln!(out, "  {}: rotation {rotation}, placement {placement}, failover {failover}", pool.name)?;
    for kind in KINDS {
        let exits: Vec<_> = pool.exits.iter().filter(|exit| Kind::of(exit) == kind).collect();
        if exits.is_empty() {
            continue;
        }
        writeln!(out, "    {} {}", exits.len(), kind.words(exits.len()))?;
        for exit in exits.iter().take(SHOWN_MAX) {
            write_exit(out, exit)?;
        }
        if exits.len() > SHOWN_MAX {
            writeln!(out, "      and {} more", exits.len() - SHOWN_MAX)?;
        }
    }
    Ok(())
}

/// A vendor's list of thousands is not printed whole.
const SHOWN_MAX: usize = 20;

fn write_exit(out: &mut String, exit: &Exit) -> fmt::Result {
    write!(out, "      {}", exit.name.id)?;
    let via = exit.via.to_string();
    if *via != *exit.name.id {
        write!(out, " via {via}")?;
    }
    if exit.weight != 1 {
        write!(out, ", weight {}", exit.weight)?;
    }
    for (key, value) in exit.labels.iter() {
        write!(out, ", {key}={value}")?;
    }
    if let Some(ttl) = exit.max_ttl {
        write!(out, ", at most {ttl}")?;
    }
    if exit.via.upstream().is_some_and(|upstream| upstream.trust == Trust::Anything) {
        write!(out, ", takes any certificate")?;
    }
    match exit.mode {
        Mode::Active => writeln!(out),
        Mode::Drain => writeln!(out, ", draining"),
        Mode::Off => writeln!(out, ", off"),
    }
}

/// Upstreams of which nobody knows whether they keep their address: there
/// stickiness may end (SPEC §6).
fn write_unsteady(out: &mut String, pools: &Pools) -> fmt::Result {
    let mut told = false;
    for pool in pools.iter() {
        let unsteady = pool.exits.iter().filter(|exit| {
            exit.mode != Mode::Off
                && exit.via.upstream().is_some()
                && exit.address.is_none()
                && !exit.via.has_placeholders()
        });
        let ids: Vec<_> = unsteady.map(|exit| &*exit.name.id).collect();
        if ids.is_empty() {
            continue;
        }
        if !told {
            writeln!(
                out,
                "warning: upstreams without \"address\" and without placeholders may change their \
                 address under a session:"
            )?;
            told = true;
        }
        let more = ids.len().saturating_sub(SHOWN_MAX);
        write!(out, "  {}: {}", pool.name, ids[..ids.len() - more].join(", "))?;
        writeln!(out, "{}", if more > 0 { format!(" and {more} more") } else { String::new() })?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Direct,
    Address,
    Prefix,
    Template,
    Upstream(Scheme),
}

const KINDS: [Kind; 8] = [
    Kind::Direct,
    Kind::Address,
    Kind::Prefix,
    Kind::Upstream(Scheme::Http),
    Kind::Upstream(Scheme::Https),
    Kind::Upstream(Scheme::Socks5),
    Kind::Upstream(Scheme::Socks5h),
    Kind::Template,
];

impl Kind {
    fn of(exit: &Exit) -> Self {
        match &exit.via {
            Via::Direct => Self::Direct,
            Via::Address(_) => Self::Address,
            Via::Prefix(_) => Self::Prefix,
            via if via.is_template() => Self::Template,
            Via::Upstream(upstream) => Self::Upstream(upstream.scheme),
        }
    }

    fn words(self, count: usize) -> String {
        match self {
            Self::Direct => "direct".to_owned(),
            Self::Address => counted("source address", count),
            Self::Prefix => counted("source prefix", count),
            Self::Template => counted("vendor template", count),
            Self::Upstream(scheme) => counted(&format!("{} upstream", scheme.name()), count),
        }
    }
}

fn counted(word: &str, count: usize) -> String {
    let ending = match (count, word.ends_with('s') || word.ends_with('x')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{word}{ending}")
}

fn failover_word(failover: Failover) -> &'static str {
    match failover {
        Failover::On => "on",
        Failover::Off => "off",
        Failover::Address => "address",
    }
}

#[cfg(test)]
mod tests;
