//! What can be wrong with a repository without costing it the whole catalogue.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// What it is.
    pub kind: FaultKind,
    /// The file below the repository's root, with `:LINE` where there is one.
    pub path: String,
    /// What exactly, for people.
    pub detail: String,
}

impl Fault {
    pub(super) fn new(kind: FaultKind, path: String, detail: &dyn fmt::Display) -> Self {
        Self { kind, path, detail: detail.to_string() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind.as_str(), self.path, self.detail)
    }
}

/// Kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A Manifest line that cannot be read, or armour that is not whole.
    BrokenManifest,
    /// A cache entry that cannot be read, or whose name has no version.
    BrokenCacheEntry,
    /// A `SRC_URI` that cannot be read: the package version gives no sources.
    BrokenSrcUri,
    /// A `RESTRICT` that cannot be read: everything counts as restricted.
    BrokenRestrict,
    /// A `thirdpartymirrors` line that cannot be read.
    BrokenMirrorList,
    /// `SRC_URI` names a file that the package's Manifest does not.
    MissingDist,
    /// Two DIST lines describe one name differently; one description was kept.
    ConflictingDigests,
    /// A DIST line has no digest of a function without known collisions.
    WeakDigests,
    /// `mirror://` with a name that no list knows: the source was dropped.
    UnknownMirror,
    /// A source that is neither http, https nor ftp: it was dropped.
    UnsupportedSource,
    /// A distfile has more sources than any real one: the others were dropped.
    TooManySources,
}

impl FaultKind {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrokenManifest => "broken-manifest",
            Self::BrokenCacheEntry => "broken-cache-entry",
            Self::BrokenSrcUri => "broken-src-uri",
            Self::BrokenRestrict => "broken-restrict",
            Self::BrokenMirrorList => "broken-mirror-list",
            Self::MissingDist => "missing-dist",
            Self::ConflictingDigests => "conflicting-digests",
            Self::WeakDigests => "weak-digests",
            Self::UnknownMirror => "unknown-mirror",
            Self::UnsupportedSource => "unsupported-source",
            Self::TooManySources => "too-many-sources",
        }
    }

    /// Whether a tree with such a fault contradicts itself: it was caught between two states, or it is damaged.
    ///
    /// The other kinds are the habits of real trees, such as an overlay that uses its master's mirrors.
    #[must_use]
    pub const fn breaks_consistency(self) -> bool {
        match self {
            Self::BrokenManifest
            | Self::BrokenCacheEntry
            | Self::BrokenSrcUri
            | Self::BrokenRestrict
            | Self::MissingDist => true,
            Self::BrokenMirrorList
            | Self::ConflictingDigests
            | Self::WeakDigests
            | Self::UnknownMirror
            | Self::UnsupportedSource
            | Self::TooManySources => false,
        }
    }
}
