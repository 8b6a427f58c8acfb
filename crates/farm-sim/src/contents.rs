//! The contents of a distfile as a function of (seed, name), readable at any offset, so that nothing
//! large is ever stored.

use blake2::{Blake2b512, Digest as _};
use bytes::{Bytes, BytesMut};
use sha2::Sha512;

/// How much is generated at a time when contents are streamed.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Deterministic pseudo-random contents of a known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    key: u64,
    size_bytes: u64,
}

/// Both digests that a Manifest's DIST line carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigests {
    /// BLAKE2B-512.
    pub blake2b: [u8; 64],
    /// SHA-512.
    pub sha512: [u8; 64],
}

impl Contents {
    /// The contents that `seed` gives to `name`.
    #[must_use]
    pub fn new(seed: u64, name: &str, size_bytes: u64) -> Self {
        Self { key: hash64(seed, name.as_bytes()), size_bytes }
    }

    /// Length of the whole.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fills `buffer` with what stands at `offset`, and says how many octets there were: less than the
    /// buffer holds only at the end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let left = self.size_bytes.saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let mut word = offset / 8;
        let mut done = 0;
        let mut skip = usize::try_from(offset % 8).unwrap_or(0);
        while done < length {
            let octets = self.word(word);
            let take = (8 - skip).min(length - done);
            buffer[done..done + take].copy_from_slice(&octets[skip..skip + take]);
            done += take;
            skip = 0;
            word += 1;
        }
        length
    }

    /// Up to `max_bytes` of what stands at `offset`; empty at the end.
    #[must_use]
    pub fn chunk_at(&self, offset: u64, max_bytes: usize) -> Bytes {
        let mut buffer = BytesMut::zeroed(max_bytes);
        let length = self.read_at(offset, &mut buffer);
        buffer.truncate(length);
        buffer.freeze()
    }

    /// The whole. Only for contents that are known to be small.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.chunk_at(0, usize::try_from(self.size_bytes).unwrap_or(usize::MAX))
    }

    /// Both digests of the whole, computed by reading it.
    #[must_use]
    pub fn digests(&self) -> ContentDigests {
        let mut blake2b = Blake2b512::new();
        let mut sha512 = Sha512::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut offset = 0;
        loop {
            let length = self.read_at(offset, &mut buffer);
            if length == 0 {
                break;
            }
            blake2b.update(&buffer[..length]);
            sha512.update(&buffer[..length]);
            offset += length as u64;
        }
        ContentDigests { blake2b: blake2b.finalize().into(), sha512: sha512.finalize().into() }
    }

    // SplitMix64 with the word's number as its counter: any word costs the same.
    fn word(&self, number: u64) -> [u8; 8] {
        mix(self.key.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))).to_le_bytes()
    }
}

/// A stable 64-bit hash of (seed, octets): the start of their BLAKE2B.
pub(crate) fn hash64(seed: u64, octets: &[u8]) -> u64 {
    let mut hasher = Blake2b512::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(octets);
    let digest = hasher.finalize();
    digest.iter().take(8).fold(0, |value, octet| value << 8 | u64::from(*octet))
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_in_pieces_gives_the_same_octets_as_reading_at_once() {
        let contents = Contents::new(7, "foo-1.tar.gz", 1_003);
        let whole = contents.to_bytes();
        assert_eq!(whole.len(), 1_003);
        for step in [1_usize, 3, 8, 13, 64, 1_000] {
            let mut pieces = Vec::new();
            loop {
                let piece = contents.chunk_at(pieces.len() as u64, step);
                if piece.is_empty() {
                    break;
                }
                pieces.extend_from_slice(&piece);
            }
            assert_eq!(pieces, whole, "in steps of {step}");
        }
    }

    #[test]
    fn seed_and_name_both_decide() {
        let one = Contents::new(1, "a", 64).to_bytes();
        assert_ne!(one, Contents::new(2, "a", 64).to_bytes());
        assert_ne!(one, Contents::new(1, "b", 64).to_bytes());
        assert_eq!(one, Contents::new(1, "a", 64).to_bytes());
    }

    #[test]
    fn digests_are_those_of_the_octets() {
        let contents = Contents::new(3, "foo", 200_000);
        let digests = contents.digests();
        assert_eq!(digests.blake2b[..], Blake2b512::digest(contents.to_bytes())[..]);
        assert_eq!(digests.sha512[..], Sha512::digest(contents.to_bytes())[..]);
    }
}
