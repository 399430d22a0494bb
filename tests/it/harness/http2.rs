//! A client of HTTP/2 that does as it is told.
//!
//! Owns: a connection, requests and tunnels on it.
//! Must not know: what a proxy answers.

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};

use super::tls::{self, Made, certificate};
use super::{Client, Gateway, PATIENCE, RUNTIME, Setup, basic};

/// A gateway whose first listener has TLS, and the certificate that it shows.
pub fn start(setup: Setup) -> (Gateway, Made) {
    let made = certificate(&["127.0.0.1"]);
    (setup.tls(&made).start(), made)
}

/// A connection.
pub struct Connection {
    requests: SendRequest<Bytes>,
    /// Ready once it has ended.
    pub ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Connection {
    /// At the first listener.
    pub fn open(gateway: &Gateway, made: &Made) -> Self {
        let address = gateway.listener(0);
        let (requests, ended) = RUNTIME.block_on(async {
            let stream = tls::connect(address, made, &["h2"]).await;
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(1 << 20).initial_connection_window_size(8 << 20);
            let (requests, connection) = builder.handshake(stream).await.expect("HTTP/2");
            (requests, tokio::spawn(connection))
        });
        Self { requests, ended }
    }

    /// A request, whose body is still to be sent unless it has `ended`.
    pub fn send(&self, request: Request<()>, ended: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut requests = self.requests.clone();
        RUNTIME.block_on(async move {
            requests = wait(requests.ready()).await.expect("room for a stream");
            requests.send_request(request, ended).expect("a request")
        })
    }

    /// The answer to a request without a body, and its body.
    #[track_caller]
    pub fn ask(&self, request: Request<()>) -> (Response<()>, Body) {
        answer(self.send(request, true).0)
    }

    /// A tunnel that stands.
    #[track_caller]
    pub fn tunnel(&self, username: &str, target: impl std::fmt::Display) -> Tunnel {
        let (response, send) = self.send(connect(username, target), false);
        let response = RUNTIME.block_on(wait(response)).expect("an answer");
        assert_eq!(response.status(), 200);
        assert!(response.headers().contains_key("moorgate-exit"));
        Tunnel { send, receive: response.into_body() }
    }
}

/// Waits, but not for ever.
pub async fn wait<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// A request as this user.
pub fn with_credential(username: &str) -> http::request::Builder {
    let field = basic(username);
    let (_, value) = field.trim_end().split_once(": ").unwrap();
    Request::builder().version(http::Version::HTTP_2).header("proxy-authorization", value)
}

/// A CONNECT.
pub fn connect(username: &str, target: impl std::fmt::Display) -> Request<()> {
    with_credential(username).method("CONNECT").uri(target.to_string()).body(()).unwrap()
}

/// A GET.
pub fn get(username: &str, url: &str) -> Request<()> {
    with_credential(username).uri(url).body(()).unwrap()
}

/// An answer's body.
pub struct Body {
    /// All of it that came.
    pub bytes: Vec<u8>,
    /// What came behind it.
    pub trailers: Option<HeaderMap>,
    /// How it broke off.
    pub broken: Option<h2::Error>,
}

/// The answer to a request.
#[track_caller]
pub fn answer(response: ResponseFuture) -> (Response<()>, Body) {
    RUNTIME.block_on(async {
        let (head, body) = wait(response).await.expect("an answer").into_parts();
        (Response::from_parts(head, ()), wait(whole(body)).await)
    })
}

async fn whole(mut body: RecvStream) -> Body {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                bytes.extend_from_slice(&data);
            }
            Err(error) => return Body { bytes, trailers: None, broken: Some(error) },
        }
    }
    Body { bytes, trailers: body.trailers().await.unwrap(), broken: None }
}

/// A tunnel.
pub struct Tunnel {
    /// To the far end.
    pub send: SendStream<Bytes>,
    receive: RecvStream,
}

impl Tunnel {
    /// Sends this.
    pub fn say(&mut self, text: &'static str, ends: bool) {
        self.send.send_data(Bytes::from_static(text.as_bytes()), ends).unwrap();
    }

    /// At least so many bytes.
    #[track_caller]
    pub fn hear(&mut self, length: usize) -> Vec<u8> {
        RUNTIME.block_on(wait(async {
            let mut heard = Vec::new();
            while heard.len() < length {
                let data = self.receive.data().await.expect("more").expect("data");
                self.receive.flow_control().release_capacity(data.len()).unwrap();
                heard.extend_from_slice(&data);
            }
            heard
        }))
    }

    /// How it ends.
    pub fn end(&mut self) -> Result<(), h2::Error> {
        RUNTIME.block_on(wait(async {
            while let Some(data) = self.receive.data().await {
                data?;
            }
            Ok(())
        }))
    }

    /// A byte each way.
    #[track_caller]
    pub fn echo_through(&mut self, far: &mut Client) {
        self.say("?", false);
        assert_eq!(far.exactly(1), b"?");
        far.send("!");
        assert_eq!(self.hear(1), b"!");
    }
}
