//! The signature of the top-level Manifest, by the keys of a configured file and no others.
//!
//! `openpgp-verdict` decides; here are the file and the clock.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gentoo_repo::cleartext;
use openpgp_verdict::{Certificates, KEYS_BYTES_MAX, Refusal, Until};

use crate::TreeError;
use crate::report::FaultKind;

/// The keys that may sign a module's tree.
#[derive(Clone)]
pub struct Keyring {
    path: PathBuf,
    keys: Arc<Certificates>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({}, {:?})", self.path.display(), self.keys)
    }
}

impl Keyring {
    /// Reads a file of public keys, armoured or not. Blocking.
    ///
    /// # Errors
    /// [`TreeError::Setting`] if it can't be read or holds no public key that can be used.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let setting = |why: String| TreeError::Setting { what: path.display().to_string(), why };
        let file = File::open(path).map_err(|error| setting(error.to_string()))?;
        let mut octets = Vec::new();
        let most = KEYS_BYTES_MAX as u64 + 1;
        file.take(most).read_to_end(&mut octets).map_err(|error| setting(error.to_string()))?;
        let keys = Certificates::parse(&octets).map_err(|error| setting(error.to_string()))?;
        for why in keys.unusable() {
            tracing::warn!(file = %path.display(), %why, "a key of openpgp_key is passed over");
        }
        Ok(Self { path: path.to_owned(), keys: Arc::new(keys) })
    }

    /// Until when each key can sign as far as is known today, by itself or by a subkey: in seconds since the Unix epoch,
    /// or for ever. Those that can't sign at all are left out.
    #[must_use]
    pub fn sign_until(&self) -> Vec<Option<i64>> {
        let seconds = |until| match until {
            Until::Seconds(seconds) => Some(i64::try_from(seconds).unwrap_or(i64::MAX)),
            Until::Forever => None,
        };
        self.keys.sign_until(now_s()).map(seconds).collect()
    }

    /// Checks that every signature of a git commit object is good and by a key that is neither expired nor revoked.
    ///
    /// # Errors
    /// What is wrong with the object or a signature.
    pub fn verify_commit(&self, object: &[u8], digits: usize) -> Result<(), Refusal> {
        openpgp_verdict::commit::verify(object, digits, &self.keys, now_s()).map(drop)
    }

    /// Checks that `octets` is a clearsigned text with only good signatures by keys that are neither
    /// expired nor revoked.
    ///
    /// # Errors
    /// [`TreeError::Refused`] with what is wrong with the signature.
    pub(super) fn verify(&self, octets: &[u8]) -> Result<(), TreeError> {
        let refused = |why: String| TreeError::refused(FaultKind::Signature, b"Manifest", why);
        let text = cleartext::strip(octets).map_err(|error| refused(error.to_string()))?;
        let signers = openpgp_verdict::cleartext::verify(&text, &self.keys, now_s())
            .map_err(|refusal| refused(refusal.to_string()))?;
        for signer in signers {
            tracing::debug!(key = signer.key, made_s = signer.made_s, "the Manifest is signed");
        }
        Ok(())
    }
}

/// A clock before 1970 makes every signature one of the future.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
