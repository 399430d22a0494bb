//! Where log lines go and what they look like.
//!
//! Owns: the `tracing` set-up.
//! Must not know: who logs what.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// The target of access records, for filters.
pub(crate) const ACCESS: &str = "moorgate::access";

/// Sends log lines to standard error from now on. `MOORGATE_LOG` may hold a
/// `tracing` filter such as `debug` or `moorgate::store=trace`. A second call
/// in a process changes nothing.
pub(crate) fn start(format: Format, access: bool) {
    let mut filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .with_env_var("MOORGATE_LOG")
        .from_env_lossy();
    // The engine tells at length how it opens; only its troubles count. The
    // shared store's client tells of each try to connect, and so do we.
    for (engine, level) in [("fjall", "warn"), ("lsm_tree", "warn"), ("redis", "off")] {
        if let Ok(quiet) = format!("{engine}={level}").parse::<Directive>() {
            filter = filter.add_directive(quiet);
        }
    }
    if !access && let Ok(off) = format!("{ACCESS}=off").parse::<Directive>() {
        filter = filter.add_directive(off);
    }
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    let started = match format {
        Format::Text => lines.with_target(false).with_ansi(io::stderr().is_terminal()).try_init(),
        // An access record has a field `target` of its own.
        Format::Json => lines.json().flatten_event(true).with_target(false).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was set up before");
    }
}
