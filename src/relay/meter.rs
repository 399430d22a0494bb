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
}

/// Towards which usage it counts, and in which direction.
type Counter = (Arc<Usage>, fn(&Usage, u64));

/// The quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedUp;

impl Meter {
    /// Nothing has moved yet.
    pub(crate) fn new(allowance: &Allowance) -> Self {
        let gauge = |pacers: &[Option<Arc<Pacer>>], add| Gauge {
            bytes: 0,
            lanes: pacers.iter().flatten().map(Pacer::lane).collect(),
            usage: allowance.usage.clone().map(|usage| (usage, add)),
        };
        Self {
            up: gauge(&allowance.up, Usage::add_up as fn(&Usage, u64)),
            down: gauge(&allowance.down, Usage::add_down),
        }
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
