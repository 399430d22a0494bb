//! Answers of a running gateway, shown to people and to programs.
//!
//! Owns: tables and JSON of lists, all pages in one; that a program is told
//! problems as JSON, too.
//! Must not know: which command asked.

use std::io::{self, Write};

use clap::Args;
use serde_json::Value;

use super::lists::{Filters, List, reload_line};
use super::remote::{Client, Gateway, Problem, Unanswered};
use super::table::Table;
use super::watch::{Screen, Watch};

/// How the answer is told.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Asking {
    #[command(flatten)]
    pub(super) gateway: Gateway,
    /// Prints the API's JSON, with all pages of a list in one
    #[arg(long, global = true)]
    json: bool,
}

/// A failure that is told already.
#[derive(Debug, thiserror::Error)]
#[error("the gateway did not do it")]
pub(super) struct Told;

impl Asking {
    /// An answer, or a problem that a program reads as JSON, too.
    /// Tells it.
    pub(super) fn tell(
        &self,
        answer: Result<Value, Unanswered>,
        words: impl Fn(&Value) -> String,
    ) -> anyhow::Result<()> {
        match answer {
            Ok(answer) if self.json => super::print(&format!("{answer:#}\n")),
            Ok(answer) => super::print(&words(&answer)),
            Err(unanswered) => Err(self.failure(unanswered)),
        }
    }

    /// What [`main`](super::main) makes of it.
    pub(super) fn failure(&self, unanswered: Unanswered) -> anyhow::Error {
        match unanswered {
            Unanswered::Problem(Problem(problem)) if self.json => {
                match super::print(&format!("{problem:#}\n")) {
                    Ok(()) => Told.into(),
                    Err(error) => error,
                }
            }
            unanswered => unanswered.into(),
        }
    }

    fn shown(&self, shown: Result<(), Unshown>) -> anyhow::Result<()> {
        match shown {
            Ok(()) => Ok(()),
            // The reader has seen enough.
            Err(Unshown::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(Unshown::Print(error)) => Err(anyhow::Error::new(error).context("cannot print")),
            Err(Unshown::Unanswered(unanswered)) => Err(self.failure(unanswered)),
        }
    }
}

/// Shows a list, once or again and again.
pub(super) async fn show(
    client: &mut Client,
    list: &List,
    filters: &Filters<'_>,
    watch: &Watch,
    asking: &Asking,
) -> anyhow::Result<()> {
    let Some(mut screen) = watch.screen(asking.json) else {
        let shown = match asking.json {
            true => write_json(client, list, filters, &mut io::stdout().lock(), true).await,
            false => write_table(client, list, filters, &mut io::stdout().lock()).await,
        };
        return asking.shown(shown);
    };
    let mut first = true;
    loop {
        let mut text = Vec::new();
        let shown = match asking.json {
            true => write_json(client, list, filters, &mut text, false).await,
            false => write_page(client, list, filters, &screen, &mut text).await,
        };
        match asking.shown(shown) {
            // Later it may be a gateway that starts again.
            Err(error) if first => return Err(error),
            Err(error) => screen.excuse(&error),
            Ok(()) if !screen.draw(&text)? => return Ok(()),
            Ok(()) => {}
        }
        first = false;
        if !screen.pause().await {
            return Ok(());
        }
    }
}

/// Why a list is not shown whole.
enum Unshown {
    Unanswered(Unanswered),
    Print(io::Error),
}

impl From<Unanswered> for Unshown {
    fn from(unanswered: Unanswered) -> Self {
        Self::Unanswered(unanswered)
    }
}

impl From<io::Error> for Unshown {
    fn from(error: io::Error) -> Self {
        Self::Print(error)
    }
}

/// All of a list as a table, page by page.
async fn write_table(
    client: &mut Client,
    list: &List,
    filters: &Filters<'_>,
    out: &mut impl Write,
) -> Result<(), Unshown> {
    let mut table = Table::new(list.columns);
    let (mut cursor, mut first) = (None, true);
    loop {
        let page = list.page(client, filters, cursor.as_deref(), None).await?;
        out.write_all(table.part(&page.rows, first).as_bytes())?;
        if let Some(line) = reload_line(&page.rest) {
            writeln!(out, "\n{line}")?;
        }
        (cursor, first) = (page.next, false);
        if cursor.is_none() {
            return Ok(out.flush()?);
        }
    }
}

/// As much of a list as a screen has room for.
async fn write_page(
    client: &mut Client,
    list: &List,
    filters: &Filters<'_>,
    screen: &Screen,
    out: &mut impl Write,
) -> Result<(), Unshown> {
    let page = list.page(client, filters, None, Some(screen.rows())).await?;
    out.write_all(Table::new(list.columns).part(&page.rows, true).as_bytes())?;
    if page.next.is_some() {
        writeln!(out, "… and more")?;
    }
    if let Some(line) = reload_line(&page.rest) {
        writeln!(out, "\n{line}")?;
    }
    Ok(())
}

/// All of a list as one JSON object, for people to read or on one line.
async fn write_json(
    client: &mut Client,
    list: &List,
    filters: &Filters<'_>,
    out: &mut impl Write,
    wide: bool,
) -> Result<(), Unshown> {
    let mut page = list.page(client, filters, None, None).await?;
    let (gap, space) = if wide { ("\n  ", " ") } else { ("", "") };
    write!(out, "{{{gap}\"{}\":{space}[", list.name)?;
    let mut comma = "";
    loop {
        for row in &page.rows {
            write!(out, "{comma}")?;
            match wide {
                true => write!(out, "\n    {}", format!("{row:#}").replace('\n', "\n    "))?,
                false => write!(out, "{row}")?,
            }
            comma = ",";
        }
        let Some(cursor) = page.next.take() else { break };
        page = list.page(client, filters, Some(&cursor), None).await?;
    }
    let end = if wide && !comma.is_empty() { "\n  " } else { "" };
    write!(out, "{end}]")?;
    for (key, value) in page.rest.as_object().into_iter().flatten().filter(|(key, _)| *key != list.name) {
        let value = if wide { format!("{value:#}").replace('\n', "\n  ") } else { value.to_string() };
        write!(out, ",{gap}{}:{space}{value}", Value::from(key.as_str()))?;
    }
    writeln!(out, "{}}}", if wide { "\n" } else { "" })?;
    Ok(out.flush()?)
}
