//! Upstream proxies of our own: they record what they are told and fail as
//! they are told.
//!
//! Owns: the kinds, the moods, the records; where each leaves from.
//! Must not know: SOCKS5's bytes ([`super::socks`]); the gateway.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use super::client::find;
use super::{RUNTIME, own_address, socks};

/// An upstream proxy at an address of its own, from which it also leaves, so
/// that origins can tell which one was used. It dies with this value.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<Listening>>,
}

struct Listening {
    socket: socket2::Socket,
    task: JoinHandle<()>,
}

pub(super) struct Shared {
    kind: Kind,
    /// Its own address.
    pub(super) ip: IpAddr,
    mood: Mutex<Mood>,
    /// User and password, if it wants one.
    pub(super) credential: Option<(String, String)>,
    seen: Mutex<Vec<String>>,
}

enum Kind {
    Http,
    Https { acceptor: TlsAcceptor, pem: String },
    Socks,
}

/// How an upstream behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Serve,
    /// Reads the request, then answers this, then closes.
    Answer(Vec<u8>),
    /// Ends before it answers.
    Break,
    /// Resets before it answers.
    Reset,
    /// Takes the connection and the request, then says nothing.
    Hang,
    /// Answers a SOCKS5 request with this reply.
    Reply(u8),
}

impl Mood {
    /// Answers with this status and an empty body.
    pub fn status(status: u16) -> Self {
        Self::Answer(format!("HTTP/1.1 {status} Upstream Says So\r\nContent-Length: 0\r\n\r\n").into())
    }
}

impl Upstream {
    /// An HTTP proxy.
    pub fn http() -> Self {
        Self::start(Kind::Http, None)
    }

    /// An HTTP proxy that wants a credential.
    pub fn http_with(user: &str, password: &str) -> Self {
        Self::start(Kind::Http, Some((user.to_owned(), password.to_owned())))
    }

    /// An HTTP proxy over TLS, with a certificate of its own.
    pub fn https() -> Self {
        Self::over_tls(None)
    }

    /// The same that wants a credential.
    pub fn https_with(user: &str, password: &str) -> Self {
        Self::over_tls(Some((user.to_owned(), password.to_owned())))
    }

    fn over_tls(credential: Option<(String, String)>) -> Self {
        let ip = own_address();
        let key = rcgen::generate_simple_self_signed([ip.to_string()]).expect("a certificate");
        let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .expect("a TLS configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start_at(ip, Kind::Https { acceptor, pem: key.cert.pem() }, credential)
    }

    /// A SOCKS5 proxy.
    pub fn socks5() -> Self {
        Self::start(Kind::Socks, None)
    }

    /// A SOCKS5 proxy that wants a credential.
    pub fn socks5_with(user: &str, password: &str) -> Self {
        Self::start(Kind::Socks, Some((user.to_owned(), password.to_owned())))
    }

    fn start(kind: Kind, credential: Option<(String, String)>) -> Self {
        Self::start_at(own_address(), kind, credential)
    }

    fn start_at(ip: IpAddr, kind: Kind, credential: Option<(String, String)>) -> Self {
        let shared =
            Arc::new(Shared { kind, ip, mood: Mutex::default(), credential, seen: Mutex::default() });
        let upstream = Self { address: SocketAddr::new(ip, 3128), shared, listening: Mutex::default() };
        upstream.come_back();
        upstream
    }

    /// From now on connections are refused.
    pub fn refuse(&self) {
        let Some(Listening { socket, task }) = self.listening.lock().unwrap().take() else { return };
        // To close it would not do: another test's child may hold it, too, for
        // a moment between fork and exec.
        let _ = socket.shutdown(std::net::Shutdown::Both);
        task.abort();
        let _ = RUNTIME.block_on(task);
    }

    /// Listens (again).
    pub fn come_back(&self) {
        let _entered = RUNTIME.enter();
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(self.address).unwrap_or_else(|error| panic!("{}: {error}", self.address));
        let listener = socket.listen(1024).expect("the upstream listens");
        let socket = socket2::SockRef::from(&listener).try_clone().expect("a descriptor");
        let task = RUNTIME.spawn(accept(listener, self.shared.clone()));
        *self.listening.lock().unwrap() = Some(Listening { socket, task });
    }

    /// Behaves like this from the next request on.
    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// The heads of requests, or the SOCKS5 requests as `[user:password@]host:port`, so far.
    pub fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The latest of them.
    #[track_caller]
    pub fn last(&self) -> String {
        self.seen().pop().expect("the upstream was used")
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// What an origin sees of it.
    pub fn ip(&self) -> String {
        self.address.ip().to_string()
    }

    /// Its certificate (`https` alone).
    pub fn certificate(&self) -> &str {
        match &self.shared.kind {
            Kind::Https { pem, .. } => pem,
            _ => "",
        }
    }

    /// As a `via` with another scheme or a credential in front of its address.
    pub fn via(&self, front: &str) -> String {
        format!("{front}{}", self.address)
    }
}

/// As `via` without a credential.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.shared.kind {
            Kind::Http => "http",
            Kind::Https { .. } => "https",
            Kind::Socks => "socks5",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.refuse();
    }
}

