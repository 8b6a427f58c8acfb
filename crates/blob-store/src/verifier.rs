//! Checks bytes that are not stored.

use crate::expected::Expected;
use crate::hashers::Hashers;

/// Counts and hashes a file that only passes through, as a part does with one that is kept.
pub struct Verifier {
    expected: Expected,
    hashers: Hashers,
    bytes: u64,
}

impl Verifier {
    /// For a file from its first byte on.
    #[must_use]
    pub fn new(expected: Expected) -> Self {
        let hashers = Hashers::new(expected.digests());
        Self { expected, hashers, bytes: 0 }
    }

    /// The next bytes of the file. Hashes: keep it off a reactor.
    pub fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hashers.update(bytes);
    }

    /// Whether all that came is the file.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.bytes == self.expected.size_bytes()
            && self.hashers.clone().finish(self.expected.digests()).is_ok()
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
