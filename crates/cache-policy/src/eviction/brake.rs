//! What makes a plan stop and ask.
//!
//! Everything else in the policy is right or wrong for one blob. A brake looks at the whole: a tree that
//! lost half its files, or a configuration with one nought too few, makes every single decision look
//! right.

use super::Usage;
use super::plan::Plan;

/// What needs no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrakeLimits {
    /// The largest share of a replica's blobs, by number or by octets, that one plan deletes.
    pub share_percent_max: u8,
    /// The largest share of a module's distfiles that one generation drops, or several within
    /// `catalogue_within_ms`.
    pub catalogue_percent_max: u8,
    /// How far back a module's catalogue is compared with what it had; 0: only with the generation before.
    pub catalogue_within_ms: u64,
    /// Fewer at once are never too many, whatever the share: a small cache loses half of it with one file.
    pub files_min: u64,
}

/// Something that is too much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// What was found, rounded up.
    pub percent: u8,
    /// What is allowed.
    pub percent_max: u8,
}

/// Whether `plan` deletes too much of a replica that has `blobs` blobs. `agreed_percent` is what the
/// operator agreed to, 0 for nothing: it replaces the limit where it is higher.
#[must_use]
pub fn plan_excess(plan: &Plan, usage: Usage, limits: BrakeLimits, agreed_percent: u8) -> Option<Excess> {
    let evicted = plan.evict.len() as u64;
    let blobs = evicted.saturating_add(plan.kept.len() as u64);
    let kept_bytes = plan.kept.iter().fold(0u64, |sum, kept| sum.saturating_add(kept.size_bytes));
    let freed = plan.freed_bytes();
    // What the replica says of its disk may be older than the list of its blobs.
    let bytes = usage.used_bytes.max(freed.saturating_add(kept_bytes));
    let percent = percent_up(evicted, blobs).max(percent_up(freed, bytes));
    let percent_max = limits.share_percent_max.max(agreed_percent);
    (evicted >= limits.files_min && percent > percent_max).then_some(Excess { percent, percent_max })
}

/// Whether `lost` of `before` are too many: `files_min` at least, and more than the share.
pub(super) fn excess(before: u64, lost: u64, percent_max: u8, files_min: u64) -> Option<Excess> {
    let percent = percent_up(lost, before);
    (lost >= files_min && percent > percent_max).then_some(Excess { percent, percent_max })
}

/// Whether a module that had `before` distfiles may vanish with all of them without a question.
#[must_use]
pub fn vanished_excess(before: u64, limits: BrakeLimits) -> Option<Excess> {
    excess(before, before, limits.catalogue_percent_max, limits.files_min)
}

/// `part` of `whole` in percent, rounded up, at most 100; 0 of nothing.
fn percent_up(part: u64, whole: u64) -> u8 {
    if whole == 0 {
        return 0;
    }
    let percent = (u128::from(part) * 100).div_ceil(u128::from(whole));
    u8::try_from(percent.min(100)).unwrap_or(100)
}
