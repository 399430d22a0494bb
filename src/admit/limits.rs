//! What a client may use up.
//!
//! Owns: how many connections there may be, in all and for each client, and
//! the guards that give them back; below it what one user may use up: [`tab`]
//! counts it, [`tabs`] has one for each user.
//! Must not know: what a connection is used for.

pub(crate) mod day;
pub(crate) mod ending;
mod purse;
mod rate;
pub(crate) mod seats;
pub(crate) mod tab;
pub(crate) mod tabs;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::code::Code;
use crate::core::fault::Fault;

/// Counts client connections.
pub(crate) struct Connections {
    most: u32,
    most_per_client: u32,
    open: AtomicU32,
    /// Kept only where there is a limit for each client.
    by_client: Mutex<HashMap<IpAddr, u32>>,
    /// Those above the limits that are being told so.
    refused: AtomicU32,
}

/// The most connections above the limits that are told so at a time: each
/// takes a descriptor until it has read that. More are closed without a word.
const MOST_REFUSED: u32 = 256;

/// A refused connection that is being told so.
pub(crate) struct Refusal(Arc<Connections>);

/// A connection that counts until it is dropped.
pub(crate) struct ConnectionGuard {
    connections: Arc<Connections>,
    client: Option<IpAddr>,
}

impl Connections {
    /// At most so many in all, and for each client address; 0: any number.
    pub(crate) fn new(most: u32, most_per_client: u32) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_per_client,
            open: AtomicU32::new(0),
            by_client: Mutex::default(),
            refused: AtomicU32::new(0),
        })
    }

    /// Counts one more; whose it is may turn out later
    /// ([`ConnectionGuard::is_of`]).
    ///
    /// # Errors
    /// `too_many_connections`.
    pub(crate) fn enter(self: &Arc<Self>, client: Option<IpAddr>) -> Result<ConnectionGuard, Fault> {
        let mut guard = ConnectionGuard { connections: self.clone(), client: None };
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        if self.most > 0 && before >= self.most {
            return Err(too_many("the gateway"));
        }
        if let Some(client) = client {
            guard.is_of(client)?;
        }
        Ok(guard)
    }

    /// How many there are.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Leave to tell a connection that it is refused; none where too many are
    /// being told.
    pub(crate) fn refuse(self: &Arc<Self>) -> Option<Refusal> {
        let refusal = Refusal(self.clone());
        (self.refused.fetch_add(1, Ordering::Relaxed) < MOST_REFUSED).then_some(refusal)
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        self.0.refused.fetch_sub(1, Ordering::Relaxed);
    }
}

fn too_many(whose: &str) -> Fault {
    let detail = format!("{whose} has no connection left: close some, or come back later");
    Fault::new(Code::TooManyConnections, detail)
}

impl ConnectionGuard {
    /// It is this client's, and counts for it from now on. To be called once.
    ///
    /// # Errors
    /// `too_many_connections`.
    pub(crate) fn is_of(&mut self, client: IpAddr) -> Result<(), Fault> {
        let most = self.connections.most_per_client;
        if most > 0 {
            let mut by_client = self.connections.by_client.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_client.entry(client).or_insert(0);
            if *count >= most {
                return Err(too_many("this client address"));
            }
            *count += 1;
            self.client = Some(client);
        }
        Ok(())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        let mut by_client = self.connections.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_in_all_and_for_each_client() {
        let connections = Connections::new(3, 2);
        let ip = |n| IpAddr::from([192, 0, 2, n]);
        let enter = |n| connections.enter(Some(ip(n)));
        let code = |n| enter(n).err().map(|fault| fault.code());
        let a = enter(1).unwrap();
        let _b = enter(1).unwrap();
        assert_eq!(code(1), Some(Code::TooManyConnections));
        let _c = enter(2).unwrap();
        assert_eq!(code(3), Some(Code::TooManyConnections));
        assert_eq!(connections.open.load(Ordering::Relaxed), 3);
        drop(a);
        let _d = enter(1).unwrap();
        assert_eq!(connections.by_client.lock().unwrap().len(), 2);
    }

    #[test]
    fn so_many_are_told_that_they_are_refused() {
        let connections = Connections::new(1, 0);
        let mut told: Vec<_> = (0..MOST_REFUSED).map(|_| connections.refuse()).collect();
        assert!(told.iter().all(Option::is_some) && connections.refuse().is_none());
        assert!(connections.refuse().is_none(), "one that was not told counts no more");
        told.pop();
        assert!(connections.refuse().is_some());
    }
}
