//! Accesses that lie ahead are put back. Which those are, the caller knows.

use std::fs::FileTimes;
use std::time::SystemTime;

use crate::digest::BlobDigest;
use crate::index::Entry;
use crate::inner::{Inner, lock};
use crate::store::Store;

impl Entry {
    fn is_ahead(&self, latest: SystemTime) -> bool {
        [self.last_access, self.saved_access].into_iter().flatten().any(|at| at > latest)
    }
}

impl Store {
    /// What was asked for later than `latest` was so at `now`, here and on the disk: an eviction would take it for an
    /// access that came after it was planned, for as long as it lies ahead. Answers how many there were. What can't be
    /// written is so again after a restart. Blocks.
    #[must_use]
    pub fn put_accesses_back(&self, latest: SystemTime, now: SystemTime) -> u64 {
        let ahead: Vec<BlobDigest> = {
            let index = lock(&self.inner().index);
            let ahead = index.blobs.iter().filter(|(_, entry)| entry.is_ahead(latest));
            ahead.map(|(digest, _)| *digest).collect()
        };
        // Not all at once: who asks for a blob waits for the same lock.
        ahead.iter().filter(|digest| self.inner().put_access_back(digest, latest, now)).count() as u64
    }
}

impl Inner {
    /// False if it is right by now, or gone.
    fn put_access_back(&self, digest: &BlobDigest, latest: SystemTime, now: SystemTime) -> bool {
        let file = self.disk.open(&self.layout.blob(digest));
        let mut index = lock(&self.index);
        let Some(entry) = index.blobs.get_mut(digest).filter(|entry| entry.is_ahead(latest)) else {
            return false;
        };
        let accessed = entry.last_access.map_or(now, |at| if at > latest { now } else { at });
        entry.last_access = Some(accessed);
        let times = FileTimes::new().set_accessed(accessed);
        let saved = file.and_then(|file| {
            let path = self.layout.blob(digest);
            file.set_times(times).map_err(|source| crate::StoreError::io(crate::FileOp::Write, &path, source))
        });
        match saved {
            Ok(()) => entry.saved_access = Some(accessed),
            Err(error) => tracing::debug!(%error, blob = %digest, "the access time could not be put back"),
        }
        true
    }
}
