//! What a plan is made from.

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

impl Usage {
    /// This share of the capacity, in octets; as good as unlimited when the capacity is unknown.
    #[must_use]
    pub fn share_bytes(self, percent: u8) -> u64 {
        if self.capacity_bytes == 0 {
            return u64::MAX;
        }
        let share = u128::from(self.capacity_bytes) * u128::from(percent) / 100;
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a blob stays after the last module stopped referring to it.
    pub unreferenced_grace_ms: u64,
    /// How long a file in quarantine stays for a person to look at, unless its room is needed.
    pub quarantine_grace_ms: u64,
    /// How long a blob stays after anybody asked for it, or after it came.
    pub keep_accessed_ms: u64,
    /// Above this share of its capacity a replica is made room on, in percent.
    pub high_water_percent: u8,
    /// Down to this share, in percent.
    pub low_water_percent: u8,
}

/// What the catalogue says of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A module refers to it.
    Referenced,
    /// A module refers to it, but a file of the same packages came at `since`.
    Superseded {
        /// When the newest of them came.
        since: UnixMs,
    },
    /// No module refers to it, and that was first seen at `since`.
    Unreferenced {
        /// When it was first seen to be unreferenced.
        since: UnixMs,
    },
    /// Its contents were found wrong at `since`.
    Quarantined {
        /// When it was found.
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
    /// What the catalogue says of it.
    pub standing: Standing,
    /// When it came to this replica.
    pub added: UnixMs,
    /// When a client last asked for it, if ever.
    pub last_access: Option<UnixMs>,
    /// Somebody holds a lease on an object that leads to it.
    pub leased: bool,
    /// The replica has just refused to evict it because somebody reads it.
    pub being_read: bool,
    /// The operator wants it kept.
    pub pinned: bool,
    /// It could be downloaded again: false for RESTRICT=fetch, which somebody once brought by hand.
    pub refetchable: bool,
    /// An eviction of it is decided and not acknowledged yet.
    pub decided: bool,
}

impl Candidate {
    /// When it was last of use: asked for, or brought here.
    #[must_use]
    pub fn last_use(&self) -> UnixMs {
        self.last_access.map_or(self.added, |last| last.max(self.added))
    }
}
