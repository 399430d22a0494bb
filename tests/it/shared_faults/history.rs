//! What clients saw, and whether it can have been so.
//!
//! Owns: [`History`] and its checker.
//! Must not know: how faults are made.
//!
//! Changes of a session on demand split its time into periods in which it must
//! have one exit, whichever gateway is asked. A gateway may go by what it knew
//! for [`WINDOW`]; while it has no store to ask, and until it has found it
//! again, for as long as that lasts. An answer that may be of two periods, or
//! of a time in which a change was under way, proves nothing.

use std::collections::BTreeMap;
use std::fmt;

/// A gateway in touch may go by what it knew for so long, in ms.
const WINDOW: u64 = 2000;
/// After a fault a gateway is in touch again within this, in ms: pauses
/// between two tries to connect, a new era, and a machine that has much to do.
const RECOVERY: u64 = 4000;

/// From when to when, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Op {
    pub span: Span,
    pub gateway: usize,
    pub session: usize,
    pub saw: Saw,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saw {
    /// A success through this exit; it said `new`.
    Exit(String, bool),
    /// No success.
    Nothing,
    /// The session was moved there on demand.
    Moved(String),
    /// It was ended on demand.
    Ended,
    /// It may have been moved or ended.
    Unknown,
}

/// Something that was done to the fleet.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub span: Span,
    /// The gateway that it cuts off; `None`: all.
    pub gateway: Option<usize>,
    /// A gateway died.
    pub kill: bool,
}

/// A run.
#[derive(Default)]
pub struct History {
    pub ops: Vec<Op>,
    pub faults: Vec<Fault>,
}

/// What is proven, so that a run that proves nothing is noticed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Answers that had to agree with others.
    pub answers: usize,
    /// Periods of which there were some, of several gateways.
    pub periods: usize,
}

/// It cannot have been so.
#[derive(Debug)]
pub struct Breach(String);

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Times of a session in which nobody changes it, and between them its
/// changes.
#[derive(Debug)]
struct Zone {
    span: Span,
    /// The exit that it leaves the session on, where that is known.
    exit: Option<String>,
}

impl History {
    /// Whether promises 1, 2, 4 and 9 were kept.
    pub fn check(&self) -> Result<Proof, Breach> {
        let mut proof = Proof::default();
        let mut sessions = BTreeMap::<usize, Vec<&Op>>::new();
        for op in &self.ops {
            sessions.entry(op.session).or_default().push(op);
        }
        for (session, ops) in sessions {
            self.check_session(session, &ops, &mut proof)?;
        }
        Ok(proof)
    }

    fn check_session(&self, session: usize, ops: &[&Op], proof: &mut Proof) -> Result<(), Breach> {
        let zones = self.zones(ops);
        // By period: the first answer that is surely of it, and who gave any.
        let mut periods = BTreeMap::<usize, (&str, &Op, Vec<usize>)>::new();
        for op in ops {
            let Saw::Exit(exit, _) = &op.saw else { continue };
            let Some(period) = self.period(&zones, op) else { continue };
            proof.answers += 1;
            if let Some(left_on) = period.checked_sub(1).and_then(|zone| zones[zone].exit.as_ref())
                && left_on != exit
            {
                return Err(Breach(format!("session {session} was moved to {left_on}, and then: {op:?}")));
            }
            let (first, before, by) = periods.entry(period).or_insert((exit, op, Vec::new()));
            if *first != exit {
                return Err(Breach(format!("session {session} had two exits: {before:?}, and {op:?}")));
            }
            by.push(op.gateway);
        }
        for (_, _, mut by) in periods.into_values() {
            by.sort_unstable();
            by.dedup();
            proof.periods += usize::from(by.len() > 1);
        }
        let count = |saw: fn(&Saw) -> bool| ops.iter().filter(|op| saw(&op.saw)).count();
        let news = count(|saw| matches!(saw, Saw::Exit(_, true)));
        let ends = count(|saw| matches!(saw, Saw::Ended | Saw::Unknown));
        let kills = self.faults.iter().filter(|fault| fault.kill).count();
        match news > 1 + ends + kills {
            true => {
                Err(Breach(format!("session {session}: {news} answers say new, and it ended {ends} times")))
            }
            false => Ok(()),
        }
    }

    /// Changes that overlap are one zone.
    fn zones(&self, ops: &[&Op]) -> Vec<Zone> {
        let change = |op: &&Op| match &op.saw {
            Saw::Moved(exit) => Some(Zone { span: op.span, exit: Some(exit.clone()) }),
            Saw::Ended => Some(Zone { span: op.span, exit: None }),
            // The store may do it when it comes to its senses.
            Saw::Unknown => Some(Zone { span: self.with_faults(op.span), exit: None }),
            Saw::Exit(..) | Saw::Nothing => None,
        };
        let mut changes: Vec<_> = ops.iter().filter_map(change).collect();
        changes.sort_by_key(|zone| (zone.span.from, zone.span.to));
        let mut zones = Vec::<Zone>::new();
        for change in changes {
            match zones.last_mut() {
                Some(last) if change.span.from <= last.span.to => {
                    last.span.to = last.span.to.max(change.span.to);
                    last.exit = None;
                }
                _ => zones.push(change),
            }
        }
        zones
    }

