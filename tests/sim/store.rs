//! The store of one gateway: `store/local.rs` over the model disk.
//!
//! `Local` hands its changes to threads of its own, which no seed can
//! schedule; so its few steps between the map ([`Pins`]) and the disk are
//! repeated here, each whole, as the lock of a shard makes them. A second
//! kind of store would stand beside this one with the same methods.

use std::sync::Arc;

use moorgate::clock::{Clock, ManualClock};
use moorgate::core::pin::{News, Pin};
use moorgate::core::pins::{Claimed, Held, Only, Pins, Repinned};
use moorgate::core::session::SessionKey;
use moorgate::core::time::Timestamp;
use moorgate::state::Exits;
use rand::RngExt;
use rand::rngs::StdRng;

use super::disk::{Change, Content, Death, Disk, Receipt, Time};
use super::mistake::Mistake;

/// A wall clock that is farther off than was written down is written down.
const CLOCK_SLACK_MS: u64 = 100;

/// A key's pin as a request gets it.
#[derive(Clone, Debug)]
pub struct Claim {
    pub pin: Pin,
    pub won: bool,
    pub fresh: bool,
    pub receipt: Receipt,
}

/// The disk has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// All pins of a gateway.
pub struct Store {
    pins: Pins,
    disk: Disk,
    clock: Arc<ManualClock>,
    exits: Arc<Exits>,
    noted_ms: i64,
    mistake: Option<Mistake>,
}

impl Store {
    /// Reads what a disk holds, and sets the clock by it.
    pub fn open(
        mut content: Content,
        clock: Arc<ManualClock>,
        exits: Arc<Exits>,
        mistake: Option<Mistake>,
    ) -> Self {
        if mistake == Some(Mistake::ClockForgotten) {
            content.clock_ms = 0;
        }
        let now = Timestamp::from_ms(clock.wall().as_ms().saturating_add_signed(-content.clock_ms));
        content.pins.values_mut().for_each(|(_, pin)| {
            if let Some(later) = pin.taken_up(now) {
                *pin = later;
            }
        });
        content.pins.retain(|_, (_, pin)| pin.lives(now));
        if content.pins.is_empty() {
            content.clock_ms = 0; // nothing depends on the old reckoning
        }
        clock.restore(content.clock_ms);
        let mut pins = Pins::new(0);
        for (key, (record, pin)) in &content.pins {
            exits.loaded(pin);
            pins.set(*key, Some(&Held { pin: pin.clone(), news: News::Held, record: *record }));
        }
        Self { pins, noted_ms: content.clock_ms, disk: Disk::open(content), clock, exits, mistake }
    }

    pub fn now(&self) -> Timestamp {
        match self.mistake {
            Some(Mistake::ClockStepsAlong) => self.clock.wall(),
            _ => self.clock.now(),
        }
    }

    /// The live pins.
    pub fn live(&self) -> Vec<(SessionKey, Held)> {
        let now = self.now();
        let mut live: Vec<_> = self.pins.iter().filter(|(_, held)| held.pin.lives(now)).collect();
        live.sort_by_key(|(key, _)| *key);
        live
    }

