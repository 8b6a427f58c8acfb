//! Digests as Manifests list them, computed from the pack.

use gentoo_repo::{Digests, HashAlgorithm, Hashers};

use crate::generation::{Generation, NodeId};
use crate::report::{Fault, FaultKind};

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) size_bytes: u64,
    pub(super) digests: Digests,
}

impl Expected {
    /// Takes in what another line says of the same file: together they list all digests that either does. `false` if
    /// the two contradict each other.
    pub(super) fn absorb(&mut self, other: &Self) -> bool {
        let differs = |(algorithm, digest)| self.digests.get(algorithm).is_some_and(|known| known != digest);
        let agrees = self.size_bytes == other.size_bytes && !other.digests.iter().any(differs);
        self.digests.absorb(&other.digests);
        agrees
    }
}

/// What is wrong with a file, `None` if nothing is: every listed digest has to fit, and one of them has to be of an
/// algorithm that is worth something.
pub(super) fn fault(
    generation: &Generation,
    id: NodeId,
    path: &str,
    expected: &Expected,
    buffer: &mut [u8],
) -> Option<Fault> {
    let node = generation.node(id);
    if node.size != expected.size_bytes {
        let why = format!("{} octets, but its Manifest says {}", node.size, expected.size_bytes);
        let fault = Fault::new(FaultKind::Size, path, why);
        return Some(fault.expected(expected.size_bytes.to_string()).found(node.size.to_string()));
    }
    if !expected.digests.iter().any(|(algorithm, _)| algorithm.is_collision_resistant()) {
        let why = "its Manifest lists no digest that can be relied on".to_owned();
        return Some(Fault::new(FaultKind::Digest, path, why));
    }
    // The digest that contents are named by is the one that Manifests call BLAKE2B.
    let known = node.digest.map(|digest| (HashAlgorithm::Blake2b, digest.as_bytes().to_vec()));
    let known: Digests = known.into_iter().collect();
    if let Some(fault) = difference(path, &expected.digests, &known) {
        return Some(fault);
    }
    let unknown = expected.digests.iter().map(|(algorithm, _)| algorithm);
    let mut hashers = Hashers::new(unknown.filter(|&algorithm| known.get(algorithm).is_none()));
    if hashers.is_empty() {
        return None;
    }
    let mut offset = 0;
    loop {
        match generation.read_at(id, offset, buffer) {
            Ok(0) => break,
            Ok(read) => {
                hashers.update(&buffer[..read]);
                offset += read as u64;
            }
            Err(error) => return Some(Fault::new(FaultKind::Unreadable, path, error.to_string())),
        }
    }
    difference(path, &expected.digests, &hashers.finish())
}

/// The first digest that differs.
fn difference(path: &str, expected: &Digests, found: &Digests) -> Option<Fault> {
    found.iter().find_map(|(algorithm, found)| {
        let expected = expected.get(algorithm).filter(|&expected| expected != found)?;
        let fault = Fault::new(FaultKind::Digest, path, format!("{algorithm} differs from its Manifest"));
        let word = |digest| format!("{algorithm} {}", hex::encode(digest));
        Some(fault.expected(word(expected)).found(word(found)))
    })
}
