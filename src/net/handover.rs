//! What a process and the one that takes its place say to each other.
//!
//! Owns: the messages of an upgrade, and their version.
//! Must not know: when they are said.
//!
//! ```text
//! old ── Sockets ──► new      the listening sockets, and what they are for
//! old ◄── Ready ──── new      its files are right, its sockets are bound
//! old ── State ────► new      the state folder is let go of
//! old ◄── Serving ── new      it accepts
//! old ── Main ─────► new      it is the service now
//! old ── Client ───► new      a client's connection between two requests
//! ```
//!
//! An end that goes away says the rest: the old one goes on, or the new one
//! serves alone.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::core::bind::Bind;

/// Processes of different versions do not take each other's place.
pub(crate) const VERSION: &str = "1";

/// From the old process to the new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToNew {
    /// Listening sockets, one descriptor for each.
    Sockets {
        /// What each was bound for, as the old configuration says it, and what
        /// it is called there.
        wanted: Vec<(Bind, String)>,
        /// The last of these messages.
        last: bool,
    },
    /// The state folder is free.
    State,
    /// The new process is the service.
    Main,
    /// A client's connection, and bytes that were read from it.
    Client {
        /// The listening socket that it came to, as bound.
        at: Bind,
        /// The client.
        peer: SocketAddr,
        /// It has made no request yet.
        first: bool,
    },
}

/// From the new process to the old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToOld {
    /// Its configuration is right, and every listener has a socket.
    Ready,
    /// It accepts.
    Serving {
        /// But at none of these sockets (the first that was sent is 0).
        left: Vec<u32>,
    },
}
