//! Whole-file checksums (10.1): the ones after a file's contents, and those of `--checksum` in the list.

use md4::Md4;
use md5::{Digest as _, Md5};
use sha1::Sha1;
use xxhash_rust::xxh3::Xxh3;
use xxhash_rust::xxh64::Xxh64;

/// A checksum that this crate can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksumKind {
    /// XXH3 of 128 bits.
    Xxh128,
    /// XXH3 of 64 bits.
    Xxh3,
    /// XXH64.
    Xxh64,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// MD4; only by explicit choice.
    Md4,
    /// MD4 with the seed in front: what protocol 29 knows.
    SeededMd4 {
        /// The connection's checksum seed.
        seed: i32,
    },
    /// One octet that says nothing; only by explicit choice.
    None,
}

impl ChecksumKind {
    /// What is offered in the negotiation, best first. MD4 is left out: builds disagree on it.
    pub const OFFERED: [Self; 5] = [Self::Xxh128, Self::Xxh3, Self::Xxh64, Self::Md5, Self::Sha1];

    /// The kind of a name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        const NAMES: [(&str, ChecksumKind); 8] = [
            ("xxh128", ChecksumKind::Xxh128),
            ("xxh3", ChecksumKind::Xxh3),
            ("xxh64", ChecksumKind::Xxh64),
            ("xxhash", ChecksumKind::Xxh64),
            ("md5", ChecksumKind::Md5),
            ("sha1", ChecksumKind::Sha1),
            ("md4", ChecksumKind::Md4),
            ("none", ChecksumKind::None),
        ];
        let known = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|&(_, kind)| kind)
    }

    /// Its name in the negotiation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Xxh128 => "xxh128",
            Self::Xxh3 => "xxh3",
            Self::Xxh64 => "xxh64",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Md4 | Self::SeededMd4 { .. } => "md4",
            Self::None => "none",
        }
    }

    /// How many octets a checksum has.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Xxh128 | Self::Md5 | Self::Md4 | Self::SeededMd4 { .. } => 16,
            Self::Xxh3 | Self::Xxh64 => 8,
            Self::None => 1,
        }
    }

    /// Never: even [`Self::None`] has an octet.
    #[must_use]
    pub fn is_empty(self) -> bool {
        false
    }

    /// Starts a checksum of a whole file.
    #[must_use]
    pub fn start(self) -> Checksum {
        Checksum {
            kind: self,
            state: match self {
                Self::Xxh128 | Self::Xxh3 => State::Xxh3(Box::new(Xxh3::new())),
                Self::Xxh64 => State::Xxh64(Xxh64::new(0)),
                Self::Md5 => State::Md5(Md5::new()),
                Self::Sha1 => State::Sha1(Sha1::new()),
                Self::Md4 => State::Md4(Md4::new()),
                Self::SeededMd4 { seed } => State::Md4(Md4::new_with_prefix(seed.to_le_bytes())),
                Self::None => State::None,
            },
        }
    }

    /// The checksum of octets that are all at hand, which most files are.
    #[must_use]
    pub fn of(self, octets: &[u8]) -> ChecksumOctets {
        match self {
            Self::Xxh128 => xxhash_rust::xxh3::xxh3_128(octets).to_le_bytes().as_slice().into(),
            Self::Xxh3 => xxhash_rust::xxh3::xxh3_64(octets).to_le_bytes().as_slice().into(),
            Self::Xxh64 => xxhash_rust::xxh64::xxh64(octets, 0).to_le_bytes().as_slice().into(),
            Self::Md5 => Md5::digest(octets).as_slice().into(),
            Self::Sha1 => Sha1::digest(octets).as_slice().into(),
            Self::Md4 | Self::SeededMd4 { .. } => {
                let mut sum = self.start();
                sum.update(octets);
                sum.finish()
            }
            Self::None => [0].as_slice().into(),
        }
    }
}

/// The strong sum of a client's block (10.1).
#[derive(Debug, Clone, Copy)]
pub struct BlockChecksum {
    kind: ChecksumKind,
    seed: i32,
    seed_first: bool,
}

impl BlockChecksum {
    /// The sum for a connection; `seed_first` is compatibility flag 0x20. `None` for those that are not compared:
    /// builds of rsync disagree on MD4, and some sums are none.
    #[must_use]
    pub fn new(kind: ChecksumKind, seed: i32, seed_first: bool) -> Option<Self> {
        let is_compared =
            !matches!(kind, ChecksumKind::Md4 | ChecksumKind::SeededMd4 { .. } | ChecksumKind::None);
        is_compared.then_some(Self { kind, seed, seed_first })
    }

