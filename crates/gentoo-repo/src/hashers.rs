//! Every hash function that Manifests name, over octets that come piece by piece.

use std::fmt;

use blake2::digest::DynDigest;
use blake2::{Blake2b512, Blake2s256};
use md5::Md5;
use ripemd::Ripemd160;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use sha3::{Sha3_256, Sha3_512};
use streebog::{Streebog256, Streebog512};
use whirlpool::Whirlpool;

use crate::{Digests, HashAlgorithm};

/// Several digests of one file, computed at once.
pub struct Hashers(Vec<(HashAlgorithm, Box<dyn DynDigest + Send>)>);

impl Hashers {
    /// Of no octets yet.
    #[must_use]
    pub fn new(algorithms: impl IntoIterator<Item = HashAlgorithm>) -> Self {
        Self(algorithms.into_iter().map(|algorithm| (algorithm, hasher(algorithm))).collect())
    }

    /// Whether there is nothing to compute, so that nothing need be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next octets of the file.
    pub fn update(&mut self, octets: &[u8]) {
        for (_, hasher) in &mut self.0 {
            hasher.update(octets);
        }
    }

    /// The digests of everything that came.
    #[must_use]
    pub fn finish(self) -> Digests {
        self.0.into_iter().map(|(algorithm, hasher)| (algorithm, hasher.finalize().into_vec())).collect()
    }
}

impl fmt::Debug for Hashers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(algorithm, _)| algorithm)).finish()
    }
}

fn hasher(algorithm: HashAlgorithm) -> Box<dyn DynDigest + Send> {
    match algorithm {
        HashAlgorithm::Blake2b => Box::<Blake2b512>::default(),
        HashAlgorithm::Sha512 => Box::<Sha512>::default(),
        HashAlgorithm::Sha3_512 => Box::<Sha3_512>::default(),
        HashAlgorithm::Sha3_256 => Box::<Sha3_256>::default(),
        HashAlgorithm::Blake2s => Box::<Blake2s256>::default(),
        HashAlgorithm::Sha256 => Box::<Sha256>::default(),
        HashAlgorithm::Whirlpool => Box::<Whirlpool>::default(),
        HashAlgorithm::Streebog512 => Box::<Streebog512>::default(),
        HashAlgorithm::Streebog256 => Box::<Streebog256>::default(),
        HashAlgorithm::Rmd160 => Box::<Ripemd160>::default(),
        HashAlgorithm::Sha1 => Box::<Sha1>::default(),
        HashAlgorithm::Md5 => Box::<Md5>::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `abc`: FIPS 180-4 and 202, RFC 1321, RFC 7693, and the papers of RIPEMD-160 and Whirlpool.
    const OF_ABC: [(HashAlgorithm, &str); 10] = [
        (
            HashAlgorithm::Blake2b,
            "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1\
             7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
        ),
        (
            HashAlgorithm::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (
            HashAlgorithm::Sha3_512,
            "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e\
             10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
        ),
        (HashAlgorithm::Sha3_256, "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        (HashAlgorithm::Blake2s, "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"),
        (HashAlgorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            HashAlgorithm::Whirlpool,
            "4e2448a4c6f486bb16b6562c73b4020bf3043e3a731bce721ae1b303d97e6d4c\
             7181eebdb6c57e277d0e34957114cbd6c797fc9d95d8b582d225292076d4eef5",
        ),
        (HashAlgorithm::Rmd160, "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
        (HashAlgorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (HashAlgorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
    ];

    /// Of the first example of RFC 6986.
    const OF_M1: [(HashAlgorithm, &str); 2] = [
        (
            HashAlgorithm::Streebog512,
            "1b54d01a4af5b9d5cc3d86d68d285462b19abc2475222f35c085122be4ba1ffa\
             00ad30f8767b3a82384c6574f024c311e2a481332b08ef7f41797891c1646f48",
        ),
        (HashAlgorithm::Streebog256, "9d151eefd8590b89daa6ba6cb74af9275dd051026bb149a452fd84e5e57b5500"),
    ];

    #[test]
    fn every_algorithm_gives_its_published_digest_however_the_octets_come() {
        let m1 = b"012345678901234567890123456789012345678901234567890123456789012";
        let cases =
            OF_ABC.iter().map(|case| (&b"abc"[..], case)).chain(OF_M1.iter().map(|case| (&m1[..], case)));
        let mut seen = Vec::new();
        for (octets, (algorithm, expected)) in cases {
            for cut in 0..octets.len() {
                let mut hashers = Hashers::new([*algorithm]);
                hashers.update(&octets[..cut]);
                hashers.update(&octets[cut..]);
                let found = hashers.finish();
                assert_eq!(found.get(*algorithm).map(hex::encode).as_deref(), Some(*expected), "{algorithm}");
            }
            seen.push(*algorithm);
        }
        seen.sort_unstable();
        assert_eq!(seen, HashAlgorithm::ALL);
    }
}
