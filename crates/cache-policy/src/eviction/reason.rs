//! Why a blob goes, and why one stays.

use crate::UnixMs;

/// Why a blob is evicted. The order is the order in which classes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Its contents are wrong, and nobody looked at it for longer than its grace, or its room is needed.
    Quarantined {
        /// Since when.
        since: UnixMs,
    },
    /// No module has referred to it for longer than the grace.
    Unreferenced {
        /// Since when.
        since: UnixMs,
    },
    /// Room is needed, and a newer file of the same packages came after anybody last asked for it.
    Superseded {
        /// When the newer one came.
        since: UnixMs,
        /// When it was last asked for, or came.
        last_use: UnixMs,
    },
    /// Room is needed, and nobody asked for it in a long time.
    Referenced {
        /// When it was last asked for, or came.
        last_use: UnixMs,
    },
}

impl Reason {
    /// The reason's name in logs, metrics and plans.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Quarantined { .. } => "quarantined",
            Self::Unreferenced { .. } => "unreferenced",
            Self::Superseded { .. } => "superseded",
            Self::Referenced { .. } => "referenced",
        }
    }

    /// Which class goes first.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::Quarantined { .. } => 0,
            Self::Unreferenced { .. } => 1,
            Self::Superseded { .. } => 2,
            Self::Referenced { .. } => 3,
        }
    }
}

/// Why a blob stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protection {
    /// The operator wants it kept.
    Pinned,
    /// An object that leads to it is being fetched.
    Leased,
    /// Somebody reads it.
    BeingRead,
    /// It can't be had again.
    NotRefetchable,
    /// Unreferenced or in quarantine, but not for as long as the grace.
    WithinGrace,
    /// Asked for, or brought here, too shortly before.
    RecentlyAccessed,
    /// A module refers to it, and there is room.
    Referenced,
}

impl Protection {
    /// Every protection, in the order in which they are looked at.
    pub const ALL: [Self; 7] = [
        Self::Pinned,
        Self::Leased,
        Self::BeingRead,
        Self::NotRefetchable,
        Self::WithinGrace,
        Self::RecentlyAccessed,
        Self::Referenced,
    ];

    /// The protection's name in logs, metrics and plans.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Leased => "leased",
            Self::BeingRead => "being_read",
            Self::NotRefetchable => "not_refetchable",
            Self::WithinGrace => "within_grace",
            Self::RecentlyAccessed => "recently_accessed",
            Self::Referenced => "referenced",
        }
    }
}
