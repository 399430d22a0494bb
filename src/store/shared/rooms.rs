//! Room on exits, over all nodes.
//!
//! Owns: how many pins each exit holds at the store; room and addresses that
//! are reserved before a claim, so that no two nodes give the same ones away.
//! Must not know: how an exit is chosen.
//!
//! An exit's pins are a sorted set, scored by when they leave room. An exit
//! without a limit and without a prefix is told of after the claim, and costs
//! no round trip; one with either is asked first. A node that dies between
//! the two leaves room taken until the pin would have ended: too little is
//! given away then, never too much.

use std::sync::Arc;

use redis::Value;

use super::chores::Chore;
use super::link::{Call, Trouble};
use super::{Shared, WhenAway, script};
use crate::core::pin::{ExitName, Pin};
use crate::core::session::SessionKey;
use crate::core::time::Timestamp;
use crate::store::StoreFault;

/// So many exits are counted by one question.
const AT_ONCE: usize = 256;

/// Room that is reserved. Dropped, it is given back: the claim was lost.
#[derive(Debug)]
#[must_use]
pub struct Reserved {
    shared: Option<Arc<Shared>>,
    key: SessionKey,
    pin: Option<Box<Pin>>,
}

impl Reserved {
    /// Nothing has to be reserved.
    pub fn nothing(key: SessionKey) -> Self {
        Self { shared: None, key, pin: None }
    }

    /// The claim was won: the pin has the room.
    pub fn keep(mut self) {
        self.pin = None;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let (Some(shared), Some(pin)) = (&self.shared, &self.pin) {
            shared.vacate(self.key, pin, false);
        }
    }
}

impl Shared {
    /// Reserves room for what is proposed, on an exit that holds at most so
    /// many pins (0: any number). `None`: there is none, or another pin has
    /// the address.
    pub(in crate::store) async fn reserve(
        self: &Arc<Self>,
        key: SessionKey,
        proposal: &Pin,
        most: u32,
    ) -> Result<Option<Reserved>, StoreFault> {
        let address = proposal.variant.address();
        if most == 0 && address.is_none() {
            return Ok(Some(Reserved::nothing(key)));
        }
        let until = self.room_until(&Pin {
            expires: self.link.store_time(proposal.expires),
            used: self.link.store_time(proposal.used),
            ..proposal.clone()
        });
        let exit = self.names.exit(&proposal.exit);
        let address = address.map(|address| self.names.address(&proposal.exit, address));
        let keys: Vec<&[u8]> = std::iter::once(&*exit).chain(address.as_deref()).collect();
        let (until, most) = (until.as_ms().to_string(), most.to_string());
        let arguments: [&[u8]; 3] = [key.as_bytes(), until.as_bytes(), most.as_bytes()];
        match self.link.run(&script::RESERVE, &keys, &arguments).await {
            Ok((reply, _)) if reply.code == 1 => {
                let pin = Some(Box::new(proposal.clone()));
                Ok(Some(Reserved { shared: Some(self.clone()), key, pin }))
            }
            Ok(_) => Ok(None),
            // This node decides alone, by what it knows of.
            Err(Trouble::Away) if self.when_away == WhenAway::Local => Ok(Some(Reserved::nothing(key))),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// The pin takes room on its exit, or goes on to.
    pub(super) fn occupy(&self, key: SessionKey, pin: &Pin) {
        let (exit, until) = (pin.exit.clone(), self.room_until(pin));
        self.chores.push(Chore::Occupy { key, exit, until });
    }

    /// The pin gives its room back; `rest`: it ended, so its room may rest.
    pub(super) fn vacate(&self, key: SessionKey, pin: &Pin, rest: bool) {
        let rests = (rest && pin.rest_s > 0).then(|| self.now().plus(seconds(pin.rest_s)));
        let (exit, address) = (pin.exit.clone(), pin.variant.address());
        self.chores.push(Chore::Vacate { key, exit, address, rests });
    }

    /// When a pin, in the store's time, leaves room if it is not used again.
    fn room_until(&self, pin: &Pin) -> Timestamp {
        pin.ends().plus(seconds(pin.rest_s))
    }

    /// How many pins each of these exits holds, on all nodes.
    pub(in crate::store) async fn counts(&self, exits: &[ExitName]) -> Option<Vec<u32>> {
        let mut counts = Vec::with_capacity(exits.len());
        // The keys of a cluster's step lie in one slot.
        let at_once = if self.names.is_cluster { 1 } else { AT_ONCE };
        for some in exits.chunks(at_once * AT_ONCE) {
            let calls: Vec<_> = some
                .chunks(at_once)
                .map(|exits| Call {
                    script: &script::COUNT,
                    keys: exits.iter().map(|exit| self.names.exit(exit)).collect(),
                    arguments: Vec::new(),
                })
                .collect();
            for value in self.link.run_all(&calls).await.ok()? {
                let Value::Array(values) = value else { return None };
                let count = |value: Value| match value {
                    Value::Int(count) => u32::try_from(count).unwrap_or(u32::MAX),
                    _ => 0,
                };
                counts.extend(values.into_iter().map(count));
            }
        }
        (counts.len() == exits.len()).then_some(counts)
    }
}

fn seconds(seconds: u32) -> std::time::Duration {
    std::time::Duration::from_secs(u64::from(seconds))
}