    /// The sum of a block.
    #[must_use]
    pub fn of(self, block: &[u8]) -> ChecksumOctets {
        let seed = self.seed.to_le_bytes();
        let wide_seed = i64::from(self.seed).cast_unsigned();
        match self.kind {
            ChecksumKind::Xxh128 => {
                let sum = xxhash_rust::xxh3::xxh3_128_with_seed(block, wide_seed);
                sum.to_le_bytes().as_slice().into()
            }
            ChecksumKind::Xxh3 => {
                let sum = xxhash_rust::xxh3::xxh3_64_with_seed(block, wide_seed);
                sum.to_le_bytes().as_slice().into()
            }
            ChecksumKind::Xxh64 => {
                xxhash_rust::xxh64::xxh64(block, wide_seed).to_le_bytes().as_slice().into()
            }
            kind @ (ChecksumKind::Md5
            | ChecksumKind::Sha1
            | ChecksumKind::Md4
            | ChecksumKind::SeededMd4 { .. }
            | ChecksumKind::None) => {
                let mut sum = kind.start();
                let parts = if self.seed_first || kind != ChecksumKind::Md5 {
                    [&seed[..], block]
                } else {
                    [block, &seed[..]]
                };
                for part in parts {
                    sum.update(part);
                }
                sum.finish()
            }
        }
    }
}

enum State {
    Xxh3(Box<Xxh3>),
    Xxh64(Xxh64),
    Md5(Md5),
    Sha1(Sha1),
    Md4(Md4),
    None,
}

/// A checksum in the making.
pub struct Checksum {
    kind: ChecksumKind,
    state: State,
}

impl Checksum {
    /// Adds octets.
    pub fn update(&mut self, octets: &[u8]) {
        match &mut self.state {
            State::Xxh3(state) => state.update(octets),
            State::Xxh64(state) => state.update(octets),
            State::Md5(state) => state.update(octets),
            State::Sha1(state) => state.update(octets),
            State::Md4(state) => state.update(octets),
            State::None => {}
        }
    }

    /// The octets on the wire: 64-bit halves little-endian, the low half first.
    #[must_use]
    pub fn finish(self) -> ChecksumOctets {
        match self.state {
            State::Xxh3(state) if self.kind == ChecksumKind::Xxh128 => {
                state.digest128().to_le_bytes().as_slice().into()
            }
            State::Xxh3(state) => state.digest().to_le_bytes().as_slice().into(),
            State::Xxh64(state) => state.digest().to_le_bytes().as_slice().into(),
            State::Md5(state) => state.finalize().as_slice().into(),
            State::Sha1(state) => state.finalize().as_slice().into(),
            State::Md4(state) => state.finalize().as_slice().into(),
            State::None => [0].as_slice().into(),
        }
    }
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checksum").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A finished checksum of 1 to 20 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChecksumOctets {
    octets: [u8; 20],
    len: usize,
}

impl ChecksumOctets {
    /// The octets.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    /// A checksum that is surely another one: what is sent after contents that could not be read (8.6).
    #[must_use]
    pub fn spoilt(mut self) -> Self {
        for octet in &mut self.octets {
            *octet = !*octet;
        }
        self
    }
}

impl From<&[u8]> for ChecksumOctets {
    fn from(given: &[u8]) -> Self {
        let len = given.len().min(20);
        let mut octets = [0; 20];
        octets[..len].copy_from_slice(&given[..len]);
        Self { octets, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ChecksumKind; 7] = [
        ChecksumKind::Xxh128,
        ChecksumKind::Xxh3,
        ChecksumKind::Xxh64,
        ChecksumKind::Md5,
        ChecksumKind::Sha1,
        ChecksumKind::Md4,
        ChecksumKind::None,
    ];

    #[test]
    fn xxh128_has_the_documented_octets() {
        let expected =
            [0x9C, 0xE4, 0xC8, 0xF1, 0x35, 0xB4, 0x10, 0x5A, 0x6D, 0xF5, 0x69, 0xE0, 0xC7, 0x86, 0xBA, 0x6B];
        assert_eq!(ChecksumKind::Xxh128.of(b"hello\n").as_slice(), expected);
    }

    #[test]
    fn old_md4_has_the_seed_in_front() {
        let seeded = ChecksumKind::SeededMd4 { seed: 0x6463_6261 };
        assert_eq!(seeded.of(b"ef"), ChecksumKind::Md4.of(b"abcdef"));
        // RFC 1320, appendix A.5.
        let abc =
            [0xA4, 0x48, 0x01, 0x7A, 0xAF, 0x21, 0xD8, 0x52, 0x5F, 0xC1, 0x0A, 0xE8, 0x7A, 0xA6, 0x72, 0x9D];
        assert_eq!(ChecksumKind::Md4.of(b"abc").as_slice(), abc);
    }

    #[test]
    fn pieces_and_whole_agree_for_every_kind() {
        let octets: Vec<u8> = (0..5000_u16).map(|n| n.to_le_bytes()[0]).collect();
        for kind in ALL {
            for len in [0, 1, 239, 240, 241, 1024, 5000] {
                let mut pieces = kind.start();
                octets[..len].chunks(77).for_each(|piece| pieces.update(piece));
                let whole = kind.of(&octets[..len]);
                assert_eq!(pieces.finish(), whole, "{kind:?} {len}");
                assert_eq!(whole.as_slice().len(), kind.len());
            }
            assert_eq!(ChecksumKind::from_name(&kind.as_str().to_uppercase()), Some(kind));
        }
        assert_eq!(ChecksumKind::from_name("crc32"), None);
    }
}