    /// Every pin, those that ended and were not swept among them.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    pub fn peek(&self, key: SessionKey) -> Option<Pin> {
        Some(self.pins.get(key, self.now())?.pin)
    }

    pub fn look(&self, key: SessionKey) -> Option<Claim> {
        Some(self.shown(self.pins.get(key, self.now())?, false))
    }

    pub fn hold(&mut self, key: SessionKey, at: Time) -> Option<Claim> {
        let (mut held, moved) = self.pins.touch(key, self.now())?;
        if moved && self.mistake != Some(Mistake::TouchNotWritten) {
            let change = Change::Used { key, pin: held.pin.clone(), before: held.record };
            if let Some(number) = self.disk.push(change, at) {
                held.record = number;
                self.pins.wrote(key, number);
            }
        }
        Some(self.shown(held, false))
    }

    pub fn claim(
        &mut self,
        key: SessionKey,
        mut proposal: Pin,
        at: Time,
        rng: &mut StdRng,
    ) -> Result<Claim, Refused> {
        if self.disk.refuses() {
            return Err(Refused);
        }
        proposal.version = self.version(0, rng);
        let mut proposal = proposal.made_at(self.now());
        if self.mistake == Some(Mistake::ExpiryRoundedDown) {
            proposal.expires = Timestamp::from_ms(proposal.expires.as_ms() / 1000 * 1000);
        }
        let ended = match self.pins.claim(key, &proposal, self.now()) {
            Claimed::Lost(held) => return Ok(self.shown(held, false)),
            Claimed::Won { ended } => ended,
        };
        let record = self.disk.push(Change::Made { key, pin: proposal.clone() }, at).ok_or(Refused)?;
        self.pins.wrote(key, record);
        if let Some(ended) = ended {
            self.exits.left(&ended, Some(ended.ends()));
        }
        Ok(self.shown(Held { pin: proposal, news: News::New, record }, true))
    }

    pub fn repin(
        &mut self,
        key: SessionKey,
        mut seen: u64,
        only: Only,
        mut proposal: Pin,
        at: Time,
        rng: &mut StdRng,
    ) -> Result<Option<Claim>, Refused> {
        if self.disk.refuses() {
            return Err(Refused);
        }
        if let (Some(Mistake::MoveComparesNothing), Some(pin)) = (self.mistake, self.peek(key)) {
            seen = pin.version;
        }
        proposal.version = self.version(seen, rng);
        let (mut now, before) = match self.pins.repin(key, seen, only, &proposal, self.now()) {
            Repinned::Moved { now, before } => (now, before),
            Repinned::Lost(held) => return Ok(Some(self.shown(held, false))),
            Repinned::Gone if self.mistake == Some(Mistake::MoveBecomesClaim) => {
                return self.claim(key, proposal, at, rng).map(Some);
            }
            Repinned::Gone => return Ok(None),
        };
        if self.mistake == Some(Mistake::MoveExtendsExpiry) {
            now.pin.expires = proposal.expires;
            self.pins.set(key, Some(&now));
        }
        let change = Change::Moved { key, pin: now.pin.clone(), before: before.clone() };
        now.record = self.disk.push(change, at).ok_or(Refused)?;
        self.pins.wrote(key, now.record);
        self.exits.left(&before.pin, None);
        Ok(Some(self.shown(now, true)))
    }

    /// Ends the key's pin; to be told of when the receipt is settled.
    pub fn end(&mut self, key: SessionKey, at: Time) -> Result<Option<(Pin, Receipt)>, Refused> {
        if self.disk.refuses() {
            return Err(Refused);
        }
        let now = self.now();
        let Some(before) = self.pins.end(key, now) else { return Ok(None) };
        self.exits.left(&before.pin, Some(now));
        if self.mistake == Some(Mistake::EndNotWritten) {
            return Ok(Some((before.pin, self.disk.receipt(0))));
        }
        let change = Change::Ended { key, before: before.clone() };
        let number = self.disk.push(change, at).ok_or(Refused)?;
        Ok(Some((before.pin, self.disk.receipt(number))))
    }

    pub fn announce(&mut self, key: SessionKey, version: u64) -> Option<News> {
        if self.mistake == Some(Mistake::NewSaidTwice) {
            return self.pins.get(key, Timestamp::default()).map(|held| held.news);
        }
        self.pins.announce(key, version)
    }

    /// Whether the pin is as durable as promised; `None`: not known yet. A
    /// refused record need not have been the pin's only one: what is in the
    /// map after all was undone is on disk.
    pub fn settled(&self, claim: &Claim, key: SessionKey) -> Option<Result<(), Refused>> {
        let there = || self.peek(key).is_some_and(|pin| pin.version == claim.pin.version);
        let written = self.disk.written(claim.receipt)?;
        Some(if written || there() { Ok(()) } else { Err(Refused) })
    }

    /// Whether a kill at this moment would leave the pin as somebody was shown
    /// it. While the disk refuses, live pins go on and their uses wait.
    pub fn survives(&self, key: SessionKey, shown: &Pin) -> bool {
        if self.peek(key).is_none_or(|pin| pin.version != shown.version) {
            return true; // it was moved or ended since
        }
        let kept = |left: &Pin| left.ends() >= shown.ends() || self.disk.refuses();
        self.disk.left_by_kill(key).is_some_and(|left| left.version == shown.version && kept(left))
    }

    /// Whether an end is written; `None`: not known yet.
    pub fn ended(&self, receipt: Receipt) -> Option<bool> {
        self.disk.written(receipt)
    }

    /// What [`moorgate::store::Store::keep`] does four times a second.
    pub fn keep(&mut self, at: Time) {
        let offset_ms = self.offset_ms();
        if offset_ms.abs_diff(self.noted_ms) > CLOCK_SLACK_MS
            && self.disk.push(Change::Clock(offset_ms), at).is_some()
        {
            self.noted_ms = offset_ms;
        }
        self.sweep(at);
    }

    pub fn sweep(&mut self, at: Time) {
        let now = self.now();
        for (key, pin) in self.pins.sweep(now) {
            let _ = self.disk.push(Change::Expired { key }, at);
            self.exits.left(&pin, Some(pin.ends()));
        }
    }

    pub fn disk(&mut self) -> &mut Disk {
        &mut self.disk
    }

    /// The disk refuses from now on: what was not written has not happened.
    pub fn refuse(&mut self) {
        let undone: Vec<_> = self.disk.refuse().collect();
        if self.mistake != Some(Mistake::RefusedIsKept) {
            undone.into_iter().for_each(|change| self.undo(change));
        }
    }

    /// The disk takes records again.
    pub fn recover(&mut self) {
        let offset_ms = self.offset_ms();
        let careless = self.mistake == Some(Mistake::UsesAreNotMadeUpFor);
        let same = |(number, pin): &(u64, Pin), held: &Held| {
            *number == held.record && (careless || pin.ends() == held.pin.ends())
        };
        self.disk.recover(self.pins.iter(), offset_ms, same);
        self.noted_ms = offset_ms;
    }

    /// What a death leaves on the disk.
    pub fn die(self, death: Death, rng: &mut StdRng) -> Content {
        self.disk.die(death, rng)
    }

    fn undo(&mut self, change: Change) {
        let is = |pins: &Pins, key, pin: &Pin| {
            pins.get(key, Timestamp::default()).filter(|held| held.pin.version == pin.version)
        };
        match change {
            Change::Made { key, pin } if is(&self.pins, key, &pin).is_some() => {
                self.pins.set(key, None);
                self.exits.left(&pin, None);
            }
            Change::Moved { key, pin, mut before } => {
                let Some(now) = is(&self.pins, key, &pin) else { return };
                if self.mistake != Some(Mistake::RefusedMoveForgetsUses) {
                    before.pin.used = now.pin.used;
                }
                self.pins.set(key, Some(&before));
                self.exits.left(&pin, None);
                self.exits.loaded(&before.pin);
            }
            Change::Used { key, pin, before } if is(&self.pins, key, &pin).is_some() => {
                self.pins.wrote(key, before);
            }
            Change::Ended { key, before } => {
                self.pins.set(key, Some(&before));
                self.exits.loaded(&before.pin);
            }
            _ => {}
        }
    }

    fn version(&self, before: u64, rng: &mut StdRng) -> u64 {
        match self.mistake {
            Some(Mistake::VersionsRestart) => before + 1,
            _ => rng.random(),
        }
    }

    fn offset_ms(&self) -> i64 {
        self.clock.wall().as_ms().wrapping_sub(self.clock.now().as_ms()) as i64
    }

    fn shown(&self, held: Held, won: bool) -> Claim {
        let receipt = self.disk.receipt(held.record);
        Claim { fresh: held.news == News::New, won, receipt, pin: held.pin }
    }
}