    fn with_faults(&self, span: Span) -> Span {
        let during =
            self.faults.iter().filter(|fault| fault.span.from <= span.to && span.from <= fault.span.to);
        Span { to: during.map(|fault| fault.span.to).fold(span.to, u64::max) + WINDOW, ..span }
    }

    /// The one period that an answer can be of.
    fn period(&self, zones: &[Zone], op: &Op) -> Option<usize> {
        let mut from = op.span.from;
        let mine =
            self.faults.iter().filter(|fault| fault.gateway.is_none_or(|gateway| gateway == op.gateway));
        for fault in mine {
            if fault.span.from <= op.span.to && op.span.from <= fault.span.to + RECOVERY {
                from = from.min(fault.span.from);
            }
        }
        let from = from.saturating_sub(WINDOW);
        let before = zones.iter().take_while(|zone| zone.span.to < from).count();
        let after = zones.iter().take_while(|zone| zone.span.from <= op.span.to).count();
        (before == after).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(from: u64, gateway: usize, saw: Saw) -> Op {
        Op { span: Span { from, to: from + 10 }, gateway, session: 0, saw }
    }

    fn exit(from: u64, gateway: usize, exit: &str) -> Op {
        op(from, gateway, Saw::Exit(exit.to_owned(), false))
    }

    fn new(from: u64, exit: &str) -> Op {
        op(from, 0, Saw::Exit(exit.to_owned(), true))
    }

    fn moved(from: u64, to: &str) -> Op {
        op(from, 0, Saw::Moved(to.to_owned()))
    }

    #[track_caller]
    fn check(ops: &[Op], faults: &[Fault], expected: Result<(usize, usize), &str>) {
        let history = History { ops: ops.to_vec(), faults: faults.to_vec() };
        match (history.check(), expected) {
            (Ok(Proof { answers, periods }), Ok(proof)) => assert_eq!((answers, periods), proof),
            (Err(breach), Err(words)) => assert!(breach.0.contains(words), "{breach}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn one_exit_until_somebody_changes_it() {
        let ops = [new(0, "a"), exit(20, 1, "a"), exit(9000, 2, "a"), moved(9100, "b"), exit(12_000, 1, "b")];
        check(&ops, &[], Ok((4, 1)));
        check(&[new(0, "a"), exit(5000, 1, "b")], &[], Err("two exits"));
        check(&[new(0, "a"), moved(3000, "b"), exit(6000, 1, "a")], &[], Err("was moved to b"));
        let back = [new(0, "a"), op(3000, 0, Saw::Ended), exit(6000, 1, "b"), exit(9000, 2, "a")];
        check(&back, &[], Err("two exits"));
    }

    #[test]
    fn what_was_known_a_moment_ago_may_be_gone_by() {
        let late = [new(0, "a"), moved(3000, "b"), exit(4500, 1, "a"), exit(6000, 1, "b")];
        check(&late, &[], Ok((2, 0)));
        let cut_off = |gateway| Fault { span: Span { from: 2500, to: 9000 }, gateway, kill: false };
        let long = [new(0, "a"), moved(3000, "b"), exit(8500, 1, "a"), exit(11_000, 1, "a")];
        check(&long, &[cut_off(Some(1))], Ok((1, 0)));
        check(&long, &[cut_off(None)], Ok((1, 0)));
        check(&long, &[cut_off(Some(2))], Err("was moved to b"));
        let longer = [new(0, "a"), moved(3000, "b"), exit(13_500, 1, "a")];
        check(&longer, &[cut_off(Some(1))], Err("was moved to b"));
    }

    #[test]
    fn what_may_have_been_proves_nothing_and_then_all_agree_again() {
        let ops = [new(0, "a"), op(3000, 0, Saw::Unknown), exit(4000, 1, "c"), exit(9000, 1, "c")];
        check(&ops, &[], Ok((2, 0)));
        let split = [new(0, "a"), op(3000, 0, Saw::Unknown), exit(9000, 1, "c"), exit(9000, 2, "a")];
        check(&split, &[], Err("two exits"));
        // Two changes at once: either may be the last.
        let both = [new(0, "a"), moved(3000, "b"), moved(3005, "c"), exit(9000, 1, "b"), exit(9100, 2, "b")];
        check(&both, &[], Ok((3, 1)));
    }

    #[test]
    fn new_is_said_once_for_each_making() {
        check(&[new(0, "a"), new(5000, "a")], &[], Err("2 answers say new"));
        check(&[new(0, "a"), op(3000, 0, Saw::Ended), new(3100, "b")], &[], Ok((1, 0)));
        let kill = Fault { span: Span { from: 5, to: 9 }, gateway: Some(0), kill: true };
        check(&[new(0, "a"), new(5000, "a")], &[kill], Ok((2, 0)));
    }
}
