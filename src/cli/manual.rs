//! `moorgate completions` and `moorgate man`.
//!
//! Owns: completions and manual pages, made from the arguments themselves: a
//! binary's own are never older than it is.
//! Must not know: what the commands do.

use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

/// The completions of a shell.
pub(super) fn completions(mut command: Command, shell: Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "moorgate", &mut text);
    super::print(&String::from_utf8_lossy(&text))
}

/// The manual page of the program; or into a folder the pages of it and of
/// each of its commands.
pub(super) fn man(command: Command, folder: Option<&Path>) -> anyhow::Result<()> {
    let Some(folder) = folder else {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text).context("cannot make the manual page")?;
        return super::print(&String::from_utf8_lossy(&text));
    };
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("cannot write manual pages into {}", folder.display()))
}
