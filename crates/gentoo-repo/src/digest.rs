//! Digests as Manifests name them (GLEP 74, "Checksum algorithms").

use std::fmt;

use crate::Error;

/// A hash function by its Manifest name.
///
/// The order is the order of preference for verifying: what Gentoo demands today first, broken functions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    /// `BLAKE2B`: BLAKE2b-512, the one that every current Manifest has.
    Blake2b,
    /// `SHA512`
    Sha512,
    /// `SHA3_512`
    Sha3_512,
    /// `SHA3_256`
    Sha3_256,
    /// `BLAKE2S`: BLAKE2s-256
    Blake2s,
    /// `SHA256`
    Sha256,
    /// `WHIRLPOOL`
    Whirlpool,
    /// `STREEBOG512`
    Streebog512,
    /// `STREEBOG256`
    Streebog256,
    /// `RMD160`
    Rmd160,
    /// `SHA1`: collisions are known.
    Sha1,
    /// `MD5`: collisions are known.
    Md5,
}

impl HashAlgorithm {
    /// Every algorithm, best first.
    pub const ALL: [Self; 12] = [
        Self::Blake2b,
        Self::Sha512,
        Self::Sha3_512,
        Self::Sha3_256,
        Self::Blake2s,
        Self::Sha256,
        Self::Whirlpool,
        Self::Streebog512,
        Self::Streebog256,
        Self::Rmd160,
        Self::Sha1,
        Self::Md5,
    ];

    /// The algorithm that Manifests call `name`, or `None` if it is not one that this crate knows.
    #[must_use]
    pub fn from_manifest_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.manifest_name() == name)
    }

    /// The word that Manifests and `layout.conf` use.
    #[must_use]
    pub const fn manifest_name(self) -> &'static str {
        match self {
            Self::Blake2b => "BLAKE2B",
            Self::Sha512 => "SHA512",
            Self::Sha3_512 => "SHA3_512",
            Self::Sha3_256 => "SHA3_256",
            Self::Blake2s => "BLAKE2S",
            Self::Sha256 => "SHA256",
            Self::Whirlpool => "WHIRLPOOL",
            Self::Streebog512 => "STREEBOG512",
            Self::Streebog256 => "STREEBOG256",
            Self::Rmd160 => "RMD160",
            Self::Sha1 => "SHA1",
            Self::Md5 => "MD5",
        }
    }

    /// How many octets such a digest has.
    #[must_use]
    pub const fn digest_octets(self) -> usize {
        match self {
            Self::Blake2b | Self::Sha512 | Self::Sha3_512 | Self::Whirlpool | Self::Streebog512 => 64,
            Self::Sha3_256 | Self::Blake2s | Self::Sha256 | Self::Streebog256 => 32,
            Self::Rmd160 | Self::Sha1 => 20,
            Self::Md5 => 16,
        }
    }

    /// Whether nobody is known to be able to make two files with one digest.
    #[must_use]
    pub const fn is_collision_resistant(self) -> bool {
        !matches!(self, Self::Rmd160 | Self::Sha1 | Self::Md5)
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.manifest_name())
    }
}

/// The digests of one file, at most one for each algorithm, every one of the right length.
///
/// A tree has hundreds of thousands of them: they lie in one allocation, each after its algorithm's position in
/// [`HashAlgorithm::ALL`], in that order.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digests(Vec<u8>);

impl Digests {
    /// No digests yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the digest of `algorithm`, replacing an earlier one.
    ///
    /// # Errors
    /// [`Error::DigestLength`] if `digest` has not as many octets as the algorithm gives.
    pub fn insert(&mut self, algorithm: HashAlgorithm, digest: impl AsRef<[u8]>) -> Result<(), Error> {
        let (digest, expected) = (digest.as_ref(), algorithm.digest_octets());
        if digest.len() != expected {
            return Err(Error::DigestLength { algorithm, expected, found: digest.len() });
        }
        let (at, known) = self.place(algorithm);
        if at == self.0.len() {
            self.0.reserve_exact(1 + expected);
            self.0.push(algorithm as u8);
            self.0.extend_from_slice(digest);
        } else if known {
            self.0[at + 1..=at + expected].copy_from_slice(digest);
        } else {
            self.0.splice(at..at, std::iter::once(algorithm as u8).chain(digest.iter().copied()));
        }
        Ok(())
    }

    /// Where the algorithm's digest is or belongs, and whether it is there.
    fn place(&self, wanted: HashAlgorithm) -> (usize, bool) {
        let mut at = 0;
        for (algorithm, digest) in self {
            if algorithm >= wanted {
                return (at, algorithm == wanted);
            }
            at += 1 + digest.len();
        }
        (at, false)
    }

    /// The octets of one digest.
    #[must_use]
    pub fn get(&self, algorithm: HashAlgorithm) -> Option<&[u8]> {
        self.iter().find(|(known, _)| *known == algorithm).map(|(_, digest)| digest)
    }

