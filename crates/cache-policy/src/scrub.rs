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

/// The copies of one replica to read now, longest unread first. `next_run_ms` is how long it is to the next time
/// that this is asked, a night at least.
///
/// A fixed share each night would do if nights were never missed and nothing ever came; so whatever would
/// be too old soon after the next run is read as well: half a night is left for that run to be late and to read.
/// What seems to have been read in the future was read by a clock that was wrong, nobody knows when: it is among
/// the oldest, and not all of it is due at once.
#[must_use]
pub fn plan_scrub(copies: &[Copy], now: UnixMs, next_run_ms: u64, nights: u32) -> Vec<Copy> {
    let nights = nights.max(1);
    let next_run_ms = next_run_ms.max(NIGHT_MS);
    let all_ms = u64::from(nights) * NIGHT_MS;
    let is_future = |copy: &Copy| copy.verified > now.after_ms(NIGHT_MS);
    let share = share(copies.len(), next_run_ms, all_ms);
    let too_old = now.before_ms(all_ms.saturating_sub(next_run_ms.saturating_add(NIGHT_MS / 2)));
    let is_due = |copy: &Copy| !is_future(copy) && copy.verified <= too_old;
    let mut oldest_first = copies.to_vec();
    // What was read today already, by command, need not be read again.
    oldest_first.retain(|copy| {
        is_future(copy) || now.since_ms(copy.verified) >= NIGHT_MS / 2 || all_ms <= next_run_ms
    });
    oldest_first.sort_unstable_by_key(|copy| (!is_due(copy), !is_future(copy), *copy));
    let due = oldest_first.partition_point(is_due);
    oldest_first.truncate(share.max(due));
    oldest_first
}

const NIGHT_MS: u64 = 24 * 60 * 60 * 1000;

fn share(copies: usize, next_run_ms: u64, all_ms: u64) -> usize {
    let share = (copies as u128 * u128::from(next_run_ms)).div_ceil(u128::from(all_ms));
    usize::try_from(share).map_or(copies, |share| share.min(copies))
}
