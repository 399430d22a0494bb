//! The command line.
//!
//! Owns: arguments, what is printed, the exit status.
//! Must not know: requests.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::admit::password;
use crate::config::{self, Config, ConfigSource, SchemaKind};
use crate::core::secret::Secret;
use crate::gateway::StartError;

mod demo;
mod explain;
mod lists;
mod manual;
mod operate;
mod remote;
mod run;
mod show;
mod table;
mod token;
mod top;
mod watch;

/// Run-time failure.
const FAILED: u8 = 1;
/// Bad configuration, or bad arguments.
const BAD_CONFIGURATION: u8 = 2;

/// A sticky-session forward proxy gateway for outbound IP pools.
#[derive(Parser)]
#[command(name = "moorgate", version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Source,
}

#[derive(Args, Clone, Default)]
struct Source {
    /// The configuration file (JSON).
    #[arg(long, env = "MOORGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// A pool file, or a folder of them, instead of the configuration's.
    #[arg(long, env = "MOORGATE_POOLS", value_name = "PATH")]
    pools: Option<PathBuf>,
    /// An address to listen on, instead of the configuration's listeners.
    #[arg(long, env = "MOORGATE_LISTEN", value_name = "ADDR", value_delimiter = ',')]
    listen: Vec<String>,
}

impl From<Source> for ConfigSource {
    fn from(source: Source) -> Self {
        Self { config: source.config, pools: source.pools, listen: source.listen, ..Self::default() }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Runs the gateway (also without a command).
    Run(Source),
    /// Validates configuration and pools and prints what would run.
    Check(Source),
    /// Prints the JSON Schema of a file.
    Schema {
        /// Of which file.
        of: SchemaOf,
    },
    /// Reads a secret and prints its PHC string, for a user's `password`.
    HashPassword,
    /// Says what a credential means, or where it is wrong.
    Explain(explain::Explain),
    /// Lists the shipped grammars of the username, or prints one.
    Profiles {
        /// Prints this one, as a start for your own.
        name: Option<String>,
    },
    /// Makes a token (JWT) for a user, or a key to sign tokens with.
    Token(token::TokenArguments),
    /// Shows stickiness, rotation, failover and a restart on loopback.
    Demo,
    /// Shows a running gateway's pools.
    Pools(operate::Pools),
    /// Shows a running gateway's exits, or switches one.
    Exits(operate::Exits),
    /// Shows a running gateway's sessions; ends, moves or extends one.
    Sessions(operate::Sessions),
    /// Shows a running gateway's users.
    Users(operate::Users),
    /// Has a running gateway read its files again.
    Reload(operate::Reload),
    /// Shows a running gateway live: pools, exits, sessions, users, errors.
    Top(top::Top),
    /// Prints a shell's completions.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man {
        /// Writes it into this folder instead, with one of each command.
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum SchemaOf {
    Config,
    Pools,
    Profile,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None => run::run(&arguments.run.into()),
        Some(Command::Run(source)) => run::run(&source.into()),
        Some(Command::Check(source)) => check(&source.into()),
        Some(Command::Schema { of }) => print(&schema(of)),
        Some(Command::HashPassword) => hash_password(),
        Some(Command::Explain(asked)) => explain::explained(&asked),
        Some(Command::Profiles { name }) => profiles(name.as_deref()),
        Some(Command::Token(arguments)) => token::token(&arguments),
        Some(Command::Demo) => wait(demo::demo()),
        Some(Command::Pools(pools)) => wait(operate::pools(pools)),
        Some(Command::Exits(exits)) => wait(operate::exits(exits)),
        Some(Command::Sessions(sessions)) => wait(operate::sessions(sessions)),
        Some(Command::Users(users)) => wait(operate::users(users)),
        Some(Command::Reload(reload)) => wait(operate::reload(reload)),
        Some(Command::Top(top)) => wait(top::top(top)),
        Some(Command::Completions { shell }) => manual::completions(Arguments::command(), shell),
        Some(Command::Man { out }) => manual::man(Arguments::command(), out.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What is wrong with a credential has been printed with its place,
            // and to a program what the gateway said.
            if !error.is::<Mistaken>() && !error.is::<show::Told>() {
                eprintln!("moorgate: {error:#}");
            }
            ExitCode::from(status(&error))
        }
    }
}

/// Runs a command that waits for others.
fn wait(done: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    run::runtime()?.block_on(done)
}

/// What [`main`] exits with.
fn status(error: &anyhow::Error) -> u8 {
    let configuration = error.is::<config::Findings>()
        || error.is::<Mistaken>()
        || error.is::<remote::Misdirected>()
        || matches!(error.downcast_ref(), Some(StartError::Configuration(_)));
    if configuration { BAD_CONFIGURATION } else { FAILED }
}

/// A credential that [`explain`] found wrong.
#[derive(Debug, thiserror::Error)]
#[error("the credential is wrong")]
struct Mistaken;

/// A closed pipe is the reader's choice, not our failure.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

fn check(source: &ConfigSource) -> anyhow::Result<()> {
    let (config, mut warnings) = Config::load(source)?;
    let loaded = config::load_pools(&config)?;
    warnings.extend(loaded.warnings);
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    print(&config::describe(&config, &loaded.pools))
}

fn schema(of: SchemaOf) -> String {
    config::schema(match of {
        SchemaOf::Config => SchemaKind::Config,
        SchemaOf::Pools => SchemaKind::Pools,
        SchemaOf::Profile => SchemaKind::Profile,
    })
}

fn profiles(name: Option<&str>) -> anyhow::Result<()> {
    let Some(name) = name else {
        let lines = config::shipped_texts().map(|(name, title, _)| format!("{name:<14} {title}\n"));
        return print(&lines.collect::<String>());
    };
    let Some((_, _, text)) = config::shipped_texts().find(|(known, ..)| *known == name) else {
        anyhow::bail!("no profile {name} is shipped: moorgate profiles lists those that are");
    };
    print(text)
}

fn hash_password() -> anyhow::Result<()> {
    let secret = if io::stdin().is_terminal() { ask_secret()? } else { read_secret()? };
    anyhow::ensure!(!secret.expose().is_empty(), "the secret is empty");
    print(&format!("{}\n", password::hash(&secret)?))
}

fn read_secret() -> anyhow::Result<Secret> {
    let mut text = String::new();
    io::stdin().take(64 * 1024).read_to_string(&mut text).context("cannot read the secret")?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

/// Asks at the terminal, without echo.
fn ask_secret() -> anyhow::Result<Secret> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    eprint!("Secret: ");
    let shown = tcgetattr(io::stdin())?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
    let mut text = String::new();
    let read = io::stdin().read_line(&mut text);
    tcsetattr(io::stdin(), OptionalActions::Flush, &shown)?;
    eprintln!();
    read.context("cannot read the secret")?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}
