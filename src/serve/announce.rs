//! What a success tells the client of its exit and session (SPEC §4).
//!
//! Owns: from a link to the `Moorgate-*` fields.
//! Must not know: how they are written.

use super::Shared;
use super::link::Link;
use crate::core::pin::News;
use crate::core::time::Ttl;
use crate::http1::answer::{Announce, SessionNews};

/// Hands out what is to be announced; nothing where that is turned off.
pub(super) fn with<T>(
    shared: &Shared,
    link: &Link,
    news: Option<News>,
    write: impl FnOnce(Option<&Announce<'_>>) -> T,
) -> T {
    if !shared.settings.announce {
        return write(None);
    }
    let session = link.pinned.as_ref().zip(news).map(|(pinned, what)| SessionNews {
        what,
        expires_in_s: pinned.pin.expires.since(shared.clock.now()).as_secs(),
        idle_s: pinned.pin.idle.map(Ttl::as_secs).map(u64::from),
        same_address: what == News::Moved && pinned.pin.same_address,
    });
    let announce =
        Announce { pool: &link.exit.name.pool, exit: &link.exit.name.id, address: link.address(), session };
    write(Some(&announce))
}
