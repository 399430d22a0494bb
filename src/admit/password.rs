//! Is this secret the right one?
//!
//! Owns: plain and PHC (argon2) secrets, their comparison in constant time,
//! the memory of a secret that was verified once.
//! Must not know: whose secret it is, what a wrong one leads to.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::core::secret::Secret;

/// One argon2 check costs 36 ms and 19 MiB: more at a time would let wrong
/// secrets take the machine.
const CHECKS_AT_A_TIME: usize = 2;

type Digest = [u8; 32];

/// A user's secret as configured.
#[derive(Debug)]
pub(crate) enum Stored {
    /// A keyed digest of a plain secret.
    Plain(Digest),
    /// A PHC string, and the keyed digest of the secret that matched it last.
    Phc { phc: Arc<str>, verified: ArcSwapOption<Digest> },
}

/// Checks secrets; holds the key of the digests, drawn at the start.
pub(crate) struct Verifier {
    key: [u8; 32],
    /// A PHC string that no secret is checked against in earnest.
    dummy: OnceLock<Arc<str>>,
    checks: Semaphore,
}

/// Why a PHC string was not made.
#[derive(Debug, thiserror::Error)]
#[error("the secret could not be hashed")]
pub(crate) struct HashError;

/// An argon2id PHC string of a secret, with a fresh salt.
pub(crate) fn hash(secret: &Secret) -> Result<String, HashError> {
    Argon2::default()
        .hash_password(secret.expose().as_bytes())
        .map(|phc| phc.to_string())
        .map_err(|_| HashError)
}

/// Whether a configured password is a PHC string rather than plain.
fn is_phc(password: &str) -> bool {
    password.starts_with("$argon2") && PasswordHash::new(password).is_ok()
}

impl Verifier {
    /// With a key of its own.
    pub(crate) fn new() -> Self {
        Self { key: rand::random(), dummy: OnceLock::new(), checks: Semaphore::new(CHECKS_AT_A_TIME) }
    }

    /// The form in which a configured password is kept.
    pub(crate) fn store(&self, password: &Secret) -> Stored {
        if is_phc(password.expose()) {
            Stored::Phc { phc: password.expose().into(), verified: ArcSwapOption::empty() }
        } else {
            Stored::Plain(self.digest(password.expose()))
        }
    }

    /// Whether `secret` is the stored one. A right PHC secret costs its
    /// hashing once; after that, and for plain ones always, a keyed digest.
    pub(crate) async fn verify(&self, stored: &Stored, secret: &str) -> bool {
        let digest = self.digest(secret);
        match stored {
            Stored::Plain(right) => bool::from(right.ct_eq(&digest)),
            Stored::Phc { phc, verified } => {
                if verified.load().as_ref().is_some_and(|known| bool::from(known.ct_eq(&digest))) {
                    return true;
                }
                let right = self.check(phc.clone(), secret).await;
                if right {
                    verified.store(Some(Arc::new(digest)));
                }
                right
            }
        }
    }

    /// Takes as long as a PHC check that fails, so that an unknown user is
    /// not told from a wrong secret by time.
    pub(crate) async fn pretend(&self, secret: &str) {
        let dummy = self.dummy.get_or_init(|| hash(&Secret::new("nobody")).unwrap_or_default().into());
        self.check(dummy.clone(), secret).await;
    }

    async fn check(&self, phc: Arc<str>, secret: &str) -> bool {
        let Ok(_permit) = self.checks.acquire().await else { return false };
        let secret = Secret::new(secret);
        let check = move || {
            let Ok(hash) = PasswordHash::new(&phc) else { return false };
            Argon2::default().verify_password(secret.expose().as_bytes(), &hash).is_ok()
        };
        tokio::task::spawn_blocking(check).await.unwrap_or(false)
    }

    fn digest(&self, secret: &str) -> Digest {
        *blake3::keyed_hash(&self.key, secret.as_bytes()).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_and_hashed_secrets_are_told_apart_and_verified() {
        let verifier = Verifier::new();
        let phc = hash(&Secret::new("p@s:s")).unwrap();
        assert!(phc.starts_with("$argon2id$"));
        for password in ["p@s:s", &phc] {
            let stored = verifier.store(&Secret::new(password));
            assert!(verifier.verify(&stored, "p@s:s").await);
            assert!(verifier.verify(&stored, "p@s:s").await);
            assert!(!verifier.verify(&stored, "p@s:S").await);
            assert!(!verifier.verify(&stored, "").await);
            assert!(!verifier.verify(&stored, &phc).await);
        }
    }

    #[tokio::test]
    async fn a_verified_secret_is_remembered() {
        let verifier = Verifier::new();
        let stored = verifier.store(&Secret::new(hash(&Secret::new("right")).unwrap()));
        assert!(verifier.verify(&stored, "right").await);
        let Stored::Phc { verified, .. } = &stored else { panic!("not taken for a PHC string") };
        assert!(verified.load().is_some());
        verifier.checks.close();
        assert!(verifier.verify(&stored, "right").await, "needed another check");
        assert!(!verifier.verify(&stored, "wrong").await);
    }
}
