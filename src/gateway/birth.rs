//! How this process came to be, and how another of its kind is started.
//!
//! Owns: what was handed to it at its start ([`Birth`]): sockets by a service
//! manager, or all of it by the process whose place it takes; its program and
//! arguments ([`Image`]).
//! Must not know: what is done with them.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::successor::Predecessor;
use crate::config::env::{self, Environment, Start};
use crate::net::channel::Channel;
use crate::net::handover::VERSION;
use crate::net::inherit::Inherited;
use crate::net::sockopt;
use crate::net::systemd::Manager;

/// What a gateway begins with.
#[derive(Default)]
pub(crate) struct Birth {
    /// Sockets that it need not bind.
    pub(super) sockets: Inherited,
    /// Whose place it takes.
    pub(super) predecessor: Option<Predecessor>,
    /// Who wants to know how it does.
    pub(super) manager: Arc<Manager>,
    /// How often, at least.
    pub(super) watchdog: Option<Duration>,
    /// What to start when it is to be replaced.
    pub(super) image: Option<Image>,
}

impl Birth {
    /// Of this process, as its parent left it. To be called once.
    ///
    /// # Errors
    /// What was handed over is not what it should be.
    pub(crate) async fn of_process() -> Result<Self, StartError> {
        let env = Environment::of_process();
        let start = Start::read(&env, std::process::id());
        let failed = |what| move |source| StartError::System { what, source };
        let mut birth = Self { watchdog: start.watchdog, image: Image::of_process(&env), ..Self::default() };
        if let Some(address) = &start.manager {
            // A manager that cannot be told is no reason not to serve.
            match Manager::at(address) {
                Ok(manager) => birth.manager = Arc::new(manager),
                Err(error) => tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)"),
            }
        }
        if let Some(version) = &start.upgrade {
            if version != VERSION {
                let why = format!("the old process speaks version {version}, this one {VERSION}: restart it");
                return Err(StartError::Upgrade(why));
            }
            let channel = Channel::from_stdin().map_err(failed("the old process cannot be spoken to"))?;
            let (predecessor, sockets) = Predecessor::greet(channel).await?;
            (birth.predecessor, birth.sockets) = (Some(predecessor), sockets);
            return Ok(birth);
        }
        let count = u16::try_from(start.passed.len()).unwrap_or(u16::MAX);
        if count > 0 {
            let fds = sockopt::passed(count).map_err(failed("the passed sockets (LISTEN_FDS)"))?;
            for (fd, name) in fds.into_iter().zip(start.passed) {
                let name = Some(name).filter(|name| !name.is_empty());
                birth.sockets.add(fd, None, name).map_err(failed("a passed socket (LISTEN_FDS)"))?;
            }
        }
        Ok(birth)
    }
}

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) program: PathBuf,
    arguments: Vec<OsString>,
}

impl Image {
    /// As this process was started. The path is the one that was asked for,
    /// not where its links lead: an upgrade may change them.
    fn of_process(env: &Environment) -> Option<Self> {
        let mut arguments = std::env::args_os();
        let asked = PathBuf::from(arguments.next()?);
        let itself = std::env::current_exe().ok()?;
        let is_it = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == itself);
        let program = if asked.components().count() > 1 {
            std::path::absolute(&asked).ok().filter(is_it)
        } else {
            let folders = env.variable("PATH").unwrap_or_default();
            folders.split(':').map(|folder| Path::new(folder).join(&asked)).find(is_it)
        };
        Some(Self { program: program.unwrap_or(itself), arguments: arguments.collect() })
    }

    /// Starts it anew, to take this process's place.
    pub(super) fn start(&self) -> io::Result<(Channel, Child)> {
        let (ours, theirs) = Channel::pair()?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env(env::UPGRADE, VERSION);
        for name in env::OF_ONE_PROCESS {
            command.env_remove(name);
        }
        let child = command.stdin(Stdio::from(theirs)).spawn()?;
        // With the command goes our copy of the other end.
        drop(command);
        Ok((ours, child))
    }
}
