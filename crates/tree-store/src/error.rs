//! What can go wrong with a tree, each with the path it went wrong at.

use std::io;
use std::path::PathBuf;

use crate::report::{Fault, FaultKind, Refusal};

/// Why a generation could not be built, verified, published or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The name can't be a module's.
    #[error("module name {name:?}: 1 to 64 of A-Z a-z 0-9 . _ + -, not starting with a dot")]
    ModuleName {
        /// What was given.
        name: String,
    },
    /// An exclude pattern that this program does not implement.
    #[error("exclude pattern {pattern:?}: {why}")]
    Exclude {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The source could not be read.
    #[error("source {}: {doing}: {error}", path.display())]
    Source {
        /// The file or directory.
        path: PathBuf,
        /// The verb: "open", "read", …
        doing: &'static str,
        /// The system's reason.
        error: io::Error,
    },
    /// The source changed between the first and the last look at it.
    #[error("source {}: changed while it was read", path.display())]
    SourceChanged {
        /// The first path that differs.
        path: PathBuf,
    },
    /// A device, socket or pipe.
    #[error("source {}: is neither file, directory nor symbolic link", path.display())]
    Special {
        /// The node.
        path: PathBuf,
    },
    /// More nodes, or longer names, than a generation holds.
    #[error("source {}: {limit}", path.display())]
    TooLarge {
        /// Where the limit was met.
        path: PathBuf,
        /// The limit.
        limit: &'static str,
    },
    /// Our own files could not be read or written.
    #[error("{}: {doing}: {error}", path.display())]
    Store {
        /// The file or directory in the state directory.
        path: PathBuf,
        /// The verb: "write", "rename", …
        doing: &'static str,
        /// The system's reason.
        error: io::Error,
    },
    /// One of our own files does not hold what was written to it.
    #[error("{}: damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: &'static str,
    },
    /// Another process has this module's directory.
    #[error("{}: in use by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The generation is not kept, or never was.
    #[error("generation {number} is not kept")]
    NotKept {
        /// Its number.
        number: u64,
    },
    /// The tree was read well, but must not be published.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A setting under which nothing can be published.
    #[error("{what}: {why}")]
    Setting {
        /// The setting or the file that it names.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The caller asked the build to stop.
    #[error("stopped")]
    Stopped,
}

impl TreeError {
    pub(crate) fn store(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Store { path, doing, error }
    }

    pub(crate) fn source(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Source { path, doing, error }
    }

    /// A tree with one fault.
    pub(crate) fn refused(kind: FaultKind, path: &[u8], why: impl Into<String>) -> Self {
        Self::Refused(Fault::new(kind, path, why).into())
    }

    /// Whether the same source may well be published a moment later: it was being written to.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::SourceChanged { .. })
    }
}
