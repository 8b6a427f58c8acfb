//! Which copies are read tonight, so that each is read within so many nights.

use crate::UnixMs;
use crate::eviction::BlobKey;

/// One blob on one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Copy {
    /// When all of it was last read and found right, or when it came: it was verified then.
    pub verified: UnixMs,
    /// Which blob.
    pub blob: BlobKey,
    /// What reading it costs.
    pub size_bytes: u64,
}

/// The copies of one replica to read tonight, longest unread first.
///
/// A fixed share each night would do if nights were never missed and nothing ever came; so whatever would
/// be too old by the next night is read as well.
#[must_use]
pub fn plan_scrub(copies: &[Copy], now: UnixMs, nights: u32) -> Vec<Copy> {
    const NIGHT_MS: u64 = 24 * 60 * 60 * 1000;
    let nights = nights.max(1);
    let mut oldest_first = copies.to_vec();
    oldest_first.sort_unstable();
    let share = copies.len().div_ceil(usize::try_from(nights).unwrap_or(usize::MAX));
    let too_old = now.before_ms(u64::from(nights - 1).saturating_mul(NIGHT_MS));
    let due = oldest_first.partition_point(|copy| copy.verified <= too_old);
    oldest_first.truncate(share.max(due));
    // What was read today already, by command, need not be read again.
    oldest_first.retain(|copy| now.since_ms(copy.verified) >= NIGHT_MS / 2 || nights == 1);
    oldest_first
}
