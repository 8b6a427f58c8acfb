//! From candidates to a plan.

use std::cmp::Reverse;

use super::candidate::{BlobKey, Candidate, Limits, Standing, Usage};
use super::reason::{Protection, Reason};
use crate::UnixMs;

/// What becomes of one candidate, as far as it depends on nothing but itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes.
    Evict(Reason),
    /// It goes if room is needed; else it stays for the second reason.
    Spare(Reason, Protection),
    /// It stays.
    Keep(Protection),
}

/// One blob to evict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// Which blob.
    pub blob: BlobKey,
    /// What it frees.
    pub size_bytes: u64,
    /// Why.
    pub reason: Reason,
}

/// One blob that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Which blob.
    pub blob: BlobKey,
    /// What it takes.
    pub size_bytes: u64,
    /// Why.
    pub protection: Protection,
}

/// A verdict for every candidate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What goes: class by class, and in each the one that is missed least first.
    pub evict: Vec<Eviction>,
    /// What stays, by key.
    pub kept: Vec<Kept>,
    /// How full the replica is once the plan is carried out.
    pub usage_after: Usage,
    /// What is missing to the low water although everything that may go goes. 0 unless the high water
    /// would still be exceeded.
    pub short_bytes: u64,
}

impl Plan {
    /// What the plan frees.
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        self.evict.iter().fold(0, |sum, one| sum.saturating_add(one.size_bytes))
    }
}

/// Gives every candidate of one replica a verdict. The answer depends on nothing but the arguments, not
/// even on the candidates' order.
#[must_use]
pub fn plan_eviction(usage: Usage, candidates: &[Candidate], now: UnixMs, limits: Limits) -> Plan {
    let mut plan = Plan { usage_after: usage, ..Plan::default() };
    let mut spare = Vec::new();
    for candidate in candidates {
        match decide(candidate, now, limits) {
            Verdict::Evict(reason) => plan.take(candidate, reason),
            Verdict::Spare(reason, otherwise) => spare.push((candidate, reason, otherwise)),
            Verdict::Keep(protection) => plan.keep(candidate, protection),
        }
    }
    let high = usage.share_bytes(limits.high_water_percent);
    let low = usage.share_bytes(limits.low_water_percent).min(high);
    let pressed = plan.usage_after.used_bytes > high;
    if pressed {
        spare.sort_by_key(|(candidate, reason, _)| {
            // What was decided before counts first, so that planning again doesn't take others as well.
            let idle_ms = now.since_ms(candidate.last_use());
            let weight = u128::from(idle_ms) * u128::from(candidate.size_bytes);
            (!candidate.decided, reason.rank(), Reverse(weight), candidate.blob)
        });
    }
    for (candidate, reason, otherwise) in spare {
        if pressed && plan.usage_after.used_bytes > low && candidate.size_bytes > 0 {
            plan.take(candidate, reason);
        } else {
            plan.keep(candidate, otherwise);
        }
    }
    if pressed {
        plan.short_bytes = plan.usage_after.used_bytes.saturating_sub(low);
    }
    plan.kept.sort_by_key(|kept| kept.blob);
    plan.evict.sort_by_key(|eviction| order(eviction, now));
    plan
}

impl Plan {
    fn take(&mut self, candidate: &Candidate, reason: Reason) {
        let Candidate { blob, size_bytes, .. } = *candidate;
        self.evict.push(Eviction { blob, size_bytes, reason });
        self.usage_after.used_bytes = self.usage_after.used_bytes.saturating_sub(size_bytes);
    }

    fn keep(&mut self, candidate: &Candidate, protection: Protection) {
        let Candidate { blob, size_bytes, .. } = *candidate;
        self.kept.push(Kept { blob, size_bytes, protection });
    }
}

/// Classes in their order; in the first two the longest there, in the others the heaviest first.
fn order(eviction: &Eviction, now: UnixMs) -> (u8, Reverse<u128>, BlobKey) {
    let weight = match eviction.reason {
        Reason::Quarantined { since } | Reason::Unreferenced { since } => u128::from(now.since_ms(since)),
        Reason::Superseded { last_use, .. } | Reason::Referenced { last_use } => {
            u128::from(now.since_ms(last_use)) * u128::from(eviction.size_bytes)
        }
    };
    (eviction.reason.rank(), Reverse(weight), eviction.blob)
}

/// One candidate's verdict. A blob with several protections is kept for the first one of
/// [`Protection::ALL`]: the operator's own wish is the most telling answer to "why is it still here?".
#[must_use]
pub fn decide(candidate: &Candidate, now: UnixMs, limits: Limits) -> Verdict {
    if candidate.pinned {
        return Verdict::Keep(Protection::Pinned);
    }
    if candidate.leased {
        return Verdict::Keep(Protection::Leased);
    }
    if candidate.being_read {
        return Verdict::Keep(Protection::BeingRead);
    }
    // A grace of 0 lets go of a blob in the very millisecond in which it began.
    let over = |from: UnixMs, grace_ms: u64| now >= from && now.since_ms(from) >= grace_ms;
    if let Standing::Quarantined { since } = candidate.standing {
        let reason = Reason::Quarantined { since };
        return if over(since, limits.quarantine_grace_ms) {
            Verdict::Evict(reason)
        } else {
            Verdict::Spare(reason, Protection::WithinGrace)
        };
    }
    if !candidate.refetchable {
        return Verdict::Keep(Protection::NotRefetchable);
    }
    if let Standing::Unreferenced { since } = candidate.standing
        && !over(since, limits.unreferenced_grace_ms)
    {
        return Verdict::Keep(Protection::WithinGrace);
    }
    let last_use = candidate.last_use();
    if !over(last_use, limits.keep_accessed_ms) {
        return Verdict::Keep(Protection::RecentlyAccessed);
    }
    match candidate.standing {
        Standing::Unreferenced { since } => Verdict::Evict(Reason::Unreferenced { since }),
        Standing::Superseded { since } if since > last_use => {
            Verdict::Spare(Reason::Superseded { since, last_use }, Protection::Referenced)
        }
        Standing::Superseded { .. } | Standing::Referenced | Standing::Quarantined { .. } => {
            Verdict::Spare(Reason::Referenced { last_use }, Protection::Referenced)
        }
    }
}
