//! Plain requests, each client on one connection for as long as it is kept.

use std::io;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{AT_ONCE, Meter, Through, credential, each};
use crate::origin::Service;

/// What a request is for.
#[derive(Clone, Copy)]
pub(crate) enum Request {
    /// So many bytes.
    Get(usize),
    /// To leave so many bytes.
    Post(usize),
}

/// A connection that may carry another request.
type Kept = Option<TcpStream>;

/// Runs so many requests.
pub(crate) async fn run(through: Through, request: Request, all: u64, meter: &mut Meter) {
    meter.begin();
    each(all, AT_ONCE, move |n, kept| one(through, request, n, kept)).await;
    meter.end().await;
}

async fn one(through: Through, request: Request, n: u64, kept: Kept) -> Kept {
    // One that was kept may be closed without a word.
    if let Some(stream) = kept
        && let Ok(next) = exchange(through, request, n, stream).await
    {
        return next;
    }
    let stream = through.connect(Service::Http).await;
    exchange(through, request, n, stream).await.expect("the proxy answers")
}

async fn exchange(through: Through, request: Request, n: u64, mut stream: TcpStream) -> io::Result<Kept> {
    let expected = match request {
        Request::Get(bytes) => bytes,
        Request::Post(_) => 2,
    };
    stream.write_all(&message(through, request, n)).await?;
    let mut bytes = Vec::with_capacity(128 * 1024);
    let end = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(at) = memmem::find(&bytes, b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    assert!(head.get(8..12) == Some(" 200"), "{head}");
    while bytes.len() < end + expected {
        assert!(stream.read_buf(&mut bytes).await? > 0, "the answer broke off");
    }
    let closes = head.contains("connection: close") || head.starts_with("http/1.0");
    Ok((!closes).then_some(stream))
}

fn message(through: Through, request: Request, n: u64) -> Vec<u8> {
    let origin = through.origin(Service::Http);
    let (method, path, length, body) = match request {
        Request::Get(bytes) => ("GET", bytes, String::new(), 0),
        Request::Post(bytes) => ("POST", 0, format!("Content-Length: {bytes}\r\n"), bytes),
    };
    let (whose, credential) = if through.told {
        (format!("http://{origin}"), format!("{}\r\n", credential(&(through.name)(n))))
    } else {
        (String::new(), String::new())
    };
    let head = format!(
        "{method} {whose}/{path} HTTP/1.1\r\nHost: {origin}\r\nUser-Agent: bench/1\r\nAccept: */*\r\n{credential}{length}\r\n"
    );
    let mut message = head.into_bytes();
    message.resize(message.len() + body, b'u');
    message
}
