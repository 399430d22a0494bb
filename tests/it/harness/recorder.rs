//! A peer that keeps every byte it is sent, and says what it is told.
//!
//! Owns: who connected, what came on each connection, how it is answered.
//! Must not know: HTTP, but for the empty line that ends a head.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::client::find;
use super::{PATIENCE, RUNTIME, eventually};

/// A listener on a free port. It dies with this value.
pub struct Recorder {
    /// Where it is.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Default)]
struct Shared {
    /// Bytes and whether they ended, for each connection.
    seen: Mutex<Vec<(Vec<u8>, bool)>>,
    says: Mutex<Vec<u8>>,
    /// Whether it closes behind what it says.
    closes: bool,
}

impl Recorder {
    /// Says nothing.
    pub fn start() -> Self {
        Self::run(Shared::default())
    }

    /// Says this once a head has come, and each time another one has.
    pub fn answering(says: impl Into<Vec<u8>>) -> Self {
        Self::run(Shared { says: Mutex::new(says.into()), ..Shared::default() })
    }

    /// Says this once a head has come, and closes.
    pub fn parting(says: impl Into<Vec<u8>>) -> Self {
        Self::run(Shared { says: Mutex::new(says.into()), closes: true, ..Shared::default() })
    }

    fn run(shared: Shared) -> Self {
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).expect("the recorder listens");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(shared);
        let task = RUNTIME.spawn(accept(listener, shared.clone())).abort_handle();
        Self { address, shared, task }
    }

    /// Says something else from the next head on.
    pub fn set(&self, says: impl Into<Vec<u8>>) {
        *self.shared.says.lock().unwrap() = says.into();
    }

    /// A URL here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What came on each connection.
    pub fn seen(&self) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// How many connections there were.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// Waits until what came on the latest connection satisfies this, and
    /// gives it.
    #[track_caller]
    pub fn wait(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        eventually(what, PATIENCE, || self.seen().pop().filter(|seen| holds(seen)))
    }

    /// Waits until the latest connection has ended, well or not, and gives
    /// all that came.
    #[track_caller]
    pub fn wait_end(&self) -> String {
        eventually("the recorder's connection ends", PATIENCE, || {
            let seen = self.shared.seen.lock().unwrap();
            let (bytes, ended) = seen.last()?;
            ended.then(|| String::from_utf8_lossy(bytes).into_owned())
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let at = {
            let mut seen = shared.seen.lock().unwrap();
            seen.push((Vec::new(), false));
            seen.len() - 1
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            record(stream, &shared, at).await;
            shared.seen.lock().unwrap()[at].1 = true;
        });
    }
}

async fn record(mut stream: TcpStream, shared: &Shared, at: usize) -> Option<()> {
    let mut unread = Vec::new();
    loop {
        let before = unread.len();
        if stream.read_buf(&mut unread).await.ok()? == 0 {
            return None;
        }
        shared.seen.lock().unwrap()[at].0.extend_from_slice(&unread[before..]);
        while let Some(end) = find(&unread, b"\r\n\r\n") {
            unread.drain(..end + 4);
            let says = shared.says.lock().unwrap().clone();
            stream.write_all(&says).await.ok()?;
            if shared.closes {
                return stream.shutdown().await.ok();
            }
        }
    }
}
