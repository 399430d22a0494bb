//! The web server that requests are for.
//!
//! Owns: what it has seen, and routes for every shape of an answer.
//! Must not know: that there is a gateway.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::client::find;
use super::{PATIENCE, RUNTIME, eventually};

/// A web server on a free port. It dies with this value.
pub struct Origin {
    /// Where it is.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    /// How often each address has asked for `/limited`.
    limited: Mutex<HashMap<IpAddr, u32>>,
    released: watch::Sender<bool>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who sent it: the exit, as seen from here.
    pub peer: SocketAddr,
    /// The head, byte for byte.
    pub head: String,
    /// The body with its framing, byte for byte (of `/sink`: nothing).
    pub body: Vec<u8>,
}

impl Origin {
    /// On 127.0.0.1.
    pub fn start() -> Self {
        Self::at("127.0.0.1".parse().expect("an address"))
    }

    /// On an address.
    pub fn at(ip: IpAddr) -> Self {
        let listener = RUNTIME.block_on(TcpListener::bind((ip, 0))).expect("the origin listens");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            limited: Mutex::default(),
            released: watch::Sender::new(false),
        });
        let task = RUNTIME.spawn(accept(listener, shared.clone())).abort_handle();
        Self { address, shared, task }
    }

    /// A URL here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The latest request.
    #[track_caller]
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// Waits until so many requests are there.
    #[track_caller]
    pub fn wait_count(&self, count: usize) {
        eventually("so many requests reach the origin", PATIENCE, || (self.count() >= count).then_some(()));
    }

    /// Lets every request for `/held` go on, now and from now on.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    /// The request line.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The value of the first field of that name, in any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, peer)) = listener.accept().await {
        let connection = Connection { stream, peer, unread: Vec::new(), shared: shared.clone() };
        tokio::spawn(connection.serve());
    }
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    unread: Vec<u8>,
    shared: Arc<Shared>,
}

impl Connection {
    async fn serve(mut self) -> Option<()> {
        let _ = self.stream.set_nodelay(true);
        loop {
            let end = self.until(b"\r\n\r\n").await?;
            let head: Vec<u8> = self.unread.drain(..end).collect();
            let mut seen =
                Seen { peer: self.peer, head: String::from_utf8_lossy(&head).into_owned(), body: Vec::new() };
            if seen.field("expect").is_some() && seen.line().contains("/continue") {
                self.send("HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            let sink = seen.line().contains("/sink");
            let length = self.read_body(&mut seen, sink).await?;
            self.shared.seen.lock().unwrap().push(seen.clone());
            self.answer(&seen, length).await?;
        }
    }

    async fn answer(&mut self, seen: &Seen, length: usize) -> Option<()> {
        let mut words = seen.line().split(' ');
        let method = words.next()?;
        let target = words.next()?;
        let path = match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => target,
        };
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let route = (parts.next()?, parts.next().unwrap_or_default());
        match route {
            ("ip", _) => self.plain(method, &self.peer.ip().to_string()).await,
            // As a site that has had enough of an address after two requests.
            ("limited", _) => match self.count_limited() {
                1 | 2 => self.plain(method, &self.peer.ip().to_string()).await,
                _ => {
                    let head = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 7\r\n\r\n";
                    self.send(format!("{head}blocked")).await
                }
            },
            ("echo", _) => self.plain(method, &seen.text()).await,
            ("sink", _) => self.plain(method, &length.to_string()).await,
            ("held", _) => {
                let mut released = self.shared.released.subscribe();
                released.wait_for(|released| *released).await.ok()?;
                self.plain(method, "released").await
            }
            ("status", status) => self.send(format!("HTTP/1.1 {status} As Asked\r\n\r\n")).await,
            ("stream", size) => self.stream(size.parse().ok()?).await,
            ("ws", _) => self.upgrade().await,
            ("reset", _) => {
                socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).ok()?;
                None
            }
            (name, _) => {
                self.send(canned(name)).await?;
                // What has no framing ends with the connection.
                if matches!(name, "close" | "http10" | "broken" | "broken-chunks" | "garbage") {
                    return None;
                }
                Some(())
            }
        }
    }

