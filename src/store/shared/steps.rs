//! The questions of a request, and what is done with their replies.
//!
//! Owns: one step each: which script, with what, and what its code means;
//! what is done where there is no reply.
//! Must not know: what is known ([`super::facts`]).

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::chores::Chore;
use super::link::Trouble;
use super::rooms::{Demand, Placed};
use super::script::{self, Reply};
use super::{MOST_OVERTAKEN, PATIENCE, Shared, WhenAway, value};
use crate::core::pin::{News, Pin, Variant};
use crate::core::pins::Only;
use crate::core::session::SessionKey;
use crate::core::shared::{Announce, Entry, LEASE, Told};
use crate::core::time::{Timestamp, Ttl};
use crate::store::{Claim, StoreFault};

impl Shared {
    /// The key's pin, known here or not.
    pub(in crate::store) async fn find(&self, key: SessionKey) -> Result<Option<Claim>, StoreFault> {
        if let Some(claim) = self.look(key) {
            return Ok(Some(claim));
        }
        // Replies that are overtaken by what happens meanwhile are few.
        for _ in 0..MOST_OVERTAKEN {
            let keys: [&[u8]; 1] = [&self.names.pin(key)];
            match self.link.run(&script::LOOK, &keys, &self.head(key).args(&[])).await {
                Ok((reply, told)) if reply.code == 1 => {
                    if let Some(claim) = self.met(key, &reply, told)? {
                        return Ok(Some(claim));
                    }
                }
                Ok(_) => return Ok(None),
                Err(Trouble::Away) if self.when_away == WhenAway::Local => return Ok(None),
                Err(trouble) => return Err(trouble.into()),
            }
        }
        Err(StoreFault::Away)
    }

