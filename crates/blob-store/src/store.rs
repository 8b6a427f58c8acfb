//! The store: blobs by digest, names that lead to them, parts under way.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use gentoo_repo::{Digests, DistfileName};

use crate::adopt::{Adopted, Source};
use crate::digest::BlobDigest;
use crate::disk::{Disk, FaultHook, FileOp};
use crate::error::{BeginError, StoreError};
use crate::expected::Expected;
use crate::hashers::Hashers;
use crate::index::BlobInfo;
use crate::inner::{Inner, lock};
use crate::layout::{Layout, Scope};
use crate::part::Part;
use crate::quarantine::{self, Aside};
use crate::reader::{OpenBlob, Opened};
use crate::reconcile::{Fault, Reconciler};
use crate::slot;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// The directory of the slots; made if it isn't there.
    pub cache_dir: PathBuf,
    /// What blobs and parts may take together.
    pub capacity_bytes: u64,
    /// For tests: asked before every file operation.
    pub faults: Option<FaultHook>,
}

/// What became of a request to evict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// Its room is free and its names are gone.
    Done {
        /// How much it was.
        bytes: u64,
    },
    /// It is being read, or somebody asked for it since.
    Busy,
    /// It is not here.
    Gone,
}

/// What became of a request to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Its bytes have its digest.
    Sound,
    /// They have not; it is out of service and its names are gone.
    Damaged(Aside),
    /// It is not here.
    Gone,
}

