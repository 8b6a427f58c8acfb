//! Which contents were found to fit what a signed Manifest says of them, so that it need not be found out again.

use blake2::{Blake2b512, Digest as _};
use gentoo_repo::catalogue::facts::Tag;

use super::digests::Expected;
use crate::generation::{Generation, NodeId};

/// By position, what contents that have not changed since were found to fit.
#[derive(Debug, Default)]
pub(super) struct Fits(Vec<Option<Tag>>);

impl Fits {
    /// Carries over what was found of `base` to the nodes that have the same content.
    pub(super) fn of_unchanged(generation: &Generation, base: &Generation, found: &[Option<Tag>]) -> Self {
        if found.is_empty() {
            return Self::default();
        }
        let unchanged = generation.unchanged_since(base).into_iter();
        Self(unchanged.map(|at| found.get(at? as usize).copied().flatten()).collect())
    }

    /// What a node was found to fit.
    pub(super) fn get(&self, id: NodeId) -> Option<Tag> {
        self.0.get(id.position() as usize).copied().flatten()
    }
}

/// Stands for everything that a Manifest says of a file.
pub(super) fn tag(expected: &Expected) -> Tag {
    let mut hasher = Blake2b512::new();
    hasher.update(expected.size_bytes.to_le_bytes());
    for (algorithm, digest) in &expected.digests {
        hasher.update(algorithm.manifest_name());
        hasher.update([0]);
        hasher.update(digest);
    }
    let mut tag = Tag::default();
    tag.copy_from_slice(&hasher.finalize()[..size_of::<Tag>()]);
    tag
}
