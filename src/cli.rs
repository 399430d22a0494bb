//! The command line.
//!
//! Owns: arguments, what is printed, the exit status.
//! Must not know: requests.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::admit::password;
use crate::admit::users::Users;
use crate::clock::SystemClock;
use crate::config::{self, Config, ConfigSource, SchemaKind};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::secret::Secret;
use crate::gateway::{self, StartError};

mod demo;
mod explain;
mod run;
mod token;

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
        Self { config: source.config, pools: source.pools, listen: source.listen }
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
    Explain {
        /// The configuration file, for users, pools and bounds.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// As in a proxy URL.
        #[arg(value_name = "USERNAME[:PASSWORD]", allow_hyphen_values = true)]
        credential: String,
    },
    /// Makes a token (JWT) for a user, or a key to sign tokens with.
    Token(token::TokenArguments),
    /// Shows stickiness, rotation, failover and a restart on loopback.
    Demo,
}

#[derive(Clone, Copy, ValueEnum)]
enum SchemaOf {
    Config,
    Pools,
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
        Some(Command::Explain { config, json, credential }) => explained(config, json, &credential),
        Some(Command::Token(arguments)) => token::token(&arguments),
        Some(Command::Demo) => run::runtime().and_then(|runtime| runtime.block_on(demo::demo())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What is wrong with a credential has been printed with its place.
            if !error.is::<Mistaken>() {
                eprintln!("moorgate: {error:#}");
            }
            ExitCode::from(status(&error))
        }
    }
}

/// What [`main`] exits with.
fn status(error: &anyhow::Error) -> u8 {
    let configuration = error.is::<config::Findings>()
        || error.is::<Mistaken>()
        || matches!(error.downcast_ref(), Some(StartError::Configuration(_)));
    if configuration { BAD_CONFIGURATION } else { FAILED }
}

/// A credential that [`explained`] found wrong.
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
    })
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

fn explained(config: Option<PathBuf>, json: bool, credential: &str) -> anyhow::Result<()> {
    let known = match config {
        None => None,
        Some(file) => {
            let (config, _) = Config::load(&ConfigSource { config: Some(file), ..ConfigSource::default() })?;
            let pools = config::load_pools(&config)?.pools;
            let accounts = config.users.iter().map(config::User::account).collect();
            if let Some(fault) = wrong_secret(&config, credential)? {
                return mistaken(&explain::Wrong::of_secret(credential, fault), json);
            }
            Some(explain::Known { accounts, pools, bounds: config.bounds() })
        }
    };
    match explain::explain(credential, known.as_ref()) {
        Ok(meaning) if json => print(&format!("{:#}\n", meaning.json())),
        Ok(meaning) => print(&meaning.text()),
        Err(wrong) => mistaken(&wrong, json),
    }
}

fn mistaken(wrong: &explain::Wrong, json: bool) -> anyhow::Result<()> {
    print(&if json { format!("{:#}\n", wrong.json()) } else { wrong.text() })?;
    Err(Mistaken.into())
}

/// What the gateway would say of a credential's secret, where it has one.
fn wrong_secret(config: &Config, credential: &str) -> anyhow::Result<Option<Fault>> {
    if !credential.contains(':') {
        return Ok(None);
    }
    let users = Users::new(0, Arc::default(), Arc::new(SystemClock::new()));
    users.replace(&gateway::entries(config), config.tokens.as_ref());
    let field = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credential));
    let here = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    let proven = run::runtime()?.block_on(users.prove(Some(field.as_bytes()), here));
    Ok(proven.err().filter(|fault| fault.code() == Code::AuthFailed))
}
