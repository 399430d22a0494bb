//! The one error that reaches a client.
//!
//! Owns: [`Fault`] (a code, a sentence that says what to change, when to come
//! back) and [`Blame`].
//! Must not know: how an answer is written. A detail is made of what the
//! client sent of its own parameters, names from the configuration and
//! peers' status lines; never of a credential.

use std::borrow::Cow;
use std::time::Duration;

use super::code::Code;

/// A failure on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Fault {
    code: Code,
    detail: Cow<'static, str>,
    retry_after: Option<u32>,
}

impl Fault {
    /// A fault with a sentence that says what to change.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), retry_after: None }
    }

    /// The same, to be tried again after `wait` (rounded up, at least 1 s).
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        let secs = wait.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX));
        self.retry_after = Some(u32::try_from(secs).unwrap_or(u32::MAX));
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Whole seconds for `Retry-After`. A 429 or 503 always has some.
    pub fn retry_after_s(&self) -> Option<u32> {
        match self.code.status() {
            429 | 503 => Some(self.retry_after.unwrap_or(1)),
            _ => self.retry_after,
        }
    }
}

/// Whose doing a failed dial was (SPEC §6, "Whose fault").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The exit: it counts towards ejection and may move a pin.
    Exit,
    /// One session of a vendor's gateway (a template's token), not the gateway.
    Token,
    /// The upstream accepted and then was silent: the target's doing, until it
    /// happened for several targets in a row.
    Silence,
    /// The target, or a policy's no: it never moves a pin.
    Target,
    /// Nobody's: the exit has no room for this connection at the moment.
    /// Nothing is held against it, and another exit may do.
    Full,
}
