//! Files from elsewhere that become blobs: copied, verified while they are copied, never linked.
//!
//! A hard link would share the file with whoever writes to it in place. A reflink shares only blocks, and
//! the first write to either file parts them; it is what is tried first.

use std::fs::{File, FileTimes};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::digest::BlobDigest;
use crate::disk::FileOp;
use crate::error::{BeginError, StoreError};
use crate::expected::Expected;
use crate::hashers::Hashers;
use crate::inner::Inner;
use crate::layout::Scope;
use crate::reader::Hold;

/// Bytes that are copied, hashed or compared in one go.
const PIECE_BYTES: usize = 1 << 20;

/// What came of adopting a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopted {
    /// It is a durable blob and has its names.
    Stored {
        /// The blob.
        digest: BlobDigest,
        /// Whether it shares blocks with the file.
        is_reflink: bool,
    },
    /// Length or a digest differs; nothing was stored.
    Mismatch {
        /// `length`, or the first listed algorithm that differs.
        what: &'static str,
    },
    /// Somebody wrote to it meanwhile; nothing was stored.
    Changed,
}

/// A file to adopt, open, and what to call it in messages.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Open for reading.
    pub file: &'a File,
    /// Only for messages.
    pub path: &'a Path,
}

/// What changes when somebody writes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) size_bytes: u64,
    times: [i64; 4],
}

impl Stamp {
    pub(crate) fn of(source: Source<'_>) -> Result<Self, StoreError> {
        let metadata =
            source.file.metadata().map_err(|error| StoreError::io(FileOp::Stat, source.path, error))?;
        let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        Ok(Self { size_bytes: metadata.len(), times })
    }
}

/// Room in the store and a file in `tmp/`; both are given up when dropped.
struct Copy<'a> {
    store: &'a Inner,
    key: String,
    path: PathBuf,
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        self.store.close_part(&self.key, None);
        if let Err(error) = self.store.disk.remove(&self.path) {
            tracing::debug!(%error, "a copy stays until the next start");
        }
    }
}

impl Inner {
    /// See [`crate::Store::adopt`].
    pub(crate) fn adopt_file(
        &self,
        source: Source<'_>,
        expected: &Expected,
        scopes: &[Scope],
        mut pace: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Adopted, BeginError> {
        let before = Stamp::of(source)?;
        if before.size_bytes != expected.size_bytes() {
            return Ok(Adopted::Mismatch { what: "length" });
        }
        // Never a part's key, which has no dash.
        let key = format!("import-{}", expected.key());
        self.reserve(&key, expected.size_bytes())?;
        let path = self.layout.tmp().join(&key);
        let copy = Copy { store: self, key, path };
        self.disk.remove(&copy.path)?;
        let target = self.disk.open_or_create(&copy.path)?;
        let is_reflink = self.disk.reflink(&target, &copy.path, source.file)?;
        let mut hashers = Hashers::new(expected.digests());
        let mut buf = vec![0; PIECE_BYTES];
        let mut offset = 0;
        while offset < before.size_bytes {
            let wanted = usize::try_from(before.size_bytes - offset).unwrap_or(usize::MAX).min(buf.len());
            let (from, from_path) =
                if is_reflink { (&target, copy.path.as_path()) } else { (source.file, source.path) };
            let read = self.disk.read_at(from, from_path, &mut buf[..wanted], offset)?;
            if read == 0 {
                return Ok(Adopted::Changed);
            }
            if !is_reflink {
                self.disk.write_at(&target, &copy.path, &buf[..read], offset)?;
            }
            hashers.update(&buf[..read]);
            offset += read as u64;
            told(pace(read as u64))?;
        }
        let length = self.disk.stat(&copy.path)?.len();
        if Stamp::of(source)? != before || length != before.size_bytes {
            return Ok(Adopted::Changed);
        }
        let digest = match hashers.finish(expected.digests()) {
            Ok(digest) => digest,
            Err(what) => return Ok(Adopted::Mismatch { what }),
        };
        // Access time 0 says that no client has asked for it yet.
        let times = FileTimes::new().set_accessed(UNIX_EPOCH).set_modified(SystemTime::now());
        if let Err(error) = target.set_times(times) {
            tracing::debug!(%error, "the access time of a blob could not be set");
        }
        self.disk.sync(&target, &copy.path)?;
        self.adopt(&copy.path, digest, before.size_bytes, Hold::default())?;
        for scope in scopes {
            self.name(scope, expected.name(), &digest)?;
        }
        Ok(Adopted::Stored { digest, is_reflink })
    }

    /// See [`crate::Store::equals`].
    pub(crate) fn equals(
        &self,
        digest: &BlobDigest,
        source: Source<'_>,
        mut pace: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<bool>, StoreError> {
        let mut buf = vec![0; PIECE_BYTES];
        let mut is_equal = true;
        let mut end = 0;
        let read = self.read_quietly(digest, true, |offset, stored| {
            let mut filled = 0;
            while filled < stored.len() {
                let at = offset + filled as u64;
                let read = self.disk.read_at(source.file, source.path, &mut buf[filled..stored.len()], at)?;
                if read == 0 {
                    break;
                }
                filled += read;
            }
            is_equal = &buf[..filled] == stored;
            end = offset + stored.len() as u64;
            if !is_equal {
                return Ok(ControlFlow::Break(()));
            }
            told(pace(stored.len() as u64))?;
            Ok(ControlFlow::Continue(()))
        })?;
        if read.is_none() {
            return Ok(None);
        }
        Ok(Some(is_equal && Stamp::of(source)?.size_bytes == end))
    }
}

/// What a pace that breaks off comes to.
pub(crate) fn told(flow: ControlFlow<()>) -> Result<(), StoreError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            Err(StoreError::Interrupted { reason: "the reader was told to stop".to_owned() })
        }
    }
}
