//! What a request works with, and what it leaves by.

use std::sync::Arc;

use moorgate::core::code::Code;
use moorgate::core::exit::Exit;
use moorgate::core::failover::Failure;
use moorgate::core::fault::Fault;
use moorgate::core::pin::Variant;
use moorgate::core::session::SessionKey;
use moorgate::core::target::Target;
use moorgate::state::{Attempt, ConnectionGuard, InForce};
use rand::rngs::StdRng;

use super::disk::Time;
use super::history::History;
use super::mistake::Mistake;
use super::store::Store;
use super::truth::{Dialled, Step};

/// What a request works with for one step.
pub struct Stage<'a> {
    pub store: &'a mut Store,
    pub in_force: &'a InForce,
    pub history: &'a mut History,
    /// Connections that the client's next plain request may use.
    pub kept: &'a mut Vec<Link>,
    pub rng: &'a mut StdRng,
    pub at: Time,
    pub mistake: Option<Mistake>,
}

impl Stage<'_> {
    pub fn is(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}

/// A connection through an exit.
pub struct Link {
    pub exit: Arc<Exit>,
    pub variant: Variant,
    pub key: SessionKey,
    pub target: Target,
    pub attempt: Option<(Attempt, Step)>,
    pub reused: bool,
    pub _connection: ConnectionGuard,
}

impl Link {
    /// Tells the exit how it did, as far as that was still open.
    pub fn told(&mut self, how: Dialled, stage: &mut Stage<'_>) -> Option<Failure> {
        let (attempt, began) = self.attempt.take()?;
        let (now, step) = (stage.store.now(), stage.history.step);
        let target = self.target.to_string();
        stage.history.truth.dialled(&self.exit.name, &self.variant, &target, began, how, step);
        let Dialled::Failed(blame) = how else {
            attempt.succeeded(now);
            return None;
        };
        let after = attempt.failed(blame, &refusal(), &self.target, now);
        Some(Failure { blame, ejected_until: after.ejected_until, token_lost: after.token_lost })
    }
}

/// What the simulation's exits and targets say: nobody reads it.
pub fn refusal() -> Fault {
    Fault::new(Code::ExitFailed, "refused")
}
