//! An open blob.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt as _};
use std::sync::Arc;

/// Held by everything that reads a blob: one that somebody reads is not evicted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hold(Arc<()>);

impl Hold {
    /// True if somebody besides the caller holds it.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// An open blob, or the readable side of a part. Clones share the file.
#[derive(Debug, Clone)]
pub struct OpenBlob {
    pub(crate) file: Arc<File>,
    pub(crate) size_bytes: u64,
    pub(crate) modified: Option<std::time::SystemTime>,
    pub(crate) hold: Hold,
}

impl OpenBlob {
    /// `None` if the file has another length, or is gone from where it was opened.
    pub(crate) fn new(file: Arc<File>, metadata: &Metadata, size_bytes: u64, hold: &Hold) -> Option<Self> {
        let (is_whole, is_there) = (metadata.len() == size_bytes, metadata.nlink() > 0);
        let modified = metadata.modified().ok();
        (is_whole && is_there).then(|| Self { file, size_bytes, modified, hold: hold.clone() })
    }

    /// Its length when complete.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// When the blob was completed; `None` for a part.
    #[must_use]
    pub fn modified(&self) -> Option<std::time::SystemTime> {
        self.modified
    }

    /// The file itself, for a sender that reads, maps or splices it. Never to be written.
    #[must_use]
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Fills `buf` from `offset`. Blocks.
    ///
    /// # Errors
    /// The disk, or the file ends before `buf` is full.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}
