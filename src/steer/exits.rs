//! Exits: switched and reset.
//!
//! Owns: what a switch would do, and that one which is answered is kept.
//! Must not know: how it is told.

use std::sync::Arc;

use crate::core::exit::{Exit, Mode};
use crate::core::pin::ExitName;
use crate::core::pool::Failover;
use crate::observe::events::Event;
use crate::state::{ExitState, LivePool};

use super::{Steering, Undone};

/// What an exit is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// To be in this mode.
    Switch(Mode),
    /// To be as its file says, and as if it had never failed.
    Reset,
}

/// What an act does, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The exit.
    pub(crate) exit: ExitName,
    /// As it was.
    pub(crate) before: Mode,
    /// As it is then.
    pub(crate) after: Mode,
    /// Pins on it.
    pub(crate) pins: u32,
    /// Pins that move at their next request: at most, for `failover` of a
    /// request may say otherwise than the pool's.
    pub(crate) moves: u32,
    /// Connections that go on.
    pub(crate) connections: u32,
}

impl Steering {
    /// What the act would do now.
    pub(crate) fn plan(&self, name: &ExitName, act: Act) -> Result<Plan, Undone> {
        let snapshot = self.state.snapshot();
        let pool = snapshot.pool(&name.pool).ok_or_else(|| Undone::PoolUnknown(name.pool.to_string()))?;
        let (exit, live) = pool.exit(&name.id).ok_or_else(|| Undone::ExitUnknown(name.clone()))?;
        let after = match act {
            Act::Switch(mode) => mode,
            Act::Reset => self.state.switches().written(name, exit.mode),
        };
        let (pins, connections) = (live.pins(), live.connections());
        let moves = match after {
            Mode::Off => movable(pool, exit, live),
            Mode::Active | Mode::Drain => 0,
        };
        Ok(Plan { exit: name.clone(), before: exit.mode, after, pins, moves, connections })
    }

    /// Does it: a switch is written to the state folder before it is in
    /// force.
    pub(crate) async fn act(&self, name: &ExitName, act: Act) -> Result<Plan, Undone> {
        let mut kept = self.kept.lock().await;
        let plan = self.plan(name, act)?;
        let to = match act {
            Act::Switch(mode) => Some(mode),
            Act::Reset => None,
        };
        let mut switches = self.state.switches().as_ref().clone();
        switches.set(name, plan.before, to);
        self.keep(&mut kept, switches).await?;
        let (state, switched, now) = (self.state.clone(), name.clone(), self.now());
        // Not on a worker: a large pool takes a while.
        let done = tokio::task::spawn_blocking(move || state.switch(&switched, to, now)).await;
        if !done.unwrap_or_default() {
            return Err(Undone::ExitUnknown(name.clone()));
        }
        if act == Act::Reset {
            self.reset_health(name);
        }
        let state = plan.after.word();
        tracing::info!(pool = &*name.pool, exit = &*name.id, state, reset = to.is_none(), "exit switched");
        self.instruments.events.tell(|| Event::ExitSwitched {
            pool: name.pool.clone(),
            exit: name.id.clone(),
            state,
        });
        Ok(plan)
    }

    fn reset_health(&self, name: &ExitName) {
        let snapshot = self.state.snapshot();
        if let Some((_, live)) = snapshot.pool(&name.pool).and_then(|pool| pool.exit(&name.id)) {
            live.reset();
        }
        if let Some(pool) = snapshot.pool(&name.pool) {
            pool.forget_reports(&name.id);
        }
    }
}

fn movable(pool: &LivePool, exit: &Exit, live: &Arc<ExitState>) -> u32 {
    let other = |other: &Exit| other.name != exit.name && other.mode == Mode::Active;
    let somewhere = match pool.pool.failover {
        Failover::On => pool.exits().any(|(exit, _)| other(exit)),
        Failover::Address => pool.has_sibling(exit),
        Failover::Off => false,
    };
    if somewhere { live.pins() } else { 0 }
}
