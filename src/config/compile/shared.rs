//! What configuration and pool files have in common.
//!
//! Owns: words to the core's enums, target rules, positive durations.
//! Must not know: which file it is.

use std::time::Duration;

use super::Reading;
use crate::config::locate::NodeId;
use crate::config::values::Span;
use crate::config::words::{AffinityWord, FailoverWord, PrivateEntry, ResolveWord, TargetText, TargetsEntry};
use crate::core::policy::{Private, Resolve, TargetPolicy};
use crate::core::pool::{Affinity, Failover};

impl From<FailoverWord> for Failover {
    fn from(word: FailoverWord) -> Self {
        match word {
            FailoverWord::On => Self::On,
            FailoverWord::Off => Self::Off,
            FailoverWord::Address => Self::Address,
        }
    }
}

impl From<AffinityWord> for Affinity {
    fn from(word: AffinityWord) -> Self {
        match word {
            AffinityWord::None => Self::None,
            AffinityWord::ClientIp => Self::ClientIp,
            AffinityWord::User => Self::User,
            AffinityWord::Target => Self::Target,
            AffinityWord::ClientIpAndTarget => Self::ClientIpAndTarget,
        }
    }
}

/// The rules as written; what is not written is as in `otherwise`.
pub(super) fn targets(written: Option<TargetsEntry>, otherwise: TargetPolicy) -> TargetPolicy {
    let Some(written) = written else { return otherwise };
    let entries = |list: Vec<TargetText>| list.into_iter().map(|entry| entry.0).collect();
    TargetPolicy {
        allow: written.allow.map_or(otherwise.allow, entries),
        deny: written.deny.map_or(otherwise.deny, entries),
        ports: written
            .ports
            .map_or(otherwise.ports, |list| Some(list.into_iter().map(|ports| ports.0).collect())),
        private: match written.private {
            None => otherwise.private,
            Some(PrivateEntry::All(false)) => Private::No,
            Some(PrivateEntry::All(true)) => Private::Yes,
            Some(PrivateEntry::Only(nets)) => Private::Only(nets),
        },
        resolve: match written.resolve {
            None => otherwise.resolve,
            Some(ResolveWord::Auto) => Resolve::Auto,
            Some(ResolveWord::Always) => Resolve::Always,
            Some(ResolveWord::Never) => Resolve::Never,
        },
    }
}

/// A duration that must not be zero.
pub(super) fn positive(
    reading: &mut Reading<'_>,
    node: NodeId,
    key: &str,
    written: Option<Span>,
) -> Option<Duration> {
    let span = written?.0;
    if span.is_zero() {
        reading.complain(node, &[key], "expected a duration above zero");
    }
    Some(span)
}
