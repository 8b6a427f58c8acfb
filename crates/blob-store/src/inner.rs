//! What the store's handles share, and the changes of the disk that they have in common.

use std::collections::HashMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use gentoo_repo::{Digests, DistfileName};

use crate::adopt::told;
use crate::digest::BlobDigest;
use crate::disk::Disk;
use crate::error::{BeginError, StoreError};
use crate::hashers::Hashers;
use crate::index::{Entry, Index};
use crate::layout::{self, Layout, Scope};
use crate::quarantine::{self, Aside};
use crate::reader::{Hold, Opened};
use crate::slot::Slot;

/// Access times are written to the disk at most this often for each blob.
const ACCESS_SAVED_EVERY: Duration = Duration::from_mins(1);
/// Room left on the disk for everything that is not a blob.
const DISK_MARGIN_BYTES: u64 = 16 << 20;

pub(crate) struct Inner {
    pub(crate) disk: Disk,
    pub(crate) layout: Layout,
    pub(crate) capacity_bytes: u64,
    pub(crate) replica_id: String,
    pub(crate) index: Mutex<Index>,
    /// Held over every change of blobs and links, so that an eviction and a commit of the same blob
    /// don't meet half-way.
    pub(crate) changing: Mutex<()>,
    /// Digests other than BLAKE2B that a blob is known to have.
    pub(crate) matched: Mutex<HashMap<BlobDigest, Digests>>,
    links_made: AtomicU64,
    _slot: Slot,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn new(
        disk: Disk,
        layout: Layout,
        slot: Slot,
        replica_id: String,
        capacity_bytes: u64,
        index: Index,
    ) -> Self {
        Self {
            disk,
            layout,
            capacity_bytes,
            replica_id,
            index: Mutex::new(index),
            changing: Mutex::new(()),
            matched: Mutex::new(HashMap::new()),
            links_made: AtomicU64::new(0),
            _slot: slot,
        }
    }

    /// Notes an access.
    pub(crate) fn hold(&self, digest: &BlobDigest) -> Option<(Hold, u64)> {
        let mut index = lock(&self.index);
        let entry = index.blobs.get_mut(digest)?;
        entry.last_access = Some(SystemTime::now());
        Some((entry.hold.clone(), entry.size_bytes))
    }

    /// As [`hold`](Self::hold), with the file if that is open, unless the access is one that has to be written to the
    /// disk.
    pub(crate) fn hold_now(&self, digest: &BlobDigest) -> Option<(Hold, u64, Option<Opened>)> {
        let mut index = lock(&self.index);
        let entry = index.blobs.get_mut(digest)?;
        let now = SystemTime::now();
        if is_save_due(entry.saved_access, now) {
            return None;
        }
        entry.last_access = Some(now);
        let (hold, size_bytes) = (entry.hold.clone(), entry.size_bytes);
        Some((hold, size_bytes, index.kept(digest, now)))
    }

    /// Keeps a file open for the next who asks.
    pub(crate) fn keep(&self, digest: &BlobDigest, opened: Opened) {
        // Closed behind the lock.
        let closed = lock(&self.index).keep(digest, opened, SystemTime::now());
        drop(closed);
    }

    pub(crate) fn save_access(&self, digest: &BlobDigest, file: &File) {
        let accessed = {
            let mut index = lock(&self.index);
            let Some(entry) = index.blobs.get_mut(digest) else { return };
            let Some(accessed) = entry.last_access else { return };
            if !is_save_due(entry.saved_access, accessed) {
                return;
            }
            entry.saved_access = Some(accessed);
            accessed
        };
        if let Err(error) = file.set_times(std::fs::FileTimes::new().set_accessed(accessed)) {
            tracing::debug!(%error, blob = %digest, "the access time could not be saved");
        }
    }

