//! One promise over several gateways.
//!
//! Owns: what a shared store keeps of a pin ([`Entry`]) and what each step
//! does to it there ([`Cell`], the meaning of the scripts that run at the
//! store); what one node knows of it ([`Known`]) and when it may go by that;
//! where a store is ([`Address`]).
//! Must not know: connections, scripts, clocks: all instants here are the
//! store's, and come in as arguments.

mod address;
mod cell;
mod fact;
mod known;

use std::time::Duration;

pub use self::address::{Address, Host, Kind};
pub use self::cell::{Cell, Claimed, Entry, Moved, Restored, Stored, Telling};
pub use self::fact::Fact;
pub use self::known::{Announce, Changed, Known, Notice, Told};

/// For so long after a pin was made, only the node that made it may say `new`
/// and choose another exit for a pin that nobody has seen; it need not ask
/// the store for it.
pub const LEASE: Duration = Duration::from_secs(1);

/// The node that has the lease goes by it for less, since its reckoning of
/// the store's time is off by part of a round trip.
pub const OWN_LEASE: Duration = Duration::from_millis(750);
