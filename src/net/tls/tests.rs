use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::net::wire::tests::becomes_stale;

/// A server with a fresh certificate for the names.
pub(crate) struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    pub(crate) roots: Trust,
}

impl Server {
    pub(crate) async fn new(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let mut configuration =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::Pkcs8(key.serialize_der().into()),
                )
                .unwrap();
        configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(configuration)),
            roots: Trust::Roots(certificate.pem().into_bytes().into()),
        }
    }

    /// A connection from the client, both ends.
    pub(crate) async fn pair(
        &self,
        client: &TlsClient,
        host: &str,
        trust: &Trust,
    ) -> (Result<Wire, TlsError>, io::Result<TlsStream<TcpStream>>) {
        let host = host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip);
        let near = async {
            let tcp = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
            client.connect(tcp, &host, trust).await
        };
        let far = async { self.acceptor.accept(self.listener.accept().await.unwrap().0).await };
        tokio::join!(near, far)
    }
}

#[tokio::test]
async fn given_roots_are_believed_and_only_they() {
    let (server, other) =
        (Server::new(&["proxy.test", "127.0.0.1"]).await, Server::new(&["proxy.test"]).await);
    let client = TlsClient::new();
    for host in ["proxy.test", "127.0.0.1"] {
        let (near, far) = server.pair(&client, host, &server.roots).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        assert_eq!(far.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        near.write_all(b"ping").await.unwrap();
        near.flush().await.unwrap();
        let mut got = [0; 4];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
    }
    for (host, trust) in [
        ("proxy.test", &other.roots),
        ("proxy.test", &Trust::System),
        ("elsewhere.test", &server.roots),
        ("127.0.0.2", &server.roots),
    ] {
        let (near, _) = server.pair(&client, host, trust).await;
        let error = near.expect_err(host);
        assert!(matches!(error, TlsError::Handshake(_) | TlsError::NoSystemRoots(_)), "{host}: {error}");
    }
}

#[tokio::test]
async fn without_verification_any_certificate_will_do() {
    let server = Server::new(&["proxy.test"]).await;
    let (near, far) = server.pair(&TlsClient::new(), "elsewhere.test", &Trust::Anything).await;
    assert!(near.is_ok() && far.is_ok());
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_is_a_failed_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let host = Host::Name("proxy.test".into());
    let error = TlsClient::new().connect(tcp, &host, &Trust::Anything).await.unwrap_err();
    assert!(matches!(error, TlsError::Handshake(_)), "{error}");
}

#[test]
fn roots_are_read_once_and_the_oldest_are_forgotten() {
    let pem = || -> Arc<[u8]> {
        let key = KeyPair::generate().unwrap();
        CertificateParams::default().self_signed(&key).unwrap().pem().into_bytes().into()
    };
    let client = TlsClient::new();
    let first = pem();
    let made = client.with_roots(&first).unwrap();
    let copy: Arc<[u8]> = first.to_vec().into();
    assert!(Arc::ptr_eq(&made, &client.with_roots(&copy).unwrap()), "the same text");
    for _ in 0..KEPT_ROOTS {
        client.with_roots(&pem()).unwrap();
    }
    assert_eq!(client.roots.lock().unwrap().len(), KEPT_ROOTS);
    assert!(!Arc::ptr_eq(&made, &client.with_roots(&first).unwrap()), "read again");
}

#[test]
fn roots_without_a_certificate_are_refused() {
    for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(read_roots(pem.as_bytes()), Err(TlsError::Roots(_))), "{pem:?}");
    }
}

#[tokio::test]
async fn a_kept_wire_is_not_stale_for_session_tickets() {
    let server = Server::new(&["proxy.test"]).await;
    let client = TlsClient::new();
    let (near, far) = server.pair(&client, "proxy.test", &server.roots).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    // The server's tickets come unread; they are no sign of an end.
    near.tcp().unwrap().readable().await.unwrap();
    assert!(!near.is_stale());
    far.write_all(b"unasked").await.unwrap();
    far.flush().await.unwrap();
    becomes_stale(&mut near).await;

    let (near, far) = server.pair(&client, "proxy.test", &server.roots).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    far.shutdown().await.unwrap();
    becomes_stale(&mut near).await;
}
