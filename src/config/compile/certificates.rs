//! Certificates for listeners, and their keys.
//!
//! Owns: that each file can be read, and that key and certificate belong
//! together.
//! Must not know: who is shown which.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};
use zeroize::Zeroizing;

use super::{Reading, read_bytes};
use crate::config::listeners::{CertificateEntry, CertificatesEntry};
use crate::config::locate::NodeId;
use crate::config::watch::Watched;

/// The most certificates of one listener: a client's name is looked for in
/// each.
const CERTIFICATES_MAX: usize = 100;

/// The certificates of the listener at `node`; the files are noted.
pub(super) fn certificates(
    reading: &mut Reading<'_>,
    node: NodeId,
    written: &CertificatesEntry,
    folder: &Path,
    watched: &mut Watched,
) -> Vec<Arc<CertifiedKey>> {
    let all_at = reading.document.below(node, &["tls"]);
    if !(1..=CERTIFICATES_MAX).contains(&written.all.len()) && !reading.document.is_holed(all_at) {
        reading.complain(all_at, &[], format!("expected 1 to {CERTIFICATES_MAX} certificates"));
    }
    let mut made = Vec::new();
    for (at, entry) in written.all.iter().take(CERTIFICATES_MAX).enumerate() {
        let at = if written.listed { reading.document.item(all_at, at) } else { all_at };
        match certificate(entry, folder, watched) {
            Ok(certificate) => made.push(Arc::new(certificate)),
            Err((key, message)) => reading.complain(at, &[key], message),
        }
    }
    made
}

/// The error is the field that it is of, and a sentence.
fn certificate(
    entry: &CertificateEntry,
    folder: &Path,
    watched: &mut Watched,
) -> Result<CertifiedKey, (&'static str, String)> {
    let [cert, key] = [&entry.cert, &entry.key].map(|path| folder.join(path));
    watched.note_file(&cert);
    watched.note_file(&key);
    let pem = file("cert", &cert)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let unreadable = |error: &dyn std::fmt::Display| format!("{} cannot be used: {error}", cert.display());
    let chain = chain.map_err(|error| ("cert", unreadable(&error)))?;
    if chain.is_empty() {
        return Err(("cert", format!("{} holds no certificate in PEM", cert.display())));
    }
    let pem = Zeroizing::new(file("key", &key)?);
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| ("key", format!("{} holds no private key in PEM", key.display())))?;
    CertifiedKey::from_der(chain, private, &default_provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            ("key", format!("{} is not the key of {}", key.display(), cert.display()))
        }
        Error::InvalidCertificate(error) => ("cert", unreadable(&error)),
        // What is said of a key tells nothing of it.
        error => ("key", format!("{} cannot be used: {error}", key.display())),
    })
}

fn file(key: &'static str, path: &Path) -> Result<Vec<u8>, (&'static str, String)> {
    read_bytes(path).map_err(|message| (key, format!("{} {message}", path.display())))
}
