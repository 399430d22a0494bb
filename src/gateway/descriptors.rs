//! How many client connections the descriptors suffice for.
//!
//! Owns: the limit that follows from the process's own, so that a client is
//! refused before a connection of one that was let in fails.
//! Must not know: who holds which descriptor.

use rustix::process::{Resource, getrlimit};

/// For listeners, files, the store and the administrator.
const OWN: u64 = 64;
/// At most so many are for what need not be there: those who are told that
/// they are refused, pipes, links that are kept.
const EXTRA: u64 = 1024;
/// A client's, and its target's.
const EACH: u64 = 2;

/// The limit of connections, as far as the descriptors suffice.
pub(super) fn fitting(configured: u32) -> u32 {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = most(descriptors);
    if configured <= most {
        return configured;
    }
    tracing::warn!(
        descriptors,
        connections = most,
        configured,
        "limits.connections is more than the descriptors suffice for: raise their hard limit (ulimit -Hn, LimitNOFILE)"
    );
    most
}

fn most(descriptors: u64) -> u32 {
    let clients = descriptors.saturating_sub(OWN + EXTRA.min(descriptors / 4)) / EACH;
    u32::try_from(clients).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_the_descriptors_are_for_clients_and_targets() {
        assert_eq!(most(64), 1);
        assert_eq!(most(1024), 352);
        assert_eq!(most(1 << 20), 523_744);
        assert_eq!(most(u64::MAX), u32::MAX);
        assert_eq!(fitting(1), 1);
    }
}
