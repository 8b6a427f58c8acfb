//! Digests as Manifests list them, computed from the pack.

use gentoo_repo::{Digests, HashAlgorithm};
use sha2::{Digest as _, Sha256, Sha512};

use crate::generation::{Generation, NodeId};

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) size_bytes: u64,
    pub(super) digests: Digests,
}

impl Expected {
    /// Takes in what another line says of the same file. `false` if the two contradict each other.
    pub(super) fn absorb(&mut self, other: &Self) -> bool {
        let agrees = self.size_bytes == other.size_bytes && self.digests.agrees_with(&other.digests);
        self.digests.absorb(&other.digests);
        agrees
    }
}

/// What is wrong with a file, `None` if nothing is.
///
/// Algorithms that we can't compute are passed over as long as a strong one that we can is listed.
pub(super) fn fault(
    generation: &Generation,
    id: NodeId,
    expected: &Expected,
    buffer: &mut [u8],
) -> Option<String> {
    let node = generation.node(id);
    if node.size != expected.size_bytes {
        return Some(format!("{} octets, but its Manifest says {}", node.size, expected.size_bytes));
    }
    let wanted = |algorithm| expected.digests.get(algorithm);
    // The digest that contents are named by is the one that Manifests call BLAKE2B.
    let blake2b = wanted(HashAlgorithm::Blake2b);
    if let (Some(blake2b), Some(found)) = (blake2b, node.digest)
        && blake2b != found.as_bytes()
    {
        return Some("BLAKE2B differs from its Manifest".to_owned());
    }
    let (sha512, sha256) = (wanted(HashAlgorithm::Sha512), wanted(HashAlgorithm::Sha256));
    if blake2b.is_none() && sha512.is_none() && sha256.is_none() {
        return Some("its Manifest lists none of BLAKE2B, SHA512, SHA256".to_owned());
    }
    let mut hashers = (sha512.map(|_| Sha512::new()), sha256.map(|_| Sha256::new()));
    if hashers.0.is_some() || hashers.1.is_some() {
        let mut offset = 0;
        loop {
            match generation.read_at(id, offset, buffer) {
                Ok(0) => break,
                Ok(read) => {
                    if let Some(hasher) = &mut hashers.0 {
                        hasher.update(&buffer[..read]);
                    }
                    if let Some(hasher) = &mut hashers.1 {
                        hasher.update(&buffer[..read]);
                    }
                    offset += read as u64;
                }
                Err(error) => return Some(error.to_string()),
            }
        }
    }
    let differs = |found: Option<Vec<u8>>, wanted: Option<&[u8]>| found.as_deref() != wanted;
    if differs(hashers.0.map(|hasher| hasher.finalize().to_vec()), sha512) {
        return Some("SHA512 differs from its Manifest".to_owned());
    }
    if differs(hashers.1.map(|hasher| hasher.finalize().to_vec()), sha256) {
        return Some("SHA256 differs from its Manifest".to_owned());
    }
    None
}
