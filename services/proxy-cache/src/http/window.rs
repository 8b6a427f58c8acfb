//! How much of a growing file a client may see.

use blob_store::{PartState, Progress};

/// Files up to this size are verified before their first byte goes out: 84% of all distfiles.
pub(crate) const VERIFIED_FIRST_BYTES_MAX: u64 = 1 << 20;
/// Of larger ones this much is withheld until the digest is right: without it, no client can take a
/// wrong file for a complete one.
const WITHHELD_BYTES: u64 = 64 << 10;

/// The end of what may be seen; `None` once it is known to be wrong.
pub(crate) fn visible_end(progress: Progress, size_bytes: u64) -> Option<u64> {
    match progress.state {
        PartState::Right => Some(size_bytes),
        PartState::Wrong => None,
        PartState::Growing if size_bytes <= VERIFIED_FIRST_BYTES_MAX => Some(0),
        PartState::Growing => Some(progress.bytes.min(size_bytes - WITHHELD_BYTES)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_never_seen_before_it_is_right() {
        let growing = |bytes| Progress { bytes, state: PartState::Growing };
        let small = VERIFIED_FIRST_BYTES_MAX;
        assert_eq!(visible_end(growing(small), small), Some(0));
        let large = small + 1;
        assert_eq!(visible_end(growing(5), large), Some(5));
        assert_eq!(visible_end(growing(large), large), Some(large - (64 << 10)));
        assert_eq!(visible_end(Progress { bytes: large, state: PartState::Right }, large), Some(large));
        assert_eq!(visible_end(Progress { bytes: large, state: PartState::Wrong }, large), None);
    }
}
