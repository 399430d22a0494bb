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
pub mod handshake;
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

/// What benches measure of modules that are nobody else's business.
#[doc(hidden)]
pub mod measured {
    use std::path::Path;
    use std::sync::Arc;

    use crate::admit::users::{Entry, Users};
    use crate::clock::SystemClock;
    use crate::config::{self, Config, ConfigSource};
    use crate::core::ask::Account;
    use crate::core::limits::UserLimits;
    use crate::core::pool::{Affinity, Pools, SessionBounds};
    use crate::core::secret::Secret;

    /// One user with a plain password.
    pub struct User(Users);

    impl User {
        /// Who may use all pools from anywhere.
        pub fn new(name: &str, password: &str) -> Self {
            let account = Account {
                name: name.into(),
                pools: None,
                default_pool: None,
                sessions: SessionBounds::default(),
                affinity: Affinity::None,
            };
            let limits = UserLimits::default();
            let entry = Entry { account, password: Secret::new(password), clients: Vec::new(), limits };
            let users = Users::new(30, Arc::default(), Arc::new(SystemClock::new()));
            users.replace(&[entry], None);
            Self(users)
        }

        /// Whether the value of a `Proxy-Authorization` field proves it.
        pub fn is_proven_by(&self, field: &[u8]) -> bool {
            let proof = std::pin::pin!(self.0.prove(Some(field), [192, 0, 2, 1].into()));
            let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
            matches!(proof.poll(&mut nobody), std::task::Poll::Ready(Ok(_)))
        }
    }

    /// The pools of a folder, with every default; none where they are wrong.
    pub fn load_pools(folder: &Path) -> Pools {
        let source = ConfigSource { pools: Some(folder.to_owned()), ..ConfigSource::default() };
        let loaded = Config::load(&source).and_then(|(config, _)| config::load_pools(&config));
        loaded.map(|loaded| loaded.pools).unwrap_or_default()
    }
}
