//! Giving way to a new process.
//!
//! Owns: the old process's side of an upgrade (`net::handover` has the
//! messages), and that it serves on as before if anything goes wrong.
//! Must not know: how the new process starts.
//!
//! Until the new process has said that its files are right and its sockets are
//! bound, nothing changes. From then until it accepts, for as long as it takes
//! to open the state folder, nobody accepts: clients wait with the kernel.
//! Tunnels and requests of known sessions go on all the time.

use std::os::fd::AsFd;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Inner;
use super::birth::Image;
use super::listeners::Socket;
use crate::core::bind::Bind;
use crate::net::channel::{Channel, FDS_MAX};
use crate::net::handover::{ToNew, ToOld};

/// How long the new process may take to read its files and bind its sockets.
const TO_START: Duration = Duration::from_secs(60);
/// How long it may take to open the state folder: that long, at most, new
/// connections and new sessions wait.
const TO_OPEN: Duration = Duration::from_secs(30);

/// Why the new process does not come to serve.
struct Failed {
    why: String,
    /// It has ended by itself.
    fell: bool,
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self { why, fell: false }
    }
}

impl Inner {
    /// Starts the new process and gives way to it. The log says what came of
    /// it.
    pub(super) async fn upgrade(self: Arc<Self>) {
        let drain = &self.shared.drain;
        let Ok(_alone) = self.upgrading.try_lock() else {
            tracing::warn!("an upgrade is under way already");
            return;
        };
        let Some(image) = &self.image else {
            tracing::error!("not upgraded: this gateway was not started by the command line");
            return;
        };
        if drain.is_begun() || drain.is_handed_over() {
            tracing::warn!("not upgraded: this process is on its way out");
            return;
        }
        tracing::info!(program = %image.program.display(), "upgrading");
        if let Err(why) = self.replace(image).await {
            tracing::error!(why, "not upgraded: this process goes on");
        }
    }

    async fn replace(self: &Arc<Self>, image: &Image) -> Result<(), String> {
        let started = image.start();
        let (channel, child) =
            started.map_err(|error| format!("{} cannot be started: {error}", image.program.display()))?;
        let sockets: Vec<_> = self.sockets.iter().filter(|socket| socket.is_open()).collect();
        if let Err(failed) = self.make_ready(&channel, &sockets).await {
            return Err(end(child, failed).await);
        }
        match self.give_state(&channel, &sockets).await {
            Ok(given) => self.give_way(channel, child, given.into()).await,
            Err(failed) => {
                // The folder's lock must be free before it is taken back.
                let why = end(child, failed).await;
                self.shared.store.take_back();
                self.take_day_back();
                self.shared.drain.resume();
                return Err(why);
            }
        }
        Ok(())
    }

    /// Sends the listening sockets, and waits until the new process has made
    /// of its files what it needs.
    async fn make_ready(&self, channel: &Channel, sockets: &[&Socket]) -> Result<(), Failed> {
        let pieces = sockets.chunks(FDS_MAX).count();
        for (at, piece) in sockets.chunks(FDS_MAX).enumerate() {
            let open: Vec<_> = piece.iter().filter_map(|socket| socket.open()).collect();
            let fds: Vec<_> = open.iter().map(|socket| socket.as_fd()).collect();
            let wanted = piece.iter().map(|socket| (socket.wanted.clone(), socket.name.clone())).collect();
            let message = ToNew::Sockets { wanted, last: at + 1 == pieces };
            self.within(TO_START, channel.send(&message, b"", &fds)).await?.map_err(|e| e.to_string())?;
        }
        match self.hear(TO_START, channel).await? {
            ToOld::Ready => Ok(()),
            other => Err(format!("the new process says {other:?} out of turn").into()),
        }
    }

    /// Lets the new process have the state folder, and waits until it serves:
    /// the sockets that it serves at.
    async fn give_state(&self, channel: &Channel, sockets: &[&Socket]) -> Result<Vec<Bind>, Failed> {
        self.shared.drain.pause();
        self.shared.store.let_go().await.map_err(|fault| fault.to_string())?;
        self.let_day_go().await;
        channel.send(&ToNew::State, b"", &[]).await.map_err(|error| error.to_string())?;
        match self.hear(TO_OPEN, channel).await? {
            ToOld::Serving { left } => {
                let numbered = (0u32..).zip(sockets).filter(|(number, _)| !left.contains(number));
                Ok(numbered.map(|(_, socket)| socket.at.clone()).collect())
            }
            other @ ToOld::Ready => Err(format!("the new process says {other:?} out of turn").into()),
        }
    }

    /// The new process serves. This one ends with its last connection.
    async fn give_way(self: &Arc<Self>, channel: Channel, child: Child, given: Arc<[Bind]>) {
        let (pid, channel) = (child.id(), Arc::new(channel));
        // In this order: whoever learns that something was handed over finds
        // the way there.
        self.shared.passage.open(channel.clone(), given.clone());
        self.shared.drain.hand_over(given);
        self.shared.store.hand_over();
        self.manager.is_now(pid);
        tracing::info!(pid, "upgraded: the new process serves, this one ends with its last connection");
        // It is told so: if it does not hear it, it is gone.
        let _ = channel.send(&ToNew::Main, b"", &[]).await;
        // For as long as we are its parent.
        drop(tokio::task::spawn_blocking(move || reap(child)));
        tokio::spawn(self.clone().end_with_last());
    }

    async fn hear(&self, time: Duration, channel: &Channel) -> Result<ToOld, Failed> {
        match self.within(time, channel.receive::<ToOld>()).await? {
            Ok(Some(message)) => Ok(message.head),
            Ok(None) => Err(Failed { why: "the new process ended before it served".to_owned(), fell: true }),
            Err(error) => Err(format!("the new process is not understood: {error}").into()),
        }
    }

    /// What is waited for, unless it takes too long or this process is told
    /// to end.
    async fn within<T>(&self, time: Duration, what: impl Future<Output = T>) -> Result<T, String> {
        tokio::select! {
            biased;
            () = self.shared.drain.begun() => Err("this process was told to end meanwhile".to_owned()),
            done = timeout(time, what) => {
                done.map_err(|_| format!("the new process did not get on within {} s", time.as_secs()))
            }
        }
    }

    /// Ends when every tunnel and request has; a drain that begins meanwhile
    /// ends it in its own way.
    async fn end_with_last(self: Arc<Self>) {
        tokio::select! {
            biased;
            () = self.shared.drain.begun() => return,
            () = self.shared.drain.all_gone() => {}
        }
        self.shared.store.close().await;
        tracing::info!("stopped: the new process has taken over");
        self.ended.cancel();
    }
}

/// Ends a new process that is not to serve; why it is not, with how it ended.
async fn end(mut child: Child, failed: Failed) -> String {
    let Failed { why, fell } = failed;
    let ended = tokio::task::spawn_blocking(move || {
        // One that has fallen has an exit status of its own.
        for _ in 0..if fell { 100 } else { 0 } {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // It may be gone already.
        let _ = child.kill();
        child.wait().ok()
    });
    match ended.await {
        Ok(Some(status)) => format!("{why} ({status})"),
        _ => why,
    }
}

fn reap(mut child: Child) {
    if let Ok(status) = child.wait() {
        tracing::warn!(%status, "the new process has ended");
    }
}