    fn count_limited(&self) -> u32 {
        let mut limited = self.shared.limited.lock().unwrap();
        let count = limited.entry(self.peer.ip()).or_default();
        *count += 1;
        *count
    }

    async fn plain(&mut self, method: &str, text: &str) -> Option<()> {
        let body = if method == "HEAD" { "" } else { text };
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", text.len())).await
    }

    async fn stream(&mut self, size: usize) -> Option<()> {
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")).await?;
        let chunk = vec![b'x'; 64 * 1024];
        let mut left = size;
        while left > 0 {
            let count = left.min(chunk.len());
            self.stream.write_all(&chunk[..count]).await.ok()?;
            left -= count;
        }
        Some(())
    }

    async fn upgrade(&mut self) -> Option<()> {
        self.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            .await?;
        let early = std::mem::take(&mut self.unread);
        self.stream.write_all(&early).await.ok()?;
        let (mut read, mut write) = self.stream.split();
        tokio::io::copy(&mut read, &mut write).await.ok()?;
        None
    }

    /// Reads the body, and gives its length without framing.
    async fn read_body(&mut self, seen: &mut Seen, sink: bool) -> Option<usize> {
        if seen.field("transfer-encoding").is_some() {
            loop {
                let end = self.until(b"\r\n").await?;
                let line: Vec<u8> = self.unread.drain(..end).collect();
                seen.body.extend_from_slice(&line);
                let digits = String::from_utf8_lossy(&line);
                let size = usize::from_str_radix(digits.split(';').next()?.trim(), 16).ok()?;
                if size == 0 {
                    return self.read_trailers(seen).await;
                }
                while self.unread.len() < size + 2 {
                    self.fill().await?;
                }
                seen.body.extend(self.unread.drain(..size + 2));
            }
        }
        let length = seen.field("content-length").map_or(Some(0), |length| length.parse().ok())?;
        let mut left: usize = length;
        while left > 0 {
            if self.unread.is_empty() {
                self.fill().await?;
            }
            let count = self.unread.len().min(left);
            let part = self.unread.drain(..count);
            if !sink {
                seen.body.extend(part);
            }
            left -= count;
        }
        Some(length)
    }

    async fn read_trailers(&mut self, seen: &mut Seen) -> Option<usize> {
        loop {
            let end = self.until(b"\r\n").await?;
            seen.body.extend(self.unread.drain(..end));
            if end == 2 {
                return Some(seen.body.len());
            }
        }
    }

    /// Reads until `mark` has come, and gives where it ends.
    async fn until(&mut self, mark: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = find(&self.unread, mark) {
                return Some(at + mark.len());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Option<()> {
        let count = self.stream.read_buf(&mut self.unread).await.ok()?;
        (count > 0).then_some(())
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) -> Option<()> {
        self.stream.write_all(text.as_ref()).await.ok()
    }
}

/// Answers that are always the same.
fn canned(name: &str) -> &'static str {
    match name {
        "chunked" => {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             5;mark=1\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n"
        }
        "trailers" => {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nhi\r\n0\r\nX-Sum: 42\r\nX-Undeclared: yes\r\nContent-Length: 9\r\n\
             Transfer-Encoding: chunked\r\nMoorgate-Exit: forged\r\nAuthorization: no\r\n\r\n"
        }
        "fields" => {
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nx-Odd-Case: 1\r\nSet-Cookie: b=2\r\n\
             Connection: X-Private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Authenticate: Basic realm=\"x\"\r\nProxy-Connection: close\r\n\
             Moorgate-Exit: forged\r\nMoorgate-Session: moved; expires-in=1\r\nMoorgate-Other: 1\r\n\r\nok"
        }
        "early" => {
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\
             Link: </b.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        }
        "head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nX-Head: 1\r\n\r\n",
        "close" => "HTTP/1.1 200 OK\r\nX-Body: until-close\r\n\r\nto the end",
        "http10" => "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold",
        "broken" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.",
        "broken-chunks" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nten bytes.",
        "garbage" => "SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        "ambiguous" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "challenge" => {
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"evil\"\r\n\
             Content-Length: 0\r\n\r\n"
        }
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    }
}
