//! A body that is being written, and those who read it meanwhile.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::index::ResponseKey;
use super::{HEAD_OCTETS_MAX, KeepError, Shared};
use crate::error::StoreError;
use crate::inner::lock;

/// Room is taken in such pieces where nobody knows how much is needed.
const RESERVE_BYTES: u64 = 1 << 20;

/// How far a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filled {
    /// Octets that can be read.
    pub bytes: u64,
    /// Whether more will come.
    pub state: DraftState,
}

/// Whether more of a body will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DraftState {
    /// It may.
    Growing,
    /// That was all.
    Whole,
}

/// Follows a body. When the writer is gone and it is not whole, it never will be.
#[derive(Debug, Clone)]
pub struct DraftReader {
    /// Its file, which stays readable whatever becomes of the body.
    pub file: Arc<File>,
    /// How far it is.
    pub filled: watch::Receiver<Filled>,
}

/// A body that is being written. Dropped, nothing of it is left.
pub struct Draft {
    shared: Arc<Shared>,
    id: String,
    path: PathBuf,
    file: Arc<File>,
    filled: watch::Sender<Filled>,
    reserved_bytes: u64,
    expected_bytes: Option<u64>,
}

impl Draft {
    pub(super) fn begin(shared: Arc<Shared>, expected_bytes: Option<u64>) -> Result<Self, KeepError> {
        if expected_bytes.is_some_and(|bytes| bytes > shared.limits.body_bytes_max) {
            return Err(KeepError::NoRoom);
        }
        let id = hex::encode(rand::random::<[u8; 16]>());
        let path = shared.paths.tmp.join(&id);
        // For the head, too.
        let reserved_bytes = expected_bytes.unwrap_or(RESERVE_BYTES) + HEAD_OCTETS_MAX as u64;
        reserve(&shared, reserved_bytes)?;
        let file = match shared.disk().open_or_create(&path) {
            Ok(file) => Arc::new(file),
            Err(error) => {
                release(&shared, reserved_bytes);
                return Err(error.into());
            }
        };
        let filled = watch::Sender::new(Filled { bytes: 0, state: DraftState::Growing });
        Ok(Self { shared, id, path, file, filled, reserved_bytes, expected_bytes })
    }

    /// A reader that follows.
    #[must_use]
    pub fn reader(&self) -> DraftReader {
        DraftReader { file: Arc::clone(&self.file), filled: self.filled.subscribe() }
    }

    /// Octets so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.filled.borrow().bytes
    }

    /// Adds octets at the end and shows them to the readers. Blocks.
    ///
    /// # Errors
    /// More came than was announced or may be kept, or the disk.
    pub fn append(&mut self, octets: &[u8]) -> Result<(), KeepError> {
        let end = self.bytes().saturating_add(octets.len() as u64);
        let end_max = self.expected_bytes.unwrap_or(self.shared.limits.body_bytes_max);
        if end > end_max {
            return Err(KeepError::NoRoom);
        }
        let needed_bytes = end + HEAD_OCTETS_MAX as u64;
        if needed_bytes > self.reserved_bytes {
            let more_bytes = (needed_bytes - self.reserved_bytes).max(RESERVE_BYTES);
            reserve(&self.shared, more_bytes)?;
            self.reserved_bytes += more_bytes;
        }
        self.shared.disk().write_at(&self.file, &self.path, octets, self.bytes())?;
        self.filled.send_modify(|filled| filled.bytes = end);
        Ok(())
    }

    /// That was all of it: readers learn so, and it is kept under `key` instead of what was there. Blocks.
    ///
    /// # Errors
    /// Octets are missing, the head is too long, or the disk. Then nothing new is kept; readers have all of it
    /// all the same unless octets are missing.
    pub fn finish(self, key: &ResponseKey, head: &[u8]) -> Result<(), KeepError> {
        if self.expected_bytes.is_some_and(|expected| expected != self.bytes()) {
            return Err(KeepError::Store(StoreError::Interrupted { reason: "it ended early".to_owned() }));
        }
        self.filled.send_modify(|filled| filled.state = DraftState::Whole);
        let (shared, length_bytes) = (Arc::clone(&self.shared), self.bytes());
        shared.disk().sync(&self.file, &self.path)?;
        let _changing = lock(&shared.changing);
        let body = shared.paths.bodies.join(&self.id);
        shared.disk().rename(&self.path, &body)?;
        let old = lock(&shared.index).get(key).map(|response| response.body.clone());
        let written = shared
            .disk()
            .sync_dir(&shared.paths.bodies)
            .map_err(KeepError::from)
            .and_then(|()| shared.write_head(key, head, &self.id, length_bytes));
        let is_named = lock(&shared.index).get(key).is_some_and(|response| response.body == self.id);
        if !is_named {
            shared.disk().remove(&body)?;
        } else if let Some(old) = old {
            shared.disk().remove(&shared.paths.bodies.join(old))?;
        }
        written
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        release(&self.shared, self.reserved_bytes);
        if let Err(error) = self.shared.disk().remove(&self.path) {
            tracing::debug!(%error, "a body that was not kept stays until the next start");
        }
    }
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

fn reserve(shared: &Shared, bytes: u64) -> Result<(), KeepError> {
    if shared.reserve(bytes)? { Ok(()) } else { Err(KeepError::NoRoom) }
}

fn release(shared: &Shared, bytes: u64) {
    let mut index = lock(&shared.index);
    index.reserved_bytes = index.reserved_bytes.saturating_sub(bytes);
}
