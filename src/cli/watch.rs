//! `--watch`.
//!
//! Owns: the time between two showings, the terminal while one stands, and
//! that Ctrl-C is the ordinary end of it.
//! Must not know: what is shown.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use ratatui::crossterm::terminal;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Rows where there is no terminal to count them.
const ROWS: u32 = 1000;

/// Between two showings, in seconds.
const MOST: u64 = 3600;

/// Again and again.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Watch {
    /// Shows it again every so many seconds, until Ctrl-C [default: 2]
    #[arg(
        long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=MOST)
    )]
    watch: Option<u64>,
}

/// What a showing is drawn on.
pub(super) struct Screen {
    every: Duration,
    /// A terminal is wiped each time; a file or a pipe, and JSON, go on.
    wipes: bool,
    /// Between two tables in a file.
    gap: &'static str,
    /// Why the last showing failed.
    excuse: Option<String>,
    /// Ctrl-C, also while nobody waits for it.
    interrupt: Signal,
}

impl Watch {
    pub(super) fn is_on(&self) -> bool {
        self.watch.is_some()
    }

    /// The screen, where it is asked for.
    ///
    /// # Errors
    /// The system does not tell signals.
    pub(super) fn screen(&self, json: bool) -> io::Result<Option<Screen>> {
        let Some(seconds) = self.watch else { return Ok(None) };
        Ok(Some(Screen {
            every: Duration::from_secs(seconds),
            wipes: !json && io::stdout().is_terminal(),
            gap: if json { "" } else { "\n" },
            excuse: None,
            interrupt: signal(SignalKind::interrupt())?,
        }))
    }
}

impl Screen {
    /// How many rows have room, below the heads and above two lines more.
    pub(super) fn rows(&self) -> u32 {
        match terminal::size() {
            Ok((_, rows)) if self.wipes => u32::from(rows).saturating_sub(4).max(1),
            _ => ROWS,
        }
    }

    /// Draws; `false` when nobody reads any more.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn draw(&mut self, text: &[u8]) -> io::Result<bool> {
        self.excuse = None;
        let mut drawn = Vec::new();
        if self.wipes {
            drawn.extend_from_slice(&wiped(text));
        } else {
            drawn.extend_from_slice(text);
            drawn.extend_from_slice(self.gap.as_bytes());
        }
        let mut out = io::stdout().lock();
        match out.write_all(&drawn).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Says once why there is nothing to draw; what was drawn stays.
    pub(super) fn excuse(&mut self, error: &anyhow::Error) {
        let message = format!("{error:#}");
        if self.excuse.as_ref() != Some(&message) {
            eprintln!("moorgate: {message}");
            self.excuse = Some(message);
        }
    }

    /// Waits for the next time; `false` when it is to end.
    pub(super) async fn pause(&mut self) -> bool {
        tokio::select! {
            () = tokio::time::sleep(self.every) => true,
            _ = self.interrupt.recv() => false,
        }
    }

    /// What comes of a showing's making; none when it is to end.
    pub(super) async fn unless_interrupted<T>(&mut self, made: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            made = made => Some(made),
            _ = self.interrupt.recv() => None,
        }
    }
}

/// The text from the top left corner, with the rest of each line and of the
/// screen wiped: without the flicker of an empty screen in between.
fn wiped(text: &[u8]) -> Vec<u8> {
    let mut drawn = b"\x1b[H".to_vec();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (end, bare) = match line.split_last() {
            Some((b'\n', bare)) => (&b"\x1b[K\n"[..], bare),
            _ => (&b"\x1b[K"[..], line),
        };
        drawn.extend_from_slice(bare);
        drawn.extend_from_slice(end);
    }
    drawn.extend_from_slice(b"\x1b[J");
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_showing_leaves_nothing_of_a_longer_one() {
        assert_eq!(wiped(b"A B\n1 2\n"), b"\x1b[HA B\x1b[K\n1 2\x1b[K\n\x1b[J");
        assert_eq!(wiped(b""), b"\x1b[H\x1b[J");
    }
}
