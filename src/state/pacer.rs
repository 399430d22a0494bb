//! Bandwidth that many connections share.
//!
//! Owns: [`Pacer`], so many bytes a second, and the [`Lane`]s that share
//! them fairly.
//! Must not know: whose bytes they are, how they move.
//!
//! A lane that wants to move bytes takes a turn: the next stretch of time that
//! no turn has, as long as its bytes take at the pacer's rate. It may move
//! them once that time has come. A lane has one turn at a time and turns are
//! of one size, so lanes that are always busy come round one after the other
//! and get the same. What a lane does not use of its turn it gives back when
//! it has nothing to move, so it then holds nothing, and no timer; and its
//! next turn is no longer than what it is likely to use.
//!
//! To wire one up: one `Pacer` for each user and direction, kept across
//! reloads ([`Pacer::set_rate`]; 0 takes the limit off); an
//! [`Allowance`](super::Allowance) hands it to a connection's meter.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Time that was left unused may be made up for, to this extent: timers are
/// late, and workers busy.
const BURST: Duration = Duration::from_millis(50);

/// How long it should take until every lane had its turn: many times what a
/// timer may be late by, or whoever wakes first would get what was missed.
const ROUND: Duration = Duration::from_millis(20);

/// A turn's bytes, at least: fewer cost more than they pace.
const LEAST_BYTES: usize = 512;

/// Without a limit a lane looks so often, in bytes, whether there is one.
const UNBOUND_BYTES: usize = 16 << 20;

/// No lane sleeps longer before it looks whether the rate was changed.
const LOOK: Duration = Duration::from_secs(1);

/// So many bytes a second, for as many lanes as there are.
#[derive(Debug)]
pub struct Pacer {
    turns: Mutex<Turns>,
    /// Whether there is a rate at all: without one nobody asks for the lock.
    paces: AtomicBool,
}

#[derive(Debug)]
struct Turns {
    /// Bytes a second; 0: no limit.
    rate: u64,
    /// When the next turn begins.
    next: Instant,
    /// Lanes whose turn has not come.
    waiting: u64,
    /// How often the rate was changed: turns from before are void.
    era: u64,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    begins: Instant,
    /// What is left of it.
    bytes: usize,
    era: u64,
}

impl Pacer {
    /// A pacer of so many bytes a second; 0: no limit.
    pub fn new(bytes_per_s: u64) -> Arc<Self> {
        let turns = Turns { rate: bytes_per_s, next: Instant::now(), waiting: 0, era: 0 };
        Arc::new(Self { turns: Mutex::new(turns), paces: AtomicBool::new(bytes_per_s > 0) })
    }

    /// Changes the rate, also for lanes that wait: within a second they do so
    /// anew.
    pub fn set_rate(&self, bytes_per_s: u64) {
        let mut turns = self.turns();
        if turns.rate != bytes_per_s {
            turns.rate = bytes_per_s;
            turns.next = Instant::now();
            turns.waiting = 0;
            turns.era += 1;
            self.paces.store(bytes_per_s > 0, Relaxed);
        }
    }

