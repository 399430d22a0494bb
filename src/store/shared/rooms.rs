//! Room on exits, over all nodes.
//!
//! Owns: how many pins each exit holds at the store; room and addresses that
//! are reserved before a claim, so that no two nodes give the same ones away.
//! Must not know: how an exit is chosen.
//!
//! An exit's pins are a sorted set, scored by when they leave room, and so are
//! the sessions of a user who may have so many at most. One server looks at
//! both in the step that makes the pin. In a cluster they lie elsewhere than
//! the pin, and room is reserved first: a node that dies between the two leaves
//! room taken until the pin would have ended. Too little is given away then,
//! never too much.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::chores::{Chore, ms};
use super::link::{Call, Trouble};
use super::script::{self, Reply};
use super::{Shared, WhenAway, locked, value};
use crate::core::pin::{ExitName, Pin, Variant};
use crate::core::prefix::Addresses;
use crate::core::session::{SessionKey, UserName};
use crate::core::time::Timestamp;
use crate::store::{Claim, StoreFault};

/// So many exits are counted by one question.
const AT_ONCE: usize = 256;
/// Of so many users the sessions are counted; beyond, they are learned anew.
const MOST_LIMITED: usize = 65_536;

/// What a pin takes on all gateways together, and the most that there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    /// Its exit holds so many pins at most; 0: any number.
    pub exit_most: u32,
    /// The addresses of its exit's prefix, of which it is to have one that no
    /// other pin has; where all are taken, one that few have. `None`: the
    /// proposed one or none.
    pub addresses: Option<Addresses>,
    /// Its user has so many sessions at most.
    pub user_most: Option<NonZeroU32>,
}

/// What became of a proposal.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is a claim nearly always, and lives for a moment")]
pub enum Placed {
    /// The key has a pin: the proposed one, maybe with another address of its
    /// exit's prefix, or one that was there.
    Pinned(Claim),
    /// Pins of other gateways fill the exit.
    ExitFull,
    /// The user has as many sessions as it may.
    UserFull {
        /// How long until one ends.
        wait: Duration,
    },
}

/// Room that is reserved. Dropped, it is given back: the claim was lost.
#[derive(Debug)]
#[must_use]
pub struct Reserved {
    shared: Option<Arc<Shared>>,
    key: SessionKey,
    pin: Option<Box<Pin>>,
    address: Option<IpAddr>,
}

impl Reserved {
    /// Nothing has to be reserved.
    pub fn nothing(key: SessionKey) -> Self {
        Self { shared: None, key, pin: None, address: None }
    }

    /// The address that the pin is to have, where other gateways' pins have
    /// the one that was proposed.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
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
    /// Pins the key to what is proposed unless a pin lives or something is
    /// full.
    pub(in crate::store) async fn place(
        self: &Arc<Self>,
        key: SessionKey,
        mut proposal: Pin,
        demand: &Demand,
    ) -> Result<Placed, StoreFault> {
        if demand.user_most.is_some() {
            self.count_sessions_of(&proposal.user);
        }
        if !self.names.is_cluster {
            return self.claim(key, proposal, demand).await;
        }
        let user = proposal.user.clone();
        // Both at once: together with the claim they have two time limits.
        let (seated, reserved) =
            tokio::join!(self.sit_down(key, &proposal, demand), self.reserve(key, &proposal, demand));
        let placed = match (seated, reserved) {
            (Ok(Some(wait)), _) => Ok(Placed::UserFull { wait }),
            (Ok(None), Ok(None)) => Ok(Placed::ExitFull),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
            (Ok(None), Ok(Some(reserved))) => {
                if let Some(address) = reserved.address() {
                    proposal.variant = Variant::Address(address);
                }
                let (exit, variant) = (proposal.exit.clone(), proposal.variant.clone());
                let placed = self.claim(key, proposal, demand).await;
                // Also where another gateway has pinned it just there.
                let has_it = |pin: &Pin| pin.exit == exit && pin.variant == variant;
                if let Ok(Placed::Pinned(claim)) = &placed
                    && (claim.won || has_it(&claim.pin))
                {
                    reserved.keep();
                }
                placed
            }
        };
        let is_seated = matches!(placed, Ok(Placed::Pinned(_) | Placed::UserFull { .. }));
        if demand.user_most.is_some() && !is_seated {
            self.chores.push(Chore::Rise { key, user });
        }
        placed
    }

