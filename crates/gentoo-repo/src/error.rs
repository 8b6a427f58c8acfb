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
    /// A path that leaves the directory of the Manifest that names it, or that cannot exist.
    #[error("{path:?} is no path of a tree: {expected}")]
    TreePath {
        /// The refused path, shortened.
        path: String,
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
    /// A line that does not have the form that its file demands.
    #[error("line {line}: expected {expected}, found {found:?}")]
    Line {
        /// Counted from 1, in the file as it is on disk.
        line: usize,
        /// What would have been right there.
        expected: &'static str,
        /// What was there, shortened.
        found: String,
    },
    /// A word of a dependency-like string (`SRC_URI`, `RESTRICT`) that does not belong where it is.
    #[error("word {word}: expected {expected}, found {found:?}")]
    Word {
        /// Counted from 1.
        word: usize,
        /// What would have been right there.
        expected: &'static str,
        /// What was there, shortened; empty at the end of the string.
        found: String,
    },
    /// Something longer than any real one, refused before it costs memory.
    #[error("{what} has {found} octets, more than {max}")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// How long it may be.
        max: usize,
        /// How long it is.
        found: usize,
    },
}

impl Error {
    pub(crate) fn line(line: usize, expected: &'static str, found: &[u8]) -> Self {
        Self::Line { line, expected, found: excerpt(found) }
    }

    pub(crate) fn word(word: usize, expected: &'static str, found: &str) -> Self {
        Self::Word { word, expected, found: excerpt(found.as_bytes()) }
    }
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
