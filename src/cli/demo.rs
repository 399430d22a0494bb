//! `moorgate demo`: stickiness, rotation, failover and a restart, shown on
//! loopback in some seconds.
//!
//! Owns: the story, its report, and that it fails where a promise does.
//! Must not know: the gateway's inside; it uses the public surface and the
//! wire, as an embedding program and its clients would.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::config::{Config, ConfigSource};
use crate::gateway::{Gateway, Running};

mod peers;

use peers::{Exits, Origin, Reply};

const EXITS: usize = 8;
const SESSIONS: usize = 40;
const SECRET: &str = "demo";
/// A part of the story that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is running while the story is told.
struct Stage {
    folder: tempfile::TempDir,
    origin: Origin,
    exits: Exits,
    gateway: Option<Running>,
}

/// Tells the story.
///
/// # Errors
/// The first promise that did not hold.
pub(super) async fn demo() -> Result<()> {
    println!("Moorgate on loopback: one gateway, one origin, {EXITS} exits.\n");
    let mut stage = Stage::set().await?;
    let acts = async {
        rotation(&stage).await?;
        let before = stickiness(&stage).await?;
        let after = failover(&mut stage, before).await?;
        restart(&mut stage, after).await
    };
    tokio::time::timeout(PATIENCE, acts).await.context("the demo took too long")??;
    println!("\nAll of it held.");
    Ok(())
}

impl Stage {
    async fn set() -> Result<Self> {
        let folder = tempfile::tempdir().context("no folder for the state")?;
        let origin = Origin::start().await?;
        let exits = Exits::start(EXITS).await?;
        let mut stage = Self { folder, origin, exits, gateway: None };
        stage.write_files()?;
        stage.start().await?;
        Ok(stage)
    }

    fn write_files(&self) -> Result<()> {
        let exits: Vec<_> = self
            .exits
            .addresses()
            .enumerate()
            .map(|(n, address)| serde_json::json!({ "id": format!("exit-{}", n + 1), "via": format!("http://{address}") }))
            .collect();
        let pools = serde_json::json!({ "pools": [{ "name": "demo", "exits": exits }] });
        let config = serde_json::json!({
            "listeners": [{ "bind": "127.0.0.1:0" }],
            "admin": null,
            "pools": "pools.json",
            "users": [{ "name": "demo", "password": SECRET }],
            "sessions": { "store": "file:state" },
            "targets": { "private": ["127.0.0.0/8"] },
            "log": { "access": false },
        });
        write(&self.folder.path().join("pools.json"), &pools)?;
        write(&self.folder.path().join("moorgate.json"), &config)
    }

    async fn start(&mut self) -> Result<()> {
        let source = ConfigSource {
            config: Some(self.folder.path().join("moorgate.json")),
            ..ConfigSource::default()
        };
        let (config, _) = Config::load(&source)?;
        self.gateway = Some(Gateway::start(config).await?);
        Ok(())
    }

    fn address(&self) -> Result<SocketAddr> {
        let running = self.gateway.as_ref().context("the gateway is not running")?;
        running.addresses().first().copied().context("the gateway has no listener")
    }

    async fn ask(&self, parameters: &str) -> Result<Reply> {
        peers::fetch(self.address()?, &format!("demo{parameters}"), SECRET, self.origin.address()).await
    }
}

fn write(path: &Path, value: &serde_json::Value) -> Result<()> {
    std::fs::write(path, value.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

fn told(act: &str, what: &str) {
    println!("  {act:<11} {what}");
}

async fn rotation(stage: &Stage) -> Result<()> {
    let mut seen = BTreeMap::new();
    for _ in 0..3 * EXITS {
        *seen.entry(stage.ask("").await?.origin_saw).or_insert(0) += 1;
    }
    ensure!(seen.len() == EXITS && seen.values().all(|n| *n == 3), "rotation was uneven: {seen:?}");
    told(
        "rotation",
        &format!("{} requests without a session left by {EXITS} addresses, each 3 times", 3 * EXITS),
    );
    Ok(())
}

/// Where each session left.
type Pins = BTreeMap<String, Reply>;

async fn ask_all(stage: &Stage) -> Result<Pins> {
    let mut pins = Pins::new();
    for n in 0..SESSIONS {
        let session = format!("cart{n}");
        let reply = stage.ask(&format!("-session-{session}-ttl-24h")).await?;
        pins.insert(session, reply);
    }
    Ok(pins)
}

async fn stickiness(stage: &Stage) -> Result<Pins> {
    let first = ask_all(stage).await?;
    ensure!(first.values().all(|reply| reply.session == "new"), "a first request did not say new");
    for _ in 0..3 {
        let again = ask_all(stage).await?;
        let kept = first
            .iter()
            .zip(&again)
            .all(|((_, a), (_, b))| a.origin_saw == b.origin_saw && b.session == "held");
        ensure!(kept, "a session did not keep its exit");
    }
    told(
        "stickiness",
        &format!("{SESSIONS} sessions for 24 h, 4 requests each: every session kept its address"),
    );
    Ok(first)
}

async fn failover(stage: &mut Stage, before: Pins) -> Result<Pins> {
    let lost = before.get("cart0").context("no first session")?.origin_saw.clone();
    stage.exits.stop(&lost)?;
    let after = ask_all(stage).await?;
    let mut moved = 0;
    for (session, reply) in &after {
        let was = &before.get(session).context("a session too many")?.origin_saw;
        let expected = if *was == lost { "moved" } else { "held" };
        ensure!(reply.session == expected, "{session} said {} instead of {expected}", reply.session);
        ensure!((reply.origin_saw == *was) == (expected == "held"), "{session} left by the wrong exit");
        moved += usize::from(expected == "moved");
    }
    told(
        "failover",
        &format!("{lost} went down: its {moved} sessions moved and said so, {} stayed", SESSIONS - moved),
    );
    Ok(after)
}

async fn restart(stage: &mut Stage, before: Pins) -> Result<()> {
    let running = stage.gateway.take().context("the gateway is not running")?;
    running.drain();
    running.wait().await;
    stage.start().await?;
    let after = ask_all(stage).await?;
    let kept =
        before.iter().zip(&after).all(|((_, a), (_, b))| a.origin_saw == b.origin_saw && b.session == "held");
    ensure!(kept, "a session lost its exit in the restart");
    told("restart", &format!("the gateway stopped and started again: all {SESSIONS} pins are as they were"));
    Ok(())
}
