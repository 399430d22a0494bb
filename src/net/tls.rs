//! TLS towards upstream proxies.
//!
//! Owns: one rustls configuration for each way to judge a certificate, and
//! the handshake.
//! Must not know: why one connects. The caller bounds the handshake's time.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::wire::Wire;
use crate::core::exit::Trust;
use crate::core::target::Host;

/// Configurations kept for upstreams with roots of their own; the oldest goes
/// first. It only has to outlast a pool file's variety.
const KEPT_ROOTS: usize = 64;

/// Why there is no TLS connection. None of it holds a credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The upstream's name cannot stand in a certificate.
    #[error("{0} is no name that a certificate can have")]
    Name(String),
    /// The configured roots hold no usable certificate.
    #[error("the configured roots cannot be used: {0}")]
    Roots(String),
    /// The system has no roots.
    #[error("the system has no root certificates: {0}")]
    NoSystemRoots(String),
    /// The handshake failed, or the certificate was refused.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
}

/// Makes TLS connections; one for the whole gateway, since sessions are
/// resumed from what it remembers.
#[derive(Debug)]
pub(crate) struct TlsClient {
    provider: Arc<CryptoProvider>,
    system: OnceCell<Arc<ClientConfig>>,
    anything: Arc<ClientConfig>,
    roots: Mutex<Vec<Rooted>>,
}

/// What was made of some roots' text.
#[derive(Debug)]
struct Rooted {
    pem: Arc<[u8]>,
    configuration: Arc<ClientConfig>,
}

impl TlsClient {
    /// Nothing is loaded yet: the system's roots are at first use.
    pub(crate) fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let anything = configuration(&provider, Judge::Anything);
        Self { provider, system: OnceCell::new(), anything, roots: Mutex::default() }
    }

    /// Shakes hands over `tcp` with the host as the configuration names it,
    /// whose certificate is judged by `trust`.
    pub(crate) async fn connect(&self, tcp: TcpStream, host: &Host, trust: &Trust) -> Result<Wire, TlsError> {
        // A socket that cannot have it works all the same, only later.
        let _ = tcp.set_nodelay(true);
        Ok(self.over(tcp, host, trust).await?.into())
    }

    /// The same over any stream.
    pub(crate) async fn over<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: T,
        host: &Host,
        trust: &Trust,
    ) -> Result<TlsStream<T>, TlsError> {
        let name = match host {
            Host::Name(name) => {
                ServerName::try_from(name.to_string()).map_err(|_| TlsError::Name(name.to_string()))?
            }
            Host::Ip(ip) => ServerName::from(*ip),
        };
        let configuration = match trust {
            Trust::System => self.system().await?,
            Trust::Roots(pem) => self.with_roots(pem)?,
            Trust::Anything => Arc::clone(&self.anything),
        };
        TlsConnector::from(configuration).connect(name, stream).await.map_err(TlsError::Handshake)
    }

    /// The system's roots are read off the worker threads, once; where there
    /// are none, the next call looks again.
    async fn system(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let load = || async {
            let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
                .await
                .map_err(|e| TlsError::NoSystemRoots(e.to_string()))?;
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
                return Err(TlsError::NoSystemRoots(why));
            }
            Ok(configuration(&self.provider, Judge::By(store)))
        };
        self.system.get_or_try_init(load).await.cloned()
    }

    fn with_roots(&self, pem: &Arc<[u8]>) -> Result<Arc<ClientConfig>, TlsError> {
        // A panic elsewhere cannot leave the list half changed.
        let mut kept = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.iter().find(|known| Arc::ptr_eq(&known.pem, pem) || known.pem == *pem) {
            return Ok(Arc::clone(&known.configuration));
        }
        let made = configuration(&self.provider, Judge::By(read_roots(pem)?));
        if kept.len() == KEPT_ROOTS {
            kept.remove(0);
        }
        kept.push(Rooted { pem: Arc::clone(pem), configuration: Arc::clone(&made) });
        Ok(made)
    }
}

enum Judge {
    By(RootCertStore),
    Anything,
}

fn configuration(provider: &Arc<CryptoProvider>, judge: Judge) -> Arc<ClientConfig> {
    #[expect(clippy::expect_used, reason = "invariant: ring has cipher suites for TLS 1.2 and 1.3")]
    let versions = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions");
    let mut made = match judge {
        Judge::By(store) => versions.with_root_certificates(store),
        Judge::Anything => versions
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NoVerification(Arc::clone(provider)))),
    }
    .with_no_client_auth();
    made.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(made)
}

fn read_roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| TlsError::Roots(e.to_string()))?;
        store.add(certificate).map_err(|e| TlsError::Roots(e.to_string()))?;
    }
    if store.is_empty() {
        return Err(TlsError::Roots("no certificate in it".to_owned()));
    }
    Ok(store)
}

/// Takes any certificate. Signatures are not looked at either: they would
/// prove the key of a certificate that proves nothing, and refuse old ones
/// that the operator said to take.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
pub(crate) mod tests;
