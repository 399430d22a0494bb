//! Counting what moves, and holding it to its bounds.
//!
//! Owns: [`Meter`], both directions of one client's connection: bytes, the
//! share of a bandwidth, the end of a quota.
//! Must not know: whose connection it is, where the bounds come from.
//!
//! To bind a connection, make its meter from an
//! [`Allowance`](crate::state::Allowance): [`Meter::new`]. Without bounds a
//! meter adds up two numbers and does nothing else.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::observe::instruments::{Counter as Counted, Flow};
use crate::state::pacer::{Lane, Pacer};
use crate::state::{Allowance, Usage};

/// Both directions of a client's connection.
#[derive(Debug)]
pub(crate) struct Meter {
    /// From the client to the upstream side.
    pub(crate) up: Gauge,
    /// From the upstream side to the client.
    pub(crate) down: Gauge,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Gauge {
    bytes: u64,
    lanes: Box<[Lane]>,
    usage: Option<Counter>,
    /// Of the bytes, those that were told.
    told: u64,
    tells: Option<Tells>,
}

/// Towards which usage it counts, and in which direction.
type Counter = (Arc<Usage>, Add);

/// Counts bytes of one direction.
type Add = fn(&Usage, u64);

/// Where bytes are counted that nothing is bound by, and in which direction.
type Tells = ([Arc<Flow>; 2], fn(&Flow) -> &Counted);

/// So many bytes are kept before they are told: a busy tunnel tells with each
/// read, one of few bytes does not touch what others write, too.
const TOLD_EACH: u64 = 64 * 1024;

/// The quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedUp;

impl Meter {
    /// Nothing has moved yet.
    pub(crate) fn new(allowance: &Allowance) -> Self {
        let gauge = |pacers: &[Option<Arc<Pacer>>], add: Add| Gauge {
            bytes: 0,
            lanes: pacers.iter().flatten().map(Pacer::lane).collect(),
            usage: allowance.usage.clone().map(|usage| (usage, add)),
            told: 0,
            tells: None,
        };
        Self { up: gauge(&allowance.up, Usage::add_up), down: gauge(&allowance.down, Usage::add_down) }
    }

    /// Tells these, too, what moves: while it does, to within
    /// [`TOLD_EACH`], and all of it in the end.
    #[must_use]
    pub(crate) fn telling(mut self, flows: [Arc<Flow>; 2]) -> Self {
        self.up.tells = Some((flows.clone(), |flow| &flow.up));
        self.down.tells = Some((flows, |flow| &flow.down));
        self
    }

    /// Both directions together, as a sign of life.
    pub(crate) fn total(&self) -> u64 {
        self.up.bytes.wrapping_add(self.down.bytes)
    }
}

impl Gauge {
    /// Bytes that the receiving side has taken.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// It has taken more.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if let Some((usage, add)) = &self.usage {
            add(usage, bytes as u64);
        }
        if self.bytes - self.told >= TOLD_EACH {
            self.tell();
        }
    }

    fn tell(&mut self) {
        if let Some((flows, counter)) = &self.tells {
            flows.iter().for_each(|flow| counter(flow).add(self.bytes - self.told));
            self.told = self.bytes;
        }
    }

    /// Whether there is any bound, so that one must ask for leave to read.
    pub(crate) fn is_bound(&self) -> bool {
        self.usage.is_some() || !self.lanes.is_empty()
    }

    /// How many bytes may be read now, at most `want`, which is not 0. Ready
    /// once it is any; to be followed by [`Self::was_read`].
    ///
    /// # Errors
    /// The quota is used up.
    pub(crate) fn poll_allow(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, UsedUp>> {
        let mut want = match &self.usage {
            None => want,
            Some((usage, _)) => match usage.left() {
                0 => return Poll::Ready(Err(UsedUp)),
                left => want.min(usize::try_from(left).unwrap_or(usize::MAX)),
            },
        };
        for lane in &mut self.lanes {
            want = ready!(lane.poll_allow(cx, want));
        }
        Poll::Ready(Ok(want))
    }

    /// So many of the bytes that were allowed were read.
    pub(crate) fn was_read(&mut self, bytes: usize) {
        self.lanes.iter_mut().for_each(|lane| lane.spent(bytes));
    }

    /// Nothing more can be moved for now.
    pub(crate) fn rest(&mut self) {
        self.lanes.iter_mut().for_each(Lane::rest);
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_told_while_it_does_and_wholly_in_the_end() {
        let (gateway, exit) = (Arc::new(Flow::default()), Arc::new(Flow::default()));
        let mut meter = Meter::new(&Allowance::default()).telling([gateway.clone(), exit.clone()]);
        meter.up.add(1000);
        meter.down.add(TOLD_EACH as usize);
        meter.down.add(1);
        let told = |flow: &Flow| (flow.up.get(), flow.down.get());
        assert_eq!(told(&gateway), (0, TOLD_EACH));
        drop(meter);
        assert_eq!((told(&gateway), told(&exit)), ((1000, TOLD_EACH + 1), (1000, TOLD_EACH + 1)));
    }
}
