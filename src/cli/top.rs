//! `moorgate top`: a live view of a running gateway.
//!
//! Owns: the terminal, from taking it over to giving it back however the
//! program ends, and the loop between keys and news.
//! Must not know: what is shown (`model`), how (`view`), where it comes from
//! (`feed`).

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::model::{After, Model};
use super::lists::POOLS;
use super::remote::{Client, Gateway, Misdirected};

mod feed;
mod model;
mod view;

/// How soon the thread that reads keys sees that it is over.
const BLINK: Duration = Duration::from_millis(100);

/// What may wait to be shown.
const WAITING: usize = 256;

#[derive(Args)]
pub(super) struct Top {
    #[command(flatten)]
    gateway: Gateway,
}

/// Shows it until somebody quits.
pub(super) async fn top(top: Top) -> anyhow::Result<()> {
    let mut client = top.gateway.find()?;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let message = "top needs a terminal; for a file or a pipe there is `moorgate pools --watch`";
        return Err(Misdirected::Arguments(message.to_owned()).into());
    }
    // What keeps it from starting is said on the terminal as it is.
    POOLS.page(&mut client, &[], None, None).await?;
    let mut terminal = Taken(ratatui::try_init().context("cannot take the terminal over")?);
    run(&mut terminal.0, client).await
}

/// A terminal that is given back. After a panic the hook of `ratatui` does it.
struct Taken(DefaultTerminal);

impl Drop for Taken {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn run(terminal: &mut DefaultTerminal, client: Client) -> anyhow::Result<()> {
    let mut model = Model::new(client.place().authority());
    let (looked_at, wanted) = watch::channel(model.tab());
    let (tell, mut news) = mpsc::channel(WAITING);
    let mut feeds = JoinSet::new();
    feeds.spawn(feed::events(client.again(), tell.clone()));
    feeds.spawn(feed::lists(client, wanted, tell));
    let mut keys = keys();
    let mut ended = Ends::new()?;
    loop {
        terminal.draw(|frame| view::draw(frame, &mut model)).context("cannot draw")?;
        let after = tokio::select! {
            Some(piece) = news.recv() => {
                model.hear(piece);
                // What came with it is drawn with it.
                while let Ok(piece) = news.try_recv() {
                    model.hear(piece);
                }
                After::Draw
            }
            key = keys.recv() => match key {
                Some(Event::Key(key)) => model.press(key),
                Some(_) => After::Draw,
                None => After::Quit,
            },
            () = ended.next() => After::Quit,
            // Neither ends before we do, but by a panic, of which the terminal
            // has been told already.
            Some(feed) = feeds.join_next() => {
                feed.context("what feeds the view has fallen")?;
                After::Draw
            }
        };
        match after {
            After::Draw => {}
            After::Look => drop(looked_at.send(model.tab())),
            After::Quit => return Ok(()),
        }
    }
}

/// The signals that end it. Ctrl-C is none of them: it comes as a key.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    fn new() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { interrupt, terminate, hangup: signal(SignalKind::hangup())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Keys and new sizes, from a thread of their own: reading them blocks.
fn keys() -> mpsc::Receiver<Event> {
    let (tell, keys) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        while !tell.is_closed() {
            let told = match event::poll(BLINK) {
                Ok(false) => continue,
                Ok(true) => event::read().is_ok_and(|event| tell.blocking_send(event).is_ok()),
                Err(_) => false,
            };
            if !told {
                return;
            }
        }
    });
    keys
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Not a test: what the test below runs on a terminal of its own.
    #[test]
    #[ignore = "takes the terminal over and panics"]
    fn takes_the_terminal_and_panics() {
        let mut terminal = Taken(ratatui::try_init().unwrap());
        terminal.0.draw(|frame| frame.render_widget("drawn", frame.area())).unwrap();
        panic!("and this can be read");
    }

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let root = env!("CARGO_MANIFEST_DIR");
        let output = Command::new("python3")
            .arg(format!("{root}/tests/it/harness/terminal.py"))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "cli::top::tests::takes_the_terminal_and_panics", "--ignored", "--nocapture"])
            .output()
            .expect("python3 runs (Debian package python3)");
        let shown = String::from_utf8_lossy(&output.stdout);
        let told = String::from_utf8_lossy(&output.stderr);
        let left = shown.find("\x1b[?1049l").unwrap_or_else(|| panic!("the screen is kept: {shown} {told}"));
        assert!(shown.find("drawn").is_some_and(|drawn| drawn < left), "{shown}");
        assert!(shown.find("and this can be read").is_some_and(|read| read > left), "{shown}");
        assert!(shown.contains("\x1b[?25h"), "the cursor is hidden: {shown}");
        assert!(told.contains("\"restored\": true"), "{told}");
    }
}
