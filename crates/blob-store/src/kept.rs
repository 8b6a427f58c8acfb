//! Blobs that were opened a moment ago stay open for whoever asks next: a farm asks for the same ones, box after box.
//!
//! A file that is kept is no reader: its blob can be evicted. That it is gone from the disk, or has another length than it
//! had, is seen at each use.

use std::time::{Duration, SystemTime};

use crate::digest::BlobDigest;
use crate::index::Index;
use crate::reader::Opened;

/// Files of all blobs together.
const KEPT_MAX: usize = 64;
/// From when it was opened.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// An open file, and since when.
#[derive(Debug)]
pub(crate) struct Kept {
    opened: Opened,
    since: SystemTime,
}

impl Kept {
    fn is_old(&self, now: SystemTime) -> bool {
        // Of a clock that was set back nothing is known.
        now.duration_since(self.since).map_or(true, |age| age >= KEPT_FOR)
    }
}

impl Index {
    /// The open file of a blob.
    pub(crate) fn kept(&self, digest: &BlobDigest, now: SystemTime) -> Option<Opened> {
        let kept = self.blobs.get(digest)?.kept.as_ref()?;
        (!kept.is_old(now)).then(|| kept.opened.clone())
    }

    /// Keeps a file that was opened. To be dropped without the lock: those that are kept no longer.
    pub(crate) fn keep(&mut self, digest: &BlobDigest, opened: Opened, now: SystemTime) -> Vec<Kept> {
        let mut closed = self.let_go(now);
        let Some(entry) = self.blobs.get_mut(digest) else { return closed };
        closed.extend(entry.kept.replace(Kept { opened, since: now }));
        self.kept_order.retain(|other| other != digest);
        self.kept_order.push_back(*digest);
        if self.kept_order.len() > KEPT_MAX {
            closed.extend(self.pop_kept());
        }
        closed
    }

    /// To be dropped without the lock.
    pub(crate) fn let_all_go(&mut self) -> Vec<Kept> {
        let order = std::mem::take(&mut self.kept_order);
        order.iter().filter_map(|digest| self.blobs.get_mut(digest)?.kept.take()).collect()
    }

    /// What was kept for long enough.
    fn let_go(&mut self, now: SystemTime) -> Vec<Kept> {
        let mut closed = Vec::new();
        while let Some(first) = self.kept_order.front() {
            let kept = self.blobs.get(first).and_then(|entry| entry.kept.as_ref());
            if kept.is_some_and(|kept| !kept.is_old(now)) {
                break;
            }
            closed.extend(self.pop_kept());
        }
        closed
    }

    fn pop_kept(&mut self) -> Option<Kept> {
        let first = self.kept_order.pop_front()?;
        self.blobs.get_mut(&first)?.kept.take()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;
    use crate::index::Entry;

    fn digest(number: usize) -> BlobDigest {
        BlobDigest::from([u8::try_from(number).unwrap(); 64])
    }

    fn index(blobs: usize) -> Index {
        let mut index = Index::default();
        (0..blobs).for_each(|number| index.insert_blob(digest(number), Entry::default()));
        index
    }

    #[test]
    fn files_are_kept_for_a_while_and_not_too_many() {
        let (mut index, file) = (index(KEPT_MAX + 2), Opened::from(File::open("/dev/null").unwrap()));
        let now = SystemTime::now();
        for number in 0..=KEPT_MAX {
            let closed = index.keep(&digest(number), file.clone(), now);
            assert_eq!(closed.len(), usize::from(number == KEPT_MAX));
        }
        assert!(index.kept(&digest(0), now).is_none(), "the oldest made room");
        assert!(index.kept(&digest(1), now).is_some());
        // Kept anew, it is the last to go, and counts once.
        index.keep(&digest(1), file.clone(), now);
        assert_eq!(index.keep(&digest(KEPT_MAX + 1), file.clone(), now).len(), 1);
        assert!(index.kept(&digest(1), now).is_some() && index.kept(&digest(2), now).is_none());
        let later = now + KEPT_FOR;
        assert!(index.kept(&digest(1), later).is_none());
        assert_eq!(index.keep(&digest(1), file.clone(), later).len(), KEPT_MAX);
        assert_eq!(index.let_all_go().len(), 1);
        assert_eq!(Arc::strong_count(&file.file), 1);
    }

    #[test]
    fn a_blob_that_is_forgotten_is_closed_and_a_clock_set_back_keeps_nothing() {
        let (mut index, file) = (index(2), Opened::from(File::open("/dev/null").unwrap()));
        let now = SystemTime::now();
        index.keep(&digest(0), file.clone(), now);
        index.keep(&digest(1), file.clone(), now);
        drop(index.remove_blob(&digest(0)));
        assert_eq!(Arc::strong_count(&file.file), 2);
        index.insert_blob(digest(0), Entry::default());
        assert!(index.kept(&digest(0), now).is_none());
        assert!(index.kept(&digest(1), now - Duration::from_secs(1)).is_none());
    }
}
