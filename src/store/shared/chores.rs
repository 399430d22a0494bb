//! What the store is told without anybody waiting for it.
//!
//! Owns: the queue and its bound; what each chore is as a step.
//! Must not know: when the store can be reached.
//!
//! What is dropped because the queue is full, or because the store went away
//! meanwhile, costs little: a use is told again a second later or when the
//! pin is asked about next; a room that was not given back frees itself when
//! its pin would have ended.

use std::net::IpAddr;

use tokio::sync::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::link::Call;
use super::{Shared, script, value};
use crate::core::pin::ExitName;
use crate::core::session::{SessionKey, UserName};
use crate::core::time::Timestamp;

/// The most that waits.
const QUEUE: usize = 65_536;
/// The most that is sent at once.
pub(super) const BATCH: usize = 256;

/// One thing to tell.
#[derive(Clone, Debug)]
pub(super) enum Chore {
    /// The `new` of this version was said.
    Say { key: SessionKey, version: u64 },
    /// The pin was used.
    Touch { key: SessionKey, version: u64, used: Timestamp },
    /// The pin takes room on an exit until then, with its address of a prefix.
    Occupy { key: SessionKey, exit: ExitName, address: Option<IpAddr>, until: Timestamp },
    /// The pin, or a claim that was lost, gives its room back; it rests until
    /// then, where it does.
    Vacate { key: SessionKey, exit: ExitName, address: Option<IpAddr>, rests: Option<Timestamp> },
    /// The session is one of its user's until then.
    Sit { key: SessionKey, user: UserName, until: Timestamp },
    /// It is no more.
    Rise { key: SessionKey, user: UserName },
    /// All that are known of this user's sessions are.
    SitAll { user: UserName },
}

/// The queue.
pub(super) struct Chores {
    sender: Sender<Chore>,
    receiver: Mutex<Receiver<Chore>>,
}

impl Chores {
    pub(super) fn new() -> Self {
        let (sender, receiver) = channel(QUEUE);
        Self { sender, receiver: Mutex::new(receiver) }
    }

    /// Puts a chore in, if there is room.
    pub(super) fn push(&self, chore: Chore) {
        let _full = self.sender.try_send(chore);
    }
}

impl Shared {
    /// Does what is queued, while the store can be reached; never ends.
    pub(super) async fn do_chores(&self) {
        let mut receiver = self.chores.receiver.lock().await;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            receiver.recv_many(&mut batch, BATCH).await;
            self.keeper.wait_up(&self.link).await;
            let calls: Vec<_> = batch.iter().filter_map(|chore| self.call(chore)).collect();
            let done = self.link.run_all(&calls).await.is_ok();
            for chore in batch.drain(..) {
                if let Chore::SitAll { user } = &chore {
                    self.sit_all(user).await;
                }
                if let (Chore::Say { key, version }, true) = (chore, done) {
                    self.with(key, |known| known.heard_of(key, version));
                }
            }
        }
    }

    /// Does what is queued, once. For the end.
    pub(super) async fn flush(&self) {
        let Ok(mut receiver) = self.chores.receiver.try_lock() else { return };
        let mut calls = Vec::new();
        while let Ok(chore) = receiver.try_recv() {
            calls.extend(self.call(&chore));
        }
        for calls in calls.chunks(BATCH) {
            let _gone = self.link.run_all(calls).await;
        }
    }

    /// Tells the store of all sessions of a user that this node knows.
    async fn sit_all(&self, user: &UserName) {
        let known = self.all_known();
        let of_user = known.iter().filter(|(_, pin)| pin.user == *user);
        let calls: Vec<_> = of_user.map(|(key, pin)| self.sit(*key, user, pin.ends())).collect();
        for calls in calls.chunks(BATCH) {
            let _gone = self.link.run_all(calls).await;
        }
    }

    /// `None`: it is no step of its own.
    pub(super) fn call(&self, chore: &Chore) -> Option<Call> {
        let of_pin = |script, key, own: &[&[u8]]| Call {
            script,
            keys: vec![self.names.pin(key)],
            arguments: self.head(key).args(own).into_iter().map(<[u8]>::to_vec).collect(),
        };
        Some(match chore {
            Chore::Say { key, version } => of_pin(&script::SAY, *key, &[&version.to_le_bytes()]),
            Chore::Touch { key, version, used } => {
                of_pin(&script::TOUCH, *key, &[&version.to_le_bytes(), &ms(*used)])
            }
            Chore::Occupy { key, exit, address, until } => {
                let mut arguments = vec![key.as_bytes().to_vec(), ms(*until), b"0".to_vec()];
                if let Some(address) = address {
                    arguments.extend([value::address_bytes(*address), b"0".to_vec(), b"-1".to_vec()]);
                }
                Call { script: &script::RESERVE, keys: self.room(exit, address.is_some()), arguments }
            }
            Chore::Vacate { key, exit, address, rests } => {
                let address = address.map(value::address_bytes).unwrap_or_default();
                Call {
                    script: &script::RELEASE,
                    keys: self.room(exit, !address.is_empty()),
                    arguments: vec![[&key.as_bytes()[..], &address].concat(), ms(rests.unwrap_or_default())],
                }
            }
            Chore::Sit { key, user, until } => self.sit(*key, user, *until),
            Chore::Rise { key, user } => Call {
                script: &script::RELEASE,
                keys: vec![self.names.user(user)],
                arguments: vec![key.as_bytes().to_vec(), b"0".to_vec()],
            },
            Chore::SitAll { .. } => return None,
        })
    }

    fn sit(&self, key: SessionKey, user: &UserName, until: Timestamp) -> Call {
        Call {
            script: &script::RESERVE,
            keys: vec![self.names.user(user)],
            arguments: vec![key.as_bytes().to_vec(), ms(until), b"0".to_vec()],
        }
    }

    /// The names of an exit's room, and of its addresses' uses.
    pub(super) fn room(&self, exit: &ExitName, with_addresses: bool) -> Vec<Vec<u8>> {
        let addresses = with_addresses.then(|| self.names.addresses(exit));
        std::iter::once(self.names.exit(exit)).chain(addresses).collect()
    }
}

/// An instant, as scripts are told it.
pub(super) fn ms(at: Timestamp) -> Vec<u8> {
    at.as_ms().to_string().into_bytes()
}
