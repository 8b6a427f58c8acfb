//! Which blobs of one replica go, and why each of the others stays.
//!
//! A blob is looked at in two steps. Its *class* says whether there is a reason to evict it at all; a
//! [`Protection`] then overrules any reason. Today one class is evicted, unreferenced blobs past their
//! grace; classes to come (quarantined, superseded, referenced under pressure) are further variants of
//! [`Reason`], and their limits further fields of [`Limits`].

use crate::UnixMs;

/// BLAKE2B-512 of a blob's contents: its name in every store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey([u8; 64]);

impl BlobKey {
    /// The key with these octets.
    #[must_use]
    pub const fn new(octets: [u8; 64]) -> Self {
        Self(octets)
    }

    /// The 64 octets.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

/// How full one replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// What its blobs take.
    pub used_bytes: u64,
    /// What it may take; 0 when unknown.
    pub capacity_bytes: u64,
}

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a blob stays after the last module stopped referring to it, and after anybody last
    /// asked for it.
    pub unreferenced_grace_ms: u64,
}

/// Whether any module's catalogue refers to a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// At least one does.
    Referenced,
    /// None does, and that was first seen at `since`.
    Unreferenced {
        /// When it was first seen to be unreferenced.
        since: UnixMs,
    },
}

/// What is known of one blob on one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each one a protection of its own")]
pub struct Candidate {
    /// Which blob.
    pub blob: BlobKey,
    /// What evicting it frees.
    pub size_bytes: u64,
    /// Whether the catalogue refers to it.
    pub reference: Reference,
    /// When a client last asked for it, if ever.
    pub last_access: Option<UnixMs>,
    /// Somebody holds a lease on an object that leads to it.
    pub leased: bool,
    /// The operator wants it kept.
    pub pinned: bool,
    /// It could be downloaded again: false for RESTRICT=fetch, which somebody once brought by hand.
    pub refetchable: bool,
}

/// Why a blob is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No module has referred to it for longer than the grace.
    Unreferenced {
        /// Since when.
        since: UnixMs,
    },
}

impl Reason {
    /// The reason's name in logs, metrics and plans.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unreferenced { .. } => "unreferenced",
        }
    }
}

/// Why a blob stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protection {
    /// Its class is not evicted: a module refers to it.
    Referenced,
    /// Unreferenced, but not for as long as the grace.
    WithinGrace,
    /// Asked for within the grace.
    RecentlyAccessed,
    /// An object that leads to it is being fetched.
    Leased,
    /// The operator wants it kept.
    Pinned,
    /// It can't be had again.
    NotRefetchable,
}

impl Protection {
    /// Every protection, in the order in which they are looked at.
    pub const ALL: [Self; 6] = [
        Self::Pinned,
        Self::Leased,
        Self::NotRefetchable,
        Self::Referenced,
        Self::WithinGrace,
        Self::RecentlyAccessed,
    ];

    /// The protection's name in logs, metrics and plans.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Referenced => "referenced",
            Self::WithinGrace => "within_grace",
            Self::RecentlyAccessed => "recently_accessed",
            Self::Leased => "leased",
            Self::Pinned => "pinned",
            Self::NotRefetchable => "not_refetchable",
        }
    }
}

/// What becomes of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes.
    Evict(Reason),
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
    /// What goes, longest unreferenced first.
    pub evict: Vec<Eviction>,
    /// What stays, in the candidates' order.
    pub kept: Vec<Kept>,
    /// How full the replica is once the plan is carried out.
    pub usage_after: Usage,
}

/// Gives every candidate of one replica a verdict.
///
/// The answer depends on nothing but the arguments, and a candidate's verdict on no other candidate.
#[must_use]
pub fn plan_eviction(usage: Usage, candidates: &[Candidate], now: UnixMs, limits: Limits) -> Plan {
    let mut plan = Plan { usage_after: usage, ..Plan::default() };
    for candidate in candidates {
        let Candidate { blob, size_bytes, .. } = *candidate;
        match decide(candidate, now, limits) {
            Verdict::Evict(reason) => {
                plan.evict.push(Eviction { blob, size_bytes, reason });
                plan.usage_after.used_bytes = plan.usage_after.used_bytes.saturating_sub(size_bytes);
            }
            Verdict::Keep(protection) => plan.kept.push(Kept { blob, size_bytes, protection }),
        }
    }
    plan.evict.sort_by_key(|eviction| {
        let Reason::Unreferenced { since } = eviction.reason;
        (since, eviction.blob)
    });
    plan
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
    if !candidate.refetchable {
        return Verdict::Keep(Protection::NotRefetchable);
    }
    let Reference::Unreferenced { since } = candidate.reference else {
        return Verdict::Keep(Protection::Referenced);
    };
    // A grace of 0 lets go of a blob in the very millisecond in which it became unreferenced.
    let over = |from: UnixMs| now >= from && now.since_ms(from) >= limits.unreferenced_grace_ms;
    if !over(since) {
        return Verdict::Keep(Protection::WithinGrace);
    }
    if candidate.last_access.is_some_and(|last| !over(last)) {
        return Verdict::Keep(Protection::RecentlyAccessed);
    }
    Verdict::Evict(Reason::Unreferenced { since })
}
