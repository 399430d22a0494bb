//! Moorgate: a sticky-session forward proxy gateway for outbound IP pools.
#![deny(unsafe_code)]

pub(crate) mod admin;
pub(crate) mod admit;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod clock;
pub(crate) mod config;
#[doc(hidden)]
pub mod core;
pub(crate) mod dial;
pub(crate) mod drain;
pub(crate) mod gateway;
#[doc(hidden)]
pub mod http1;
pub(crate) mod net;
pub(crate) mod observe;
pub(crate) mod relay;
pub(crate) mod serve;
#[doc(hidden)]
pub mod state;
#[doc(hidden)]
pub mod store;

pub use config::{Config, ConfigSource, Finding, Findings};
pub use gateway::{Gateway, Running, StartError};
