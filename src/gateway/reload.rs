//! Other pools and users, while the gateway runs.
//!
//! Owns: when they are read again, and that what is wrong changes nothing.
//! Must not know: what a request makes of them.

use std::sync::Arc;

use super::{Inner, entries, warn_of};
use crate::config::watch::Watch;
use crate::config::{self, Config};

impl Inner {
    /// Reloads the pools whenever their files change; on demand, what can be
    /// changed of the configuration as well.
    pub(super) async fn watch(self: Arc<Self>, mut watch: Watch) {
        let mut asked = false;
        loop {
            if std::mem::take(&mut asked) {
                self.manager.ready();
            }
            tokio::select! {
                () = watch.changed() => {}
                () = self.reloads.notified() => {
                    self.manager.reloading(crate::clock::monotonic_us());
                    self.reload_config().await;
                    asked = true;
                }
                // The new process watches.
                () = self.shared.drain.handed_over() => return,
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
            watch = Watch::new(watched);
        }
    }

    /// Users, and what pools take from the configuration (`targets`, the
    /// timeouts of dials), come into force; the rest needs a restart.
    async fn reload_config(&self) {
        let source = self.config.load().source().clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&source)).await;
        match loaded {
            Ok(Ok((config, warnings))) => {
                warn_of(&warnings);
                let entries = entries(&config);
                if entries.is_empty() == self.config.load().users.is_empty() {
                    if !entries.is_empty() {
                        self.shared.users.replace(&entries);
                    }
                    self.config.store(Arc::new(config));
                    tracing::info!("configuration reloaded");
                } else {
                    tracing::error!("configuration not reloaded: from or to no users at all needs a restart");
                }
            }
            Ok(Err(findings)) => {
                for finding in findings.iter() {
                    tracing::error!(%finding, "configuration not reloaded: the old one stays in force");
                }
            }
            Err(error) => {
                tracing::error!(%error, "the reload broke off: the old configuration stays in force")
            }
        }
    }
}
