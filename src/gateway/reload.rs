//! Other pools and users, while the gateway runs.
//!
//! Owns: when they are read again, that what is wrong changes nothing, and
//! that whoever asked is told.
//! Must not know: what a request makes of them.

use std::sync::Arc;

use super::{Inner, entries, warn_of};
use crate::config::watch::{Watch, Watched};
use crate::config::{self, Config, Findings};
use crate::observe::events::Event;
use crate::steer::reload::{Asked, Outcome, Waiting};

impl Inner {
    /// Reloads the pools whenever their files change; on demand, what can be
    /// changed of the configuration as well.
    pub(super) async fn watch(self: Arc<Self>, mut watch: Watch, mut asked: Asked) {
        loop {
            let mut findings = Vec::new();
            let mut waiting = None;
            tokio::select! {
                () = watch.changed() => {}
                all = asked.next() => {
                    waiting = Some(all);
                    self.manager.reloading(crate::clock::monotonic_us());
                    findings = self.reload_config().await;
                }
                // The new process watches.
                () = self.shared.drain.handed_over() => return,
            }
            if let Some(watched) = self.reload_pools(&mut findings).await {
                watch = Watch::new(watched);
            }
            if waiting.is_some() {
                self.manager.ready();
            }
            self.tell(findings, waiting.unwrap_or_default());
        }
    }

    /// What is to be watched from now on; `None`: what was until now.
    async fn reload_pools(&self, wrong: &mut Vec<String>) -> Option<Watched> {
        let config = self.config.load_full();
        match tokio::task::spawn_blocking(move || config::load_pools(&config)).await {
            Ok(Ok(loaded)) => {
                warn_of(&loaded.warnings);
                let pools = loaded.pools.iter().count();
                self.shared.state.replace(loaded.pools, self.shared.clock.now());
                self.steering.keep_settled().await;
                tracing::info!(pools, "pools reloaded");
                Some(loaded.watched)
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

    /// Users, and what pools take from the configuration (`targets`, the
    /// timeouts of dials), come into force; the rest needs a restart. What
    /// was wrong.
    async fn reload_config(&self) -> Vec<String> {
        let source = self.config.load().source().clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&source)).await;
        let mut wrong = Vec::new();
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
                    let message = "from or to no users at all needs a restart";
                    tracing::error!("configuration not reloaded: {message}");
                    wrong.push(format!("users: {message}"));
                }
            }
            Ok(Err(findings)) => {
                for finding in findings.iter() {
                    tracing::error!(%finding, "configuration not reloaded: the old one stays in force");
                }
                note(&findings, &mut wrong);
            }
            Err(error) => {
                tracing::error!(%error, "the reload broke off: the old configuration stays in force");
                wrong.push("the reload of the configuration broke off".to_owned());
            }
        }
        wrong
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
