//! What users move on a day, on all gateways.
//!
//! Owns: how it is told and asked at the store.
//! Must not know: when a day begins, what is limited.
//!
//! The store has one number for each user and day. A gateway adds what it has
//! moved since it last did, and hears the whole. What the store has lost, the
//! gateway that knows most of it writes back.

use redis::Value;

use super::Shared;
use super::link::Call;
use super::script;
use crate::core::session::UserName;

/// How long a day's numbers are kept, in ms: some gateway's day may not be
/// over.
const KEEP_MS: &str = "172800000";

/// What a user has moved on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Who.
    pub(crate) user: UserName,
    /// Bytes here since they were last told.
    pub(crate) more: u64,
    /// Bytes in all, as far as this gateway knows.
    pub(crate) known: u64,
}

impl Shared {
    /// Tells the store what these have moved on a day, and how many bytes each
    /// has on all gateways. `None`: it is out of reach.
    pub(in crate::store) async fn add_bytes(&self, day: u64, moved: &[Moved]) -> Option<Vec<u64>> {
        let mut arguments = vec![KEEP_MS.as_bytes().to_vec()];
        for Moved { user, more, known } in moved {
            arguments.push(user.as_bytes().to_vec());
            arguments.extend([more, known].map(|bytes| bytes.to_string().into_bytes()));
        }
        let call = Call { script: &script::BYTES, keys: vec![self.names.day(day)], arguments };
        let Value::Array(totals) = self.link.run_all(&[call]).await.ok()?.pop()? else { return None };
        let total = |total: Value| match total {
            Value::Int(total) => u64::try_from(total).ok(),
            _ => None,
        };
        totals.into_iter().map(total).collect()
    }
}
