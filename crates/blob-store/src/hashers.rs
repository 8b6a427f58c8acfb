//! The digests of a growing file.

use blake2::{Blake2b512, Digest as _};
use gentoo_repo::{Digests, HashAlgorithm};
use sha2::{Sha256, Sha512};

use crate::digest::BlobDigest;

/// BLAKE2B always, because it is the blob's name; the others if they are listed.
#[derive(Clone)]
pub(crate) struct Hashers {
    blake2b: Blake2b512,
    sha512: Option<Sha512>,
    sha256: Option<Sha256>,
}

/// True if one of the digests that we compute is listed and all of those have the right length.
pub(crate) fn can_verify(listed: &Digests) -> bool {
    let lengths = [(HashAlgorithm::Blake2b, 64), (HashAlgorithm::Sha512, 64), (HashAlgorithm::Sha256, 32)];
    let mut found = lengths.iter().filter_map(|&(algorithm, length)| {
        let digest = listed.get(algorithm)?;
        Some(digest.len() == length)
    });
    found.next().is_some_and(|right| right && found.all(|right| right))
}

impl Hashers {
    pub(crate) fn new(listed: &Digests) -> Self {
        Self {
            blake2b: Blake2b512::new(),
            sha512: listed.get(HashAlgorithm::Sha512).map(|_| Sha512::new()),
            sha256: listed.get(HashAlgorithm::Sha256).map(|_| Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.blake2b.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }

    /// The blob's name, or the first listed algorithm that differs.
    pub(crate) fn finish(self, listed: &Digests) -> Result<BlobDigest, &'static str> {
        let blake2b: [u8; 64] = self.blake2b.finalize().into();
        let differs = |algorithm: HashAlgorithm, found: &[u8]| {
            listed.get(algorithm).is_some_and(|expected| expected != found)
        };
        if differs(HashAlgorithm::Blake2b, &blake2b) {
            return Err("BLAKE2B");
        }
        if self.sha512.is_some_and(|sha512| differs(HashAlgorithm::Sha512, &sha512.finalize())) {
            return Err("SHA512");
        }
        if self.sha256.is_some_and(|sha256| differs(HashAlgorithm::Sha256, &sha256.finalize())) {
            return Err("SHA256");
        }
        Ok(BlobDigest::from(blake2b))
    }
}
