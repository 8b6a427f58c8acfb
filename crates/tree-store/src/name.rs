//! Names that become directory names of ours.

use std::fmt;
use std::str::FromStr;

use crate::TreeError;

/// The name of an rsync module, which is one repository. Safe as a directory name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleName(String);

impl ModuleName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModuleName {
    type Err = TreeError;

    fn from_str(name: &str) -> Result<Self, TreeError> {
        let fits = (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._+-".contains(&octet));
        if fits { Ok(Self(name.to_owned())) } else { Err(TreeError::ModuleName { name: name.to_owned() }) }
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// BLAKE2b-512 of a file's content: what contents are named by, and what a Manifest calls BLAKE2B.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest([u8; 64]);

impl ContentDigest {
    /// Wraps a BLAKE2B-512.
    #[must_use]
    pub const fn new(octets: [u8; 64]) -> Self {
        Self(octets)
    }

    /// The 64 octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// The first eight octets: enough to find a content by, not to know it by.
    pub(crate) fn prefix(&self) -> u64 {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(prefix)
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentDigest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_are_safe_directory_names() {
        for good in ["gentoo-portage", "niden.x", "a", "c++"] {
            assert!(good.parse::<ModuleName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<ModuleName>().is_err(), "{bad}");
        }
    }
}
