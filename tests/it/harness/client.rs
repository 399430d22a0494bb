//! A client that sends exactly what it is told and reads what comes.
//!
//! Owns: one connection, an answer's head and body by RFC 9112's framing.
//! Must not know: what a proxy is asked for; [`super::request`] writes that.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// A connection to the gateway.
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer: head and body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The status.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The fields as they came.
    pub fields: Vec<(String, String)>,
    /// The body, chunks taken out.
    pub body: Vec<u8>,
    /// What came behind the last chunk.
    pub trailers: Vec<(String, String)>,
    /// Whether the body ended as its framing said.
    pub whole: bool,
}

impl Client {
    /// Connects, or fails the test.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// Connects.
    pub fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        Self::over(stream)
    }

    /// Over a connection that is there.
    pub fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Sends these bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).expect("the gateway takes what is sent");
        self
    }

    /// Sends these bytes if the other side takes them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The next answer to a request with this method.
    #[track_caller]
    pub fn answer(&mut self, method: &str) -> Answer {
        self.try_answer(method).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// The next answer, if there is one.
    pub fn try_answer(&mut self, method: &str) -> std::io::Result<Answer> {
        let mut answer = self.try_head()?;
        self.read_body(method, &mut answer);
        Ok(answer)
    }

    /// The next head alone: of a 1xx, or where the test reads the body.
    #[track_caller]
    pub fn head(&mut self) -> Answer {
        self.try_head().unwrap_or_else(|error| panic!("no head: {error}"))
    }

    fn try_head(&mut self) -> std::io::Result<Answer> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill()? == 0 {
                let got = String::from_utf8_lossy(&self.unread).into_owned();
                return Err(std::io::Error::new(ErrorKind::UnexpectedEof, format!("end after {got:?}")));
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        Ok(Answer::parse(&String::from_utf8_lossy(&head)))
    }

    fn read_body(&mut self, method: &str, answer: &mut Answer) {
        let tunnel = method == "CONNECT" && answer.status == 200;
        if method == "HEAD" || tunnel || matches!(answer.status, 100..200 | 204 | 304) {
            return;
        }
        if answer.has("transfer-encoding", "chunked") {
            self.read_chunks(answer);
        } else if let Some(length) = answer.field("content-length") {
            let length: usize = length.parse().expect("a length");
            (answer.body, answer.whole) = self.up_to(length);
        } else {
            answer.body = self.rest();
        }
    }

    fn read_chunks(&mut self, answer: &mut Answer) {
        answer.whole = false;
        while let Some(line) = self.line() {
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).expect("a chunk's size");
            if size == 0 {
                while let Some(line) = self.line() {
                    if line.is_empty() {
                        answer.whole = true;
                        return;
                    }
                    answer.trailers.push(pair(&line));
                }
                return;
            }
            let (data, whole) = self.up_to(size);
            answer.body.extend(data);
            if !whole || self.line().is_none() {
                return;
            }
        }
    }

    /// A line without its end; `None` where the connection ends first.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.fill().unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The rest of the next line that begins so, as of a stream of events.
    /// Sizes and ends of chunks are lines of their own.
    #[track_caller]
    pub fn line_of(&mut self, start: &str) -> String {
        loop {
            if let Some(at) = find(&self.unread, b"\n") {
                let line: Vec<u8> = self.unread.drain(..=at).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if let Some(rest) = line.strip_prefix(start) {
                    return rest.to_owned();
                }
            } else if self.fill().expect("more of the stream") == 0 {
                panic!("the stream ended");
            }
        }
    }

    fn up_to(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.unread.len() < length {
            if self.fill().unwrap_or(0) == 0 {
                return (std::mem::take(&mut self.unread), false);
            }
        }
        (self.unread.drain(..length).collect(), true)
    }

    /// Exactly so many bytes.
    #[track_caller]
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        let (bytes, whole) = self.up_to(length);
        assert!(whole, "{} of {length} bytes came: {:?}", bytes.len(), String::from_utf8_lossy(&bytes));
        bytes
    }

    /// A byte each way between here and there: the tunnel stands.
    #[track_caller]
    pub fn echo_through(&mut self, far: &mut Self) {
        self.send("?");
        assert_eq!(far.exactly(1), b"?");
        far.send("!");
        assert_eq!(self.exactly(1), b"!");
    }

    /// A second hand on the connection, to write while this one reads.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a descriptor")
    }

    /// Everything until the other side ends, well or not.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill().unwrap_or(0) > 0 {}
        std::mem::take(&mut self.unread)
    }

    /// Waits until the other side is done, and says how: `Ok` is an end,
    /// an error a reset (or that nothing happened).
    pub fn end(&mut self) -> std::io::Result<()> {
        while self.fill()? > 0 {}
        Ok(())
    }

    /// Nothing comes and nothing ends for this long.
    #[track_caller]
    pub fn stays_silent(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let got = self.fill();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let kind = got.map_err(|error| error.kind());
        assert!(matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "not silent: {kind:?}");
    }

    /// No more bytes from here; the other direction goes on.
    pub fn half_close(&mut self) -> &mut Self {
        self.stream.shutdown(Shutdown::Write).expect("half-close");
        self
    }

    /// Ends with a reset.
    pub fn reset(self) {
        let socket = socket2::Socket::from(self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("linger");
    }

    /// Our own end of the connection.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("an address")
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = self.stream.read(&mut chunk)?;
        self.unread.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

impl Answer {
    fn parse(head: &str) -> Self {
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let status_line = lines.next().unwrap_or_default();
        let mut parts = status_line.splitn(3, ' ');
        let version = parts.next().unwrap_or_default().to_owned();
        let status = parts.next().and_then(|status| status.parse().ok());
        Self {
            version,
            status: status.unwrap_or_else(|| panic!("no status line: {head:?}")),
            reason: parts.next().unwrap_or_default().to_owned(),
            fields: lines.map(pair).collect(),
            body: Vec::new(),
            trailers: Vec::new(),
            whole: true,
        }
    }

    /// The value of the first field of that name, in any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Whether the field lists this token.
    pub fn has(&self, name: &str, token: &str) -> bool {
        self.field(name).is_some_and(|list| list.split(',').any(|one| one.trim().eq_ignore_ascii_case(token)))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `Moorgate-Error`, or nothing.
    pub fn code(&self) -> &str {
        self.field("moorgate-error").unwrap_or_default()
    }

    /// `Moorgate-Exit`, as `pool/id`.
    #[track_caller]
    pub fn exit(&self) -> String {
        self.field("moorgate-exit").unwrap_or_else(|| panic!("no exit named: {self:?}")).to_owned()
    }

    /// The exit's address as announced.
    pub fn address(&self) -> Option<&str> {
        self.field("moorgate-exit-address")
    }

    /// `new`, `held` or `moved`; empty without a session.
    pub fn news(&self) -> &str {
        self.field("moorgate-session").and_then(|value| value.split(';').next()).unwrap_or_default()
    }

    /// A parameter of `Moorgate-Session`, such as `expires-in`.
    pub fn session(&self, name: &str) -> Option<u64> {
        let parameters = self.field("moorgate-session")?.split(';').skip(1);
        let mut pairs = parameters.filter_map(|one| one.trim().split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok())
    }

    /// The seconds of `Retry-After`.
    pub fn retry_after(&self) -> Option<u64> {
        self.field("retry-after")?.parse().ok()
    }

    /// The sentence of a failure's problem document.
    #[track_caller]
    pub fn detail(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no problem document ({error}): {self:?}"));
        problem["detail"].as_str().expect("a detail").to_owned()
    }

    /// It is a success; returns itself for more.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{} {}\n{}", self.reason, self.code(), self.text());
        self
    }

    /// It is this failure; returns itself for more.
    #[track_caller]
    pub fn fails(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code()), (status, code), "{}\n{}", self.reason, self.text());
        self
    }
}

fn pair(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
    (name.to_owned(), value.trim().to_owned())
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
