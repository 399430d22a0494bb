//! Whether the store can be reached, and asking it.
//!
//! Owns: the connection in force, the time limit of each question, the
//! breaker that answers at once while there is none, the epoch in which what
//! was heard is whole, and how far the store's clock is from the gateway's.
//! Must not know: pins.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::Value;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::script::{Reply, Script};
use super::wire::{LIMIT, Server, Wire, means_away};
use crate::clock::Clock;
use crate::core::shared::Told;
use crate::core::time::Timestamp;

/// What was heard is whole for so long after the store last answered. With
/// the limit of the question that finds it silent, a node that is cut off
/// without a word may go by what it knows for less than 2 s.
const TRUST: Duration = Duration::from_secs(1);

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The store is out of reach.
    Away,
    /// The store answered that it would not.
    Refused,
}

/// A step to be run.
pub(super) struct Call {
    pub(super) script: &'static Script,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) arguments: Vec<Vec<u8>>,
}

impl Call {
    fn parts(&self) -> (Vec<&[u8]>, Vec<&[u8]>) {
        (self.keys.iter().map(Vec::as_slice).collect(), self.arguments.iter().map(Vec::as_slice).collect())
    }

    pub(super) fn by_digest(&self) -> redis::Cmd {
        let (keys, arguments) = self.parts();
        self.script.by_digest(&keys, &arguments)
    }

    pub(super) fn by_text(&self) -> redis::Cmd {
        let (keys, arguments) = self.parts();
        self.script.by_text(&keys, &arguments)
    }
}

/// The connection in force, if there is one.
pub(super) struct Link {
    clock: Arc<dyn Clock>,
    up: ArcSwapOption<Up>,
    /// Raised whenever something may have been missed; from 1.
    epoch: AtomicU64,
    /// The store's clock less the gateway's, in ms.
    offset_ms: AtomicI64,
    /// When the last question that was answered had been sent, in ms of the
    /// gateway's clock.
    proof_ms: AtomicU64,
    /// A connection was lost.
    pub(super) lost: Notify,
}

/// A connection that works.
struct Up {
    wire: Wire,
    serial: u64,
}

