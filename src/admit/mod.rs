//! Who may enter: users, secrets, tokens, limits.
//!
//! Owns: the proof of a caller and the guards for what it uses up.
//! Must not know: targets, exits.

pub(crate) mod limits;
pub(crate) mod password;
mod recent;
pub(crate) mod throttle;
pub(crate) mod tokens;
pub(crate) mod users;
