//! A seat among its user's sessions, for a session that is to be pinned.
//!
//! Owns: what is tried before a session is refused: sessions that have ended
//! and wait to be swept, and the session itself, which another request may
//! have pinned meanwhile.
//! Must not know: how sessions are counted.

use super::Shared;
use crate::admit::limits::seats::{Full, Seat};
use crate::admit::limits::tab::{Admission, too_many_sessions};
use crate::core::fault::Fault;
use crate::core::session::SessionKey;
use crate::store::Claim;

/// Whether there is a seat, or the session's pin if it has one by now.
///
/// # Errors
/// `too_many_sessions`.
pub(super) async fn check(
    shared: &Shared,
    admission: &Admission,
    key: SessionKey,
) -> Result<Option<Claim>, Fault> {
    let seats = &admission.tab().seats;
    let check = || seats.check(key, admission.sessions, shared.clock.now());
    Ok(tried(shared, key, check).await?.err())
}

/// A seat for a claim; or the session's pin, if it has one by now.
///
/// # Errors
/// `too_many_sessions`.
pub(super) async fn take(
    shared: &Shared,
    admission: &Admission,
    key: SessionKey,
) -> Result<Result<Seat, Claim>, Fault> {
    let seats = &admission.tab().seats;
    tried(shared, key, || seats.take(key, admission.sessions, shared.clock.now())).await
}

async fn tried<T>(
    shared: &Shared,
    key: SessionKey,
    take: impl Fn() -> Result<T, Full>,
) -> Result<Result<T, Claim>, Fault> {
    let mut taken = take();
    if taken.as_ref().is_err_and(|full| full.wait.is_zero()) {
        shared.store.sweep().await;
        taken = take();
    }
    match taken {
        Ok(taken) => Ok(Ok(taken)),
        Err(full) => {
            let held = match shared.store.hold(key).await? {
                // Another gateway may have pinned it.
                None => shared.store.find(key).await?,
                held => held,
            };
            held.map_or_else(|| Err(too_many_sessions(full)), |claim| Ok(Err(claim)))
        }
    }
}
