//! An open blob.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// So long after a file was found in the page cache it is taken to be there still: what somebody just had is the last to be
/// dropped of it, and who is wrong waits for the disk once.
const IN_MEMORY_FOR: Duration = Duration::from_secs(1);

/// Held by everything that reads a blob: one that somebody reads is not evicted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hold(Arc<()>);

impl Hold {
    /// True if somebody besides the caller holds it.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// When a file was found in the page cache, as milliseconds since 1970; shared by all who have it open.
#[derive(Debug, Clone, Default)]
pub(crate) struct InMemory(Arc<AtomicU64>);

impl InMemory {
    fn is_known(&self, now: SystemTime) -> bool {
        // Of a clock that was set back nothing is known.
        let age = milliseconds(now).checked_sub(self.0.load(Ordering::Relaxed));
        age.is_some_and(|age| Duration::from_millis(age) < IN_MEMORY_FOR)
    }

    fn found(&self, now: SystemTime) {
        self.0.store(milliseconds(now), Ordering::Relaxed);
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A file that was opened.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) file: Arc<File>,
    pub(crate) in_memory: InMemory,
}

impl From<File> for Opened {
    fn from(file: File) -> Self {
        Self { file: Arc::new(file), in_memory: InMemory::default() }
    }
}

/// An open blob, or the readable side of a part. Clones share the file.
#[derive(Debug, Clone)]
pub struct OpenBlob {
    pub(crate) file: Arc<File>,
    pub(crate) size_bytes: u64,
    pub(crate) modified: Option<SystemTime>,
    pub(crate) in_memory: InMemory,
    pub(crate) hold: Hold,
}

impl OpenBlob {
    /// `None` if the file has another length, or is gone from where it was opened.
    pub(crate) fn new(opened: Opened, metadata: &Metadata, size_bytes: u64, hold: &Hold) -> Option<Self> {
        let (is_whole, is_there) = (metadata.len() == size_bytes, metadata.nlink() > 0);
        let modified = metadata.modified().ok();
        let Opened { file, in_memory } = opened;
        (is_whole && is_there).then(|| Self { file, size_bytes, modified, in_memory, hold: hold.clone() })
    }

    /// Its length when complete.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// When the blob was completed; `None` for a part.
    #[must_use]
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Whether all of it was in the page cache a moment ago, as somebody said of it while it was kept open.
    #[must_use]
    pub fn is_in_memory(&self, now: SystemTime) -> bool {
        self.in_memory.is_known(now)
    }

    /// Says that all of it is in the page cache.
    pub fn found_in_memory(&self, now: SystemTime) {
        self.in_memory.found(now);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_file_is_in_memory_counts_for_a_moment_for_all_who_have_it_open() {
        let (known, now) = (InMemory::default(), SystemTime::now());
        let other = known.clone();
        assert!(!known.is_known(now) && !known.is_known(SystemTime::UNIX_EPOCH + IN_MEMORY_FOR));
        other.found(now);
        let last = IN_MEMORY_FOR.saturating_sub(Duration::from_millis(1));
        assert!(known.is_known(now) && known.is_known(now + last));
        assert!(!known.is_known(now + IN_MEMORY_FOR));
        assert!(!known.is_known(now - Duration::from_secs(1)), "the clock was set back");
    }
}
