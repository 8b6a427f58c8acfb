//! What can go wrong, by the step at which it does.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::disk::FileOp;

/// The disk said no, or the directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// One file operation failed.
    #[error("{op} {path}: {source}", op = op.as_str(), path = path.display())]
    Io {
        /// What was tried.
        op: FileOp,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Every slot of the cache directory is locked by a running replica.
    #[error("all {slots} slots of {dir} are in use", dir = dir.display())]
    NoFreeSlot {
        /// The cache directory.
        dir: PathBuf,
        /// How many were tried.
        slots: usize,
    },
    /// The work was not done to its end: its thread panicked, or the process is stopping.
    #[error("interrupted: {reason}")]
    Interrupted {
        /// What the runtime said.
        reason: String,
    },
    /// A name was to be given to a blob that is not here.
    #[error("no blob {digest}")]
    NoSuchBlob {
        /// In hexadecimal.
        digest: String,
    },
}

impl StoreError {
    pub(crate) fn io(op: FileOp, path: &Path, source: io::Error) -> Self {
        Self::Io { op, path: path.to_owned(), source }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// True when what a file holds could not be read, although it was opened.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Io { op: FileOp::Read, .. })
    }

    /// True when the disk or the file system says that what it holds is damaged; not when it is full, or we are out of
    /// something.
    pub(crate) fn is_damage(&self) -> bool {
        const OF_FILES: [Errno; 4] = [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::STALE];
        matches!(self, Self::Io { source, .. }
            if Errno::from_io_error(source).is_some_and(|errno| OF_FILES.contains(&errno)))
    }

    /// True when the disk, or our quota on it, is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::NoFreeSlot { .. } | Self::Interrupted { .. } | Self::NoSuchBlob { .. } => false,
        }
    }
}

/// Why a part can't be begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// It does not fit: neither into the capacity nor, perhaps, onto the disk.
    #[error("no room for {wanted_bytes} bytes: {free_bytes} free")]
    Full {
        /// What the part may still need.
        wanted_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The same part is being written by somebody else in this process.
    #[error("this part is being written already")]
    Busy,
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a part did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// Bytes are missing. The part is kept.
    #[error("{have_bytes} of {size_bytes} bytes")]
    Short {
        /// Bytes in the part.
        have_bytes: u64,
        /// Bytes expected.
        size_bytes: u64,
    },
    /// The length is right, a digest is not. The part is in quarantine, or gone.
    #[error("{algorithm} differs")]
    Mismatch {
        /// The first listed algorithm that differs.
        algorithm: &'static str,
        /// How many of the bytes were there before this process began the part: if not 0, the source
        /// of the other bytes may be innocent.
        resumed_bytes: u64,
    },
    /// The disk. The contents were right; what is there of them is found at the next start.
    #[error(transparent)]
    Store(#[from] StoreError),
}
