//! A distfile: what the tree knows of one file that packages download.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, excerpt};
use crate::{Digests, HashAlgorithm};

/// The name of a distfile: one path element that is safe to create on disk and to put in a log line.
///
/// 1 to 255 octets of UTF-8 without `/`, NUL or another control character, and neither `.` nor `..`. Everything
/// else occurs: `+`, `@`, `{`, `~`, a literal `%2F`. So a name is not a URL path until it was percent-encoded,
/// and a name that came out of a URL was decoded exactly once.
///
/// A clone shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DistfileName(Arc<str>);

impl DistfileName {
    /// The longest name in octets: what every file system that matters can hold in one path element.
    pub const OCTETS_MAX: usize = 255;

    /// The name as it is, not encoded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which rule `name` breaks.
    fn check(name: &str) -> Option<&'static str> {
        if name.is_empty() {
            Some("at least one octet is expected")
        } else if name.len() > Self::OCTETS_MAX {
            Some("at most 255 octets are expected")
        } else if name == "." || name == ".." {
            Some("`.` and `..` are directories")
        } else if name.contains('/') {
            Some("one path element without `/` is expected")
        } else if name.contains(char::is_control) {
            Some("no control characters are expected")
        } else {
            None
        }
    }
}

impl TryFrom<&str> for DistfileName {
    type Error = Error;

    fn try_from(name: &str) -> Result<Self, Error> {
        match Self::check(name) {
            None => Ok(Self(name.into())),
            Some(expected) => Err(Error::DistfileName { name: excerpt(name.as_bytes()), expected }),
        }
    }
}

impl TryFrom<&[u8]> for DistfileName {
    type Error = Error;

    fn try_from(name: &[u8]) -> Result<Self, Error> {
        match std::str::from_utf8(name) {
            Ok(text) => Self::try_from(text),
            Err(_) => Err(Error::DistfileName { name: excerpt(name), expected: "UTF-8 is expected" }),
        }
    }
}

impl FromStr for DistfileName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::try_from(name)
    }
}

impl AsRef<str> for DistfileName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Lets maps keyed by name be asked with a `&str`.
impl Borrow<str> for DistfileName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DistfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DistfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A package as `category/package`. A tree's catalogue names each of them many times: a clone shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageKey(Arc<str>);

impl PackageKey {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PackageKey {
    fn from(key: &str) -> Self {
        Self(key.into())
    }
}

/// Lets lists of them be joined, and sets be asked with a `&str`.
impl Borrow<str> for PackageKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<&str> for PackageKey {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl fmt::Display for PackageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PackageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Where a distfile may be fetched from (PMS, "RESTRICT").
///
/// The order is from the least to the most restricted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Restriction {
    /// From mirrors and from its own sources.
    #[default]
    None,
    /// `RESTRICT=mirror`: only from its own sources.
    Mirror,
    /// `RESTRICT=fetch`: never fetched, only served when somebody imported it.
    Fetch,
}

impl Restriction {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mirror => "mirror",
            Self::Fetch => "fetch",
        }
    }
}

/// One distfile of one repository. Its identity is the name and the digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distfile {
    /// The name in `DISTDIR` and on mirrors.
    pub name: DistfileName,
    /// The length of the file.
    pub size_bytes: u64,
    /// Every digest of its DIST line; never empty when it comes from a Manifest.
    pub digests: Digests,
    /// URLs that may be fetched, in the order to try them, each once, `mirror://` expanded. Without the public
    /// mirrors, which are the business of whoever fetches.
    pub sources: Vec<String>,
    /// Whether mirrors may be asked, or nobody.
    pub restriction: Restriction,
    /// `category/package` of every package that names this distfile in its Manifest, sorted, each once.
    pub packages: Vec<PackageKey>,
}

impl Distfile {
    /// Whether no `SRC_URI` tells where it comes from, though fetching it is not forbidden.
    #[must_use]
    pub fn lacks_source(&self) -> bool {
        self.sources.is_empty() && self.restriction != Restriction::Fetch
    }

    /// Whether one of its digests is of a function without known collisions.
    #[must_use]
    pub fn is_verifiable(&self) -> bool {
        self.digests.best().is_some_and(|(algorithm, _)| HashAlgorithm::is_collision_resistant(algorithm))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn real_odd_names_are_names() {
        for name in ["gtk+-3.24.tar.xz", "@scope%2Fpkg-1.0.tgz", "a{b}.zip", "foo~1", "a b", "été", "..."] {
            assert_eq!(DistfileName::try_from(name).unwrap().as_str(), name);
        }
        assert!(DistfileName::try_from("x".repeat(255).as_str()).is_ok());
    }

    #[test]
    fn what_is_no_single_path_element_is_refused() {
        let long = "x".repeat(256);
        for name in ["", ".", "..", "a/b", "/", "a\0b", "a\nb", "\u{7f}", "\u{85}", long.as_str()] {
            assert!(DistfileName::try_from(name).is_err(), "{name:?}");
        }
        assert!(DistfileName::try_from(b"\xff".as_slice()).is_err());
    }

    #[test]
    fn maps_can_be_asked_with_plain_text() {
        let map = std::collections::BTreeMap::from([("a".parse::<DistfileName>().unwrap(), 1)]);
        assert_eq!(map.get("a"), Some(&1));
    }

    proptest! {
        #[test]
        fn any_octets_are_a_name_or_an_error(octets: Vec<u8>) {
            if let Ok(name) = DistfileName::try_from(octets.as_slice()) {
                prop_assert_eq!(name.as_str().as_bytes(), octets.as_slice());
            }
        }
    }
}
