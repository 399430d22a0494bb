use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::core::exit::Trust;
use crate::core::target::Host;
use crate::net::tls::{TlsClient, TlsError};
use crate::net::wire::Stir;
use crate::net::wire::tests::tcp_pair;

/// A certificate for the names, and who signed it.
fn certificate(names: &[&str]) -> (Certificate, Trust) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let made = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let certified = CertifiedKey::from_der(vec![made.der().clone()], private, &default_provider()).unwrap();
    (Arc::new(certified), Trust::Roots(made.pem().into_bytes().into()))
}

/// A connection to the server, both ends.
async fn pair(
    server: &TlsServer,
    host: &str,
    trust: &Trust,
) -> (Result<Wire, TlsError>, io::Result<Accepted>) {
    let (far, near) = tcp_pair().await;
    let (client, host) = (TlsClient::new(), Host::Name(host.into()));
    tokio::join!(client.connect(near, &host, trust), server.accept(far))
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_every_other_the_first() {
    let (first, first_roots) = certificate(&["a.test", "127.0.0.1"]);
    let (second, second_roots) = certificate(&["b.test", "*.c.test"]);
    let server = TlsServer::new(vec![first, second], true);
    for (name, roots, works) in [
        ("a.test", &first_roots, true),
        ("b.test", &second_roots, true),
        ("x.c.test", &second_roots, true),
        ("x.c.test", &first_roots, false),
        ("b.test", &first_roots, false),
        ("other.test", &second_roots, false),
    ] {
        let (near, _) = pair(&server, name, roots).await;
        assert_eq!(near.is_ok(), works, "{name}");
    }
    let (third, third_roots) = certificate(&["a.test"]);
    server.replace(vec![third]);
    assert!(pair(&server, "a.test", &third_roots).await.0.is_ok());
    assert!(pair(&server, "a.test", &first_roots).await.0.is_err());
}

#[tokio::test]
async fn half_close_and_reset_go_through_tls() {
    let (made, roots) = certificate(&["a.test"]);
    let server = TlsServer::new(vec![made], true);
    let (near, far) = pair(&server, "a.test", &roots).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert!(!far.is_h2 && far.wire.is_secured() && !far.wire.ends_by_drop());
    near.write_all(b"ping").await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(std::future::poll_fn(|cx| far.wire.poll_stir(cx)).await, Stir::Bytes);
    let mut all = Vec::new();
    far.wire.read_to_end(&mut all).await.expect("its end was announced");
    assert_eq!(all, b"ping");
    assert_eq!(std::future::poll_fn(|cx| far.wire.poll_stir(cx)).await, Stir::End);
    far.wire.write_all(b"late").await.unwrap();
    far.wire.shutdown().await.unwrap();
    all.clear();
    near.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"late");

    let (near, far) = pair(&server, "a.test", &roots).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap().wire);
    far.reset();
    drop(far);
    assert_eq!(near.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (near, far) = pair(&server, "a.test", &roots).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap().wire);
    near.reset();
    drop(near);
    assert_eq!(std::future::poll_fn(|cx| far.poll_stir(cx)).await, Stir::Reset);
}

#[tokio::test]
async fn what_is_no_tls_is_refused() {
    let (made, _) = certificate(&["a.test"]);
    let server = TlsServer::new(vec![made], true);
    for junk in [&b"\x16\x03\x01\x00\x05hello"[..], b"\x16\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"] {
        let (far, mut near) = tcp_pair().await;
        near.write_all(junk).await.unwrap();
        near.shutdown().await.unwrap();
        assert!(server.accept(far).await.is_err(), "{junk:?}");
    }
}
