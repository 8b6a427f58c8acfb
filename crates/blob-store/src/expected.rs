//! What a part is meant to become.

use std::fmt::Write as _;

use blake2::{Blake2b512, Digest as _};
use gentoo_repo::{Digests, DistfileName, HashAlgorithm};

use crate::digest::BlobDigest;
use crate::hashers;

/// Name, length and digests of a DIST line with at least one digest that proves the contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    name: DistfileName,
    size_bytes: u64,
    digests: Digests,
}

/// No digest of the DIST line is one that we can check: such a file is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("none of BLAKE2B, SHA512, SHA256 is listed")]
pub struct Unverifiable;

impl Expected {
    /// From a DIST line.
    ///
    /// # Errors
    /// No listed digest is of a kind that we check, or one of those has the wrong length.
    pub fn new(name: DistfileName, size_bytes: u64, digests: Digests) -> Result<Self, Unverifiable> {
        if hashers::can_verify(&digests) { Ok(Self { name, size_bytes, digests }) } else { Err(Unverifiable) }
    }

    /// The distfile's name.
    #[must_use]
    pub fn name(&self) -> &DistfileName {
        &self.name
    }

    /// The length.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Everything listed, also what we can't check.
    #[must_use]
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The blob that it will be, if the DIST line has a BLAKE2B.
    #[must_use]
    pub fn blob(&self) -> Option<BlobDigest> {
        self.digests.get(HashAlgorithm::Blake2b).and_then(|bytes| BlobDigest::try_from(bytes).ok())
    }

    /// The contents of a part's state file. Ends with a line that shows that it is whole.
    pub(crate) fn to_state(&self) -> String {
        let mut state = format!("name {}\nsize {}\n", self.name.as_str(), self.size_bytes);
        for (algorithm, digest) in &self.digests {
            // Writing to a String never fails.
            let _ = writeln!(state, "{} {}", algorithm.manifest_name(), hex::encode(digest));
        }
        state.push_str(STATE_END);
        state
    }

    /// The part's file name: one for each name and contents.
    pub(crate) fn key(&self) -> String {
        hex::encode(&Blake2b512::digest(self.to_state().as_bytes())[..16])
    }
}

/// Last line of a state file.
pub(crate) const STATE_END: &str = "end\n";