    /// Promises room to a part, giving up parts that nobody writes if need be.
    pub(crate) fn reserve(&self, key: &str, size_bytes: u64) -> Result<(), BeginError> {
        let mut index = lock(&self.index);
        if index.open_parts.contains_key(key) {
            return Err(BeginError::Busy);
        }
        let have_bytes = index.parked_parts.remove(key).unwrap_or(0);
        loop {
            let free_bytes = self.capacity_bytes.saturating_sub(index.taken_bytes());
            let wanted_bytes = size_bytes.saturating_sub(have_bytes);
            let disk_free_bytes = self.disk_free_bytes();
            if size_bytes <= free_bytes && wanted_bytes <= disk_free_bytes {
                index.open_parts.insert(key.to_owned(), size_bytes);
                return Ok(());
            }
            let Some((parked, _)) = index.parked_parts.pop_first() else {
                if have_bytes > 0 {
                    index.parked_parts.insert(key.to_owned(), have_bytes);
                }
                let free_bytes = free_bytes.min(disk_free_bytes);
                return Err(BeginError::Full { wanted_bytes, free_bytes });
            };
            self.disk.remove(&self.layout.part(&parked))?;
            self.disk.remove(&self.layout.state(&parked))?;
        }
    }

    pub(crate) fn disk_free_bytes(&self) -> u64 {
        match rustix::fs::statvfs(self.layout.root()) {
            Ok(disk) => (disk.f_bavail * disk.f_frsize).saturating_sub(DISK_MARGIN_BYTES),
            // Not knowing is no reason to refuse: a write will tell.
            Err(_) => u64::MAX,
        }
    }

    /// A part is no longer written. `parked`: its length, if it stays.
    pub(crate) fn close_part(&self, key: &str, parked: Option<u64>) {
        let mut index = lock(&self.index);
        index.open_parts.remove(key);
        if let Some(length) = parked {
            index.parked_parts.insert(key.to_owned(), length);
        }
    }

    /// Makes a durable file of right contents a blob.
    pub(crate) fn adopt(
        &self,
        file: &Path,
        digest: BlobDigest,
        size_bytes: u64,
        hold: Hold,
    ) -> Result<(), StoreError> {
        let _changing = lock(&self.changing);
        let path = self.layout.blob(&digest);
        if let Some(dir) = path.parent() {
            self.disk.create_dir_durably(dir)?;
            self.disk.rename(file, &path)?;
            // It takes room from here on, whatever becomes of the sync; without that it gets no name.
            let mut index = lock(&self.index);
            if !index.blobs.contains_key(&digest) {
                index.insert_blob(digest, Entry { size_bytes, hold, ..Entry::default() });
            }
            drop(index);
            self.disk.sync_dir(dir)?;
        }
        Ok(())
    }

    pub(crate) fn name(
        &self,
        scope: &Scope,
        name: &DistfileName,
        digest: &BlobDigest,
    ) -> Result<(), StoreError> {
        let _changing = lock(&self.changing);
        {
            let index = lock(&self.index);
            if !index.blobs.contains_key(digest) {
                return Err(StoreError::NoSuchBlob { digest: digest.to_hex() });
            }
            if index.name(scope, name) == Some(*digest) {
                return Ok(());
            }
        }
        let path = self.layout.name(scope, name);
        let distfiles = self.layout.distfiles(scope);
        if scope.as_module().is_some() {
            self.disk.create_dir_all(&distfiles)?;
        }
        if let Some(dir) = path.parent() {
            self.disk.create_dir_durably(dir)?;
            let new = self.layout.tmp().join(self.links_made.fetch_add(1, Ordering::Relaxed).to_string());
            self.disk.remove(&new)?;
            self.disk.symlink(&layout::link_target(scope, digest), &new)?;
            self.disk.rename(&new, &path)?;
            // From here on it leads to the blob; the index must say so even if the sync fails.
            lock(&self.index).insert_name(scope.clone(), name.clone(), *digest);
            self.disk.sync_dir(dir)?;
        }
        Ok(())
    }

    /// Removes links, then the blob. On an error, what may still be there is counted again.
    pub(crate) fn unlink(&self, digest: &BlobDigest, entry: Entry) -> Result<(), StoreError> {
        let removed = (|| {
            for (scope, name) in &entry.names {
                self.disk.remove(&self.layout.name(scope, name))?;
            }
            self.disk.remove(&self.layout.blob(digest))
        })();
        if removed.is_err() {
            self.put_back(*digest, entry);
        }
        removed
    }

    /// Enters a blob that could not be removed, with those names that are still on the disk.
    fn put_back(&self, digest: BlobDigest, mut entry: Entry) {
        let names = std::mem::take(&mut entry.names);
        let mut index = lock(&self.index);
        index.insert_blob(digest, entry);
        for (scope, name) in names {
            let link = std::fs::read_link(self.layout.name(&scope, &name));
            if link.is_ok_and(|target| layout::link_blob(&scope, &target) == Some(digest)) {
                index.insert_name(scope, name, digest);
            }
        }
    }

