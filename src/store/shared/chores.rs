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
use super::{Shared, script};
use crate::core::pin::ExitName;
use crate::core::session::SessionKey;
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
    /// The pin takes room on an exit until then.
    Occupy { key: SessionKey, exit: ExitName, until: Timestamp },
    /// The pin, or a claim that was lost, gives its room back; it rests until
    /// then, where it does.
    Vacate { key: SessionKey, exit: ExitName, address: Option<IpAddr>, rests: Option<Timestamp> },
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
            let calls: Vec<_> = batch.iter().map(|chore| self.call(chore)).collect();
            let done = self.link.run_all(&calls).await.is_ok();
            for chore in batch.drain(..) {
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
            calls.push(self.call(&chore));
        }
        for calls in calls.chunks(BATCH) {
            let _gone = self.link.run_all(calls).await;
        }
    }

    fn call(&self, chore: &Chore) -> Call {
        let ms = |at: Timestamp| at.as_ms().to_string().into_bytes();
        let of_pin = |script, key, own: &[&[u8]]| Call {
            script,
            keys: vec![self.names.pin(key)],
            arguments: self.head(key).args(own).into_iter().map(<[u8]>::to_vec).collect(),
        };
        match chore {
            Chore::Say { key, version } => of_pin(&script::SAY, *key, &[&version.to_le_bytes()]),
            Chore::Touch { key, version, used } => {
                of_pin(&script::TOUCH, *key, &[&version.to_le_bytes(), &ms(*used)])
            }
            Chore::Occupy { key, exit, until } => Call {
                script: &script::RESERVE,
                keys: vec![self.names.exit(exit)],
                arguments: vec![key.as_bytes().to_vec(), ms(*until), b"0".to_vec()],
            },
            Chore::Vacate { key, exit, address, rests } => {
                let address = address.map(|address| self.names.address(exit, address));
                Call {
                    script: &script::RELEASE,
                    keys: std::iter::once(self.names.exit(exit)).chain(address).collect(),
                    arguments: vec![key.as_bytes().to_vec(), ms(rests.unwrap_or_default())],
                }
            }
        }
    }
}
