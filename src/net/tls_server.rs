//! TLS towards clients.
//!
//! Owns: which certificate a client is shown, and the handshake.
//! Must not know: where certificates come from, what is spoken inside. The
//! caller bounds the handshake's time.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring::{Ticketer, default_provider};
use tokio_rustls::rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, version};

use super::wire::Wire;

/// How HTTP/2 is called in a handshake.
const H2: &[u8] = b"h2";

/// A certificate chain, and the key to it.
pub(crate) type Certificate = Arc<CertifiedKey>;

/// A listener's TLS.
#[derive(Debug)]
pub(crate) struct TlsServer {
    shown: Arc<Shown>,
    acceptor: Arc<ServerConfig>,
}

/// A connection with TLS.
pub(crate) struct Accepted {
    /// What it carries.
    pub(crate) wire: Wire,
    /// Whether that is HTTP/2.
    pub(crate) is_h2: bool,
}

impl TlsServer {
    /// Shows one of these: the first, unless the client names a server that
    /// only another is for. `speaks_http` says whether HTTP may be spoken
    /// inside, in a version that the two agree on.
    pub(crate) fn new(certificates: Vec<Certificate>, speaks_http: bool) -> Self {
        let shown = Arc::new(Shown { all: ArcSwap::from_pointee(certificates) });
        let provider = Arc::new(default_provider());
        #[expect(clippy::expect_used, reason = "invariant: ring has cipher suites for TLS 1.2 and 1.3")]
        let mut made = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("ring speaks both versions")
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        // Sessions are resumed from what the client keeps. Without chance for
        // the keys to that, each is shaken anew.
        if let Ok(ticketer) = Ticketer::new() {
            made.ticketer = ticketer;
        }
        if speaks_http {
            made.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
        }
        Self { shown, acceptor: Arc::new(made) }
    }

    /// Shows these from now on; connections that stand go on.
    pub(crate) fn replace(&self, certificates: Vec<Certificate>) {
        self.shown.all.store(Arc::new(certificates));
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// It does not speak TLS, or not as we do: it was told so. Or it is gone.
    pub(crate) async fn accept(&self, wire: Wire) -> io::Result<Accepted> {
        let tls = TlsAcceptor::from(self.acceptor.clone()).accept(wire).await?;
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(H2);
        Ok(Accepted { wire: tls.into(), is_h2 })
    }
}

#[derive(Debug)]
struct Shown {
    /// Never none.
    all: ArcSwap<Vec<Certificate>>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Certificate> {
        let all = self.all.load();
        let name = hello.server_name().filter(|_| all.len() > 1);
        let named = name.and_then(|name| all.iter().find(|certificate| is_for(certificate, name)));
        named.or_else(|| all.first()).cloned()
    }
}

fn is_for(certificate: &CertifiedKey, name: &str) -> bool {
    let read = |certificate| ParsedCertificate::try_from(certificate).ok();
    let parsed = certificate.end_entity_cert().ok().and_then(read);
    let named = ServerName::try_from(name).ok();
    parsed.zip(named).is_some_and(|(parsed, name)| verify_server_name(&parsed, &name).is_ok())
}

#[cfg(test)]
mod tests;
