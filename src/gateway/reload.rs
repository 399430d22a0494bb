//! Other pools and users, while the gateway runs.
//!
//! Owns: when they are read again, and that what is wrong changes nothing.
//! Must not know: what a request makes of them.

use std::sync::Arc;
use std::time::Duration;

use super::{Inner, entries, warn_of};
use crate::config::watch::{Watch, Watched};
use crate::config::{self, Config, Findings};
use crate::state::Retired;

/// How often is looked whether old pools are still in use.
const RETIRE: Duration = Duration::from_millis(100);

impl Inner {
    /// Reloads the pools whenever their files change; on demand, what can be
    /// changed of the configuration as well.
    pub(super) async fn watch(self: Arc<Self>, mut watch: Watch) {
        loop {
            tokio::select! {
                () = watch.changed() => {}
                () = self.reloads.notified() => self.reload_config().await,
            }
            let inner = self.clone();
            // Not on a worker: a large pool takes a while.
            let reloaded = tokio::task::spawn_blocking(move || inner.reload_pools()).await;
            let watched = match reloaded {
                Ok(Ok((watched, retired))) => {
                    let inner = self.clone();
                    self.until_end(async move { inner.retire(retired).await });
                    watched
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

    /// Reads the pools and puts them into force, if there is nothing wrong
    /// with them.
    fn reload_pools(&self) -> Result<(Watched, Retired), Findings> {
        let loaded = config::load_pools(&self.config.load())?;
        warn_of(&loaded.warnings);
        let pools = loaded.pools.iter().count();
        let retired = self.shared.state.replace(loaded.pools, self.shared.clock.now());
        tracing::info!(pools, "pools reloaded");
        Ok((loaded.watched, retired))
    }

    /// Forgets pools once no request goes by them: to tidy up takes a while,
    /// too, and would be the work of whichever request is the last.
    async fn retire(&self, retired: Retired) {
        while retired.are_in_use() {
            tokio::time::sleep(RETIRE).await;
        }
        let now = self.shared.clock.now();
        let ended = tokio::task::spawn_blocking(move || retired.end(now)).await;
        if let Err(error) = ended {
            tracing::error!(%error, "the old pools were not tidied up");
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
