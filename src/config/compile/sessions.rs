//! Bounds and defaults of sessions, and where pins are kept.
//!
//! Owns: that bounds make sense by themselves and within the gateway's.
//! Must not know: a session.

use std::path::Path;

use super::Reading;
use crate::config::file::{DurabilityWord, SessionsEntry, StoreDownWord, StoreText};
use crate::config::locate::NodeId;
use crate::config::words::BoundsEntry;
use crate::config::{Durability, Sessions, StoreAt, StoreDown};
use crate::core::pool::SessionBounds;
use crate::core::time::Ttl;

/// The gateway's own.
pub(super) fn gateway(reading: &mut Reading<'_>, written: SessionsEntry, folder: &Path) -> Sessions {
    let SessionsEntry { default_ttl, min_ttl, max_ttl, idle, store, durability, store_down } = written;
    let node = reading.document.below(reading.document.root(), &["sessions"]);
    let entry = BoundsEntry { default_ttl, min_ttl, max_ttl, idle };
    let widest = SessionBounds { max_ttl: Some(Ttl::MAX), ..SessionBounds::default() };
    let mut bounds = self::bounds(reading, node, Some(entry), &widest);
    let (min, max) = (bounds.min_ttl.unwrap_or(Ttl::MIN), bounds.max_ttl.unwrap_or(Ttl::MAX));
    bounds.max_ttl = Some(max);
    if bounds.default_ttl.is_none() && min <= max {
        bounds.default_ttl = Ttl::from_secs(600).map(|ttl| ttl.clamp(min, max));
    }
    let store = match store {
        None => StoreAt::Folder(folder.join("moorgate-data")),
        Some(StoreText::Folder(path)) => StoreAt::Folder(folder.join(path)),
        Some(StoreText::Memory) => StoreAt::Memory,
        Some(StoreText::Shared(mut address)) => {
            // As every path, relative to the configuration's folder.
            address.ca = address.ca.map(|ca| folder.join(ca).to_string_lossy().into_owned());
            StoreAt::Shared(address)
        }
    };
    let shared = matches!(store, StoreAt::Shared(_));
    if shared && durability.is_some() {
        reading.warn(node, &["durability"], "has no effect on a shared store, whose own settings say it");
    }
    if !shared && store_down.is_some() {
        reading.warn(node, &["store_down"], "has no effect without a shared store");
    }
    let store_down = match store_down {
        None | Some(StoreDownWord::Refuse) => StoreDown::Refuse,
        Some(StoreDownWord::Local) => StoreDown::Local,
    };
    let durability = match durability {
        None | Some(DurabilityWord::Journal) => Durability::Journal,
        Some(DurabilityWord::Fsync) => Durability::Fsync,
    };
    Sessions { bounds, store, durability, store_down }
}

/// A user's or pool's own, within the gateway's, which is `outer`.
pub(super) fn bounds(
    reading: &mut Reading<'_>,
    node: NodeId,
    written: Option<BoundsEntry>,
    outer: &SessionBounds,
) -> SessionBounds {
    let written = written.unwrap_or_default();
    let made = SessionBounds {
        default_ttl: written.default_ttl.map(|ttl| ttl.0),
        min_ttl: written.min_ttl.map(|ttl| ttl.0),
        max_ttl: written.max_ttl.map(|ttl| ttl.0),
        idle: written.idle.map(|idle| idle.0),
    };
    // The narrowest wins of each.
    let min = made.min_ttl.into_iter().chain(outer.min_ttl).max().unwrap_or(Ttl::MIN);
    let max = made.max_ttl.into_iter().chain(outer.max_ttl).min().unwrap_or(Ttl::MAX);
    if min > max && made != SessionBounds::default() {
        let key = if made.min_ttl.is_some() { "min_ttl" } else { "max_ttl" };
        let message = format!("no ttl is left: the shortest is {min}, the longest {max}");
        reading.complain(node, &[key], message);
    } else if let Some(default) = made.default_ttl {
        let own = made.min_ttl.unwrap_or(Ttl::MIN)..=made.max_ttl.unwrap_or(Ttl::MAX);
        if !own.contains(&default) {
            let message = format!("expected a duration from {} to {}", own.start(), own.end());
            reading.complain(node, &["default_ttl"], message);
        } else if !(min..=max).contains(&default) {
            let message = format!("the gateway's bounds make {} of it", default.clamp(min, max));
            reading.warn(node, &["default_ttl"], message);
        }
    }
    made
}