    /// Takes a damaged blob out of service, whoever reads it; `None` if it is not here.
    pub(crate) fn quarantine(&self, digest: &BlobDigest) -> Result<Option<Aside>, StoreError> {
        let _changing = lock(&self.changing);
        let Some(entry) = lock(&self.index).remove_blob(digest) else { return Ok(None) };
        // First the blob: with its links gone and itself in place, a kill would leave it to be served by its digest.
        let put = quarantine::put(&self.disk, &self.layout, &self.layout.blob(digest), &digest.to_hex());
        let aside = match put {
            Ok(aside) => aside,
            Err(error) => {
                self.put_back(*digest, entry);
                return Err(error);
            }
        };
        self.sync_aside(digest, aside);
        let became = aside.as_str();
        tracing::error!(blob = %digest, became, "a blob is damaged on disk, or can't be read");
        for (scope, name) in &entry.names {
            if let Err(error) = self.disk.remove(&self.layout.name(scope, name)) {
                // It leads nowhere; the next start removes it, or the next blob of that name.
                tracing::warn!(%error, "a name of a damaged blob is left");
            }
        }
        Ok(Some(aside))
    }

    /// Else a power cut could bring a damaged blob back. It is out of service whatever becomes of this.
    fn sync_aside(&self, digest: &BlobDigest, aside: Aside) {
        let kept_in = (aside == Aside::Kept).then(|| self.layout.quarantine());
        let path = self.layout.blob(digest);
        // Where it came to first, so that it isn't gone from both.
        let mut dirs = kept_in.as_deref().into_iter().chain(path.parent());
        if let Err(error) = dirs.try_for_each(|dir| self.disk.sync_dir(dir)) {
            tracing::warn!(%error, blob = %digest, "a damaged blob may be back after a power cut, for the next scrub");
        }
    }

    /// Feeds a blob to `hashers` without that counting as an access; `None` if it isn't here. `pace` is
    /// told how many bytes were read and may wait, or break off.
    pub(crate) fn hash(
        &self,
        digest: &BlobDigest,
        mut hashers: Hashers,
        mut pace: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<Hashers>, StoreError> {
        let read = self.read_quietly(digest, false, |_, bytes| {
            hashers.update(bytes);
            told(pace(bytes.len() as u64))?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(read.map(|()| hashers))
    }

    /// Shows a blob's bytes to `each`, with where they are, without that counting as an access; `None` if
    /// it isn't here. `from_disk`: not what the system keeps in memory of it, as far as that can be had.
    pub(crate) fn read_quietly(
        &self,
        digest: &BlobDigest,
        from_disk: bool,
        mut each: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<Option<()>, StoreError> {
        let (_hold, accessed) = {
            let index = lock(&self.index);
            let Some(entry) = index.blobs.get(digest) else { return Ok(None) };
            (entry.hold.clone(), entry.saved_access)
        };
        let path = self.layout.blob(digest);
        let file = match self.disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => {
                lock(&self.index).remove_blob(digest);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if from_disk && let Err(error) = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed) {
            tracing::debug!(%error, "reading what the system keeps in memory");
        }
        let read = self.read_all(&file, &path, &mut each);
        let times = std::fs::FileTimes::new().set_accessed(accessed.unwrap_or(SystemTime::UNIX_EPOCH));
        if let Err(error) = file.set_times(times) {
            tracing::debug!(%error, "the access time could not be put back");
        }
        read.map(Some)
    }

    fn read_all(
        &self,
        file: &File,
        path: &Path,
        each: &mut impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut buf = vec![0; 1 << 20];
        let mut offset = 0;
        loop {
            let read = self.disk.read_at(file, path, &mut buf, offset)?;
            if read == 0 || each(offset, &buf[..read])?.is_break() {
                return Ok(());
            }
            offset += read as u64;
        }
    }
}

fn is_save_due(saved: Option<SystemTime>, accessed: SystemTime) -> bool {
    saved.is_none_or(|saved| accessed.duration_since(saved).is_ok_and(|age| age >= ACCESS_SAVED_EVERY))
}