/// A listening socket whose backlog is full: it swallows what is sent to it.
pub struct Blackhole {
    /// Where it is.
    pub address: SocketAddr,
    _listener: socket2::Socket,
    _filling: Vec<socket2::Socket>,
}

impl Blackhole {
    /// Fills a backlog.
    pub fn open() -> Self {
        let stream = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let listener = stream();
        let address = SocketAddr::new(own_address(), 3128);
        listener.bind(&address.into()).expect("a free address");
        listener.listen(0).expect("it listens");
        let filling = (0..4).map(|_| {
            let socket = stream();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        });
        Self { address, _filling: filling.collect(), _listener: listener }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve(stream, shared.clone()));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    if *shared.mood.lock().unwrap() == Mood::Reset {
        let (mut stream, mut byte) = (stream, [0]);
        stream.read_exact(&mut byte).await.ok()?;
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).ok()?;
        return None;
    }
    match &shared.kind {
        Kind::Http => http(stream, &shared).await,
        Kind::Https { acceptor, .. } => http(acceptor.accept(stream).await.ok()?, &shared).await,
        Kind::Socks => socks::serve(stream, &shared).await,
    }
}

/// A connection from the gateway.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Unpin {
    /// The socket underneath.
    fn socket(&self) -> &TcpStream;
}

impl Carrier for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Carrier for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// One CONNECT or any number of absolute-form requests for one target.
async fn http(mut client: impl Carrier, shared: &Shared) -> Option<()> {
    let mut unread = Vec::new();
    let end = loop {
        if let Some(at) = find(&unread, b"\r\n\r\n") {
            break at + 4;
        }
        (client.read_buf(&mut unread).await.ok()? > 0).then_some(())?;
    };
    let head = String::from_utf8_lossy(&unread[..end]).into_owned();
    shared.record(&head);
    shared.behave(&mut client).await?;
    if !shared.accepts(&head) {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        client.write_all(refusal.as_bytes()).await.ok()?;
        return None;
    }
    let target = head.split(' ').nth(1)?;
    let authority = target.trim_start_matches("http://").split('/').next()?;
    let Some(mut far) = shared.reach(authority).await else {
        client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await.ok()?;
        return None;
    };
    if head.starts_with("CONNECT ") {
        // A field, so that nobody counts on a bare answer.
        client.write_all(b"HTTP/1.1 200 OK\r\nX-Upstream: ours\r\n\r\n").await.ok()?;
        unread.drain(..end);
    }
    relay(&mut client, &mut far, unread, shared).await
}

/// Moves bytes both ways, ends and resets with them; heads of later plain
/// requests are recorded, too.
pub(super) async fn relay(
    client: &mut impl Carrier,
    far: &mut TcpStream,
    early: Vec<u8>,
    shared: &Shared,
) -> Option<()> {
    far.write_all(&early).await.ok()?;
    let (mut from_client, mut to_client) = tokio::io::split(&mut *client);
    let (mut from_far, mut to_far) = far.split();
    let up = async {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let count = from_client.read(&mut chunk).await?;
            if count == 0 {
                return to_far.shutdown().await;
            }
            if chunk[..count].windows(4).any(|window| window == b"ttp:") {
                shared.record(&String::from_utf8_lossy(&chunk[..count]));
            }
            to_far.write_all(&chunk[..count]).await?;
        }
    };
    let down = async {
        tokio::io::copy(&mut from_far, &mut to_client).await?;
        to_client.shutdown().await
    };
    let done = tokio::try_join!(up, down);
    if done.is_err() {
        for socket in [client.socket(), &*far] {
            let _ = socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
        }
    }
    done.ok().map(|_| ())
}

impl Shared {
    pub(super) fn record(&self, what: &str) {
        self.seen.lock().unwrap().push(what.to_owned());
    }

    pub(super) fn mood(&self) -> Mood {
        self.mood.lock().unwrap().clone()
    }

    /// Fails as the mood is; something: goes on.
    pub(super) async fn behave(&self, client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<()> {
        match self.mood() {
            Mood::Serve | Mood::Reply(_) | Mood::Reset => Some(()),
            Mood::Break => None,
            Mood::Answer(answer) => {
                client.write_all(&answer).await.ok()?;
                let _ = client.shutdown().await;
                None
            }
            Mood::Hang => {
                // Until the other side is done.
                let _ = tokio::io::copy(client, &mut tokio::io::sink()).await;
                None
            }
        }
    }

    fn accepts(&self, head: &str) -> bool {
        let Some((user, password)) = &self.credential else { return true };
        let wanted = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        head.contains(&format!("Proxy-Authorization: Basic {wanted}\r\n"))
    }

    /// Connects to the target from the upstream's own address.
    pub(super) async fn reach(&self, target: &str) -> Option<TcpStream> {
        let address = tokio::net::lookup_host(target).await.ok()?.find(SocketAddr::is_ipv4)?;
        let socket = TcpSocket::new_v4().ok()?;
        socket.bind(SocketAddr::new(self.ip, 0)).ok()?;
        socket.connect(address).await.ok()
    }
}
