//! Other pools and users, while the gateway runs.
//!
//! Owns: when they are read again, that what is wrong changes nothing, and
//! that whoever asked is told.
//! Must not know: what a request makes of them.

use std::sync::Arc;
use std::time::Duration;

use super::listeners::Secured;
use super::{Inner, entries, warn_of};
use crate::config::watch::{Watch, Watched};
use crate::config::{self, Config, Findings};
use crate::observe::events::Event;
use crate::state::Retired;
use crate::steer::reload::{Asked, Outcome, Waiting};

/// How often is looked whether old pools are still in use.
const RETIRE: Duration = Duration::from_millis(100);

/// The files that a reload would read.
pub(super) struct Watching {
    pub(super) pools: Watch,
    /// The configuration itself and the keys of tokens.
    pub(super) config: Watch,
}

impl Inner {
    /// Reloads the pools whenever their files change, and the configuration
    /// as far as it can be changed, whenever its own do; both on demand.
    pub(super) async fn watch(self: Arc<Self>, mut watch: Watching, mut asked: Asked) {
        loop {
            let mut findings = Vec::new();
            let mut waiting = None;
            let config = tokio::select! {
                () = watch.pools.changed() => None,
                () = watch.config.changed() => self.reload_config(&mut findings).await,
                all = asked.next() => {
                    waiting = Some(all);
                    self.manager.reloading(crate::clock::monotonic_us());
                    self.reload_config(&mut findings).await
                }
                // The new process watches.
                () = self.shared.drain.handed_over() => return,
            };
            if let Some(watched) = config {
                watch.config = Watch::new(watched);
            }
            if let Some(watched) = self.clone().reload_pools(&mut findings).await {
                watch.pools = Watch::new(watched);
            }
            if waiting.is_some() {
                self.manager.ready();
            }
            self.tell(findings, waiting.unwrap_or_default());
        }
    }

    /// What is to be watched from now on; `None`: what was until now.
    async fn reload_pools(self: Arc<Self>, wrong: &mut Vec<String>) -> Option<Watched> {
        let inner = self.clone();
        // Not on a worker: a large pool takes a while.
        match tokio::task::spawn_blocking(move || inner.replace_pools()).await {
            Ok(Ok((watched, retired))) => {
                self.steering.keep_settled().await;
                let inner = self.clone();
                self.until_end(async move { inner.retire(retired).await });
                Some(watched)
            }
            Ok(Err(findings)) => {
                for finding in findings.iter() {
                    tracing::error!(%finding, "pools not reloaded: the old ones stay in force");
                }
                note(&findings, wrong);
                Some(findings.watched().clone())
            }
            Err(error) => {
                tracing::error!(%error, "the reload broke off: the old pools stay in force");
                wrong.push("the reload of the pools broke off".to_owned());
                None
            }
        }
    }

    /// Reads the pools and puts them into force, if there is nothing wrong
    /// with them.
    fn replace_pools(&self) -> Result<(Watched, Retired), Findings> {
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

    /// Users, tokens, certificates, and what pools take from the configuration
    /// (`targets`, the timeouts of dials), come into force; the rest needs a
    /// restart. What is to be watched from now on; `None`: what was until now.
    async fn reload_config(&self, wrong: &mut Vec<String>) -> Option<Watched> {
        let source = self.config.load().source().clone();
        match tokio::task::spawn_blocking(move || Config::load(&source)).await {
            Ok(Ok((config, warnings))) => {
                warn_of(&warnings);
                let watched = config.watched().clone();
                self.take_config(config, wrong);
                Some(watched)
            }
            Ok(Err(findings)) => {
                for finding in findings.iter() {
                    tracing::error!(%finding, "configuration not reloaded: the old one stays in force");
                }
                note(&findings, wrong);
                Some(findings.watched().clone())
            }
            Err(error) => {
                tracing::error!(%error, "the reload broke off: the old configuration stays in force");
                wrong.push("the reload of the configuration broke off".to_owned());
                None
            }
        }
    }

    fn take_config(&self, config: Config, wrong: &mut Vec<String>) {
        let has_users = |config: &Config| !config.users.is_empty() || config.tokens.is_some();
        if has_users(&config) != has_users(&self.config.load()) {
            let message = "from or to no users at all needs a restart";
            tracing::error!("configuration not reloaded: {message}");
            wrong.push(format!("users: {message}"));
            return;
        }
        self.show_certificates(&config);
        if has_users(&config) {
            self.shared.users.replace(&entries(&config), config.tokens.as_ref());
        }
        self.config.store(Arc::new(config));
        tracing::info!("configuration reloaded");
    }

    /// Puts certificates that were read anew into force at the listeners that
    /// run. A listener that is new, or has TLS only now, needs a restart.
    fn show_certificates(&self, config: &Config) {
        for Secured { binds, tls } in &self.secured {
            let now = config.listeners.iter().find(|now| now.binds == *binds);
            match now.map(|now| &now.certificates).filter(|certificates| !certificates.is_empty()) {
                Some(certificates) => tls.replace(certificates.clone()),
                None => tracing::warn!(
                    listener = %binds.first().map(ToString::to_string).unwrap_or_default(),
                    "the listener's certificates stay: it is another one in the configuration now"
                ),
            }
        }
    }

    fn tell(&self, findings: Vec<String>, waiting: Vec<Waiting>) {
        let instruments = &self.shared.instruments;
        match findings.is_empty() {
            true => instruments.reloads.one(),
            false => instruments.reloads_failed.one(),
        }
        let pools = self.shared.state.snapshot().pools().iter().count();
        let outcome = Arc::new(Outcome { at: self.shared.clock.now(), findings, pools });
        instruments
            .events
            .tell(|| Event::Reloaded { ok: outcome.findings.is_empty(), findings: outcome.findings.clone() });
        self.steering.reloads.note(outcome.clone());
        for one in waiting {
            let _ = one.send(outcome.clone());
        }
    }
}

fn note(findings: &Findings, wrong: &mut Vec<String>) {
    wrong.extend(findings.iter().map(ToString::to_string));
}
