//! `moorgate run`: the gateway until a signal ends it.
//!
//! Owns: the runtime, signals, the printed quick start.
//! Must not know: how the gateway is wired.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, ConfigSource};
use crate::gateway::{Birth, Gateway, Running};
use crate::observe::log;

/// What a runtime that is left behind may still take to end.
const LAST: Duration = Duration::from_millis(200);

/// The runtime of every command that needs one.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// Runs the gateway until a signal ends it.
///
/// # Errors
/// Findings in configuration or pools; whatever keeps it from starting.
pub(super) fn run(source: &ConfigSource) -> anyhow::Result<()> {
    let (config, warnings) = Config::load(source)?;
    log::start(config.log.format, config.log.access);
    for warning in warnings {
        tracing::warn!(%warning, "configuration");
    }
    raise_descriptors();
    let runtime = runtime()?;
    let done = runtime.block_on(serve(config));
    runtime.shutdown_timeout(LAST);
    done
}

/// A tunnel takes two descriptors, and many systems give a process no more
/// than 1024 unless it asks.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err() {
        tracing::warn!(descriptors = limit.current, "the limit of descriptors cannot be raised");
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A limit of file sizes is a disk that refuses, not a reason to die.
    let _full = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    let mut replace = signal(SignalKind::user_defined2())?;
    let start = async { Gateway::start_from(config, Birth::of_process().await?).await };
    let running = tokio::select! {
        running = start => running?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    quick_start(&running);
    let mut draining = false;
    loop {
        tokio::select! {
            () = running.wait() => return Ok(()),
            _ = hangup.recv() => {
                running.reload();
                continue;
            }
            _ = replace.recv() => {
                running.upgrade();
                continue;
            }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if draining {
            running.force();
        } else {
            running.drain();
            draining = true;
        }
    }
}

/// A line to paste, where the gateway made its only user itself.
fn quick_start(running: &Running) {
    let (Some((user, secret)), Some(address)) = (running.demo_user(), running.addresses().first()) else {
        return;
    };
    println!("\nMoorgate is ready. One exit for a session of 24 hours:\n");
    println!(
        "  curl -x http://{user}-session-cart42-ttl-24h:{}@{address} http://example.com/ -v\n",
        secret.expose()
    );
    println!(
        "Without -session-… each request takes another exit. Pools: pools/*.json, edited while it runs.\n"
    );
}
