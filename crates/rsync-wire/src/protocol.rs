//! Which version of the protocol a connection speaks.

/// A protocol version that this crate speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(u8);

impl Default for Protocol {
    fn default() -> Self {
        Self::NEWEST
    }
}

impl Protocol {
    /// The newest version, that of rsync 3.4 and later.
    pub const NEWEST: Self = Self(32);
    /// That of rsync 3.1 (2013): errors that carry an exit code, nanoseconds, a longer goodbye.
    pub const V31: Self = Self(31);
    /// That of rsync 3.0 (2008): frames in both directions, integers of variable length.
    pub const V30: Self = Self(30);
    /// The oldest version, that of rsync 2.6.4 (2005).
    pub const OLDEST: Self = Self(29);

    /// The version for a client that announced `version.subversion` (3.1), or `None` if it is too old.
    /// A subversion other than 0 is a pre-release, which falls back by one.
    #[must_use]
    pub fn negotiate(version: u32, subversion: u32) -> Option<Self> {
        let newest = u32::from(Self::NEWEST.0);
        let pre_release = version >= newest && subversion != 0;
        let agreed = version.min(newest) - u32::from(pre_release && version > 0);
        let agreed = u8::try_from(agreed).ok()?;
        (agreed >= Self::OLDEST.0).then_some(Self(agreed))
    }

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Protocol;

    #[test]
    fn the_lower_version_wins_and_pre_releases_fall_back() {
        let of = |v, s| Protocol::negotiate(v, s).map(Protocol::number);
        assert_eq!(of(32, 0), Some(32));
        assert_eq!(of(31, 0), Some(31));
        assert_eq!(of(33, 0), Some(32));
        assert_eq!(of(33, 1), Some(31));
        assert_eq!(of(32, 14), Some(31));
        assert_eq!(of(31, 14), Some(31), "below ours the subversion says nothing");
        assert_eq!((of(30, 0), of(29, 0)), (Some(30), Some(29)));
        assert_eq!(of(28, 0), None);
        assert_eq!(of(0, 9), None);
    }
}
