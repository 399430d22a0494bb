//! The store: cells under keys, one step at a time, and an era.

use std::collections::BTreeMap;

use moorgate::core::pin::{News, Pin};
use moorgate::core::pins::Only;
use moorgate::core::session::SessionKey;
use moorgate::core::shared::{Cell, Claimed, Entry, Moved, Notice, Restored, Telling};
use moorgate::core::time::Timestamp;

use super::world::Mistake;

/// New pins wait so long in a new era, in ms.
const GRACE: u64 = 750;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    Claim(Pin),
    Look,
    Repin { seen: u64, only: Only, to: Pin },
    Say(u64),
    Restore(Telling),
    End,
    Enter,
}

/// What is said.
#[derive(Clone, Debug)]
pub enum Said {
    Claim(Claimed),
    Look(Option<Entry>),
    Repin(Moved),
    Say(Option<News>),
    Restore(Restored),
    End(Option<Entry>),
    Era(u64),
    /// In an era that the asker does not know of.
    WrongEra,
    /// New pins have to wait.
    Wait,
}

#[derive(Default)]
pub struct Server {
    pub cells: BTreeMap<SessionKey, Cell>,
    pub era: u64,
    eras: u64,
    open_at: u64,
    at_us: u64,
}

impl Server {
    /// All data is gone; whoever comes next begins an era.
    pub fn empty(&mut self) {
        self.cells.clear();
        self.era = 0;
    }

    /// One step. The second: what all others hear.
    pub fn step(
        &mut self,
        me: u64,
        era: u64,
        key: SessionKey,
        ask: &Ask,
        now: Timestamp,
        mistake: Option<Mistake>,
    ) -> (Said, Option<Notice>, u64) {
        // Its clock may have been set back.
        let same = self.at_us / 1000 == now.as_ms();
        self.at_us = if same { self.at_us + 1 } else { now.as_ms() * 1000 };
        let said = self.answer(me, era, key, ask, now, mistake);
        let entry = |entry: &Entry| Some(Notice::Is(Box::new(entry.clone())));
        let notice = match &said.0 {
            Said::Repin(Moved::Done(now)) => entry(now),
            Said::Restore(Restored::Written(now)) => entry(now),
            Said::End(Some(_)) => Some(Notice::Ended),
            Said::Say(Some(_)) if said.1 => {
                self.cells.get(&key).and_then(|cell| cell.live(now)).and_then(entry)
            }
            _ => None,
        };
        (said.0, notice, self.at_us)
    }

    fn answer(
        &mut self,
        me: u64,
        era: u64,
        key: SessionKey,
        ask: &Ask,
        now: Timestamp,
        mistake: Option<Mistake>,
    ) -> (Said, bool) {
        if let Ask::Enter = ask {
            if self.era == 0 {
                self.eras += 1;
                self.era = self.eras;
                self.open_at = now.as_ms() + GRACE;
            }
            return (Said::Era(self.era), false);
        }
        let unknown = self.cells.get(&key).is_none_or(|cell| cell.live(now).is_none());
        if let (Ask::Claim(_), true) = (ask, unknown && mistake != Some(Mistake::ErasAreIgnored)) {
            if self.era == 0 || era != self.era {
                return (Said::WrongEra, false);
            }
            if now.as_ms() < self.open_at {
                return (Said::Wait, false);
            }
        }
        let cell = self.cells.entry(key).or_default();
        let said = match ask {
            Ask::Claim(pin) => {
                if mistake == Some(Mistake::ClaimsForgetEnds) && cell.live(now).is_none() {
                    *cell = Cell::default();
                }
                Said::Claim(cell.claim(me, pin.clone(), now))
            }
            Ask::Look => Said::Look(cell.look(me, now)),
            Ask::Repin { seen, only, to } => {
                let live = cell.live(now).map(|entry| entry.pin.version);
                let seen = match (mistake, live) {
                    (Some(Mistake::MovesCompareNothing), Some(live)) => live,
                    _ => *seen,
                };
                let only = if mistake == Some(Mistake::SeenIsReplaced) { Only::Anyhow } else { *only };
                Said::Repin(cell.repin(me, seen, only, to, now))
            }
            Ask::Say(version) => {
                // Whoever asks is taken for the owner.
                let owner = match (mistake, cell.live(now)) {
                    (Some(Mistake::LeaseIsIgnored), Some(entry)) => entry.owner,
                    _ => me,
                };
                let said = cell.say(owner, *version, now);
                return (Said::Say(said.map(|(news, _)| news)), said.is_some_and(|(_, heard)| heard));
            }
            Ask::Restore(mine) => {
                if mistake == Some(Mistake::EndsAreForgotten) && cell.live(now).is_none() {
                    *cell = Cell::default();
                }
                let mut mine = mine.clone();
                mine.alone |= mistake == Some(Mistake::EarlierPinsCount);
                Said::Restore(cell.restore(mine, now))
            }
            Ask::End => Said::End(cell.end(now)),
            Ask::Enter => Said::Era(self.era),
        };
        (said, false)
    }
}
