//! Other pools and users, while the gateway runs.
//!
//! Owns: when they are read again, and that what is wrong changes nothing.
//! Must not know: what a request makes of them.

use std::sync::Arc;

use super::{Inner, entries, warn_of};
use crate::config::watch::{Watch, Watched};
use crate::config::{self, Config};

/// The files that a reload would read.
pub(super) struct Watching {
    pub(super) pools: Watch,
    /// The configuration itself and the keys of tokens.
    pub(super) config: Watch,
}

impl Inner {
    /// Reloads the pools whenever their files change, and the configuration
    /// as far as it can be changed, whenever its own do; both on demand.
    pub(super) async fn watch(self: Arc<Self>, mut watch: Watching) {
        let mut asked = false;
        loop {
            if std::mem::take(&mut asked) {
                self.manager.ready();
            }
            let config = tokio::select! {
                () = watch.pools.changed() => None,
                () = watch.config.changed() => self.reload_config().await,
                () = self.reloads.notified() => {
                    self.manager.reloading(crate::clock::monotonic_us());
                    asked = true;
                    self.reload_config().await
                }
                // The new process watches.
                () = self.shared.drain.handed_over() => return,
            };
            if let Some(config) = config {
                watch.config = Watch::new(config);
            }
            let config = self.config.load_full();
            let reloaded = tokio::task::spawn_blocking(move || config::load_pools(&config)).await;
            let watched = match reloaded {
                Ok(Ok(loaded)) => {
                    warn_of(&loaded.warnings);
                    let pools = loaded.pools.iter().count();
                    self.shared.state.replace(loaded.pools, self.shared.clock.now());
                    tracing::info!(pools, "pools reloaded");
                    loaded.watched
                }
                Ok(Err(findings)) => {
                    for finding in findings.iter() {
                        tracing::error!(%finding, "pools not reloaded: the old ones stay in force");
                    }
                    findings.watched().clone()
                }
                Err(error) => {
                    tracing::error!(%error, "the reload broke off: the old pools stay in force");
                    continue;
                }
            };
            watch.pools = Watch::new(watched);
        }
    }

    /// Users, tokens, and what pools take from the configuration (`targets`,
    /// the timeouts of dials), come into force; the rest needs a restart. What
    /// is to be watched from now on.
    async fn reload_config(&self) -> Option<Watched> {
        let source = self.config.load().source().clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&source)).await;
        match loaded {
            Ok(Ok((config, warnings))) => {
                warn_of(&warnings);
                let watched = config.watched().clone();
                self.reload_users(config);
                Some(watched)
            }
            Ok(Err(findings)) => {
                for finding in findings.iter() {
                    tracing::error!(%finding, "configuration not reloaded: the old one stays in force");
                }
                Some(findings.watched().clone())
            }
            Err(error) => {
                tracing::error!(%error, "the reload broke off: the old configuration stays in force");
                None
            }
        }
    }

    fn reload_users(&self, config: Config) {
        let is_open = |config: &Config| config.users.is_empty() && config.tokens.is_none();
        if is_open(&config) != is_open(&self.config.load()) {
            tracing::error!("configuration not reloaded: from or to no users at all needs a restart");
            return;
        }
        if !is_open(&config) {
            self.shared.users.replace(&entries(&config), config.tokens.as_ref());
        }
        self.config.store(Arc::new(config));
        tracing::info!("configuration reloaded");
        for (user, used) in self.shared.users.usage() {
            tracing::debug!(
                user = &*user,
                limits = ?used.limits,
                connections = used.connections,
                sessions = used.sessions,
                bytes_today = used.bytes_today,
                up = used.up,
                down = used.down,
                "user"
            );
        }
    }
}
