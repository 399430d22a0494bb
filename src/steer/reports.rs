//! Exits that are no good for a target, as their users find.
//!
//! Owns: what a report does: the exit is kept from the target's site for a
//! while, and the session that met it there moves.
//! Must not know: who may report, how it is told.

use super::sessions::Order;
use super::{Steering, Undone};
use crate::core::pin::{ExitName, Pin, Variant};
use crate::core::session::SessionKey;
use crate::core::target::Target;
use crate::core::time::Timestamp;
use crate::observe::events::Event;
use crate::observe::instruments::{MoveReason, ReportReason};
use crate::state::LivePool;

/// What a client says of an exit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a> {
    /// What it was no good for.
    pub(crate) target: &'a Target,
    /// Why, in the client's own words.
    pub(crate) reason: &'a str,
    /// Which exit it was, by its id, where the client says.
    pub(crate) exit: Option<&'a str>,
}

/// What came of a report.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The session as it is now.
    pub(crate) pin: Pin,
    /// Whether this report has moved it.
    pub(crate) moved: bool,
    /// The exit that was reported.
    pub(crate) exit: ExitName,
    /// Until when it is kept from the target; `None`: it is not.
    pub(crate) until: Option<Timestamp>,
}

impl Steering {
    /// A session's exit is no good for a target: it is kept from there, and
    /// the session moves, unless it has left that exit meanwhile.
    ///
    /// # Errors
    /// The session, or the exit that is named, is not there; there is no exit
    /// to move to: then the report counts all the same.
    pub(crate) async fn report(&self, key: SessionKey, report: &Report<'_>) -> Result<Outcome, Undone> {
        let pin = self.session(key).await?;
        let exit = report
            .exit
            .map_or_else(|| pin.exit.clone(), |id| ExitName { pool: pin.exit.pool.clone(), id: id.into() });
        // Which of its many another exit was for the session, nobody knows.
        let variant = if exit == pin.exit { pin.variant.clone() } else { Variant::None };
        let until = self.report_exit(&exit, &variant, report)?;
        let order = Order {
            to: None,
            from: Some(&exit.id),
            target: Some(report.target),
            reason: MoveReason::Reported,
        };
        let (pin, moved) = self.moved(key, order).await?;
        Ok(Outcome { pin, moved, exit, until })
    }

    /// An exit, or one variant of it, is no good for a target. Until when it
    /// is kept from there.
    ///
    /// # Errors
    /// There is no such exit.
    pub(crate) fn report_exit(
        &self,
        exit: &ExitName,
        variant: &Variant,
        report: &Report<'_>,
    ) -> Result<Option<Timestamp>, Undone> {
        let snapshot = self.state.snapshot();
        let pool = snapshot.pool(&exit.pool);
        let pool = pool.ok_or_else(|| Undone::PoolUnknown(exit.pool.to_string()))?;
        // The exit of a session may be gone from the file by now.
        if pool.pool.exit(&exit.id).is_none() && report.exit.is_some() {
            return Err(Undone::ExitUnknown(exit.clone()));
        }
        let now = self.now();
        let until = pool.report(&exit.id, variant, report.target, now);
        self.tell_report(pool, exit, report, until.map_or(0, |until| until.since(now).as_secs()));
        Ok(until)
    }

    fn tell_report(&self, live: &LivePool, name: &ExitName, report: &Report<'_>, cooldown: u64) {
        let ExitName { pool, id } = name;
        let reason = ReportReason::of(report.reason);
        live.reports().one(reason);
        let site = report.target.site();
        let (site, said) = (&*site, report.reason);
        tracing::info!(pool = &**pool, exit = &**id, site, reason = reason.word(), said, "exit reported");
        self.instruments.events.tell(|| Event::ExitReported {
            pool: pool.clone(),
            exit: id.clone(),
            site: site.to_owned(),
            reason: reason.word(),
            cooldown,
        });
    }
}