    /// One more to share with.
    pub fn lane(self: &Arc<Self>) -> Lane {
        Lane { pacer: self.clone(), state: State::Free, used: 0, hunger: LEAST_BYTES }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
    fn take(&mut self, hunger: usize, now: Instant) -> Turn {
        if self.rate == 0 {
            return Turn { begins: now, bytes: UNBOUND_BYTES, era: self.era };
        }
        if now.saturating_duration_since(self.next) > BURST {
            self.next = now - BURST;
        }
        let share = u128::from(self.rate) * ROUND.as_millis() / 1000 / u128::from(self.waiting + 1);
        let bytes = usize::try_from(share).unwrap_or(usize::MAX).min(hunger).max(LEAST_BYTES);
        let begins = self.next;
        self.next += self.length(bytes);
        Turn { begins, bytes, era: self.era }
    }

    fn give_back(&mut self, bytes: usize, era: u64) {
        if era == self.era && bytes > 0 {
            self.next = self.next.checked_sub(self.length(bytes)).unwrap_or(self.next);
        }
    }

    /// How long so many bytes take.
    fn length(&self, bytes: usize) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let ns = bytes as u128 * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    fn no_longer_waits(&mut self, era: u64) {
        if era == self.era {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }
}

/// One connection's share of a [`Pacer`].
#[derive(Debug)]
pub struct Lane {
    pacer: Arc<Pacer>,
    state: State,
    /// What it used of its present turn.
    used: usize,
    /// What it is likely to use of the next: who has little to move shall not
    /// hold time that others could use.
    hunger: usize,
}

#[derive(Debug)]
enum State {
    /// It wants nothing.
    Free,
    /// It has a turn that has not come.
    Waits(Turn, Pin<Box<Sleep>>),
    /// It is its turn.
    May(Turn),
}

impl Lane {
    /// How many bytes may be moved now: at least one and at most `want`, which
    /// is not 0. Ready once it is this lane's turn. To be asked when there is
    /// something to move, and followed by [`Self::spent`] and, once there is
    /// no more, by [`Self::rest`].
    pub fn poll_allow(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<usize> {
        loop {
            match &mut self.state {
                State::May(turn) => return Poll::Ready(turn.bytes.min(want)),
                State::Free if !self.pacer.paces.load(Relaxed) => return Poll::Ready(want),
                State::Free => {
                    let now = Instant::now();
                    let mut turns = self.pacer.turns();
                    let turn = turns.take(self.hunger, now);
                    self.state = if turn.begins <= now {
                        State::May(turn)
                    } else {
                        turns.waiting += 1;
                        State::Waits(turn, Box::pin(sleep_until(turn.begins.min(now + LOOK))))
                    };
                }
                State::Waits(turn, timer) => {
                    ready!(timer.as_mut().poll(cx));
                    let (turn, now) = (*turn, Instant::now());
                    let mut turns = self.pacer.turns();
                    if turn.era == turns.era && turn.begins > now {
                        timer.as_mut().reset(turn.begins.min(now + LOOK));
                        continue;
                    }
                    turns.no_longer_waits(turn.era);
                    self.state = if turn.era == turns.era { State::May(turn) } else { State::Free };
                }
            }
        }
    }

    /// So many bytes of the turn were moved.
    pub fn spent(&mut self, bytes: usize) {
        if let State::May(turn) = &mut self.state {
            turn.bytes = turn.bytes.saturating_sub(bytes);
            self.used = self.used.saturating_add(bytes);
            if turn.bytes == 0 {
                (self.state, self.used, self.hunger) = (State::Free, 0, usize::MAX);
            }
        }
    }

    /// There is no more to move for now: what is left of the turn is given
    /// back.
    pub fn rest(&mut self) {
        if let State::May(turn) = self.state {
            self.hunger = self.used.saturating_mul(2);
            (self.state, self.used) = (State::Free, 0);
            self.pacer.turns().give_back(turn.bytes, turn.era);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        match &self.state {
            State::Free => {}
            State::May(_) => self.rest(),
            State::Waits(turn, _) => {
                let mut turns = self.pacer.turns();
                turns.no_longer_waits(turn.era);
                turns.give_back(turn.bytes, turn.era);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Moves what it may in pieces of at most `piece` bytes, until `end`.
    async fn busy(mut lane: Lane, piece: usize, end: Instant) -> u64 {
        let mut moved = 0;
        while let Ok(bytes) = tokio::time::timeout_at(end, poll_fn(|cx| lane.poll_allow(cx, piece))).await {
            assert!((1..=piece).contains(&bytes));
            lane.spent(bytes);
            moved += bytes as u64;
        }
        moved
    }

    async fn check(rate: u64, pieces: &[usize]) -> Vec<u64> {
        let pacer = Pacer::new(rate);
        let end = Instant::now() + 10 * SECOND;
        let lanes: Vec<_> =
            pieces.iter().map(|piece| tokio::spawn(busy(pacer.lane(), *piece, end))).collect();
        let mut moved = Vec::new();
        for lane in lanes {
            moved.push(lane.await.unwrap());
        }
        let (all, due) = (moved.iter().sum::<u64>(), 10 * rate);
        assert!(all.abs_diff(due) <= due / 50, "{all} of {due} by {} lanes", pieces.len());
        assert_eq!(pacer.turns().waiting, 0);
        moved
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_together_move_the_rate_and_each_the_same() {
        for rate in [200_000, 50_000_000, 10_000_000_000] {
            for lanes in [1, 2, 64] {
                let moved = check(rate, &vec![usize::MAX; lanes]).await;
                let fair = 10 * rate / lanes as u64;
                let off = moved.iter().map(|one| one.abs_diff(fair)).max().unwrap();
                // Whoever comes first has the burst at the start to itself.
                assert!(off <= fair / 50 + rate / 20 + 600, "{moved:?}, fair is {fair}");
            }
        }
    }

    /// Moves so many bytes each 10 ms, and nothing in between.
    async fn lazy(mut lane: Lane, bytes: usize, end: Instant) -> u64 {
        let mut moved = 0;
        while Instant::now() < end {
            let mut left = bytes;
            while left > 0 {
                let now = poll_fn(|cx| lane.poll_allow(cx, left)).await;
                lane.spent(now);
                left -= now;
            }
            lane.rest();
            moved += bytes as u64;
            tokio::time::sleep(SECOND / 100).await;
        }
        moved
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_lazy_leave_the_busy_get() {
        const RATE: u64 = 10_000_000;
        for (lanes, bytes) in [(1, 0), (1, 100), (63, 100), (8, 2000)] {
            let (pacer, end) = (Pacer::new(RATE), Instant::now() + 10 * SECOND);
            let others: Vec<_> = (0..lanes).map(|_| tokio::spawn(lazy(pacer.lane(), bytes, end))).collect();
            let mut moved = busy(pacer.lane(), usize::MAX, end).await;
            for other in others {
                let its_own = other.await.unwrap();
                // It waits for two rounds each time, at most.
                assert!(its_own >= 190 * bytes as u64, "{its_own} of {lanes} of {bytes}");
                moved += its_own;
            }
            assert!(moved.abs_diff(10 * RATE) <= RATE / 5, "{moved} with {lanes} of {bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_goes_leaves_its_turn() {
        let pacer = Pacer::new(1000);
        let (mut first, mut second) = (pacer.lane(), pacer.lane());
        assert_eq!(poll_fn(|cx| first.poll_allow(cx, usize::MAX)).await, 512);
        let before = pacer.turns().next;
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(second.poll_allow(cx, 100).is_pending() && pacer.turns().next > before);
        drop(second);
        assert_eq!(pacer.turns().next, before);
        assert_eq!(pacer.turns().waiting, 0);
        drop(first);
        assert!(pacer.turns().next <= Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_counts_within_a_second_for_those_who_wait() {
        let pacer = Pacer::new(100);
        let mut lane = pacer.lane();
        poll_fn(|cx| lane.poll_allow(cx, usize::MAX)).await;
        lane.spent(512);
        let start = Instant::now();
        let next = tokio::spawn(async move { poll_fn(|cx| lane.poll_allow(cx, usize::MAX)).await });
        tokio::task::yield_now().await;
        pacer.set_rate(0);
        assert_eq!(next.await.unwrap(), usize::MAX);
        assert!(start.elapsed() <= SECOND, "{:?}", start.elapsed());
    }
}
