//! Taking another process's place.
//!
//! Owns: the new process's side of an upgrade (`net::handover` has the
//! messages): sockets first, then the state folder, then clients.
//! Must not know: what the old process does meanwhile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::{Inner, StartError};
use crate::core::bind::Bind;
use crate::net::channel::{Channel, Message};
use crate::net::handover::{ToNew, ToOld};
use crate::net::inherit::Inherited;
use crate::net::listen;
use crate::net::wire::Wire;
use crate::serve::{self, Door};

/// The process whose place this one takes.
pub(super) struct Predecessor(Channel);

impl Predecessor {
    /// Gets the listening sockets.
    pub(super) async fn greet(channel: Channel) -> Result<(Self, Inherited), StartError> {
        let mut sockets = Inherited::default();
        loop {
            let Message { head, fds, .. } = next(&channel).await?;
            let ToNew::Sockets { wanted, last } = head else { return Err(unexpected(&head)) };
            if wanted.len() != fds.len() {
                return Err(StartError::Upgrade("a listening socket did not arrive".to_owned()));
            }
            for (fd, (wanted, name)) in fds.into_iter().zip(wanted) {
                let added = sockets.add(fd, Some(wanted), Some(name));
                added.map_err(|source| StartError::System { what: "a listening socket", source })?;
            }
            if last {
                return Ok((Self(channel), sockets));
            }
        }
    }

    /// All is ready but the state folder: waits until that is free.
    ///
    /// # Errors
    /// The old process has thought better of it, and serves on.
    pub(super) async fn state(&self) -> Result<(), StartError> {
        self.say(&ToOld::Ready).await?;
        match next(&self.0).await?.head {
            ToNew::State => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// This process serves, but at none of these sockets.
    ///
    /// # Errors
    /// The old process is gone.
    pub(super) async fn serving(&self, left: Vec<u32>) -> Result<(), StartError> {
        self.say(&ToOld::Serving { left }).await
    }

    async fn say(&self, what: &ToOld) -> Result<(), StartError> {
        let said = self.0.send(what, b"", &[]).await;
        said.map_err(|source| StartError::System { what: "the old process cannot be told", source })
    }

    /// Takes over its clients until it is gone.
    pub(super) async fn clients(self, inner: Arc<Inner>, doors: HashMap<Bind, Arc<Door>>) {
        // Should this process be replaced as well, it stays until the last
        // client has come through it.
        let drain = inner.shared.drain.clone();
        let _stays = drain.guard();
        let mut told = false;
        loop {
            let received = tokio::select! {
                biased;
                () = drain.begun() => break,
                received = self.0.receive::<ToNew>() => received,
            };
            match received {
                Ok(Some(Message { head: ToNew::Main, .. })) => {
                    told = true;
                    inner.is_service();
                }
                Ok(Some(Message { head: ToNew::Client { at, peer, first }, bytes, fds })) => {
                    if let Some(door) = doors.get(&at) {
                        adopt(&inner, door.clone(), (peer, first), bytes, fds);
                    }
                }
                Ok(Some(Message { head, .. })) => tracing::warn!(?head, "the old process says too much"),
                Ok(None) => break,
                Err(error) => tracing::warn!(%error, "the old process is not understood"),
            }
        }
        if !told {
            // It has fallen before it could say so.
            inner.is_service();
        }
    }
}

fn adopt(
    inner: &Arc<Inner>,
    door: Arc<Door>,
    (peer, first): (SocketAddr, bool),
    bytes: Vec<u8>,
    fds: Vec<std::os::fd::OwnedFd>,
) {
    for fd in fds {
        let tcp = std::net::TcpStream::from(fd);
        // A socket's flags went with it: it does not block.
        let Ok(tcp) = TcpStream::from_std(tcp) else { continue };
        let (shared, door) = (inner.shared.clone(), door.clone());
        let wire = Wire::from(tcp).with_unread(bytes.clone().into());
        let go_on = move |wire, peer| serve::go_on(shared, door, wire, peer, first);
        listen::spawn(go_on, wire, peer, &inner.shared.drain);
    }
}

async fn next(channel: &Channel) -> Result<Message<ToNew>, StartError> {
    match channel.receive().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(StartError::Upgrade("the old process has given up, or is gone".to_owned())),
        Err(source) => Err(StartError::System { what: "the old process is not understood", source }),
    }
}

fn unexpected(message: &ToNew) -> StartError {
    StartError::Upgrade(format!("the old process says {message:?} out of turn"))
}
