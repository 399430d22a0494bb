//! Is this secret the right one?
//!
//! Owns: plain and PHC (argon2) secrets, their comparison in constant time,
//! the memory of a secret that was verified once.
//! Must not know: whose secret it is, what a wrong one leads to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::core::secret::Secret;

/// One argon2 check costs 36 ms and 19 MiB: more at a time would let wrong
/// secrets take the machine.
const CHECKS_AT_A_TIME: usize = 2;

/// Of these, what all clients together get that have sent too many wrong
/// secrets: they must not keep others from their first check.
const CHECKS_FOR_SUSPECTS: usize = 1;

/// For how long a check may wait for its turn.
const TURN: Duration = Duration::from_secs(10);

/// A keyed digest of a secret.
pub(crate) type Digest = [u8; 32];

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
    /// What a user that there is not is checked against.
    nobody: Stored,
    checks: Arc<Semaphore>,
    suspects: Arc<Semaphore>,
    scratch: Arc<Scratch>,
}

/// What a failed check costs, whoever it was for: a check for each setting of
/// argon2 that some user's secret has.
#[derive(Debug, Default)]
pub(crate) struct Cost(Vec<Arc<str>>);

/// Who wants a secret to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Someone.
    Good,
    /// Someone who has sent too many wrong secrets.
    Suspect,
}

/// There were too many checks before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoTurn;

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

/// Of a PHC string, what its check costs: all up to the salt.
fn setting(phc: &str) -> &str {
    let salt = phc.match_indices('$').nth(3).map_or(phc.len(), |(at, _)| at);
    &phc[..salt]
}

impl Cost {
    /// For users with these secrets.
    pub(crate) fn of<'s>(secrets: impl Iterator<Item = &'s Stored>) -> Self {
        let mut all: Vec<Arc<str>> = Vec::new();
        for stored in secrets {
            if let Stored::Phc { phc, .. } = stored
                && all.iter().all(|known| setting(known) != setting(phc))
            {
                all.push(phc.clone());
            }
        }
        Self(all)
    }
}

impl Verifier {
    /// With a key of its own.
    pub(crate) fn new() -> Self {
        Self {
            key: rand::random(),
            nobody: Stored::Plain(rand::random()),
            checks: Arc::new(Semaphore::new(CHECKS_AT_A_TIME)),
            suspects: Arc::new(Semaphore::new(CHECKS_FOR_SUSPECTS)),
            scratch: Arc::default(),
        }
    }

    /// The form in which a configured password is kept. What was verified by
    /// the one `before` counts if it is the same.
    pub(crate) fn store(&self, password: &Secret, before: Option<&Stored>) -> Stored {
        if is_phc(password.expose()) {
            let verified = match before {
                Some(Stored::Phc { phc, verified }) if **phc == *password.expose() => verified.load_full(),
                _ => None,
            };
            Stored::Phc { phc: password.expose().into(), verified: ArcSwapOption::new(verified) }
        } else {
            Stored::Plain(self.digest(password.expose()))
        }
    }

    /// Whether `secret` is the stored one; `None`: there is no such user.
    ///
    /// A right PHC secret costs its hashing once; after that, and for plain
    /// ones always, a keyed digest. A no costs the digest and `cost`, for
    /// whatever user, also for none: that is not told by time.
    ///
    /// # Errors
    /// [`NoTurn`]: it was not checked.
    pub(crate) async fn verify(
        &self,
        stored: Option<&Stored>,
        secret: &str,
        cost: &Cost,
        standing: Standing,
    ) -> Result<bool, NoTurn> {
        let digest = self.digest(secret);
        let own = match stored.unwrap_or(&self.nobody) {
            Stored::Plain(right) if bool::from(right.ct_eq(&digest)) => return Ok(stored.is_some()),
            Stored::Plain(_) => None,
            Stored::Phc { phc, verified } => {
                if verified.load().as_ref().is_some_and(|known| bool::from(known.ct_eq(&digest))) {
                    return Ok(true);
                }
                if self.check(phc.clone(), secret, standing).await? {
                    verified.store(Some(Arc::new(digest)));
                    return Ok(true);
                }
                Some(setting(phc))
            }
        };
        for phc in cost.0.iter().filter(|phc| own != Some(setting(phc))) {
            // What comes of it does not matter.
            self.check(phc.clone(), secret, standing).await?;
        }
        Ok(false)
    }

    async fn check(&self, phc: Arc<str>, secret: &str, standing: Standing) -> Result<bool, NoTurn> {
        let turn = async {
            let suspect = match standing {
                Standing::Good => None,
                Standing::Suspect => Some(self.suspects.clone().acquire_owned().await),
            };
            (suspect, self.checks.clone().acquire_owned().await)
        };
        let Ok((suspect, Ok(permit))) = timeout(TURN, turn).await else { return Err(NoTurn) };
        let secret = Secret::new(secret);
        let scratch = self.scratch.clone();
        let check = move || {
            // Held to the check's end, even where nobody waits for it any more.
            let _permits = (suspect, permit);
            scratch.lend(|blocks| is_made_from(&phc, &secret, blocks).unwrap_or(false))
        };
        Ok(tokio::task::spawn_blocking(check).await.unwrap_or(false))
    }

    /// Gives back what was used for checks, if there was none since the last
    /// call; to be called every minute or so.
    pub(crate) fn sweep(&self) {
        if !self.scratch.used.swap(false, Ordering::Relaxed) {
            self.scratch.idle().clear();
        }
    }

    /// The digest of a secret, with the key of this process.
    pub(crate) fn digest(&self, secret: &str) -> Digest {
        *blake3::keyed_hash(&self.key, secret.as_bytes()).as_bytes()
    }
}

