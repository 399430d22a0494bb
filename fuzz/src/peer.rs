//! hyper as another reader of the same bytes.
//!
//! Owns: driving its server and its client over bytes that are all there,
//! without a runtime.
//! Must not know: what our reader makes of them.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, Uri};

/// A request as hyper reads it.
pub struct Asked {
    pub method: String,
    pub uri: Uri,
    pub fields: HeaderMap,
    /// `None`: it is refused, or not whole.
    pub body: Option<Vec<u8>>,
}

/// A response as hyper reads it.
pub struct Answered {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Option<Vec<u8>>,
}

/// All requests that hyper reads out of these bytes.
pub fn requests(bytes: &[u8]) -> Vec<Asked> {
    let seen = RefCell::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
        let method = parts.method.to_string();
        seen.borrow_mut().push(Asked { method, uri: parts.uri, fields: parts.headers, body });
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let wire = Script { bytes, written: Rc::new(Cell::new(true)) };
    let served = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .max_headers(200)
        .serve_connection(wire, service);
    drive(served);
    seen.into_inner()
}

/// The response that hyper reads out of these bytes as the answer to a GET, or
/// a HEAD. `None`: it is refused.
pub fn response(bytes: &[u8], head: bool) -> Option<Answered> {
    let told = Cell::new(None);
    let exchange = async {
        let wire = Script { bytes, written: Rc::new(Cell::new(false)) };
        let (mut sender, connection) =
            hyper::client::conn::http1::Builder::new().max_headers(200).handshake(wire).await.ok()?;
        let method = if head { "HEAD" } else { "GET" };
        let request = Request::builder().method(method).uri("/").header("host", "a");
        let request = request.body(Empty::<Bytes>::new()).ok()?;
        let answered = async {
            let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
            let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
            Some(Answered { status: parts.status.as_u16(), fields: parts.headers, body })
        };
        told.set(both(connection, answered).await);
        Some(())
    };
    drive(exchange);
    told.into_inner()
}

/// Polls the second to its end, and the first beside it.
async fn both<T>(side: impl Future, main: impl Future<Output = T>) -> T {
    let (mut side, mut main) = (pin!(side), pin!(main));
    let mut over = false;
    std::future::poll_fn(|cx| {
        over = over || side.as_mut().poll(cx).is_ready();
        main.as_mut().poll(cx)
    })
    .await
}

/// All bytes are there, so whatever still waits after many turns waits for
/// ever.
fn drive(future: impl Future) {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..1000 {
        if future.as_mut().poll(&mut cx).is_ready() {
            return;
        }
    }
}

/// Bytes to be read once something was written, then the end; what is written
/// goes nowhere.
struct Script<'a> {
    bytes: &'a [u8],
    written: Rc<Cell<bool>>,
}

impl Read for Script<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.written.get() {
            return Poll::Pending;
        }
        let (now, later) = self.bytes.split_at(into.remaining().min(self.bytes.len()));
        into.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Script<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.set(true);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
