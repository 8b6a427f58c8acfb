//! Everything that can be wrong with what a repository says.

use crate::digest::HashAlgorithm;

/// Why a value or a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A distfile name that cannot be one path element.
    #[error("{name:?} is no distfile name: {expected}")]
    DistfileName {
        /// The refused name, shortened, with unprintable octets replaced.
        name: String,
        /// The rule that it breaks.
        expected: &'static str,
    },
    /// A digest whose length does not fit its algorithm.
    #[error("a {algorithm} digest has {expected} octets, not {found}")]
    DigestLength {
        /// The algorithm that was named.
        algorithm: HashAlgorithm,
        /// The octets that such a digest has.
        expected: usize,
        /// The octets that were given.
        found: usize,
    },
    /// A time that does not have the form that its file demands.
    #[error("expected a time like {expected:?}, found {found:?}")]
    Timestamp {
        /// An example of the right form.
        expected: &'static str,
        /// What was there, shortened.
        found: String,
    },
}

/// At most 80 characters of `octets` for a message, with what is no UTF-8 replaced.
pub(crate) fn excerpt(octets: &[u8]) -> String {
    let head = &octets[..octets.len().min(320)];
    let text = String::from_utf8_lossy(head);
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() || head.len() < octets.len() {
        short.push('…');
    }
    short
}