/// One replica's blobs. Clones share it; the last one gives the slot up.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Takes the first free slot, clears what a crash left there and reads what is there. What is
    /// damaged or not ours is told, not fatal. Blocks.
    ///
    /// # Errors
    /// The directory can't be used, or every slot is taken.
    pub fn open(options: Options) -> Result<(Self, Vec<Fault>), StoreError> {
        let disk = Disk { faults: options.faults };
        let slot = slot::lock_first_free(&disk, &options.cache_dir)?;
        let layout = Layout::new(slot.root.clone());
        let mut reconciler = Reconciler::new(&disk, &layout);
        reconciler.run()?;
        let (index, faults) = (reconciler.index, reconciler.faults);
        let replica_id = slot::replica_id(&disk, &layout)?;
        let inner = Inner::new(disk, layout, slot, replica_id, options.capacity_bytes, index);
        Ok((Self { inner: Arc::new(inner) }, faults))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The directory of this replica: `cache_dir/rN`.
    #[must_use]
    pub fn slot_dir(&self) -> &Path {
        self.inner.layout.root()
    }

    /// 32 hexadecimal digits that this slot keeps over restarts.
    #[must_use]
    pub fn replica_id(&self) -> &str {
        &self.inner.replica_id
    }

    /// The blob that a name leads to. Never blocks.
    #[must_use]
    pub fn named(&self, scope: &Scope, name: &DistfileName) -> Option<BlobDigest> {
        lock(&self.inner.index).name(scope, name)
    }

    /// Whether a blob is here. Never blocks.
    #[must_use]
    pub fn has(&self, digest: &BlobDigest) -> bool {
        lock(&self.inner.index).blobs.contains_key(digest)
    }

    /// Length, names and last access of a blob. Never blocks.
    #[must_use]
    pub fn info(&self, digest: &BlobDigest) -> Option<BlobInfo> {
        lock(&self.inner.index).info(digest)
    }

    /// Every name that leads to a blob, with the directory that it is in. Never blocks.
    #[must_use]
    pub fn names(&self, digest: &BlobDigest) -> Vec<(Scope, DistfileName)> {
        let index = lock(&self.inner.index);
        index.blobs.get(digest).map(|entry| entry.names.iter().cloned().collect()).unwrap_or_default()
    }

    /// Every blob, in no order. Never blocks.
    #[must_use]
    pub fn inventory(&self) -> Vec<BlobInfo> {
        let index = lock(&self.inner.index);
        index.blobs.keys().filter_map(|digest| index.info(digest)).collect()
    }

    /// The damaged blobs that are kept for a person to look at, and their lengths. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn quarantined(&self) -> Result<Vec<(BlobDigest, u64)>, StoreError> {
        let _changing = lock(&self.inner.changing);
        quarantine::blobs(&self.inner.disk, &self.inner.layout)
    }

    /// Bytes of all blobs. Parts are not counted. Never blocks.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        lock(&self.inner.index).blob_bytes
    }

    /// What blobs and parts may take together.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.inner.capacity_bytes
    }

    /// Opens a blob for reading, which also says that a client asked for it. `None` if it isn't
    /// here, or not with the length that it had. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn read(&self, digest: &BlobDigest) -> Result<Option<OpenBlob>, StoreError> {
        let Some((hold, size_bytes)) = self.inner.hold(digest) else { return Ok(None) };
        let path = self.inner.layout.blob(digest);
        let file = match self.inner.disk.open(&path) {
            Ok(file) => file,
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(blob = %digest, "somebody removed a blob");
                lock(&self.inner.index).remove_blob(digest);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let metadata = file.metadata().map_err(|source| StoreError::io(FileOp::Stat, &path, source))?;
        if metadata.len() != size_bytes {
            drop(hold);
            self.inner.quarantine(digest)?;
            return Ok(None);
        }
        self.inner.save_access(digest, &file);
        let modified = metadata.modified().ok();
        let Opened { file, in_memory } = Opened::from(file);
        Ok(Some(OpenBlob { file, size_bytes, modified, in_memory, hold }))
    }

    /// As [`read`](Self::read), if all is in memory that this needs. `None` says nothing but that `read` has to be asked.
    /// Never blocks.
    #[must_use]
    pub fn read_now(&self, digest: &BlobDigest) -> Option<OpenBlob> {
        let (hold, size_bytes, kept) = self.inner.hold_now(digest)?;
        let path = || self.inner.layout.blob(digest);
        let blob_of = |opened: Opened| {
            let metadata = self.inner.disk.stat_open(&opened.file, path)?;
            OpenBlob::new(opened, &metadata, size_bytes, &hold)
        };
        if let Some(blob) = kept.and_then(blob_of) {
            return Some(blob);
        }
        let opened = Opened::from(self.inner.disk.open_cached(&path()).ok()?);
        let blob = blob_of(opened.clone())?;
        self.inner.keep(digest, opened);
        Some(blob)
    }

    /// Closes the files that are kept open for the next who asks: nobody is there who would.
    pub fn close_kept(&self) {
        // Closed behind the lock.
        let closed = lock(&self.inner.index).let_all_go();
        drop(closed);
    }

    /// Whether a blob has the listed length and digests. BLAKE2B is compared by name; other digests
    /// by reading the blob, once in this process's life. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn matches(&self, digest: &BlobDigest, expected: &Expected) -> Result<bool, StoreError> {
        let size = self.info(digest).map(|info| info.size_bytes);
        if size != Some(expected.size_bytes()) {
            return Ok(false);
        }
        if let Some(blob) = expected.blob() {
            return Ok(blob == *digest);
        }
        if lock(&self.inner.matched).get(digest) == Some(expected.digests()) {
            return Ok(true);
        }
        let Some(hashers) = self.inner.hash(digest, Hashers::new(expected.digests()), go_on)? else {
            return Ok(false);
        };
        let right = hashers.finish(expected.digests()) == Ok(*digest);
        if right {
            lock(&self.inner.matched).insert(*digest, expected.digests().clone());
        }
        Ok(right)
    }

    /// Makes a name lead to a blob that is here; it leads nowhere else from then on. Blocks.
    ///
    /// # Errors
    /// There is no such blob, or the disk.
    pub fn name(&self, scope: &Scope, name: &DistfileName, digest: &BlobDigest) -> Result<(), StoreError> {
        self.inner.name(scope, name, digest)
    }

    /// Begins a part, or resumes the one that is there for the same name and contents. The room that
    /// it needs is reserved. Blocks; reads all that is there of the part.
    ///
    /// # Errors
    /// No room, somebody writes the same part, or the disk.
    pub fn begin(&self, expected: Expected) -> Result<Part, BeginError> {
        let key = expected.key();
        self.inner.reserve(&key, expected.size_bytes())?;
        // From here on, dropping the part gives the room back.
        let path = self.inner.layout.part(&key);
        let state_path = self.inner.layout.state(&key);
        let state = expected.to_state();
        let prepared = (|| {
            let whole = self.inner.disk.read_small(&state_path).is_ok_and(|old| old == state.as_bytes());
            let length = self.inner.disk.stat(&path).ok().map(|metadata| metadata.len());
            let length = length.filter(|&length| whole && length <= expected.size_bytes());
            if length.is_none() {
                self.inner.disk.remove(&path)?;
                self.inner.disk.write_small(&state_path, state.as_bytes())?;
            }
            Ok((self.inner.disk.open_or_create(&path)?, length.unwrap_or(0)))
        })();
        match prepared {
            Ok((file, length)) => {
                let mut part = Part::new(Arc::clone(&self.inner), key, expected, file);
                match part.resume(length) {
                    Err(error) if error.is_unreadable() => {
                        // Kept, it would fail each time.
                        tracing::warn!(%error, "a part can't be read; it is begun afresh");
                        let expected = part.expected().clone();
                        part.discard()?;
                        self.begin(expected)
                    }
                    resumed => Ok(resumed.map(|()| part)?),
                }
            }
            Err(error) => {
                self.inner.close_part(&key, None);
                Err(BeginError::Store(error))
            }
        }
    }

    /// Makes a file from elsewhere a durable blob and gives it its name in each of `scopes`, if its
    /// length and digests are right. The file itself is only read; the blob is a reflink where the file
    /// system can, else a copy. `pace` is told after each piece how many bytes were read; it may wait, and
    /// may break off. Blocks.
    ///
    /// # Errors
    /// No room, the same file is being adopted by somebody else, the disk, or `pace` broke off. Nothing
    /// of it is left then, but for a blob that could not be given all its names.
    pub fn adopt(
        &self,
        source: Source<'_>,
        expected: &Expected,
        scopes: &[Scope],
        pace: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Adopted, BeginError> {
        self.inner.adopt_file(source, expected, scopes, pace)
    }

    /// Whether a file from elsewhere equals a blob, byte for byte, as it is on the disk; `None` if there
    /// is no such blob. Blocks.
    ///
    /// # Errors
    /// The disk, or `pace` broke off.
    pub fn equals(
        &self,
        digest: &BlobDigest,
        source: Source<'_>,
        pace: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<bool>, StoreError> {
        self.inner.equals(digest, source, pace)
    }

    /// Removes a blob and the names that lead to it, unless somebody reads it or asked for it after
    /// `unless_accessed_after`. A damaged copy in quarantine stays. Blocks.
    ///
    /// # Errors
    /// The disk: the blob may have lost names but is still counted.
    pub fn evict(
        &self,
        digest: &BlobDigest,
        unless_accessed_after: Option<SystemTime>,
    ) -> Result<Evicted, StoreError> {
        let _changing = lock(&self.inner.changing);
        let entry = {
            let mut index = lock(&self.inner.index);
            let Some(entry) = index.blobs.get(digest) else { return Ok(Evicted::Gone) };
            let asked_since = entry.last_access > unless_accessed_after && unless_accessed_after.is_some();
            if asked_since || entry.hold.is_shared() {
                return Ok(Evicted::Busy);
            }
            index.remove_blob(digest)
        };
        let Some(entry) = entry else { return Ok(Evicted::Gone) };
        let bytes = entry.size_bytes;
        self.inner.unlink(digest, entry)?;
        Ok(Evicted::Done { bytes })
    }

    /// Removes a damaged blob from quarantine. A sound copy that came since stays. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn evict_quarantined(&self, digest: &BlobDigest) -> Result<Evicted, StoreError> {
        let _changing = lock(&self.inner.changing);
        let removed = quarantine::remove(&self.inner.disk, &self.inner.layout, digest)?;
        Ok(removed.map_or(Evicted::Gone, |bytes| Evicted::Done { bytes }))
    }

    /// Takes a blob out of service that can't be read: into quarantine, if there is room for it, and its names go, whoever
    /// reads it. `None` if it is not here. Blocks.
    ///
    /// # Errors
    /// The disk: the blob is still in service then.
    pub fn set_aside(&self, digest: &BlobDigest) -> Result<Option<Aside>, StoreError> {
        self.inner.quarantine(digest)
    }

    /// Reads a blob and compares it with its name; a damaged one is taken out of service. Blocks for as
    /// long as that takes.
    ///
    /// # Errors
    /// The disk.
    pub fn verify(&self, digest: &BlobDigest) -> Result<Verified, StoreError> {
        self.verify_paced(digest, go_on)
    }

    /// The same at the caller's pace: `pace` is told after each piece how many bytes were read; it may
    /// wait, and may break off, which leaves the blob as it is.
    ///
    /// # Errors
    /// The disk, or `pace` broke off.
    pub fn verify_paced(
        &self,
        digest: &BlobDigest,
        pace: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Verified, StoreError> {
        let listed = Digests::default();
        let Some(hashers) = self.inner.hash(digest, Hashers::new(&listed), pace)? else {
            return Ok(Verified::Gone);
        };
        if hashers.finish(&listed) == Ok(*digest) {
            return Ok(Verified::Sound);
        }
        Ok(self.inner.quarantine(digest)?.map_or(Verified::Gone, Verified::Damaged))
    }
}

/// No pace of one's own.
fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("slot", &self.slot_dir()).finish_non_exhaustive()
    }
}