impl Link {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            up: ArcSwapOption::empty(),
            epoch: AtomicU64::new(1),
            offset_ms: AtomicI64::new(0),
            proof_ms: AtomicU64::new(0),
            lost: Notify::new(),
        }
    }

    /// Whether the store cannot be asked.
    pub(super) fn is_away(&self) -> bool {
        self.up.load().is_none()
    }

    /// Whether nothing was missed until a moment ago.
    pub(super) fn is_trusted(&self, gateway: Timestamp) -> bool {
        gateway.since(Timestamp::from_ms(self.proof_ms.load(Acquire))) <= TRUST
    }

    /// The epoch: what was learned in it was heard of ever since.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }

    /// Something may have been missed.
    pub(super) fn renew_epoch(&self) {
        self.epoch.fetch_add(1, AcqRel);
    }

    /// The store's time.
    pub(super) fn store_time(&self, gateway: Timestamp) -> Timestamp {
        Timestamp::from_ms(gateway.as_ms().saturating_add_signed(self.offset_ms.load(Relaxed)))
    }

    /// The gateway's time, of the store's.
    pub(super) fn gateway_time(&self, store: Timestamp) -> Timestamp {
        let offset_ms = self.offset_ms.load(Relaxed);
        Timestamp::from_ms(store.as_ms().saturating_add_signed(offset_ms.saturating_neg()))
    }

    /// The store's clock said this between these two instants. Small
    /// differences are the way's, and would only make instants flicker.
    pub(super) fn compare_clocks(&self, store_ms: u64, sent: Timestamp, received: Timestamp) {
        let trip_ms = received.as_ms().saturating_sub(sent.as_ms());
        let middle = sent.as_ms() + trip_ms / 2;
        let offset_ms = store_ms.wrapping_sub(middle).cast_signed();
        let before = self.offset_ms.load(Relaxed);
        if before.abs_diff(offset_ms) > trip_ms / 2 + 2 {
            self.offset_ms.store(offset_ms, Relaxed);
        }
    }

    /// A question sent then was answered, and so all that was said before it
    /// was heard.
    pub(super) fn prove(&self, sent: Timestamp) {
        self.proof_ms.fetch_max(sent.as_ms(), Release);
    }

    /// When [`Link::prove`] was last called for.
    pub(super) fn proved(&self) -> Timestamp {
        Timestamp::from_ms(self.proof_ms.load(Acquire))
    }

    /// This connection works from now on.
    pub(super) fn establish(&self, wire: Wire, serial: u64) {
        self.up.store(Some(Arc::new(Up { wire, serial })));
    }

    /// The connection with this number is of no use any more.
    pub(super) fn lose(&self, serial: u64) {
        let up = self.up.load_full();
        if up.as_ref().is_some_and(|up| up.serial == serial) {
            self.up.compare_and_swap(&up, None);
        }
        self.renew_epoch();
        self.lost.notify_one();
    }

    /// The connection in force.
    pub(super) fn wire(&self) -> Option<(Wire, u64)> {
        self.up.load().as_ref().map(|up| (up.wire.clone(), up.serial))
    }

    /// Runs a step. The second: to be kept with what the reply says.
    pub(super) async fn run(
        &self,
        script: &'static Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<(Reply, Told), Trouble> {
        let (mut wire, serial) = self.wire().ok_or(Trouble::Away)?;
        let epoch = self.epoch();
        let asked = async {
            match wire.ask(&script.by_digest(keys, arguments)).await {
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    wire.ask(&script.by_text(keys, arguments)).await
                }
                answer => answer,
            }
        };
        let value = match timeout(LIMIT, asked).await {
            Ok(Ok(value)) => value,
            Ok(Err(error)) if !means_away(&error) => {
                tracing::error!(%error, "the shared store refuses a step");
                return Err(Trouble::Refused);
            }
            away => {
                let error = match away {
                    Ok(answer) => answer.err().map(|error| error.to_string()),
                    Err(_) => None,
                };
                tracing::debug!(error, "a question to the shared store has no answer");
                self.give_up(serial, &wire);
                return Err(Trouble::Away);
            }
        };
        let Some(reply) = Reply::read(&value) else {
            tracing::error!(?value, "the shared store gave an answer that is none");
            return Err(Trouble::Refused);
        };
        let told = Told { epoch, at_us: reply.at_us, here: self.clock.now() };
        Ok((reply, told))
    }

    /// Runs many steps whose replies nobody waits for; their values, for those
    /// who look at them. Empty: the store is out of reach.
    pub(super) async fn run_all(&self, calls: &[Call]) -> Result<Vec<Value>, Trouble> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let (mut wire, serial) = self.wire().ok_or(Trouble::Away)?;
        let commands: Vec<_> = calls.iter().map(Call::by_digest).collect();
        let asked = async {
            let mut values = wire.ask_many(&commands).await?;
            for (value, call) in values.iter_mut().zip(calls) {
                if matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT") {
                    *value = wire.ask(&call.by_text()).await?;
                }
            }
            Ok::<_, redis::RedisError>(values)
        };
        match timeout(LIMIT * 2, asked).await {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(error)) if !means_away(&error) => Err(Trouble::Refused),
            _ => {
                self.give_up(serial, &wire);
                Err(Trouble::Away)
            }
        }
    }

    /// All servers that have keys, to be asked one by one.
    pub(super) async fn servers(&self) -> Result<Vec<Server>, Trouble> {
        let (mut wire, _) = self.wire().ok_or(Trouble::Away)?;
        let servers = timeout(LIMIT, wire.servers()).await;
        servers.ok().and_then(Result::ok).ok_or(Trouble::Away)
    }

    /// Asks one server.
    pub(super) async fn ask_at(&self, server: &Server, command: &redis::Cmd) -> Result<Value, Trouble> {
        let (mut wire, _) = self.wire().ok_or(Trouble::Away)?;
        let answer = timeout(LIMIT, wire.ask_at(server, command)).await;
        answer.ok().and_then(Result::ok).ok_or(Trouble::Away)
    }

    /// What stands under these names.
    pub(super) async fn get_all(
        &self,
        names: impl Iterator<Item = Vec<u8>>,
    ) -> Result<Vec<Option<Vec<u8>>>, Trouble> {
        let (mut wire, _) = self.wire().ok_or(Trouble::Away)?;
        let commands: Vec<_> = names.map(|name| redis::cmd("GET").arg(name).take()).collect();
        let values = timeout(LIMIT * 2, wire.ask_many(&commands)).await;
        let values = values.ok().and_then(Result::ok).ok_or(Trouble::Away)?;
        let bytes = |value: Value| match value {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        };
        Ok(values.into_iter().map(bytes).collect())
    }

    /// A question had no answer. Of a cluster, only one of its servers may be
    /// gone, and the connection finds the one that takes its place.
    fn give_up(&self, serial: u64, wire: &Wire) {
        if !wire.is_cluster() {
            self.lose(serial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn clocks_are_compared_and_do_not_flicker() {
        let (link, at) = (Link::new(Arc::new(SystemClock::new())), Timestamp::from_ms);
        link.compare_clocks(5_000_000, at(1_000), at(1_020));
        assert_eq!(link.store_time(at(1_010)), at(5_000_000));
        assert_eq!(link.gateway_time(at(5_000_000)), at(1_010));
        link.compare_clocks(5_000_105, at(1_110), at(1_120));
        assert_eq!(link.store_time(at(1_010)), at(5_000_000), "within the trip's length");
        link.compare_clocks(4_000_000, at(2_000), at(2_000));
        assert_eq!(link.store_time(at(2_000)), at(4_000_000), "a step of the store's clock");
    }

    #[test]
    fn trust_ends_without_proof() {
        let (link, at) = (Link::new(Arc::new(SystemClock::new())), Timestamp::from_ms);
        link.prove(at(10_000));
        link.prove(at(9_000));
        assert!(link.is_trusted(at(11_000)));
        assert!(!link.is_trusted(at(11_001)));
    }
}
