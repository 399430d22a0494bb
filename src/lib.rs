//! Moorgate: a sticky-session forward proxy gateway for outbound IP pools.
//!
//! A client names a session in its proxy username and leaves by one exit for
//! as long as the session lives; without a session it rotates. One client
//! connection is one task, and a request is data that moves to the right:
//!
//! ```text
//! bytes ─► Head ─► Caller ─► Ask ─► Judged ─► Route ─► Link ─► answer ─► relay or forward ─► record
//!          http1   admit     core   core      serve    dial    http1     relay               observe
//! ```
//!
//! `docs/architecture.md` has the modules and which may import which.
//!
//! # A gateway inside a program
//!
//! ```no_run
//! use moorgate::{Config, ConfigSource, Gateway};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let source = ConfigSource { config: Some("moorgate.json".into()), ..ConfigSource::default() };
//! let (config, _warnings) = Config::load(&source)?;
//! let running = Gateway::start(config).await?;
//! println!("listening on {:?}", running.addresses());
//! running.drain();
//! running.wait().await;
//! # Ok(())
//! # }
//! ```
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
pub(crate) mod steer;
#[doc(hidden)]
pub mod store;

pub use config::{Config, ConfigSource, Finding, Findings};
pub use gateway::{Gateway, Running, StartError};