    /// Makes the session one of its user's. How long it has to wait, where
    /// that has as many as it may.
    async fn sit_down(
        &self,
        key: SessionKey,
        proposal: &Pin,
        demand: &Demand,
    ) -> Result<Option<Duration>, StoreFault> {
        let Some(most) = demand.user_most else { return Ok(None) };
        let (ends, most) = (ms(self.in_store_time(proposal).ends()), most.to_string());
        let arguments: [&[u8]; 3] = [key.as_bytes(), &ends, most.as_bytes()];
        match self.link.run(&script::RESERVE, &[&self.names.user(&proposal.user)], &arguments).await {
            Ok((reply, _)) if reply.code == 1 => Ok(None),
            Ok((reply, _)) => Ok(Some(self.until_first_end(&reply))),
            Err(Trouble::Away) if self.when_away == WhenAway::Local => Ok(None),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// How long until the first leaves a room that is full.
    pub(super) fn until_first_end(&self, reply: &Reply) -> Duration {
        let text = reply.value.as_deref().and_then(|text| std::str::from_utf8(text).ok());
        let ends = text.and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        Timestamp::from_ms(ends as u64).since(Timestamp::from_ms(reply.at_ms()))
    }

    /// Reserves room for what is proposed. `None`: the exit holds as many pins
    /// as it may.
    pub(in crate::store) async fn reserve(
        self: &Arc<Self>,
        key: SessionKey,
        proposal: &Pin,
        demand: &Demand,
    ) -> Result<Option<Reserved>, StoreFault> {
        let wanted = proposal.variant.address();
        if demand.exit_most == 0 && wanted.is_none() {
            return Ok(Some(Reserved::nothing(key)));
        }
        let until = ms(room_until(&self.in_store_time(proposal)));
        let mut arguments = vec![key.as_bytes().to_vec(), until, demand.exit_most.to_string().into_bytes()];
        if let Some(wanted) = wanted {
            let [wanted, first, count] = demand.stretch(wanted);
            arguments.extend([wanted, first, count]);
        }
        let names = self.room(&proposal.exit, wanted.is_some());
        let keys: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        match self.link.run(&script::RESERVE, &keys, &arguments).await {
            Ok((reply, _)) if reply.code == 1 => {
                let given = reply.value.as_deref().and_then(value::address);
                let mut pin = Box::new(proposal.clone());
                if let Some(given) = given {
                    pin.variant = Variant::Address(given);
                }
                let address = given.filter(|given| Some(*given) != wanted);
                Ok(Some(Reserved { shared: Some(self.clone()), key, pin: Some(pin), address }))
            }
            Ok(_) => Ok(None),
            // This node decides alone, by what it knows of.
            Err(Trouble::Away) if self.when_away == WhenAway::Local => Ok(Some(Reserved::nothing(key))),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// The pin takes room on its exit, or goes on to, and is one of its user's
    /// sessions.
    pub(super) fn occupy(&self, key: SessionKey, pin: &Pin) {
        self.rooms_of(key, pin).into_iter().flatten().for_each(|chore| self.chores.push(chore));
    }

    /// What the store is to be told of a pin's room.
    pub(super) fn rooms_of(&self, key: SessionKey, pin: &Pin) -> [Option<Chore>; 2] {
        let (exit, address, until) = (pin.exit.clone(), pin.variant.address(), room_until(pin));
        let is_limited = locked(&self.limited).contains(&pin.user);
        let sit = is_limited.then(|| Chore::Sit { key, user: pin.user.clone(), until: pin.ends() });
        [Some(Chore::Occupy { key, exit, address, until }), sit]
    }

    /// The pin gives its room back; `rest`: it ended, so its room may rest.
    pub(super) fn vacate(&self, key: SessionKey, pin: &Pin, rest: bool) {
        let rests = (rest && pin.rest_s > 0).then(|| self.now().plus(seconds(pin.rest_s)));
        let (exit, address) = (pin.exit.clone(), pin.variant.address());
        self.chores.push(Chore::Vacate { key, exit, address, rests });
    }

    /// The pin has ended before its time: it is none of its user's sessions.
    pub(super) fn rise(&self, key: SessionKey, pin: &Pin) {
        if locked(&self.limited).contains(&pin.user) {
            self.chores.push(Chore::Rise { key, user: pin.user.clone() });
        }
    }

    /// From now on the sessions of this user are counted at the store.
    fn count_sessions_of(&self, user: &UserName) {
        let mut limited = locked(&self.limited);
        if !limited.contains(user) {
            if limited.len() >= MOST_LIMITED {
                limited.clear();
            }
            limited.insert(user.clone());
            drop(limited);
            self.chores.push(Chore::SitAll { user: user.clone() });
        }
    }

    /// A proposal, which is in the gateway's time.
    fn in_store_time(&self, proposal: &Pin) -> Pin {
        let of = |at| self.link.store_time(at);
        Pin { expires: of(proposal.expires), used: of(proposal.used), ..proposal.clone() }
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

impl Demand {
    /// An address as the scripts of rooms are told it, and which others may be
    /// given in its stead; without a prefix none.
    pub(super) fn stretch(&self, wanted: IpAddr) -> [Vec<u8>; 3] {
        let bytes = value::address_bytes(wanted);
        let around = self.addresses.and_then(|addresses| addresses.around(wanted));
        let (first, count) = around.unwrap_or((0, 0));
        [bytes, first.to_string().into_bytes(), count.to_string().into_bytes()]
    }
}

/// When a pin, in the store's time, leaves room if it is not used again.
fn room_until(pin: &Pin) -> Timestamp {
    pin.ends().plus(seconds(pin.rest_s))
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}
