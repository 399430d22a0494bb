//! A link that can be cut: a TCP proxy between a gateway and its store.
//!
//! Owns: what passes and when nothing does.
//! Must not know: what is said over it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::RUNTIME;

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// All passes.
    Whole,
    /// Nothing passes, and nobody says so.
    Silent,
    /// Connections end, and new ones do at once.
    Broken,
}

/// The way to one address. It ends with this value.
pub struct Cut {
    /// Where to connect instead.
    pub address: SocketAddr,
    link: watch::Sender<Link>,
    task: AbortHandle,
}

impl Cut {
    /// Before this address.
    pub fn before(target: SocketAddr) -> Self {
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).expect("the link listens");
        let address = listener.local_addr().expect("an address");
        let (link, state) = watch::channel(Link::Whole);
        let task = RUNTIME.spawn(accept(listener, target, state)).abort_handle();
        Self { address, link, task }
    }

    /// It is so from now on.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.task.abort();
        self.set(Link::Broken);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, link: watch::Receiver<Link>) {
    while let Ok((client, _)) = listener.accept().await {
        let link = link.clone();
        tokio::spawn(async move {
            if *link.borrow() == Link::Broken {
                return;
            }
            let Ok(server) = TcpStream::connect(target).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((a, b), (c, d)) = (client.into_split(), server.into_split());
            tokio::select! {
                () = pump(a, d, link.clone()) => {}
                () = pump(c, b, link) => {}
            }
        });
    }
}

/// Until one side ends or the link breaks.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: watch::Receiver<Link>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let state = *link.borrow_and_update();
        match state {
            Link::Broken => return,
            Link::Silent if link.changed().await.is_err() => return,
            Link::Silent => continue,
            Link::Whole => {}
        }
        let read = tokio::select! {
            changed = link.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut buffer) => read,
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(len) if to.write_all(&buffer[..len]).await.is_err() => return,
            Ok(_) => {}
        }
    }
}