    /// All digests, best algorithm first.
    #[must_use]
    pub fn iter(&self) -> DigestsIter<'_> {
        DigestsIter { rest: &self.0 }
    }

    /// The digest to verify with when only one is: BLAKE2B, else SHA512, and so on down
    /// [`HashAlgorithm::ALL`].
    #[must_use]
    pub fn best(&self) -> Option<(HashAlgorithm, &[u8])> {
        self.iter().next()
    }

    /// How many digests there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none, so that nothing can be verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both describe the same file as far as they can be compared: at least one common algorithm,
    /// and the same digest for each common one.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let mut common =
            self.iter().filter_map(|(algorithm, digest)| other.get(algorithm).map(|theirs| digest == theirs));
        common.next() == Some(true) && common.all(|same| same)
    }

    /// Takes over the digests of `other` for algorithms that are missing here.
    pub fn absorb(&mut self, other: &Self) {
        for (algorithm, digest) in other {
            if self.get(algorithm).is_none() {
                // It has the right length there, so here as well.
                drop(self.insert(algorithm, digest));
            }
        }
    }
}

/// The digests of a [`Digests`], best algorithm first.
#[derive(Debug, Clone)]
pub struct DigestsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for DigestsIter<'a> {
    type Item = (HashAlgorithm, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (position, rest) = self.rest.split_first()?;
        let algorithm = *HashAlgorithm::ALL.get(usize::from(*position))?;
        let (digest, rest) = rest.split_at_checked(algorithm.digest_octets())?;
        self.rest = rest;
        Some((algorithm, digest))
    }
}

impl<'a> IntoIterator for &'a Digests {
    type Item = (HashAlgorithm, &'a [u8]);
    type IntoIter = DigestsIter<'a>;

    fn into_iter(self) -> DigestsIter<'a> {
        self.iter()
    }
}

/// Digests of a wrong length are left out: they could never match anything. Of two for one algorithm the last counts.
impl FromIterator<(HashAlgorithm, Vec<u8>)> for Digests {
    fn from_iter<I: IntoIterator<Item = (HashAlgorithm, Vec<u8>)>>(iter: I) -> Self {
        let mut digests = Self::new();
        for (algorithm, digest) in iter {
            drop(digests.insert(algorithm, digest));
        }
        digests
    }
}

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(algorithm, digest)| (algorithm, hex::encode(digest))))
            .finish()
    }
}

/// As in a Manifest line: `BLAKE2B <hex> SHA512 <hex>`.
impl fmt::Display for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (algorithm, digest)) in self.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{algorithm} {}", hex::encode(digest))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_is_found_by_its_name_and_the_order_is_the_list() {
        for algorithm in HashAlgorithm::ALL {
            assert_eq!(HashAlgorithm::from_manifest_name(algorithm.manifest_name()), Some(algorithm));
        }
        assert!(HashAlgorithm::ALL.is_sorted());
        assert_eq!(HashAlgorithm::from_manifest_name("blake2b"), None);
        assert!(HashAlgorithm::ALL.iter().enumerate().all(|(at, algorithm)| *algorithm as usize == at));
    }

    #[test]
    fn the_best_digest_is_blake2b_whatever_the_order_of_insertion() {
        let mut digests = Digests::new();
        digests.insert(HashAlgorithm::Md5, vec![1; 16]).unwrap();
        digests.insert(HashAlgorithm::Sha512, vec![2; 64]).unwrap();
        assert_eq!(digests.best(), Some((HashAlgorithm::Sha512, [2; 64].as_slice())));
        digests.insert(HashAlgorithm::Blake2b, vec![3; 64]).unwrap();
        assert_eq!(digests.best(), Some((HashAlgorithm::Blake2b, [3; 64].as_slice())));
        assert_eq!(
            digests.insert(HashAlgorithm::Sha1, vec![0; 19]),
            Err(Error::DigestLength { algorithm: HashAlgorithm::Sha1, expected: 20, found: 19 })
        );
    }

    #[test]
    fn a_digest_is_replaced_and_the_order_of_insertion_means_nothing() {
        let all = HashAlgorithm::ALL.map(|algorithm| (algorithm, vec![9; algorithm.digest_octets()]));
        let forwards: Digests = all.iter().cloned().collect();
        let mut backwards: Digests = all.iter().rev().cloned().collect();
        assert_eq!(forwards, backwards);
        assert_eq!((forwards.len(), Digests::new().len()), (12, 0));
        backwards.insert(HashAlgorithm::Sha256, [7; 32]).unwrap();
        assert_eq!(backwards.get(HashAlgorithm::Sha256), Some([7; 32].as_slice()));
        assert_eq!(backwards.get(HashAlgorithm::Whirlpool), Some([9; 64].as_slice()));
        assert_eq!(backwards.len(), 12);
    }

    #[test]
    fn agreement_needs_a_common_algorithm() {
        let blake: Digests = [(HashAlgorithm::Blake2b, vec![3; 64])].into_iter().collect();
        let sha: Digests = [(HashAlgorithm::Sha512, vec![3; 64])].into_iter().collect();
        let both: Digests = [(HashAlgorithm::Blake2b, vec![3; 64]), (HashAlgorithm::Sha512, vec![4; 64])]
            .into_iter()
            .collect();
        assert!(!blake.agrees_with(&sha));
        assert!(blake.agrees_with(&both));
        assert!(!sha.agrees_with(&both));
        assert!(!Digests::new().agrees_with(&Digests::new()));
    }
}
