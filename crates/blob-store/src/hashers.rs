//! The digests of a growing file.

use blake2::digest::Update;
use blake2::{Blake2b512, Digest as _};
use gentoo_repo::{Digests, HashAlgorithm};
use sha2::{Sha256, Sha512};

use crate::digest::BlobDigest;

/// Fewer octets are not worth a thread.
const SHARED_OCTETS_MIN: usize = 128 << 10;

/// BLAKE2B always, because it is the blob's name; the others if they are listed.
#[derive(Clone)]
pub(crate) struct Hashers {
    blake2b: Blake2b512,
    sha512: Option<Sha512>,
    sha256: Option<Sha256>,
}

/// True if one of the digests that we compute is listed and all of those have the right length.
pub(crate) fn can_verify(listed: &Digests) -> bool {
    let lengths = [(HashAlgorithm::Blake2b, 64), (HashAlgorithm::Sha512, 64), (HashAlgorithm::Sha256, 32)];
    let mut found = lengths.iter().filter_map(|&(algorithm, length)| {
        let digest = listed.get(algorithm)?;
        Some(digest.len() == length)
    });
    found.next().is_some_and(|right| right && found.all(|right| right))
}

fn feed(hasher: &mut impl Update, pieces: &[impl AsRef<[u8]>]) {
    for piece in pieces {
        hasher.update(piece.as_ref());
    }
}

impl Hashers {
    pub(crate) fn new(listed: &Digests) -> Self {
        Self {
            blake2b: Blake2b512::new(),
            sha512: listed.get(HashAlgorithm::Sha512).map(|_| Sha512::new()),
            sha256: listed.get(HashAlgorithm::Sha256).map(|_| Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.update_all(&[bytes]);
    }

    /// The next octets, in several pieces. Of many, BLAKE2B has a thread of its own: it takes half as long as SHA512.
    pub(crate) fn update_all(&mut self, pieces: &[impl AsRef<[u8]> + Sync]) {
        let octets: usize = pieces.iter().map(|piece| piece.as_ref().len()).sum();
        if octets < SHARED_OCTETS_MIN || (self.sha512.is_none() && self.sha256.is_none()) {
            feed(&mut self.blake2b, pieces);
            return self.feed_others(pieces);
        }
        std::thread::scope(|scope| {
            let mut ahead = self.blake2b.clone();
            let by_another = std::thread::Builder::new().spawn_scoped(scope, move || {
                feed(&mut ahead, pieces);
                ahead
            });
            self.feed_others(pieces);
            match by_another.ok().and_then(|thread| thread.join().ok()) {
                Some(done) => self.blake2b = done,
                // No thread was to be had.
                None => feed(&mut self.blake2b, pieces),
            }
        });
    }

    fn feed_others(&mut self, pieces: &[impl AsRef<[u8]>]) {
        if let Some(sha512) = &mut self.sha512 {
            feed(sha512, pieces);
        }
        if let Some(sha256) = &mut self.sha256 {
            feed(sha256, pieces);
        }
    }

    /// The blob's name, or the first listed algorithm that differs.
    pub(crate) fn finish(self, listed: &Digests) -> Result<BlobDigest, &'static str> {
        let blake2b: [u8; 64] = self.blake2b.finalize().into();
        let differs = |algorithm: HashAlgorithm, found: &[u8]| {
            listed.get(algorithm).is_some_and(|expected| expected != found)
        };
        if differs(HashAlgorithm::Blake2b, &blake2b) {
            return Err("BLAKE2B");
        }
        if self.sha512.is_some_and(|sha512| differs(HashAlgorithm::Sha512, &sha512.finalize())) {
            return Err("SHA512");
        }
        if self.sha256.is_some_and(|sha256| differs(HashAlgorithm::Sha256, &sha256.finalize())) {
            return Err("SHA256");
        }
        Ok(BlobDigest::from(blake2b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hashes_what_makes_no_difference() {
        let octets: Vec<u8> =
            (0..3 * SHARED_OCTETS_MIN).map(|at| ((at * at) >> 7).to_le_bytes()[0]).collect();
        let mut listed = Digests::new();
        listed.insert(HashAlgorithm::Blake2b, Blake2b512::digest(&octets)).unwrap();
        listed.insert(HashAlgorithm::Sha512, Sha512::digest(&octets)).unwrap();
        listed.insert(HashAlgorithm::Sha256, Sha256::digest(&octets)).unwrap();
        for piece in [1000, SHARED_OCTETS_MIN - 1, SHARED_OCTETS_MIN, octets.len()] {
            let mut one = Hashers::new(&listed);
            octets.chunks(piece).for_each(|piece| one.update(piece));
            let mut all = Hashers::new(&listed);
            all.update_all(&octets.chunks(piece).collect::<Vec<_>>());
            assert_eq!(one.finish(&listed).unwrap(), all.finish(&listed).unwrap());
        }
        let mut wrong = Hashers::new(&listed);
        wrong.update(&octets[1..]);
        assert_eq!(wrong.finish(&listed), Err("BLAKE2B"));
    }
}
