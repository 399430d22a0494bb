//! TLS towards the gateway, and the certificates that it shows.
//!
//! Owns: certificates for names, a client that believes one of them.
//! Must not know: what is spoken inside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{PATIENCE, Setup};

/// A certificate and its key.
pub struct Made {
    /// The certificate, in PEM.
    pub cert: String,
    /// Its private key, in PEM.
    pub key: String,
    der: Vec<u8>,
}

/// A fresh certificate for the names.
pub fn certificate(names: &[&str]) -> Made {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    Made { cert: made.cert.pem(), key: made.signing_key.serialize_pem(), der: made.cert.der().to_vec() }
}

impl Setup {
    /// Its first listener has TLS with this certificate, in `cert.pem` and
    /// `key.pem`.
    #[must_use]
    pub fn tls(self, made: &Made) -> Self {
        self.file("cert.pem", made.cert.clone())
            .file("key.pem", made.key.clone())
            .config("listeners.0.tls", serde_json::json!({ "cert": "cert.pem", "key": "key.pem" }))
    }
}

fn configuration(believed: &Made, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(believed.der.clone().into()).expect("a root");
    let mut made = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    made.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(made)
}

/// A blocking connection.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands with the server of this name, which must show `believed`.
pub fn try_open(address: SocketAddr, name: &str, believed: &Made, alpn: &[&str]) -> std::io::Result<Stream> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut session = ClientConnection::new(configuration(believed, alpn), name).expect("a session");
    while session.is_handshaking() {
        session.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(session, tcp))
}

/// The same where it works.
#[track_caller]
pub fn open(address: SocketAddr, believed: &Made, alpn: &[&str]) -> Stream {
    try_open(address, "127.0.0.1", believed, alpn).expect("the handshake")
}

/// The head of an answer, as text.
#[track_caller]
pub fn head(stream: &mut Stream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("more of a head");
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Sends the farewell, and no more.
pub fn half_close(stream: &mut Stream) {
    stream.conn.send_close_notify();
    stream.flush().expect("it is sent");
    stream.sock.shutdown(std::net::Shutdown::Write).expect("half-close");
}

/// A connection for a task.
pub async fn connect(
    address: SocketAddr,
    believed: &Made,
    alpn: &[&str],
) -> TlsStream<tokio::net::TcpStream> {
    let tcp = tokio::net::TcpStream::connect(address).await.expect("a connection");
    tcp.set_nodelay(true).expect("an option");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(configuration(believed, alpn)).connect(name, tcp).await.expect("the handshake")
}