/// The memory of checks that are over, for the next ones. To an allocator it
/// could be given back only in part: whatever small thing is put into a gap of
/// 19 MiB keeps the next check from fitting.
#[derive(Default)]
struct Scratch {
    idle: Mutex<Vec<Vec<Block>>>,
    used: AtomicBool,
}

impl Scratch {
    fn lend<T>(&self, borrow: impl FnOnce(&mut Vec<Block>) -> T) -> T {
        self.used.store(true, Ordering::Relaxed);
        let mut blocks = self.idle().pop().unwrap_or_default();
        let result = borrow(&mut blocks);
        self.idle().push(blocks);
        result
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Vec<Block>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the PHC string was made from this secret; `None`: it is no use.
fn is_made_from(phc: &str, secret: &Secret, blocks: &mut Vec<Block>) -> Option<bool> {
    let phc = PasswordHash::new(phc).ok()?;
    let (salt, right) = (phc.salt?, phc.hash?);
    let algorithm = Algorithm::try_from(phc.algorithm.as_str()).ok()?;
    let version = phc.version.map_or_else(|| Ok(Version::default()), Version::try_from).ok()?;
    let argon = Argon2::new(algorithm, version, Params::try_from(&phc).ok()?);
    blocks.resize(argon.params().block_count(), Block::default());
    let mut out = [0; Output::MAX_LENGTH];
    let out = out.get_mut(..right.len())?;
    argon.hash_password_into_with_memory(secret.expose().as_bytes(), &salt, out, blocks).ok()?;
    Some(out.ct_eq(right.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn verify(verifier: &Verifier, stored: &Stored, secret: &str) -> bool {
        let cost = Cost::of([stored].into_iter());
        verifier.verify(Some(stored), secret, &cost, Standing::Good).await == Ok(true)
    }

    #[tokio::test]
    async fn plain_and_hashed_secrets_are_told_apart_and_verified() {
        let verifier = Verifier::new();
        let phc = hash(&Secret::new("p@s:s")).unwrap();
        assert!(phc.starts_with("$argon2id$"));
        for password in ["p@s:s", &phc] {
            let stored = verifier.store(&Secret::new(password), None);
            assert!(verify(&verifier, &stored, "p@s:s").await);
            assert!(verify(&verifier, &stored, "p@s:s").await);
            assert!(!verify(&verifier, &stored, "p@s:S").await);
            assert!(!verify(&verifier, &stored, "").await);
            assert!(!verify(&verifier, &stored, &phc).await);
        }
    }

    #[tokio::test]
    async fn a_verified_secret_is_remembered() {
        let verifier = Verifier::new();
        let stored = verifier.store(&Secret::new(hash(&Secret::new("right")).unwrap()), None);
        assert!(verify(&verifier, &stored, "right").await);
        let Stored::Phc { verified, .. } = &stored else { panic!("not taken for a PHC string") };
        assert!(verified.load().is_some());
        verifier.checks.close();
        assert!(verify(&verifier, &stored, "right").await, "needed another check");
        let Stored::Phc { phc, .. } = &stored else { panic!("not taken for a PHC string") };
        let same = verifier.store(&Secret::new(&**phc), Some(&stored));
        assert!(verify(&verifier, &same, "right").await, "a reload forgot it");
        let other = verifier.store(&Secret::new(hash(&Secret::new("right")).unwrap()), Some(&stored));
        assert!(!verify(&verifier, &other, "right").await, "another hash needs another check");
        assert!(!verify(&verifier, &stored, "wrong").await);
    }

    #[tokio::test]
    async fn memory_of_checks_is_used_again_and_given_back() {
        let verifier = Verifier::new();
        let stored = verifier.store(&Secret::new(hash(&Secret::new("right")).unwrap()), None);
        for _ in 0..3 {
            assert!(!verify(&verifier, &stored, "wrong").await);
            assert_eq!(verifier.scratch.idle().len(), 1);
        }
        verifier.sweep();
        assert_eq!(verifier.scratch.idle().len(), 1, "used a moment ago");
        verifier.sweep();
        assert_eq!(verifier.scratch.idle().len(), 0);
    }

    #[tokio::test]
    async fn a_no_costs_the_same_for_every_user_and_none() {
        let verifier = Verifier::new();
        let with = |m: u32| {
            let params = Params::new(m, 1, 1, None).unwrap();
            let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            Secret::new(argon.hash_password(b"right").unwrap().to_string())
        };
        let users =
            [&with(64), &with(128), &with(64), &Secret::new("plain")].map(|p| verifier.store(p, None));
        let cost = Cost::of(users.iter());
        assert_eq!(cost.0.len(), 2, "one for each setting");
        // With no check to be had, what wants one is found out.
        verifier.checks.close();
        for stored in users.iter().map(Some).chain([None]) {
            let verified = verifier.verify(stored, "wrong", &cost, Standing::Good).await;
            assert_eq!(verified, Err(NoTurn), "{stored:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn suspects_do_not_take_the_turn_of_others() {
        let verifier = Verifier::new();
        let stored = verifier.store(&Secret::new(hash(&Secret::new("right")).unwrap()), None);
        let cost = Cost::of([&stored].into_iter());
        let verify = |standing| verifier.verify(Some(&stored), "wrong", &cost, standing);
        let _checked = verifier.suspects.clone().acquire_owned().await.unwrap();
        let _other = verifier.checks.clone().acquire_owned().await.unwrap();
        assert_eq!(verify(Standing::Good).await, Ok(false));
        assert_eq!(verify(Standing::Suspect).await, Err(NoTurn), "waits for its own kind, not for ever");
        let _third = verifier.checks.clone().acquire_owned().await.unwrap();
        assert_eq!(verify(Standing::Good).await, Err(NoTurn), "waits, not for ever");
    }
}
