//! What a choice among a pool's exits is asked for.
//!
//! Owns: [`Unpinned`] and [`NewPin`].
//! Must not know: how the choice is made.

use std::net::IpAddr;

use crate::core::pin::ExitName;
use crate::core::session::{Filter, SessionKey, UserName};
use crate::core::target::Target;
use crate::core::time::Ttl;

/// A request without a session.
#[derive(Clone, Copy)]
pub struct Unpinned<'a> {
    /// Who asks (`rotate` holds exits for each user).
    pub user: &'a UserName,
    /// The labels that the exit must have.
    pub filter: &'a Filter,
    /// The id of the one exit to use, where the client names it.
    pub exit: Option<&'a str>,
    /// Exits that have failed for this request.
    pub not: &'a [ExitName],
    /// Where it goes: exits that are kept from there are left out.
    pub target: Option<&'a Target>,
}

/// A pin to be made, or to be moved.
#[derive(Clone, Copy)]
pub struct NewPin<'a> {
    /// Of the session.
    pub key: SessionKey,
    /// The labels that the exit must have.
    pub filter: &'a Filter,
    /// The id of the one exit to use, where the client names it.
    pub exit: Option<&'a str>,
    /// For how long the exit has to hold an address.
    pub ttl: Ttl,
    /// Exits that have failed for this request; the one to move from.
    pub not: &'a [ExitName],
    /// The address of the exit to move from: its siblings come first.
    pub address: Option<IpAddr>,
    /// A sibling or none (`failover` is `address`).
    pub siblings_only: bool,
    /// Where its first request goes: exits that are kept from there are left
    /// out.
    pub target: Option<&'a Target>,
}