    pub(super) async fn claim(
        &self,
        key: SessionKey,
        mut proposal: Pin,
        demand: &Demand,
    ) -> Result<Placed, StoreFault> {
        proposal.version = rand::random();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let wait = match self.try_claim(key, &proposal, demand).await {
                Ok(placed) => return Ok(placed),
                Err(Put::Off(wait)) => wait,
                Err(Put::Trouble(Trouble::Away)) if self.when_away == WhenAway::Local => {
                    return Ok(Placed::Pinned(self.claim_alone(key, proposal)));
                }
                // No new pin then; but perhaps there is one.
                Err(Put::Trouble(trouble)) => {
                    return self.look(key).map(Placed::Pinned).ok_or_else(|| trouble.into());
                }
            };
            let now = Instant::now();
            if now + wait > deadline {
                return Err(StoreFault::Away);
            }
            sleep(wait).await;
        }
    }

    async fn try_claim(&self, key: SessionKey, proposal: &Pin, demand: &Demand) -> Result<Placed, Put> {
        let asked = match self.names.is_cluster {
            true => self.ask_claim_of_cluster(key, proposal).await,
            false => self.ask_claim(key, proposal, demand).await,
        };
        let (reply, told) = asked.map_err(Put::Trouble)?;
        let claim = match reply.code {
            1 => {
                let mut made = proposal.clone().made_at(Timestamp::from_ms(reply.at_ms()));
                if let Some(address) = reply.value.as_deref().and_then(value::address) {
                    made.variant = Variant::Address(address);
                }
                self.won(key, &Entry::made(made, self.me), told)
            }
            0 => self.met(key, &reply, told).map_err(Put::Trouble)?,
            -1 => {
                self.enter(false).await.map_err(Put::Trouble)?;
                None
            }
            -3 => return Ok(Placed::ExitFull),
            -4 => return Ok(Placed::UserFull { wait: self.until_first_end(&reply) }),
            _ => {
                let wait = reply.value.as_deref().and_then(|ms| std::str::from_utf8(ms).ok()?.parse().ok());
                return Err(Put::Off(Duration::from_millis(wait.unwrap_or(100).clamp(1, 500))));
            }
        };
        claim.map(Placed::Pinned).ok_or(Put::Off(Duration::ZERO))
    }

    /// The pin, its room and its user's session are made in one step.
    async fn ask_claim(
        &self,
        key: SessionKey,
        proposal: &Pin,
        demand: &Demand,
    ) -> Result<(Reply, Told), Trouble> {
        let (body, behind) = value::body_parts(proposal);
        let [version, ttl_ms, idle_s] = lifetime(proposal);
        let (era, exit_most) = (self.keeper.era(), demand.exit_most.to_string());
        let rest_ms = (u64::from(proposal.rest_s) * 1000).to_string();
        let user_most = demand.user_most.map_or(0, NonZeroU32::get).to_string();
        let mut own: Vec<&[u8]> = vec![&version, &ttl_ms, &idle_s, &body, &era];
        own.extend([exit_most.as_bytes(), rest_ms.as_bytes(), user_most.as_bytes()]);
        let stretch = proposal.variant.address().map(|wanted| demand.stretch(wanted));
        if let Some([wanted, first, count]) = &stretch {
            own.extend([wanted.as_slice(), &behind, first, count]);
        }
        let (pin, exit) = (self.names.pin(key), self.names.exit(&proposal.exit));
        let (addresses, user) = (self.names.addresses(&proposal.exit), self.names.user(&proposal.user));
        let keys: [&[u8]; 5] = [&pin, self.names.era(), &exit, &addresses, &user];
        self.link.run(&script::CLAIM, &keys, &self.head(key).args(&own)).await
    }

    /// The keys of a cluster's step lie in one slot: the pin alone.
    async fn ask_claim_of_cluster(&self, key: SessionKey, proposal: &Pin) -> Result<(Reply, Told), Trouble> {
        let (body, [version, ttl_ms, idle_s]) = (value::body(proposal), lifetime(proposal));
        let own: [&[u8]; 4] = [&version, &ttl_ms, &idle_s, &body];
        self.link.run(&script::CLAIM, &[&self.names.pin(key)], &self.head(key).args(&own)).await
    }

    pub(in crate::store) async fn repin(
        &self,
        key: SessionKey,
        seen: u64,
        only: Only,
        mut proposal: Pin,
    ) -> Result<Option<Claim>, StoreFault> {
        proposal.version = rand::random();
        let (body, version) = (value::body(&proposal), proposal.version.to_le_bytes());
        let only_fresh: &[u8] = if only == Only::Fresh { b"1" } else { b"0" };
        if only == Only::Fresh {
            self.with(key, |known| known.replacing(key, seen));
        }
        let seen_bytes = seen.to_le_bytes();
        let arguments: [&[u8]; 4] = [&seen_bytes, only_fresh, &version, &body];
        let keys: [&[u8]; 1] = [&self.names.pin(key)];
        match self.link.run(&script::REPIN, &keys, &self.head(key).args(&arguments)).await {
            Ok((reply, told)) => match reply.code {
                1 => match self.moved(key, &reply, told)? {
                    Some(claim) => Ok(Some(claim)),
                    None => self.find(key).await,
                },
                0 => match self.met(key, &reply, told)? {
                    Some(claim) => Ok(Some(claim)),
                    None => self.find(key).await,
                },
                _ => {
                    self.settle(self.with(key, |known| known.lose(key, told)));
                    Ok(None)
                }
            },
            Err(Trouble::Away) if self.when_away == WhenAway::Local => {
                Ok(self.repin_alone(key, seen, only, &proposal))
            }
            // No move then; but perhaps there was one already.
            Err(trouble) => {
                let now = self.look(key).filter(|claim| claim.pin.version != seen);
                now.map(Some).ok_or_else(|| trouble.into())
            }
        }
    }

    pub(in crate::store) async fn extend(
        &self,
        key: SessionKey,
        seen: u64,
        expires: Timestamp,
    ) -> Result<Option<Claim>, StoreFault> {
        let until = self.link.store_time(expires).as_ms().to_string();
        let longest = Ttl::MAX.as_duration().as_millis().to_string();
        let seen = seen.to_le_bytes();
        let arguments: [&[u8]; 3] = [&seen, until.as_bytes(), longest.as_bytes()];
        let keys: [&[u8]; 1] = [&self.names.pin(key)];
        let asked = self.link.run(&script::EXTEND, &keys, &self.head(key).args(&arguments)).await;
        let (reply, told) = asked?;
        if reply.code == 2 {
            self.settle(self.with(key, |known| known.lose(key, told)));
            return Ok(None);
        }
        let won = reply.code == 1;
        if won {
            self.occupy(key, &self.read(&reply)?.pin);
        }
        match self.met(key, &reply, told)? {
            Some(met) => Ok(Some(Claim { won, ..met })),
            None => self.find(key).await,
        }
    }

    pub(in crate::store) async fn end(&self, key: SessionKey) -> Result<Option<Pin>, StoreFault> {
        let asked = self.link.run(&script::END, &[&self.names.pin(key)], &self.head(key).args(&[])).await;
        let (reply, told) = asked?;
        let changed = self.with(key, |known| known.lose(key, told));
        let counted = changed.left.is_some();
        self.settle(changed);
        if reply.code != 1 {
            return Ok(None);
        }
        let entry = self.read(&reply)?;
        self.vacate(key, &entry.pin, true);
        self.rise(key, &entry.pin);
        let pin = self.to_gateway(entry.pin);
        if !counted {
            tracing::debug!(session = pin.session.as_str(), "a session of another gateway was ended");
        }
        Ok(Some(pin))
    }

    pub(in crate::store) async fn announce(&self, key: SessionKey, version: u64) -> Option<News> {
        let (now, away) = (self.now(), self.link.is_away());
        match self.with(key, |known| known.announce(key, version, now, away)) {
            Announce::Say { news, tell } => {
                if tell {
                    self.chores.push(Chore::Say { key, version });
                }
                Some(news)
            }
            Announce::Gone => None,
            Announce::Ask => {
                let keys: [&[u8]; 1] = [&self.names.pin(key)];
                let bytes = version.to_le_bytes();
                match self.link.run(&script::SAY, &keys, &self.head(key).args(&[&bytes])).await {
                    Ok((Reply { code: -1, .. }, _)) => None,
                    Ok((reply, _)) => {
                        let news = match reply.code {
                            1 => News::New,
                            2 => News::Moved,
                            _ => News::Held,
                        };
                        Some(self.with(key, |known| known.said(key, version, news)))
                    }
                    Err(_) => Some(News::Held),
                }
            }
        }
    }

    /// Waits until it is known whether another node, which made this pin and
    /// dials its exit as well, will choose another one; the pin as it is then.
    pub(in crate::store) async fn resolve(&self, key: SessionKey, version: u64) {
        let deadline = Instant::now() + LEASE + Duration::from_millis(100);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.now();
            let fact = self.with(key, |known| known.get(key, now, 0));
            if !fact.is_some_and(|fact| fact.contested && fact.pin.version == version) {
                return;
            }
            let soon = Instant::now() + Duration::from_millis(50);
            if Instant::now() >= deadline {
                return;
            }
            // A message, or the lease's end, whichever is first.
            let _ = timeout_at(soon, changed).await;
        }
    }
}

/// A proposal's version, how long it lasts, and how long unused.
fn lifetime(proposal: &Pin) -> [Vec<u8>; 3] {
    let ttl_ms = proposal.expires.since(proposal.made).as_millis().to_string();
    let idle_s = proposal.idle.map_or(0, Ttl::as_secs).to_string();
    [proposal.version.to_le_bytes().to_vec(), ttl_ms.into_bytes(), idle_s.into_bytes()]
}

/// Why a claim is not decided.
enum Put {
    Off(Duration),
    Trouble(Trouble),
}

impl From<Trouble> for StoreFault {
    fn from(_: Trouble) -> Self {
        Self::Away
    }
}
